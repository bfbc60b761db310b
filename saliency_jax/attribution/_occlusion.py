"""Occlusion and feature ablation: by how much the score falls when a part is hidden."""

import jax.numpy as jnp
import numpy as np

from .._chunks import map_chunked, sum_chunked
from .._numerics import at_least_single
from .._types import Baseline, Count, Image, SaliencyMap, ScoreFunction
from .._validation import as_image, check_count, check_pair, checked_together
from ..baselines import as_baseline, zeros
from ..scores import as_score
from ..segments import Segments, paint, show
from ._parts import score_of_shown


def occlusion(
    score: ScoreFunction,
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
      score, image, baseline, batch_size: see the room.
      window: (height, width) in pixels, each at least 1 and at most the image's.
      stride: (vertical, horizontal) in pixels, each at least 1 and at most the window's, so that no
        pixel is left out.

    Returns:
      The signed map (h, w), in units of the score: positive where hiding lowers the score.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(attribution.occlusion(jnp.sum, image, window=(1, 2), stride=(1, 1)))
      [[3.  4.5 6. ]]

    Reference:
      Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901.
    """
    with checked_together():
        image, score = as_image(image), as_score(score)
        hidden = as_baseline(baseline, image)
    height, width, _ = image.shape
    check_pair("window", window, "(height, width)")
    check_pair("stride", stride, "(vertical, horizontal)")
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
    whole = at_least_single(score(image))
    row, column = np.mgrid[:height, :width]

    def fall_of_window(corner):
        top, left = corner
        inside = (row >= top) & (row < top + window[0])
        inside &= (column >= left) & (column < left + window[1])
        fall = whole - at_least_single(score(show(image, ~inside, hidden)))
        covered = inside.astype(fall.dtype)
        return covered * fall, covered

    starts = [
        np.arange(-(-(side - size) // step) + 1) * step
        for side, size, step in zip((height, width), window, stride, strict=True)
    ]
    corners = tuple(jnp.asarray(axis.ravel()) for axis in np.meshgrid(*starts, indexing="ij"))
    total, covered = sum_chunked(fall_of_window, corners, batch_size)
    return (total / covered).astype(image.dtype)


def feature_ablation(
    score: ScoreFunction,
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
      score, image, segments, num_segments, baseline, batch_size: see the room.

    Returns:
      The signed map (h, w), in units of the score: positive where hiding lowers the score.

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
    image, value, numbered, count = score_of_shown(score, image, segments, num_segments, baseline)
    whole = value(jnp.ones(count, bool))
    without = map_chunked(
        lambda segment: value(jnp.arange(count) != segment), jnp.arange(count), batch_size
    )
    return paint((whole - without).astype(image.dtype), numbered)
