"""Photographs from files, and their way to the size that a model takes.

All pictures of the library come through `decode`, alone or in a folder, so that what is explained
is what was trained on.

What means the same everywhere here:

  file: a path, an open binary file, a file's bytes, or a PIL image, in any format that Pillow
    reads: JPEG, PNG, GIF, WebP, TIFF, BMP ...
  size: the wanted side, or (height, width), in pixels.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

from ._validation import check_count, check_image, check_instance


@runtime_checkable
class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


PictureFile = str | os.PathLike | bytes | BinaryFile | PILImage.Image
Size = int | tuple[int, int]
Pixels = UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]

# Above this an image is reduced while it is read: 200 MB as float32, and far beyond any model.
MAX_PIXELS = 4096 * 4096
# Above this it is refused: decoding takes up to 4 bytes a pixel before anything can be reduced.
MAX_DECODED_PIXELS = 16 * MAX_PIXELS

# The value of white in Pillow's modes beyond 8 bits.
_UNITS = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535, "I": 65535, "F": 1}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# What turns a picture upright that a camera held in this way has stored: EXIF 2.3, section 4.6.4.
_TURNS = {
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}

_PIL_LIMIT = threading.Lock()


def read_image(file: PictureFile) -> Float[np.ndarray, "h w 3"]:
    """The photograph in a file, upright and in three channels.

    The values of `decode`, those of 8 bits over 255.

    Args:
      file: see the module.

    Returns:
      The image (h, w, 3), float32 in [0, 1].

    Raises:
      FileNotFoundError: there is no such file.
      TypeError: it is no path, open binary file, bytes or PIL image.
      ValueError: the file is no image, is damaged, or has over `MAX_DECODED_PIXELS`.

    Example:
      >>> import pathlib, tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "grey.png")
      ...     Image.new("L", (4, 3), 255).save(path)
      ...     image = read_image(path)
      >>> image.shape, float(image.min())
      ((3, 4, 3), 1.0)
    """
    return in_unit_range(decode(file))


def decode(file: PictureFile, *, channels: int = 3, size: Size | None = None) -> Pixels:
    """The pixels of a picture, upright.

    Grey levels are repeated, palettes looked up, 16-bit values scaled (those of colour images to
    8 bits first), the camera's orientation (EXIF) applied where it can be read, and of an animation
    the first frame is taken. Transparent parts are laid over white, unless four channels are
    wanted. Colour profiles are not applied. An image above `MAX_PIXELS` comes reduced to that many,
    in its proportions.

    Args:
      file: see the module.
      channels: 1 for grey, 3 for red, green and blue, 4 for these and the opacity.
      size: see the module; what the picture is brought to, as by `fit`. None keeps its own.

    Returns:
      The pixels (h, w, channels): uint8 of a picture that has 8 bits and nothing laid over white,
      otherwise float32 in [0, 1].

    Raises:
      FileNotFoundError: there is no such file.
      TypeError: it is no path, open binary file, bytes or PIL image, or a number is no integer.
      ValueError: the file is no image, is damaged, or has over `MAX_DECODED_PIXELS`; or a number is
        out of range.

    Example:
      >>> import numpy as np
      >>> from PIL import Image
      >>> decode(Image.new("L", (4, 3), 7)).dtype, decode(Image.new("I;16", (4, 3), 1000)).dtype
      (dtype('uint8'), dtype('float32'))
    """
    if check_count("channels", channels, 1) not in _MODES:
        raise ValueError(f"expected channels to be 1, 3 or 4, got {channels!r}")
    shape = None if size is None else height_and_width(size)
    named = _name(file)
    if isinstance(file, str | os.PathLike) and not os.path.exists(file):
        raise FileNotFoundError(f"expected an image file, got no file at {named}")
    try:
        with _opened(file) as picture:
            return _pixels(_decoded(picture), channels, shape)
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error ...
    except Exception as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"expected an image file, got {named} ({reason})") from error


def in_unit_range(
    pixels: UInt8[np.ndarray, "*shape"] | Float[np.ndarray, "*shape"],
) -> Float[np.ndarray, "*shape"]:
    """Pixels as floats: those of 8 bits over 255, and floats as they are.

    Args:
      pixels: of any shape, as of `decode`.

    Returns:
      The same in [0, 1], float32.

    Example:
      >>> import numpy as np
      >>> print(in_unit_range(np.array([[[0], [51], [255]]], np.uint8)).squeeze())
      [0.  0.2 1. ]
    """
    check_instance("pixels", pixels, np.ndarray, "an array of NumPy's")
    if pixels.dtype != np.uint8:
        return pixels
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def fit(
    image: Float[Array, "h w c"] | Float[np.ndarray, "h w c"], size: Size
) -> Float[np.ndarray, "height width c"]:
    """The largest centred window of the wanted proportions, resized.

    For a square this resizes the short side and crops the centre. The triangle filter widens with
    the reduction, so that nothing aliases, and never leaves the range of the image's values.

    Args:
      image: one image (h, w, c) in any range.
      size: see the module.

    Returns:
      The image (height, width, c), float32; unchanged if it has the size already.

    Raises:
      ValueError: the image is not (h, w, c) and finite, or the size is below 1.
      TypeError: the image does not hold floats, or the size no integers.

    Example:
      >>> import numpy as np
      >>> fit(np.full((48, 64, 3), 0.5, np.float32), 32).shape
      (32, 32, 3)
    """
    check_image(image)
    shape = height_and_width(size)
    with np.errstate(over="ignore"):
        single = np.asarray(image, np.float32)
    check_image(single)
    channels = np.moveaxis(single, -1, 0)
    fitted = [_fitted(PILImage.fromarray(channel), shape) for channel in channels]
    return np.stack([np.asarray(channel) for channel in fitted], axis=-1)


def height_and_width(size: Size) -> tuple[int, int]:
    """(height, width) of a size given as one side or as both.

    Args:
      size: one side of a square, or (height, width), in pixels.

    Returns:
      Both as integers.

    Raises:
      TypeError: a side is no integer.
      ValueError: there are not two, or one is below 1.

    Example:
      >>> height_and_width(32)
      (32, 32)
    """
    pair = size if isinstance(size, tuple) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"expected size to be one side or (height, width), got {size!r}")
    check_count("height", pair[0], 1)
    check_count("width", pair[1], 1)
    return int(pair[0]), int(pair[1])


def _fitted(picture: PILImage.Image, shape: tuple[int, int]) -> PILImage.Image:
    return ImageOps.fit(picture, shape[::-1], PILImage.Resampling.BILINEAR)


def _name(file: Any) -> str:
    """What an error message calls the file."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    if isinstance(file, bytes):
        return f"{len(file)} bytes"
    if isinstance(file, PILImage.Image):
        return f"a PIL image of {file.width}x{file.height}"
    if hasattr(file, "read") and not isinstance(file, io.TextIOBase):
        return str(getattr(file, "name", "an open file"))
    kind = "a file opened as text" if hasattr(file, "read") else type(file).__name__
    raise TypeError(f"expected a picture's path, open binary file, bytes or PIL image, got {kind}")


