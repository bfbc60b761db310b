"""Damaged and hostile files for every reader, as a process: `python fuzzed_files.py JSON`.

In a process of its own a reader can crash, hang or take all memory without taking the tests with
it: what it may take is bounded, and an input that takes too long ends it with a traceback.
"""

import contextlib
import faulthandler
import functools
import io
import json
import pickle
import pickletools
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import scipy.io.wavfile
import small_photographs
from flax import nnx
from PIL import Image as PILImage
from PIL import ImageFile

from saliency_jax import images, models
from saliency_jax.models._checkpoints import BUNDLED
from saliency_jax.signals import sound

# Of a processor's time, and of waiting for one where other work has it.
SECONDS, LONGEST_WAIT = 30, 240
LONGEST = 10_000
CLASSIFIER = small_photographs.classifier()
# What reading one file may take beyond what the process had, in bytes. Of a picture these are three
# copies of the largest that is decoded: as stored, upright, and in the mode that is read.
MOST = {"pictures": 3 * 4 * images.MAX_DECODED_PIXELS, "weights": 2**28, "classifiers": 2**30}
# Of these a part is tried: Orbax reads them, and takes 20 milliseconds and more.
FEWER = {"former weights": 10}
# Pillow reads them by another program, or not at all.
NOT_READ = ("BUFR", "EPS", "FPX", "GRIB", "HDF5", "MIC", "MPEG", "WMF")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")
COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")


# Files that are as they should be.


def pictures() -> dict[str, list[bytes]]:
    """By format a few small pictures, for all formats that are written by Pillow or here."""
    PILImage.init()
    draws = np.random.default_rng(0)
    color = PILImage.fromarray(draws.integers(0, 256, (9, 13, 3), np.uint8))
    found: dict[str, list[bytes]] = {}

    def add(kind: str, picture: PILImage.Image, **options: object) -> None:
        stream = io.BytesIO()
        # Not every mode has a place in every format, and some formats are not long for Pillow.
        with (
            contextlib.suppress(OSError, KeyError, ValueError, TypeError, SystemError),
            warnings.catch_warnings(action="ignore"),
        ):
            picture.save(stream, kind, **options)
            if stream.getvalue() not in found.setdefault(kind, []):
                found[kind].append(stream.getvalue())

    for kind in sorted(PILImage.OPEN.keys() & PILImage.SAVE.keys() - set(NOT_READ)):
        for mode in MODES:
            values = color.convert("L") if mode in ("I;16", "F") else color.convert(mode)
            if mode == "I;16":
                values = PILImage.fromarray(np.asarray(values, np.uint16) * 257)
            elif mode == "F":
                values = PILImage.fromarray(np.asarray(values, np.float32) / 255)
            add(kind, values)
    exif = PILImage.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        add(kind, color, exif=exif)
    add("JPEG", color, progressive=True, quality=90)
    for kind in ("GIF", "PNG", "TIFF", "WEBP", "MPO"):
        add(kind, color, save_all=True, append_images=[color.rotate(180)])
    for compression in COMPRESSIONS:
        add(
            "TIFF",
            color.convert("1" if compression == "group4" else "RGB"),
            compression=compression,
        )
    for kind in ("TGA", "BMP", "SGI"):
        add(kind, color.convert("L"), rle=True, compression="tga_rle")
    for kind, content in _by_hand(found).items():
        images.read_image(content)
        found.setdefault(kind, []).append(content)
    return found


