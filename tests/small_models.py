"""Small models of every kind that the library takes, and the published toy networks."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from saliency_jax import models
from saliency_jax.models import _resnet as resnet

NUM_CLASSES = 4


def image(shape=(6, 5, 3), seed=0):
    return jax.random.uniform(jax.random.key(seed), shape)


def linear_score(weights):
    return Partial(_linear, weights)


def _linear(weights, image):
    return jnp.sum(weights * image)


def plain_convnet(channels=3, seed=1, width=4):
    """A function of weights and an image, made a PyTree by Partial."""
    kernel_key, dense_key = jax.random.split(jax.random.key(seed))
    kernel = jax.random.normal(kernel_key, (3, 3, channels, width))
    dense = jax.random.normal(dense_key, (width, NUM_CLASSES))

    return Partial(_convnet, kernel, dense)


def _convnet(kernel, dense, image):
    return jnp.tanh(_convolve(image, kernel, "SAME")).mean((0, 1)) @ dense


def _convolve(image, kernel, padding):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        image[None], kernel, (1, 1), padding, dimension_numbers=layout
    )[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class DataclassModel:
    """A callable dataclass whose fields are leaves, a function among them: an Equinox module."""

    weights: jax.Array
    activation: Callable

    def __call__(self, image):
        return self.activation(image.mean((0, 1)) @ self.weights)


class NnxConvnet(nnx.Module):
    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.convolution = nnx.Conv(channels, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.dense = nnx.Linear(4, NUM_CLASSES, rngs=rngs)

    def __call__(self, image):
        return self.dense(nnx.relu(self.norm(self.convolution(image))).mean((0, 1)))


class LinenConvnet(nn.Module):
    @nn.compact
    def __call__(self, image):
        features = nn.relu(nn.Conv(4, (3, 3))(image))
        return nn.Dense(NUM_CLASSES)(features.mean((0, 1)))


def nnx_convnet(channels=3):
    return NnxConvnet(channels, nnx.Rngs(0))


def linen_convnet(channels=3):
    module = LinenConvnet()
    variables = module.init(jax.random.key(0), jnp.zeros((4, 4, channels)))
    return Partial(module.apply, variables)


def dataclass_model(channels=3):
    return DataclassModel(jax.random.normal(jax.random.key(2), (channels, NUM_CLASSES)), jnp.tanh)


MODELS: dict[str, Callable] = {
    "function with weights": plain_convnet,
    "registered dataclass": dataclass_model,
    "flax nnx": nnx_convnet,
    "flax linen": linen_convnet,
}


def captum_multilayer(image):
    """M: h = relu(sum(x) + [-10, 1, 1, 1]); out = sum(h) + [-1, 1]."""
    hidden = jax.nn.relu(image.sum() + jnp.array([-10.0, 1, 1, 1]))
    return hidden.sum() + jnp.array([-1.0, 1])


def captum_convnet(image):
    """C: one 3x3 convolution of ones onto two channels, ReLU, four equal rows, ReLU."""
    features = _convolve(image, jnp.ones((3, 3, 1, 2)), "VALID")
    hidden = jax.nn.relu(features + jnp.array([-50.0, -75.0]).reshape(1, 1, 2))
    row = jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])
    return jax.nn.relu(jnp.tile(row, (4, 1)) @ hidden.transpose(2, 0, 1).ravel())


CAPTUM_CONVNET_IMAGE = jnp.arange(16.0).reshape(4, 4, 1)


def captum_lrp(image):
    """L: 3 -> 3 with all weights 2; ReLU; 3 -> 1 with all weights 3."""
    return jnp.full((1, 3), 3.0) @ jax.nn.relu(jnp.full((3, 3), 2.0) @ image.ravel())


def as_image(values):
    return jnp.asarray(values, float).reshape(1, len(values), 1)


def drawn(build, seed=0):
    """The network that is built, with weights by NumPy: JAX would compile a program a shape.

    Kernels are normal, of variance 2 by their inputs; all else is as networks begin.
    """
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path)
        if "kernel" in name:
            fan = math.prod(leaf.shape[:-1])
            values = generator.standard_normal(leaf.shape) * math.sqrt(2 / fan)
        else:
            values = np.full(leaf.shape, float("scale" in name or "var" in name))
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, nnx.eval_shape(build))


def short_resnet(depth, num_classes, blocks=(1, 1, 1, 1), seed=0, **options):
    """A ResNet of this depth's kind of blocks, but fewer of them than any of the library's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGES, depth, blocks)
        return drawn(lambda: models.ResNet(depth, num_classes, **options, rngs=nnx.Rngs(0)), seed)


# A network's answer as one program: of operations each would be one.
answer = jax.jit(lambda network, image: network(image))


def central_differences(score, image, step=1e-2):
    """The gradient, one pixel at a time, without differentiation."""
    image = np.asarray(image)
    gradient = np.zeros(image.shape)
    for index in np.ndindex(image.shape):
        offset = np.zeros(image.shape, image.dtype)
        offset[index] = step
        gradient[index] = (float(score(image + offset)) - float(score(image - offset))) / (2 * step)
    return gradient
