"""The residual network over time: its convolution by loops, its shapes, its way to disk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from small_models import answer

from saliency_jax import models, training
from saliency_jax.signals import SignalResNet
from saliency_jax.signals._signal_resnet import time_convolution


def by_loops(signal, kernel, stride):
    """The sum in the docstring, one term at a time."""
    size, _, outputs = kernel.shape
    before = (size - stride + 1) // 2
    result = np.zeros((-(-len(signal) // stride), outputs))
    for step in range(len(result)):
        for tap in range(size):
            place = stride * step + tap - before
            if 0 <= place < len(signal):
                result[step] += signal[place] @ kernel[tap]
    return result


@pytest.mark.parametrize("length", [11, 12])
@pytest.mark.parametrize(("size", "stride"), [(5, 1), (5, 2), (2, 2), (1, 1), (8, 4)])
def test_the_convolution_is_its_sum(length, size, stride):
    generator = np.random.default_rng(0)
    signals = generator.normal(size=(2, 1, length, 3)).astype(np.float32)
    kernel = generator.normal(size=(size, 3, 2)).astype(np.float32)
    result = time_convolution(jnp.asarray(signals), jnp.asarray(kernel), stride=stride)
    for row, signal in zip(result, signals, strict=True):
        assert_allclose(row[0], by_loops(signal[0], kernel, stride), atol=1e-5)


def test_a_stride_that_skips_samples_is_refused(entry_checks):
    with pytest.raises(ValueError, match=r"expected a stride in 1 \.\. 2, got 3"):
        time_convolution(jnp.ones((1, 1, 6, 1)), jnp.ones((2, 1, 1)), stride=3)


@pytest.fixture(scope="module")
def model():
    return SignalResNet(
        3,
        widths=(2, 4),
        blocks=2,
        mean=(0.1, -0.2),
        std=(0.5, 2.0),
        rngs=nnx.Rngs(0),
    )


def test_a_batch_equals_its_singles_and_the_head_is_linear_in_the_mean(model):
    signals = jax.random.normal(jax.random.key(0), (3, 1, 32, 2))
    layer = model.layer("stage 2")
    run = jax.jit(lambda model, signal: (model(signal), layer.map(signal)))
    logits, features = jax.vmap(run, (None, 0))(model, signals)
    assert features.shape == (3, 1, 4, 4)
    for signal, row in zip(signals, logits, strict=True):
        assert_allclose(run(model, signal)[0], row, atol=1e-5)
    weights, bias = model.fc.kernel[...], model.fc.bias[...]
    assert_allclose(logits, features.mean((1, 2)) @ weights + bias[None], atol=1e-5)


def test_normalization_is_inside(model):
    bare = SignalResNet(3, widths=(2, 4), blocks=2, rngs=nnx.Rngs(0))
    signal = jax.random.normal(jax.random.key(1), (1, 32, 2))
    scaled = signal * jnp.array([[[0.5, 2.0]]]) + jnp.array([[[0.1, -0.2]]])
    assert_allclose(answer(model, scaled), answer(bare, signal), atol=1e-5)


def test_it_comes_back_from_disk_to_the_bit(model, tmp_path):
    taken = models.Input("iq", (1, 32), channels=2, mean=(0.1, -0.2), std=(0.5, 2.0))
    names = ("BPSK", "QPSK", "FM")
    models.save(models.Classifier("small", model, taken, names), tmp_path / "model")
    loaded = models.load(tmp_path / "model")
    assert type(loaded.network) is SignalResNet
    assert (loaded.network.widths, loaded.network.blocks, loaded.input) == ((2, 4), 2, taken)
    assert loaded.class_names == names
    for new, old in zip(jax.tree.leaves(loaded.network), jax.tree.leaves(model), strict=True):
        assert_array_equal(new, old)


def test_what_it_trains_is_every_parameter(model):
    graphdef, params, batch_stats = training.split(model)
    signals = jax.random.normal(jax.random.key(0), (8, 1, 32, 2))

    def loss(params):
        logits = nnx.merge(graphdef, params, batch_stats, copy=True).on_batch(signals)
        return jnp.sum(logits @ jnp.array([1.0, -2.0, 0.5]))

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