def _by_hand(found: dict[str, list[bytes]]) -> dict[str, bytes]:
    """Small pictures in formats that Pillow reads and does not write."""
    row = bytes(range(4))
    pages, icon = found["PCX"][0], io.BytesIO()
    PILImage.new("RGBA", (16, 16), "red").save(icon, "ICO", bitmap_format="bmp", sizes=[(16, 16)])
    card = b"".join(
        text.ljust(80).encode()
        for text in ("SIMPLE  =                    T", "BITPIX  =                    8",
                     "NAXIS   =                    2", "NAXIS1  =                    4",
                     "NAXIS2  =                    2", "END")
    )  # fmt: skip
    return {
        "FITS": card.ljust(2880) + (row * 2).ljust(2880, b"\0"),
        "XPM": b'/* XPM */\nstatic char *a[] = {\n"2 2 2 1",\n"a c #000000",\n"b c #ffffff",\n'
        b'"ab",\n"ba"\n};\n',
        "CUR": b"\0\0\2\0" + icon.getvalue()[4:],
        "DCX": struct.pack("<III", 0x3ADE68B1, 12, 0) + pages,
        "SUN": struct.pack(">8I", 0x59A66A95, 4, 2, 8, 8, 1, 0, 0) + row * 2,
        "PSD": b"8BPS"
        + struct.pack(">H6xHIIHH", 1, 1, 2, 4, 8, 1)
        + bytes(12)
        + bytes(2)
        + row * 2,
        "FLI": struct.pack("<IHHHHHHI", 160, 0xAF12, 1, 4, 2, 8, 0, 5).ljust(128, b"\0")
        + struct.pack("<IHH8xIHH", 32, 0xF1FA, 1, 16, 16, 0)
        + row * 2,
        "GBR": struct.pack(">5I4sI", 29, 2, 4, 2, 1, b"GIMP", 10) + b"\0" + row * 2,
        "PIXAR": b"\x80\xe8\0\0".ljust(416, b"\0")
        + struct.pack("<HH", 2, 4).ljust(8, b"\0")
        + struct.pack("<HH", 14, 2).ljust(600, b"\0")
        + row * 6,
        "XVTHUMB": b"P7 332\n#END_OF_COMMENTS\n4 2 255\n" + row * 2,
        "MCIDAS": struct.pack(">64I", *([0, 4] + [1] * 62)) + row * 2,
    }


class _Named:
    """Pickles as a call of a function that is only named."""

    def __init__(self, module: str, function: str, *arguments: object):
        self.module, self.function, self.arguments = module, function, arguments


class _Storage(tuple):
    """Pickles as a reference to raw numbers."""


class _Writer(pickle._Pickler):
    """Writes what PyTorch's pickler would, for any name at all."""

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, _Storage) else None

    def save(self, value, save_persistent_id=True):
        if not isinstance(value, _Named):
            return super().save(value, save_persistent_id)
        self.write(f"c{value.module}\n{value.function}\n".encode())
        if value.arguments:
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        return None


VALUES = {"0": np.arange(6, dtype=np.float32), "1": np.arange(4, dtype=np.int64)}


def instructions(*view: None) -> bytes:
    """The pickle of a checkpoint with two arrays and what training keeps beside them."""

    def tensor(key: str, shape: tuple, strides: tuple) -> _Named:
        kind = "FloatStorage" if key == "0" else "LongStorage"
        values = _Storage(("storage", _Named("torch", kind), key, "cpu", VALUES[key].size, *view))
        arguments = (values, 0, shape, strides, False, _Named("collections", "OrderedDict"))
        return _Named("torch._utils", "_rebuild_tensor_v2", *arguments)

    state = {"weight": tensor("0", (2, 3), (3, 1)), "count": tensor("1", (2,), (2,))}
    beside = {"epoch": 3, "args": _Named("argparse", "Namespace"), "rate": [0.1, None, True]}
    return pickled({"state_dict": state, **beside})


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    _Writer(stream, 2).dump(value)
    return stream.getvalue()


