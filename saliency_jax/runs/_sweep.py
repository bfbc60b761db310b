"""Grids of settings, run by one compiled program, chunk by chunk; an interrupted one continues."""

import contextlib
import functools
import hashlib
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from .._files import claim, whole
from .._pytrees import digest, is_key
from .._types import Count
from .._validation import check_callable, check_count, check_instance, check_path


def sweep(
    function: Callable[..., PyTree],
    axes: Mapping[str, PyTree],
    *,
    shared: PyTree = None,
    batch_size: Count,
    folder: str | os.PathLike | None = None,
    progress: Callable[[int], object] | None = None,
) -> PyTree:
    """A function's value at every point of a grid, by one compiled program.

    values[i, j, ...] = function(shared, a=axes["a"][i], b=axes["b"][j], ...)

    The grid, the Cartesian product of the axes, is cut into as few chunks of at most `batch_size`
    points as that allows, all of one size: the last is filled up with copies that are dropped. So
    `jax.jit(jax.vmap(function))` is compiled once, and another sweep of the same function over
    points of the same shapes does not compile again. Memory is that of one chunk, and on the host
    that of the values.

    Each chunk is shared out equally among the devices of the mesh that is set, or of this process.
    If points are evaluated one at a time, what the function does in chunks is shared out: the
    steps, samples or masks of a method. On a CPU with several cores the setting
    `JAX_NUM_CPU_DEVICES` makes each a device: on two, class visualizations of a small ResNet then
    take 0.62 of the time, since work on whole pictures splits better than a picture's.

    Args:
      function: pure, from `shared` and one value of each axis, by keyword, to a PyTree of arrays.
        What it is to be mapped over is a traced number in it: `optax.sgd(rate)` and `ascent.l2(
        weight)` take one. It is compiled by its identity: define it once, outside of loops.
      axes: by name, an array with the axis's values along its first dimension, or a PyTree of
        arrays for values that go together. Images to start from and random keys are values as well.
      shared: any PyTree of arrays that all points see, such as the model; it is an argument of the
        program and never compiled in.
      batch_size: how many points at once, on all devices together, at least 1. If it is not a
        multiple of the number of devices, the next smaller one is taken.
      folder: where each chunk is kept when it is done, whole or not at all. If the sweep is
        interrupted, the same call continues it, one process at a time; the folder is left to the
        caller to remove.
      progress: called with the number of points in each chunk that was computed or found, and with
        0 when the program is compiled and the first chunk begins: `tqdm.tqdm(total=n).update`.

    Returns:
      The PyTree of NumPy arrays that the function returns, with leading dimensions for the axes,
      in their order.

    Raises:
      TypeError: the function is not callable or not hashable, it returns random keys, an axis is
        not of arrays, or batch_size is not an integer.
      ValueError: there is no axis, an axis has no values or arrays of different lengths, batch_size
        < 1, or the folder holds something else than chunks of this very sweep.
      BlockingIOError: another process is at work in the folder.

    Example:
      Three classes by two learning rates: the probabilities of a picture after 0 and 4 steps.

      >>> import jax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import optax
      >>> from saliency_jax import ascent, scores
      >>> from saliency_jax.runs import sweep
      >>> def visualize(model, *, label, rate):
      ...     optimizer = optax.sgd(rate)
      ...     state = ascent.initial_state(jnp.zeros((2, 2, 3)), optimizer, jax.random.key(0))
      ...     score = scores.logit(model, label)
      ...     made = ascent.ascend(score, state, optimizer, 4, snapshots=[0, 4])
      ...     return jax.nn.softmax(jax.vmap(model)(made.snapshots))
      >>> model = jax.tree_util.Partial(lambda weights, x: x.mean((0, 1)) @ weights, jnp.eye(3))
      >>> axes = {"label": np.arange(3), "rate": np.array([0.5, 1.0])}
      >>> probabilities = sweep(visualize, axes, shared=model, batch_size=4)
      >>> probabilities.shape
      (3, 2, 2, 3)
      >>> print(probabilities[2, 1].round(2))
      [[0.33 0.33 0.33]
       [0.21 0.21 0.58]]

    Reference:
      Bradbury et al., JAX: composable transformations of Python+NumPy programs, 2018, on vmap and
      jit (not on arXiv).
    """
    check_callable("function", function)
    check_instance("axes", axes, Mapping, "values by the names of axes")
    if progress is not None:
        check_callable("progress", progress)
    if folder is not None:
        check_path("folder", folder)
    try:
        hash(function)
    except TypeError as error:
        raise TypeError(
            "expected function to be hashable, with its arrays in shared, got "
            f"{type(function).__name__}"
        ) from error
    batch_size = check_count("batch_size", batch_size, 1)
    if not axes:
        raise ValueError("expected at least one axis, got none")
    lengths = {name: _length(name, axis) for name, axis in axes.items()}
    values = {name: jax.tree.map(_indexable, axis) for name, axis in axes.items()}
    count = math.prod(lengths.values())
    every = _devices()
    num_devices = min(len(every), int(batch_size), count)
    num_chunks = -(-count // (int(batch_size) // num_devices * num_devices))
    size = -(-count // (num_chunks * num_devices)) * num_devices

    def points(number: int) -> dict[str, PyTree]:
        flat = np.minimum(np.arange(number * size, (number + 1) * size), count - 1)
        indices = np.unravel_index(flat, tuple(lengths.values()))
        return {name: _at(index, values[name]) for name, index in zip(values, indices, strict=True)}

    shared = jax.tree.map(_native, shared)
    first = points(0)
    # A point alone leaves the devices to what is done in chunks at it, if anything is.
    for used in (every, every[:1]) if num_devices == 1 else (every[:num_devices],):
        mesh = jax.sharding.Mesh(np.array(used), ("points",))
        everywhere = jax.sharding.NamedSharding(mesh, PartitionSpec())
        along = PartitionSpec("points") if num_devices > 1 else PartitionSpec()
        place = functools.partial(jax.device_put, device=jax.sharding.NamedSharding(mesh, along))
        with jax.set_mesh(mesh):
            # Arrays that were computed may be bound to other devices.
            placed = jax.device_put(shared, everywhere)
            traced = _of_chunk.trace(function, num_devices, placed, place(first))
            if num_devices > 1 or len(used) == 1 or _shares_out(traced.jaxpr.jaxpr):
                program, shared = traced.lower(), placed
                break
    for leaf in jax.tree.leaves(program.out_info):
        if is_key(leaf):
            raise TypeError(
                "expected function to return arrays of numbers, got random keys; return "
                "jax.random.key_data(key)"
            )
    claimed: contextlib.AbstractContextManager = contextlib.nullcontext()
    if folder is not None:
        folder = Path(folder)
        description = {
            "axes": f"{lengths}, {digest(values)}",
            "batch_size": int(batch_size),
            "number of devices": num_devices,
            "shared values": digest(shared),
            "function": hashlib.sha256(program.as_text().encode()).hexdigest(),
        }
        claimed = claim(folder, description, kind="sweep", file="sweep.json")
    compiled = None
    chunks = []
    with claimed:
        for number in range(num_chunks):
            path = None if folder is None else folder / f"{number:06d}.npz"
            if path is not None and path.exists():
                chunk = _read(path, program.out_info)
            else:
                if compiled is None:
                    compiled = program.compile()
                    _tell(progress, 0)
                chunk = jax.device_get(compiled(shared, place(points(number))))
                if path is not None:
                    with whole(path) as partial:
                        np.savez(partial, *jax.tree.leaves(chunk))
            chunks.append(chunk)
            _tell(progress, min(size, count - number * size))
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:count].reshape(
            *lengths.values(), *leaves[0].shape[1:]
        ),
        *chunks,
    )


