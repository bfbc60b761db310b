"""ROAD: remove and debias. Salient pixels are removed so that the removal itself tells nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from .._chunks import map_chunked
from .._numerics import at_least_single
from .._types import AnyMap, Count, Image, Key, Number, ScoreFunction
from .._validation import as_image, as_number, check_key, checked_together
from ..scores import as_score
from ._maps import Mask, as_map, as_mask, check_fractions, nan_with, rank
from ._perturbation_curves import Curve

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
      image, key: see the room; the image in any range.
      missing: (h, w) of booleans, true where a pixel is to be filled in, in all its channels.
      noise_scale: the standard deviation s, at least 0, in the image's units. A traced one is
        welcome.

    Returns:
      The image (h, w, c). Without noise its new values lie between the least and the largest that
      are left; if none is left, they are 0.

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
    image = as_image(image)
    is_missing = as_mask(missing, image.shape[:2], "missing, a mask")[..., None]
    check_key(key)
    noise_scale = as_number("noise_scale", noise_scale, 0)
    # Conjugate gradients come to nothing in half precision.
    pixels = at_least_single(image)
    total = _of_neighbours(jnp.ones((*image.shape[:2], 1), pixels.dtype))

    # A graph's Laplacian on the missing pixels, so symmetric and positive, and the identity on the
    # others: what conjugate gradients solve without ever writing down the matrix.
    def equations(values):
        inner = total * values - _of_neighbours(jnp.where(is_missing, values, 0))
        return jnp.where(is_missing, inner, values)

    known = jnp.where(is_missing, 0, pixels)
    right_side = jnp.where(is_missing, _of_neighbours(known), 0)
    count = jnp.maximum(jnp.sum(~is_missing), 1).astype(pixels.dtype)
    start = jnp.where(is_missing, known.sum((0, 1), keepdims=True) / count, 0)
    filled, _ = jax.scipy.sparse.linalg.cg(equations, right_side, start, tol=_TOLERANCE)
    noise = jax.random.normal(key, image.shape, pixels.dtype)
    filled = filled + jnp.asarray(noise_scale, pixels.dtype) * noise
    return jnp.where(is_missing, filled.astype(image.dtype), image)


def road(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    key: Key,
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise_scale: Number = 0.01,
    batch_size: Count = 16,
) -> Curve:
    """ROAD: how the score falls while the most salient pixels are removed by imputation.

    R_f = S(I with noisy linear imputation in the round(f n) most salient of n pixels)

    With the most salient pixels first (MoRF) lower is better; with `-saliency_map`, the least
    salient first (LeRF), higher is better. Over images the mean of `scores.accuracy` at each
    fraction is the published metric, and the difference of both orders sums it up.

    Traps: imputation from neighbours restores what a scattered map removes, so that speckled maps
    do badly under MoRF, which is the point and also a bias towards maps of a few large blobs. The
    noise is in the image's units. Equally salient pixels go in reading order.

    Args:
      score, image, saliency_map: see the room; the paper's score is
        `scores.accuracy(model, label)`, with the model's own answer or the true one.
      key: see the room; the noise is drawn anew for every fraction.
      fractions: of pixels removed, rising, in [0, 1].
      noise_scale: the standard deviation of the noise, at least 0, in the image's units; 0.01 in
        the authors' code.
      batch_size: see the room; as many are imputed at once.

    Returns:
      The `Curve` of the score over the fraction of pixels removed.

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
    with checked_together():
        score, image = as_score(score), as_image(image)
        saliency_map = as_map(saliency_map, image.shape[:2])
    check_fractions(fractions)
    check_key(key)
    place = rank(saliency_map)
    counts = jnp.asarray(np.rint(saliency_map.size * np.array(fractions)), place.dtype)

    def of_count(sample):
        count, key = sample
        imputed = noisy_linear_imputation(image, place < count, key, noise_scale)
        return at_least_single(score(imputed))

    values = map_chunked(of_count, (counts, jax.random.split(key, len(fractions))), batch_size)
    return Curve(jnp.asarray(fractions, values.dtype), nan_with(saliency_map, values))


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