@contextlib.contextmanager
def _opened(file: PictureFile) -> Iterator[PILImage.Image]:
    """The picture, of which a file's is decoded later, and an open one stays as it is."""
    if isinstance(file, PILImage.Image):
        yield file
        return
    # Pillow's own limit refuses images that are read by reducing them.
    with _PIL_LIMIT:
        limit, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, None
        try:
            stream: Any = io.BytesIO(file) if isinstance(file, bytes) else file
            picture = PILImage.open(stream)
        finally:
            PILImage.MAX_IMAGE_PIXELS = limit
    with picture:
        # Of the formats only JPEG can decode at a fraction of its size; the others ignore this.
        picture.draft(None, _reduced(picture))
        yield picture


def _decoded(picture: PILImage.Image) -> PILImage.Image:
    """Decoded, upright, at most MAX_PIXELS, in mode L, RGB, RGBA or F, the last in [0, 1]."""
    if picture.width * picture.height > MAX_DECODED_PIXELS:
        raise ValueError(
            f"expected at most {MAX_DECODED_PIXELS:,} pixels, "
            f"got {picture.width}x{picture.height}; reduce it first"
        )
    picture.load()
    orientation = _orientation(picture)
    if orientation in _TURNS:
        picture = picture.transpose(_TURNS[orientation])
    if picture.mode in _UNITS:
        picture = _over_white_level(picture)
    else:
        grey_or_color = "L" if picture.mode in ("1", "L") else "RGB"
        mode = "RGBA" if picture.has_transparency_data else grey_or_color
        # To convert to the same mode is to copy, of the largest pictures a gigabyte.
        if picture.mode != mode:
            picture = picture.convert(mode)
    size = _reduced(picture)
    return picture if size == picture.size else picture.resize(size, PILImage.Resampling.BILINEAR)


def _orientation(picture: PILImage.Image) -> int | None:
    try:
        return picture.getexif().get(ExifTag.Orientation)
    # Damaged EXIF data make its reader stumble in many ways; the picture itself is well.
    except Exception:
        return None


def _reduced(picture: PILImage.Image) -> tuple[int, int]:
    """(width, height) with at most MAX_PIXELS."""
    factor = max(1.0, picture.width * picture.height / MAX_PIXELS) ** 0.5
    return max(1, int(picture.width / factor)), max(1, int(picture.height / factor))


def _over_white_level(picture: PILImage.Image) -> PILImage.Image:
    values = np.asarray(picture, np.float32) / np.float32(_UNITS[picture.mode])
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"expected values in 0 .. {_UNITS[picture.mode]}, "
            f"got {np.asarray(picture).min()} .. {np.asarray(picture).max()}"
        )
    return PILImage.fromarray(values)


def _pixels(picture: PILImage.Image, channels: int, shape: tuple[int, int] | None) -> Pixels:
    """The pixels of what `_decoded` returns."""
    if picture.mode == "F" or (picture.mode == "RGBA" and channels != 4):
        values = _float_pixels(picture, channels)
        return values if shape is None else fit(values, shape)
    picture = picture.convert(_MODES[channels])
    pixels = np.asarray(picture if shape is None else _fitted(picture, shape))
    return pixels[..., None] if channels == 1 else pixels


def _float_pixels(picture: PILImage.Image, channels: int) -> Float[np.ndarray, "h w c"]:
    if picture.mode == "F":
        grey = np.asarray(picture)[..., None]
        colors = np.repeat(grey, min(channels, 3), axis=-1)
        return colors if channels < 4 else np.concatenate([colors, np.ones_like(grey)], axis=-1)
    values = in_unit_range(np.asarray(picture.convert("LA") if channels == 1 else picture))
    alpha = values[..., -1:]
    return values[..., :-1] * alpha + (1 - alpha)