def _devices() -> list[jax.Device]:
    mesh = jax.sharding.get_mesh()
    return jax.local_devices() if mesh.empty else [*mesh.devices.flat]


def _shares_out(program: jax.extend.core.Jaxpr) -> bool:
    return any(
        equation.primitive.name == "shard_map"
        or any(map(_shares_out, jax.extend.core.jaxprs_in_params(equation.params)))
        for equation in program.eqns
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_chunk(
    function: Callable[..., PyTree], num_devices: int, shared: PyTree, points: PyTree
) -> PyTree:
    def on_one_device(shared, points):
        return jax.vmap(lambda point: function(shared, **point))(points)

    if num_devices == 1:
        return on_one_device(shared, points)
    # Unchecked, since the check refuses derivatives written by hand: they know no devices.
    return jax.shard_map(
        on_one_device,
        in_specs=(PartitionSpec(), PartitionSpec("points")),
        out_specs=PartitionSpec("points"),
        check_vma=False,
    )(shared, points)


def _length(name: str, axis: PyTree) -> int:
    """The number of an axis's values."""
    leaves = jax.tree.leaves(axis)
    for leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise TypeError(
                f"expected axis {name!r} to be an array or a PyTree of arrays, got one with "
                f"{type(leaf).__name__}"
            )
        if not is_key(leaf) and not _is_numbers(leaf):
            raise TypeError(f"expected axis {name!r} to hold numbers, got {leaf.dtype}")
    lengths = {leaf.shape[:1] for leaf in leaves}
    if len(lengths) != 1 or lengths <= {(), (0,)}:
        raise ValueError(
            f"expected axis {name!r} to have arrays of one length, at least 1, got shapes "
            f"{[leaf.shape for leaf in leaves]}"
        )
    return leaves[0].shape[0]


def _indexable(leaf: Any) -> Any:
    # Rows are picked by NumPy, which compiles nothing; it knows no random keys.
    return leaf if is_key(leaf) else np.asarray(_native(leaf))


def _native(leaf: Any) -> Any:
    """An array of NumPy's in a byte order and a precision that JAX takes."""
    if not isinstance(leaf, np.ndarray):
        return leaf
    dtype = leaf.dtype.newbyteorder("=")
    return leaf.astype(np.float64 if dtype == np.longdouble else dtype, copy=False)


def _at(index: np.ndarray, values: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], values)


def _is_numbers(leaf: Any) -> bool:
    return leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)


def _tell(progress: Callable[[int], object] | None, points: int) -> None:
    if progress is not None:
        progress(points)


def _read(path: Path, like: PyTree) -> PyTree:
    """The chunk in a file, its arrays in a tree and of types like these."""
    leaves, structure = jax.tree.flatten(like)
    try:
        with np.load(path) as stored:
            # Types that NumPy does not know, such as bfloat16, are stored as plain bytes.
            arrays = [stored[f"arr_{i}"].view(leaf.dtype) for i, leaf in enumerate(leaves)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"expected {path} to be a chunk of this sweep, got a damaged file; remove it"
        ) from error
    return jax.tree.unflatten(structure, arrays)
