"""From a signal to a picture over time and frequency, differentiable: the ear of a network.

Placed at the front of a model, they let a map of its input be drawn over time and frequency and,
since the gradient passes through them, over the samples of the signal itself. Each takes one signal
of shape (t,): real, such as sound, or complex, such as a radio's baseband, whose negative
frequencies differ from its positive ones.

What means the same everywhere here:

  signal: (t,), real or complex, in any unit; NumPy's arrays are welcome. Half precision, in which
    there are no complex numbers, is transformed in single.
  window_size: N, from 2 to t, in samples.
  hop: h, at least 1, in samples from one window's beginning to the next one's.
  sample_rate: r, above 0, in samples a second.

TypeError is raised where a signal holds no numbers of these kinds or a count is no integer,
ValueError where a shape is another, a number is out of range, or a known value is not finite.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Array, Complex, Float, Inexact

from .._numerics import at_least_single
from .._types import Count, Number
from .._validation import (
    as_array,
    as_number,
    as_signal,
    check_at_least,
    check_count,
    check_finite,
    check_floats,
    is_concrete,
    to_jax,
)

Samples = Inexact[Array, "t"] | Inexact[np.ndarray, "t"]

# Of power 1, 80 dB below it: about the quantization noise of 16 bits in a quiet recording.
FLOOR = 1e-8
# In hertz, of the mel scale as O'Shaughnessy has it: 2595 log10(1 + f / 700).
_MEL_BREAK = 700.0


def complex_baseband(
    samples: Float[Array, "t 2"] | Float[np.ndarray, "t 2"],
) -> Complex[Array, "t"]:
    """A radio's two channels, in-phase and quadrature, as one complex signal.

    z_n = I_n + i Q_n

    Args:
      samples: (t, 2), in any unit.

    Returns:
      (t,), complex, in the same unit.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import spectrograms
      >>> print(spectrograms.complex_baseband(jnp.array([[1.0, 0.0], [0.0, -2.0]])))
      [1.+0.j 0.-2.j]

    Reference:
      Oppenheim, Schafer, Discrete-Time Signal Processing, 3rd edition, 2010, section 12.4.
    """
    samples = at_least_single(as_array("samples", samples, ("t", "2")))
    if samples.shape[1] != 2:
        raise ValueError(f"expected samples to have shape (t, 2), got {samples.shape}")
    return jax.lax.complex(samples[:, 0], samples[:, 1])


def hann_window(size: Count) -> Float[np.ndarray, "size"]:
    """The periodic Hann window, of which shifted copies add up to a constant.

    w_n = sin^2(pi n / N), n = 0 .. N - 1

    Args:
      size: N, at least 2, in samples.

    Returns:
      (size,), in [0, 1].

    Example:
      >>> from saliency_jax.signals import spectrograms
      >>> print(spectrograms.hann_window(4))
      [0.  0.5 1.  0.5]

    Reference:
      Harris, On the use of windows for harmonic analysis with the discrete Fourier transform,
      Proceedings of the IEEE, 1978.
    """
    return _window(size).astype(np.float32)


def frequencies(
    window_size: Count, *, sample_rate: Number = 1.0, two_sided: bool = False
) -> Float[np.ndarray, "frequencies"]:
    """The frequencies of the columns of `stft`, rising.

    f_k = k r / N, with k = 0 .. floor(N / 2), or two-sided k = -floor(N / 2) .. ceil(N / 2) - 1

    Args:
      window_size: N, at least 2, in samples.
      sample_rate: r; with 1 the frequencies are in cycles a sample.
      two_sided: whether the signal is complex, so that negative frequencies are columns too.

    Returns:
      (frequencies,), in the unit of the sample rate.

    Example:
      >>> from saliency_jax.signals import spectrograms
      >>> print(spectrograms.frequencies(4, sample_rate=8000))
      [   0. 2000. 4000.]
      >>> print(spectrograms.frequencies(4, two_sided=True))
      [-0.5  -0.25  0.    0.25]

    Reference:
      Oppenheim, Schafer, Discrete-Time Signal Processing, 3rd edition, 2010, section 10.3.
    """
    window_size = check_count("window_size", window_size, 2)
    _check_above_zero("sample_rate", sample_rate)
    size, spacing = int(window_size), 1 / float(sample_rate)
    if two_sided:
        return np.fft.fftshift(np.fft.fftfreq(size, spacing)).astype(np.float32)
    return np.fft.rfftfreq(size, spacing).astype(np.float32)


def stft(
    signal: Samples, *, window_size: Count, hop: Count
) -> Complex[Array, "frames frequencies"]:
    """The short-time Fourier transform, under a Hann window.

    X_mk = sum_n w_n x_{m h + n} exp(-2 pi i k n / N) / sum_n w_n, with n = 0 .. N - 1

    A frame for every whole window: nothing is padded, so that samples of the first and the last
    N - h have less weight than the others. Divided by the window's sum, the values are amplitudes:
    of a complex tone a exp(2 pi i k n / N) the value at k is a, of a real tone half its amplitude.

    Args:
      signal, window_size, hop: see the module.

    Returns:
      (frames, frequencies), complex, in the signal's unit; frames are (t - N) // h + 1, and the
      columns those of `frequencies`: N // 2 + 1 of a real signal; all N of a complex one, from the
      lowest negative frequency up.

    Example:
      A tone of amplitude 1 at a quarter of the sampling frequency:

      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import spectrograms
      >>> tone = jnp.cos(jnp.pi / 2 * jnp.arange(12.0))
      >>> jnp.abs(spectrograms.stft(tone, window_size=8, hop=4)).round(2).tolist()
      [[0.0, 0.25, 0.5, 0.25, 0.0], [0.0, 0.25, 0.5, 0.25, 0.0]]

    Reference:
      Allen, Rabiner, A unified approach to short-time Fourier analysis and synthesis, Proceedings
      of the IEEE, 1977.
    """
    signal = as_signal("signal", signal)
    window_size = check_count("window_size", window_size, 2)
    hop = check_count("hop", hop, 1)
    if window_size > len(signal):
        raise ValueError(
            f"expected window_size to be at most the signal's {len(signal)} samples, "
            f"got {window_size}"
        )
    window = _window(window_size)
    weights = jnp.asarray(window / window.sum(), signal.dtype)
    frames = _frames(signal, int(window_size), int(hop)) * weights[None, :]
    if jnp.iscomplexobj(signal):
        return jnp.fft.fftshift(jnp.fft.fft(frames, axis=-1), axes=-1)
    return jnp.fft.rfft(frames, axis=-1)


def inverse_stft(
    coefficients: Complex[Array, "frames frequencies"] | Complex[np.ndarray, "frames frequencies"],
    *,
    hop: Count,
) -> Complex[Array, "t"]:
    """The complex signal whose short-time Fourier transform is nearest to given coefficients.

    x_n = sum_m w_{n - m h} y_{m, n - m h} / sum_m w_{n - m h}^2, with y_m the inverse discrete
    Fourier transform of X_m sum_n w_n

    It undoes the `stft` of a complex signal. Coefficients that are no signal's, as when some are
    hidden, go to the signal with the least sum of squared differences. It is linear: as the first
    layer of a model, it makes the coefficients the model's input, and a gradient or an attribution
    of the signal one over time and frequency.

    Args:
      coefficients: (frames, frequencies), from the lowest negative frequency up, as of `stft`.
      hop: h, a divisor of the number of frequencies N, in samples.

    Returns:
      (t,), t = (frames - 1) h + N. The first sample, and every other that no window weighs, is 0:
      zeros before the signal keep what matters away from it.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import spectrograms
      >>> signal = jnp.array([0, 0, 1, 2j, 3, 4j, 0, 0])
      >>> coefficients = spectrograms.stft(signal, window_size=4, hop=1)
      >>> print(jnp.abs(spectrograms.inverse_stft(coefficients, hop=1) - signal).max() < 1e-5)
      True

    Reference:
      Griffin, Lim, Signal estimation from modified short-time Fourier transform, IEEE Transactions
      on Acoustics, Speech, and Signal Processing, 1984.
    """
    hop = check_count("hop", hop, 1)
    if not isinstance(coefficients, jax.Array | np.ndarray) or not jnp.iscomplexobj(coefficients):
        kind = getattr(coefficients, "dtype", type(coefficients).__name__)
        raise TypeError(f"expected coefficients to be a complex array, got {kind}")
    if coefficients.ndim != 2 or 0 in coefficients.shape:
        raise ValueError(
            f"expected coefficients to have shape (frames, frequencies), got {coefficients.shape}"
        )
    check_finite("coefficients", coefficients)
    coefficients = to_jax(coefficients)
    count, size = coefficients.shape
    step = int(hop)
    if size % step:
        raise ValueError(f"expected hop to divide the window's {size} samples, got {hop}")
    window = jnp.asarray(_window(size), coefficients.real.dtype)
    weights = _overlapped(jnp.tile(window**2, (count, 1)), step)
    inverse = jnp.where(weights > 0, 1 / jnp.where(weights > 0, weights, 1), 0)
    window = window.astype(coefficients.dtype)
    frames = jnp.fft.ifft(jnp.fft.ifftshift(coefficients, axes=-1), axis=-1) * window.sum()
    return _overlapped(frames * window[None, :], step) * inverse.astype(coefficients.dtype)


def power(
    values: Complex[Array, "*shape"] | Complex[np.ndarray, "*shape"],
) -> Float[Array, "*shape"]:
    """The squared modulus, with a gradient at 0, which the modulus has not.

    P = |X|^2 = (Re X)^2 + (Im X)^2

    Args:
      values: complex, of any shape, such as from `stft`.

    Returns:
      Real, of the same shape, in the square of their unit; at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import spectrograms
      >>> print(spectrograms.power(jnp.array([3.0 + 4.0j])))
      [25.]

    Reference:
      Oppenheim, Schafer, Discrete-Time Signal Processing, 3rd edition, 2010, section 10.5.
    """
    if not isinstance(values, jax.Array | np.ndarray) or not jnp.iscomplexobj(values):
        kind = getattr(values, "dtype", type(values).__name__)
        raise TypeError(f"expected values to be a complex array, got {kind}")
    values = to_jax(values)
    return values.real**2 + values.imag**2


def decibels(
    power: Float[Array, "*shape"] | Float[np.ndarray, "*shape"], *, floor: Number = FLOOR
) -> Float[Array, "*shape"]:
    """A power's level, smoothly limited below, so that the gradient at silence is finite.

    L = 10 log10(P + e), with e the floor

    Args:
      power: of any shape, at least 0.
      floor: e, above 0, in the unit of the power.

    Returns:
      The level, of the same shape, in decibels above a power of 1: at least 10 log10(e).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import spectrograms
      >>> print(spectrograms.decibels(jnp.array([0.0, 1.0])).round(4))
      [-80.   0.]

    Reference:
      ISO 80000-3:2006, annex C, on the decibel.
    """
    _check_above_zero("floor", floor)
    check_floats("power", power)
    check_at_least("power", power, 0)
    values = to_jax(power)
    # In half precision the floor would be 0.
    wide = at_least_single(values)
    return (10 * jnp.log10(wide + jnp.asarray(floor, wide.dtype))).astype(values.dtype)


def mel_filters(
    num_bands: Count,
    *,
    window_size: Count,
    sample_rate: Number,
    low: Number = 0.0,
    high: Number | None = None,
) -> Float[np.ndarray, "bands frequencies"]:
    """Triangles over the frequencies of `stft`, whose centres are equally far apart to the ear.

    F_bk = max(0, min((f_k - c_{b-1}) / (c_b - c_{b-1}), (c_{b+1} - f_k) / (c_{b+1} - c_b))),
    mel(f) = 2595 log10(1 + f / 700), mel(c_b) equidistant, c_0 = low and c_{B+1} = high

    Each is 1 at its centre and 0 at its neighbours': between the first and the last centre they
    add up to 1.

    Args:
      num_bands: B, at least 1.
      window_size, sample_rate: see the module.
      low: where the first triangle begins, at least 0, in hertz.
      high: where the last one ends, above `low`, in hertz; half the sample rate if None.

    Returns:
      (bands, N // 2 + 1), in [0, 1].

    Raises:
      ValueError: a triangle is so narrow that it is 0 at all of the frequencies, as with many bands
        and a small window.

    Example:
      >>> from saliency_jax.signals import spectrograms
      >>> print(spectrograms.mel_filters(2, window_size=8, sample_rate=2000).round(2))
      [[0.   0.97 0.2  0.   0.  ]
       [0.   0.03 0.8  0.57 0.  ]]

    Reference:
      Stevens, Volkmann, Newman, A scale for the measurement of the psychological magnitude pitch,
      1937; the formula is that of O'Shaughnessy, Speech Communication: Human and Machine, 1987.
    """
    num_bands = check_count("num_bands", num_bands, 1)
    of_bins = frequencies(window_size, sample_rate=sample_rate)
    low = float(as_number("low", low, 0))
    high = None if high is None else as_number("high", high)
    top = float(sample_rate) / 2 if high is None else float(high)
    if not low < top <= float(sample_rate) / 2:
        raise ValueError(
            f"expected high to be above low, {low}, and at most half the sample rate, "
            f"{float(sample_rate) / 2}, got {top}"
        )
    # Equally far apart in mel, whatever its unit.
    ends = np.log1p(np.array([low, top]) / _MEL_BREAK)
    mels = np.linspace(ends[0], ends[1], num_bands + 2)
    corners = _MEL_BREAK * np.expm1(mels)
    if not np.diff(corners).min() > 0:
        raise ValueError(f"expected high to be further above low, {low}, got {top}")
    with np.errstate(over="ignore"):
        rise = (of_bins[None, :] - corners[:-2, None]) / np.diff(corners)[:-1, None]
        fall = (corners[2:, None] - of_bins[None, :]) / np.diff(corners)[1:, None]
    filters = np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
    empty = np.flatnonzero(filters.max(1) == 0)
    if empty.size:
        raise ValueError(
            f"expected each of {num_bands} bands to hold a frequency of a window of {window_size} "
            f"samples, got none in band {empty[0]}; take fewer bands or a larger window"
        )
    return filters


def log_mel(
    signal: Float[Array, "t"] | Float[np.ndarray, "t"],
    *,
    sample_rate: Number,
    window_size: Count,
    hop: Count,
    num_bands: Count,
    floor: Number = FLOOR,
) -> Float[Array, "frames bands"]:
    """The log-mel spectrogram: a sound's level in bands as the ear has them, over time.

    L_mb = 10 log10(sum_k F_bk |X_mk|^2 + e), with F from `mel_filters` and X from `stft`

    Args:
      signal: (t,), real, usually in [-1, 1].
      sample_rate, window_size, hop: see the module.
      num_bands: at least 1.
      floor: e, above 0, in the square of the signal's unit.

    Returns:
      (frames, bands), in the signal's precision, in decibels above the power of a tone of
      amplitude 2.

    Example:
      Silence, and a tone of 2,000 Hz:

      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import spectrograms
      >>> tone = 2 * jnp.cos(jnp.pi / 2 * jnp.arange(8.0))
      >>> for signal in 0 * tone, tone:
      ...     print(spectrograms.log_mel(
      ...         signal, sample_rate=8000, window_size=8, hop=1, num_bands=2
      ...     ).round())
      [[-80. -80.]]
      [[-8.  0.]]

    Reference:
      Davis, Mermelstein, Comparison of parametric representations for monosyllabic word recognition
      in continuously spoken sentences, IEEE Transactions on Acoustics, Speech, and Signal
      Processing, 1980.
    """
    signal = as_array("signal", signal, ("t",))
    spectrum = power(stft(signal, window_size=window_size, hop=hop))
    check_finite("the power of signal", spectrum)
    filters = mel_filters(num_bands, window_size=window_size, sample_rate=sample_rate)
    level = decibels(spectrum @ jnp.asarray(filters.T, spectrum.dtype), floor=floor)
    return level.astype(signal.dtype)


def _window(size: Count) -> Float[np.ndarray, "size"]:
    size = check_count("size", size, 2)
    return scipy.signal.windows.hann(int(size), sym=False)


def _check_above_zero(name: str, value: Number) -> None:
    value = as_number(name, value)
    if is_concrete(value) and not 0 < np.asarray(value) < np.inf:
        raise ValueError(f"expected {name} to be above 0, got {value}")


def _frames(signal: Inexact[Array, "t"], size: int, hop: int) -> Inexact[Array, "frames size"]:
    """Overlapping windows, put together from blocks of one hop, whose gradient is no scatter."""
    count = (len(signal) - size) // hop + 1
    per_frame = -(-size // hop)
    length = (count + per_frame - 1) * hop
    # The last frame's last block may reach beyond the signal, where the cut below takes it off.
    padded = jnp.pad(signal[:length], (0, max(0, length - len(signal))))
    blocks = padded.reshape(-1, hop)
    frames = jnp.concatenate([blocks[start : start + count] for start in range(per_frame)], axis=1)
    return frames[:, :size]


def _overlapped(frames: Inexact[Array, "frames size"], hop: int) -> Inexact[Array, "t"]:
    """The sum of frames that each begin a hop after the one before."""
    count, size = frames.shape
    per_frame = size // hop
    blocks = frames.reshape(count, per_frame, hop)
    shifted = [
        jnp.pad(blocks[:, place], ((place, per_frame - 1 - place), (0, 0)))
        for place in range(per_frame)
    ]
    return sum(shifted[1:], shifted[0]).ravel()
