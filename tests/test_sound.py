"""Sounds: files read and written, and the variations that a network is trained on."""

import io
import struct
import wave

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io.wavfile
from numpy.testing import assert_allclose

from saliency_jax.signals import sound


def wav(samples, rate=8000):
    buffer = io.BytesIO()
    scipy.io.wavfile.write(buffer, rate, samples)
    buffer.seek(0)
    return buffer


LEVELS = np.array([0.0, 0.5, -0.25, -1.0])


@pytest.mark.parametrize(
    "samples",
    [
        (LEVELS * 2**15).astype(np.int16),
        (LEVELS * 2**31).astype(np.int32),
        (LEVELS * 128 + 128).astype(np.uint8),
        LEVELS.astype(np.float32),
        np.stack([LEVELS + 0.25, LEVELS - 0.25], axis=1).astype(np.float32),
    ],
    ids=["16 bits", "32 bits", "8 bits", "floats", "stereo"],
)
def test_a_file_of_any_kind_is_read(samples, tmp_path):
    (tmp_path / "sound.wav").write_bytes(wav(samples).getvalue())
    for file in (wav(samples), tmp_path / "sound.wav"):
        assert_allclose(sound.read(file, 8000), LEVELS, atol=1e-7)


def test_another_sample_rate_keeps_a_tone():
    def tone(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate).astype(np.float32)

    middle = slice(200, -200)
    assert_allclose(
        sound.read(wav(tone(44100), 44100), 8000)[middle], tone(8000)[middle], atol=2e-3
    )


def test_what_is_written_is_read_by_python_and_cut_off_at_full_scale():
    encoded = io.BytesIO(sound.encode_wav(np.array([0.5, 2.0, -2.0]), 11025))
    with wave.open(encoded) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (11025, 1, 2)
        assert struct.unpack("<3h", file.readframes(3)) == (16384, 32767, -32768)


def test_the_written_file_is_that_of_pythons_own_module():
    samples = np.linspace(-1, 1, 33)
    expected = io.BytesIO()
    with wave.open(expected, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        levels = np.round(samples * 2**15).clip(-(2**15), 2**15 - 1)
        file.writeframes(levels.astype("<i2").tobytes())
    assert sound.encode_wav(samples, 8000) == expected.getvalue()


@pytest.mark.parametrize("kind", [">f4", np.longdouble, np.float16, jnp.bfloat16])
def test_sounds_of_any_kind_of_floats_are_written_and_centred(entry_checks, kind):
    samples = LEVELS.astype(kind)
    assert sound.encode_wav(samples, 8000) == sound.encode_wav(LEVELS, 8000)
    assert_allclose(sound.centre(samples, 6).astype(np.float32), [0, *LEVELS, 0])
    assert_allclose(sound.centre(jnp.asarray(LEVELS), 2), LEVELS[1:3])


@pytest.mark.usefixtures("entry_checks")
def test_a_file_that_is_no_sound_is_named(tmp_path):
    with pytest.raises(TypeError, match="expected a path or an open binary file, got int"):
        sound.read(7, 8000)
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "cut.wav").write_bytes(wav(np.zeros(9, np.int16)).getvalue()[:30])
    for name in ("text.wav", "cut.wav"):
        with pytest.raises(ValueError, match=f"expected a WAV file, got .*{name}"):
            sound.read(tmp_path / name, 8000)
    with pytest.raises(FileNotFoundError, match=r"got no file at .*none\.wav"):
        sound.read(tmp_path / "none.wav", 8000)
    with pytest.raises(ValueError, match="finite samples"):
        sound.read(wav(np.array([np.nan], np.float32)), 8000)


def test_variations_are_shifts_gains_and_noise_within_their_bounds():
    signal = jnp.zeros((1, 100, 1)).at[0, 50].set(1.0)
    keys = jax.random.split(jax.random.key(0), 200)
    varied = np.asarray(jax.vmap(sound.shift_gain_and_noise, (None, 0))(signal, keys))[:, 0, :, 0]
    places = varied.argmax(1)
    assert (places.min(), places.max()) == (40, 60)
    gains = 20 * np.log10(varied.max(1))
    assert gains.min() == pytest.approx(-10, abs=1)
    assert gains.max() == pytest.approx(10, abs=1)
    rest = np.take_along_axis(varied, (places[:, None] + np.arange(1, 100)) % 100, 1)
    noise = 20 * np.log10(rest.std(1))
    assert noise.min() == pytest.approx(-100, abs=2)
    assert noise.max() == pytest.approx(-30, abs=2)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_variations_keep_the_signals_type(dtype):
    signal = jnp.linspace(-0.5, 0.5, 40).reshape(1, 40, 1)
    expected = sound.shift_gain_and_noise(signal, jax.random.key(1))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.debug_key_reuse(True):
        varied = sound.shift_gain_and_noise(signal.astype(dtype), jax.random.key(1))
    assert varied.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    assert_allclose(varied.astype(jnp.float32), expected, rtol=2 * eps, atol=2 * eps)


def test_a_file_without_samples_is_refused_in_words(tmp_path):
    scipy.io.wavfile.write(tmp_path / "empty.wav", 8000, np.zeros((0, 2), np.float32))
    with pytest.raises(ValueError, match="expected a WAV file with samples, got none in"):
        sound.read(tmp_path / "empty.wav", 8000)
