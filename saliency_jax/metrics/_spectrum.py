"""The spectrum of an image: how strong small patterns are beside large ones."""

import jax
import jax.numpy as jnp
import numpy as np

from .._numerics import at_least_single
from .._types import Image, Scalar
from .._validation import as_image

# Two rings, the fewest that a line is drawn through.
_LEAST_SIDE = 4


def spectrum_slope(image: Image) -> Scalar:
    """How fast the power of an image falls with the frequency: the slope of the log-log plot.

    b = argmin_b min_a sum_k (log P_k - a - b log k)^2, with P_k = mean of |F(I)|^2 over ring k

    F is the two-dimensional Fourier transform of each channel. Ring k = 1 .. min(h, w) // 2 has the
    frequencies nearest to k waves along the shorter side; the mean is over the channels too. It is
    the power's slope; the amplitude's is half of it. White noise has 0, photographs about -2.

    Args:
      image: (h, w, c) of any range, at least 4 by 4. It is taken to go on periodically, so a jump
        from one border to the opposite one counts as a pattern.

    Returns:
      The slope, without unit. It depends neither on contrast nor on brightness. An image of a
      single value has none: nan. One without any pattern of some frequency has none either: it is
      not finite, or that of the rounding errors.

    Example:
      A single bright pixel has all frequencies alike:

      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> slope = metrics.spectrum_slope(jnp.zeros((8, 8, 1)).at[3, 4].set(1.0))
      >>> print(abs(slope) < 1e-5)
      True

    Reference:
      Field, Relations between the statistics of natural images and the response properties of
      cortical cells, Journal of the Optical Society of America A, 1987.
    """
    image = at_least_single(as_image(image))
    height, width, _ = image.shape
    side = min(height, width)
    if side < _LEAST_SIDE:
        raise ValueError(
            f"expected image to be at least {_LEAST_SIDE} by {_LEAST_SIDE} pixels, got {height} by "
            f"{width}"
        )
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    rings = np.rint(side * frequency).astype(int).ravel()
    ring = np.arange(1, side // 2 + 1)
    # Brightness rounds, and squares of small or large contrasts are no numbers of this precision.
    image = (image - image.min()) / (image.max() - image.min())
    power = jnp.mean(jnp.abs(jnp.fft.fft2(image, axes=(0, 1))) ** 2, axis=-1).ravel()
    sums = jax.ops.segment_sum(power, rings, rings.max() + 1)[ring]
    log_power = jnp.log(sums / np.bincount(rings)[ring].astype(power.dtype))
    centered = np.log(ring) - np.log(ring).mean()
    weights = (centered / np.sum(centered**2)).astype(power.dtype)
    return jnp.sum(weights * log_power)
