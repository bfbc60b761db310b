"""Insertion and deletion: the score while pixels come or go in the order of their saliency."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._types import Baseline, Count, Image, SaliencyMap, Score
from .._validation import check_count, check_image
from ..attribution._chunks import map_chunked
from ..attribution.baselines import as_baseline, blur, mean_color
from ._maps import check_map, rank

# In pixels. The paper's Gaussian has sigma 5 as well, cut off to 11 x 11, on images of 224 x 224.
BLURRED = Partial(blur, sigma=5.0)


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
    score: Score,
    image: Image,
    saliency_map: SaliencyMap,
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
      score: callable PyTree from one image to a scalar: `metrics.probability(model, label)` in the
        paper.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      saliency_map: (h, w), of any range: only its order matters.
      baseline: what replaces a pixel: an array (h, w, c) in the image's range, or a function of the
        image. The default is the image's mean colour; the paper takes the mean colour of its data.
      steps: K, from 1 to the number of pixels: the curve has K + 1 points. The paper's deletes 224
        of 224 x 224 pixels at a time, which is one step for a row; so is 64 for 64 x 64.
      batch_size: how many images are evaluated at once, at least 1: memory does not grow with
        steps, and the result changes by rounding alone.

    Returns:
      The `Curve` of the score over the fraction of pixels deleted, from the image's own score to
      the baseline's; `.area` is its mean height.

    Raises:
      TypeError: an array does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), map or baseline do not have its sides, one of
        them is known and not finite, or a count is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, metrics
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> curve = metrics.deletion(
      ...     jnp.sum, image, image[..., 0], baseline=attribution.baselines.zeros, steps=3
      ... )
      >>> print(curve.scores, curve.area.round(4))
      [7. 3. 1. 0.] 2.5

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    check_image(image)
    return _curve(score, image, as_baseline(baseline, image), saliency_map, steps, batch_size)


def insertion(
    score: Score,
    image: Image,
    saliency_map: SaliencyMap,
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
      score: callable PyTree from one image to a scalar: `metrics.probability(model, label)` in the
        paper.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      saliency_map: (h, w), of any range: only its order matters.
      baseline: what is shown at first: an array (h, w, c) in the image's range, or a function of
        the image. The default is the image blurred by a Gaussian of sigma 5 pixels.
      steps: K, from 1 to the number of pixels: the curve has K + 1 points.
      batch_size: how many images are evaluated at once, at least 1: memory does not grow with
        steps, and the result changes by rounding alone.

    Returns:
      The `Curve` of the score over the fraction of pixels inserted, from the baseline's score to
      the image's own; `.area` is its mean height.

    Raises:
      TypeError: an array does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), map or baseline do not have its sides, one of
        them is known and not finite, or a count is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, metrics
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> curve = metrics.insertion(
      ...     jnp.sum, image, image[..., 0], baseline=attribution.baselines.zeros, steps=3
      ... )
      >>> print(curve.scores, curve.area.round(4))
      [0. 4. 6. 7.] 4.5

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    check_image(image)
    return _curve(score, as_baseline(baseline, image), image, saliency_map, steps, batch_size)


def _curve(
    score: Score,
    start: Image,
    finish: Image,
    saliency_map: SaliencyMap,
    steps: Count,
    batch_size: Count,
) -> Curve:
    check_map(saliency_map, start.shape[:2])
    check_count("steps", steps, 1)
    if steps > saliency_map.size:
        raise ValueError(
            f"expected steps to be at most the number of pixels {saliency_map.size}, got {steps}"
        )
    place = rank(saliency_map)
    counts = np.arange(int(steps) + 1) * saliency_map.size // int(steps)

    def of_count(count):
        return score(jnp.where((place < count)[..., None], finish, start))

    fractions = jnp.asarray(counts / saliency_map.size, start.dtype)
    return Curve(fractions, map_chunked(of_count, jnp.asarray(counts), batch_size))
