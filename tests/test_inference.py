"""Networks rewritten for inference: the same functions, cuts and rules as the networks before."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_classifiers
import small_models
from flax import nnx
from numpy.testing import assert_allclose

from saliency_jax import attribution, models, rules, scores, signals
from saliency_jax.models import _parts
from saliency_jax.models import _resnet as resnet

# What makes a network, and the shape of its image: odd sides, and sides that halve evenly.
NETWORKS = {
    "even": (
        functools.partial(models.ResNet, 18, 5, width=4, stem=models.HALVING_STEM, even=True),
        (17, 16, 3),
    ),
    "bottlenecks": (functools.partial(models.ResNet, 50, 5, width=4), (33, 30, 3)),
    "CIFAR-10's": (
        functools.partial(models.ResNet, 20, 5, width=4, stem=models.SMALL_IMAGE_STEM, channels=1),
        (9, 8, 1),
    ),
    "pre-activation": (functools.partial(models.PreActResNet, (1, 2), 5, width=4), (9, 8, 3)),
    "Lite": (
        functools.partial(models.EfficientNetLite, 5, width=0.1, depth=0.1),
        (33, 40, 3),
    ),
    "signals": (functools.partial(signals.SignalResNet, 5, widths=(4, 8)), (1, 37, 2)),
    "sounds": (functools.partial(signals.SpectrogramResNet, 5, width=4), (1, 1600, 1)),
}


# Of each kind of block the first of a stage, which changes the shape, and one after it.
BLOCKS = {18: (1, 2, 1, 1), 50: (1, 2, 1, 1), 20: (1, 2, 1)}


def trained(build, dtype=np.float64, **settings):
    """A network whose batch normalizations do something, as after training."""
    with pytest.MonkeyPatch.context() as patch:
        for depth, blocks in BLOCKS.items():
            patch.setitem(resnet.STAGES, depth, blocks)
        network = small_models.drawn(lambda: build(rngs=nnx.Rngs(0), **settings))
    draws = np.random.default_rng(0)
    for _, module in nnx.iter_graph(network):
        if isinstance(module, nnx.BatchNorm):
            for name, low, high in (
                *(("mean", -0.5, 0.5), ("var", 0.5, 2), ("scale", 0.5, 1.5), ("bias", -0.5, 0.5)),
            ):
                variable = getattr(module, name)
                variable[...] = jnp.asarray(draws.uniform(low, high, variable.shape), jnp.float32)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), network)


def picture(shape, dtype=np.float64):
    return np.random.default_rng(1).uniform(0, 1, shape).astype(dtype)


@jax.jit
def logits_and_gradient(network, image):
    logits, back = jax.vjp(network, image)
    return logits, back(jnp.arange(1.0, len(logits) + 1, dtype=logits.dtype))[0]


def assert_same(actual, expected, tolerance):
    for got, wanted in zip(actual, expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_input_gradient_are_those_of_before(name):
    build, shape = NETWORKS[name]
    with jax.enable_x64(True):
        network, image = trained(build), picture(shape)
        assert_same(
            logits_and_gradient(models.for_inference(network), image),
            logits_and_gradient(network, image),
            1e-10,
        )


def smooth(network):
    """Without kinks, across which rounding would move a gradient by more than rounding."""
    return nnx.with_attributes(network, relu=jnp.tanh)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 2e-2), (jnp.bfloat16, 0.1)]
)
def test_precision_is_that_of_the_image(dtype, tolerance):
    build, shape = NETWORKS["even"]
    network, image = smooth(trained(build, np.float32)), picture(shape, np.float32)
    given = jnp.asarray(image, dtype)
    actual = logits_and_gradient(models.for_inference(network), given)
    assert actual[0].dtype == actual[1].dtype == dtype
    single = [array.astype(np.float32) for array in actual]
    assert_same(single, logits_and_gradient(network, given.astype(np.float32)), tolerance)


def test_work_in_another_precision_comes_out_in_the_image_s():
    build, shape = NETWORKS["even"]
    network, image = smooth(trained(build, np.float32)), picture(shape, np.float32)
    faster = models.for_inference(network, dtype=jnp.bfloat16)
    logits, gradient = logits_and_gradient(faster, image)
    assert_same((logits, gradient), logits_and_gradient(network, image), 0.1)
    assert "bf16" in str(jax.make_jaxpr(faster)(image))
    layer = faster.layer("stage 2")
    assert jax.eval_shape(layer.map, image).dtype == np.float32
    through = jax.jit(lambda layer, image: layer.head(layer.features(image)))
    assert_allclose(through(layer, image), logits, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["bottlenecks", "pre-activation", "Lite"])
def test_every_cut_carries_what_it_did(name):
    build, shape = NETWORKS[name]
    with jax.enable_x64(True):
        network, image = trained(build), picture(shape)
        faster = models.for_inference(network)
        assert faster.layers == network.layers

        @jax.jit
        def maps(network, image):
            return [network.layer(name).features(image) for name in network.layers]

        assert_same(maps(faster, image), maps(network, image), 1e-10)


def test_weights_are_fewer_leaves_and_no_other_network_s():
    network = trained(NETWORKS["even"][0], np.float32)
    before = jax.tree.map(np.array, network)
    faster = models.for_inference(network)
    norms = sum(isinstance(module, nnx.BatchNorm) for _, module in nnx.iter_graph(network))
    # Of mean, variance, scale and bias one is left.
    assert len(jax.tree.leaves(faster)) == len(jax.tree.leaves(network)) - 3 * norms
    assert not any(isinstance(module, nnx.BatchNorm) for _, module in nnx.iter_graph(faster))
    for was, now in zip(jax.tree.leaves(before), jax.tree.leaves(network), strict=True):
        assert np.array_equal(was, now)
    assert models.for_inference(faster) is faster


def test_batches_labels_and_loops():
    build, shape = NETWORKS["even"]
    network = models.for_inference(trained(build, np.float32))
    images = np.stack([picture(shape, np.float32), 0.5 * picture(shape, np.float32)])

    @jax.jit
    def by_label(network, image, label):
        return attribution.saliency(scores.logit(network, label), image)

    labels = jnp.arange(2)
    together = jax.vmap(by_label, (None, 0, 0))(network, images, labels)
    looped = jax.lax.map(lambda pair: by_label(network, *pair), (jnp.asarray(images), labels))
    alone = [by_label(network, image, label) for image, label in zip(images, labels, strict=True)]
    assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-6)
    assert_allclose(looped, np.stack(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "composite",
    [rules.epsilon_plus(), rules.epsilon_gamma_box(), rules.epsilon_plus_flat()],
    ids=["epsilon plus", "gamma box", "flat"],
)
def test_relevance_is_that_of_before(composite):
    build, shape = NETWORKS["even"]
    with jax.enable_x64(True):
        network, image = trained(build), jnp.asarray(picture(shape))

        @jax.jit
        def relevance(network, image):
            return rules.lrp(scores.logit(network, 2), image, composite=composite)

        faster = models.for_inference(network)
        assert_same([relevance(faster, image)], [relevance(network, image)], 1e-8)


def test_other_rectifiers():
    build, shape = NETWORKS["even"]
    with jax.enable_x64(True):
        network, image = trained(build), picture(shape)
        faster = models.for_inference(network)
        assert_same(
            *(logits_and_gradient(smooth(each), image) for each in (faster, network)), 1e-10
        )

        @jax.jit
        def guided(network, image):
            score = scores.logit(network, 0)
            return jax.grad(rules.with_rectifiers(score, rules.guided))(image)

        assert_same([guided(faster, image)], [guided(network, image)], 1e-10)


def test_a_classifier_stays_one():
    classifier = small_classifiers.classifier()
    faster = models.for_inference(classifier)
    assert faster.network.layers == classifier.network.layers
    assert faster.network.is_rewritten
    assert dataclasses.replace(faster, network=classifier.network) != faster
    assert (faster.name, faster.input) == (classifier.name, classifier.input)


def test_what_has_nothing_to_fold_is_returned_as_it_is():
    transformer = models.VisionTransformer(
        1, 5, width=8, heads=2, size=(8, 8), patch=4, rngs=nnx.Rngs(0)
    )
    plain = models.ConvNext((1, 1), 5, width=4, rngs=nnx.Rngs(0))

    class Flat(models.Network):
        def __init__(self):
            self.normalization = _parts.normalization(3, None, None)
            self.num_classes = 3

        @property
        def settings(self):
            return {}

        def parts(self):
            return {"normalization": (self.normalization,), "pooling": (_parts.spatial_mean,)}

    for network in (transformer, plain, Flat()):
        assert models.for_inference(network) is network
    assert models.for_inference(plain, dtype=jnp.bfloat16).dtype == jnp.bfloat16
    assert plain.dtype is None


def test_what_it_cannot_take_is_named(tmp_path, entry_checks):
    network = trained(NETWORKS["pre-activation"][0], np.float32)
    with pytest.raises(TypeError, match="expected a network of saliency_jax or a Classifier"):
        models.for_inference(jnp.tanh)
    with pytest.raises(TypeError, match="expected a dtype of floats, got int32"):
        models.for_inference(network, dtype=jnp.int32)
    with pytest.raises(ValueError, match="before for_inference"):
        models.save(models.for_inference(small_classifiers.classifier()), tmp_path / "model")
    network.train()
    with pytest.raises(ValueError, match=r"running statistics, got the batch's"):
        models.for_inference(network)
