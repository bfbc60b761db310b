"""Partitions of an image into segments, and the image with some of its parts hidden.

What means the same everywhere here, and where a method takes segments:

  image: (h, w, c) of floats.
  segments: (h, w) of integers, at least 0: which segment each pixel is of. Numbers that no pixel
    has do not count: the ids 0, 15 and 255 are three segments. Traced segments are welcome where
    num_segments is given; their numbers are taken as they are, and a pixel whose number is out of
    range is never hidden, and nan in every map.
  num_segments: a number above all ids, at least 1; by default as many as there are, if they are
    known.
  baseline: what is shown where the image is hidden: an array (h, w, c) in its range.

Segments are made on the host, before anything is compiled. Regions are masks that may overlap.
Every function raises TypeError where an array holds what it should not, and ValueError where a
shape or a number does not fit or a known image is not finite.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Real

from ._types import Count, Image, Number
from ._validation import (
    as_image,
    as_number,
    check_array,
    check_count,
    check_finite,
    check_image,
    check_integers,
    check_pair,
    is_concrete,
    to_jax,
)

Segments = Integer[Array, "h w"] | Integer[np.ndarray, "h w"]
Shares = Bool[Array, "n"] | Real[Array, "n"]
Mask = Bool[Array, "h w"] | Real[Array, "h w"] | Bool[np.ndarray, "h w"] | Real[np.ndarray, "h w"]

# Of XRAI's published code: the sizes in pixels suppose this side, and the scales a range of 2.
_SIDE = 224
_SCALES = (50, 100, 150, 250, 500, 1200)
_SIGMA = 0.8


def as_segments(
    segments: Segments, num_segments: Count | None, image: Image
) -> tuple[Integer[Array, "h w"], int]:
    """Segments as a JAX array, numbered without gaps where they are known, and their number.

    s_ij -> how many ids that some pixel has are below s_ij

    Args:
      segments, num_segments, image: see the module.

    Returns:
      The segments (h, w), in 0 .. n - 1, and their number n.

    Raises:
      TypeError: segments are traced and num_segments is None.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax.segments import as_segments
      >>> print(*as_segments(np.array([[0, 255, 15]]), None, jnp.ones((1, 3, 1))))
      [[0 2 1]] 3

    Reference:
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938, on explaining an
      image by its segments.
    """
    check_image(image)
    check_integers("segments", segments, ("h", "w"))
    if segments.shape != image.shape[:2]:
        raise ValueError(
            f"expected segments to have the image's sides {image.shape[:2]}, got {segments.shape}"
        )
    if num_segments is not None:
        num_segments = check_count("num_segments", num_segments, 1)
    if not is_concrete(segments):
        if num_segments is None:
            raise TypeError("expected num_segments with traced segments, got None")
        return jnp.asarray(segments), num_segments
    ids, numbered = np.unique(np.asarray(segments), return_inverse=True)
    if ids[0] < 0 or (num_segments is not None and ids[-1] >= num_segments):
        upper = "" if num_segments is None else num_segments - 1
        raise ValueError(f"expected segments to be in 0 .. {upper}, got {ids[0]} .. {ids[-1]}")
    return jnp.asarray(numbered.reshape(segments.shape), jnp.int32), len(ids)


def paint(values: Float[Array, "n"], segments: Integer[Array, "h w"]) -> Float[Array, "h w"]:
    """The map in which each pixel has its segment's value.

    M_ij = v_s, s = s_ij

    Args:
      values: (n,), one for each segment.
      segments: (h, w) of integers, as `as_segments` gives them.

    Returns:
      The map (h, w), in the values' units; nan where a traced segment is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.segments import paint
      >>> print(paint(jnp.array([0.5, 2.0]), jnp.array([[0, 1, 1]])))
      [[0.5 2.  2. ]]

    Reference:
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938.
    """
    check_array("values", values, ("n",))
    return _by_segment(values, segments, jnp.nan)


def show(image: Image, mask: Mask, baseline: Image) -> Image:
    """The image where a mask is 1, and the baseline where it is 0.

    x = m I + (1 - m) B, which at m = 1 and 0 is I and B to the bit

    Args:
      image, baseline: see the module.
      mask: (h, w), booleans or numbers in [0, 1].

    Returns:
      The image (h, w, c) with its parts hidden, of the image's dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.segments import show
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(show(image, jnp.array([[1.0, 0.0, 0.5]]), jnp.zeros_like(image)).squeeze())
      [1. 0. 2.]

    Reference:
      Fong, Vedaldi, Interpretable Explanations of Black Boxes by Meaningful Perturbation, 2017,
      arXiv:1704.03296, section 4.1.
    """
    image, hidden = as_image(image), as_image(baseline, "baseline")
    _check_shares("mask", mask)
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f"expected mask to have the image's sides {image.shape[:2]}, got {mask.shape}"
        )
    if hidden.shape != image.shape:
        raise ValueError(
            f"expected baseline to have the image's shape {image.shape}, got {hidden.shape}"
        )
    kept = to_jax(mask).astype(image.dtype)[..., None]
    return kept * image + (1 - kept) * hidden.astype(image.dtype)


def show_segments(
    image: Image, shares: Shares, segments: Integer[Array, "h w"], baseline: Image
) -> Image:
    """The image with each segment shown, hidden, or shown in part.

    x_ij = m_s I_ij + (1 - m_s) B_ij, s = s_ij

    Args:
      image, baseline: see the module.
      shares: m (n,), booleans or numbers in [0, 1]: how far each segment is shown.
      segments: (h, w) of integers, as `as_segments` gives them.

    Returns:
      The image (h, w, c) with some of its segments hidden, of the image's dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.segments import show_segments
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> shown, segments = jnp.array([False, True]), jnp.array([[0, 1, 1]])
      >>> print(show_segments(image, shown, segments, jnp.zeros_like(image)).squeeze())
      [0. 2. 4.]

    Reference:
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938.
    """
    _check_shares("shares", shares)
    if shares.ndim != 1 or not shares.size:
        raise ValueError(f"expected shares to have shape (n,), got {shares.shape}")
    return show(image, _by_segment(shares, segments, 1.0), baseline)


def _check_shares(name: str, shares: Any) -> None:
    """Raises unless it is an array of finite numbers or booleans."""
    if not isinstance(shares, jax.Array | np.ndarray):
        raise TypeError(f"expected {name} to be an array, got {type(shares).__name__}")
    if jnp.issubdtype(shares.dtype, jnp.floating):
        check_finite(name, shares)
    elif shares.dtype != bool and not jnp.issubdtype(shares.dtype, jnp.integer):
        raise TypeError(f"expected {name} to hold numbers or booleans, got {shares.dtype}")


def _by_segment(values: Shares, segments: Integer[Array, "h w"], elsewhere: float) -> Array:
    check_integers("segments", segments, ("h", "w"))
    by_pixel = to_jax(values).at[to_jax(segments)]
    return by_pixel.get(mode="fill", fill_value=elsewhere, wrap_negative_indices=False)


def grid_segments(image: Image, cells: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
    """The cells of a grid, as equal as the sides allow, numbered row by row.

    s_ij = C floor(R i / h) + floor(C j / w)

    Args:
      image: see the module; only its sides matter. A traced one is welcome.
      cells: (rows R, columns C) of the grid, each at least 1 and at most the image's.

    Returns:
      The segments (h, w), in 0 .. R C - 1, as a NumPy array: they are known under `jax.jit` too.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.segments import grid_segments
      >>> print(grid_segments(jnp.ones((2, 5, 3)), (2, 2)))
      [[0 0 0 1 1]
       [2 2 2 3 3]]

    Reference:
      Fel, Cadene, Chalvidal, Cord, Vigouroux, Serre, Look at the Variance! Efficient Black-box
      Explanations with Sobol-based Sensitivity Analysis, 2021, arXiv:2111.04138.
    """
    check_image(image)
    check_pair("cells", cells, "(rows, columns)")
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
      image: see the module, in any range. It is the picture that is seen, not traced: the score's
        input may be another, of the same sides.
      scales: Felzenszwalb's preference for large segments, one segmentation for each, above 0.
      min_size: smaller segments are merged with a neighbour, in pixels of 224x224, at least 1.
      dilation: how far a segment is grown beyond its borders, where edges are, in pixels of
        224x224, at least 0.

    Returns:
      The regions (n, h, w), a few hundred for a photograph. Every pixel is in one of each scale, or
      in several with a dilation.

    Raises:
      TypeError: the image is traced.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.segments import felzenszwalb_regions
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

    image = as_image(image)
    if not is_concrete(image):
        raise TypeError("expected image to be known, got a traced array")
    if not isinstance(scales, Sequence | np.ndarray):
        raise TypeError(f"expected scales to be numbers, got {scales!r}")
    check_count("the number of scales", len(scales), 1)
    scales = [as_number("scales", scale, np.finfo(np.float32).tiny) for scale in scales]
    min_size = check_count("min_size", min_size, 1)
    dilation = float(as_number("dilation", dilation, 0, _SIDE))
    # The segmentation knows no other precision: the same regions for every dtype.
    picture = np.asarray(image, np.float32)
    low, high = float(picture.min()), float(picture.max())
    picture = 2 * (picture - low) / (high - low or 1) - 1
    square = np.asarray(jax.image.resize(picture, (_SIDE, _SIDE, image.shape[2]), "cubic"))
    # The nearest pixel of the square for each of the image's.
    row, column = ((2 * np.arange(side) + 1) * _SIDE // (2 * side) for side in image.shape[:2])
    reach = np.arange(-int(dilation), int(dilation) + 1)
    disk = np.argwhere(np.hypot(reach[:, None], reach) <= dilation) - int(dilation)
    regions = []
    for scale in scales:
        segments = felzenszwalb(square, scale=float(scale), sigma=_SIGMA, min_size=min_size)
        grown = np.zeros((segments.max() + 1, *image.shape[:2]), bool)
        for down, right in disk:
            # What lies outside the square is replaced by a pixel of it that is nearer.
            below, beside = (np.clip(at, 0, _SIDE - 1) for at in (row + down, column + right))
            np.put_along_axis(grown, segments[below[:, None], beside][None], True, axis=0)
        regions.append(grown)
    return np.concatenate(regions)
