"""Radio signals that are synthesized: constellations, pulses, modulations, and the channel.

A signal is complex baseband, (t,), with one sample a unit of time: frequencies are in cycles per
sample, delays in samples. What a classifier takes is its two real columns, (t, 2);
`spectrograms.complex_baseband` takes them back.

What means the same everywhere here:

  signal: (t,), complex; NumPy's arrays are welcome, and half precision becomes single.
  image: (1, t, 2), in-phase and quadrature samples as an image of one row.
  time: in symbol periods from a symbol's middle, of any shape.
  message: (t,), in [-1, 1].
  key: a JAX random key; what is drawn is in single precision, whatever JAX's default is.

TypeError is raised where an array holds no numbers of these kinds or a count is no integer,
ValueError where a shape is another, or a known value is out of range or not finite.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Complex, Float, Inexact

from .._numerics import at_least_single, in_dtype
from .._pytrees import as_pytree
from .._types import Count, Key, Number, Scalar
from .._validation import (
    as_any_number,
    as_array,
    as_image,
    as_number,
    as_signal,
    check_at_least,
    check_count,
    check_finite,
    check_floats,
    check_key,
    check_pair,
    check_text,
    is_concrete,
    to_jax,
)
from . import spectrograms

Signal = Complex[Array, "t"]
AnySignal = Inexact[Array, "t"] | Inexact[np.ndarray, "t"]
Samples = Float[Array, "t"] | Float[np.ndarray, "t"]
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
# In dB: the power of noise that is stronger is no number of single precision.
_LEAST_SNR = -300.0

_uniform = functools.partial(jax.random.uniform, dtype=jnp.float32)


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

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print((jnp.angle(radio.phase_shift_keying(8)[:3]) / jnp.pi).round(2))
      [0.   0.25 0.5 ]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 3.2.
    """
    order = check_count("order", order, 2)
    return _cis("order", 2 * jnp.pi * jnp.arange(order, dtype=jnp.float32) / order)


def quadrature_amplitude(order: Count) -> Points:
    """The points of square quadrature amplitude modulation.

    ((2 a - L + 1) + i (2 b - L + 1)) / sqrt(2 (M - 1) / 3), a, b = 0 .. L - 1, L = sqrt(M)

    Args:
      order: M, the number of points, the square of an integer from 2 up: 16 for 16QAM.

    Returns:
      (M,), of mean energy 1; neighbours are sqrt(6 / (M - 1)) apart.

    Example:
      >>> from saliency_jax.signals import radio
      >>> print(abs(radio.quadrature_amplitude(4)).round(3))
      [1. 1. 1. 1.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 3.2.
    """
    order = check_count("order", order, 4)
    side = round(int(order) ** 0.5)
    if side**2 != order:
        raise ValueError(f"expected order to be the square of an integer, got {order}")
    levels = 2 * jnp.arange(side, dtype=jnp.float32) - (side - 1.0)
    points = jax.lax.complex(*jnp.meshgrid(levels, levels, indexing="ij"))
    return points.ravel() / math.sqrt(2 * (order - 1) / 3)


def root_raised_cosine(
    time: Float[Array, "*n"] | Float[np.ndarray, "*n"], rolloff: Number
) -> Float[Array, "*n"]:
    """The root-raised-cosine pulse, of unit energy.

    g(t) = (1 - b) sinc((1 - b) t) + b (sinc(b t + 1/4) cos(pi (t + 1/4))
           + sinc(b t - 1/4) cos(pi (t - 1/4))), with sinc(x) = sin(pi x) / (pi x)

    It is the pulse whose spectrum is the root of a raised cosine. A receiver that filters with it
    again sees pulses g * g, which are 0 at all whole t but 0: no symbol disturbs another (Nyquist).
    In this form, unlike in the usual one, nothing is divided by 0.

    Args:
      time: t; see the module.
      rolloff: b, in [0, 1]: the band is |f| <= (1 + b) / 2 cycles per symbol period.

    Returns:
      The pulse at these times.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.root_raised_cosine(jnp.array([-1.0, 0.0, 1.0]), 0.0).round(3) + 0.0)
      [0. 1. 0.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 9.2.
    """
    _check_within("rolloff", rolloff, 0, 1)
    time = _floats("time", time)
    # Beyond, where the pulse is 0 but for rounding, no phase is left.
    far = 1 / jnp.finfo(time.dtype).eps
    time = jnp.clip(time, -far, far)
    rolloff = jnp.asarray(rolloff, time.dtype)
    narrow, edge = 1 - rolloff, rolloff * time
    edges = jnp.sinc(edge + 0.25) * jnp.cos(jnp.pi * (time + 0.25))
    edges += jnp.sinc(edge - 0.25) * jnp.cos(jnp.pi * (time - 0.25))
    return narrow * jnp.sinc(narrow * time) + rolloff * edges


