"""How sure a mean over a few classes is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import Count, Key, Number, Scalar
from .._validation import (
    as_any_number,
    check_count,
    check_finite,
    check_floats,
    check_key,
    is_concrete,
    to_jax,
)


class Interval(NamedTuple):
    """A mean and the interval that it lies in with some confidence.

    Attributes:
      mean: of all values.
      low: the lower end.
      high: the upper end.
    """

    mean: Scalar | float
    low: Scalar | float
    high: Scalar | float


def bootstrap_interval(
    values: Float[Array | np.ndarray, "n *repeats"],
    *,
    key: Key,
    confidence: Number = 0.95,
    num_samples: Count = 10_000,
) -> Interval:
    """The mean of values and its bootstrap interval, the units of the first axis being resampled.

    low, high = the (1 - confidence) / 2 and (1 + confidence) / 2 quantiles of mean_i m_{u_i}, with
    m_u the mean of unit u's values and u_1, ..., u_n drawn from 1 .. n with replacement

    A unit is drawn with all its values. With classes as units and several seeds of each, the
    interval says how the mean would vary over other classes: seeds of one class are alike, and to
    resample them singly would make it too narrow (the cluster bootstrap).

    Args:
      values: (n, ...) one or more values of each of n units, such as (classes, seeds).
      key: see the room.
      confidence: from 0 to 1.
      num_samples: how often the units are drawn anew, at least 1.

    Returns:
      The `Interval`, in the values' unit. That of a single unit has no width.

    Example:
      Of two units, 0 and 1, a sample has the mean 0, 0.5, 0.5 or 1:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> interval = metrics.bootstrap_interval(jnp.array([0.0, 1.0]), key=jax.random.key(0))
      >>> print(*interval)
      0.5 0.0 1.0

    Reference:
      Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics, 1979; on
      clusters Davison, Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    check_floats("values", values)
    if values.ndim == 0 or values.size == 0:
        raise ValueError(f"expected values to have shape (n, ...), got {values.shape}")
    check_finite("values", values)
    confidence = as_any_number("confidence", confidence)
    if is_concrete(confidence) and not 0 <= np.asarray(confidence) <= 1:
        raise ValueError(f"expected confidence to be in [0, 1], got {confidence}")
    check_key(key)
    count = check_count("num_samples", num_samples, 1)
    of_units = at_least_single(to_jax(values)).reshape(len(values), -1).mean(1)
    drawn = jax.random.randint(key, (count, len(of_units)), 0, len(of_units))
    confidence = jnp.asarray(confidence, of_units.dtype)
    ends = jnp.stack([1 - confidence, 1 + confidence]) / 2
    low, high = jnp.quantile(of_units[drawn].mean(1), ends)
    return Interval(of_units.mean(), low, high)
