"""Layers of every kind of model: a cut is the model, and what it carries becomes a map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from flax import nnx
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution, scores
from saliency_jax.layers import Layer, identity

IMAGE = small_models.image()


def trunk(weights, image):
    return jnp.tanh(image @ weights)


def top(weights, feature_map):
    return feature_map.mean((0, 1)) @ weights


def plain_layer(seed=0):
    first, second = jax.random.split(jax.random.key(seed))
    return Layer(
        Partial(trunk, jax.random.normal(first, (3, 4))),
        Partial(top, jax.random.normal(second, (4, 2))),
    )


class NnxModel(nnx.Module):
    def __init__(self, scale):
        self.scale = nnx.Param(jnp.array(scale))

    def features(self, image):
        return image * self.scale[...]

    def head(self, feature_map):
        return feature_map.sum((0, 1))

    def __call__(self, image):
        return self.head(self.features(image))


class EquinoxModel(eqx.Module):
    """Its perceptron holds functions beside the weights."""

    perceptron: eqx.nn.MLP
    scale: jax.Array

    def features(self, image):
        return image * self.scale

    def head(self, feature_map):
        return self.perceptron(feature_map.mean((0, 1)))

    def __call__(self, image):
        return self.head(self.features(image))


def equinox_model(scale):
    perceptron = eqx.nn.MLP(3, 2, width_size=4, depth=1, key=jax.random.key(0))
    return EquinoxModel(perceptron, jnp.array(scale))


def test_a_layer_is_its_weights_and_its_structure():
    layer = plain_layer()
    leaves, structure = jax.tree.flatten(layer)
    assert [leaf.shape for leaf in leaves] == [(3, 4), (4, 2)]
    again = jax.tree.unflatten(structure, leaves)
    assert_array_equal(again.head(again.features(IMAGE)), layer.head(layer.features(IMAGE)))
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(layer)]
    assert [name.split("[")[0] for name in names] == [".features", ".head"]


def test_other_weights_do_not_compile_again(compilations):
    program = jax.jit(lambda layer, image: layer.head(layer.map(image)))
    first = program(plain_layer(0), IMAGE)
    with compilations.counted():
        second = program(plain_layer(1), IMAGE)
    assert compilations.count == 0
    assert not jnp.array_equal(first, second)


@pytest.mark.parametrize("make_model", [NnxModel, equinox_model])
def test_bound_methods_keep_the_weights_as_leaves(make_model, compilations):
    def layer_of(model):
        return Layer(model.features, model.head)

    program = jax.jit(
        lambda model, label, image: attribution.layer_cam(
            scores.logit(model, label), image, layer=layer_of(model)
        )
    )
    model, other = make_model(2.0), make_model(3.0)
    # What the model has as numbers each of its methods has as well.
    numbers = [leaf for leaf in jax.tree.leaves(model) if not callable(leaf)]
    assert len(jax.tree.leaves(layer_of(model))) == 2 * len(numbers)
    if make_model is NnxModel:
        first = program(model, 1, IMAGE)
        assert_allclose(first, 2 * IMAGE[..., 1], rtol=1e-6)
        with compilations.counted():
            second = program(other, 2, IMAGE)
        assert compilations.count == 0
        assert_allclose(second, 3 * IMAGE[..., 2], rtol=1e-6)
    else:
        layer = layer_of(other)
        assert_allclose(layer.head(layer.map(IMAGE)), other(IMAGE), rtol=1e-6)


class TestTokens:
    """A cut that carries a class token and one token a pixel of a 2x3 grid."""

    GRID = (2, 3)

    def layer(self):
        def tokens(image):
            patches = image.reshape(6, -1)
            return {"tokens": jnp.concatenate([patches.mean(0, keepdims=True), patches])}

        def head(carried):
            return carried["tokens"][0] + (carried["tokens"][1:] ** 2).sum(0)

        def to_map(carried):
            return carried["tokens"][1:].reshape(*self.GRID, -1)

        return Layer(tokens, head, to_map)

    def test_activation_maps_see_the_grid(self):
        layer, image = self.layer(), small_models.image((2, 3, 2))
        assert_array_equal(layer.map(image), image)
        score = scores.logit(lambda image: layer.head(layer.features(image)), 1)
        # dS/dF = 2 F in channel 1 and 0 in the other; the class token's does not enter.
        expected = 2 * np.square(np.asarray(image[..., 1], np.float64))
        assert_allclose(attribution.layer_cam(score, image, layer=layer), expected, rtol=1e-5)


@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    @pytest.mark.parametrize("name", ["features", "head", "to_map"])
    def test_a_part_that_cannot_be_called(self, name):
        parts = {"features": identity, "head": identity, "to_map": identity} | {name: 3}
        with pytest.raises(TypeError, match=f"expected {name} to be callable, got int"):
            Layer(**parts)

    def test_what_is_no_map(self):
        with pytest.raises(ValueError, match=r"what the layer makes .* \(i, j, d\), got \(3,\)"):
            Layer(lambda image: image.sum((0, 1)), identity).map(IMAGE)
        with pytest.raises(TypeError, match=r"what the layer makes .* to hold floats, got bool"):
            Layer(lambda image: image > 0, identity).map(IMAGE)