def linear_modulation(
    symbols: Inexact[Array, "k"] | Inexact[np.ndarray, "k"],
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

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> symbols = radio.phase_shift_keying(4)
      >>> radio.linear_modulation(symbols, rolloff=0.35).shape
      (32,)

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 3.2.
    """
    timing = as_number("timing", timing)
    _check_within("rolloff", rolloff, 0, 1)
    pulse = Partial(root_raised_cosine, rolloff=rolloff)
    return _superposed(_complex("symbols", symbols), pulse, timing, samples_per_symbol)


def rectangular_phase(
    time: Float[Array, "*n"] | Float[np.ndarray, "*n"],
) -> Float[Array, "*n"]:
    """The phase response of continuous-phase FSK: its frequency is constant during a symbol.

    q(t) = min(max(t + 1/2, 0), 1)

    Args:
      time: t; see the module.

    Returns:
      The share of the symbol's phase that has come by then, in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.rectangular_phase(jnp.array([-1.0, 0.0, 0.25, 1.0])))
      [0.   0.5  0.75 1.  ]

    Reference: Anderson, Aulin, Sundberg, Digital Phase Modulation, 1986, chapter 2.
    """
    return jnp.clip(_floats("time", time) + 0.5, 0.0, 1.0)


def gaussian_phase(
    time: Float[Array, "*n"] | Float[np.ndarray, "*n"], bandwidth: Number
) -> Float[Array, "*n"]:
    """The phase response of Gaussian FSK: the rectangular one's, its frequency low-pass filtered.

    q(t) = r(t + 1/2) - r(t - 1/2), r(x) = x Phi(x / s) + s phi(x / s), s = sqrt(ln 2) / (2 pi B)

    Phi and phi are the normal distribution and its density.

    Args:
      time: t; see the module.
      bandwidth: B, the product of the filter's 3-dB bandwidth and the symbol period, above 0. For
        large B it is `rectangular_phase`.

    Returns:
      The share of the symbol's phase that has come by then, in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.gaussian_phase(jnp.array([-3.0, 0.0, 3.0]), 0.3).round(3))
      [0.  0.5 1. ]

    Reference: Murota, Hirade, GMSK modulation for digital mobile radio telephony, IEEE Transactions
    on Communications, 1981.
    """
    _check_above_zero("bandwidth", bandwidth)
    time = _floats("time", time)
    sigma = jnp.sqrt(jnp.log(2.0)) / (2 * jnp.pi * _number(bandwidth, time.dtype))

    # Beyond, where it is 0 or 1, two ramps are one but for rounding.
    far = 0.5 + 10 * sigma
    time = jnp.clip(time, -far, far)

    def ramp(x):
        return x * jax.scipy.stats.norm.cdf(x / sigma) + sigma * jax.scipy.stats.norm.pdf(x / sigma)

    return jnp.clip(ramp(time + 0.5) - ramp(time - 0.5), 0.0, 1.0)


def frequency_shift_keying(
    symbols: Float[Array, "k"] | Float[np.ndarray, "k"],
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

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> signal = radio.frequency_shift_keying(jnp.ones(4), index=0.5, samples_per_symbol=2)
      >>> print(jnp.diff(jnp.unwrap(jnp.angle(signal))).round(3))
      [0.785 0.785 0.785 0.785 0.785 0.785 0.785]

    Reference: Anderson, Aulin, Sundberg, Digital Phase Modulation, 1986, chapter 2.
    """
    index, timing = as_number("index", index), as_number("timing", timing)

    if not callable(phase_response):
        raise TypeError(
            f"expected phase_response to be callable, got {type(phase_response).__name__}"
        )
    symbols = at_least_single(as_array("symbols", symbols, ("k",)))

    def turn(time):
        return phase_response(time) - phase_response(time - 1 / samples_per_symbol)

    turns = _superposed(symbols, turn, timing, samples_per_symbol)
    return _cis("index", jnp.pi * _number(index, turns.dtype) * jnp.cumsum(turns))


def band_limited_noise(key: Key, length: Count, bandwidth: Number) -> Float[Array, "t"]:
    """A message: Gaussian noise without any frequency above `bandwidth`, with its peak at 1.

    m(n) = Re sum_f c_f exp(2 pi i f n) / peak, f = 1 / t, 2 / t .. bandwidth, c_f complex normal

    Args:
      key: see the module.
      length: t, the number of samples, at least 2.
      bandwidth: in cycles per sample, at least 1 / length, at most 1/2.

    Returns:
      (t,), of mean 0 and largest modulus 1; its ends fit together.

    Example:
      >>> import jax
      >>> from saliency_jax.signals import radio
      >>> print(abs(radio.band_limited_noise(jax.random.key(0), 64, 0.1)).max())
      1.0

    Reference: Rice, Mathematical analysis of random noise, Bell System Technical Journal, 1944.
    """
    check_key(key)
    length = check_count("length", length, 2)
    _check_within("bandwidth", bandwidth, 1 / length, 0.5)
    frequencies = jnp.arange(length // 2 + 1, dtype=jnp.float32) / length
    within = (frequencies > 0) & (frequencies <= _number(bandwidth, frequencies.dtype))
    coefficients = jax.random.normal(key, frequencies.shape, jnp.complex64)
    message = jnp.fft.irfft(jnp.where(within, coefficients, 0), int(length))
    return message / jnp.abs(message).max()


def amplitude_modulation(message: Samples, index: Number) -> Signal:
    """Amplitude modulation with its carrier: s(n) = 1 + index m(n).

    Args:
      message: m; see the module.
      index: the modulation index, in [0, 1].

    Returns:
      (t,), real; its band is twice the message's.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.amplitude_modulation(jnp.array([-1.0, 0.0, 1.0]), 0.5))
      [0.5+0.j 1. +0.j 1.5+0.j]

    Reference: Carson, Notes on the theory of modulation, Proceedings of the IRE, 1922.
    """
    _check_within("index", index, 0, 1)
    message = at_least_single(as_array("message", message, ("t",)))
    return jax.lax.complex(1 + _number(index, message.dtype) * message, jnp.zeros_like(message))


def frequency_modulation(message: Samples, deviation: Number) -> Signal:
    """Frequency modulation: s(n) = exp(2 pi i deviation sum_{j <= n} m(j)).

    Args:
      message: m; see the module.
      deviation: the largest shift of the frequency, in cycles per sample.

    Returns:
      (t,), of constant modulus 1; about 98 % of its power are within deviation + bandwidth of the
      carrier (Carson's rule).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> signal = radio.frequency_modulation(jnp.ones(3), 0.125)
      >>> print((jnp.angle(signal) / jnp.pi).round(2))
      [0.25 0.5  0.75]

    Reference: Carson, Notes on the theory of modulation, Proceedings of the IRE, 1922.
    """
    deviation = as_number("deviation", deviation)
    message = at_least_single(as_array("message", message, ("t",)))
    turns = _number(deviation, message.dtype) * jnp.cumsum(message)
    return _cis("message and deviation", 2 * jnp.pi * turns)


def shift_frequency(signal: AnySignal, frequency: Number, phase: Number = 0.0) -> Signal:
    """A carrier's frequency and phase offset: s(n) exp(i (2 pi f n + phase)).

    Args:
      signal: see the module.
      frequency: f, in cycles per sample.
      phase: in radians.

    Returns:
      (t,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.shift_frequency(jnp.ones(3, complex), 0.5).real.round(3))
      [ 1. -1.  1.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 2.1.
    """
    frequency, phase = as_number("frequency", frequency), as_number("phase", phase)
    signal = _complex("signal", signal)
    dtype = signal.real.dtype
    frequency, phase = _number(frequency, dtype), _number(phase, dtype)
    instants = jnp.arange(len(signal), dtype=dtype)
    return signal * _cis("frequency and phase", 2 * jnp.pi * frequency * instants + phase)


def fading_gains(
    key: Key, powers: Float[Array, "p"] | Float[np.ndarray, "p"], k_factor: Number = 0.0
) -> Complex[Array, "p"]:
    """Random gains of a few paths, the first of which has a line of sight: Rician fading.

    c_1 = sqrt(P_1) (sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) z_1), c_j = sqrt(P_j) z_j for j > 1

    z are complex normal with E|z|^2 = 1, so that E|c_j|^2 = P_j / sum P.

    Args:
      key: see the module.
      powers: P, (p,), not negative; they are brought to the sum 1.
      k_factor: K, how much stronger the line of sight is than what is scattered, at least 0; 0 is
        Rayleigh fading.

    Returns:
      (p,).

    Example:
      Without anything scattered, the gain is that of the line of sight:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> gains = radio.fading_gains(jax.random.key(0), jnp.ones(1), k_factor=jnp.inf)
      >>> print(abs(gains))
      [1.]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 13.1.
    """
    check_key(key)
    k_factor = as_number("k_factor", k_factor, 0)
    powers = at_least_single(as_array("powers", powers, ("p",)))
    check_at_least("powers", powers, 0)
    if is_concrete(powers) and not powers.any():
        raise ValueError("expected one of powers to be above 0, got none in JAX's precision")
    kind = jax.lax.complex(powers, powers).dtype
    scattered = jax.random.normal(key, powers.shape, kind)
    # 1 / (1 + K), and not K / (1 + K), is a number for an infinite K as well.
    share = 1 / (1 + jnp.asarray(k_factor, powers.dtype))
    first = jnp.sqrt(1 - share).astype(kind) + jnp.sqrt(share).astype(kind) * scattered[0]
    return jnp.sqrt(powers / powers.sum()).astype(kind) * scattered.at[0].set(first)


def multipath(
    signal: AnySignal,
    delays: Float[Array, "p"] | Float[np.ndarray, "p"],
    gains: Inexact[Array, "p"] | Inexact[np.ndarray, "p"],
) -> Signal:
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
      >>> from saliency_jax.signals import radio
      >>> signal = jnp.array([1.0, 0, 0, 0], complex)
      >>> echo = radio.multipath(signal, jnp.array([0.0, 2.0]), jnp.array([1.0, 0.5], complex))
      >>> print(echo.real.round(3) + 0.0)
      [1.  0.  0.5 0. ]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 13.1.
    """
    signal, gains = _complex("signal", signal), _complex("gains", gains)
    dtype = signal.real.dtype
    delays = as_array("delays", delays, ("p",)).astype(dtype)
    if delays.shape != gains.shape:
        raise ValueError(f"expected a gain for each delay, got {len(gains)} for {len(delays)}")
    frequencies = jnp.fft.fftfreq(len(signal), dtype=dtype)
    turns = _cis("delays", -2 * jnp.pi * delays[:, None] * frequencies[None, :])
    # Of the largest, so that no sum on the way is infinite.
    (gains, gain), (signal, level) = _of_largest(gains.astype(signal.dtype)), _of_largest(signal)
    delayed = jnp.fft.ifft(gains @ turns * jnp.fft.fft(signal))
    return jax.lax.complex(delayed.real * gain * level, delayed.imag * gain * level)


def mean_power(signal: AnySignal) -> Scalar:
    """The average power of a signal: mean_n |s(n)|^2.

    Args:
      signal: see the module.

    Returns:
      The power.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.mean_power(jnp.array([3 + 4j, 0])))
      12.5

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 2.1.
    """
    return jnp.mean(jnp.abs(as_signal("signal", signal)) ** 2)


def noise(key: Key, signal: AnySignal, snr: Number) -> Signal:
    """White Gaussian noise, as strong as a signal-to-noise ratio asks for.

    w(n) = sqrt(P 10^(-snr / 10)) z(n), z complex normal with E|z|^2 = 1, P the signal's mean power

    Args:
      key: see the module.
      signal: see the module.
      snr: in dB, over all frequencies, at least -300.

    Returns:
      (t,), to be added to the signal.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> added = radio.noise(jax.random.key(0), jnp.full(10_000, 2.0 + 0j), 20)
      >>> print(radio.mean_power(added).round(2))
      0.04

    Reference: Shannon, Communication in the presence of noise, Proceedings of the IRE, 1949.
    """
    check_key(key)
    snr = as_number("snr", snr, _LEAST_SNR)
    signal = _complex("signal", signal)
    power = mean_power(signal)
    strength = jnp.sqrt(power) * 10.0 ** (-jnp.asarray(snr, power.dtype) / 20)
    return strength.astype(signal.dtype) * jax.random.normal(key, signal.shape, signal.dtype)


def occupied_band(signal: AnySignal, share: Number = 0.99) -> Float[Array, "2"]:
    """The band that holds a share of a signal's power, with as much of the rest on either side.

    Args:
      signal: (t,), without noise.
      share: in (0, 1].

    Returns:
      (low, high), in cycles per sample, in [-1/2, 1/2).

    Example:
      A carrier alone occupies a single frequency:

      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.occupied_band(radio.shift_frequency(jnp.ones(8, complex), -0.25)))
      [-0.25 -0.25]

    Reference: ITU-R SM.328, Spectra and bandwidth of emissions, on the occupied bandwidth.
    """
    _check_within("share", share, 0, 1)
    signal = _complex("signal", signal)
    power = jnp.abs(jnp.fft.fftshift(jnp.fft.fft(signal))) ** 2
    below = jnp.cumsum(power) / power.sum()
    frequencies = jnp.fft.fftshift(jnp.fft.fftfreq(len(signal), dtype=power.dtype))
    ends = jnp.array([(1 - share) / 2, (1 + share) / 2], power.dtype)
    return frequencies[jnp.searchsorted(below, ends).clip(0, len(signal) - 1)]


def to_iq(signal: AnySignal) -> Float[Array, "t 2"]:
    """A complex signal as its in-phase and its quadrature column.

    Args:
      signal: see the module.

    Returns:
      (t, 2).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.to_iq(jnp.array([1 + 2j])))
      [[1. 2.]]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 2.1.
    """
    signal = _complex("signal", signal)
    return jnp.stack([signal.real, signal.imag], axis=-1)


def rotate_phase(
    image: Float[Array, "1 t 2"] | Float[np.ndarray, "1 t 2"], key: Key
) -> Float[Array, "1 t 2"]:
    """A signal with its phase turned by a random angle, for training: its class is the same.

    s(n) exp(i a), a uniform in [0, 2 pi)

    Args:
      image, key: see the module.

    Returns:
      (1, t, 2).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> turned = radio.rotate_phase(jnp.ones((1, 3, 2)), jax.random.key(0))
      >>> print((turned**2).sum(-1))
      [[2. 2. 2.]]

    Reference: Huang et al., Data augmentation for deep learning-based radio modulation
    classification, 2019, arXiv:1912.03026.
    """
    check_key(key)
    image = _one_row(image)
    samples = at_least_single(image)
    angle = jax.random.uniform(key, dtype=samples.dtype, maxval=2 * jnp.pi)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return (samples @ jnp.array([[cosine, sine], [-sine, cosine]])).astype(image.dtype)


def time_frequency(
    image: Float[Array, "1 t 2"] | Float[np.ndarray, "1 t 2"], *, window_size: Count, hop: Count
) -> Float[Array, "frequencies frames 2"]:
    """A signal over frequency and time: the real and imaginary part of its `spectrograms.stft`.

    A window's length of zeros stands on each side of the signal, so that all of its samples weigh
    alike and `from_time_frequency` gives it back.

    Args:
      image: see the module.
      window_size: at least 2, in samples.
      hop: in samples from one frame to the next, a divisor of both the window's size and t.

    Returns:
      (window_size, (t + window_size) // hop + 1, 2): an image whose rows are frequencies, rising
      downwards as `spectrograms.frequencies` does two-sided; frame m has its middle at
      m hop - window_size / 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> radio.time_frequency(jnp.ones((1, 16, 2)), window_size=8, hop=4).shape
      (8, 7, 2)

    Reference: Allen, Rabiner, A unified approach to short-time Fourier analysis and synthesis,
    Proceedings of the IEEE, 1977.
    """
    window_size = check_count("window_size", window_size, 2)
    hop = check_count("hop", hop, 1)
    image = _one_row(image)
    length, size = image.shape[1], int(window_size)
    if size % hop or length % hop:
        raise ValueError(
            f"expected hop to divide the window's {size} and the signal's {length} samples, got "
            f"{hop}"
        )
    signal = jnp.pad(spectrograms.complex_baseband(image[0]), size)
    coefficients = spectrograms.stft(signal, window_size=size, hop=hop)
    return jnp.stack([coefficients.T.real, coefficients.T.imag], axis=-1).astype(image.dtype)


def from_time_frequency(
    image: Float[Array, "frequencies frames 2"] | Float[np.ndarray, "frequencies frames 2"],
    *,
    hop: Count,
) -> Float[Array, "1 t 2"]:
    """The signal over frequency and time that is nearest to an image: `time_frequency` undone.

    By `spectrograms.inverse_stft`, and linear as it is. A score of signals becomes one of such
    images by it: `over_time_frequency`.

    Args:
      image: (frequencies, frames, 2).
      hop: in samples, the one that the image was made with.

    Returns:
      (1, t, 2), an image of one row.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> signal = jnp.arange(32.0).reshape(1, 16, 2)
      >>> image = radio.time_frequency(signal, window_size=8, hop=2)
      >>> print(jnp.abs(radio.from_time_frequency(image, hop=2) - signal).max() < 1e-4)
      True

    Reference: Griffin, Lim, Signal estimation from modified short-time Fourier transform, IEEE
    Transactions on Acoustics, Speech, and Signal Processing, 1984.
    """
    image = as_image(image)
    if image.shape[-1] != 2:
        raise ValueError(
            f"expected image to have shape (frequencies, frames, 2), got {image.shape}"
        )
    wide = at_least_single(image)
    coefficients = jax.lax.complex(wide[..., 0], wide[..., 1]).T
    size = coefficients.shape[1]
    signal = spectrograms.inverse_stft(coefficients, hop=hop)
    if len(signal) <= 2 * size:
        raise ValueError(
            f"expected frames beyond the two windows of zeros that they begin and end with, got "
            f"{coefficients.shape[0]} with hop {hop}"
        )
    return to_iq(signal[size:-size])[None].astype(image.dtype)


def over_time_frequency(score: Callable, *, hop: Count) -> Partial:
    """A score of signals as one of images over frequency and time, which methods make maps of.

    S'(X) = S(x), x the signal that is nearest to X

    Args:
      score: from a signal, an image (1, t, 2) of one row, to a real number.
      hop: in samples, the one that images are made with by `time_frequency`.

    Returns:
      The score, a PyTree of the given one's leaves: weights and label stay arguments under `jit`.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> from saliency_jax.signals import radio
      >>> score = radio.over_time_frequency(lambda signal: signal[0, 4, 0], hop=4)
      >>> image = radio.time_frequency(jnp.ones((1, 16, 2)), window_size=8, hop=4)
      >>> attribution.input_gradient(score, image).shape, round(float(score(image)), 4)
      ((8, 7, 2), 1.0)

    Reference: Griffin, Lim, Signal estimation from modified short-time Fourier transform, IEEE
    Transactions on Acoustics, Speech, and Signal Processing, 1984.
    """
    hop = check_count("hop", hop, 1)
    return Partial(_ThroughSignal(int(hop)), as_pytree(score, "score"))


@dataclasses.dataclass(frozen=True)
class _ThroughSignal:
    """From a score and an image over frequency and time to the score of the image's signal.

    The hop is no leaf, as it decides on shapes.
    """

    hop: int

    def __call__(self, score: Callable, image: Array) -> Scalar:
        return score(from_time_frequency(image, hop=self.hop))


def band_mask(
    band: Float[Array, "2"] | Float[np.ndarray, "2"], sides: tuple[int, ...]
) -> Bool[Array, "frequencies frames"]:
    """The coefficients of `time_frequency` that lie in a band.

    m_kj = f_low - 1 / (2 n) <= f_k <= f_high + 1 / (2 n), n the number of frequencies: to half of
    the transform's resolution

    Args:
      band: (low, high), in cycles per sample, as of `occupied_band`. A traced one is welcome.
      sides: (frequencies, frames) of the image.

    Returns:
      (frequencies, frames), true inside.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.signals import radio
      >>> print(radio.band_mask(jnp.array([0.0, 0.2]), (4, 3)).astype(int))
      [[0 0 0]
       [0 0 0]
       [1 1 1]
       [1 1 1]]

    Reference: ITU-R SM.328, Spectra and bandwidth of emissions, on the occupied bandwidth.
    """
    check_pair("sides", sides, "(frequencies, frames)")
    band = as_array("band", band, ("2",))
    for axis, length in zip(("the number of frequencies", "frames"), sides, strict=True):
        check_count(axis, length, 1)
    if np.shape(band) != (2,):
        raise ValueError(f"expected band to have shape (2,), got {np.shape(band)}")
    low, high = at_least_single(band)
    frequencies = spectrograms.frequencies(sides[0], two_sided=True).astype(low.dtype)
    margin = 0.5 / sides[0]
    inside = (frequencies >= low - margin) & (frequencies <= high + margin)
    return jnp.broadcast_to(inside[:, None], sides)


def decision_mask(
    timing: Number,
    length: Count,
    *,
    distance: Number,
    samples_per_symbol: Count = SAMPLES_PER_SYMBOL,
) -> Bool[Array, "1 t"]:
    """The samples near a decision instant, where a signal's symbols are read.

    m_n = |n - d - k T| <= distance for some integer k

    Args:
      timing: d, a decision instant in samples, as of a `Reception`. A traced one is welcome.
      length: t, the number of samples, at least 1.
      distance: at least 0, in samples.
      samples_per_symbol: T, at least 1.

    Returns:
      (1, t), the mask of a signal as an image of one row; empty if the timing is nan, as of
      modulations without symbols.

    Example:
      >>> from saliency_jax.signals import radio
      >>> print(radio.decision_mask(1.0, 10, distance=1, samples_per_symbol=4).astype(int))
      [[1 1 1 0 1 1 1 0 1 1]]

    Reference: Proakis, Salehi, Digital Communications, 5th edition, 2008, section 4.2.
    """
    length = check_count("length", length, 1)
    samples_per_symbol = check_count("samples_per_symbol", samples_per_symbol, 1)
    timing = as_any_number("timing", timing)
    first, half = jnp.asarray(timing, jnp.float32), samples_per_symbol / 2
    away = (jnp.arange(length, dtype=jnp.float32) - first + half) % samples_per_symbol - half
    return (jnp.abs(away) <= in_dtype(as_number("distance", distance, 0), away.dtype))[None]


class Transmission(NamedTuple):
    """A signal as it is sent, and its first decision instant in samples, nan if it has none."""

    signal: Signal
    timing: Scalar


def _keyed(points: Callable[[], Points], key: Key, num_symbols: int) -> Transmission:
    symbol_key, rolloff_key, timing_key = jax.random.split(key, 3)
    symbols = jax.random.choice(symbol_key, points(), (num_symbols,))
    low, high = _ROLLOFFS
    rolloff = _uniform(rolloff_key, minval=low, maxval=high)
    timing = SAMPLES_PER_SYMBOL * _uniform(timing_key)
    return Transmission(linear_modulation(symbols, rolloff=rolloff, timing=timing), timing)


def _frequency_keyed(
    phase_response: Callable, index: float, key: Key, num_symbols: int
) -> Transmission:
    symbol_key, timing_key = jax.random.split(key)
    symbols = jax.random.rademacher(symbol_key, (num_symbols,), jnp.float32)
    timing = SAMPLES_PER_SYMBOL * _uniform(timing_key)
    signal = frequency_shift_keying(
        symbols, index=index, phase_response=phase_response, timing=timing
    )
    return Transmission(signal, timing)


def _amplitude_modulated(key: Key, num_symbols: int) -> Transmission:
    message_key, index_key = jax.random.split(key)
    message = band_limited_noise(message_key, num_symbols * SAMPLES_PER_SYMBOL, _AM_BANDWIDTH)
    low, high = _AM_INDICES
    index = _uniform(index_key, minval=low, maxval=high)
    return Transmission(amplitude_modulation(message, index), jnp.float32(jnp.nan))


def _frequency_modulated(key: Key, num_symbols: int) -> Transmission:
    message = band_limited_noise(key, num_symbols * SAMPLES_PER_SYMBOL, _FM_BANDWIDTH)
    return Transmission(frequency_modulation(message, _FM_DEVIATION), jnp.float32(jnp.nan))


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
      snr: signal-to-noise ratio in dB, over all frequencies, at least -300. A traced one is
        welcome.
      key: a JAX random key; equal keys give equal signals.
      length: t, the number of samples, a multiple of 8.

    Returns:
      The `Reception`.

    Raises:
      TypeError: length is no integer.
      ValueError: there is no such modulation, or length is not a positive multiple of 8.

    Example:
      >>> import functools, jax
      >>> from saliency_jax.signals import radio
      >>> receive = jax.jit(functools.partial(radio.receive, "QPSK", length=64))
      >>> received = receive(10, jax.random.key(0))
      >>> print(received.iq.shape, (received.iq**2).sum(1).mean().round(3))
      (64, 2) 1.0

    Reference: O'Shea, Roy, Clancy, Over the Air Deep Learning Based Radio Signal Classification,
    2018, arXiv:1712.04578.
    """
    check_text("modulation", modulation)
    snr = as_number("snr", snr, _LEAST_SNR)
    check_key(key)
    if modulation not in MODULATIONS:
        raise ValueError(
            f"expected one of the modulations {', '.join(MODULATIONS)}, got {modulation!r}"
        )
    length = check_count("length", length, SAMPLES_PER_SYMBOL)
    if length % SAMPLES_PER_SYMBOL:
        raise ValueError(f"expected length to be a multiple of {SAMPLES_PER_SYMBOL}, got {length}")
    sent_key, k_key, gain_key, delay_key, carrier_key, noise_key = jax.random.split(key, 6)
    num_symbols = int(length) // SAMPLES_PER_SYMBOL + 2 * _MARGIN
    sent, timing = MODULATIONS[modulation](sent_key, num_symbols)

    powers = jnp.array(_PATH_POWERS, jnp.float32)
    gains = fading_gains(
        gain_key, powers, _RICIAN_K * jax.random.bernoulli(k_key).astype(jnp.float32)
    )
    low, high = _DELAYS
    delays = _uniform(delay_key, powers.shape, minval=low, maxval=high).at[0].set(0.0)
    margin = _MARGIN * SAMPLES_PER_SYMBOL
    faded = multipath(sent, delays, gains)[margin : margin + int(length)]

    offset, turn = _uniform(carrier_key, (2,))
    low, high = _CARRIERS
    clean = shift_frequency(faded, low + (high - low) * offset, 2 * jnp.pi * turn)
    received = clean + noise(noise_key, clean, snr)
    scale = jax.lax.rsqrt(mean_power(received)).astype(received.dtype)
    return Reception(to_iq(scale * received), scale * clean, occupied_band(clean), timing)


def _superposed(
    symbols: Array, pulse: Callable, timing: Number, samples_per_symbol: Count
) -> Array:
    """sum_k a_k pulse((n - d) / T - k), as a matrix product of neighbouring symbols and pulses."""
    samples_per_symbol = check_count("samples_per_symbol", samples_per_symbol, 1)
    check_count("the number of symbols", len(symbols), 1)
    reach = np.arange(-_SPAN, _SPAN + 1)
    neighbours = symbols[(np.arange(len(symbols))[:, None] + reach[None, :]) % len(symbols)]
    dtype = symbols.real.dtype
    samples = jnp.arange(samples_per_symbol, dtype=dtype) - jnp.asarray(timing, dtype)
    pulses = pulse(samples[None, :] / samples_per_symbol - jnp.asarray(reach, dtype)[:, None])
    return (neighbours @ pulses.astype(symbols.dtype)).ravel()


def _of_largest(values: Complex[Array, "t"]) -> tuple[Complex[Array, "t"], Float[Array, ""]]:
    """The values over a unit, a power of two below the largest of them, and that unit."""
    largest = jax.lax.stop_gradient(jnp.maximum(abs(values.real).max(), abs(values.imag).max()))
    # Exact, so that nothing is rounded, and of which 1 / unit is a normal number.
    unit = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 2)
    return jax.lax.complex(values.real / unit, values.imag / unit), unit


