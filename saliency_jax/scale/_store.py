"""Columns of arrays on a disk or in a bucket, written chunk by chunk and read lazily."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts
from jaxtyping import Array, Float

from .._files import check_same, claim
from .._validation import check_path

CONFIG = "config.json"
_GROUP = "zarr.json"
# One for the process: what is stored in `memory://` is there as long as it is.
_CONTEXT = ts.Context()
# A chunk that is not there is told from one of zeros.
_KEPT = {"store_data_equal_to_fill_value": True, "fill_missing_data_reads": False}
# What reading a chunk that is missing or damaged says first.
_LOST = ("NOT_FOUND", "FAILED_PRECONDITION", "DATA_LOSS", "INVALID_ARGUMENT", "OUT_OF_RANGE")
# Fast and in the order of bytes, without which floats hardly shrink.
_COMPRESSION = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
# Chunks that are read at once when they are checked.
_CHECKED_AT_ONCE = 16
_LEVELS = 255
# Of single precision: the bits of the fraction, what is added to an exponent, and the largest one
# of a number whose inverse is no denormal one, which a device may take for 0.
_BITS_OF_FRACTION, _BIAS, _LARGEST_EXPONENT = 23, 127, 126

LONGEST_TEXT = 160
# What a column of texts is stored as.
TEXT = ".text"
DTYPES = ("float16", "float32", "uint8")


def pack(name: str, values: Float[Array, "..."], dtype: str) -> dict[str, Array]:
    """The columns that one array of floats becomes in a type of storage.

    In float16 the array is divided by a power of 2 that brings it into (-1, 1), so that none is too
    large or too small for it. In uint8 its smallest value is 0 and its largest 255; one with a nan
    becomes nan everywhere.
    """
    values = values.astype(np.float32)
    if dtype == "float32":
        return {name: values}
    if dtype == "float16":
        largest = jnp.max(jnp.abs(values))
        _, exponent = jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 0.5))
        exponent = jnp.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        # By its bits, since powers are not exact on every device.
        bits = (exponent + _BIAS) << _BITS_OF_FRACTION
        step = jax.lax.bitcast_convert_type(bits, np.float32)
        return {name: (values / step).astype(np.float16), f"{name}.step": step}
    low, high = values.min(), values.max()
    step = high / _LEVELS - low / _LEVELS
    levels = jnp.round((values - low) / jnp.where(step == 0, 1, step))
    levels = jnp.where(jnp.isfinite(levels), levels, 0).astype(np.uint8)
    return {name: levels, f"{name}.step": step, f"{name}.low": low}


def texts(values: Sequence[str]) -> np.ndarray:
    """(n, `LONGEST_TEXT`) bytes of texts, of longer ones the end."""
    encoded = [value.encode()[-LONGEST_TEXT:].ljust(LONGEST_TEXT, b"\0") for value in values]
    return np.frombuffer(b"".join(encoded), np.uint8).reshape(-1, LONGEST_TEXT)


class Column:
    """One column of what is stored: NumPy arrays, read when it is indexed.

    Attributes:
      shape: with the number of rows first.
      dtype: of what is read: float32 of packed floats.

    Example:
      >>> from saliency_jax import scale
      >>> points = {"x": np.arange(5.0, dtype=np.float32)}
      >>> stored = scale.compute(lambda shared, x: {"y": 2 * x}, points, "twice", batch_size=2)
      >>> stored["y"].shape, stored["y"][1:3].tolist(), float(stored["y"][-1])
      ((5,), [2.0, 4.0], 8.0)
    """

    def __init__(self, values: Any, step: Any = None, low: Any = None, *, is_text: bool = False):
        self._values, self._step, self._low, self._is_text = values, step, low, is_text
        self.shape = tuple(values.shape)[: 1 if is_text else None]
        packed = np.dtype(f"U{LONGEST_TEXT}" if is_text else np.float32)
        self.dtype = packed if is_text or step is not None else values.dtype.numpy_dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows, *rest = index if isinstance(index, tuple) else (index,)
        numbers = np.asarray(np.arange(len(self))[rows])
        values = _rows(self._values, numbers)
        if self._is_text:
            values = np.ascontiguousarray(values).view(f"S{LONGEST_TEXT}")[..., 0]
            values = np.char.decode(values, errors="replace")
        if self._step is not None:
            step = _rows(self._step, numbers)
            beside = (..., *[None] * (values.ndim - step.ndim))
            values = values.astype(np.float32) * step[beside]
            if self._low is not None:
                values += _rows(self._low, numbers)[beside]
        inside = (slice(None),) * numbers.ndim
        return values[(*inside, *rest)] if rest else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"Column(shape={self.shape}, dtype={self.dtype})"


def _rows(values: Any, numbers: np.ndarray) -> np.ndarray:
    flat = np.ravel(numbers)
    is_slice = flat.size and (flat == np.arange(flat[0], flat[0] + flat.size)).all()
    rows = slice(int(flat[0]), int(flat[0]) + flat.size) if is_slice else flat
    try:
        read = values[rows].read().result()
    except ValueError as error:
        raise OSError(
            "expected whole chunks, got a damaged one, which the call that made them mends "
            f"({error})"
        ) from error
    return np.asarray(read).reshape((*numbers.shape, *read.shape[1:]))


class Stored(Mapping[str, Column]):
    """What a run has stored, by the column's name.

    Attributes:
      config: the settings, and the versions of the libraries, that it was made by.
    """

    def __init__(self, columns: Mapping[str, Any], config: Mapping[str, Any]):
        self.config = config
        self._columns = {
            name: Column(values, columns.get(f"{name}.step"), columns.get(f"{name}.low"))
            for name, values in columns.items()
            if "." not in name
        } | {
            name.removesuffix(TEXT): Column(values, is_text=True)
            for name, values in columns.items()
            if name.endswith(TEXT)
        }

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def open(output: str | os.PathLike) -> Stored:
    """What a run has stored, finished or not.

    Args:
      output: see the room.

    Returns:
      The columns by name. Nothing is read before it is indexed; rows that are not computed yet are
      nan, of integers -1 or, if they have no sign, the largest.

    Raises:
      FileNotFoundError: nothing of this room is there.

    Example:
      >>> import numpy as np
      >>> from saliency_jax import scale
      >>> points = {"x": np.arange(3)}
      >>> _ = scale.compute(lambda shared, x: {"y": x * x}, points, "squares", batch_size=2)
      >>> stored = scale.open("squares")
      >>> list(stored), stored["y"][:].tolist()
      (['y'], [0, 1, 4])
    """
    check_path("output", output)
    root = Root(output)
    group, config = root.read(_GROUP), root.read(CONFIG)
    if group is None or config is None:
        raise FileNotFoundError(f"expected the output of a run of scale, got none at {output}")
    names = json.loads(group)["attributes"]["columns"]
    opening = {name: ts.open(root.spec(name), open=True, context=_CONTEXT) for name in names}
    columns = {name: opened.result() for name, opened in opening.items()}
    return Stored(columns, json.loads(config))


class Root:
    """A folder or a bucket's prefix.

    Attributes:
      folder: the folder, of one on this machine's file system.
    """

    def __init__(self, output: str | os.PathLike):
        self.asked = os.fspath(output)
        if "://" in self.asked:
            try:
                self._spec = ts.KvStore.Spec(self.asked.rstrip("/") + "/")
            except ValueError as error:
                raise ValueError(
                    f"expected a path, or an address that TensorStore knows such as gs://, got "
                    f"{self.asked} ({error})"
                ) from error
        else:
            path = f"{Path(self.asked).expanduser().absolute()}/"
            self._spec = ts.KvStore.Spec({"driver": "file", "path": path})
        is_file = self._spec.to_json()["driver"] == "file"
        self.folder = Path(self._spec.path) if is_file else None

    def spec(self, name: str, **more: Any) -> dict[str, Any]:
        return {"driver": "zarr3", "kvstore": (self._spec / f"{name}/").to_json(), **more}

    def read(self, file: str) -> str | None:
        found = self._store().read(file).result()
        return found.value.decode() if found.state == "value" else None

    def write(self, file: str, content: str | None) -> None:
        """Writes a file, or removes it."""
        with told(self.asked):
            self._store().write(file, content).result()

    def _store(self) -> Any:
        return ts.KvStore.open(self._spec, context=_CONTEXT).result()

    @contextlib.contextmanager
    def claimed(self, settings: Mapping[str, Any], kind: str) -> Iterator[None]:
        """Until its end no other process of this file system may work here; see `claim`."""
        if self.folder is not None:
            with claim(self.folder, settings, kind=kind, file=CONFIG):
                yield
            return
        text = json.dumps(dict(settings), indent=2, default=str) + "\n"
        stored = self.read(CONFIG)
        if stored is None:
            self.write(CONFIG, text)
        else:
            check_same(json.loads(text), stored, f"{self.asked}/{CONFIG}", self.asked, kind)
        yield


class Writer:
    """Columns of `count` rows, in chunks of `batch_size` rows that are whole or not there.

    Args:
      root: where they are.
      columns: shape and type of a chunk's rows (b, ...) by name.
      count: the number of rows.
      create: whether to make what is not there.
    """

    def __init__(
        self,
        root: Root,
        columns: Mapping[str, jax.ShapeDtypeStruct],
        count: int,
        *,
        create: bool,
    ):
        self._root, self._count = root, count
        self._batch_size = next(iter(columns.values())).shape[0]
        self._ranks = {name: len(column.shape) for name, column in columns.items()}
        with told(root.asked):
            opening = {
                name: ts.open(
                    root.spec(name, metadata=_metadata(column, count), **_KEPT),
                    open=True,
                    create=create,
                    context=_CONTEXT,
                )
                for name, column in columns.items()
            }
            self._columns = {name: opened.result() for name, opened in opening.items()}
        if create:
            attributes = {"columns": list(columns), "rows": count}
            group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            root.write(_GROUP, json.dumps(group))

    def rows(self, number: int) -> slice:
        """The rows of a chunk."""
        start = number * self._batch_size
        return slice(start, min(start + self._batch_size, self._count))

    def write(self, number: int, chunk: Mapping[str, np.ndarray]) -> list[Any]:
        """Begins to write a chunk: what is to be waited for by `settle`."""
        rows = self.rows(number)
        length = rows.stop - rows.start
        return [self._columns[name][rows].write(chunk[name][:length]) for name in self._columns]

    def settle(self, writes: Sequence[Any]) -> None:
        """Waits until a chunk is durable."""
        with told(self._root.asked):
            for write in writes:
                write.result()

    def unfinished(self, numbers: Sequence[int]) -> list[int]:
        """Which of some chunks are missing or damaged; of the damaged ones the ruins are removed.

        Every chunk is read, and its checksum compared.
        """
        found = []
        for start in range(0, len(numbers), _CHECKED_AT_ONCE):
            reading = {
                number: {
                    name: column[self.rows(number)].read() for name, column in self._columns.items()
                }
                for number in numbers[start : start + _CHECKED_AT_ONCE]
            }
            for number, columns in reading.items():
                whole = [self._is_whole(name, number, read) for name, read in columns.items()]
                if not all(whole):
                    found.append(number)
        return found

    def _is_whole(self, name: str, number: int, read: Any) -> bool:
        try:
            read.result()
        except ValueError as error:
            if not str(error).startswith(_LOST):
                raise OSError(f"expected to read {self._root.asked}, got {error}") from error
            # A part of a chunk is written into what is there, which cannot be read.
            zeros = ["0"] * (self._ranks[name] - 1)
            self._root.write("/".join([name, "c", str(number), *zeros]), None)
            return False
        return True


@contextlib.contextmanager
def told(output: str) -> Iterator[None]:
    """TensorStore's errors, which are all of one type, as the system's."""
    try:
        yield
    except ValueError as error:
        raise OSError(
            f"expected to write {output}, got {error}; when that is mended, the same call continues"
        ) from error


def _metadata(column: jax.ShapeDtypeStruct, count: int) -> dict[str, Any]:
    dtype = np.dtype(column.dtype)
    compression = {**_COMPRESSION, "typesize": dtype.itemsize}
    return {
        "shape": [count, *column.shape[1:]],
        "data_type": dtype.name,
        "fill_value": _fill(dtype),
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(column.shape)},
        },
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": compression},
            {"name": "crc32c"},
        ],
    }


def _fill(dtype: np.dtype) -> Any:
    """What is read of rows that are not there."""
    if dtype.kind == "b":
        return False
    if dtype.kind in "iu":
        return -1 if dtype.kind == "i" else int(np.iinfo(dtype).max)
    return "NaN"
