"""The short-time Fourier transform and what is built on it, against SciPy and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax.signals import spectrograms


def noise(length, *, is_complex=False, seed=0):
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((length, 2)).astype(np.float32)
    return spectrograms.complex_baseband(jnp.asarray(samples)) if is_complex else samples[:, 0]


def transform(signal, window_size, hop):
    return spectrograms.stft(jnp.asarray(signal), window_size=window_size, hop=hop)


# The last leaves samples over, the second has a hop that does not divide the window, the third
# leaves samples out between windows, the fourth is one frame.
CASES = [(64, 16, 4), (65, 16, 5), (64, 8, 11), (16, 16, 4), (66, 9, 4)]


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("length", "window_size", "hop"), CASES)
def test_stft_is_scipys(length, window_size, hop, is_complex):
    signal = noise(length, is_complex=is_complex)
    scipys = scipy.signal.ShortTimeFFT(
        scipy.signal.get_window("hann", window_size),
        hop,
        1.0,
        fft_mode="centered" if is_complex else "onesided",
        scale_to="magnitude",
        phase_shift=None,
    )
    count = (length - window_size) // hop + 1
    # Frame 0 of SciPy's has its window's middle at sample `k_offset`.
    frames = [np.asarray(signal)[m * hop : m * hop + window_size] for m in range(count)]
    expected = np.stack(
        [scipys.stft(frame, k_offset=window_size // 2, p0=0, p1=1)[:, 0] for frame in frames]
    )
    spectrum = jax.jit(transform, static_argnums=(1, 2))(signal, window_size, hop)
    assert spectrum.shape == (count, window_size if is_complex else window_size // 2 + 1)
    assert_allclose(spectrum, expected, atol=1e-6)
    assert_allclose(
        spectrograms.frequencies(window_size, two_sided=is_complex), scipys.f, rtol=1e-6
    )


@pytest.mark.parametrize("frequency", [0, 3, 5, -2, -8])
def test_a_complex_tone_is_its_amplitude_in_its_bin(frequency):
    tone = 0.7 * np.exp(2j * np.pi * frequency / 16 * np.arange(40)).astype(np.complex64)
    spectrum = transform(tone, 16, 4)
    column = frequency + 8
    assert_allclose(np.abs(spectrum[:, column]), 0.7, rtol=1e-5)
    # A Hann window has one neighbour of half the height on each side, and nothing else.
    others = np.abs(np.delete(np.asarray(spectrum), [column, column - 1, (column + 1) % 16], 1))
    assert_allclose(others, 0, atol=1e-6)
    assert_allclose(np.abs(spectrum[:, (column + 1) % 16]), 0.35, rtol=1e-5)


@pytest.mark.parametrize("is_complex", [False, True])
def test_parseval(is_complex):
    signal = np.asarray(noise(32, is_complex=is_complex))
    window = np.sin(np.pi * np.arange(16) / 16) ** 2
    squares = np.asarray(spectrograms.power(transform(signal, 16, 8))) * window.sum() ** 2
    if not is_complex:  # Negative frequencies have the power of the positive ones.
        squares[:, 1:-1] *= 2
    for frame, energy in enumerate(squares.sum(1) / 16):
        part = signal[8 * frame : 8 * frame + 16] * window
        assert energy == pytest.approx(np.sum(np.abs(part) ** 2), rel=1e-5)


def test_conjugation_mirrors_the_frequencies():
    signal = noise(24, is_complex=True)
    of_signal, of_conjugate = transform(signal, 9, 5), transform(jnp.conj(signal), 9, 5)
    assert_allclose(of_conjugate, jnp.conj(of_signal[:, ::-1]), atol=1e-6)


@pytest.mark.parametrize("size", [2, 12, 13])
def test_the_window_is_a_squared_sine(size):
    window = spectrograms.hann_window(size)
    assert_allclose(window, np.sin(np.pi * np.arange(size) / size) ** 2, atol=1e-7)
    assert window.dtype == np.float32


def test_copies_of_the_window_add_up():
    window = spectrograms.hann_window(12)
    assert_allclose(window.reshape(3, 4).sum(0), 1.5, rtol=1e-6)


def test_mel_filters_are_triangles():
    filters = spectrograms.mel_filters(5, window_size=64, sample_rate=8000, low=100.0, high=3500.0)
    mel = np.linspace(1127 * np.log1p(100 / 700), 1127 * np.log1p(3500 / 700), 7)
    corners = 700 * np.expm1(mel / 1127)
    bins = np.arange(33) * 125.0
    for band, row in enumerate(filters):
        triangle = np.interp(bins, corners[band : band + 3], [0, 1, 0], left=0, right=0)
        assert_allclose(row, triangle, atol=2e-4)
    between = (bins >= corners[1]) & (bins <= corners[-2])
    assert between.sum() > 10
    assert_allclose(filters.sum(0)[between], 1, rtol=1e-5)


LOG_MEL = {"sample_rate": 8000, "window_size": 32, "hop": 8, "num_bands": 6}


def test_log_mel_is_the_level_of_the_filtered_power():
    signal = noise(64)
    level = spectrograms.log_mel(jnp.asarray(signal), **LOG_MEL)
    spectrum = np.abs(np.asarray(transform(signal, 32, 8))) ** 2
    filters = spectrograms.mel_filters(6, window_size=32, sample_rate=8000)
    slow = np.array([[(row * frame).sum() for row in filters] for frame in spectrum])
    assert level.shape == (5, 6)
    assert_allclose(level, 10 * np.log10(slow + 1e-8), rtol=1e-4, atol=1e-3)


def test_ten_times_the_amplitude_is_twenty_decibels():
    signal = jnp.asarray(noise(64))
    soft, loud = (
        spectrograms.log_mel(signal * factor, **LOG_MEL, floor=1e-20) for factor in (1.0, 10.0)
    )
    assert_allclose(loud - soft, 20, rtol=1e-4)


@pytest.mark.parametrize("is_complex", [False, True])
def test_gradients_at_silence_are_finite_and_zero(is_complex):
    def level(samples):
        signal = spectrograms.complex_baseband(samples) if is_complex else samples[:, 0]
        return spectrograms.decibels(spectrograms.power(transform(signal, 8, 4))).sum()

    assert_array_equal(jax.jit(jax.grad(level))(jnp.zeros((16, 2))), 0)


def test_the_gradient_is_the_slope():
    signal = jnp.asarray(noise(40))
    weights = jax.random.normal(jax.random.key(1), (2, 6))
    function = functools.partial(spectrograms.log_mel, **LOG_MEL, floor=1e-3)

    def score(signal):
        return jnp.sum(weights * function(signal))

    gradient = jax.grad(score)(signal)
    direction = jnp.asarray(noise(40, seed=2))
    step = 1e-2
    slope = (score(signal + step * direction) - score(signal - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(jnp.vdot(gradient, direction)), rel=1e-2)


def test_jit_and_vmap_change_nothing():
    function = functools.partial(spectrograms.log_mel, **LOG_MEL)
    signals = jnp.stack([jnp.asarray(noise(48, seed=seed)) for seed in range(2)])
    batch = jax.jit(jax.vmap(function))(signals)
    for signal, level in zip(signals, batch, strict=True):
        assert_allclose(level, function(signal), rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: transform(np.zeros((8, 2), np.float32), 4, 2), ValueError, "complex_baseband"),
        (lambda: transform(np.zeros((2, 8), np.float32), 4, 2), ValueError, r"shape \(t,\)"),
        (lambda: transform(np.zeros(8, int), 4, 2), TypeError, "real or complex floats"),
        (lambda: transform([0.0], 4, 2), ValueError, "at most the signal's 1 samples, got 4"),
        (lambda: transform(np.full(8, np.nan, np.float32), 4, 2), ValueError, "8 infinite or nan"),
        (lambda: transform(np.zeros(8, np.float32), 4, 0), ValueError, "hop to be at least 1"),
        (lambda: transform(np.zeros(8, np.float32), 1, 1), ValueError, "at least 2, got 1"),
        (lambda: spectrograms.stft([0.0] * 8, window_size=4, hop=2), TypeError, "an array"),
        (lambda: spectrograms.complex_baseband(jnp.zeros((4, 3))), ValueError, r"\(t, 2\)"),
        (lambda: spectrograms.decibels(jnp.zeros(2), floor=0.0), ValueError, "above 0, got 0"),
        (
            lambda: spectrograms.mel_filters(60, window_size=32, sample_rate=8000),
            ValueError,
            "got none in band 0; take fewer",
        ),
        (
            lambda: spectrograms.mel_filters(2, window_size=32, sample_rate=8000, high=5000.0),
            ValueError,
            "got 5000",
        ),
        (
            lambda: spectrograms.log_mel(jnp.zeros(64, jnp.complex64), **LOG_MEL),
            TypeError,
            "to hold floats, got complex64",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def as_others_store_them(array):
    """The same numbers in another byte order, wider and in another memory layout."""
    wide = np.clongdouble if np.iscomplexobj(array) else np.longdouble
    return (
        array.astype(array.dtype.newbyteorder(">")),
        array.astype(wide),
        np.asfortranarray(array),
        np.repeat(array, 2, axis=0)[::2],
    )


REAL, COMPLEX = noise(32), np.asarray(noise(32, is_complex=True))
FUNCTIONS = {
    "complex_baseband": (spectrograms.complex_baseband, np.stack([REAL, REAL[::-1]], axis=1)),
    "stft": (functools.partial(spectrograms.stft, window_size=8, hop=4), REAL),
    "complex stft": (functools.partial(spectrograms.stft, window_size=8, hop=4), COMPLEX),
    "inverse_stft": (
        functools.partial(spectrograms.inverse_stft, hop=2),
        np.asarray(transform(COMPLEX, 8, 2)),
    ),
    "power": (spectrograms.power, COMPLEX),
    "decibels": (spectrograms.decibels, REAL**2),
    "log_mel": (
        functools.partial(
            spectrograms.log_mel, sample_rate=8000, window_size=16, hop=8, num_bands=3
        ),
        REAL,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_are_taken_as_others_store_them(entry_checks, name):
    function, array = FUNCTIONS[name]
    expected = function(jnp.asarray(array))
    for stored in as_others_store_them(array):
        assert_allclose(function(stored), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_precision_is_used_where_it_is_given_and_single_kept_where_not(name):
    function, array = FUNCTIONS[name]
    function = jax.jit(function)
    single = function(jnp.asarray(array))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        kept = function(jnp.asarray(array))
        wide = np.complex128 if np.iscomplexobj(array) else np.float64
        double = function(jnp.asarray(array.astype(wide)))
    assert kept.dtype == single.dtype
    assert_allclose(kept, single, rtol=1e-5, atol=1e-6)
    assert double.dtype == np.dtype(single.dtype.str.replace("c8", "c16").replace("f4", "f8"))
    assert_allclose(double, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_transformed_in_single(dtype):
    signal = jnp.asarray(noise(64)).astype(dtype)
    with jax.numpy_dtype_promotion("strict"):
        level = spectrograms.log_mel(signal, **LOG_MEL)
    assert level.dtype == dtype
    expected = spectrograms.log_mel(signal.astype(jnp.float32), **LOG_MEL)
    assert_allclose(level.astype(jnp.float32), expected, rtol=float(jnp.finfo(dtype).eps))
    # Its floor, 1e-8, is no number above 0 in half precision.
    assert np.isfinite(spectrograms.decibels(jnp.zeros(3, dtype)).astype(jnp.float32)).all()


@pytest.mark.parametrize("wrong", [7, None, [1.0, 2.0], np.arange(4)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_signal_is_named(entry_checks, name, wrong):
    with pytest.raises(TypeError, match=r"expected (samples|signal|coefficients|values|power) to"):
        FUNCTIONS[name][0](wrong)
