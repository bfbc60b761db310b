"""Occlusion and feature ablation: by how much the score falls when a part is hidden."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from .._types import Baseline, Count, Image, SaliencyMap, Scalar, Score
from .._validation import check_count, check_image, is_concrete
from ._chunks import map_chunked, sum_chunked
from .baselines import as_baseline, zeros

Segments = Integer[Array, "h w"] | Integer[np.ndarray, "h w"]


def occlusion(
    score: Score,
    image: Image,
    *,
    window: tuple[int, int],
    stride: tuple[int, int],
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Occlusion: a pixel's mean fall of the score over the windows that hide it.

    M_ij = mean over windows W that contain ij of S(I) - S(I with B in W)

    Windows begin at multiples of the stride; as many are taken as reach the image's far side, and
    the last is cut off there. All channels are hidden together.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      window: (height, width) in pixels, each at least 1 and at most the image's.
      stride: (vertical, horizontal) in pixels, each at least 1 and at most the window's, so that no
        pixel is left out.
      baseline: what is shown in the window: an array (h, w, c) in the image's range, or a function
        of the image.
      batch_size: how many windows are evaluated at once, at least 1: memory does not grow with
        their number, and the result changes by rounding alone.

    Returns:
      The signed map (h, w), in units of the score: positive where hiding lowers the score.

    Raises:
      TypeError: the image or the baseline does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), the baseline is not of the image's shape, one
        of them is known and not finite, a count is below 1, the window is larger than the image or
        the stride larger than the window.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(attribution.occlusion(jnp.sum, image, window=(1, 2), stride=(1, 1)))
      [[3.  4.5 6. ]]

    Reference:
      Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901.
    """
    check_image(image)
    height, width, _ = image.shape
    for axis, side, size, step in zip(
        ("height", "width"), (height, width), window, stride, strict=True
    ):
        check_count(f"the window's {axis}", size, 1)
        check_count(f"the stride along the {axis}", step, 1)
        if size > side:
            raise ValueError(
                f"expected the window's {axis} to be at most the image's {side}, got {size}"
            )
        if step > size:
            raise ValueError(
                f"expected the stride along the {axis} to be at most the window's {size}, "
                f"got {step}"
            )
    fall = _fall_of_score(score, image, baseline)
    row, column = jnp.mgrid[:height, :width]

    def of_window(corner):
        top, left = corner
        hidden = (row >= top) & (row < top + window[0])
        hidden &= (column >= left) & (column < left + window[1])
        return hidden * fall(hidden), hidden.astype(image.dtype)

    starts = [
        np.arange(-(-(side - size) // step) + 1) * step
        for side, size, step in zip((height, width), window, stride, strict=True)
    ]
    corners = tuple(jnp.asarray(axis.ravel()) for axis in np.meshgrid(*starts, indexing="ij"))
    total, covered = sum_chunked(of_window, corners, batch_size)
    return total / covered


def feature_ablation(
    score: Score,
    image: Image,
    *,
    segments: Segments,
    num_segments: Count | None = None,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Feature ablation: the fall of the score when a pixel's whole segment is hidden.

    M_ij = S(I) - S(I with B in segment s), s = segments_ij

    The fall is each pixel's value, not shared out among the segment's pixels.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      segments: (h, w) of integers in 0 .. num_segments - 1: any segmentation, such as a grid of
        cells, superpixels, or one segment a pixel. A traced one is welcome.
      num_segments: their number, at least 1; by default the largest plus 1, if segments are known.
      baseline: what is shown in the segment: an array (h, w, c) in the image's range, or a function
        of the image.
      batch_size: how many segments are evaluated at once, at least 1: memory does not grow with
        their number, and the result changes by rounding alone.

    Returns:
      The signed map (h, w), in units of the score: positive where hiding lowers the score. A traced
      segment out of range gives nan.

    Raises:
      TypeError: the image or the baseline does not hold floats, a count is no integer, or segments
        are traced and their number is not given.
      ValueError: the image is not of shape (h, w, c), segments are not of shape (h, w) or known and
        out of range, the baseline is not of the image's shape, image or baseline is known and not
        finite, or a count is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(attribution.feature_ablation(jnp.sum, image, segments=jnp.array([[0, 1, 1]])))
      [[1. 6. 6.]]

    Reference:
      Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901.
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938, on segments.
    """
    check_image(image)
    count = check_segments(segments, num_segments, image)
    fall = _fall_of_score(score, image, baseline)
    falls = map_chunked(lambda segment: fall(segments == segment), jnp.arange(count), batch_size)
    return paint(falls, segments)


def check_segments(segments: Segments, num_segments: Count | None, image: Image) -> int:
    """The number of segments; raises unless they are integers that fit the image and the number."""
    if not jnp.issubdtype(segments.dtype, jnp.integer):
        raise TypeError(f"expected segments to hold integers, got {segments.dtype}")
    if segments.shape != image.shape[:2]:
        raise ValueError(
            f"expected segments to have the image's sides {image.shape[:2]}, got {segments.shape}"
        )
    if num_segments is None:
        if not is_concrete(segments):
            raise TypeError("expected num_segments with traced segments, got None")
        num_segments = int(np.max(segments)) + 1
    check_count("num_segments", num_segments, 1)
    if is_concrete(segments) and not 0 <= np.min(segments) <= np.max(segments) < num_segments:
        raise ValueError(
            f"expected segments to be in 0 .. {num_segments - 1}, "
            f"got {np.min(segments)} .. {np.max(segments)}"
        )
    return int(num_segments)


def paint(values: Float[Array, "n"], segments: Segments) -> Float[Array, "h w"]:
    """Each pixel's value is its segment's; nan where a traced segment is out of range."""
    of_pixel = values.at[jnp.asarray(segments)]
    return of_pixel.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _fall_of_score(
    score: Score, image: Image, baseline: Baseline
) -> Callable[[Bool[Array, "h w"]], Scalar]:
    instead, whole = as_baseline(baseline, image), score(image)

    def fall(hidden: Bool[Array, "h w"]) -> Float[Array, ""]:
        return whole - score(jnp.where(hidden[..., None], instead, image))

    return fall
