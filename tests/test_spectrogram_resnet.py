"""The network over a sound's spectrogram: two inputs of one model, and its way to disk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from small_models import answer, drawn

from saliency_jax import models, scores
from saliency_jax.signals import SpectrogramResNet, spectrograms

LENGTH = 320
slope = jax.jit(lambda model, signal: jax.grad(scores.logit(model, 1))(signal))


@pytest.fixture(scope="module")
def model():
    options = {"window_size": 64, "hop": 16, "num_bands": 8, "width": 2, "blocks": (1, 1)}
    return drawn(
        lambda: SpectrogramResNet(3, mean=(0.25,), std=(0.5,), **options, rngs=nnx.Rngs(0))
    )


@pytest.fixture(scope="module")
def signals():
    return 0.1 * jax.random.normal(jax.random.key(1), (2, 1, LENGTH, 1))


def test_the_model_is_its_two_parts(model, signals):
    layer = model.layer("front end")
    spectrogram = jax.vmap(layer.features)(signals)
    level = spectrograms.log_mel(
        (signals[1, 0, :, 0] - 0.25) / 0.5, sample_rate=8000, window_size=64, hop=16, num_bands=8
    )
    assert spectrogram.shape == (2, 17, 8, 1)
    assert_allclose(spectrogram[1, ..., 0], level, rtol=1e-4, atol=1e-3)
    logits = jax.vmap(model)(signals)
    assert_array_equal(jax.vmap(layer.head)(spectrogram), logits)
    shapes = {"stem": (9, 4, 2), "stage 1": (9, 4, 2), "stage 2": (5, 2, 4), "pooling": (8,)}
    for name, shape in shapes.items():
        assert jax.eval_shape(model.layer(name).features, signals[0]).shape == shape
    for signal, alone in zip(signals, logits, strict=True):
        assert_allclose(answer(model, signal), alone, rtol=1e-4, atol=1e-5)


def test_the_pooling_keeps_frequencies_apart(model, signals):
    maps = np.asarray(jax.jit(lambda layer, x: layer.map(x))(model.layer("stage 2"), signals[0]))
    pooled = answer(model.layer("pooling").features, signals[0])
    assert_allclose(np.asarray(pooled).reshape(2, 4), maps.mean(0), rtol=1e-5, atol=1e-6)


def test_the_waveforms_gradient_is_the_spectrograms_through_the_transform(model, signals):
    layer = model.layer("front end")

    @jax.jit
    def by_parts(layer, signal):
        spectrogram, transposed = jax.vjp(layer.features, signal)
        return transposed(jax.grad(scores.logit(layer.head, 1))(spectrogram))[0]

    through = by_parts(layer, signals[0])
    gradient = slope(model, signals[0])
    assert float(jnp.abs(gradient).max()) > 0
    assert_allclose(gradient, through, rtol=1e-4, atol=1e-6)


def test_at_silence_the_gradient_is_finite(model):
    silence = jnp.full((1, LENGTH, 1), 0.25)
    assert_array_equal(slope(model, silence), 0)


def test_it_comes_back_from_disk_to_the_bit(model, signals, tmp_path):
    taken = models.Input(
        "sound", (1, LENGTH), channels=1, sample_rate=8000, mean=(0.25,), std=(0.5,)
    )
    names = ("low", "middle", "high")
    models.save(models.Classifier("small", model, taken, names), tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    assert jax.tree.structure(loaded.network) == jax.tree.structure(model)
    assert_array_equal(answer(loaded.network, signals[0]), answer(model, signals[0]))
    assert loaded.class_names == names


@pytest.mark.usefixtures("entry_checks")
def test_mistakes_are_named(model):
    with pytest.raises(ValueError, match=r"expected a sound \(1, t, 1\), got \(4, 320, 1\)"):
        model(jnp.zeros((4, LENGTH, 1)))
    with pytest.raises(ValueError, match="1 channel, got 2"):
        SpectrogramResNet(3, channels=2, rngs=nnx.Rngs(0))
