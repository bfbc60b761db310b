"""Synthesized radio signals: closed forms of constellations, pulses, phases, channel and noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax.signals import radio, spectrograms

KEY = jax.random.key(0)
DIGITAL = ("BPSK", "QPSK", "8PSK", "16QAM", "64QAM", "GFSK", "CPFSK")


@functools.cache
def receive(modulation, length=256):
    return jax.jit(functools.partial(radio.receive, modulation, length=length))


def smallest_distance(points):
    distances = np.abs(points[:, None] - points[None, :])
    return distances[~np.eye(len(points), dtype=bool)].min()


def classical_root_raised_cosine(t, rolloff):
    """The form in textbooks, which divides by 0 at t = 0 and |t| = 1 / (4 rolloff)."""
    numerator = np.sin(np.pi * t * (1 - rolloff)) + 4 * rolloff * t * np.cos(
        np.pi * t * (1 + rolloff)
    )
    return numerator / (np.pi * t * (1 - (4 * rolloff * t) ** 2))


# Constellations.


@pytest.mark.parametrize("order", [2, 4, 8])
def test_phase_shift_keying_has_unit_energy_and_its_closed_form_distance(order):
    points = np.asarray(radio.phase_shift_keying(order))
    assert_allclose(np.abs(points), 1, rtol=1e-6)
    assert_allclose(smallest_distance(points), 2 * np.sin(np.pi / order), rtol=1e-5)


@pytest.mark.parametrize("order", [4, 16, 64])
def test_quadrature_amplitude_has_unit_energy_and_its_closed_form_distance(order):
    points = np.asarray(radio.quadrature_amplitude(order))
    assert len(set(points.round(4).tolist())) == order
    assert_allclose(np.mean(np.abs(points) ** 2), 1, rtol=1e-6)
    assert_allclose(points.mean(), 0, atol=1e-6)
    assert_allclose(smallest_distance(points), np.sqrt(6 / (order - 1)), rtol=1e-5)


# Pulses.


@pytest.mark.parametrize("rolloff", [0.2, 0.35, 1.0])
def test_the_pulse_is_that_of_textbooks_and_finite_where_they_divide_by_zero(rolloff):
    times = np.linspace(-7.03, 7.11, 200)
    pulse = radio.root_raised_cosine(jnp.asarray(times, jnp.float32), rolloff)
    assert_allclose(pulse, classical_root_raised_cosine(times, rolloff), atol=2e-5)
    corner = 1 / (4 * rolloff)
    middle, edge = radio.root_raised_cosine(jnp.array([0.0, corner]), rolloff)
    assert_allclose(middle, 1 - rolloff + 4 * rolloff / np.pi, rtol=1e-5)
    at_edge = (1 + 2 / np.pi) * np.sin(np.pi * corner) + (1 - 2 / np.pi) * np.cos(np.pi * corner)
    assert_allclose(edge, rolloff / np.sqrt(2) * at_edge, rtol=1e-4)


@pytest.mark.parametrize("rolloff", [0.2, 0.5])
def test_a_pair_of_pulses_leaves_no_symbol_in_another(rolloff):
    """Nyquist: sum over a fine grid of g(t) g(t - k) is 1 at k = 0 and 0 at other whole k."""
    fine = 16
    times = np.arange(-60 * fine, 60 * fine + 1) / fine
    pulse = np.asarray(radio.root_raised_cosine(jnp.asarray(times, jnp.float32), rolloff))
    shifted = [np.vdot(pulse[k * fine :], pulse[: len(pulse) - k * fine]) / fine for k in range(6)]
    assert_allclose(shifted, np.eye(6)[0], atol=1e-3)


def test_a_matched_filter_reads_the_symbols_at_the_decision_instants():
    samples, timing = 8, 2.6
    symbols = jax.random.choice(KEY, radio.quadrature_amplitude(16), (64,))
    signal = radio.linear_modulation(symbols, rolloff=0.3, timing=timing)
    assert_allclose(radio.mean_power(signal), np.mean(np.abs(symbols) ** 2), rtol=0.1)
    # The correlation with each symbol's pulse, all of it by hand; the ends meet.
    for k in (0, 5, 63):
        distance = (np.arange(512) - timing - samples * k + 256) % 512 - 256
        pulse = radio.root_raised_cosine(jnp.asarray(distance / samples, jnp.float32), 0.3)
        correlation = np.sum(np.asarray(signal) * np.asarray(pulse)) / samples
        assert_allclose(correlation, symbols[k], atol=5e-3)


def test_the_band_is_that_of_the_rolloff():
    symbols = jax.random.choice(KEY, radio.phase_shift_keying(4), (256,))
    signal = radio.linear_modulation(symbols, rolloff=0.35)
    power = np.abs(np.fft.fft(signal)) ** 2
    outside = np.abs(np.fft.fftfreq(len(signal))) > 1.35 / 2 / 8 + 1e-9
    assert power[outside].sum() < 1e-4 * power.sum()
    low, high = radio.occupied_band(signal)
    assert -1.35 / 16 <= low < -0.8 / 16
    assert 0.8 / 16 < high <= 1.35 / 16


# Phases.


def test_minimum_shift_keying_turns_by_a_quarter_a_symbol():
    symbols = jnp.array([1.0, 1, -1, 1, -1, -1])
    signal = radio.frequency_shift_keying(symbols, index=0.5, timing=4)
    # A symbol ends 4 samples after its middle, which is at 4, 12, 20 ...
    phase = np.unwrap(np.angle(signal))
    ends = phase[np.arange(8, 48, 8)]
    assert_allclose(np.diff(ends), np.pi / 2 * np.asarray(symbols[1:-1]), atol=1e-5)
    assert_allclose(np.diff(phase)[:6], np.pi / 16, atol=1e-5)


def test_a_gaussian_phase_is_the_integral_of_a_blurred_rectangle():
    bandwidth, step = 0.5, 1 / 400
    times = np.arange(-4, 4, step)
    sigma = np.sqrt(np.log(2)) / (2 * np.pi * bandwidth)
    gaussian = np.exp(-(times**2) / (2 * sigma**2))
    rectangle = np.abs(times) < 0.5
    frequency = np.convolve(rectangle, gaussian / gaussian.sum(), "same") * step
    expected = np.cumsum(frequency)
    phase = radio.gaussian_phase(jnp.asarray(times, jnp.float32), bandwidth)
    assert_allclose(phase, expected, atol=5e-3)
    # The filter's power is half at its bandwidth.
    cycles = bandwidth * 2 * np.pi
    assert_allclose(np.exp(-((cycles * sigma) ** 2)), 0.5, rtol=1e-6)


def test_far_from_its_symbol_a_gaussian_phase_is_0_or_1():
    times = jnp.array([-3e38, -1e20, -1e8, 1e8, 1e20, 3e38])
    assert_allclose(radio.gaussian_phase(times, 0.5), [0, 0, 0, 1, 1, 1], atol=1e-20)


def test_the_paths_of_huge_gains_are_those_of_small_ones():
    # Added up as they are, both would be beyond single precision on the way.
    signal, gains = jnp.array([1.0, -2.0, 0.5, 0.25]), np.array([1.0, -0.75])
    expected = radio.multipath(signal, np.array([0.0, 1.0]), gains)
    found = radio.multipath(signal * 1e20, np.array([0.0, 1.0]), gains * 1e18)
    assert_allclose(found, expected * 1e38, rtol=1e-5)
    large = radio.multipath(signal * 1.5e38, np.array([0.0, 1.0]), gains / 2)
    assert_allclose(large, expected * 0.75e38, rtol=1e-5)


def test_a_wide_gaussian_phase_is_the_rectangular_one():
    times = jnp.linspace(-1.5, 1.5, 31)
    assert_allclose(radio.gaussian_phase(times, 1000.0), radio.rectangular_phase(times), atol=1e-3)


@pytest.mark.parametrize("modulation", ["GFSK", "CPFSK", "FM"])
def test_frequency_modulations_have_a_constant_envelope(modulation):
    sent, _ = radio.MODULATIONS[modulation](KEY, 32)
    assert_allclose(np.abs(sent), 1, rtol=1e-5)


def test_a_tone_modulates_the_frequency_with_bessel_sidebands():
    """|J_n(deviation / frequency)|^2 at n times the tone's frequency, as by their series."""
    length, cycles, ratio = 256, 8, 1.5
    tone = jnp.cos(2 * jnp.pi * cycles / length * jnp.arange(float(length)))
    signal = radio.frequency_modulation(tone, ratio * cycles / length)
    spectrum = np.abs(np.fft.fft(signal)) / length
    angle = np.linspace(0, np.pi, 4001)
    for order in range(4):
        bessel = np.trapezoid(np.cos(order * angle - ratio * np.sin(angle)), angle) / np.pi
        assert_allclose(spectrum[order * cycles], abs(bessel), atol=5e-3)


