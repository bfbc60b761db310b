"""PyTorch's files as numpy arrays, without PyTorch and without running what is inside.

A `.pt`, `.pth`, `.th` or `.ckpt` file is a pickle beside raw numbers, and a pickle is a program
that may import and call anything. Here it is interpreted by a machine that can build lists, dicts,
texts, numbers and references to the raw numbers. A function or class that a file names stays that
name, whatever it is called with; nothing is imported or called.
"""

import dataclasses
import io
import math
import os
import pickletools
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from .._validation import check_path

# PyTorch writes about 200 bytes for a tensor; a hostile byte can cost a hundred bytes of memory.
_MAX_PICKLE = 16 * 2**20
_MAX_AXES = 32
# What a file says can be named again and again, and each time be put together anew.
_LONGEST_NAME = 1000
_LONGEST_COMPLAINT = 1000
_MOST_COMPLAINTS = 3
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DTYPES = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
# Where a checkpoint keeps its arrays, the first found being taken; inside one may be another, as in
# {"model": {"state_dict": ...}}, but a file can be made to hold itself.
_STATE_DICT_KEYS = (
    *("state_dict", "model", "model_state_dict", "net", "network"),
    *("state_dict_ema", "ema", "params", "weights"),
)
_MAX_NESTED = 4


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file of weights by their names.

    Reads safetensors files and PyTorch's (the zip format of 1.6 and later, and the format before),
    where the arrays are the whole, or in its entry `state_dict`, `model`, `model_state_dict`,
    `net`, `network`, `state_dict_ema`, `ema`, `params` or `weights`, the first that is there, or
    in such an entry of that one. No byte of the file is run: a pickle that asks for `os.system`
    yields an error or, beside the arrays, nothing.

    Args:
      path: the file; its content tells the format, not its name.

    Returns:
      name -> array, read-only, of the shape and dtype stored.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is of another kind, is damaged, or holds something else than arrays.

    Example:
      >>> import numpy as np, safetensors.numpy
      >>> safetensors.numpy.save_file({"fc.bias": np.zeros(3, np.float32)}, "weights.safetensors")
      >>> read_state_dict("weights.safetensors")["fc.bias"].shape
      (3,)
    """
    check_path("path", path)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of weights, got no file at {path}")
    with path.open("rb") as file:
        start = file.read(9)
    try:
        # First, because the length that a safetensors file starts with may look like a pickle.
        if start[8:] == b"{":
            return safetensors.numpy.load_file(path)
        if start.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        if start.startswith(b"\x80"):
            return _read_legacy(path)
    # A damaged file can break its reader in nearly any way; what is said of it is one thing.
    except Exception as error:
        complaint = str(error)[:_LONGEST_COMPLAINT]
        raise ValueError(f"expected a whole file of weights, got {path}: {complaint}") from error
    raise ValueError(
        f"expected a safetensors file or one that PyTorch saved, got {path}, which starts with "
        f"{start!r}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Foreign:
    """What a file names and this module does not know: the name, and nothing behind it."""

    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor:
    """A view of a storage, not looked at yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        # Entries that lie over each other would be read as often as they are named.
        held, size = sum(entry.compress_size for entry in archive.infolist()), path.stat().st_size
        if held > size:
            raise ValueError(f"expected entries of at most {size:,} bytes, got {held:,}")
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"expected one data.pkl in the archive, got {len(pickles)}")
        folder = pickles[0].removesuffix("data.pkl")
        order = "little"
        if f"{folder}byteorder" in archive.namelist():
            order = _stored(archive, f"{folder}byteorder").decode()
        instructions = io.BytesIO(_stored(archive, pickles[0], _MAX_PICKLE))
        tensors = _tensors(_interpret(instructions, _storage))
        keys = {tensor.storage.key for tensor in tensors.values()}
        data = {key: _stored(archive, f"{folder}data/{key}") for key in keys}
    return {
        name: _array(tensor, data[tensor.storage.key], order) for name, tensor in tensors.items()
    }


