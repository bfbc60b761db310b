"""Every method, as it stands, on models from elsewhere: Linen, Equinox, of signals; and on ours."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import small_models
from flax import nnx
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from test_invariants import METHODS

from saliency_jax import attribution, models, scores
from saliency_jax.layers import Layer

LABEL = 1
SHARPNESS = 5


class EquinoxConvnet(eqx.Module):
    """Channels first, as Equinox has them; its perceptron holds functions beside the weights."""

    convolution: eqx.nn.Conv2d
    perceptron: eqx.nn.MLP

    def __init__(self, key):
        keys = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(3, 4, 3, padding=1, key=keys[0])
        self.perceptron = eqx.nn.MLP(
            4, small_models.NUM_CLASSES, width_size=8, depth=1, activation=jnp.tanh, key=keys[1]
        )

    def features(self, image):
        return jnp.moveaxis(jax.nn.softplus(self.convolution(jnp.moveaxis(image, -1, 0))), 0, -1)

    def head(self, feature_map):
        return self.perceptron(feature_map.mean((0, 1)))

    def __call__(self, image):
        return self.head(self.features(image))


def equinox_convnet():
    # Of the initial weights' gradients too little is left beside the rounding of differences.
    model = EquinoxConvnet(jax.random.key(0))
    return jax.tree.map(lambda leaf: 3 * leaf if eqx.is_array(leaf) else leaf, model)


def of_signal(kernel, dense, signal):
    """Logits of a signal (t, c), such as two microphones' recording."""
    layout = ("NWC", "WIO", "NWC")
    features = jax.lax.conv_general_dilated(
        signal[None], kernel, (2,), "SAME", dimension_numbers=layout
    )[0]
    return jnp.tanh(features).mean(0) @ dense


def signal_weights():
    kernel_key, dense_key = jax.random.split(jax.random.key(0))
    dense = jax.random.normal(dense_key, (4, small_models.NUM_CLASSES))
    return jax.random.normal(kernel_key, (5, 2, 4)), dense


def signal_model():
    return Partial(
        lambda kernel, dense, image: of_signal(kernel, dense, image[0]), *signal_weights()
    )


SMALL = {
    "flax linen": (small_models.linen_convnet, (6, 5, 3)),
    "equinox": (equinox_convnet, (6, 5, 3)),
    "signal": (signal_model, (1, 12, 2)),
    "one channel": (functools.partial(small_models.nnx_convnet, channels=1), (6, 5, 1)),
}


def network():
    """A network of the library's: how many blocks it has changes nothing that is asked here."""
    options = {"width": 2, "stem": models.HALVING_STEM}
    return small_models.short_resnet(18, small_models.NUM_CLASSES, (1, 1), **options)


KINDS = SMALL | {"the library's": (network, (16, 16, 3))}


@functools.cache
def made(make_model):
    return make_model()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_takes_every_model(kind, name):
    make_model, shape = KINDS[kind]
    method, score, image = (
        METHODS[name],
        scores.logit(made(make_model), LABEL),
        small_models.image(shape),
    )
    result = jax.eval_shape(method, score, image)
    assert result.shape[:2] == shape[:2]
    assert result.dtype == jnp.float32


@pytest.mark.parametrize("kind", SMALL)
def test_gradient_and_ablation_are_differences_of_the_score(kind):
    make_model, shape = SMALL[kind]
    model, image = make_model(), small_models.image(shape)
    score = scores.logit(model, LABEL)
    segments = np.arange(shape[0] * shape[1]).reshape(shape[:2])

    def both(score, image):
        falls = attribution.feature_ablation(score, image, segments=segments, batch_size=4)
        return attribution.input_gradient(score, image), falls

    gradient, falls = jax.jit(both)(score, image)
    value = jax.jit(lambda image: model(image)[LABEL])
    largest = jnp.abs(gradient).max()
    assert largest > 0.01
    differences = small_models.central_differences(value, image)
    assert_allclose(gradient, differences, rtol=0, atol=0.03 * largest)
    expected = [
        [value(image) - value(image.at[row, column].set(0)) for column in range(shape[1])]
        for row in range(shape[0])
    ]
    assert_allclose(falls, expected, atol=1e-5)


def test_grad_cam_of_an_equinox_model():
    model, image = equinox_convnet(), small_models.image()
    layer = Layer(model.features, model.head)
    cam = attribution.grad_cam(scores.logit(model, LABEL), image, layer=layer)
    feature_map = np.asarray(model.features(image))
    gradient = small_models.central_differences(
        jax.jit(lambda feature_map: model.head(feature_map)[LABEL]), feature_map
    )
    expected = np.maximum(feature_map @ gradient.mean((0, 1)), 0)
    assert_allclose(cam, expected, rtol=1e-2, atol=1e-5)
    assert expected.max() > 1e-3


def test_gradient_of_a_signal():
    weights, signal = signal_weights(), small_models.image((12, 2, 1))[..., 0]
    gradient = attribution.input_gradient(scores.logit(signal_model(), LABEL), signal[None])
    expected = jax.grad(lambda signal: of_signal(*weights, signal)[LABEL])(signal)
    assert_allclose(gradient[0], expected, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def relative_gap():
    @jax.jit
    def gap(model, image):
        score = scores.logit(model, jnp.argmax(model(image)))
        shares = attribution.integrated_gradients(score, image, steps=64)
        change = score(image) - score(jnp.zeros_like(image))
        return attribution.completeness_gap(score, image, shares) / change

    return gap


@pytest.mark.parametrize("photograph", ["chelsea", "coffee"])
@pytest.mark.parametrize("name", ["tiny-imagenet-standard", "tiny-imagenet-robust"])
def test_completeness_of_integrated_gradients_of_the_bundled_models(name, photograph, relative_gap):
    classifier = models.load(name)
    image = jnp.asarray(classifier.preprocess(getattr(skimage.data, photograph)()))
    # On the path the score of a rectifier network is piecewise linear: the gradient has jumps, of
    # which every quadrature with n nodes misses about 1 / n.
    assert abs(relative_gap(classifier.network, image)) < 0.05
    smooth = nnx.with_attributes(classifier.network, relu=smooth_rectifier)
    assert abs(relative_gap(smooth, image)) < 1e-3


def smooth_rectifier(x):
    return jax.nn.softplus(SHARPNESS * x) / SHARPNESS