def test_an_amplitude_modulated_tone_has_two_sidebands_of_half_its_index():
    tone = jnp.cos(2 * jnp.pi * 4 / 64 * jnp.arange(64.0))
    spectrum = np.abs(np.fft.fft(radio.amplitude_modulation(tone, 0.6))) / 64
    expected = np.zeros(64)
    expected[[0, 4, -4]] = 1, 0.3, 0.3
    assert_allclose(spectrum, expected, atol=1e-6)


def test_a_message_is_within_its_band_and_its_peak_is_one():
    message = radio.band_limited_noise(KEY, 400, 0.05)
    power = np.abs(np.fft.rfft(message)) ** 2
    frequencies = np.fft.rfftfreq(400)
    outside = (frequencies > 0.05 + 1e-9) | (frequencies == 0)
    assert power[outside].sum() < 1e-9 * power.sum()
    assert_allclose(np.abs(message).max(), 1, rtol=1e-6)


# The channel.


def test_a_whole_delay_is_a_shift_and_halves_of_it_compose():
    signal = jax.random.normal(KEY, (31,), jnp.complex64)
    one = jnp.ones(1, complex)
    assert_allclose(radio.multipath(signal, jnp.array([3.0]), one), np.roll(signal, 3), atol=1e-5)
    half = radio.multipath(signal, jnp.array([1.5]), one)
    assert_allclose(radio.multipath(half, jnp.array([1.5]), one), np.roll(signal, 3), atol=1e-5)