def _stored(archive: zipfile.ZipFile, name: str, limit: int | None = None) -> bytes:
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"expected {name} uncompressed, as PyTorch writes it, got it compressed")
    if limit is not None and member.file_size > limit:
        raise ValueError(
            f"expected {name} to have at most {limit:,} bytes, got {member.file_size:,}"
        )
    return archive.read(member)


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
    storages: dict[str, _Storage] = {}

    def storage(reference):
        found = _storage(reference)
        if isinstance(found, _Storage):
            storages[found.key] = found
        return found

    with path.open("rb") as file:
        pickles = io.BytesIO(file.read(_MAX_PICKLE))
        header = [_interpret(pickles, storage) for _ in range(3)]
        if header[:2] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL] or not isinstance(header[2], dict):
            raise ValueError("expected the header that PyTorch writes, got another pickle")
        order = "little" if header[2].get("little_endian", True) else "big"
        tensors = _tensors(_interpret(pickles, storage))
        keys = _interpret(pickles, storage)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("expected a list of the storages' keys, got something else")
        file.seek(pickles.tell())
        wanted = {tensor.storage.key for tensor in tensors.values()}
        data = dict(_legacy_data(file, [storages[key] for key in keys], wanted))
        if not wanted <= data.keys():
            raise ValueError("expected the values of every storage, got no more than some")
    return {
        name: _array(tensor, data[tensor.storage.key], order) for name, tensor in tensors.items()
    }


def _legacy_data(
    file: io.BufferedReader, storages: list[_Storage], wanted: set[str]
) -> Iterator[tuple[str, bytes]]:
    end = os.fstat(file.fileno()).st_size
    for storage in storages:
        (size,) = struct.unpack("<q", file.read(8))
        length = storage.size * storage.dtype.itemsize
        if size != storage.size or not 0 <= length <= end - file.tell():
            raise ValueError(f"expected {storage.size} values in storage {storage.key}, got fewer")
        if storage.key in wanted:
            yield storage.key, file.read(length)
        else:
            file.seek(length, os.SEEK_CUR)


def _storage(reference: Any) -> _Storage | _Foreign:
    """The storage that a persistent id of PyTorch's pickles stands for."""
    if isinstance(reference, list | tuple) and len(reference) > 6:
        return _Foreign("a reference to something else than a storage")
    match reference:
        # The legacy format adds a sixth element, which is None unless the storage is a view.
        case ["storage", _Foreign(name), str(key), _, int(size), *view] if view in ([], [None]):
            return _Storage(key, _DTYPES[name], size) if name in _DTYPES else _Foreign(name)
        case _:
            return _Foreign("a reference to something else than a storage")


def _tensors(root: Any) -> dict[str, _Tensor]:
    """The tensors by name in a checkpoint, which are its whole or one of its entries."""
    chosen = root
    for _ in range(_MAX_NESTED):
        entries = [chosen.get(key) for key in _STATE_DICT_KEYS if isinstance(chosen, dict)]
        chosen = next((entry for entry in entries if isinstance(entry, dict)), chosen)
    if not isinstance(chosen, dict) or not chosen:
        raise ValueError(f"expected a dict of arrays, got {_described(chosen)}")
    strange = [
        (key, value)
        for key, value in chosen.items()
        if not (isinstance(key, str) and isinstance(value, _Tensor))
    ]
    if strange:
        told = [
            f"{_described(value)} at {key[:_LONGEST_NAME]!r}"
            if isinstance(key, str)
            else "a key that is no text"
            for key, value in strange[:_MOST_COMPLAINTS]
        ]
        raise ValueError(
            "expected a dict of arrays by name, or one at "
            f"{', '.join(map(repr, _STATE_DICT_KEYS))}, got {', '.join(told)}"
        )
    return chosen


def _described(value: Any) -> str:
    if isinstance(value, _Foreign):
        return f"{value.name[:_LONGEST_NAME]}, which is not read"
    return f"a value of type {type(value).__name__}"


