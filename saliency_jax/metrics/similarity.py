"""Structural similarity: how alike two maps look."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Number, SaliencyMap, Scalar
from .._validation import check_at_least
from ._maps import check_map

# The paper's: a Gaussian window and the two constants that keep its ratios finite.
_RADIUS, _SIGMA = 5, 1.5
_K1, _K2 = 0.01, 0.03


def structural_similarity(
    first: SaliencyMap, second: SaliencyMap, *, data_range: Number = 1.0
) -> Scalar:
    """SSIM: how alike two maps look, window by window.

    SSIM = mean_p (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2)),
    c1 = (0.01 L)^2, c2 = (0.03 L)^2

    m, s^2 and s_ab are the maps' means, variances and covariance under a Gaussian window of 11 x 11
    pixels with sigma 1.5 around p; all windows that lie within the maps count. L is the range.

    Traps: it depends on the maps' strength, so that maps of different units have to be brought to
    one range first, and on how: dividing by the largest value makes sparse maps look alike.

    Args:
      first: a (h, w), of sides of at least 11.
      second: b, of the same sides and unit.
      data_range: L, above 0: the difference of the largest and the smallest value that such maps
        can have.

    Returns:
      The similarity, without unit, at most 1: 1 for equal maps, about 0 for unrelated ones.

    Raises:
      TypeError: a map does not hold floats.
      ValueError: the maps differ in shape, are smaller than a window or known and not finite, or
        the range is known and not above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> saliency_map = jnp.eye(16)
      >>> print(metrics.structural_similarity(saliency_map, saliency_map))
      1.0

    Reference:
      Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment: From Error Visibility to Structural
      Similarity, IEEE Transactions on Image Processing 13, 2004, doi:10.1109/TIP.2003.819861 (not
      on arXiv); for saliency maps Adebayo et al., Sanity Checks for Saliency Maps, 2018,
      arXiv:1810.03292.
    """
    check_map(first)
    check_map(second, first.shape)
    check_at_least("data_range", data_range, np.finfo(np.float32).tiny)
    if min(first.shape) < 2 * _RADIUS + 1:
        raise ValueError(
            f"expected maps with sides of at least {2 * _RADIUS + 1}, got {first.shape}"
        )
    down, along = (_windows(side) for side in first.shape)

    def mean(values: SaliencyMap) -> Float[Array, "i j"]:
        rows = jnp.matmul(down, values, precision="highest")
        return jnp.matmul(rows, along.T, precision="highest")

    mean_a, mean_b = mean(first), mean(second)
    variances = mean(first**2) - mean_a**2 + mean(second**2) - mean_b**2
    covariance = mean(first * second) - mean_a * mean_b
    c1, c2 = ((k * data_range) ** 2 for k in (_K1, _K2))
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return jnp.mean(luminance * (2 * covariance + c2) / (variances + c2))


def _windows(length: int) -> Float[np.ndarray, "i n"]:
    """A row for each window along an axis, with its weights."""
    distance = np.arange(length) - np.arange(length - 2 * _RADIUS)[:, None] - _RADIUS
    weights = np.exp(-(distance**2) / (2 * _SIGMA**2)) * (np.abs(distance) <= _RADIUS)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
