"""Boxes and masks: whether a saliency map is where the object is."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

from .._types import Number, SaliencyMap, Scalar
from .._validation import check_at_least, check_count, is_concrete
from ._maps import Mask, at_least_single, check_map, check_mask

Box = Real[Array, "4"] | Real[np.ndarray, "4"] | tuple[Number, Number, Number, Number]


def box_mask(box: Box, sides: tuple[int, int]) -> Bool[Array, "h w"]:
    """The pixels of an image that lie in a box.

    m_ij = y0 <= i < y1 and x0 <= j < x1

    Args:
      box: (y0, x0, y1, x1) in pixels, half open: the last row inside is y1 - 1. It may reach out of
        the image, and a traced one is welcome.
      sides: (h, w) of the image.

    Returns:
      The mask (h, w), true inside.

    Raises:
      TypeError: a side is no integer.
      ValueError: a side is below 1, or the box is not of shape (4,) or ends before it begins.

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
    for axis, length in zip(("height", "width"), sides, strict=True):
        check_count(axis, length, 1)
    _check_box(box)
    y0, x0, y1, x1 = box
    row, column = jnp.mgrid[: sides[0], : sides[1]]
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

    Raises:
      ValueError: a box is not of shape (4,), or known to end before it begins.

    Example:
      >>> from saliency_jax import metrics
      >>> print(metrics.box_iou((0, 0, 2, 2), (0, 1, 2, 3)).round(4))
      0.3333

    Reference:
      Everingham, Van Gool, Williams, Winn, Zisserman, The Pascal Visual Object Classes (VOC)
      Challenge, International Journal of Computer Vision 88, 2010 (not on arXiv).
    """
    _check_box(first)
    _check_box(second)
    a, b = (jnp.stack([jnp.asarray(end, float) for end in box]) for box in (first, second))
    overlap = _area(jnp.maximum(a[:2], b[:2]), jnp.minimum(a[2:], b[2:]))
    return overlap / (_area(a[:2], a[2:]) + _area(b[:2], b[2:]) - overlap)


def pointing_game(saliency_map: SaliencyMap, mask: Mask, *, tolerance: Number = 0.0) -> Scalar:
    """The pointing game: whether the map's largest value lies on the object.

    P = 1 if some pixel of the mask is at most the tolerance away from argmax_ij M_ij, else 0

    Of several largest values the share that hits is taken, so that a constant map gets what a
    random point would get. Higher is better; the mean over images is the pointing accuracy.

    Traps: it sees one pixel only: noise in it is not the map's. Objects in the middle of most
    images make a fixed point at the centre a strong player; compare with it. The usual tolerance of
    15 pixels is for images a few hundred pixels wide. (TorchRay's has the distance below, not at
    most, the tolerance; Quantus counts a hit if any of several largest values hits.)

    Args:
      saliency_map: (h, w), of any range.
      mask: (h, w) of booleans, true on the object; of a box, `metrics.box_mask(box, (h, w))`.
      tolerance: at least 0, in pixels, Euclidean. A traced one is welcome.

    Returns:
      1.0 for a hit and 0.0 for a miss, or between for several largest values. An empty mask is
      never hit.

    Raises:
      TypeError: the map does not hold floats, or the mask does not hold booleans.
      ValueError: the map is not of shape (h, w) or known and not finite, the mask has other sides,
        or the tolerance is known and negative.

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
    check_map(saliency_map)
    check_mask(mask, saliency_map.shape)
    check_at_least("tolerance", tolerance, 0)
    hit = _squared_distance(jnp.asarray(mask)) <= tolerance**2
    largest = saliency_map == saliency_map.max()
    return jnp.sum(hit & largest) / jnp.sum(largest)


def relevance_mass_accuracy(saliency_map: SaliencyMap, mask: Mask) -> Scalar:
    """Relevance mass accuracy: the share of the saliency that lies in a box or mask.

    R = sum_{ij in mask} M_ij / sum_ij M_ij

    Also known as the inside-total relevance ratio and the energy-based pointing game. Higher is
    better; a constant map gets the mask's share of the image.

    Traps: so the value is large for large objects: subtract the mask's share, or compare with a
    control. Noise that is spread over the image lowers it; what the model uses beside the object,
    such as water around a ship, does so too, and rightly is not the object. A map with negative
    values has no shares: take absolute values or the positive part, and say which.

    Args:
      saliency_map: (h, w), at least 0.
      mask: (h, w) of booleans, true on the object; of a box, `metrics.box_mask(box, (h, w))`.

    Returns:
      The share in [0, 1]. For a map that is 0 everywhere it is undefined: nan.

    Raises:
      TypeError: the map does not hold floats, or the mask does not hold booleans.
      ValueError: the map is not of shape (h, w), known and not finite or negative somewhere, or the
        mask has other sides.

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
    check_map(saliency_map)
    check_mask(mask, saliency_map.shape)
    check_at_least("saliency_map", saliency_map.min(), 0)
    values = at_least_single(saliency_map)
    return jnp.sum(jnp.where(mask, values, 0)) / values.sum()


def relevance_rank_accuracy(saliency_map: SaliencyMap, mask: Mask) -> Scalar:
    """Relevance rank accuracy: the share of the K most salient pixels in a mask of K pixels.

    R = |{the K most salient pixels} and mask| / K

    Where equal values straddle the K-th place, it is the mean over the ways to break the tie, so
    that a constant map gets the mask's share of the image. Higher is better.

    Traps: it asks for a map that fills the object, which edges and parts do not, however right
    they are; and of all that lies beyond the K-th place it sees nothing.

    Args:
      saliency_map: (h, w), of any range: only its order matters.
      mask: (h, w) of booleans, true on the object; of a box, `metrics.box_mask(box, (h, w))`.

    Returns:
      The share in [0, 1]. For an empty mask it is undefined: nan.

    Raises:
      TypeError: the map does not hold floats, or the mask does not hold booleans.
      ValueError: the map is not of shape (h, w) or known and not finite, or the mask has other
        sides.

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
    check_map(saliency_map)
    check_mask(mask, saliency_map.shape)
    mask = jnp.asarray(mask)
    size = jnp.sum(mask)
    threshold = -jnp.sort(-saliency_map.ravel())[size - 1]
    above, tied = saliency_map > threshold, saliency_map == threshold
    share_of_tied = (size - jnp.sum(above)) / jnp.sum(tied)
    return (jnp.sum(above & mask) + share_of_tied * jnp.sum(tied & mask)) / size


def _squared_distance(mask: Bool[Array, "h w"]) -> Float[Array, "h w"]:
    """From each pixel to the nearest of the mask: first along its row, then over the rows."""
    of_rows, of_columns = (
        (jnp.arange(side)[:, None] - jnp.arange(side)[None, :]).astype(float) ** 2
        for side in mask.shape
    )
    in_row = jnp.min(jnp.where(mask[:, None, :], of_columns[None], jnp.inf), axis=2)
    return jnp.min(of_rows[:, :, None] + in_row[None], axis=1)


def _area(start: Float[Array, "2"], end: Float[Array, "2"]) -> Scalar:
    return jnp.prod(jnp.maximum(end - start, 0))


def _check_box(box: Any) -> None:
    if np.shape(box) != (4,):
        raise ValueError(f"expected a box (y0, x0, y1, x1), got shape {np.shape(box)}")
    if all(is_concrete(end) for end in box) and (box[0] > box[2] or box[1] > box[3]):
        raise ValueError(f"expected a box (y0, x0, y1, x1) that ends after it begins, got {box}")
