"""LIME: a linear model of the score, fitted around the image to which of its segments are seen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Baseline, Count, Image, Key, Number, SaliencyMap, Score
from .._validation import check_at_least, check_count, check_image
from ._chunks import map_chunked
from .baselines import as_baseline, zeros
from .occlusion import Segments, check_segments, paint


def lime(
    score: Score,
    image: Image,
    *,
    segments: Segments,
    key: Key,
    num_segments: Count | None = None,
    num_samples: Count = 1000,
    kernel_width: Number = 0.25,
    ridge: Number = 1.0,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """LIME: what a segment adds to the score, in the linear model that fits best near the image.

    M_ij = w_s, s = segments_ij
    w, b = argmin sum_k p_k (S(x(z_k)) - w z_k - b)^2 + ridge |w|_2^2
    p_k = exp(-D_k^2 / (2 width^2)), D_k = 1 - cos(z_k, 1) = 1 - (|z_k| / d)^(1/2)

    x(z) is the image in the segments where z is 1 and the baseline where it is 0. The first z_k is
    the whole image, z = 1; of the others each of the d segments is seen with probability 1/2. The
    distance D (cosine, as the paper has it for text), the kernel, its width and the ridge are those
    of the authors' code for images; that code then keeps the largest weights, and this all.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      segments: (h, w) of integers in 0 .. num_segments - 1: any segmentation. A traced one is
        welcome.
      key: a JAX random key; equal keys give equal samples.
      num_segments: their number d, at least 1; by default the largest plus 1, if segments are
        known.
      num_samples: the number of images that the model is fitted to, at least 1.
      kernel_width: above 0, in units of the distance, which is 0 for the whole image and 1 where
        nothing of it is seen. A traced one is welcome.
      ridge: at least 0, on the scale of the samples' number; at 0 the fit is unbiased, and needs
        more samples than segments. A traced one is welcome.
      baseline: what is shown in hidden segments: an array (h, w, c) in the image's range, or a
        function of the image.
      batch_size: how many images are evaluated at once, at least 1: beside them, only one score and
        one z are held for each sample, and the result changes by rounding alone.

    Returns:
      The signed map (h, w), in units of the score: each pixel has its whole segment's weight. A
      traced segment out of range gives nan. Of a linear score it is exact with ridge 0.

    Raises:
      TypeError: the image or the baseline does not hold floats, a count is no integer, or segments
        are traced and their number is not given.
      ValueError: the image is not of shape (h, w, c), segments are not of shape (h, w) or known and
        out of range, the baseline is not of the image's shape, image or baseline is known and not
        finite, a count is below 1, or the width is known and not above 0 or the ridge below 0.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(attribution.lime(
      ...     jnp.sum, image, segments=jnp.array([[0, 1, 1]]), key=jax.random.key(0), ridge=0.0
      ... ).round())
      [[1. 6. 6.]]

    Reference:
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938.
    """
    check_image(image)
    count = check_segments(segments, num_segments, image)
    check_count("num_samples", num_samples, 1)
    check_at_least("kernel_width", kernel_width, jnp.finfo(image.dtype).tiny)
    check_at_least("ridge", ridge, 0)
    instead = as_baseline(baseline, image)

    def of_shown(shown):
        return score(jnp.where(shown[jnp.asarray(segments)][..., None], image, instead))

    shown = jax.random.bernoulli(key, 0.5, (int(num_samples), count)).at[0].set(True)
    values = map_chunked(of_shown, shown, batch_size)
    distance = 1 - jnp.sqrt(shown.mean(1, dtype=values.dtype))
    weights = jnp.exp(-((distance / kernel_width) ** 2) / 2)
    return paint(_ridge_regression(shown.astype(values.dtype), values, weights, ridge), segments)


def _ridge_regression(
    inputs: Float[Array, "n d"],
    targets: Float[Array, "n"],
    weights: Float[Array, "n"],
    ridge: Number,
) -> Float[Array, "d"]:
    """The slopes of the weighted fit, whose intercept bears no penalty."""
    samples, count = inputs.shape
    with_intercept = jnp.concatenate([inputs, jnp.ones((samples, 1))], axis=1)
    # The penalty is d more equations w = 0. The normal equations would square their condition.
    equations = jnp.concatenate(
        [jnp.sqrt(weights)[:, None] * with_intercept, jnp.sqrt(ridge) * jnp.eye(count, count + 1)]
    )
    answers = jnp.concatenate([jnp.sqrt(weights) * targets, jnp.zeros(count)])
    return jnp.linalg.lstsq(equations, answers)[0][:count]
