"""Performance information curves: the score over the information that an image has left."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._numerics import at_least_single
from .._types import AnyMap, Baseline, Count, Image, Number, Scalar, ScoreFunction
from .._validation import as_image, check_callable, check_count, checked_together
from ..baselines import as_baseline
from ..scores import as_score
from ._maps import as_map, check_fractions, nan_with, rank
from ._perturbation_curves import BLURRED, Curve

# Those of the authors' own example, at https://github.com/PAIR-code/saliency.
FRACTIONS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.13, 0.21, 0.34, 0.5, 0.75)
_LEVELS = 256
_NATS_PER_BIT = math.log(2)


def residual_entropy(image: Image) -> Scalar:
    """How many bits an image takes when each pixel is predicted from those before it.

    H = -sum_c n sum_r p_c(r) log2 p_c(r), with p_c(r) the share of the n pixels whose residual in
    channel c is r = I - clip(left + above - above left) mod 256, in 256 levels

    It is what lossless formats code, so that it goes along with the size of a compressed file, and
    unlike a file it can be had on any device under `jax.jit`.

    Args:
      image: (h, w, c) in [0, 1]; other values are clipped. Outside it, neighbours are 0.

    Returns:
      The entropy in bits, from 0 to 8 h w c.

    Example:
      A ramp is predicted from its first two pixels on:

      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> row, column = jnp.mgrid[:4, :4] / 15
      >>> ramp = (row + column)[..., None]
      >>> print(metrics.residual_entropy(ramp).round(1), metrics.residual_entropy(0 * ramp))
      15.3 0.0

    Reference:
      Weinberger, Seroussi, Sapiro, The LOCO-I lossless image compression algorithm, IEEE
      Transactions on Image Processing 9, 2000, on the entropy of residuals; WebP lossless
      bitstream specification, predictor 12 (neither on arXiv).
    """
    image = at_least_single(as_image(image))
    levels = jnp.rint(jnp.clip(image, 0, 1) * (_LEVELS - 1)).astype(int)
    padded = jnp.pad(levels, ((1, 0), (1, 0), (0, 0)))
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    residuals = (levels - jnp.clip(left + above - corner, 0, _LEVELS - 1)) % _LEVELS
    by_channel = residuals.reshape(-1, image.shape[-1]).T
    counts = jax.vmap(lambda values: jnp.bincount(values, length=_LEVELS))(by_channel)
    size = by_channel.shape[1]
    entropies = jax.scipy.special.entr(counts.astype(image.dtype) / size)
    return nan_with(image, size * entropies.sum() / _NATS_PER_BIT)


def performance_information_curve(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    baseline: Baseline = BLURRED,
    fractions: tuple[float, ...] = FRACTIONS,
    information: Callable[[Image], Number] = residual_entropy,
    num_points: Count = 101,
    batch_size: Count = 16,
) -> Curve:
    """A performance information curve: the share of the score over the share of the information.

    With I_f the image's fraction f of most salient pixels on the blurred image B, for every f

    x_f = (H(I_f) - H(B)) / (H(I) - H(B)), y_f = (S(I_f) - S(B)) / (S(I) - S(B)), clipped to [0, 1]

    and the curve goes through the points (x_f, max over f' with x_f' <= x_f of y_f'). The score
    decides which curve it is: `scores.probability(model, label)` gives the softmax information
    curve (SIC), `scores.accuracy(model, label)` the accuracy information curve (AIC). The area
    under the curve is the metric, in [0, 1]: higher is better.

    Traps: it is undefined, and nan, for an image that has not lost score or information when
    blurred (for AIC: unless it is classified rightly and its blur wrongly), so that the images of
    two models are not the same ones; over images the paper takes the median of the curves. The
    paper measures H by the size of a WebP file, and its authors' code fills the places between the
    salient pixels by interpolation and not by a blur: compare areas within one setting only.

    Args:
      score, image, saliency_map, batch_size: see the room. The image is in [0, 1] if information is
        the default.
      baseline: the blurred image B. The default is a Gaussian of sigma 5 pixels.
      fractions: of pixels shown, rising, in [0, 1]. None and all of them are always measured.
      information: H, from an image (h, w, c) to a scalar in any unit.
      num_points: at how many places from 0 to 1 the curve is given, at least 2.

    Returns:
      The `Curve` of the score's share, rising from 0 to 1, over the information's; `.area` is its
      mean height.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines, metrics
      >>> image = jnp.array([[[1.0], [2.0], [4.0], [1.0]]])
      >>> curve = metrics.performance_information_curve(
      ...     jnp.sum, image, image[..., 0], baseline=baselines.zeros,
      ...     fractions=(0.25, 0.5), information=lambda shown: jnp.sum(shown != 0.0), num_points=5,
      ... )
      >>> print(curve.scores, curve.area)
      [0.    0.5   0.75  0.875 1.   ] 0.65625

    Reference:
      Kapishnikov, Bolukbasi, Viegas, Terry, XRAI: Better Attributions Through Regions, 2019,
      arXiv:1906.02825.
    """
    with checked_together():
        score, image = as_score(score), as_image(image)
        saliency_map = as_map(saliency_map, image.shape[:2])
        start = as_baseline(baseline, image)
    check_fractions(fractions)
    check_callable("information", information)
    num_points = check_count("num_points", num_points, 2)
    place = rank(saliency_map)
    counts = jnp.asarray(np.rint(saliency_map.size * np.array([0, *fractions, 1])), place.dtype)

    def of_count(count):
        shown = jnp.where((place < count)[..., None], image, start)
        value = at_least_single(score(shown))
        return jnp.asarray(information(shown), value.dtype), value

    amounts, values = map_chunked(of_count, counts, batch_size)
    x, y = _share(amounts), _share(values)
    order = jnp.argsort(x)
    grid = jnp.linspace(0, 1, num_points, dtype=values.dtype)
    curve = jnp.interp(grid, x[order], jax.lax.cummax(y[order]))
    is_defined = (amounts[-1] > amounts[0]) & (values[-1] > values[0])
    return Curve(grid, nan_with(saliency_map, jnp.where(is_defined, curve, jnp.nan)))


def _share(values: Float[Array, "n"]) -> Float[Array, "n"]:
    return jnp.clip((values - values[0]) / (values[-1] - values[0]), 0, 1)
