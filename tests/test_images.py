"""Photographs: every kind of file reads right, every broken one gives one clear line."""

import io
import struct
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image

from saliency_jax import images
from saliency_jax.images import decode, fit, read_image


def gradient(height: int = 12, width: int = 20) -> np.ndarray:
    """Red grows downwards, green to the right, so that an image shows which way up it is."""
    rows = np.linspace(0, 255, height).astype(np.uint8)
    columns = np.linspace(0, 255, width).astype(np.uint8)
    red, green = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([red, green, np.full_like(red, 77)], axis=-1)


def saved(folder: Path, picture: Image.Image, name: str, **options: object) -> Path:
    picture.save(folder / name, **options)
    return folder / name


def check(image: np.ndarray, expected: np.ndarray, atol: float = 1e-6) -> None:
    assert image.dtype == np.float32
    assert image.ndim == 3
    assert image.shape[-1] == 3
    assert 0 <= image.min() <= image.max() <= 1
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=atol)


# Kinds of files.


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "A.PNG"])
def test_colour(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(gradient()), name)
    check(read_image(path), gradient() / 255)
    check(read_image(str(path)), gradient() / 255)


def test_jpeg_and_webp(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.webp"):
        path = saved(tmp_path, Image.fromarray(gradient(48, 64)), name, quality=95)
        check(read_image(path), gradient(48, 64) / 255, atol=0.06)


def test_the_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(gradient()), "a.png").rename(tmp_path / "a.jpg")
    check(read_image(path), gradient() / 255)


def test_grey(tmp_path: Path) -> None:
    grey = gradient()[..., 1]
    check(read_image(saved(tmp_path, Image.fromarray(grey), "a.png")), grey[..., None] / 255)


def test_black_and_white(tmp_path: Path) -> None:
    bits = gradient()[..., 1] > 100
    path = saved(tmp_path, Image.fromarray(bits), "a.png")
    check(read_image(path), bits[..., None].astype(float))


def test_palette(tmp_path: Path) -> None:
    picture = Image.new("P", (20, 12), 1)
    picture.putpalette([9, 9, 9, 250, 128, 3])
    for name in ("a.png", "a.gif"):
        check(read_image(saved(tmp_path, picture, name)), np.array([250, 128, 3]) / 255)


def test_16_bit_grey(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 240).astype(np.uint16).reshape(12, 20)
    for name in ("a.png", "a.tiff", "a.pgm"):
        path = saved(tmp_path, Image.fromarray(levels), name)
        check(read_image(path), levels[..., None] / 65535)


def test_16_bit_colour(tmp_path: Path) -> None:
    """Written by hand, because Pillow cannot write one: 3 channels of 16 bits, one row filter."""
    levels = np.stack([gradient().astype(">u2") * 257], axis=0)[0]
    rows = b"".join(b"\0" + row.tobytes() for row in levels.astype(">u2"))

    def chunk(kind: bytes, content: bytes) -> bytes:
        check_sum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check_sum

    header = struct.pack(">IIBBBBB", 20, 12, 16, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    check(read_image(path), gradient() / 255, atol=1 / 255)


def test_float_tiff(tmp_path: Path) -> None:
    levels = np.linspace(0, 1, 240, dtype=np.float32).reshape(12, 20)
    check(read_image(saved(tmp_path, Image.fromarray(levels), "a.tiff")), levels[..., None])
    path = saved(tmp_path, Image.fromarray(3 * levels), "b.tiff")
    with pytest.raises(ValueError, match=r"expected an image file, got .*b.tiff .*0 .. 1"):
        read_image(path)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    alpha = np.full((12, 20, 1), 51, np.uint8)
    alpha[:, :10] = 255
    expected = gradient() / 255 * (alpha / 255) + (1 - alpha / 255)
    picture = Image.fromarray(np.concatenate([gradient(), alpha], axis=-1))
    check(read_image(saved(tmp_path, picture, "a.png")), expected)
    grey = Image.fromarray(np.concatenate([gradient()[..., :1], alpha], axis=-1))
    check(read_image(saved(tmp_path, grey, "b.png")), expected[..., :1])


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (20, 12), 1)
    picture.putpalette([9, 9, 9, 250, 128, 3])
    picture.paste(0, (0, 0, 10, 12))
    expected = np.tile(np.array([250, 128, 3]) / 255, (12, 20, 1))
    expected[:, :10] = 1
    for name in ("a.png", "a.gif"):
        check(read_image(saved(tmp_path, picture, name, transparency=0)), expected)


