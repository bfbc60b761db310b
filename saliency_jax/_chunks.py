"""Evaluation of a function at many samples, at most `batch_size` of them at once.

The samples are cut into as few chunks as that allows, of equal size; the last is filled up with
copies that are not counted. So the function is compiled once, whatever the remainder.

Where the caller has set a mesh (`jax.set_mesh`), the samples are shared out among its devices along
the axes that are JAX's to share out, its `Auto` ones: each device has chunks of its own, and all
devices together have `batch_size` samples at once, or one each. Inside a `shard_map` no axis is
left, and an `Explicit` one is the caller's: nothing is shared out twice.

Sums and means are taken in at least single precision, however many the samples, and rounded to the
precision of the function's values at the end.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Bool, Key, PyTree, Shaped

from ._numerics import at_least_single
from ._types import Count
from ._validation import check_count

Samples = PyTree[Shaped[Array, "n ..."] | Key[Array, "n"]]


def map_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The function's value at every sample, stacked along a new first axis."""

    def work(chunks, counted, axes):
        if _length(chunks) == 1:
            values = jax.vmap(function)(_first(chunks))
        else:
            stacked = jax.lax.map(jax.vmap(function), chunks)
            values = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)
        return jax.lax.all_gather(values, axes, tiled=True) if axes else values

    values = _shared_out(work, samples, batch_size)
    return jax.tree.map(lambda leaf: leaf[: _length(samples)], values)


def sum_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The sum of the function's values over the samples; holds one chunk's values at a time."""
    return _summed(function, samples, batch_size, 1)


def mean_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The mean of the function's values over the samples; holds one chunk's values at a time."""
    return _summed(function, samples, batch_size, _length(samples))


def _summed(function: Callable, samples: Samples, batch_size: Count, divisor: int) -> Any:
    """The sum over the samples, divided before it is rounded: it may be too large for a half."""

    def added_up(values, counted):
        wide = jax.tree.map(at_least_single, values)
        return jax.tree.map(lambda leaf: _counted(leaf, counted).sum(0), wide)

    def work(chunks, counted, axes):
        # Without a loop where one chunk is all: XLA compiles loop bodies less well on CPU.
        if _length(chunks) == 1:
            values = jax.vmap(function)(_first(chunks))
            total = added_up(values, _first(counted))
        else:
            values = jax.eval_shape(function, _first(_first(chunks)))
            zeros = jax.tree.map(lambda leaf: at_least_single(jnp.zeros_like(leaf)), values)

            def add(total, chunk):
                samples, counted = chunk
                added = added_up(jax.vmap(function)(samples), counted)
                return jax.tree.map(jnp.add, total, added), None

            total, _ = jax.lax.scan(add, zeros, (chunks, counted))
        total = jax.lax.psum(total, axes) if axes else total
        return jax.tree.map(lambda leaf, value: (leaf / divisor).astype(value.dtype), total, values)

    return _shared_out(work, samples, batch_size)


def _shared_out(work: Callable, samples: Samples, batch_size: Count) -> Any:
    """The work of all devices, which must come out alike on each.

    Args:
      work: from a device's chunks, with leading axes for the chunk and the place in it, which of
        them count, or None if all do, and the mesh's axes along which to join what comes of them.
    """
    count, most = _length(samples), check_count("batch_size", batch_size, 1)
    axes = _free_axes() if count > 1 else {}
    devices = math.prod(axes.values())
    share = -(-count // devices)
    num_chunks = -(-share // max(most // devices, 1))
    size = -(-share // num_chunks)
    index = np.arange(devices * num_chunks * size).reshape(devices, num_chunks, size)
    counted = None if index.size == count else index < count
    chunks = jax.tree.map(lambda leaf: leaf[np.minimum(index, count - 1)], samples)
    if not axes:
        return work(_first(chunks), _first(counted), ())

    def on_one_device(chunks, counted):
        return work(_first(chunks), _first(counted), tuple(axes))

    # Unchecked, since the check refuses derivatives written by hand: they know no devices.
    return jax.shard_map(
        on_one_device,
        in_specs=PartitionSpec(tuple(axes)),
        out_specs=PartitionSpec(),
        axis_names=set(axes),
        check_vma=False,
    )(chunks, counted)


def _free_axes() -> dict[Any, int]:
    """By name, how many devices there are along each axis of the mesh that may be shared out."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = {name: size for name, size in mesh.shape.items() if kinds[name] == AxisType.Auto}
    return axes if math.prod(axes.values()) > 1 else {}


def _length(samples: Samples) -> int:
    return jax.tree.leaves(samples)[0].shape[0]


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _counted(values: Shaped[Array, "n ..."], counted: Bool[Array, "n"] | None) -> Array:
    """The values, and 0 in place of those that do not count."""
    if counted is None:
        return values
    return jnp.where(counted.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
