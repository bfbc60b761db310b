"""A function's values at many points, on all devices of all processes, stored chunk by chunk."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .._chunks import MODEL
from .._pytrees import digest, is_key
from .._types import Count
from .._validation import check_callable, check_count, check_instance, check_path
from ..devices import AXIS
from ._store import Root, Stored, Writer
from ._store import open as open_stored

# What else the bits depend on.
_PACKAGES = ("saliency-jax", "jax", "jaxlib")
# Decoding leaves Python's lock about half of the time, so that more threads only queue for it.
_READ_THREADS = 2
# Steps that are dispatched before the results of the first are waited for: one is computed while
# the next is brought to the devices.
_STEPS_IN_FLIGHT = 2
# Chunks of a device that are being written: more would only fill the memory.
_WRITES_IN_FLIGHT = 4
# How long an interrupted run waits for what it is writing.
_SECONDS_TO_SETTLE = 10.0
_LONGEST_MESSAGE = 2000

Points = Mapping[str, np.ndarray]
Columns = Mapping[str, np.ndarray]
Progress = Callable[[int, int], object]
Devices = Sequence[jax.Device] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Source:
    """Points that are read chunk by chunk, in any order.

    Attributes:
      count: how many.
      batch_size: how many make a chunk.
      read: from a chunk's number to its points (b, ...), which the function takes, and to columns
        (b, ...) that are stored as they are. The last chunk is filled up.
    """

    count: int
    batch_size: int
    read: Callable[[int], tuple[Points, Columns]]

    @property
    def num_chunks(self) -> int:
        return math.ceil(self.count / self.batch_size)


def compute(
    function: Callable[..., Mapping[str, Any]],
    points: Mapping[str, Any],
    output: str | os.PathLike,
    *,
    shared: PyTree = None,
    batch_size: Count,
    devices: Devices | None = None,
    progress: Progress | None = None,
) -> Stored:
    """A function's values at many points, stored as they come.

    stored[name][i] = function(shared, x=points["x"][i], ...)[name]

    As `runs.sweep`, for what memory does not hold or many machines compute: the pictures of a
    thousand classes from many seeds, say.

    Args:
      function: pure, from `shared` and one value of each of the points, by keyword, to arrays by
        name; a name has no dot.
      points: by name an array with the values along its first axis, all of one length.
      output, batch_size, devices, progress: see the room.
      shared: any PyTree of arrays that all points see, such as the network; it is an argument of
        the program and never compiled in.

    Returns:
      The columns, as `scale.open` reads them.

    Raises:
      TypeError: the function returns something else, or random keys.
      ValueError: there is no point, the lengths differ, or the output holds another run.
      BlockingIOError: another run is at work there.
      OSError: the output cannot be written, or its disk is full.

    Example:
      Each of three classes from two seeds: what a step from noise does to its logit.

      >>> import jax
      >>> from saliency_jax import scale, scores
      >>> def climb(model, *, label, seed):
      ...     image = jax.random.uniform(jax.random.key(seed), (4, 4, 3))
      ...     score = scores.logit(model, label)
      ...     image = image + jax.grad(score)(image)
      ...     return {"images": image, "scores": score(image)}
      >>> model = jax.tree_util.Partial(lambda weights, x: x.mean((0, 1)) @ weights, np.eye(3))
      >>> points = {"label": np.repeat(np.arange(3), 2), "seed": np.tile(np.arange(2), 3)}
      >>> stored = scale.compute(climb, points, "grid", shared=model, batch_size=4)
      >>> stored["images"].shape, bool((stored["scores"][:] > 0.2).all())
      ((6, 4, 4, 3), True)
    """
    check_callable("function", function)
    check_instance("points", points, Mapping, "arrays by name")
    size = check_count("batch_size", batch_size, 1)
    arrays = {name: np.asarray(values) for name, values in points.items()}
    lengths = {values.shape[:1] for values in arrays.values()}
    if len(lengths) != 1 or lengths <= {(), (0,)}:
        raise ValueError(
            "expected points to be arrays of one length, at least 1, got shapes "
            f"{[values.shape for values in arrays.values()]}"
        )
    count = len(next(iter(arrays.values())))

    def read(number: int) -> tuple[Points, Columns]:
        rows = np.minimum(np.arange(number * size, (number + 1) * size), count - 1)
        return {name: values[rows] for name, values in arrays.items()}, {}

    run(
        lambda shared, point: function(shared, **point),
        Source(count, size, read),
        output,
        shared=shared,
        settings={"points": f"{count}, {digest(arrays)}"},
        devices=devices,
        progress=progress,
    )
    return open_stored(output)


def run(
    function: Callable[[PyTree, Mapping[str, Any]], Mapping[str, Any]],
    source: Source,
    output: str | os.PathLike,
    *,
    shared: PyTree,
    settings: Mapping[str, Any],
    devices: Devices | None,
    progress: Progress | None,
    judge: Callable[[Columns], object] = lambda rows: None,
    finish: Callable[[Root], object] = lambda root: None,
) -> None:
    """Computes what is missing of a run's columns, and writes it.

    A chunk is one device's batch: so it is computed by the same program, and to the same bits, on
    however many devices and processes.

    Args:
      function: from `shared` and a point to the columns of its row.
      source: the points.
      output, devices, progress: see the room.
      shared: see `compute`.
      settings: what the values depend on, beside the function, its shapes and `shared`.
      judge: called with the rows of each chunk before it is written; it may raise.
      finish: called by one process when all is written.
    """
    if progress is not None:
        check_callable("progress", progress)
    check_path("output", output)
    mesh = _mesh(devices)
    points, columns = source.read(0)

    def of_batch(shared: PyTree, points: PyTree) -> PyTree:
        return jax.vmap(lambda point: function(shared, point))(points)

    def of_chunks(shared: PyTree, points: PyTree) -> PyTree:
        # Unchecked, since the check refuses derivatives written by hand: they know no devices.
        # Along the other axis, if there is one, XLA shares the work out, as the weights lie.
        return jax.shard_map(
            of_batch,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(AXIS),
            axis_names={AXIS},
            check_vma=False,
        )(shared, points)

    # As it is on one device, whatever their number, and whatever mesh the caller has set.
    with jax.set_mesh(Mesh(np.array(jax.local_devices()[:1]), (AXIS,))):
        lowered = jax.jit(of_batch).lower(shared, dict(points))
    shapes = _columns(lowered.out_info) | {
        name: jax.ShapeDtypeStruct(values.shape, values.dtype) for name, values in columns.items()
    }
    described = {
        **settings,
        "rows": source.count,
        "batch_size": source.batch_size,
        "columns": {name: f"{each.dtype} {each.shape[1:]}" for name, each in shapes.items()},
        "program": hashlib.sha256(lowered.as_text().encode()).hexdigest(),
        "shared values": digest(shared),
        "kind of device": mesh.devices.flat[0].device_kind,
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    if mesh.shape.get(MODEL, 1) > 1:
        described["number of devices of a model"] = mesh.shape[MODEL]
    root = Root(output)
    with _claimed(root, described), jax.set_mesh(mesh):
        if jax.process_index() == 0:
            Writer(root, shapes, source.count, create=True)
        _meet("columns are there")
        writer = Writer(root, shapes, source.count, create=False)
        unfinished = _unfinished(writer, source.num_chunks)
        # Whole on each of a model's devices.
        program = jax.jit(of_chunks, out_shardings=NamedSharding(mesh, PartitionSpec(AXIS)))
        _fill(program, source, writer, unfinished, shared, points, mesh, judge, progress)
        _meet("all is written")
        if jax.process_index() == 0:
            finish(root)


def _mesh(devices: Devices | None) -> Mesh:
    """The devices along the axis of the batches, and along that of the models if there is one."""
    ambient = jax.sharding.get_mesh()
    if devices is not None:
        grid = np.array(devices)
    elif ambient.empty:
        grid = np.array(jax.devices())
    elif MODEL in ambient.axis_names:
        last = np.moveaxis(ambient.devices, ambient.axis_names.index(MODEL), -1)
        grid = last.reshape(-1, last.shape[-1])
    else:
        grid = ambient.devices.ravel()
    if grid.ndim not in (1, 2) or not grid.size:
        raise ValueError(f"expected devices (n,) or (n, m), got shape {grid.shape}")
    mesh = Mesh(grid, (AXIS, MODEL)[: grid.ndim])
    rows = [{device.process_index for device in np.ravel(row)} for row in grid]
    if len(mesh.local_devices) * jax.process_count() != grid.size or max(map(len, rows)) > 1:
        raise ValueError(
            f"expected as many devices of each of {jax.process_count()} processes, and those of a "
            f"model in one, got {len(mesh.local_devices)} of {grid.size} in process "
            f"{jax.process_index()}"
        )
    return mesh


def _columns(info: Any) -> dict[str, jax.ShapeDtypeStruct]:
    if not isinstance(info, Mapping) or not all(hasattr(leaf, "shape") for leaf in info.values()):
        raise TypeError(f"expected the function to return arrays by name, got {type(info)}")
    for name, leaf in info.items():
        if is_key(leaf):
            raise TypeError(
                f"expected {name} to hold numbers, got random keys; return jax.random.key_data(key)"
            )
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in info.items()}


@contextlib.contextmanager
def _claimed(root: Root, settings: Mapping[str, Any]) -> Iterator[None]:
    """Claims the output for all processes, by the first of them; all are refused, or none."""
    with contextlib.ExitStack() as held:
        refusal: Exception | None = None
        if jax.process_index() == 0:
            try:
                held.enter_context(root.claimed(settings, "run"))
            except (OSError, ValueError) as error:
                refusal = error
        if jax.process_count() > 1:
            text = np.zeros(_LONGEST_MESSAGE, np.uint8)
            message = str(refusal or "").encode()[:_LONGEST_MESSAGE]
            text[: len(message)] = np.frombuffer(message, np.uint8)
            told = bytes(multihost_utils.broadcast_one_to_all(text)).rstrip(b"\0").decode()
            refusal = refusal or (OSError(told) if told else None)
        if refusal is not None:
            raise refusal
        yield


def _meet(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _unfinished(writer: Writer, num_chunks: int) -> list[int]:
    """The numbers of the chunks that are still to be computed, found by all processes together."""
    index, count = jax.process_index(), jax.process_count()
    is_unfinished = np.zeros(num_chunks, bool)
    is_unfinished[writer.unfinished(range(index, num_chunks, count))] = True
    if count > 1:
        is_unfinished = multihost_utils.process_allgather(is_unfinished).any(0)
    return np.flatnonzero(is_unfinished).tolist()


def _fill(
    program: Callable,
    source: Source,
    writer: Writer,
    numbers: Sequence[int],
    shared: PyTree,
    like: Points,
    mesh: Mesh,
    judge: Callable[[Columns], object],
    progress: Progress | None,
) -> None:
    """Computes chunks and writes them: reading, computing and writing go on at the same time."""
    sizes = [rows.stop - rows.start for rows in map(writer.rows, numbers)]
    done = source.count - sum(sizes)
    tell = progress if progress is not None and jax.process_index() == 0 else lambda *_: None
    tell(done, source.count)
    if not numbers:
        return
    num_processes = jax.process_count()
    num_local = mesh.shape[AXIS] // num_processes
    num_at_once = mesh.shape[AXIS]
    shared = _laid_out(shared, mesh)
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    reading = grain.MapDataset.source(numbers).map(lambda number: (number, *source.read(number)))
    chunks = iter(
        reading[jax.process_index() :: num_processes].to_iter_dataset(
            # A step's chunks are there before it begins.
            grain.ReadOptions(_READ_THREADS, 2 * num_local)
        )
    )
    writing: collections.deque[list[Any]] = collections.deque()

    def write(step: list, columns: list[dict[str, jax.Array]]) -> None:
        for (number, _, read), made in zip(step, columns, strict=True):
            rows = {name: np.asarray(values) for name, values in made.items()} | dict(read)
            length = writer.rows(number).stop - writer.rows(number).start
            judge({name: values[:length] for name, values in rows.items()})
            writing.append(writer.write(number, rows))
        while len(writing) > _WRITES_IN_FLIGHT * num_local:
            writer.settle(writing.popleft())

    # In a thread of its own: on a CPU a program's start waits for the end of the one before.
    writers = concurrent.futures.ThreadPoolExecutor(1)
    computing: collections.deque[tuple[concurrent.futures.Future, int]] = collections.deque()

    def wait_for_oldest() -> None:
        nonlocal done
        written, size = computing.popleft()
        written.result()
        done += size
        tell(done, source.count)

    try:
        # All processes take the same steps, the last perhaps with nothing to write.
        for start in range(0, len(numbers), num_at_once):
            step = list(itertools.islice(chunks, num_local))
            filled = [points for _, points, _ in step]
            filled += [like] * (num_local - len(step))
            batch = {
                name: jax.make_array_from_process_local_data(
                    sharding, np.concatenate([points[name] for points in filled])
                )
                for name in like
            }
            made = _by_device(program(shared, batch), len(step))
            size = sum(sizes[start : start + num_at_once])
            computing.append((writers.submit(write, step, made), size))
            if len(computing) > _STEPS_IN_FLIGHT:
                wait_for_oldest()
        while computing:
            wait_for_oldest()
    except BaseException:
        writers.shutdown(wait=False, cancel_futures=True)
        # What an interrupted run is writing need not be computed again.
        for future in itertools.chain(*list(writing)):
            with contextlib.suppress(Exception):
                future.result(timeout=_SECONDS_TO_SETTLE)
        raise
    writers.shutdown()
    while writing:
        writer.settle(writing.popleft())


def _laid_out(shared: PyTree, mesh: Mesh) -> PyTree:
    """The same for every batch of every process, each of which has it already.

    Of the devices of a model each holds a part of the kernels' last axis, the output channels.
    """
    count = mesh.shape.get(MODEL, 1)

    def laid_out(values: np.ndarray, *, is_cut: bool) -> jax.Array:
        along = (*(None,) * (values.ndim - 1), MODEL) if is_cut else ()
        sharding = NamedSharding(mesh, PartitionSpec(*along))
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    def of_leaf(leaf: Any) -> jax.Array:
        if is_key(leaf):
            data = laid_out(np.asarray(jax.random.key_data(leaf)), is_cut=False)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        values = np.asarray(leaf)
        is_kernel = values.ndim > 1 and values.shape[-1] % count == 0
        return laid_out(values, is_cut=count > 1 and is_kernel)

    return jax.tree.map(of_leaf, shared)


def _by_device(columns: Mapping[str, jax.Array], count: int) -> list[dict[str, jax.Array]]:
    """What the first of this process's devices have made, already on its way to the host."""
    shards: list[dict[str, jax.Array]] = [{} for _ in range(count)]
    for name, column in columns.items():
        whole = (shard for shard in column.addressable_shards if not shard.replica_id)
        ordered = sorted(whole, key=lambda shard: shard.index[0].start or 0)
        for made, shard in zip(shards, ordered, strict=False):
            made[name] = shard.data
            shard.data.copy_to_host_async()
    return shards
