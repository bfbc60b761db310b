"""Segmentations: the parts of an image that methods hide, blend or rank.

They are made on the host, before anything is compiled: segments number the parts of one
segmentation, regions are masks that may overlap.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Bool, Integer

from .._types import Count, Image, Number
from .._validation import check_at_least, check_count, check_image, is_concrete

# Of XRAI's published code: the sizes in pixels suppose this side, and the scales a range of 2.
_SIDE = 224
_SCALES = (50, 100, 150, 250, 500, 1200)
_SIGMA = 0.8


def grid_segments(image: Image, cells: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
    """The cells of a grid, as equal as the sides allow, numbered row by row.

    s_ij = C floor(R i / h) + floor(C j / w)

    Args:
      image: (h, w, c), of which only the sides matter. A traced one is welcome.
      cells: (rows R, columns C) of the grid, each at least 1 and at most the image's.

    Returns:
      The segments (h, w), in 0 .. R C - 1, as a NumPy array: they are known under `jax.jit` too.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or a count is
        out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import grid_segments
      >>> print(grid_segments(jnp.ones((2, 5, 3)), (2, 2)))
      [[0 0 0 1 1]
       [2 2 2 3 3]]

    Reference:
      Fel, Cadene, Chalvidal, Cord, Vigouroux, Serre, Look at the Variance! Efficient Black-box
      Explanations with Sobol-based Sensitivity Analysis, 2021, arXiv:2111.04138.
    """
    check_image(image)
    for axis, count, side in zip(("rows", "columns"), cells, image.shape[:2], strict=True):
        check_count(f"the number of {axis}", count, 1)
        if count > side:
            raise ValueError(
                f"expected the number of {axis} to be at most the image's {side}, got {count}"
            )
    row, column = (
        np.arange(side) * count // side for side, count in zip(image.shape[:2], cells, strict=True)
    )
    return row[:, None] * cells[1] + column


def felzenszwalb_regions(
    image: Image,
    *,
    scales: Sequence[Number] = _SCALES,
    min_size: Count = 150,
    dilation: Number = 5,
) -> Bool[np.ndarray, "n h w"]:
    """The regions of XRAI: Felzenszwalb's segments at several scales, each grown a little.

    The image's values are scaled to [-1, 1] and it is resized to 224x224, so that the settings mean
    the same for every image; the regions found there are sampled at the image's own pixels.

    Args:
      image: (h, w, c), in any range. It is the picture that is seen, not traced: the score's input
        may be another, of the same sides.
      scales: Felzenszwalb's preference for large segments, one segmentation for each, above 0.
      min_size: smaller segments are merged with a neighbour, in pixels of 224x224, at least 1.
      dilation: how far a segment is grown beyond its borders, where edges are, in pixels of
        224x224, at least 0.

    Returns:
      The regions (n, h, w), a few hundred for a photograph. Every pixel is in one of each scale, or
      in several with a dilation.

    Raises:
      TypeError: the image is traced or does not hold floats, or min_size is no integer.
      ValueError: the image is not of shape (h, w, c) or not finite, there is no scale, or a number
        is below its minimum.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import felzenszwalb_regions
      >>> image = jnp.zeros((224, 224, 1)).at[:, 100:].set(1.0)
      >>> regions = felzenszwalb_regions(image, scales=[500], min_size=4000, dilation=10)
      >>> print(regions.sum((1, 2)) / 224)
      [110. 134.]

    Reference:
      Felzenszwalb, Huttenlocher, Efficient Graph-Based Image Segmentation, International Journal
      of Computer Vision 59, 2004 (not on arXiv). Kapishnikov, Bolukbasi, Viegas, Terry, XRAI:
      Better Attributions Through Regions, 2019, arXiv:1906.02825.
    """
    # Here, because importing it takes longer than all the rest of the library.
    from skimage.segmentation import felzenszwalb

    check_image(image)
    if not is_concrete(image):
        raise TypeError("expected image to be known, got a traced array")
    check_count("the number of scales", len(scales), 1)
    for scale in scales:
        check_at_least("scales", scale, np.finfo(np.float32).tiny)
    check_count("min_size", min_size, 1)
    check_at_least("dilation", dilation, 0)
    low, high = float(image.min()), float(image.max())
    picture = 2 * (image - low) / (high - low or 1) - 1
    square = np.asarray(jax.image.resize(picture, (_SIDE, _SIDE, image.shape[2]), "cubic"))
    # The nearest pixel of the square for each of the image's.
    row, column = ((2 * np.arange(side) + 1) * _SIDE // (2 * side) for side in image.shape[:2])
    reach = np.arange(-int(dilation), int(dilation) + 1)
    disk = np.argwhere(np.hypot(reach[:, None], reach) <= dilation) - int(dilation)
    regions = []
    for scale in scales:
        segments = felzenszwalb(square, scale=float(scale), sigma=_SIGMA, min_size=int(min_size))
        grown = np.zeros((segments.max() + 1, *image.shape[:2]), bool)
        for down, right in disk:
            # What lies outside the square is replaced by a pixel of it that is nearer.
            below, beside = (np.clip(at, 0, _SIDE - 1) for at in (row + down, column + right))
            np.put_along_axis(grown, segments[below[:, None], beside][None], True, axis=0)
        regions.append(grown)
    return np.concatenate(regions)