@pytest.mark.parametrize("k_factor", [0.0, 4.0])
def test_fading_has_its_powers_and_its_line_of_sight(k_factor):
    powers = jnp.array([2.0, 1.0, 1.0])
    keys = jax.random.split(KEY, 20_000)
    gains = jax.vmap(radio.fading_gains, (0, None, None))(keys, powers, k_factor)
    # 20,000 draws: the mean of an exponential of mean 1 is within 0.03 of it by 4 deviations.
    assert_allclose(np.mean(np.abs(gains) ** 2, 0), [0.5, 0.25, 0.25], rtol=0.03)
    line_of_sight = np.sqrt(0.5 * k_factor / (k_factor + 1))
    assert_allclose(gains.mean(0), [line_of_sight, 0, 0], atol=0.02)


def test_a_carrier_moves_the_band():
    signal = radio.linear_modulation(radio.phase_shift_keying(8), rolloff=0.3)
    moved = radio.shift_frequency(signal, 8 / 64, 1.0)
    assert_allclose(radio.occupied_band(moved), radio.occupied_band(signal) + 8 / 64, atol=1e-6)
    assert_allclose(radio.mean_power(moved), radio.mean_power(signal), rtol=1e-5)


@pytest.mark.parametrize("snr", [-10, 0, 20])
def test_the_measured_snr_is_the_asked_one(snr):
    signal = 3 * radio.linear_modulation(radio.phase_shift_keying(8), rolloff=0.3)
    long = jnp.tile(signal, 1000)
    noise = radio.noise(KEY, long, snr)
    measured = 10 * np.log10(radio.mean_power(long) / radio.mean_power(noise))
    # 64,000 samples of noise: the power's relative deviation is 0.004, so 4 of them are 0.07 dB.
    assert_allclose(measured, snr, atol=0.07)
    assert_allclose(np.mean(noise.real**2), np.mean(noise.imag**2), rtol=0.03)


# Receptions.


@pytest.mark.parametrize("modulation", radio.MODULATIONS)
def test_a_reception_has_unit_power_and_its_snr_and_is_of_its_key(modulation):
    received = receive(modulation)(0.0, KEY)
    assert received.iq.shape == (256, 2)
    assert received.iq.dtype == jnp.float32
    assert_allclose(jnp.sum(received.iq**2) / 256, 1, rtol=1e-5)
    noise = received.iq - radio.to_iq(received.clean)
    ratio = radio.mean_power(received.clean) / (jnp.sum(noise**2) / 256)
    # 256 samples: 4 deviations of 1 / 16 each way.
    assert 0.75 < ratio < 1.34
    assert_array_equal(received.iq, receive(modulation)(0.0, KEY).iq)
    assert np.abs(received.iq - receive(modulation)(0.0, jax.random.key(1)).iq).max() > 0.1
    assert (modulation in DIGITAL) == bool(jnp.isfinite(received.timing))


