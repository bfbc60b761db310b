"""Photographs from files, and their way to the size that a model takes."""

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np
from jaxtyping import Array, Float
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from .._validation import check_count, check_image

# Above this an image is reduced while it is read: 200 MB as float32, and far beyond any model.
MAX_PIXELS = 4096 * 4096
# Above this it is refused: decoding takes up to 4 bytes a pixel before anything can be reduced.
MAX_DECODED_PIXELS = 16 * MAX_PIXELS

# The value of white in Pillow's modes beyond 8 bits.
_UNITS = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535, "I": 65535, "F": 1}

_PIL_LIMIT = threading.Lock()


def read_image(path: str | os.PathLike) -> Float[np.ndarray, "h w 3"]:
    """The photograph in a file, upright and in three channels.

    Grey levels are repeated, palettes looked up, 16-bit values scaled (those of colour images to
    8 bits first), transparent parts laid over white, the camera's orientation (EXIF) applied, and
    of an animation the first frame is taken. Colour profiles are not applied. An image above
    `MAX_PIXELS` comes reduced to that many, in its proportions.

    Args:
        path: A file in any format that Pillow reads: JPEG, PNG, GIF, WebP, TIFF, BMP ...

    Returns:
        The image (h, w, 3), float32 in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, is damaged, or has over `MAX_DECODED_PIXELS`.

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
    if not os.path.exists(path):
        raise FileNotFoundError(f"expected an image file, got no file at {os.fspath(path)}")
    try:
        with _any_size(), PILImage.open(path) as picture:
            return _float_pixels(_decoded(picture))
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error ...
    except Exception as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"expected an image file, got {os.fspath(path)} ({reason})") from error


def fit(
    image: Float[Array, "h w c"] | Float[np.ndarray, "h w c"], size: int | tuple[int, int]
) -> Float[np.ndarray, "height width c"]:
    """The largest centred window of the wanted proportions, resized.

    For a square this resizes the short side and crops the centre. The triangle filter widens with
    the reduction, so that nothing aliases, and never leaves the range of the image's values.

    Args:
        image: One image (h, w, c) in any range.
        size: The wanted side, or (height, width), in pixels.

    Returns:
        The image (height, width, c), float32; unchanged if it has the size already.

    Raises:
        ValueError: If the image is not (h, w, c) and finite, or the size below 1.
        TypeError: If the image does not hold floats.

    Example:
        >>> import numpy as np
        >>> fit(np.full((48, 64, 3), 0.5, np.float32), 32).shape
        (32, 32, 3)
    """
    check_image(image)
    shape = height_and_width(size)
    channels = np.moveaxis(np.asarray(image, np.float32), -1, 0)
    fitted = [fit_picture(PILImage.fromarray(channel), shape) for channel in channels]
    return np.stack([np.asarray(channel) for channel in fitted], axis=-1)


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one side or as both."""
    pair = size if isinstance(size, tuple) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"expected size to be one side or (height, width), got {size!r}")
    check_count("height", pair[0], 1)
    check_count("width", pair[1], 1)
    return int(pair[0]), int(pair[1])


def fit_picture(picture: PILImage.Image, size: tuple[int, int]) -> PILImage.Image:
    """`fit` for a Pillow image of any mode that can be resampled."""
    height, width = size
    scale = min(picture.height / height, picture.width / width)
    # The limit takes off rounding errors, which Pillow would refuse.
    window_height = min(scale * height, picture.height)
    window_width = min(scale * width, picture.width)
    top = (picture.height - window_height) / 2
    left = (picture.width - window_width) / 2
    window = (left, top, left + window_width, top + window_height)
    return picture.resize((width, height), PILImage.Resampling.BILINEAR, box=window)


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Lifts Pillow's own limit, which refuses images that `_decoded` reads by reducing them."""
    with _PIL_LIMIT:
        limit, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PILImage.MAX_IMAGE_PIXELS = limit


def _decoded(picture: PILImage.Image) -> PILImage.Image:
    """Decoded, upright, at most MAX_PIXELS, in mode L, RGB, RGBA or F, the last in [0, 1]."""
    # Of the formats only JPEG can decode at a fraction of its size; the others ignore this.
    picture.draft(None, _reduced(picture))
    if picture.width * picture.height > MAX_DECODED_PIXELS:
        raise ValueError(
            f"expected at most {MAX_DECODED_PIXELS:,} pixels, "
            f"got {picture.width}x{picture.height}; reduce it first"
        )
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in _UNITS:
        picture = _in_unit_range(picture)
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
    elif picture.mode != "L":
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return picture.resize(_reduced(picture), PILImage.Resampling.BILINEAR)


def _reduced(picture: PILImage.Image) -> tuple[int, int]:
    """(width, height) with at most MAX_PIXELS."""
    factor = max(1.0, picture.width * picture.height / MAX_PIXELS) ** 0.5
    return max(1, int(picture.width / factor)), max(1, int(picture.height / factor))


def _in_unit_range(picture: PILImage.Image) -> PILImage.Image:
    values = np.asarray(picture, np.float32) / np.float32(_UNITS[picture.mode])
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"expected values in 0 .. {_UNITS[picture.mode]}, "
            f"got {np.asarray(picture).min()} .. {np.asarray(picture).max()}"
        )
    return PILImage.fromarray(values)


def _float_pixels(picture: PILImage.Image) -> Float[np.ndarray, "h w 3"]:
    values = np.asarray(picture, np.float32)
    if picture.mode != "F":
        values = values / np.float32(255)
    if picture.mode == "RGBA":
        colour, alpha = values[..., :3], values[..., 3:]
        return colour * alpha + (1 - alpha)
    return values if picture.mode == "RGB" else np.repeat(values[..., None], 3, axis=-1)
