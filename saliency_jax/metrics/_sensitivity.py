"""Sensitivity of an explanation: how much an attribution changes when the image hardly does."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._numerics import at_least_single, norm, single_or_wider
from .._types import Count, Image, Key, Method, Number, Scalar, ScoreFunction
from .._validation import as_image, as_number, check_callable, check_count, check_key
from ..scores import as_score


def max_sensitivity(
    method: Method,
    score: ScoreFunction,
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
      method, score, image, key, num_samples, batch_size: see the room. For a method that draws
        noise of its own, a bound key keeps that noise out of the measurement.
      radius: at least 0, in the image's units. A traced one is welcome.

    Returns:
      The relative change, at least 0, without unit. It is 0 for the gradient of a linear score. For
      an attribution that is 0 everywhere it is undefined: nan, or infinite.

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
    score: ScoreFunction,
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
      method, score, image, key, radius, num_samples, batch_size: as for `max_sensitivity`.

    Returns:
      The relative change, as there.

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
    score: ScoreFunction,
    image: Image,
    key: Key,
    radius: Number,
    num_samples: Count,
    batch_size: Count,
) -> Float[Array, "n"]:
    score, image = as_score(score), as_image(image)
    check_callable("method", method)
    check_key(key)
    radius = jnp.asarray(as_number("radius", radius, 0), image.dtype)
    count = check_count("num_samples", num_samples, 1)
    original = at_least_single(method(score, image))

    def of_key(key):
        noise = jax.random.uniform(key, image.shape, single_or_wider(image.dtype), -1, 1)
        moved = image + radius * noise.astype(image.dtype)
        return norm(at_least_single(method(score, moved)) - original)

    changes = map_chunked(of_key, jax.random.split(key, count), batch_size)
    return changes / norm(original)