def _floats(name: str, values: Any) -> Float[Array, "..."]:
    """An array of floats of any shape, of at least single precision."""
    check_floats(name, values)
    return at_least_single(to_jax(values))


def _complex(name: str, values: Any) -> Complex[Array, "t"]:
    """An array (t,) as complex numbers."""
    signal = as_signal(name, values)
    return signal if jnp.iscomplexobj(signal) else jax.lax.complex(signal, jnp.zeros_like(signal))


def _cis(names: str, phase: Any) -> Complex[Array, "*n"]:
    """exp(i phase), of a phase that is finite if it is known; `names` are what it is made of."""
    check_finite(f"the phase by {names}", phase)
    return jnp.exp(jax.lax.complex(jnp.zeros_like(phase), phase))


def _number(value: Number, dtype: Any) -> Any:
    """A number that decides no array's precision; Python's are left exact."""
    return value if type(value) in (int, float) else jnp.asarray(value, dtype)


def _one_row(image: Any) -> Float[Array, "1 t 2"]:
    """An image of in-phase and quadrature samples."""
    image = as_image(image)
    if image.shape[0] != 1 or image.shape[2] != 2:
        raise ValueError(f"expected image to have shape (1, t, 2), got {image.shape}")
    return image


def _check_within(name: str, value: Number, low: Number, high: Number) -> None:
    value = as_number(name, value)
    if is_concrete(value) and not low <= np.asarray(value) <= high:
        raise ValueError(f"expected {name} to be in [{low:g}, {high:g}], got {value}")


def _check_above_zero(name: str, value: Number) -> None:
    value = as_number(name, value)
    if is_concrete(value) and not 0 < np.asarray(value) < np.inf:
        raise ValueError(f"expected {name} to be above 0, got {value}")
