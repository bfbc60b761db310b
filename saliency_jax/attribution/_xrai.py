"""XRAI: an image's regions, ranked by how much attribution they gain."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool

from .._chunks import mean_chunked
from .._numerics import at_least_single
from .._types import AnyMap, Baseline, Count, Image, SaliencyMap, ScoreFunction
from .._validation import as_image, as_unbounded, check_count, checked_together
from ..baselines import as_baseline, constant, zeros
from ..scores import as_score
from ._integrated_gradients import Rule, gauss_legendre, integrated_gradients
from ._reduce import sum_channels

Regions = Bool[Array, "n h w"] | Bool[np.ndarray, "n h w"]

_BLACK_AND_WHITE = (zeros, Partial(constant, color=1.0))


def xrai(
    score: ScoreFunction,
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
      score, image, steps, rule, batch_size: see the room. The path from each baseline has its own
        steps.
      regions: (n, h, w) of booleans, such as `segments.felzenszwalb_regions(image)`: they may
        overlap. Traced ones are welcome, and an empty region is passed over, so that several
        images' regions can be filled up to one number.
      baselines: at least one, each as the room's baseline; by default the colours 0 and 1.

    Returns:
      The signed map (h, w), in units of the score per pixel: high where a region matters.

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
    if not isinstance(baselines, tuple | list):
        raise TypeError(f"expected baselines to be a tuple, got {type(baselines).__name__}")
    check_count("the number of baselines", len(baselines), 1)
    with checked_together():
        image, score = as_image(image), as_score(score)
        regions = _as_regions(regions, image.shape[:2])
        starts = jnp.stack([as_baseline(baseline, image) for baseline in baselines])

    def from_baseline(start):
        return integrated_gradients(
            score, image, baseline=start, steps=steps, rule=rule, batch_size=batch_size
        )

    # One baseline at a time: batch_size bounds the gradients of all.
    return rank_regions(sum_channels(mean_chunked(from_baseline, starts, 1)), regions)


def rank_regions(saliency_map: AnyMap, regions: Regions) -> SaliencyMap:
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
    saliency_map = as_unbounded("saliency_map", saliency_map, ("h", "w"))
    values = at_least_single(saliency_map)
    regions = _as_regions(regions, values.shape)
    every = jnp.concatenate([regions, ~regions.any(0, keepdims=True)])
    inside = every.reshape(len(every), -1).astype(values.dtype)

    def sums(pixels):
        # Without the barrier XLA merges two products with one matrix into one that is slower.
        column = jax.lax.optimization_barrier(pixels.astype(inside.dtype).ravel())
        return jnp.matmul(inside, column, precision="highest")

    def is_left(state):
        _, left = state
        return left.any()

    def take(state):
        ranked, left = state
        area = sums(left)
        gains = sums(jnp.where(left, values, 0)) / jnp.maximum(area, 1)
        # A gain of -inf still beats an empty region, or the loop would not end.
        lowest = jnp.finfo(gains.dtype).min
        best = jnp.argmax(jnp.where(area > 0, jnp.maximum(gains, lowest), -jnp.inf))
        return jnp.where(left & every[best], gains[best], ranked), left & ~every[best]

    start = jnp.zeros_like(values), jnp.ones(values.shape, bool)
    ranked, _ = jax.lax.while_loop(is_left, take, start)
    return ranked.astype(saliency_map.dtype)


def _as_regions(regions: Regions, sides: tuple[int, ...]) -> Bool[Array, "n h w"]:
    if not isinstance(regions, jax.Array | np.ndarray):
        raise TypeError(f"expected regions to be an array, got {type(regions).__name__}")
    if regions.dtype != bool:
        raise TypeError(f"expected regions to hold booleans, got {regions.dtype}")
    if regions.ndim != 3 or regions.shape[1:] != sides or not len(regions):
        raise ValueError(
            f"expected regions to have shape (n, {', '.join(map(str, sides))}), got {regions.shape}"
        )
    return jnp.asarray(regions)
