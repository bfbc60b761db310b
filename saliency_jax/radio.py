"""Radio signals that are synthesized: constellations, pulses, modulations, and the channel.

A signal is complex baseband, (t,), with one sample a unit of time: frequencies are in cycles per
sample, delays in samples. What a classifier takes is its two real columns, (t, 2);
`spectrograms.complex_baseband` takes them back.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Complex, Float

from . import spectrograms
from ._types import Count, Key, Number, Scalar
from ._validation import check_array, check_at_least, check_count, is_concrete

Signal = Complex[Array, "t"]
Points = Complex[Array, "m"]

SAMPLES_PER_SYMBOL = 8
LENGTH = 1024
SNRS = tuple(range(-10, 21, 2))

# How many symbols a pulse reaches on each side. Beyond it a root-raised cosine of rolloff 0.2 has
# 1e-5 of its energy.
_SPAN = 12
# Symbols that are made on each side of the window and cut off, so that a delay has a past.
_MARGIN = 8
# The 0.3 GMSK of GSM has 0.3 and an index of 1/2; Bluetooth has 0.5 and 0.28 to 0.35.
_GFSK_BANDWIDTH, _GFSK_INDEX = 0.5, 0.32
_CPFSK_INDEX = 0.5
_ROLLOFFS = (0.2, 0.4)
_AM_BANDWIDTH, _AM_INDICES = 0.05, (0.5, 1.0)
_FM_BANDWIDTH, _FM_DEVIATION = 0.02, 0.05
_CARRIERS = (-0.01, 0.01)
_PATH_POWERS = (1.0, 0.25, 0.1)
_DELAYS = (0.0, 4.0)
_RICIAN_K = 4.0


class Reception(NamedTuple):
    """A signal as a receiver gets it, and what is true of it.

    Attributes:
      iq: (t, 2), in phase and quadrature, of unit power.
      clean: (t,), the part of it that is not noise.
      band: (2,), the lowest and the highest frequency of the clean signal's occupied band, in
        cycles per sample.
      timing: the first decision instant, in samples from the start; one follows every
        `SAMPLES_PER_SYMBOL`. AM and FM have no symbols, and nan.
    """

    iq: Float[Array, "t 2"]
    clean: Signal
    band: Float[Array, "2"]
    timing: Scalar


def phase_shift_keying(order: Count) -> Points:
    """The points of phase-shift keying: exp(2 pi i m / M), m = 0 .. M - 1.

    Args:
      order: M, the number of points, at least 2: 2 for BPSK, 4 for QPSK, 8 for 8PSK.

    Returns:
      (M,), of unit energy; neighbours are 2 sin(pi / M) apart.

    Raises:
      TypeError: order is no integer.
      ValueError: order is below 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print((jnp.angle(radio.phase_shift_keying(8)[:3]) / jnp.pi).round(2))
      [0.   0.25 0.5 ]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 3.2.
    """
    check_count("order", order, 2)
    return jnp.exp(2j * jnp.pi * jnp.arange(order) / order)


def quadrature_amplitude(order: Count) -> Points:
    """The points of square quadrature amplitude modulation.

    ((2 a - L + 1) + i (2 b - L + 1)) / sqrt(2 (M - 1) / 3), a, b = 0 .. L - 1, L = sqrt(M)

    Args:
      order: M, the number of points, the square of an integer from 2 up: 16 for 16QAM.

    Returns:
      (M,), of mean energy 1; neighbours are sqrt(6 / (M - 1)) apart.

    Raises:
      TypeError: order is no integer.
      ValueError: order is no such square.

    Example:
      >>> from saliency_jax import radio
      >>> print(abs(radio.quadrature_amplitude(4)).round(3))
      [1. 1. 1. 1.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 3.2.
    """
    check_count("order", order, 4)
    side = round(int(order) ** 0.5)
    if side**2 != order:
        raise ValueError(f"expected order to be the square of an integer, got {order}")
    levels = 2 * jnp.arange(side) - (side - 1.0)
    points = levels[:, None] + 1j * levels[None, :]
    return points.ravel() / jnp.sqrt(2 * (order - 1) / 3)


def root_raised_cosine(time: Float[Array, "*n"], rolloff: Number) -> Float[Array, "*n"]:
    """The root-raised-cosine pulse, of unit energy.

    g(t) = (1 - b) sinc((1 - b) t) + b (sinc(b t + 1/4) cos(pi (t + 1/4))
           + sinc(b t - 1/4) cos(pi (t - 1/4))), with sinc(x) = sin(pi x) / (pi x)

    It is the pulse whose spectrum is the root of a raised cosine. A receiver that filters with it
    again sees pulses g * g, which are 0 at all whole t but 0: no symbol disturbs another (Nyquist).
    In this form, unlike in the usual one, nothing is divided by 0.

    Args:
      time: t, in symbol periods, of any shape.
      rolloff: b, in [0, 1]: the band is |f| <= (1 + b) / 2 cycles per symbol period.

    Returns:
      The pulse at these times.

    Raises:
      ValueError: rolloff is known and not in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.root_raised_cosine(jnp.array([-1.0, 0.0, 1.0]), 0.0).round(3) + 0.0)
      [0. 1. 0.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 9.2.
    """
    _check_within("rolloff", rolloff, 0, 1)
    narrow, edge = 1 - jnp.asarray(rolloff), jnp.asarray(rolloff) * time
    edges = jnp.sinc(edge + 0.25) * jnp.cos(jnp.pi * (time + 0.25))
    edges += jnp.sinc(edge - 0.25) * jnp.cos(jnp.pi * (time - 0.25))
    return narrow * jnp.sinc(narrow * time) + rolloff * edges


def linear_modulation(
    symbols: Complex[Array, "k"],
    *,
    rolloff: Number,
    timing: Number = 0.0,
    samples_per_symbol: Count = SAMPLES_PER_SYMBOL,
) -> Signal:
    """Symbols that each scale a root-raised-cosine pulse: PSK and QAM.

    s(n) = sum_k a_k g((n - d) / T - k)

    The symbols go on periodically, so that the signal's ends fit together.

    Args:
      symbols: a, (k,); of mean energy 1 they make a signal of mean power 1.
      rolloff: of `root_raised_cosine`, in [0, 1].
      timing: d, the place of the first symbol, in samples.
      samples_per_symbol: T, at least 1; to keep the band in half of the sampling rate at least 2.

    Returns:
      (k T,).

    Raises:
      TypeError: samples_per_symbol is no integer.
      ValueError: it is below 1, there is no symbol, or rolloff is known and not in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> symbols = radio.phase_shift_keying(4)
      >>> radio.linear_modulation(symbols, rolloff=0.35).shape
      (32,)

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 3.2.
    """
    pulse = Partial(root_raised_cosine, rolloff=rolloff)
    return _superposed(symbols, pulse, timing, samples_per_symbol)


def rectangular_phase(time: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The phase response of continuous-phase FSK: its frequency is constant during a symbol.

    q(t) = min(max(t + 1/2, 0), 1)

    Args:
      time: t, in symbol periods from the symbol's middle, of any shape.

    Returns:
      The share of the symbol's phase that has come by then, in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.rectangular_phase(jnp.array([-1.0, 0.0, 0.25, 1.0])))
      [0.   0.5  0.75 1.  ]

    Reference: Anderson, Aulin, Sundberg, Digital Phase Modulation, 1986, chapter 2.
    """
    return jnp.clip(time + 0.5, 0.0, 1.0)


def gaussian_phase(time: Float[Array, "*n"], bandwidth: Number) -> Float[Array, "*n"]:
    """The phase response of Gaussian FSK: the rectangular one's, its frequency low-pass filtered.

    q(t) = r(t + 1/2) - r(t - 1/2), r(x) = x Phi(x / s) + s phi(x / s), s = sqrt(ln 2) / (2 pi B)

    Phi and phi are the normal distribution and its density.

    Args:
      time: t, in symbol periods from the symbol's middle, of any shape.
      bandwidth: B, the product of the filter's 3-dB bandwidth and the symbol period, above 0. For
        large B it is `rectangular_phase`.

    Returns:
      The share of the symbol's phase that has come by then, in [0, 1].

    Raises:
      ValueError: bandwidth is known and not above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.gaussian_phase(jnp.array([-3.0, 0.0, 3.0]), 0.3).round(3))
      [0.  0.5 1. ]

    Reference: Murota, Hirade, GMSK modulation for digital mobile radio telephony, IEEE Transactions
    on Communications, 1981.
    """
    _check_above_zero("bandwidth", bandwidth)
    sigma = jnp.sqrt(jnp.log(2.0)) / (2 * jnp.pi * bandwidth)

    def ramp(x):
        return x * jax.scipy.stats.norm.cdf(x / sigma) + sigma * jax.scipy.stats.norm.pdf(x / sigma)

    return jnp.clip(ramp(time + 0.5) - ramp(time - 0.5), 0.0, 1.0)


def frequency_shift_keying(
    symbols: Float[Array, "k"],
    *,
    index: Number,
    phase_response: Callable[[Float[Array, "..."]], Float[Array, "..."]] = rectangular_phase,
    timing: Number = 0.0,
    samples_per_symbol: Count = SAMPLES_PER_SYMBOL,
) -> Signal:
    """Symbols that each turn the phase, which is continuous: CPFSK and GFSK.

    s(n) = exp(i pi h sum_k a_k (q((n - d) / T - k) - q((-1 - d) / T - k)))

    The symbols go on periodically.

    Args:
      symbols: a, (k,), -1 and 1 for two frequencies.
      index: h, the modulation index: a symbol 1 turns the phase by pi h. 1/2 is minimum-shift
        keying.
      phase_response: q, from the time in symbol periods from a symbol's middle to the share of its
        phase that has come: `rectangular_phase` for CPFSK, `gaussian_phase` for GFSK.
      timing: d, the place of the first symbol's middle, in samples.
      samples_per_symbol: T, at least 1.

    Returns:
      (k T,), of constant modulus 1.

    Raises:
      TypeError: samples_per_symbol is no integer.
      ValueError: it is below 1, or there is no symbol.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> signal = radio.frequency_shift_keying(jnp.ones(4), index=0.5, samples_per_symbol=2)
      >>> print(jnp.diff(jnp.unwrap(jnp.angle(signal))).round(3))
      [0.785 0.785 0.785 0.785 0.785 0.785 0.785]

    Reference: Anderson, Aulin, Sundberg, Digital Phase Modulation, 1986, chapter 2.
    """

    def turn(time):
        return phase_response(time) - phase_response(time - 1 / samples_per_symbol)

    turns = _superposed(symbols, turn, timing, samples_per_symbol)
    return jnp.exp(1j * jnp.pi * index * jnp.cumsum(turns))


def band_limited_noise(key: Key, length: Count, bandwidth: Number) -> Float[Array, "t"]:
    """A message: Gaussian noise without any frequency above `bandwidth`, with its peak at 1.

    m(n) = Re sum_f c_f exp(2 pi i f n) / peak, f = 1 / t, 2 / t .. bandwidth, c_f complex normal

    Args:
      key: a JAX random key.
      length: t, the number of samples, at least 2.
      bandwidth: in cycles per sample, at least 1 / length, at most 1/2.

    Returns:
      (t,), of mean 0 and largest modulus 1; its ends fit together.

    Raises:
      TypeError: length is no integer.
      ValueError: length is below 2, or bandwidth is known and out of range.

    Example:
      >>> import jax
      >>> from saliency_jax import radio
      >>> print(abs(radio.band_limited_noise(jax.random.key(0), 64, 0.1)).max())
      1.0

    Reference: Rice, Mathematical analysis of random noise, Bell System Technical Journal, 1944.
    """
    check_count("length", length, 2)
    _check_within("bandwidth", bandwidth, 1 / length, 0.5)
    frequencies = jnp.arange(length // 2 + 1) / length
    within = (frequencies > 0) & (frequencies <= bandwidth)
    coefficients = jax.random.normal(key, frequencies.shape, jnp.complex64)
    message = jnp.fft.irfft(jnp.where(within, coefficients, 0), int(length))
    return message / jnp.abs(message).max()


def amplitude_modulation(message: Float[Array, "t"], index: Number) -> Signal:
    """Amplitude modulation with its carrier: s(n) = 1 + index m(n).

    Args:
      message: m, (t,), in [-1, 1].
      index: the modulation index, in [0, 1].

    Returns:
      (t,), real; its band is twice the message's.

    Raises:
      ValueError: index is known and not in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.amplitude_modulation(jnp.array([-1.0, 0.0, 1.0]), 0.5))
      [0.5+0.j 1. +0.j 1.5+0.j]

    Reference: Carson, Notes on the theory of modulation, Proceedings of the IRE, 1922.
    """
    _check_within("index", index, 0, 1)
    return jax.lax.complex(1 + index * message, jnp.zeros_like(message))


def frequency_modulation(message: Float[Array, "t"], deviation: Number) -> Signal:
    """Frequency modulation: s(n) = exp(2 pi i deviation sum_{j <= n} m(j)).

    Args:
      message: m, (t,), in [-1, 1].
      deviation: the largest shift of the frequency, in cycles per sample.

    Returns:
      (t,), of constant modulus 1; about 98 % of its power are within deviation + bandwidth of the
      carrier (Carson's rule).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> signal = radio.frequency_modulation(jnp.ones(3), 0.125)
      >>> print((jnp.angle(signal) / jnp.pi).round(2))
      [0.25 0.5  0.75]

    Reference: Carson, Notes on the theory of modulation, Proceedings of the IRE, 1922.
    """
    return jnp.exp(2j * jnp.pi * deviation * jnp.cumsum(message))


def shift_frequency(signal: Signal, frequency: Number, phase: Number = 0.0) -> Signal:
    """A carrier's frequency and phase offset: s(n) exp(i (2 pi f n + phase)).

    Args:
      signal: (t,).
      frequency: f, in cycles per sample.
      phase: in radians.

    Returns:
      (t,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.shift_frequency(jnp.ones(3, complex), 0.5).real.round(3))
      [ 1. -1.  1.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 2.1.
    """
    return signal * jnp.exp(1j * (2 * jnp.pi * frequency * jnp.arange(len(signal)) + phase))


def fading_gains(
    key: Key, powers: Float[Array, "p"], k_factor: Number = 0.0
) -> Complex[Array, "p"]:
    """Random gains of a few paths, the first of which has a line of sight: Rician fading.

    c_1 = sqrt(P_1) (sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) z_1), c_j = sqrt(P_j) z_j for j > 1

    z are complex normal with E|z|^2 = 1, so that E|c_j|^2 = P_j / sum P.

    Args:
      key: a JAX random key.
      powers: P, (p,), not negative; they are brought to the sum 1.
      k_factor: K, how much stronger the line of sight is than what is scattered, at least 0; 0 is
        Rayleigh fading.

    Returns:
      (p,).

    Raises:
      ValueError: there is no path, or k_factor is known and negative.

    Example:
      Without anything scattered, the gain is that of the line of sight:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> gains = radio.fading_gains(jax.random.key(0), jnp.ones(1), k_factor=jnp.inf)
      >>> print(abs(gains))
      [1.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 13.1.
    """
    check_array("powers", powers, ("p",))
    check_at_least("k_factor", k_factor, 0)
    scattered = jax.random.normal(key, powers.shape, jnp.complex64)
    # 1 / (1 + K), and not K / (1 + K), is a number for an infinite K as well.
    share = 1 / (1 + jnp.asarray(k_factor))
    first = jnp.sqrt(1 - share) + jnp.sqrt(share) * scattered[0]
    return jnp.sqrt(powers / powers.sum()) * scattered.at[0].set(first)


def multipath(signal: Signal, delays: Float[Array, "p"], gains: Complex[Array, "p"]) -> Signal:
    """The sum of delayed copies of a signal: r(n) = sum_j c_j s(n - d_j).

    Delays need not be whole: the signal is taken as band-limited, and to go on periodically.

    Args:
      signal: s, (t,).
      delays: d, (p,), in samples.
      gains: c, (p,).

    Returns:
      (t,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> signal = jnp.array([1.0, 0, 0, 0], complex)
      >>> echo = radio.multipath(signal, jnp.array([0.0, 2.0]), jnp.array([1.0, 0.5], complex))
      >>> print(echo.real.round(3) + 0.0)
      [1.  0.  0.5 0. ]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 13.1.
    """
    frequencies = jnp.fft.fftfreq(len(signal))
    response = gains @ jnp.exp(-2j * jnp.pi * delays[:, None] * frequencies[None, :])
    return jnp.fft.ifft(response * jnp.fft.fft(signal))


def mean_power(signal: Signal) -> Scalar:
    """The average power of a signal: mean_n |s(n)|^2.

    Args:
      signal: (t,).

    Returns:
      The power.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.mean_power(jnp.array([3 + 4j, 0])))
      12.5

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 2.1.
    """
    return jnp.mean(jnp.abs(signal) ** 2)


def noise(key: Key, signal: Signal, snr: Number) -> Signal:
    """White Gaussian noise, as strong as a signal-to-noise ratio asks for.

    w(n) = sqrt(P 10^(-snr / 10)) z(n), z complex normal with E|z|^2 = 1, P the signal's mean power

    Args:
      key: a JAX random key.
      signal: (t,).
      snr: in dB, over all frequencies.

    Returns:
      (t,), to be added to the signal.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> added = radio.noise(jax.random.key(0), jnp.full(10_000, 2.0 + 0j), 20)
      >>> print(radio.mean_power(added).round(2))
      0.04

    Reference: Shannon, Communication in the presence of noise, Proceedings of the IRE, 1949.
    """
    strength = jnp.sqrt(mean_power(signal)) * 10.0 ** (-jnp.asarray(snr) / 20)
    return strength * jax.random.normal(key, signal.shape, jnp.complex64)


def occupied_band(signal: Signal, share: Number = 0.99) -> Float[Array, "2"]:
    """The band that holds a share of a signal's power, with as much of the rest on either side.

    Args:
      signal: (t,), without noise.
      share: in (0, 1].

    Returns:
      (low, high), in cycles per sample, in [-1/2, 1/2).

    Raises:
      ValueError: share is known and not in [0, 1].

    Example:
      A carrier alone occupies a single frequency:

      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.occupied_band(radio.shift_frequency(jnp.ones(8, complex), -0.25)))
      [-0.25 -0.25]

    Reference: ITU-R SM.328, Spectra and bandwidth of emissions, on the occupied bandwidth.
    """
    _check_within("share", share, 0, 1)
    power = jnp.abs(jnp.fft.fftshift(jnp.fft.fft(signal))) ** 2
    below = jnp.cumsum(power) / power.sum()
    frequencies = jnp.fft.fftshift(jnp.fft.fftfreq(len(signal)))
    ends = jnp.array([(1 - share) / 2, (1 + share) / 2])
    return frequencies[jnp.searchsorted(below, ends).clip(0, len(signal) - 1)]


def to_iq(signal: Signal) -> Float[Array, "t 2"]:
    """A complex signal as its in-phase and its quadrature column.

    Args:
      signal: (t,).

    Returns:
      (t, 2).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> print(radio.to_iq(jnp.array([1 + 2j])))
      [[1. 2.]]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 2.1.
    """
    return jnp.stack([signal.real, signal.imag], axis=-1)


def rotate_phase(image: Float[Array, "1 t 2"], key: Key) -> Float[Array, "1 t 2"]:
    """A signal with its phase turned by a random angle, for training: its class is the same.

    s(n) exp(i a), a uniform in [0, 2 pi)

    Args:
      image: (1, t, 2), a signal as an image of one row.
      key: a JAX random key.

    Returns:
      (1, t, 2).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> turned = radio.rotate_phase(jnp.ones((1, 3, 2)), jax.random.key(0))
      >>> print((turned**2).sum(-1))
      [[2. 2. 2.]]

    Reference: Huang et al., Data augmentation for deep learning-based radio modulation
    classification, 2019, arXiv:1912.03026.
    """
    angle = jax.random.uniform(key, maxval=2 * jnp.pi)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return image @ jnp.array([[cosine, sine], [-sine, cosine]])


def time_frequency(
    image: Float[Array, "1 t 2"], *, window_size: Count, hop: Count
) -> Float[Array, "frequencies frames 2"]:
    """A signal over frequency and time: the real and imaginary part of its `spectrograms.stft`.

    A window's length of zeros stands on each side of the signal, so that all of its samples weigh
    alike and `from_time_frequency` gives it back.

    Args:
      image: (1, t, 2), a signal as an image of one row.
      window_size: at least 2, in samples.
      hop: in samples from one frame to the next, a divisor of both the window's size and t.

    Returns:
      (window_size, (t + window_size) // hop + 1, 2): an image whose rows are frequencies, rising
      downwards as `spectrograms.frequencies` does two-sided; frame m has its middle at
      m hop - window_size / 2.

    Raises:
      TypeError: a count is no integer.
      ValueError: a count is below its minimum, or hop is not such a divisor.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> radio.time_frequency(jnp.ones((1, 16, 2)), window_size=8, hop=4).shape
      (8, 7, 2)

    Reference: Allen, Rabiner, A unified approach to short-time Fourier analysis and synthesis,
    Proceedings of the IEEE, 1977.
    """
    check_count("window_size", window_size, 2)
    check_count("hop", hop, 1)
    length, size = image.shape[1], int(window_size)
    if size % hop or length % hop:
        raise ValueError(
            f"expected hop to divide the window's {size} and the signal's {length} samples, got "
            f"{hop}"
        )
    signal = jnp.pad(spectrograms.complex_baseband(image[0]), size)
    coefficients = spectrograms.stft(signal, window_size=size, hop=hop)
    return jnp.stack([coefficients.T.real, coefficients.T.imag], axis=-1)


def from_time_frequency(
    image: Float[Array, "frequencies frames 2"], *, hop: Count
) -> Float[Array, "1 t 2"]:
    """The signal over frequency and time that is nearest to an image: `time_frequency` undone.

    By `spectrograms.inverse_stft`, and linear as it is. A score of signals becomes one of such
    images by it, `lambda image: score(from_time_frequency(image, hop=hop))`, of which every method
    makes a map over time and frequency.

    Args:
      image: (frequencies, frames, 2).
      hop: in samples, the one that the image was made with.

    Returns:
      (1, t, 2), an image of one row.

    Raises:
      TypeError: hop is no integer.
      ValueError: hop is below 1 or does not divide the number of frequencies.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import radio
      >>> signal = jnp.arange(32.0).reshape(1, 16, 2)
      >>> image = radio.time_frequency(signal, window_size=8, hop=2)
      >>> print(jnp.abs(radio.from_time_frequency(image, hop=2) - signal).max() < 1e-4)
      True

    Reference: Griffin, Lim, Signal estimation from modified short-time Fourier transform, IEEE
    Transactions on Acoustics, Speech, and Signal Processing, 1984.
    """
    coefficients = jax.lax.complex(image[..., 0], image[..., 1]).T
    size = coefficients.shape[1]
    signal = spectrograms.inverse_stft(coefficients, hop=hop)
    return to_iq(signal[size:-size])[None]


class Transmission(NamedTuple):
    """A signal as it is sent, and its first decision instant in samples, nan if it has none."""

    signal: Signal
    timing: Scalar


def _keyed(points: Callable[[], Points], key: Key, num_symbols: int) -> Transmission:
    symbol_key, rolloff_key, timing_key = jax.random.split(key, 3)
    symbols = jax.random.choice(symbol_key, points(), (num_symbols,))
    low, high = _ROLLOFFS
    rolloff = jax.random.uniform(rolloff_key, minval=low, maxval=high)
    timing = SAMPLES_PER_SYMBOL * jax.random.uniform(timing_key)
    return Transmission(linear_modulation(symbols, rolloff=rolloff, timing=timing), timing)


def _frequency_keyed(
    phase_response: Callable, index: float, key: Key, num_symbols: int
) -> Transmission:
    symbol_key, timing_key = jax.random.split(key)
    symbols = jax.random.rademacher(symbol_key, (num_symbols,), float)
    timing = SAMPLES_PER_SYMBOL * jax.random.uniform(timing_key)
    signal = frequency_shift_keying(
        symbols, index=index, phase_response=phase_response, timing=timing
    )
    return Transmission(signal, timing)


def _amplitude_modulated(key: Key, num_symbols: int) -> Transmission:
    message_key, index_key = jax.random.split(key)
    message = band_limited_noise(message_key, num_symbols * SAMPLES_PER_SYMBOL, _AM_BANDWIDTH)
    low, high = _AM_INDICES
    index = jax.random.uniform(index_key, minval=low, maxval=high)
    return Transmission(amplitude_modulation(message, index), jnp.array(jnp.nan))


def _frequency_modulated(key: Key, num_symbols: int) -> Transmission:
    message = band_limited_noise(key, num_symbols * SAMPLES_PER_SYMBOL, _FM_BANDWIDTH)
    return Transmission(frequency_modulation(message, _FM_DEVIATION), jnp.array(jnp.nan))


# From a key and the number of symbols (for AM and FM: periods of that length) to what is sent.
MODULATIONS: dict[str, Callable[[Key, int], Transmission]] = {
    "BPSK": Partial(_keyed, Partial(phase_shift_keying, 2)),
    "QPSK": Partial(_keyed, Partial(phase_shift_keying, 4)),
    "8PSK": Partial(_keyed, Partial(phase_shift_keying, 8)),
    "16QAM": Partial(_keyed, Partial(quadrature_amplitude, 16)),
    "64QAM": Partial(_keyed, Partial(quadrature_amplitude, 64)),
    "GFSK": Partial(
        _frequency_keyed, Partial(gaussian_phase, bandwidth=_GFSK_BANDWIDTH), _GFSK_INDEX
    ),
    "CPFSK": Partial(_frequency_keyed, rectangular_phase, _CPFSK_INDEX),
    "AM": _amplitude_modulated,
    "FM": _frequency_modulated,
}


def receive(modulation: str, snr: Number, key: Key, *, length: Count = LENGTH) -> Reception:
    """A random signal of a modulation, as a receiver gets it.

    r(n) = (sum_j c_j s(n - d_j) exp(i (2 pi f n + phase)) + w(n)) / sqrt(mean power)

    Random are the symbols or the message; the pulse's rolloff in 0.2 to 0.4, or AM's index in 0.5
    to 1; the timing, uniform over a symbol; three paths, the first without delay, the others with
    up to 4 samples and 6 and 10 dB weaker, Rayleigh or, half of the time, Rician with K = 4; the
    carrier's frequency in -0.01 to 0.01 cycles per sample and its phase. A symbol takes 8 samples.
    GFSK has the index 0.32 and B = 0.5, CPFSK the index 0.5; FM deviates by 0.05 cycles per sample.

    Args:
      modulation: one of `MODULATIONS`.
      snr: signal-to-noise ratio in dB, over all frequencies. A traced one is welcome.
      key: a JAX random key; equal keys give equal signals.
      length: t, the number of samples, a multiple of 8.

    Returns:
      The `Reception`.

    Raises:
      TypeError: length is no integer.
      ValueError: there is no such modulation, or length is not a positive multiple of 8.

    Example:
      >>> import jax
      >>> from saliency_jax import radio
      >>> received = radio.receive("QPSK", 10, jax.random.key(0), length=64)
      >>> print(received.iq.shape, (received.iq**2).sum(1).mean().round(3))
      (64, 2) 1.0

    Reference: O'Shea, Roy, Clancy, Over the Air Deep Learning Based Radio Signal Classification,
    2018, arXiv:1712.04578.
    """
    if modulation not in MODULATIONS:
        raise ValueError(
            f"expected one of the modulations {', '.join(MODULATIONS)}, got {modulation!r}"
        )
    check_count("length", length, SAMPLES_PER_SYMBOL)
    if length % SAMPLES_PER_SYMBOL:
        raise ValueError(f"expected length to be a multiple of {SAMPLES_PER_SYMBOL}, got {length}")
    sent_key, k_key, gain_key, delay_key, carrier_key, noise_key = jax.random.split(key, 6)
    num_symbols = int(length) // SAMPLES_PER_SYMBOL + 2 * _MARGIN
    sent, timing = MODULATIONS[modulation](sent_key, num_symbols)

    powers = jnp.array(_PATH_POWERS)
    gains = fading_gains(gain_key, powers, _RICIAN_K * jax.random.bernoulli(k_key))
    low, high = _DELAYS
    delays = jax.random.uniform(delay_key, powers.shape, minval=low, maxval=high).at[0].set(0.0)
    margin = _MARGIN * SAMPLES_PER_SYMBOL
    faded = multipath(sent, delays, gains)[margin : margin + int(length)]

    offset, turn = jax.random.uniform(carrier_key, (2,))
    low, high = _CARRIERS
    clean = shift_frequency(faded, low + (high - low) * offset, 2 * jnp.pi * turn)
    received = clean + noise(noise_key, clean, snr)
    scale = jax.lax.rsqrt(mean_power(received))
    return Reception(to_iq(scale * received), scale * clean, occupied_band(clean), timing)


def _superposed(
    symbols: Array, pulse: Callable, timing: Number, samples_per_symbol: Count
) -> Array:
    """sum_k a_k pulse((n - d) / T - k), as a matrix product of neighbouring symbols and pulses."""
    check_count("samples_per_symbol", samples_per_symbol, 1)
    check_count("the number of symbols", len(symbols), 1)
    reach = np.arange(-_SPAN, _SPAN + 1)
    neighbours = symbols[(np.arange(len(symbols))[:, None] + reach[None, :]) % len(symbols)]
    samples = jnp.arange(samples_per_symbol) - jnp.asarray(timing)
    pulses = pulse(samples[None, :] / samples_per_symbol - reach[:, None])
    return (neighbours @ pulses.astype(symbols.dtype)).ravel()


def _check_within(name: str, value: Number, low: Number, high: Number) -> None:
    if is_concrete(value) and not low <= value <= high:
        raise ValueError(f"expected {name} to be in [{low:g}, {high:g}], got {value}")


def _check_above_zero(name: str, value: Number) -> None:
    if is_concrete(value) and not value > 0:
        raise ValueError(f"expected {name} to be above 0, got {value}")
