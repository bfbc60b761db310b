"""How alike two attributions are: correlation of values and of ranks."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from .._validation import check_floats
from ._maps import at_least_single


def pearson_correlation(first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Scalar:
    """Pearson's correlation of two arrays: the cosine between their deviations from their means.

    r = <a - mean a, b - mean b> / (|a - mean a| |b - mean b|)

    Args:
      first: a, of any shape and unit.
      second: b, of the same shape.

    Returns:
      The correlation in [-1, 1], without unit: 1 where one is a rising linear function of the
      other. With a constant array it is undefined: nan.

    Raises:
      TypeError: an array does not hold floats.
      ValueError: the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> values = jnp.array([1.0, 2.0, 4.0])
      >>> print(metrics.pearson_correlation(values, 3 - 2 * values).round(6))
      -1.0

    Reference:
      Pearson, Note on regression and inheritance in the case of two parents, Proceedings of the
      Royal Society of London 58, 1895 (not on arXiv).
    """
    _check(first, second)
    return jnp.sum(_standardized(first) * _standardized(second))


def spearman_correlation(first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Scalar:
    """Spearman's correlation of two arrays: Pearson's of their ranks.

    r_s = r(ranks a, ranks b), where equal values share the mean of their ranks

    Args:
      first: a, of any shape and unit.
      second: b, of the same shape.

    Returns:
      The correlation in [-1, 1], without unit: 1 where one rises whenever the other does. With a
      constant array it is undefined: nan.

    Raises:
      TypeError: an array does not hold floats.
      ValueError: the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> values = jnp.array([1.0, 2.0, 4.0, 3.0])
      >>> print(metrics.spearman_correlation(values, jnp.exp(values)).round(6))
      1.0

    Reference:
      Spearman, The proof and measurement of association between two things, American Journal of
      Psychology 15, 1904 (not on arXiv).
    """
    _check(first, second)
    return pearson_correlation(_mean_ranks(first), _mean_ranks(second))


def _standardized(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    values = at_least_single(values)
    # First to [0, 1]: the squares of small values would vanish in float32, and a constant array's
    # deviations from its rounded mean would not. It becomes 0 / 0 here.
    relative = (values - values.min()) / (values.max() - values.min())
    centered = relative - relative.mean()
    return centered / jnp.sqrt(jnp.sum(centered**2))


def _mean_ranks(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    ordered = jnp.sort(values.ravel())
    below, up_to = (
        jnp.searchsorted(ordered, values, side=side).astype(at_least_single(values).dtype)
        for side in ("left", "right")
    )
    return jnp.where(jnp.isnan(values), jnp.nan, (below + up_to) / 2)


def _check(first: Float[Array, "*n"], second: Float[Array, "*n"]) -> None:
    check_floats("first", first)
    check_floats("second", second)
    if first.shape != second.shape:
        raise ValueError(f"expected arrays of one shape, got {first.shape} and {second.shape}")
