"""Structural similarity: how alike two maps look."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics import common_dtype
from .._types import AnyMap, Number, Scalar
from .._validation import as_number, checked_together
from ._maps import as_map

# The paper's: a Gaussian window and the two constants that keep its ratios finite.
_RADIUS, _SIGMA = 5, 1.5
_K1, _K2 = 0.01, 0.03
_OFFSETS = np.arange(2 * _RADIUS + 1)
_WEIGHTS = np.exp(-((_OFFSETS - _RADIUS) ** 2) / (2 * _SIGMA**2))
_WEIGHTS /= _WEIGHTS.sum()


def structural_similarity(first: AnyMap, second: AnyMap, *, data_range: Number = 1.0) -> Scalar:
    """SSIM: how alike two maps look, window by window.

    SSIM = mean_p (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2)),
    c1 = (0.01 L)^2, c2 = (0.03 L)^2

    m, s^2 and s_ab are the maps' means, variances and covariance under a Gaussian window of 11 x 11
    pixels with sigma 1.5 around p; all windows that lie within the maps count. L is the range. The
    variances are means of squared deviations, so that contrasts far below the maps' level count.

    Traps: it depends on the maps' strength, so that maps of different units have to be brought to
    one range first, and on how: dividing by the largest value makes sparse maps look alike.

    Args:
      first: a (h, w), of sides of at least 11.
      second: b, of the same sides and unit.
      data_range: L, above 0: the difference of the largest and the smallest value that such maps
        can have.

    Returns:
      The similarity, without unit, at most 1: 1 for equal maps, about 0 for unrelated ones.

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
    with checked_together():
        first = as_map(first, name="first")
        second = as_map(second, first.shape, "second")
    data_range = as_number("data_range", data_range, np.finfo(np.float32).tiny)
    if min(first.shape) < len(_OFFSETS):
        raise ValueError(f"expected maps with sides of at least {len(_OFFSETS)}, got {first.shape}")
    dtype = common_dtype(first.dtype, second.dtype)
    first, second, scale = (jnp.asarray(values, dtype) for values in (first, second, data_range))
    # Of the largest value, where that is above the range, so that no square is infinite.
    largest = jnp.maximum(abs(first).max(), abs(second).max())
    unit = jax.lax.stop_gradient(jnp.maximum(scale, largest))
    # Where both maps are 0 their similarity is 1, however small the range.
    c1, c2 = (jnp.maximum((k * (scale / unit)) ** 2, jnp.finfo(dtype).tiny) for k in (_K1, _K2))
    mean_a, variance_a = _moments(first, unit)
    mean_b, variance_b = _moments(second, unit)
    half_gap, variance_of_half = _moments(first / 2 - second / 2, unit)
    # (2 x y + c) / (x^2 + y^2 + c) as 1 - (x - y)^2 / (x^2 + y^2 + c), and the quotient at most 2,
    # so that it is within -1 and 1 in any rounding; so is the second factor.
    luminance = 1 - jnp.minimum((2 * half_gap) ** 2 / (mean_a**2 + mean_b**2 + c1), 2)
    structure = 1 - jnp.minimum(4 * variance_of_half / (variance_a + variance_b + c2), 2)
    return jnp.mean(luminance * structure)


def _moments(
    values: Float[Array, "n m"], scale: Scalar
) -> tuple[Float[Array, "i j"], Float[Array, "i j"]]:
    """Means and variances of all windows, in units of the scale and of its square."""
    # Beside a large constant the deviations would be lost in rounding.
    constant = values.min()
    of_columns, within = _moments_down(values - constant, scale)
    means, between = _moments_down(of_columns.T, scale)
    # A window's variance is that of its columns' means and the mean of their variances.
    return (constant + means.T) / scale, (between + _mean_down(within.T)).T


def _moments_down(
    values: Float[Array, "n m"], scale: Scalar
) -> tuple[Float[Array, "i m"], Float[Array, "i m"]]:
    mean = _mean_down(values)
    deviations = (_windows_down(values) - mean[:, None]) / scale
    return mean, _weighted(deviations**2)


def _mean_down(values: Float[Array, "n m"]) -> Float[Array, "i m"]:
    return _weighted(_windows_down(values))


def _windows_down(values: Float[Array, "n m"]) -> Float[Array, "i 11 m"]:
    starts = np.arange(len(values) - 2 * _RADIUS)
    return values[starts[:, None] + _OFFSETS]


def _weighted(windows: Float[Array, "i 11 m"]) -> Float[Array, "i m"]:
    return jnp.sum(jnp.asarray(_WEIGHTS[None, :, None], windows.dtype) * windows, axis=1)
