"""Insertion and deletion: the score while pixels come or go in the order of their saliency."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._numerics import at_least_single
from .._types import AnyMap, Baseline, Count, Image, SaliencyMap, ScoreFunction
from .._validation import as_image, check_count, checked_together
from ..baselines import as_baseline, blurred, mean_color
from ..scores import as_score
from ._maps import as_map, nan_with, rank

# In pixels. The paper's Gaussian has sigma 5 as well, cut off to 11 x 11, on images of 224 x 224.
BLURRED = Partial(blurred, sigma=5.0)


class Curve(NamedTuple):
    """A score that is measured at several fractions of something.

    Attributes:
      fractions: (n,) in [0, 1], rising: of the pixels, or of the information.
      scores: (n,) the score at each; of a batch of images (..., n).
    """

    fractions: Float[Array, "*batch n"]
    scores: Float[Array, "*batch n"]

    @property
    def area(self) -> Float[Array, "*batch"]:
        """The area under the curve, by trapezoids: from 0 to 1, the score's mean."""
        return jnp.trapezoid(self.scores, self.fractions, axis=-1)


def deletion(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    baseline: Baseline = mean_color,
    steps: Count = 64,
    batch_size: Count = 16,
) -> Curve:
    """Deletion: how the score falls while pixels are replaced, the most salient ones first.

    D_k = S(I with B in the round-down of k n / K most salient of n pixels), k = 0 .. K

    All channels of a pixel go together. The area under the curve is the metric: lower is better. It
    has the score's range, so of a probability [0, 1].

    Traps: an image with holes is unlike any that the model was trained on, so a map may do well
    because its holes confuse: speckled maps do better than smooth ones of the same object (ROAD
    fills holes in instead). What replaces matters: black in a dark place deletes nothing. Equally
    salient pixels go in reading order, so a map with large flat parts is measured from the top.
    Areas of different scores, steps or baselines cannot be compared.

    Args:
      score, image, saliency_map, batch_size: see the room; the paper's score is
        `scores.probability(model, label)`.
      baseline: what replaces a pixel. The default is the image's mean colour; the paper takes the
        mean colour of its data.
      steps: K, from 1 to the number of pixels: the curve has K + 1 points. The paper's deletes 224
        of 224 x 224 pixels at a time, which is one step for a row; so is 64 for 64 x 64.

    Returns:
      The `Curve` of the score over the fraction of pixels deleted, from the image's own score to
      the baseline's; `.area` is its mean height.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines, metrics
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> curve = metrics.deletion(
      ...     jnp.sum, image, image[..., 0], baseline=baselines.zeros, steps=3
      ... )
      >>> print(curve.scores, curve.area.round(4))
      [7. 3. 1. 0.] 2.5

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    with checked_together():
        score, image = as_score(score), as_image(image)
        hidden = as_baseline(baseline, image)
        saliency_map = as_map(saliency_map, image.shape[:2])
    return _curve(score, image, hidden, saliency_map, steps, batch_size)


def insertion(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    baseline: Baseline = BLURRED,
    steps: Count = 64,
    batch_size: Count = 16,
) -> Curve:
    """Insertion: how the score rises while pixels are shown on a blurred image, most salient first.

    J_k = S(B with I in the round-down of k n / K most salient of n pixels), k = 0 .. K

    All channels of a pixel come together. The area under the curve is the metric: higher is better.
    It has the score's range, so of a probability [0, 1].

    Traps: on a blurred image of a class that colours give away, the score is high from the start,
    whatever the map. A sigma in pixels blurs a small image more than a large one. Equally salient
    pixels come in reading order. Areas of different scores, steps or baselines cannot be compared.

    Args:
      score, image, saliency_map, steps, batch_size: as for `deletion`.
      baseline: what is shown at first. The default is the image blurred by a Gaussian of sigma 5
        pixels.

    Returns:
      The `Curve` of the score over the fraction of pixels inserted, from the baseline's score to
      the image's own; `.area` is its mean height.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines, metrics
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> curve = metrics.insertion(
      ...     jnp.sum, image, image[..., 0], baseline=baselines.zeros, steps=3
      ... )
      >>> print(curve.scores, curve.area.round(4))
      [0. 4. 6. 7.] 4.5

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    with checked_together():
        score, image = as_score(score), as_image(image)
        hidden = as_baseline(baseline, image)
        saliency_map = as_map(saliency_map, image.shape[:2])
    return _curve(score, hidden, image, saliency_map, steps, batch_size)


def _curve(
    score: ScoreFunction,
    start: Image,
    finish: Image,
    saliency_map: SaliencyMap,
    steps: Count,
    batch_size: Count,
) -> Curve:
    steps = check_count("steps", steps, 1)
    if steps > saliency_map.size:
        raise ValueError(
            f"expected steps to be at most the number of pixels {saliency_map.size}, got {steps}"
        )
    place = rank(saliency_map)
    counts = np.arange(steps + 1) * saliency_map.size // steps

    def of_count(count):
        return at_least_single(score(jnp.where((place < count)[..., None], finish, start)))

    values = map_chunked(of_count, jnp.asarray(counts, place.dtype), batch_size)
    fractions = jnp.asarray(counts / saliency_map.size, values.dtype)
    return Curve(fractions, nan_with(saliency_map, values))
