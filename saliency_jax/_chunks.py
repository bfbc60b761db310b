"""Evaluation of a function at many samples, at most `batch_size` of them at once.

The samples are cut into as few chunks as that allows, of equal size; the last is filled up with
copies that are not counted. So the function is compiled once, whatever the remainder.

Where the caller has set a mesh (`jax.set_mesh`), each chunk is shared out among its devices along
the axes that are JAX's to share out, its `Auto` ones, and filled up to a multiple of their number.
Inside a `shard_map` no axis is left, an `Explicit` one is the caller's, and one of the name `MODEL`
is for weights: nothing is shared out twice. The devices meet after each chunk: XLA ends a process
in which one waits long for another.

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

MODEL = "model"

Samples = PyTree[Shaped[Array, "n ..."] | Key[Array, "n"]]


def map_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The function's value at every sample, stacked along a new first axis."""
    chunks, _, axes = _cut(samples, batch_size)
    on_devices = _on_devices(_gathered(jax.vmap(function), axes), axes)
    if _length(chunks) == 1:
        values = on_devices(_first(chunks))
    else:
        stacked = jax.lax.map(on_devices, chunks)
        values = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)
    return jax.tree.map(lambda leaf: leaf[: _length(samples)], values)


def sum_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The sum of the function's values over the samples; holds one chunk's values at a time."""
    return _summed(function, samples, batch_size, 1)


def mean_chunked(function: Callable, samples: Samples, batch_size: Count) -> Any:
    """The mean of the function's values over the samples; holds one chunk's values at a time."""
    return _summed(function, samples, batch_size, _length(samples))


def _summed(function: Callable, samples: Samples, batch_size: Count, divisor: int) -> Any:
    """The sum over the samples, divided before it is rounded: it may be too large for a half."""
    chunks, counted, axes = _cut(samples, batch_size)

    def added_up(values, counted):
        wide = jax.tree.map(at_least_single, values)
        total = jax.tree.map(lambda leaf: _counted(leaf, counted).sum(0), wide)
        return jax.lax.psum(total, axes) if axes else total

    def divided(total, values):
        return jax.tree.map(lambda leaf, value: (leaf / divisor).astype(value.dtype), total, values)

    def whole(chunk, counted):
        values = jax.vmap(function)(chunk)
        return divided(added_up(values, counted), values)

    def part(chunk, counted):
        return added_up(jax.vmap(function)(chunk), counted)

    # Without a loop where one chunk is all: XLA compiles loop bodies less well on CPU.
    if _length(chunks) == 1:
        return _on_devices(whole, axes)(_first(chunks), _first(counted))
    # Of shapes alone: a key that is sliced here would be one used before the loop.
    values = jax.eval_shape(lambda chunks: function(_first(_first(chunks))), chunks)
    zeros = jax.tree.map(lambda leaf: at_least_single(jnp.zeros_like(leaf)), values)

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, _on_devices(part, axes)(*chunk)), None

    total, _ = jax.lax.scan(add, zeros, (chunks, counted))
    return divided(total, values)


def vmap_shared(function: Callable, batch: Samples) -> Any:
    """`jax.vmap` of a function of one argument, shared out among devices that need not meet.

    The result is laid out along the mesh's axes, unless the batch is no multiple of their length.
    """
    chunks, counted, axes = _cut(batch, _length(batch))
    mapped = jax.vmap(function)
    if counted is None:
        return _on_devices(mapped, axes, laid_out=True)(_first(chunks))
    values = _on_devices(_gathered(mapped, axes), axes)(_first(chunks))
    return jax.tree.map(lambda leaf: leaf[: _length(batch)], values)


def _gathered(work: Callable, axes: tuple) -> Callable:
    return lambda chunk: jax.lax.all_gather(work(chunk), axes, tiled=True) if axes else work(chunk)


def _cut(samples: Samples, batch_size: Count) -> tuple[Any, Any, tuple]:
    """The chunks of the samples, which of these count, or None if all do, and the mesh's axes.

    Both arrays have two leading axes, of the chunks and of the places in a chunk, which is to be
    shared out along the mesh's axes, if there are any.
    """
    count, most = _length(samples), check_count("batch_size", batch_size, 1, None)
    axes = _free_axes() if count > 1 else {}
    devices = math.prod(axes.values())
    share = -(-count // devices)
    num_chunks = -(-share // -(-most // devices))
    index = np.arange(num_chunks * devices * -(-share // num_chunks)).reshape(num_chunks, -1)
    counted = None if index.size == count else index < count
    chunks = jax.tree.map(lambda leaf: leaf[np.minimum(index, count - 1)], samples)
    return chunks, counted, tuple(axes)


def _on_devices(work: Callable, axes: tuple, *, laid_out: bool = False) -> Callable:
    """The work on a chunk that is shared out along a mesh's axes, or as it is where there are none.

    What comes of it is alike on all devices, or laid out along the axes.
    """
    if not axes:
        return work
    along = PartitionSpec(axes)
    return jax.shard_map(
        work,
        in_specs=along,
        out_specs=along if laid_out else PartitionSpec(),
        axis_names=set(axes),
        # The check refuses derivatives written by hand: they know no devices.
        check_vma=False,
    )


def _free_axes() -> dict[Any, int]:
    """By name, how many devices there are along each axis of the mesh that may be shared out."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = {
        name: size
        for name, size in mesh.shape.items()
        if kinds[name] == AxisType.Auto and name != MODEL
    }
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