def _array(tensor: _Tensor, data: bytes, byteorder: str) -> np.ndarray:
    storage = tensor.storage
    if len(data) != storage.size * storage.dtype.itemsize:
        raise ValueError(
            f"expected storage {storage.key} to have {storage.size} values of {storage.dtype}, "
            f"got {len(data)} bytes"
        )
    count = math.prod(tensor.shape)
    last = tensor.offset + sum(
        (length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if count > storage.size or (count and last >= storage.size):
        raise ValueError(
            f"expected a view of the {storage.size} values of storage {storage.key}, got shape "
            f"{tensor.shape}, strides {tensor.strides}, offset {tensor.offset}"
        )
    values = np.frombuffer(data, storage.dtype)
    if byteorder != sys.byteorder:
        # Through integers, because bfloat16 knows no byte order.
        values = values.view(f"u{storage.dtype.itemsize}").byteswap().view(storage.dtype)
    return np.lib.stride_tricks.as_strided(
        values[tensor.offset :] if count else values[:0],
        tensor.shape,
        [stride * storage.dtype.itemsize for stride in tensor.strides],
        writeable=False,
    )


def _interpret(stream: io.BytesIO, storage: Callable[[Any], Any]) -> Any:
    """The value of the pickle that starts here, with `storage` for its persistent ids."""
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[str, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                below.append(stack)
                stack = []
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                stack = below.pop()
            case "DUP":
                stack.append(stack[-1])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case (
                "INT"
                | "BININT"
                | "BININT1"
                | "BININT2"
                | "LONG"
                | "LONG1"
                | "LONG4"
                | "FLOAT"
                | "BINFLOAT"
                | "STRING"
                | "BINSTRING"
                | "SHORT_BINSTRING"
                | "UNICODE"
                | "BINUNICODE"
                | "SHORT_BINUNICODE"
                | "BINUNICODE8"
                | "BINBYTES"
                | "SHORT_BINBYTES"
                | "BINBYTES8"
                | "BYTEARRAY8"
            ):
                stack.append(argument)
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "LIST" | "TUPLE" | "FROZENSET" | "DICT":
                items, stack = stack, below.pop()
                if opcode.name == "DICT":
                    stack.append(_insert({}, items))
                else:
                    stack.append(tuple(items) if opcode.name == "TUPLE" else items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "APPEND" | "SETITEM":
                length = 1 if opcode.name == "APPEND" else 2
                items = stack[-length:]
                del stack[-length:]
                _insert(stack[-1], items)
            case "APPENDS" | "ADDITEMS" | "SETITEMS":
                items, stack = stack, below.pop()
                _insert(stack[-1], items)
            # Texts as keys hash with a random seed; integers could be chosen to collide.
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[str(argument)] = stack[-1]
            case "MEMOIZE":
                memo[str(len(memo))] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[str(argument)])
            case "GLOBAL":
                stack.append(_Foreign(str(argument).replace(" ", ".")))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not isinstance(module, str) or not isinstance(attribute, str):
                    raise ValueError("expected a function's name to be a text, got something else")
                if len(module) + len(attribute) > _LONGEST_NAME:
                    raise ValueError(
                        f"expected a function's name of at most {_LONGEST_NAME} characters, got "
                        f"{len(module) + len(attribute)}"
                    )
                stack.append(_Foreign(f"{module}.{attribute}"))
            case "PERSID":
                stack.append(storage(argument))
            case "BINPERSID":
                stack.append(storage(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_rebuilt(function, arguments))
            case "NEWOBJ_EX":
                _, _, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(_rebuilt(function, ()))
            case "INST":
                stack = below.pop()
                stack.append(_Foreign(str(argument).replace(" ", ".")))
            case "OBJ":
                (function, *arguments), stack = stack, below.pop()
                stack.append(_rebuilt(function, tuple(arguments)))
            case "BUILD":
                # An object's attributes; those of a state dict are versions of its layers.
                stack.pop()
            case other:
                raise ValueError(f"expected instructions that PyTorch writes, got {other}")
    raise ValueError("expected a whole pickle, got its start")


def _insert(target: Any, items: list[Any]) -> Any:
    """Adds items to a list, or keys and values in turn to a dict; a `_Foreign` takes all."""
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, dict):
        # Only texts are looked up, and hashing what a file has nested could take for ever.
        keys = [
            key if type(key) is str else _Foreign(f"a key of {type(key)}") for key in items[::2]
        ]
        target.update(zip(keys, items[1::2], strict=True))
    elif not isinstance(target, _Foreign):
        raise ValueError(f"expected a list or dict to add to, got a {type(target).__name__}")
    return target


def _rebuilt(function: Any, arguments: Any) -> Any:
    """What PyTorch's own functions and OrderedDict would return, or the bare name of any other."""
    match function, arguments:
        case _Foreign("collections.OrderedDict"), ():
            return {}
        case _Foreign("collections.OrderedDict"), (list(pairs),):
            items = [item for key, value in pairs for item in (key, value)]
            # Once: of a long list a few bytes could make a dict, again and again.
            pairs.clear()
            return _insert({}, items)
        case (
            _Foreign("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor"),
            (_Storage() as storage, offset, tuple(shape), tuple(strides), *_),
        ):
            if len(shape) > _MAX_AXES or len(strides) != len(shape):
                raise ValueError(f"expected a stride for each axis of a tensor, got {len(strides)}")
            numbers = (offset, *shape, *strides)
            if not all(type(value) is int and 0 <= value < 2**63 for value in numbers):
                raise ValueError("expected a tensor's shape, strides and offset from 0 to 2^63 - 1")
            return _Tensor(storage, offset, shape, strides)
        case (
            _Foreign(
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state"
            ),
            (_Tensor() as tensor, *_),
        ):
            return tensor
        case _Foreign(name), _:
            return _Foreign(name)
        case _:
            raise ValueError(f"expected a function's name to call, got a {type(function).__name__}")
