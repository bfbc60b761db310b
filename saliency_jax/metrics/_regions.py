"""Boxes and masks: whether a saliency map is where the object is."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

from .._numerics import at_least_single, common_dtype
from .._types import AnyMap, Number, Scalar
from .._validation import (
    as_any_number,
    as_number,
    check_at_least,
    check_count,
    check_finite,
    check_instance,
    check_pair,
    is_concrete,
    to_jax,
)
from ._maps import Mask, as_map, as_mask, nan_with

Box = Real[Array, "4"] | Real[np.ndarray, "4"] | tuple[Number, Number, Number, Number]
Boxes = Real[Array, "m 4"] | Real[np.ndarray, "m 4"]


def box_mask(box: Box, sides: tuple[int, ...]) -> Bool[Array, "h w"]:
    """The pixels of an image that lie in a box.

    m_ij = y0 <= i < y1 and x0 <= j < x1

    Args:
      box: (y0, x0, y1, x1) in pixels, half open: the last row inside is y1 - 1. It may reach out of
        the image, and a traced one is welcome.
      sides: (h, w) of the image.

    Returns:
      The mask (h, w), true inside.

    Example:
      >>> from saliency_jax import metrics
      >>> print(metrics.box_mask((0, 1, 2, 3), (3, 4)).astype(int))
      [[0 1 1 0]
       [0 1 1 0]
       [0 0 0 0]]

    Reference:
      Everingham, Van Gool, Williams, Winn, Zisserman, The Pascal Visual Object Classes (VOC)
      Challenge, International Journal of Computer Vision 88, 2010 (not on arXiv).
    """
    check_pair("sides", sides, "(height, width)")
    for axis, length in zip(("height", "width"), sides, strict=True):
        check_count(axis, length, 1)
    y0, x0, y1, x1 = _as_ends(box)
    row, column = jnp.mgrid[: sides[0], : sides[1]].astype(y0.dtype)
    return (row >= y0) & (row < y1) & (column >= x0) & (column < x1)


def box_iou(first: Box, second: Box) -> Scalar:
    """How well two boxes agree: their intersection over their union.

    IoU = |A and B| / |A or B|

    Higher is better. A localization counts as right where it is at least 0.5.

    Traps: a box that covers the whole image has the IoU of the object's share of the image, which
    for large objects is high: compare with that, and with the best fixed box.

    Args:
      first: A = (y0, x0, y1, x1) in pixels, half open, so that its area is (y1 - y0) (x1 - x0). A
        traced one is welcome.
      second: B, likewise.

    Returns:
      The ratio in [0, 1], the same for either order. Of two empty boxes it is undefined: nan.

    Example:
      >>> from saliency_jax import metrics
      >>> print(metrics.box_iou((0, 0, 2, 2), (0, 1, 2, 3)).round(4))
      0.3333

    Reference:
      Everingham, Van Gool, Williams, Winn, Zisserman, The Pascal Visual Object Classes (VOC)
      Challenge, International Journal of Computer Vision 88, 2010 (not on arXiv).
    """
    a, b = _as_ends(first), _as_ends(second)
    dtype = common_dtype(a.dtype, b.dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    overlap = _area(jnp.maximum(a[:2], b[:2]), jnp.minimum(a[2:], b[2:]))
    return overlap / (_area(a[:2], a[2:]) + _area(b[:2], b[2:]) - overlap)


def best_box_iou(box: Box, boxes: Boxes) -> Scalar:
    """How well a box agrees with the one of several that it agrees with best.

    max_j IoU(A, B_j)

    Higher is better. A localization counts as right where it is at least 0.5 with one of the
    image's true boxes.

    Args:
      box: A = (y0, x0, y1, x1) in pixels, half open, as `box_iou` takes it.
      boxes: B, (m, 4), likewise. Empty ones, such as (0, 0, 0, 0), count for nothing, so that
        images with fewer boxes are filled up with them.

    Returns:
      The ratio in [0, 1]. Where A and one of B are empty it is undefined: nan.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> boxes = jnp.array([[0, 1, 2, 3], [0, 0, 2, 4], [0, 0, 0, 0]])
      >>> print(metrics.best_box_iou((0, 0, 2, 2), boxes))
      0.5

    Reference:
      Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2014, arXiv:1409.0575,
      section 4.2.
    """
    if not isinstance(boxes, jax.Array | np.ndarray):
        raise TypeError(f"expected boxes to be an array, got {type(boxes).__name__}")
    if not _is_real(boxes.dtype):
        raise TypeError(f"expected boxes to hold numbers, got {boxes.dtype}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or 0 in boxes.shape:
        raise ValueError(f"expected boxes to have shape (m, 4), got {boxes.shape}")
    if jnp.issubdtype(boxes.dtype, jnp.floating):
        check_finite("boxes", boxes)
    return jax.vmap(functools.partial(box_iou, box))(to_jax(boxes)).max()


def pointing_game(saliency_map: AnyMap, mask: Mask, *, tolerance: Number = 0.0) -> Scalar:
    """The pointing game: whether the map's largest value lies on the object.

    P = 1 if some pixel of the mask is at most the tolerance away from argmax_ij M_ij, else 0

    Of several largest values the share that hits is taken, so that a constant map gets what a
    random point would get. Higher is better; the mean over images is the pointing accuracy.

    Traps: it sees one pixel only: noise in it is not the map's. Objects in the middle of most
    images make a fixed point at the centre a strong player; compare with it. The usual tolerance of
    15 pixels is for images a few hundred pixels wide. (TorchRay's has the distance below, not at
    most, the tolerance; Quantus counts a hit if any of several largest values hits.)

    Args:
      saliency_map, mask: see the room.
      tolerance: at least 0, in pixels, Euclidean. A traced one is welcome.

    Returns:
      1.0 for a hit and 0.0 for a miss, or between for several largest values. An empty mask is
      never hit.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> saliency_map, box = jnp.array([[0.1, 0.2, 0.9, 0.3]]), (0, 0, 1, 2)
      >>> mask = metrics.box_mask(box, (1, 4))
      >>> print(*(metrics.pointing_game(saliency_map, mask, tolerance=t) for t in (0, 1)))
      0.0 1.0

    Reference:
      Zhang, Lin, Brandt, Shen, Sclaroff, Top-down Neural Attention by Excitation Backprop, 2016,
      arXiv:1608.00507.
    """
    saliency_map = as_map(saliency_map)
    mask = as_mask(mask, saliency_map.shape)
    dtype = saliency_map.dtype
    tolerance = jnp.asarray(as_number("tolerance", tolerance, 0), dtype)
    hit = _squared_distance(mask, dtype) <= tolerance**2
    largest = saliency_map == saliency_map.max()
    return jnp.sum(hit & largest).astype(dtype) / jnp.sum(largest).astype(dtype)


def relevance_mass_accuracy(saliency_map: AnyMap, mask: Mask) -> Scalar:
    """Relevance mass accuracy: the share of the saliency that lies in a box or mask.

    R = sum_{ij in mask} M_ij / sum_ij M_ij

    Also known as the inside-total relevance ratio and the energy-based pointing game. Higher is
    better; a constant map gets the mask's share of the image.

    Traps: so the value is large for large objects: subtract the mask's share, or compare with a
    control. Noise that is spread over the image lowers it; what the model uses beside the object,
    such as water around a ship, does so too, and rightly is not the object. A map with negative
    values has no shares: take absolute values or the positive part, and say which.

    Args:
      saliency_map, mask: see the room; the map is at least 0.

    Returns:
      The share in [0, 1]. For a map that is 0 everywhere it is undefined: nan.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> saliency_map, box = jnp.array([[1.0, 2.0, 4.0, 1.0]]), (0, 1, 1, 3)
      >>> print(metrics.relevance_mass_accuracy(saliency_map, metrics.box_mask(box, (1, 4))))
      0.75

    Reference:
      Arras, Osman, Samek, CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural
      Network Explanations, 2020, arXiv:2003.07258. Kohlbrenner, Bauer, Nakajima, Binder, Samek,
      Lapuschkin, Towards Best Practice in Explaining Neural Network Decisions with LRP, 2019,
      arXiv:1910.09840. Wang et al., Score-CAM, 2019, arXiv:1910.01279.
    """
    saliency_map = as_map(saliency_map)
    mask = as_mask(mask, saliency_map.shape)
    check_at_least("saliency_map", saliency_map.min(), 0)
    # Sums of very large or small values are no numbers of this precision.
    values = saliency_map / saliency_map.max()
    return jnp.sum(jnp.where(mask, values, 0)) / values.sum()


def relevance_rank_accuracy(saliency_map: AnyMap, mask: Mask) -> Scalar:
    """Relevance rank accuracy: the share of the K most salient pixels in a mask of K pixels.

    R = |{the K most salient pixels} and mask| / K

    Where equal values straddle the K-th place, it is the mean over the ways to break the tie, so
    that a constant map gets the mask's share of the image. Higher is better.

    Traps: it asks for a map that fills the object, which edges and parts do not, however right
    they are; and of all that lies beyond the K-th place it sees nothing.

    Args:
      saliency_map, mask: see the room.

    Returns:
      The share in [0, 1]. For an empty mask it is undefined: nan.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> saliency_map, box = jnp.array([[1.0, 2.0, 4.0, 3.0]]), (0, 1, 1, 3)
      >>> print(metrics.relevance_rank_accuracy(saliency_map, metrics.box_mask(box, (1, 4))))
      0.5

    Reference:
      Arras, Osman, Samek, CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural
      Network Explanations, 2020, arXiv:2003.07258.
    """
    saliency_map = as_map(saliency_map)
    mask = as_mask(mask, saliency_map.shape)
    size, dtype = jnp.sum(mask), saliency_map.dtype
    threshold = -jnp.sort(-saliency_map.ravel())[size - 1]
    above, tied = saliency_map > threshold, saliency_map == threshold
    num_above, num_tied, hits_above, hits_tied = (
        jnp.sum(pixels).astype(dtype) for pixels in (above, tied, above & mask, tied & mask)
    )
    size = size.astype(dtype)
    return nan_with(saliency_map, (hits_above + (size - num_above) / num_tied * hits_tied) / size)


def _squared_distance(mask: Bool[Array, "h w"], dtype: np.dtype) -> Float[Array, "h w"]:
    """From each pixel to the nearest of the mask: first along its row, then over the rows."""
    of_rows, of_columns = (
        (jnp.arange(side)[:, None] - jnp.arange(side)[None, :]).astype(dtype) ** 2
        for side in mask.shape
    )
    in_row = jnp.min(jnp.where(mask[:, None, :], of_columns[None], jnp.inf), axis=2)
    return jnp.min(of_rows[:, :, None] + in_row[None], axis=1)


def _area(start: Float[Array, "2"], end: Float[Array, "2"]) -> Scalar:
    return jnp.prod(jnp.maximum(end - start, 0))


def _as_ends(box: Any) -> Float[Array, "4"]:
    """The four ends as floats of at least single precision."""
    ends = box
    if not isinstance(box, jax.Array | np.ndarray):
        check_instance("a box", box, Sequence, "(y0, x0, y1, x1)")
        numbers = [as_any_number("an end of a box", end) for end in box]
        # What the host knows is checked there, also while a program is traced.
        is_known = not any(isinstance(number, jax.Array) for number in numbers)
        ends = np.array(numbers, float) if is_known else jnp.stack([*map(_as_float, numbers)])
    if ends.shape != (4,):
        raise ValueError(f"expected a box (y0, x0, y1, x1), got shape {ends.shape}")
    if not _is_real(ends.dtype):
        raise TypeError(f"expected a box to hold numbers, got {ends.dtype}")
    known = np.asarray(ends, float) if is_concrete(ends) else np.zeros(4)
    check_finite("a box", known)
    if known[0] > known[2] or known[1] > known[3]:
        raise ValueError(f"expected a box (y0, x0, y1, x1) that ends after it begins, got {box}")
    return at_least_single(_as_float(ends))


def _as_float(number: Any) -> Float[Array, "..."]:
    ends = to_jax(number) if isinstance(number, np.ndarray) else jnp.asarray(number)
    return ends if jnp.issubdtype(ends.dtype, jnp.floating) else ends.astype(float)


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
