"""Photographs from files, and their way to the size that a model takes."""

from PIL import Image as PILImage


def image_side(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one side or as both."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"expected an image size of at least 1x1, got {height}x{width}")
    return height, width


def fit_picture(picture: PILImage.Image, size: tuple[int, int]) -> PILImage.Image:
    """The largest centred window of the wanted proportions, resampled with a triangle filter.

    The filter widens with the reduction, so nothing aliases, and never overshoots the range of
    the pixels. A picture that has the size already comes back unchanged.
    """
    height, width = size
    scale = min(picture.height / height, picture.width / width)
    left = (picture.width - scale * width) / 2
    top = (picture.height - scale * height) / 2
    window = (left, top, left + scale * width, top + scale * height)
    return picture.resize((width, height), PILImage.Resampling.BILINEAR, box=window)
