"""How alike two attributions are: correlation of values and of ranks."""

import jax
import numpy as np
from jaxtyping import Array, Float

from .._numerics import at_least_single, common_dtype, cosine
from .._types import Scalar
from .._validation import check_floats, to_jax

Values = Float[Array | np.ndarray, "*n"]


def pearson_correlation(first: Values, second: Values) -> Scalar:
    """Pearson's correlation of two arrays: the cosine between their deviations from their means.

    r = <a - mean a, b - mean b> / (|a - mean a| |b - mean b|)

    Args:
      first, second: a and b, of one shape; each of any unit.

    Returns:
      The correlation in [-1, 1], without unit: 1 where one is a rising linear function of the
      other. With a constant array, or one that is not finite, it is undefined: nan.

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
    return cosine(*map(_deviations, _as_pair(first, second)))


def spearman_correlation(first: Values, second: Values) -> Scalar:
    """Spearman's correlation of two arrays: Pearson's of their ranks.

    r_s = r(ranks a, ranks b), where equal values share the mean of their ranks

    Args:
      first, second: a and b, of one shape; each of any unit.

    Returns:
      The correlation in [-1, 1], without unit: 1 where one rises whenever the other does. With a
      constant array, or one with a nan, it is undefined: nan.

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
    first, second = _as_pair(first, second)
    return pearson_correlation(
        *(jax.scipy.stats.rankdata(values).astype(values.dtype) for values in (first, second))
    )


def _as_pair(first: Values, second: Values) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Both in JAX, in one type of at least single precision."""
    check_floats("first", first)
    check_floats("second", second)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"expected arrays of one shape that is not empty, got {first.shape} and {second.shape}"
        )
    first, second = at_least_single(to_jax(first)), at_least_single(to_jax(second))
    dtype = common_dtype(first.dtype, second.dtype)
    return first.astype(dtype), second.astype(dtype)


def _deviations(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    # First to [0, 1]: a constant array's deviations from its rounded mean would not be 0. It
    # becomes 0 / 0 here.
    relative = (values - values.min()) / (values.max() - values.min())
    return relative - relative.mean()