def test_cmyk(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (20, 12), (0, 255, 255, 0))
    check(read_image(saved(tmp_path, picture, "a.jpg")), np.array([1.0, 0, 0]), atol=0.02)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 12), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    check(read_image(path), np.array([1.0, 0, 0]))


# How a camera that was held so stores the upright image, for the eight EXIF orientations.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff"])
def test_exif_orientation(orientation: int, name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](gradient(48, 80)))
    path = saved(tmp_path, Image.fromarray(stored), name, exif=exif)
    image = read_image(path)
    assert image.shape == (48, 80, 3)
    check(image, gradient(48, 80) / 255, atol=0.06 if name == "a.jpg" else 1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg"])
def test_a_picture_with_broken_exif_is_read_unturned(name: str, tmp_path: Path) -> None:
    exif = b"Exif\0\0broken metadata"
    path = saved(tmp_path, Image.fromarray(gradient(48, 80)), name, exif=exif)
    check(read_image(path), gradient(48, 80) / 255, atol=0.06 if name != "a.png" else 1e-6)


def test_an_orientation_that_is_none_is_passed_over(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    check(
        read_image(saved(tmp_path, Image.fromarray(gradient()), "a.png", exif=exif)),
        gradient() / 255,
    )


# From where they come.


def test_a_path_an_open_file_bytes_and_a_picture_are_the_same_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(gradient(48, 80)), "a.jpg", exif=exif)
    expected = read_image(path)
    assert expected.shape == (80, 48, 3)
    np.testing.assert_array_equal(read_image(path.read_bytes()), expected)
    np.testing.assert_array_equal(read_image(io.BytesIO(path.read_bytes())), expected)
    with path.open("rb") as file:
        file.read(7)
        np.testing.assert_array_equal(read_image(file), expected)
        assert not file.closed
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_image(picture), expected)
        # It stays as it was.
        assert picture.size == (80, 48)
        assert picture.getexif()[0x0112] == 6
        np.testing.assert_array_equal(read_image(picture), expected)


def test_16_bits_have_their_own_unit() -> None:
    levels = np.full((2, 3), 1000, np.uint16)
    check(read_image(Image.fromarray(levels)), np.float32(1000 / 65535))


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("file", [7, None, np.zeros((2, 2, 3)), io.StringIO("text")])
def test_what_is_no_file_is_named(file: object) -> None:
    with pytest.raises(TypeError, match="expected a picture's path, open binary file, bytes or"):
        read_image(file)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"hello", r"got 5 bytes \(not an image\)"),
        (io.BytesIO(b"hello"), r"got an open file \(not an image\)"),
        (Image.new("F", (2, 1), 3.0), r"got a PIL image of 2x1 \(expected values in 0 .. 1"),
    ],
)
def test_what_is_no_image_is_named_by_what_it_came_in(file: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"expected an image file, {message}"):
        read_image(file)


# Pixels as they are stored.


def test_decoding_keeps_8_bits_and_other_channels() -> None:
    color, grey = Image.fromarray(gradient()), Image.fromarray(gradient()[..., 1])
    np.testing.assert_array_equal(decode(color), gradient())
    assert decode(color).dtype == np.uint8
    np.testing.assert_array_equal(decode(grey), np.repeat(gradient()[..., 1:2], 3, axis=-1))
    np.testing.assert_array_equal(decode(grey, channels=1), gradient()[..., 1:2])
    # ITU-R BT.601's luminance.
    np.testing.assert_allclose(
        decode(color, channels=1)[..., 0], gradient() @ [0.299, 0.587, 0.114], atol=1
    )
    opaque = decode(color, channels=4)
    np.testing.assert_array_equal(opaque[..., :3], gradient())
    assert (opaque[..., 3] == 255).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_decoding_to_any_number_of_channels(channels: int) -> None:
    deep = Image.fromarray(np.full((2, 3), 1000, np.uint16))
    expected = np.full((2, 3, channels), 1000 / 65535, np.float32)
    expected[..., 3:] = 1
    np.testing.assert_allclose(decode(deep, channels=channels), expected, rtol=1e-6)
    # One fifth opaque.
    clear = Image.new("LA", (3, 2), (100, 51))
    pixels = decode(clear, channels=channels)
    if channels == 4:
        np.testing.assert_array_equal(pixels, np.tile([100, 100, 100, 51], (2, 3, 1)))
    else:
        np.testing.assert_allclose(pixels, 100 / 255 / 5 + 4 / 5, rtol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "LA", "RGBA", "I;16", "F", "CMYK"])
