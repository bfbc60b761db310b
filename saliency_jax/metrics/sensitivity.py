"""Sensitivity of an explanation: how much an attribution changes when the image hardly does."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Count, Image, Key, Method, Number, Scalar, Score
from .._validation import check_at_least, check_count, check_image
from ..attribution._chunks import map_chunked


def max_sensitivity(
    method: Method,
    score: Score,
    image: Image,
    *,
    key: Key,
    radius: Number = 0.02,
    num_samples: Count = 10,
    batch_size: Count = 16,
) -> Scalar:
    """Max-sensitivity: the largest relative change of the attribution next to the image.

    max_k |A(I + d_k) - A(I)| / |A(I)|, d_k uniform in [-radius, radius] for every value

    Lower is better.

    Traps: an attribution that does not look at the image, such as that of an edge detector or a
    constant one, is the least sensitive of all: it is to be read beside a faithfulness. A maximum
    over samples grows with their number, and stays below what an adversary would find. The paper
    does not divide by |A(I)|, and so compares attributions of different units. Images leave [0, 1]
    by up to the radius.

    Args:
      method: from a score and an image to an attribution of any shape, such as
        `attribution.saliency`; settings are bound with `functools.partial`. For a method that draws
        noise of its own, a bound key keeps that noise out of the measurement.
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      key: a JAX random key; equal keys give equal images.
      radius: at least 0, in the image's units. A traced one is welcome.
      num_samples: how many images are drawn, at least 1.
      batch_size: how many images are explained at once, at least 1: memory does not grow with
        num_samples, and the result changes by rounding alone.

    Returns:
      The relative change, at least 0, without unit. It is 0 for the gradient of a linear score. For
      an attribution that is 0 everywhere it is undefined: nan, or infinite.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c) or known and not finite, the radius is known
        and negative, or a count is below 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, metrics
      >>> print(metrics.max_sensitivity(
      ...     attribution.saliency, jnp.sum, jnp.ones((2, 2, 1)), key=jax.random.key(0)
      ... ))
      0.0

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (In)fidelity and Sensitivity of Explanations,
      2019, arXiv:1901.09392, section 3.
    """
    return _changes(method, score, image, key, radius, num_samples, batch_size).max()


def average_sensitivity(
    method: Method,
    score: Score,
    image: Image,
    *,
    key: Key,
    radius: Number = 0.02,
    num_samples: Count = 10,
    batch_size: Count = 16,
) -> Scalar:
    """Average sensitivity: the mean relative change of the attribution next to the image.

    mean_k |A(I + d_k) - A(I)| / |A(I)|, d_k uniform in [-radius, radius] for every value

    Lower is better. Unlike the maximum it does not grow with the number of samples; the other traps
    are those of `max_sensitivity`.

    Args:
      method: from a score and an image to an attribution of any shape, such as
        `attribution.saliency`; settings are bound with `functools.partial`.
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      key: a JAX random key; equal keys give equal images.
      radius: at least 0, in the image's units. A traced one is welcome.
      num_samples: how many images are drawn, at least 1.
      batch_size: how many images are explained at once, at least 1: memory does not grow with
        num_samples, and the result changes by rounding alone.

    Returns:
      The relative change, at least 0, without unit. It is 0 for the gradient of a linear score. For
      an attribution that is 0 everywhere it is undefined: nan, or infinite.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c) or known and not finite, the radius is known
        and negative, or a count is below 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, metrics
      >>> print(metrics.average_sensitivity(
      ...     attribution.saliency, jnp.sum, jnp.ones((2, 2, 1)), key=jax.random.key(0)
      ... ))
      0.0

    Reference:
      Bhatt, Weller, Moura, Evaluating and Aggregating Feature-based Model Explanations, 2020,
      arXiv:2005.00631.
    """
    return _changes(method, score, image, key, radius, num_samples, batch_size).mean()


def _changes(
    method: Method,
    score: Score,
    image: Image,
    key: Key,
    radius: Number,
    num_samples: Count,
    batch_size: Count,
) -> Float[Array, "n"]:
    check_image(image)
    check_at_least("radius", radius, 0)
    check_count("num_samples", num_samples, 1)
    original = method(score, image)

    def of_key(key):
        noise = jax.random.uniform(key, image.shape, image.dtype, -1, 1)
        return _norm(method(score, image + radius * noise) - original)

    changes = map_chunked(of_key, jax.random.split(key, int(num_samples)), batch_size)
    return changes / _norm(original)


def _norm(attribution: Float[Array, "..."]) -> Scalar:
    return jnp.linalg.norm(attribution.ravel())
