"""ROAD: remove and debias. Salient pixels are removed so that the removal itself tells nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Count, Image, Key, Number, SaliencyMap, Score
from .._validation import check_at_least, check_image
from ..attribution._chunks import map_chunked
from ._maps import Mask, check_fractions, check_map, check_mask, rank
from .perturbation_curves import Curve

# Of the conjugate gradients' residual, relative to the right-hand side.
_TOLERANCE = 1e-6


def noisy_linear_imputation(image: Image, missing: Mask, key: Key, noise_scale: Number) -> Image:
    """The image with missing pixels filled in by the mean of their neighbours, plus noise.

    x_p = sum_q w_pq x_q / sum_q w_pq + N(0, s^2) for missing p, where q are p's neighbours in the
    image, w is 1/6 for the four nearest and 1/12 for the four diagonal ones

    All missing pixels are solved for together, without the noise, which is added afterwards. Where
    the shape of a hole would betray what was there, as with any one colour, this leaves little of
    it.

    Args:
      image: (h, w, c), in any range.
      missing: (h, w) of booleans, true where a pixel is to be filled in, in all its channels.
      key: a JAX random key.
      noise_scale: the standard deviation s, at least 0, in the image's units. A traced one is
        welcome.

    Returns:
      The image (h, w, c). Without noise its new values lie between the least and the largest that
      are left; if none is left, they are 0.

    Raises:
      TypeError: the image does not hold floats, or missing does not hold booleans.
      ValueError: the image is not of shape (h, w, c) or known and not finite, missing does not have
        its sides, or the scale is known and negative.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image, missing = jnp.array([[[1.0], [9.0], [2.0]]]), jnp.array([[False, True, False]])
      >>> print(metrics.noisy_linear_imputation(image, missing, jax.random.key(0), 0.0).squeeze())
      [1.  1.5 2. ]

    Reference:
      Rong, Leemann, Borisov, Kasneci, Kasneci, A Consistent and Efficient Evaluation Strategy for
      Attribution Methods, 2022, arXiv:2202.00449.
    """
    check_image(image)
    check_mask(missing, image.shape[:2])
    check_at_least("noise_scale", noise_scale, 0)
    is_missing = jnp.asarray(missing)[..., None]
    total = _of_neighbours(jnp.ones((*image.shape[:2], 1), image.dtype))

    # A graph's Laplacian on the missing pixels, so symmetric and positive, and the identity on the
    # others: what conjugate gradients solve without ever writing down the matrix.
    def equations(values):
        inner = total * values - _of_neighbours(jnp.where(is_missing, values, 0))
        return jnp.where(is_missing, inner, values)

    known = jnp.where(is_missing, 0, image)
    right_side = jnp.where(is_missing, _of_neighbours(known), 0)
    mean = known.sum((0, 1), keepdims=True) / jnp.maximum(jnp.sum(~is_missing), 1)
    start = jnp.where(is_missing, mean, 0)
    filled, _ = jax.scipy.sparse.linalg.cg(equations, right_side, start, tol=_TOLERANCE)
    noise = noise_scale * jax.random.normal(key, image.shape, image.dtype)
    return jnp.where(is_missing, filled + noise, image)


def road(
    score: Score,
    image: Image,
    saliency_map: SaliencyMap,
    *,
    key: Key,
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise_scale: Number = 0.01,
    batch_size: Count = 16,
) -> Curve:
    """ROAD: how the score falls while the most salient pixels are removed by imputation.

    R_f = S(I with noisy linear imputation in the round(f n) most salient of n pixels)

    With the most salient pixels first (MoRF) lower is better; with `-saliency_map`, the least
    salient first (LeRF), higher is better. Over images the mean of `metrics.accuracy` at each
    fraction is the published metric, and the difference of both orders sums it up.

    Traps: imputation from neighbours restores what a scattered map removes, so that speckled maps
    do badly under MoRF, which is the point and also a bias towards maps of a few large blobs. The
    noise is in the image's units. Equally salient pixels go in reading order.

    Args:
      score: callable PyTree from one image to a scalar: `metrics.accuracy(model, label)` in the
        paper, with the model's own answer or the true one.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      saliency_map: (h, w), of any range: only its order matters.
      key: a JAX random key for the noise, drawn anew for every fraction.
      fractions: of pixels removed, rising, in [0, 1].
      noise_scale: the standard deviation of the noise, at least 0, in the image's units; 0.01 in
        the authors' code.
      batch_size: how many images are imputed and evaluated at once, at least 1.

    Returns:
      The `Curve` of the score over the fraction of pixels removed.

    Raises:
      TypeError: an array does not hold floats, or batch_size is no integer.
      ValueError: the image is not of shape (h, w, c), the map does not have its sides, one of them
        is known and not finite, fractions are out of range, the scale is known and negative, or
        batch_size is below 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image = jnp.array([[[1.0], [9.0], [2.0], [2.0]]])
      >>> curve = metrics.road(
      ...     jnp.sum, image, image[..., 0], key=jax.random.key(0), fractions=(0.0, 0.25),
      ...     noise_scale=0.0,
      ... )
      >>> print(curve.scores)
      [14.   6.5]

    Reference:
      Rong, Leemann, Borisov, Kasneci, Kasneci, A Consistent and Efficient Evaluation Strategy for
      Attribution Methods, 2022, arXiv:2202.00449.
    """
    check_image(image)
    check_map(saliency_map, image.shape[:2])
    check_fractions(fractions)
    place = rank(saliency_map)
    counts = jnp.asarray(np.rint(saliency_map.size * np.array(fractions)).astype(int))

    def of_count(sample):
        count, key = sample
        return score(noisy_linear_imputation(image, place < count, key, noise_scale))

    keys = jax.random.split(key, len(fractions))
    scores = map_chunked(of_count, (counts, keys), batch_size)
    return Curve(jnp.asarray(fractions, image.dtype), scores)


def _of_neighbours(values: jax.Array) -> jax.Array:
    """The weighted sum over the eight neighbours inside the image: 1 2 1 by 1 2 1, less the middle.

    No convolution, which XLA runs slowly inside loops on a CPU.
    """
    sums = values
    for axis in (0, 1):
        border = [(int(axis == other),) * 2 for other in range(3)]
        padded = jnp.pad(sums, border)
        before, after = (
            jax.lax.slice_in_dim(padded, start, start + sums.shape[axis], axis=axis)
            for start in (0, 2)
        )
        sums = before + 2 * sums + after
    return (sums - 4 * values) / 12