def test_decoding_to_a_size_is_fitting(mode: str) -> None:
    """To within the rounding to 8 bits, where pictures have no more."""
    if mode in ("I;16", "F"):
        levels = np.random.default_rng(0).random((31, 53)).astype(np.float32)
        picture = Image.fromarray(levels if mode == "F" else (65535 * levels).astype(np.uint16))
    else:
        picture = Image.fromarray(gradient(31, 53)).convert(mode)
    if picture.mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(gradient(31, 53)[..., 1]))
    expected = fit(read_image(picture), (12, 9))
    pixels = decode(picture, size=(12, 9))
    atol = 1.1 / 255 if pixels.dtype == np.uint8 else 0
    np.testing.assert_allclose(images.in_unit_range(pixels), expected, atol=atol)


def test_channels_that_no_picture_has_are_refused() -> None:
    with pytest.raises(ValueError, match="expected channels to be 1, 3 or 4, got 2"):
        decode(b"", channels=2)


# Large images.


def test_a_200_megapixel_jpeg(tmp_path: Path) -> None:
    # Half black, half white: four bytes a pixel would be 800 MB, and Pillow's own limit refuses it.
    picture = Image.new("L", (20000, 10000))
    picture.paste(255, (10000, 0, 20000, 10000))
    path = saved(tmp_path, picture, "a.jpg")
    image = read_image(path)
    height, width, _ = image.shape
    assert 0.9 * images.MAX_PIXELS < height * width <= images.MAX_PIXELS
    assert width == pytest.approx(2 * height, abs=2)
    np.testing.assert_allclose(image[:, : width // 2 - 8], 0, atol=0.01)
    np.testing.assert_allclose(image[:, width // 2 + 8 :], 1, atol=0.01)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_an_image_above_the_limit_is_reduced(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 60 * 100)
    white = 65535 if mode == "I;16" else "white"
    picture = Image.new(mode, (300, 180), white) if mode != "P" else Image.new("P", (300, 180), 0)
    if mode == "P":
        picture.putpalette([255, 255, 255])
    image = read_image(saved(tmp_path, picture, "a.png"))
    assert image.shape == (60, 100, 3)
    np.testing.assert_allclose(image, 1, atol=1e-6)


def test_reducing_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 16 * 16)
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    image = read_image(saved(tmp_path, Image.fromarray(board), "a.png"))
    np.testing.assert_allclose(image, 0.5, atol=0.01)


def test_an_image_that_cannot_be_reduced_in_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_DECODED_PIXELS", 10_000)
    path = saved(tmp_path, Image.new("L", (200, 100)), "a.png")
    with pytest.raises(ValueError, match=r"a\.png \(expected at most 10,000 pixels, got 200x100"):
        read_image(path)


def test_pillows_own_limit_is_as_before(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    read_image(saved(tmp_path, Image.new("L", (2, 2)), "a.png"))
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.png")
    assert before == Image.MAX_IMAGE_PIXELS is not None


def test_the_smallest_image(tmp_path: Path) -> None:
    check(read_image(saved(tmp_path, Image.new("RGB", (1, 1), "lime"), "a.png")), [0, 1, 0])


# What is no image.


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected an image file, got no file at .*x\.jpg"):
        read_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_not_an_image(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an image file, got .*x\.jpg") as caught:
        read_image(tmp_path / "x.jpg")
    assert "\n" not in str(caught.value)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an image file, got") as caught:
        read_image(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_file(kind: str, kept: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    path = tmp_path / "x.img"
    path.write_bytes(buffer.getvalue()[: int(kept * len(buffer.getvalue()))])
    with pytest.raises(ValueError, match=r"expected an image file, got .*x\.img") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_corrupt_png(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(gradient()), "x.png")
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an image file, got .*x\.png"):
        read_image(path)


# Fitting.


def test_fit_crops_the_centre_of_the_long_side() -> None:
    image = np.zeros((10, 30, 3), np.float32)
    image[:, 10:20] = 1
    np.testing.assert_array_equal(fit(image, 10), np.ones((10, 10, 3)))
    np.testing.assert_array_equal(fit(image.swapaxes(0, 1), 10), np.ones((10, 10, 3)))


def test_fit_leaves_an_image_of_the_size_unchanged() -> None:
    image = np.random.default_rng(0).normal(size=(7, 9, 2)).astype(np.float32)
    np.testing.assert_array_equal(fit(image, (7, 9)), image)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_fit_is_the_triangle_filter(factor: int) -> None:
    """In the interior an output pixel is the mean under a triangle twice the reduction wide."""
    rng = np.random.default_rng(factor)
    line = rng.normal(size=12 * factor).astype(np.float32)
    image = np.tile(line[None, :, None], (12 * factor, 1, 1))
    centres = (np.arange(12) + 0.5) * factor
    weights = np.clip(1 - abs(np.arange(len(line)) + 0.5 - centres[:, None]) / factor, 0, None)
    expected = (weights / weights.sum(1, keepdims=True)) @ line
    fitted = fit(image, 12)
    np.testing.assert_allclose(fitted, np.tile(expected[None, :, None], (12, 1, 1)), atol=1e-5)


def test_fit_does_not_alias() -> None:
    board = (np.indices((256, 256)).sum(0) % 2).astype(np.float32)[..., None]
    np.testing.assert_allclose(fit(board, 31), 0.5, atol=0.01)


def test_fit_stays_in_range_and_enlarges() -> None:
    image = (np.random.default_rng(1).random((5, 8, 3)) > 0.5).astype(np.float32)
    fitted = fit(image, (33, 47))
    assert fitted.shape == (33, 47, 3)
    assert fitted.dtype == np.float32
    assert fitted.min() >= 0
    assert fitted.max() <= 1 + 1e-6


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (333, 77), (64, 65)])
@pytest.mark.parametrize("size", [1, 64, (3, 97)])
def test_fit_takes_any_proportions(shape: tuple[int, int], size: int | tuple[int, int]) -> None:
    fitted = fit(np.full((*shape, 3), 0.25, np.float32), size)
    assert fitted.shape[:2] == ((size, size) if isinstance(size, int) else size)
    np.testing.assert_allclose(fitted, 0.25, atol=1e-6)


def test_fit_takes_a_jax_array() -> None:
    assert fit(jnp.ones((6, 4, 3)), 2).shape == (2, 2, 3)


def test_photographs(tmp_path: Path) -> None:
    for photograph in (skimage.data.chelsea(), skimage.data.coffee()):
        image = read_image(saved(tmp_path, Image.fromarray(photograph), "a.png"))
        np.testing.assert_array_equal(image, photograph / np.float32(255))
        fitted = fit(image, 64)
        assert fitted.shape == (64, 64, 3)
        # The centre, as the mean over a coarse grid.
        height, width, _ = image.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        centre = image[top : top + side, left : left + side]
        np.testing.assert_allclose(fitted.mean((0, 1)), centre.mean((0, 1)), atol=0.005)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("image", "size", "error", "message"),
    [
        (np.ones((4, 4), np.float32), 2, ValueError, r"expected image to have shape \(h, w, c\)"),
        (np.ones((2, 4, 4, 3), np.float32), 2, ValueError, "got a batch of shape"),
        (np.ones((4, 4, 3), np.uint8), 2, TypeError, "expected image to hold floats, got uint8"),
        (np.full((4, 4, 3), np.nan, np.float32), 2, ValueError, "expected image to be finite"),
        (np.ones((4, 4, 3), np.float32), 0, ValueError, "expected height to be at least 1, got 0"),
        (np.ones((4, 4, 3), np.float32), (2, -1), ValueError, "expected width to be at least 1"),
        (np.ones((4, 4, 3), np.float32), 2.5, TypeError, "expected height to be an integer"),
        (np.ones((4, 4, 3), np.float32), (2,), ValueError, "expected size to be one side or"),
    ],
)
def test_fit_refuses(image: np.ndarray, size: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fit(image, size)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_needs_no_conversion_is_not_copied(mode, monkeypatch):
    """Of the largest pictures a copy is a gigabyte."""
    picture = Image.new(mode, (4, 3))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was copied"))
    assert images._decoded(picture) is picture
