"""Where an object is, from a saliency map: a graph cut by colour, its largest component, a box.

A class's saliency shows the parts that the model's answer depends on most; that the object goes on
where its colours do is for the cut to find. The cut is OpenCV's and runs on the host, on concrete
arrays. OpenCV lets go of Python's lock, so several images are cut at once by threads:
`concurrent.futures.ThreadPoolExecutor().map(localize, saliency_maps, images)`.

A box is (y0, x0, y1, x1) in pixels, half open: its last row is y1 - 1. A mask is (h, w) of
booleans. Every function raises TypeError where an array holds something else, and ValueError where
its shape or its values do not fit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from ._numerics import common_dtype
from ._types import AnyMap, Count, Image, Number
from ._validation import (
    as_any_number,
    check_array,
    check_at_least,
    check_count,
    check_finite,
    check_image,
)

# Numbers of a mixture in OpenCV: five weights, five means and five covariances of three channels.
_MIXTURE_SHAPE = (1, 65)
_NO_RECTANGLE = (0, 0, 0, 0)
# Of the clustering that the mixtures begin with; any will do.
_SEED = 0
_ROUNDING = 1e-5

Mask = Bool[Array | np.ndarray, "h w"]
Box = tuple[int, int, int, int]


class Localization(NamedTuple):
    """Where an object is.

    Attributes:
      mask: (h, w), true on the object, which is connected.
      box: (y0, x0, y1, x1) in pixels, half open: the smallest that holds the mask.
    """

    mask: Bool[np.ndarray, "h w"]
    box: Box


def localize(
    saliency_map: AnyMap,
    image: Image,
    foreground: Number = 0.95,
    background: Number = 0.30,
    *,
    iterations: Count = 1,
) -> Localization:
    """The object that a saliency map points at, cut out by its colours.

    F = {i: M_i > q_foreground or M_i = max M}, B = {i: M_i <= q_background} without F
    L* = argmin_L sum_i -log p_{L_i}(I_i) + sum_{i,j neighbours} w_ij [L_i != L_j], L_i = 1 in F
    mask = the largest connected component of {i: L*_i = 1}

    q are quantiles of the map. The colour models p_1 and p_0 are mixtures of five Gaussians of the
    colours in F and in B alone: what lies between says nothing about either. Pixels of F are
    foreground whatever their colour; those of B only lend their colours, for a gradient is weak at
    many places inside the object too. Neighbours are the eight around a pixel, and
    w_ij = 50 / |i - j| exp(-|I_i - I_j|^2 / (2 m)), I in 0 .. 255 and m the mean of |I_i - I_j|^2
    over all neighbours (GrabCut's). The paper leaves open what is neighbour, what is definite, and
    the weights.

    The map is taken as it is. One of a single pass is grainy: average it over crops first
    (`attribution.ten_crop`), or smooth it (`filters.blur`). There is no prior on where the object
    is, or how large.

    Degenerate maps: of a constant one every pixel is in F, and the answer is the whole image; so it
    is where `foreground` is 0 and the cut finds the rest to be of F's colours. Of a map with one
    pixel above the others that pixel is F, and it is the answer unless pixels connected to it have
    its colour rather than B's. Where all colours are equal no cut costs less than none: the answer
    is the whole image.

    Args:
      saliency_map: (h, w), in any range and unit: only quantiles count.
      image: (h, w, 3), or (h, w, 1) for grey, in [0, 1]; colours count to the 255th part.
      foreground: the quantile above which pixels are foreground, in [0, 1].
      background: the quantile up to which pixels give the background's colours, in [0, 1] and at
        most `foreground`.
      iterations: number of cuts, at least 1. One is the paper's; before each further one both
        colour models are learnt anew from the whole of the last cut's two sides (GrabCut).

    Returns:
      The `Localization`. Equal arguments give equal results, whatever the number of threads.

    Example:
      A yellow disc on blue, of which the map shows a corner:

      >>> import numpy as np
      >>> from saliency_jax import localization
      >>> row, column = np.mgrid[:16, :16]
      >>> disc = (row - 6) ** 2 + (column - 9) ** 2 <= 16
      >>> image = np.where(disc[..., None], [0.9, 0.8, 0.1], [0.1, 0.2, 0.6])
      >>> saliency_map = np.where(disc & (column > 10), 1.0, 0.0)
      >>> found = localization.localize(saliency_map, image)
      >>> found.box, bool((found.mask == disc).all())
      ((2, 5, 11, 14), True)

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034,
      section 3.2. Boykov, Jolly, Interactive Graph Cuts for Optimal Boundary & Region Segmentation
      of Objects in N-D Images, ICCV 2001; Rother, Kolmogorov, Blake, GrabCut, ACM Transactions on
      Graphics 23, 2004 (both not on arXiv).
    """
    check_array("saliency_map", saliency_map, ("h", "w"))
    check_finite("saliency_map", saliency_map)
    iterations = check_count("iterations", iterations, 1)
    foreground = as_any_number("foreground", foreground)
    background = as_any_number("background", background)
    if not 0 <= background <= foreground <= 1:
        raise ValueError(
            "expected quantiles 0 <= background <= foreground <= 1, got background "
            f"{background} and foreground {foreground}"
        )
    values, pixels = _on_host(saliency_map), _pixels(image)
    if values.shape != pixels.shape[:2]:
        raise ValueError(
            f"expected saliency_map to have the image's height and width {pixels.shape[:2]}, "
            f"got {values.shape}"
        )

    low, high = np.quantile(values, [float(background), float(foreground)])
    is_foreground = (values > high) | (values == values.max())
    is_background = (values <= low) & ~is_foreground
    if is_background.any():
        mask = _cut(pixels, is_foreground, is_background, int(iterations))
    else:
        mask = np.ones_like(is_foreground)
    mask = largest_component(mask)
    return Localization(mask, bounding_box(mask))


def localize_by_threshold(saliency_map: AnyMap, fraction: Number) -> Localization:
    """The object where a saliency map is high: what every graph cut has to be better than.

    mask = the largest connected component of {i: M_i >= fraction max M}

    Colours say nothing here, so a coarse map does, which knows where and not what is cut out.

    Args:
      saliency_map: (h, w), at least 0, in any unit.
      fraction: of the map's maximum, in [0, 1].

    Returns:
      The `Localization`; of a map that is 0 everywhere the whole image.

    Example:
      >>> import numpy as np
      >>> from saliency_jax import localization
      >>> saliency_map = np.array([[0.0, 0.5, 1.0], [0.6, 0.1, 0.8]])
      >>> localization.localize_by_threshold(saliency_map, 0.5).box
      (0, 0, 2, 3)
      >>> localization.localize_by_threshold(saliency_map, 0.7).box
      (0, 2, 2, 3)

    Reference:
      Zhou, Khosla, Lapedriza, Oliva, Torralba, Learning Deep Features for Discriminative
      Localization, 2015, arXiv:1512.04150, section 3.2.
    """
    check_array("saliency_map", saliency_map, ("h", "w"))
    check_finite("saliency_map", saliency_map)
    fraction = float(as_any_number("fraction", fraction))
    if not 0 <= fraction <= 1:
        raise ValueError(f"expected fraction to be in [0, 1], got {fraction}")
    values = np.asarray(saliency_map)
    values = values.astype(common_dtype(values.dtype, np.dtype(np.float32)))
    check_at_least("saliency_map", values.min(), 0)
    mask = largest_component(values >= fraction * values.max())
    return Localization(mask, bounding_box(mask))


def largest_component(mask: Mask) -> Bool[np.ndarray, "h w"]:
    """The largest connected component of a mask, pixels being connected to the eight around them.

    C = the component of {i: mask_i} with the most pixels

    Args:
      mask: see the module.

    Returns:
      The component (h, w): of several largest the one that comes first in reading order; of an
      empty mask none.

    Example:
      >>> import numpy as np
      >>> from saliency_jax import localization
      >>> mask = np.array([[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]], bool)
      >>> print(localization.largest_component(mask).astype(int))
      [[0 0 0 1]
       [0 0 1 0]
       [0 0 0 1]]

    Reference:
      Rosenfeld, Pfaltz, Sequential Operations in Digital Picture Processing, Journal of the ACM 13,
      1966 (not on arXiv).
    """
    # OpenCV takes long to import, and the other rooms do without it.
    import cv2

    mask = _checked_mask(mask)
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels[mask], minlength=1)
    return mask & (labels == labels.flat[sizes[labels].argmax()])


def bounding_box(mask: Mask) -> Box:
    """The smallest box that holds a mask.

    (y0, x0, y1, x1) = (min i, min j, 1 + max i, 1 + max j) over the pixels ij of the mask

    Args:
      mask: see the module.

    Returns:
      The box in pixels, half open; (0, 0, 0, 0) of an empty mask.

    Example:
      >>> import numpy as np
      >>> from saliency_jax import localization
      >>> localization.bounding_box(np.array([[0, 0, 0], [0, 1, 1]], bool))
      (1, 1, 2, 3)

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034,
      section 3.2.
    """
    rows, columns = np.nonzero(_checked_mask(mask))
    if not rows.size:
        return 0, 0, 0, 0
    # `nonzero` is in reading order, so the rows are sorted.
    return int(rows[0]), int(columns.min()), int(rows[-1]) + 1, int(columns.max()) + 1


def _cut(
    pixels: UInt8[np.ndarray, "h w 3"],
    is_foreground: Bool[np.ndarray, "h w"],
    is_background: Bool[np.ndarray, "h w"],
    iterations: int,
) -> Bool[np.ndarray, "h w"]:
    import cv2

    models = np.zeros(_MIXTURE_SHAPE), np.zeros(_MIXTURE_SHAPE)
    # OpenCV's mask has no label for a pixel that neither model is to be learnt from. So they are
    # learnt from an image of the others only, without a cut, which says nothing about neighbours.
    seeds = np.concatenate([pixels[is_background], pixels[is_foreground]])[:, None]
    of_seeds = np.full(seeds.shape[:2], cv2.GC_BGD, np.uint8)
    of_seeds[is_background.sum() :] = cv2.GC_FGD
    cv2.setRNGSeed(_SEED)
    cv2.grabCut(seeds, of_seeds, _NO_RECTANGLE, *models, 0, cv2.GC_INIT_WITH_MASK)

    labels = np.where(is_foreground, cv2.GC_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mode = cv2.GC_EVAL_FREEZE_MODEL
    for _ in range(iterations):
        cv2.grabCut(pixels, labels, _NO_RECTANGLE, *models, 1, mode)
        mode = cv2.GC_EVAL
        mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        if mask.all():
            break
    return mask


def _pixels(image: Image) -> UInt8[np.ndarray, "h w 3"]:
    check_image(image)
    values = _on_host(image)
    if values.shape[-1] not in (1, 3):
        raise ValueError(f"expected image to have 1 or 3 channels, got {values.shape[-1]}")
    low, high = values.min(), values.max()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(f"expected image to be in [0, 1], got values from {low:.3g} to {high:.3g}")
    levels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3)))


def _on_host(array: AnyMap | Image) -> Float[np.ndarray, "..."]:
    """The array in NumPy: native, row by row as OpenCV takes it, in at least single precision."""
    dtype = common_dtype(array.dtype, np.dtype(np.float32))
    return np.asarray(array, dtype.newbyteorder("="), order="C")


def _checked_mask(mask: Mask) -> Bool[np.ndarray, "h w"]:
    array = np.asarray(mask, order="C")
    if array.dtype != bool:
        raise TypeError(f"expected mask to hold booleans, got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"expected mask to have shape (h, w), got {array.shape}")
    return array