def test_a_reception_without_noise_stays_in_its_occupied_band():
    received = receive("QPSK", 1024)(200.0, KEY)
    power = np.abs(np.fft.fft(received.clean)) ** 2
    frequencies = np.fft.fftfreq(1024)
    low, high = received.band
    inside = (frequencies >= low) & (frequencies <= high)
    assert 0.98 < power[inside].sum() / power.sum() < 0.995
    assert 0.8 / 8 < high - low < 1.4 / 8
    assert_allclose(received.iq, radio.to_iq(received.clean), atol=1e-6)


def test_a_batch_equals_its_singles_in_any_order():
    keys = jax.random.split(KEY, 3)
    batched = jax.vmap(receive("16QAM"), (None, 0))(5.0, keys[::-1]).iq
    for row, key in zip(batched[::-1], keys, strict=True):
        assert_allclose(row, receive("16QAM")(5.0, key).iq, atol=1e-5)


# Over time and frequency.


def test_a_signal_comes_back_from_time_and_frequency():
    signal = jax.random.normal(KEY, (1, 48, 2))
    for window_size, hop in ((16, 4), (8, 8 // 2), (8, 1)):
        there = functools.partial(radio.time_frequency, window_size=window_size, hop=hop)
        image = jax.jit(there)(signal)
        assert image.shape == (window_size, (48 + window_size) // hop + 1, 2)
        back = jax.jit(functools.partial(radio.from_time_frequency, hop=hop))
        assert_allclose(back(image), signal, atol=1e-5)


def test_any_image_goes_to_the_nearest_signal():
    """The least squares of all signals, by the pseudo-inverse of the transform as a matrix."""
    signal = jax.random.normal(KEY, (1, 8, 2))
    image = jax.random.normal(jax.random.key(1), (4, 7, 2))

    @jax.jit
    def transform(padded):
        coefficients = spectrograms.stft(padded, window_size=4, hop=2)
        return coefficients.ravel()

    basis = jnp.eye(16, dtype=complex)
    matrix = np.stack([transform(column) for column in basis], axis=1)
    coefficients = jax.lax.complex(image[..., 0], image[..., 1]).T
    # The window is 0 at its first sample, so that the signal's own first is not seen at all.
    expected = np.linalg.lstsq(matrix, np.asarray(coefficients).ravel(), rcond=1e-6)[0]
    found = jax.jit(functools.partial(spectrograms.inverse_stft, hop=2))(coefficients)
    assert_allclose(found, expected, atol=1e-5)
    back = functools.partial(radio.from_time_frequency, hop=2)
    assert jax.eval_shape(back, image).shape == signal.shape


def test_a_tone_is_a_row_of_its_frequency():
    tone = radio.to_iq(radio.shift_frequency(jnp.ones(64, complex), -0.25))[None]
    image = radio.time_frequency(tone, window_size=16, hop=4)
    power = jnp.sum(image**2, axis=-1)
    row = int(power[:, 10].argmax())
    assert spectrograms.frequencies(16, two_sided=True)[row] == -0.25
    assert_allclose(power[row, 8:12], 1, rtol=1e-5)


def test_a_map_over_time_and_frequency_is_complete():
    """Of a linear score, gradient times input sums up to the score in every representation."""
    signal = jax.random.normal(KEY, (1, 32, 2))
    weights = jax.random.normal(jax.random.key(1), (1, 32, 2))
    image = jax.jit(functools.partial(radio.time_frequency, window_size=8, hop=4))(signal)

    score = radio.over_time_frequency(lambda signal: jnp.sum(weights * signal), hop=4)
    gradient = jax.jit(jax.grad(lambda image: score(image)))(image)
    assert_allclose(jnp.sum(image * gradient), jnp.sum(weights * signal), rtol=1e-4)


def test_a_score_over_time_and_frequency_crosses_jit_and_is_traced_once():
    traces = []

    @jax.jit
    def value(score, image):
        traces.append(None)
        return score(image)

    signal = jax.random.normal(KEY, (1, 32, 2))
    image = radio.time_frequency(signal, window_size=8, hop=4)

    def read(factor, signal):
        return factor * signal[0, 5, 1]

    for factor in (1.0, 3.0):
        score = radio.over_time_frequency(Partial(read, jnp.array(factor)), hop=4)
        assert_allclose(value(score, image), factor * signal[0, 5, 1], rtol=1e-4)
    assert len(traces) == 1


def test_the_band_holds_the_coefficients_of_a_tone_in_it():
    tone = radio.to_iq(radio.shift_frequency(jnp.ones(64, complex), 0.125))[None]
    power = jnp.sum(radio.time_frequency(tone, window_size=16, hop=4) ** 2, axis=-1)
    band = radio.band_mask(np.array([0.1, 0.15]), power.shape)
    assert_array_equal(band[:, 0], band[:, -1])
    assert power[band].sum() > 0.6 * power.sum()
    # Of the frequencies, sixteenths, only 2 / 16 is in it.
    assert band.sum() == power.shape[1]


@pytest.mark.parametrize("timing", [0.0, 2.5, 7.9])
def test_half_of_the_samples_are_near_a_decision(timing):
    near = np.asarray(radio.decision_mask(timing, 64, distance=2))[0]
    for n in range(64):
        distance = min(abs(n - timing - 8 * k) for k in range(-1, 9))
        assert near[n] == (distance <= 2)
    assert 0.5 <= near.mean() <= 0.625


def test_without_symbols_no_sample_is_near_a_decision():
    assert not radio.decision_mask(np.nan, 16, distance=2).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: radio.band_mask(jnp.zeros(3), (4, 4)), r"shape .2,., got .3,."),
        (lambda: radio.band_mask(jnp.zeros(2), (0, 4)), "frequencies to be at least 1, got 0"),
        (lambda: radio.decision_mask(0.0, 0, distance=1), "length to be at least 1, got 0"),
        (lambda: radio.decision_mask(0.0, 8, distance=-1.0), "distance to be at least 0"),
        (lambda: radio.phase_shift_keying(1), "order to be at least 2, got 1"),
        (lambda: radio.quadrature_amplitude(8), "square of an integer, got 8"),
        (lambda: radio.root_raised_cosine(jnp.zeros(1), 1.5), "rolloff to be in .0, 1., got 1.5"),
        (lambda: radio.gaussian_phase(jnp.zeros(1), 0.0), "bandwidth to be above 0"),
        (lambda: radio.band_limited_noise(KEY, 8, 0.05), "bandwidth to be in"),
        (lambda: radio.amplitude_modulation(jnp.zeros(2), 2.0), "index to be in .0, 1."),
        (lambda: radio.fading_gains(KEY, jnp.ones(2), -1.0), "k_factor to be at least 0"),
        (lambda: radio.occupied_band(jnp.ones(4, complex), 2.0), "share to be in"),
        (lambda: radio.receive("OFDM", 0, KEY), "one of the modulations BPSK, .*'OFDM'"),
        (
            lambda: radio.time_frequency(jnp.zeros((1, 9, 2)), window_size=8, hop=2),
            "hop to divide the window's 8 and the signal's 9 samples, got 2",
        ),
        (
            lambda: radio.from_time_frequency(jnp.zeros((8, 5, 2)), hop=3),
            "hop to divide the window's 8 samples, got 3",
        ),
        (lambda: radio.receive("FM", 0, KEY, length=20), "multiple of 8, got 20"),
    ],
)
def test_mistakes_are_named(call, message, entry_checks):
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        call()


