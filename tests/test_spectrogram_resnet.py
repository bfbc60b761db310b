"""The network over a sound's spectrogram: two inputs of one model, and its way to disk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import models, scores, sound, spectrograms

LENGTH = 320


@pytest.fixture(scope="module")
def model():
    return models.SpectrogramResNet(
        3,
        window_size=64,
        hop=16,
        num_bands=8,
        width=2,
        blocks=(1, 1),
        mean=(0.25,),
        std=(0.5,),
        input_size=(1, LENGTH),
        class_names=("low", "middle", "high"),
        rngs=nnx.Rngs(0),
    )


@pytest.fixture(scope="module")
def signals():
    return 0.1 * jax.random.normal(jax.random.key(1), (2, 1, LENGTH, 1))


def test_the_model_is_its_two_parts(model, signals):
    spectrogram = model.front_end(signals)
    level = spectrograms.log_mel(
        (signals[1, 0, :, 0] - 0.25) / 0.5, sample_rate=8000, window_size=64, hop=16, num_bands=8
    )
    assert spectrogram.shape == (2, 17, 8, 1)
    assert_allclose(spectrogram[1, ..., 0], level, rtol=1e-4, atol=1e-3)
    logits = model(signals)
    assert_array_equal(model.from_spectrogram(spectrogram), logits)
    assert_array_equal(model.head(model.features(signals)), logits)
    assert [maps.shape for maps in model.stage_outputs(signals)] == [
        (2, 9, 4, 2),
        (2, 9, 4, 2),
        (2, 5, 2, 4),
    ]
    for signal, alone in zip(signals, logits, strict=True):
        assert_allclose(model(signal), alone, rtol=1e-4, atol=1e-5)


def test_the_waveforms_gradient_is_the_spectrograms_through_the_transform(model, signals):
    from_spectrogram = Partial(models.SpectrogramResNet.from_spectrogram, model)
    spectrogram, transposed = jax.vjp(model.front_end, signals[0])
    (through,) = transposed(jax.grad(scores.logit(from_spectrogram, 1))(spectrogram))
    gradient = jax.grad(scores.logit(model, 1))(signals[0])
    assert float(jnp.abs(gradient).max()) > 0
    assert_allclose(gradient, through, rtol=1e-4, atol=1e-6)


def test_at_silence_the_gradient_is_finite(model):
    silence = jnp.full((1, LENGTH, 1), 0.25)
    assert_array_equal(jax.grad(scores.logit(model, 1))(silence), 0)


def test_it_comes_back_from_disk_to_the_bit(model, signals, tmp_path):
    models.save(model, tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    assert_array_equal(loaded(signals), model(signals))
    assert loaded.class_names == ("low", "middle", "high")


def test_a_file_becomes_the_models_input(model, tmp_path):
    samples = np.arange(1, 5, dtype=np.float32) / 8
    (tmp_path / "sound.wav").write_bytes(sound.encode_wav(samples, 8000))
    prepared = model.preprocess(tmp_path / "sound.wav")
    assert prepared.shape == (1, LENGTH, 1)
    assert_array_equal(prepared[0, LENGTH // 2 - 2 : LENGTH // 2 + 2, 0], samples)
    assert_array_equal(model.preprocess(samples), prepared)


@pytest.mark.usefixtures("entry_checks")
def test_mistakes_are_named(model):
    with pytest.raises(ValueError, match=r"expected a sound \(1, t, 1\).*got \(4, 320, 1\)"):
        model(jnp.zeros((4, LENGTH, 1)))
    with pytest.raises(ValueError, match="1 channel, got 2"):
        models.SpectrogramResNet(3, channels=2, rngs=nnx.Rngs(0))