def zipped(content: bytes, values: dict[str, bytes] | None = None) -> bytes:
    values = values or {key: array.tobytes() for key, array in VALUES.items()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for key, data in values.items():
            archive.writestr(f"archive/data/{key}", data)
    return stream.getvalue()


def legacy(content: bytes) -> bytes:
    parts = [pickled(value) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [content, pickled(list(VALUES))]
    for array in VALUES.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


def weights() -> dict[str, list[bytes]]:
    named = {"weight": VALUES["0"].reshape(2, 3), "half": np.ones(3, jnp.bfloat16)}
    return {
        "safetensors": [safetensors.numpy.save(named, {"about": "x" * 40})],
        "PyTorch, zip": [zipped(instructions())],
        "PyTorch, before zip": [legacy(instructions(None))],
        # These two are pickles, which are wrapped when they are damaged.
        "pickle in a zip": [instructions()],
        "pickle of before": [instructions(None)],
    }


# What is done to them.


def _place(draws: np.random.Generator, content: bytearray) -> int:
    """Headers are first, and few: half of the places are among the first 64 bytes."""
    end = min(64, len(content)) if draws.random() < 0.5 else len(content)
    return int(draws.integers(max(end, 1)))


def truncated(draws: np.random.Generator, content: bytearray, _: bytes) -> None:
    del content[_place(draws, content) :]


def bit_flipped(draws: np.random.Generator, content: bytearray, _: bytes) -> None:
    for _count in range(int(draws.integers(1, 9))):
        if content:
            content[_place(draws, content)] ^= 1 << int(draws.integers(8))


def overwritten(draws: np.random.Generator, content: bytearray, _: bytes) -> None:
    """With numbers at which counts, offsets and sizes go over."""
    number = int(draws.choice([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
    width, order = int(draws.choice([1, 2, 4])), str(draws.choice(["little", "big"]))
    start = _place(draws, content)
    content[start : start + width] = (number % 256**width).to_bytes(width, order)


def cut_out(draws: np.random.Generator, content: bytearray, _: bytes) -> None:
    start = _place(draws, content)
    del content[start : start + int(draws.integers(1, 17))]


def repeated(draws: np.random.Generator, content: bytearray, _: bytes) -> None:
    start = _place(draws, content)
    part = content[start : start + int(draws.integers(1, 65))]
    content[start:start] = part * int(draws.integers(1, 9))


def filled_in(draws: np.random.Generator, content: bytearray, _: bytes) -> None:
    start = _place(draws, content)
    content[start:start] = draws.bytes(int(draws.integers(1, 17)))


def spliced(draws: np.random.Generator, content: bytearray, other: bytes) -> None:
    content[_place(draws, content) :] = other[int(draws.integers(len(other) + 1)) :]


DAMAGES = (truncated, bit_flipped, overwritten, cut_out, repeated, filled_in, spliced)


def damaged(seeds: list[bytes], draws: np.random.Generator) -> bytes:
    """One of the files, damaged once to three times."""
    content = bytearray(seeds[int(draws.integers(len(seeds)))])
    other = seeds[int(draws.integers(len(seeds)))]
    for _ in range(int(draws.integers(1, 4))):
        DAMAGES[int(draws.integers(len(DAMAGES)))](draws, content, other)
    return bytes(content)


def with_check_sums(png: bytes) -> bytes:
    """The chunks of a damaged PNG with right check sums, behind which the reader looks further."""
    parts, start = [png[:8]], 8
    while start + 12 <= len(png):
        (length,) = struct.unpack(">I", png[start : start + 4])
        body = png[start + 4 : start + 8 + min(length, len(png))]
        parts += [png[start : start + 4], body, struct.pack(">I", zlib.crc32(body))]
        start += 12 + length
    return b"".join(parts) + png[start:]


def of_opcodes(draws: np.random.Generator) -> bytes:
    """A pickle of instructions at random, among which those that PyTorch writes are frequent."""
    names = ["torch.FloatStorage", "collections.OrderedDict", "os.system", "torch._utils._rebuild"]
    content = bytearray(b"\x80\x02")
    for _ in range(int(draws.integers(1, 60))):
        opcode = pickletools.opcodes[int(draws.integers(len(pickletools.opcodes)))]
        if opcode.name in ("STOP", "PROTO", "FRAME"):
            continue
        content += opcode.code.encode("latin1")
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(draws.choice(names)).rpartition(".")
            content += f"{module}\n{name}\n".encode()
        elif opcode.arg is not None:
            size = opcode.arg.n
            if size >= 0:
                content += bytes(int(draws.choice([0, 1, 2, 255])) for _ in range(size))
            elif size == pickletools.UP_TO_NEWLINE:
                content += b"%d\n" % draws.integers(-9, 99)
            else:
                width = {
                    pickletools.TAKEN_FROM_ARGUMENT1: 1,
                    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
                }.get(size, 4)
                length = int(draws.choice([0, 3, 3, 3, 255, 2**31 - 1]))
                content += (length % 256**width).to_bytes(width, "little") + draws.bytes(3)
    return bytes(content) + b"."


# Files that say more than they hold.


def _chunk(kind: bytes, content: bytes) -> bytes:
    sum_ = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + sum_


def _png(width: int, height: int, bits: int, color: int, *chunks: bytes, row: int = 0) -> bytes:
    """A picture of zeros, of which only so many bytes a row are there."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(row + 1)) for _ in range(height)) if row else b""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    data = _chunk(b"IDAT", rows + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + _chunk(b"IEND", b"")


def _tiff(width: int, height: int, **entries: int) -> bytes:
    """A picture in one strip that is not there."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 8}
    tags |= {int(tag[1:]): value for tag, value in entries.items()}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4)


def picture_bombs() -> Iterator[bytes]:
    side = 2**14
    # As much as is decoded at most, from a file of 33 kB: one bit a pixel, and all are black.
    yield _png(side, side, 1, 0, row=side // 8)
    for huge in (side + 1, 2**16 - 1, 2**31 - 1):
        yield _png(huge, huge, 16, 6)
        yield _tiff(huge, huge)
        yield f"P6 {huge} {huge} 255\n".encode()
        yield b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, huge, huge, 1, 24, *[0] * 6)
        sides = struct.pack("<HH", huge % 2**16, huge % 2**16)
        yield b"GIF89a" + sides + b"\0\0\0," + bytes(4) + sides + b"\0\x02\x02\x44\x01\0;"
    swelling = zlib.compress(bytes(2**26), 9)
    yield _png(2, 2, 8, 0, _chunk(b"zTXt", b"about\0\0" + swelling), row=2)
    yield _png(2, 2, 8, 0, _chunk(b"iCCP", b"about\0\0" + swelling), row=2)
    yield _png(2, 2, 8, 0, *[_chunk(b"tEXt", b"about\0" + b"x" * 1000)] * 10_000, row=2)
    # A directory that is followed by itself, and one of which every value is huge.
    yield _tiff(4, 4)[:-4] + struct.pack("<I", 8)
    yield _tiff(4, 4, t278=2**32 - 1, t279=2**32 - 1, t273=2**32 - 1)
    yield _tiff(4, 4, t277=2**16 - 1)
    # Frames without end, of which one is wanted.
    stream = io.BytesIO()
    PILImage.new("L", (2, 2)).save(stream, "GIF")
    start, frame = stream.getvalue()[:-1], stream.getvalue()[-1:]
    yield start + start[start.index(b",") :] * 50_000 + frame


def weight_bombs() -> Iterator[bytes]:
    tensor = instructions()[2:-1]
    text = pickle.BINUNICODE + struct.pack("<I", 4) + b"name"
    # A list of pairs, of which a dict is made for every three bytes.
    pairs = b"\x80\x02ccollections\nOrderedDict\nq\x00](" + b"K\x01K\x02\x86" * 4000 + b"e\x85q\x01"
    yield zipped(pairs + b"h\x00h\x01R0" * 4000 + b".")
    # A name of a megabyte, at a thousand keys.
    name = b"c" + b"m" * 2**20 + b"\nf\nq\x00"
    keys = b"".join(b"X" + struct.pack("<I", 4) + b"%04d" % key + b"h\x00" for key in range(1000))
    yield zipped(b"\x80\x02" + name + b"}(" + keys + b"u.")
    # The same, each time made anew of two texts.
    long = b"\x80\x04X" + struct.pack("<I", 2**20) + b"m" * 2**20 + b"q\x000"
    yield zipped(long + b"](" + b"h\x00h\x00\x93" * 1000 + b"e.")
    # A key of a megabyte, and one that is told with its values.
    yield zipped(b"\x80\x02}(X" + struct.pack("<I", 2**20) + b"k" * 2**20 + b"K\x01u.")
    yield zipped(b"\x80\x02" + tensor + b"0" + text * 10_000 + b".")
    # Nested, and numbers of many digits.
    yield zipped(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    yield zipped(b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".")
    yield zipped(b"L" + b"9" * 200_000 + b"L\n.")
    yield zipped(b"\x80\x02\x8b" + struct.pack("<I", 200_000) + b"\x7f" * 200_000 + b".")
    yield zipped(b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b".")
    # Entries that lie over each other: each is as long as the file.
    yield _overlapping(instructions(), 200, 2**20)
    header = b'{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}'
    for size in (2**20, 2**40, 2**62):
        text = header % (size, 4 * size)
        yield struct.pack("<Q", len(text)) + text
        yield struct.pack("<Q", size) + text
    yield struct.pack("<Q", 200_001) + b"{" + b"[" * 200_000


def _overlapping(content: bytes, count: int, size: int) -> bytes:
    """An archive whose directory names one entry many times."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        tensors = []
        for key in range(count):
            values = _Storage(("storage", _Named("torch", "ByteStorage"), str(key), "cpu", size))
            arguments = (values, 0, (size,), (1,), False, _Named("collections", "OrderedDict"))
            tensors.append(_Named("torch._utils", "_rebuild_tensor_v2", *arguments))
        state = {str(key): tensor for key, tensor in enumerate(tensors)}
        archive.writestr("archive/data.pkl", pickled(state))
        archive.writestr("archive/data/0", bytes(size))
        one = archive.getinfo("archive/data/0")
        for key in range(1, count):
            again = zipfile.ZipInfo(f"archive/data/{key}")
            for name in ("header_offset", "CRC", "file_size", "compress_size"):
                setattr(again, name, getattr(one, name))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    return stream.getvalue()


# What the readers must make of them.


def refused(read: Callable[[], Any], start: str) -> Any:
    """What was read, or None where the file was refused as it should be."""
    try:
        return read()
    except ValueError as error:
        complaint = error
    assert str(complaint).startswith(start), complaint
    assert len(str(complaint)) < LONGEST, f"{len(str(complaint))} characters of complaint"
    cause = complaint.__cause__
    assert not isinstance(cause, MemoryError), "it took more memory than is said"
    return None


def read_picture(content: bytes, _: Path) -> bool:
    start = f"expected an image file, got {len(content)} bytes"
    image = refused(lambda: images.read_image(content), start)
    if image is None:
        return False
    assert image.dtype == np.float32
    assert image.ndim == 3
    assert image.shape[2] == 3
    # Where one is nan the comparison is false.
    assert image.min() >= 0
    assert image.max() <= 1
    taken = CLASSIFIER.preprocess(content)
    assert taken.shape == (8, 8, 3)
    assert 0 <= taken.min() <= taken.max() <= 1
    return True


def read_sound(content: bytes, _: Path) -> bool:
    samples = refused(lambda: sound.read(io.BytesIO(content), 8000), "expected ")
    if samples is None:
        return False
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert np.isfinite(samples).all()
    return True


def read_weights(content: bytes, folder: Path) -> bool:
    path = folder / "weights"
    path.write_bytes(content)
    state = refused(lambda: models.read_state_dict(path), "expected a")
    for name, array in (state or {}).items():
        assert isinstance(name, str)
        # Every value is there to be read.
        assert len(array.tobytes()) == array.nbytes
    return state is not None


def read_classifier(content: bytes, folder: Path) -> bool:
    """Of a saved classifier one file is replaced: by what is behind its name and a zero."""
    name, _, damaged_content = content.partition(b"\0")
    path = folder / name.decode()
    model = path.relative_to(folder).parts[0]
    whole = path.read_bytes()
    path.write_bytes(damaged_content)
    try:
        found = refused(lambda: models.load(folder / model), "expected ")
    finally:
        path.write_bytes(whole)
    if found is None:
        return False
    # What is not noticed has changed nothing of the weights, and where there are checksums nothing.
    expected = CLASSIFIERS[model]()
    if model == "bundled":
        for field in ("input", "class_names", "accuracies", "training"):
            assert getattr(found, field) == getattr(expected, field)
    stored, again = (jax.tree.leaves(each.network) for each in (expected, found))
    for leaf, other in zip(stored, again, strict=True):
        assert leaf.shape == other.shape
        assert np.array_equal(leaf, other)
    return True


Reader = Callable[[bytes, Path], bool]


def inputs(
    group: str, folder: Path
) -> dict[str, tuple[Reader, Callable[[np.random.Generator], bytes]]]:
    """By format what reads it, and what makes a damaged file of random numbers."""
    if group == "classifiers":
        return {
            kind: (read_classifier, make) for kind, make in _damaged_classifiers(folder).items()
        }
    if group == "pictures":
        # As where a program has asked for it: by default a truncated file is refused at once.
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
        return {
            kind: (read_picture, _damaged_picture(kind, seeds))
            for kind, seeds in pictures().items()
        } | {"WAV": (read_sound, functools.partial(damaged, sounds()))}
    found = {}
    for kind, seeds in weights().items():
        found[kind] = (read_weights, _damaged_weights(kind, seeds))
    found["instructions"] = (read_weights, lambda draws: zipped(of_opcodes(draws)))
    return found


def _damaged_picture(kind: str, seeds: list[bytes]) -> Callable:
    def make(draws):
        content = damaged(seeds, draws)
        return with_check_sums(content) if kind == "PNG" and draws.random() < 0.7 else content

    return make


def _damaged_weights(kind: str, seeds: list[bytes]) -> Callable:
    wrap = {"pickle in a zip": zipped, "pickle of before": legacy}.get(kind, bytes)
    return lambda draws: wrap(damaged(seeds, draws))


def sounds() -> list[bytes]:
    values = np.sin(np.arange(40.0))
    files = [sound.encode_wav(values, 8000), sound.encode_wav(values, 16000)]
    for kind in (np.uint8, np.int32, np.float32):
        stream = io.BytesIO()
        scipy.io.wavfile.write(stream, 8000, (100 * values[:, None]).astype(kind).repeat(2, 1))
        files.append(stream.getvalue())
    return files


def small_classifier() -> models.Classifier:
    network = models.PreActResNet((1,), 2, width=1, stem_width=1, rngs=nnx.Rngs(0))
    return models.Classifier("small", network, models.Input("image", (4, 4)), ("a", "b"))


# By the name of its folder.
CLASSIFIERS = {
    "bundled": functools.cache(lambda: models.load("radio-modulations")),
    "former": functools.cache(small_classifier),
}


def _damaged_classifiers(folder: Path) -> dict[str, Callable]:
    """One folder with checksums, and one as it was before there were any."""
    shutil.copytree(BUNDLED / CLASSIFIERS["bundled"]().name, folder / "bundled")
    models.save(CLASSIFIERS["former"](), folder / "former")
    (folder / "former" / "SHA256SUMS").unlink()
    config = (folder / "former" / "config.json").read_bytes()

    def of_config(draws):
        content = (
            changed_config(config, draws) if draws.random() < 0.5 else damaged([config], draws)
        )
        return b"former/config.json\0" + content

    def of_files(pattern):
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        contents = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in files
            if path.name != "card.md"
        }

        def make(draws):
            name = str(draws.choice(list(contents)))
            return name.encode() + b"\0" + damaged([contents[name]], draws)

        return make

    return {
        "bundled": of_files("bundled/**/*"),
        "config.json": of_config,
        "former weights": of_files("former/weights/**/*"),
    }


def changed_config(config: bytes, draws: np.random.Generator) -> bytes:
    """The config with one of its values replaced by another one of JSON's, or left out."""
    tree = json.loads(config)
    within = tree
    while True:
        name = str(draws.choice(list(within)))
        if not (isinstance(within[name], dict) and within[name]) or draws.random() < 0.2:
            break
        within = within[name]
    others = [None, True, -1, 0, 0.5, 1, 2, 65536, 10**9, 10**30, 1e300, "", "x", [], [1], {}]
    others += [[1, "x"], [[]], {"x": 1}, float("nan"), float("inf"), [10**9], [2] * 100]
    if draws.random() < 0.1:
        del within[name]
    else:
        within[name] = others[int(draws.integers(len(others)))]
    return json.dumps(tree).encode()


def classifier_bombs() -> Iterator[bytes]:
    config = {"format": 2, "network": "saliency_jax.models.ResNet", "class_names": []}
    yield b"former/config.json\0" + b"[" * 200_000
    yield b"former/config.json\0" + b'{"format": ' + b"9" * 200_000 + b"}"
    settings = {"depth": 18, "num_classes": 2, "width": 2}
    for name in ("width", "num_classes", "channels", "widening"):
        given = {"settings": settings | {name: 10**9}, "accuracies": {}, "training": {}}
        for taken in ({"channels": 10**9}, {}):
            entry = {"input": {"kind": "image", "size": [4, 4]} | taken}
            yield b"former/config.json\0" + json.dumps(config | given | entry).encode()
    deep = {"network": "saliency_jax.models.PreActResNet", "settings": {"blocks": [10**9]}}
    yield b"former/config.json\0" + json.dumps(config | given | entry | deep).encode()
    long = deep | {"settings": {"blocks": [2] * 100, "num_classes": 2}}
    yield b"former/config.json\0" + json.dumps(config | given | entry | long).encode()
    names = {"class_names": "x" * 10**6, "accuracies": [["x", "y"]] * 10**5}
    yield b"former/config.json\0" + json.dumps(config | given | entry | names).encode()


BOMBS: dict[str, tuple[Callable[[], Iterator[bytes]], Reader]] = {
    "pictures": (picture_bombs, read_picture),
    "weights": (weight_bombs, read_weights),
    "classifiers": (classifier_bombs, read_classifier),
}


def bounded(size: int) -> None:
    """From here on the process may take so many bytes more."""
    with open("/proc/self/statm") as counts:
        now = int(counts.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, now + size))


def main(group: str, count: int, seed: int = 0) -> None:
    """Tries `count` damaged files of every format of a group, and the bombs; prints what came."""
    warnings.simplefilter("ignore")
    bombs, read_any = BOMBS[group]
    with tempfile.TemporaryDirectory() as folder:
        made = inputs(group, Path(folder))
        bounded(MOST[group])
        for kind, (read, make) in made.items():
            draws = np.random.default_rng([seed, zlib.crc32(kind.encode())])
            times = count // FEWER.get(kind, 1)
            _tried(kind, read, (make(draws) for _ in range(times)), Path(folder))
        _tried("bombs", read_any, bombs(), Path(folder))


def _tried(kind: str, read: Reader, contents: Iterator[bytes], folder: Path) -> None:
    told = {"format": kind, "inputs": 0, "read": 0, "slowest": 0.0}
    for content in contents:
        faulthandler.dump_traceback_later(LONGEST_WAIT, exit=True)
        start, worked = time.perf_counter(), time.process_time()
        try:
            told["read"] += read(content, folder)
            assert time.process_time() - worked < SECONDS
        except BaseException:
            print(f"{kind}, input {told['inputs']}: {content[:400]!r}", file=sys.stderr)
            raise
        told["inputs"] += 1
        told["slowest"] = max(told["slowest"], round(time.perf_counter() - start, 3))
    faulthandler.cancel_dump_traceback_later()
    told["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
