"""Evaluation of a function at many samples, at most `batch_size` of them at once.

The samples are cut into as few chunks as that allows, of equal size; the last is filled up with
copies that are not counted. So the function is compiled once, whatever the remainder.

Sums and means are taken in at least single precision, however many the samples, and rounded to the
precision of the function's values at the end.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree, Shaped

from ._numerics import at_least_single
from ._types import Count
from ._validation import check_count

Samples = PyTree[Shaped[Array, "n ..."] | Key[Array, "n"]]


def map_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The function's value at every sample, stacked along a new first axis."""
    count, chunks, _ = _cut(samples, batch_size)
    if chunks is None:
        return jax.vmap(function)(samples)
    values = jax.lax.map(jax.vmap(function), chunks)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], values)


def sum_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The sum of the function's values over the samples; holds one chunk's values at a time."""
    return _summed(function, samples, batch_size, 1)


def mean_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The mean of the function's values over the samples; holds one chunk's values at a time."""
    return _summed(function, samples, batch_size, jax.tree.leaves(samples)[0].shape[0])


def _summed(function: Callable, samples: Samples, batch_size: Count, divisor: int) -> Any:
    """The sum over the samples, divided before it is rounded: it may be too large for a half."""
    _, chunks, counted = _cut(samples, batch_size)
    # Without a loop where one chunk is all: XLA compiles loop bodies less well on CPU.
    if chunks is None:
        values = jax.vmap(function)(samples)
        total = jax.tree.map(lambda leaf: at_least_single(leaf).sum(0), values)
    else:
        values = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], samples))
        zeros = jax.tree.map(lambda leaf: at_least_single(jnp.zeros_like(leaf)), values)

        def add(total, chunk):
            inputs, is_counted = chunk
            added = jax.tree.map(
                lambda leaf: _select(is_counted, at_least_single(leaf)).sum(0),
                jax.vmap(function)(inputs),
            )
            return jax.tree.map(jnp.add, total, added), None

        total, _ = jax.lax.scan(add, zeros, (chunks, counted))
    return jax.tree.map(lambda leaf, value: (leaf / divisor).astype(value.dtype), total, values)


def _cut(samples: Samples, batch_size: Count) -> tuple[int, Any, Any]:
    count = jax.tree.leaves(samples)[0].shape[0]
    num_chunks = -(-count // check_count("batch_size", batch_size, 1))
    if num_chunks == 1:
        return count, None, None
    size = -(-count // num_chunks)
    index = np.arange(num_chunks * size).reshape(num_chunks, size)
    chunks = jax.tree.map(lambda leaf: leaf[np.minimum(index, count - 1)], samples)
    return count, chunks, index < count


def _select(is_counted: Bool[Array, "n"], values: Shaped[Array, "n ..."]) -> Array:
    return jnp.where(is_counted.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
