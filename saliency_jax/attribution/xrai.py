"""XRAI: an image's regions, ranked by how much attribution they gain."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool

from .._types import Baseline, Count, Image, SaliencyMap, Score
from .._validation import check_array, check_count, check_image
from ._chunks import mean_chunked
from .baselines import as_baseline, constant, zeros
from .integrated_gradients import Rule, gauss_legendre, integrated_gradients
from .reduce import sum_channels

Regions = Bool[Array, "n h w"] | Bool[np.ndarray, "n h w"]

_BLACK_AND_WHITE = (zeros, Partial(constant, color=1.0))


def xrai(
    score: Score,
    image: Image,
    *,
    regions: Regions,
    baselines: tuple[Baseline, ...] = _BLACK_AND_WHITE,
    steps: Count = 64,
    rule: Rule = gauss_legendre,
    batch_size: Count = 16,
) -> SaliencyMap:
    """XRAI: integrated gradients from black and from white, ranked by regions.

    M = rank_regions(sum_c mean_b A_b, regions), A_b = integrated gradients from the baseline b

    From black alone a black pixel has no attribution, whatever the score; from either it has one.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      regions: (n, h, w) of booleans, such as `felzenszwalb_regions(image)`: they may overlap. A
        traced one is welcome, and an empty region is passed over, so that several images' regions
        can be filled up to one number.
      baselines: at least one, each an array (h, w, c) in the image's range, or a function of the
        image; by default the colours 0 and 1.
      steps: the number of gradients for each baseline, at least 1.
      rule: the quadrature: n -> nodes (n,) in [0, 1] and weights (n,). `gauss_legendre`, `midpoint`
        or `trapezoid`.
      batch_size: how many gradients are evaluated at once, at least 1: memory does not grow with
        steps, and the result changes by rounding alone.

    Returns:
      The signed map (h, w), in units of the score per pixel: high where a region matters.

    Raises:
      TypeError: the image or a baseline does not hold floats, the regions do not hold booleans, or
        a count is no integer.
      ValueError: the image is not of shape (h, w, c), the regions are not of shape (n, h, w), there
        is no baseline or one is not of the image's shape, image or baseline is known and not
        finite, or a count is below its minimum.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [0.0], [1.0]]])
      >>> regions = jnp.array([[[True, False, False]], [[False, True, True]]])
      >>> print(attribution.xrai(lambda x: 8 * x.sum(), image, regions=regions))
      [[4. 0. 0.]]

    Reference:
      Kapishnikov, Bolukbasi, Viegas, Terry, XRAI: Better Attributions Through Regions, 2019,
      arXiv:1906.02825.
    """
    check_image(image)
    _check_regions(regions, image.shape[:2])
    check_count("the number of baselines", len(baselines), 1)
    starts = jnp.stack([as_baseline(baseline, image) for baseline in baselines])

    def from_baseline(start):
        return integrated_gradients(
            score, image, baseline=start, steps=steps, rule=rule, batch_size=batch_size
        )

    # One baseline at a time: batch_size bounds the gradients of all.
    return rank_regions(sum_channels(mean_chunked(from_baseline, starts, 1)), regions)


def rank_regions(saliency_map: SaliencyMap, regions: Regions) -> SaliencyMap:
    """The regions taken one by one, each time the one whose new pixels have the highest mean.

    M_ij = g(r_k) for ij in r_k without r_1 ... r_k-1
    r_k = argmax_r g(r), g(r) = the mean of the map over r without r_1 ... r_k-1

    Pixels that no region contains make up one region more. The gains are those at the time of the
    choice, and may rise again: what is left of a region can have a higher mean than the whole.

    Args:
      saliency_map: (h, w), in any range, usually signed.
      regions: (n, h, w) of booleans: they may overlap, and an empty one is passed over.

    Returns:
      The map (h, w), in the units of the saliency map, with the same total. A pixel that is
      not finite makes its region so, and others.

    Raises:
      TypeError: the map does not hold floats, or the regions do not hold booleans.
      ValueError: the map is not of shape (h, w), or the regions are not of shape (n, h, w) with the
        map's h and w.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import rank_regions
      >>> saliency_map = jnp.array([[5.0, 3.0, 4.0, 1.0]])
      >>> regions = jnp.array([[[True, True, False, False]], [[False, True, True, False]]])
      >>> print(rank_regions(saliency_map, regions))
      [[4. 4. 4. 1.]]

    Reference:
      Kapishnikov, Bolukbasi, Viegas, Terry, XRAI: Better Attributions Through Regions, 2019,
      arXiv:1906.02825, algorithm 1.
    """
    check_array("saliency_map", saliency_map, ("h", "w"))
    _check_regions(regions, saliency_map.shape)
    rest = ~jnp.asarray(regions).any(0, keepdims=True)
    every = jnp.concatenate([regions, rest])
    inside = every.reshape(len(every), -1).astype(saliency_map.dtype)

    def sums(values):
        # Without the barrier XLA merges two products with one matrix into one that is slower.
        of_pixel = jax.lax.optimization_barrier(values.astype(inside.dtype).ravel())
        return jnp.matmul(inside, of_pixel, precision="highest")

    def is_left(state):
        _, left = state
        return left.any()

    def take(state):
        ranked, left = state
        area = sums(left)
        gains = sums(jnp.where(left, saliency_map, 0)) / jnp.maximum(area, 1)
        # A gain of -inf still beats an empty region, or the loop would not end.
        lowest = jnp.finfo(gains.dtype).min
        best = jnp.argmax(jnp.where(area > 0, jnp.maximum(gains, lowest), -jnp.inf))
        return jnp.where(left & every[best], gains[best], ranked), left & ~every[best]

    start = jnp.zeros_like(saliency_map), jnp.ones(saliency_map.shape, bool)
    return jax.lax.while_loop(is_left, take, start)[0]


def _check_regions(regions: Regions, sides: tuple[int, ...]) -> None:
    if regions.dtype != bool:
        raise TypeError(f"expected regions to hold booleans, got {regions.dtype}")
    if regions.ndim != 3 or regions.shape[1:] != sides:
        raise ValueError(
            f"expected regions to have shape (n, {', '.join(map(str, sides))}), got {regions.shape}"
        )
