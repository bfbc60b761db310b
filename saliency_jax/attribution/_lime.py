"""LIME: a linear model of the score, fitted around the image to which of its segments are seen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._types import Baseline, Count, Image, Key, Number, SaliencyMap, ScoreFunction
from .._validation import as_number, check_count, check_key
from ..baselines import zeros
from ..segments import Segments, paint
from ._parts import score_of_shown


def lime(
    score: ScoreFunction,
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
      score, image, segments, num_segments, key, num_samples, baseline, batch_size: see the
        room. The model is fitted to num_samples images.
      kernel_width: above 0, in units of the distance, which is 0 for the whole image and 1 where
        nothing of it is seen.
      ridge: at least 0, on the scale of the samples' number; at 0 the fit is unbiased, and needs
        more samples than segments.

    Returns:
      The signed map (h, w), in units of the score: each segment's weight. Of a linear score it is
      exact with ridge 0.

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
    image, value, numbered, count = score_of_shown(score, image, segments, num_segments, baseline)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 1)
    kernel_width = as_number("kernel_width", kernel_width, jnp.finfo(image.dtype).tiny)
    ridge = as_number("ridge", ridge, 0)
    # Drawn in single precision whatever the image's: the same samples for every dtype.
    shown = jax.random.bernoulli(key, jnp.float32(0.5), (num_samples, count)).at[0].set(True)
    values = map_chunked(value, shown, batch_size)
    inputs = shown.astype(values.dtype)
    distance = 1 - jnp.sqrt(inputs.mean(1))
    weights = jnp.exp(-((distance / jnp.asarray(kernel_width, values.dtype)) ** 2) / 2)
    slopes = _ridge_regression(inputs, values, weights, jnp.asarray(ridge, values.dtype))
    return paint(slopes.astype(image.dtype), numbered)


def _ridge_regression(
    inputs: Float[Array, "n d"],
    targets: Float[Array, "n"],
    weights: Float[Array, "n"],
    ridge: Float[Array, ""],
) -> Float[Array, "d"]:
    """The slopes of the weighted fit, whose intercept bears no penalty."""
    samples, count = inputs.shape
    with_intercept = jnp.concatenate([inputs, jnp.ones((samples, 1), inputs.dtype)], axis=1)
    penalty = jnp.sqrt(ridge) * jnp.eye(count, count + 1, dtype=inputs.dtype)
    # The penalty is d more equations w = 0. The normal equations would square their condition.
    equations = jnp.concatenate([jnp.sqrt(weights)[:, None] * with_intercept, penalty])
    answers = jnp.concatenate([jnp.sqrt(weights) * targets, jnp.zeros(count, inputs.dtype)])
    return jnp.linalg.lstsq(equations, answers)[0][:count]