# Numbers of all kinds.

LINE = np.linspace(-0.9, 0.8, 16, dtype=np.float32)
SIGNAL = (LINE + 1j * LINE[::-1]).astype(np.complex64)
IMAGE = np.stack([LINE, LINE[::-1]], axis=1)[None]
FUNCTIONS = {
    "root_raised_cosine": (functools.partial(radio.root_raised_cosine, rolloff=0.3), LINE),
    "linear_modulation": (functools.partial(radio.linear_modulation, rolloff=0.3), SIGNAL),
    "rectangular_phase": (radio.rectangular_phase, LINE),
    "gaussian_phase": (functools.partial(radio.gaussian_phase, bandwidth=0.5), LINE),
    "frequency_shift_keying": (functools.partial(radio.frequency_shift_keying, index=0.3), LINE),
    "amplitude_modulation": (functools.partial(radio.amplitude_modulation, index=0.3), LINE),
    "frequency_modulation": (functools.partial(radio.frequency_modulation, deviation=0.1), LINE),
    "shift_frequency": (functools.partial(radio.shift_frequency, frequency=0.1), SIGNAL),
    "fading_gains": (lambda powers: radio.fading_gains(jax.random.key(0), powers), LINE**2),
    "multipath": (lambda delays: radio.multipath(SIGNAL, delays, SIGNAL), LINE),
    "mean_power": (radio.mean_power, SIGNAL),
    "noise": (lambda signal: radio.noise(jax.random.key(0), signal, 10), SIGNAL),
    "occupied_band": (radio.occupied_band, SIGNAL),
    "to_iq": (radio.to_iq, SIGNAL),
    "rotate_phase": (lambda image: radio.rotate_phase(image, jax.random.key(0)), IMAGE),
    "time_frequency": (functools.partial(radio.time_frequency, window_size=8, hop=4), IMAGE),
    "from_time_frequency": (
        functools.partial(radio.from_time_frequency, hop=4),
        np.tile(IMAGE, (8, 1, 1)),
    ),
}
# Draws, which are others in double precision.
DRAWN = ("fading_gains", "noise", "rotate_phase")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_are_taken_as_others_store_them(entry_checks, name):
    function, array = FUNCTIONS[name]
    expected = function(jnp.asarray(array))
    wide = np.clongdouble if np.iscomplexobj(array) else np.longdouble
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    for stored in (big_endian, array.astype(wide), np.asfortranarray(array)):
        assert_allclose(function(stored), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_single_precision_is_kept_where_double_is_at_hand(name):
    function, array = FUNCTIONS[name]
    function = jax.jit(function)
    single = function(jnp.asarray(array))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        kept = function(jnp.asarray(array))
        wide = np.complex128 if np.iscomplexobj(array) else np.float64
        double = function(jnp.asarray(array.astype(wide)))
    assert kept.dtype == single.dtype
    assert_allclose(kept, single, rtol=1e-5, atol=1e-6)
    if name != "multipath":  # Its signal is single.
        assert jnp.finfo(double.dtype).bits == 64
    if name not in DRAWN:
        assert_allclose(double, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["rotate_phase", "time_frequency", "from_time_frequency"])
def test_images_in_half_precision_stay_in_it(name):
    function, array = FUNCTIONS[name]
    with jax.numpy_dtype_promotion("strict"):
        image = function(jnp.asarray(array, jnp.bfloat16))
    assert image.dtype == jnp.bfloat16
    assert_allclose(image.astype(jnp.float32), function(jnp.asarray(array)), atol=0.05)


@pytest.mark.parametrize("modulation", radio.MODULATIONS)
def test_a_signal_is_the_same_whatever_jaxs_default_precision_is(modulation):
    expected = jax.eval_shape(
        functools.partial(radio.receive, modulation, length=32), jnp.float32(10), KEY
    )
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        received = jax.eval_shape(
            functools.partial(radio.receive, modulation, length=32), jnp.float32(10), KEY
        )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), received) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), expected
    )


@pytest.mark.parametrize("wrong", [7, None, [1.0, 2.0], np.arange(4)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_array_of_floats_is_named(entry_checks, name, wrong):
    with pytest.raises(TypeError, match=r"expected \w+ to (be an array|hold)"):
        FUNCTIONS[name][0](wrong)


def test_an_image_of_other_channels_is_no_radio_signal(entry_checks):
    for function in (
        lambda image: radio.rotate_phase(image, KEY),
        functools.partial(radio.time_frequency, window_size=8, hop=4),
    ):
        for shape in ((1, 16, 3), (2, 16, 2)):
            with pytest.raises(ValueError, match=r"expected image to have shape \(1, t, 2\)"):
                function(jnp.ones(shape))
    with pytest.raises(TypeError, match="expected phase_response to be callable, got int"):
        radio.frequency_shift_keying(jnp.ones(4), index=0.5, phase_response=3)
    with pytest.raises(ValueError, match="expected a gain for each delay, got 3 for 2"):
        radio.multipath(SIGNAL, jnp.zeros(2), jnp.ones(3))
