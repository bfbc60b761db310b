"""Every architecture of the library under the backward rules: covered, complete, and adding up."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_convnext
import test_efficientnet_lite
import test_resnet
import test_vision_transformer
from flax import nnx
from numpy.testing import assert_allclose
from precisions import strictly

from saliency_jax import attribution, models, rules, scores
from saliency_jax.models import _resnet

IMAGE = np.random.default_rng(0).random((32, 32, 3))
SMALL = np.random.default_rng(0).random((8, 12, 3))


def short(depth):
    """A ResNet of this depth's kind of blocks, but of few of them: rules meet no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_resnet.STAGES, depth, (1, 2, 1, 1))
        return test_resnet.small(depth=depth)


ARCHITECTURES = {
    "resnet 18": (functools.partial(short, 18), IMAGE),
    "resnet 50": (functools.partial(short, 50), IMAGE),
    "efficientnet lite": (test_efficientnet_lite.small, IMAGE),
    "vision transformer": (test_vision_transformer.small, SMALL),
    "distilled transformer": (
        functools.partial(test_vision_transformer.small, distilled=True),
        SMALL,
    ),
    "convnext": (test_convnext.small, IMAGE),
}
each_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def setting(name):
    make, image = ARCHITECTURES[name]
    return make(), image


apply = jax.jit(lambda model, image: model(image))
featured = jax.jit(lambda layer, image: layer.features(image))
through = jax.jit(lambda layer, image: layer.head(layer.features(image)))


def in_double(model):
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, model
    )


@each_architecture
@pytest.mark.parametrize("composite", [rules.epsilon_plus(), rules.epsilon_gamma_box()])
def test_every_operation_has_a_rule(name, composite):
    model, image = setting(name)
    found = rules.coverage(scores.logit(model, 1), image, composite=composite)
    assert found.missing == ()


def bundled(name):
    classifier = models.load(name)
    return classifier.network, (*classifier.input.size, classifier.input.channels)


def resnet50():
    return models.ResNet(50, 1000, rngs=nnx.Rngs(0)), (224, 224, 3)


def vit_small():
    return models.VisionTransformer(12, 1000, width=384, heads=6, rngs=nnx.Rngs(0)), (224, 224, 3)


def convnext_tiny():
    return models.ConvNext((3, 3, 9, 3), 1000, width=96, rngs=nnx.Rngs(0)), (224, 224, 3)


DOCUMENTED = {
    "the bundled ResNets": functools.partial(bundled, "tiny-imagenet-standard"),
    "EfficientNet-Lite0": functools.partial(bundled, "efficientnet-lite0"),
    "spoken digits": functools.partial(bundled, "spoken-digits"),
    "radio modulations": functools.partial(bundled, "radio-modulations"),
}
WHOLE = {"ResNet-50": resnet50, "ViT-S/16": vit_small, "ConvNeXt-T": convnext_tiny}
TABLE = Path(__file__).parents[1] / "docs" / "models-and-data.md"


@pytest.mark.parametrize(
    "name", [*DOCUMENTED, *(pytest.param(name, marks=pytest.mark.nightly) for name in WHOLE)]
)
def test_the_table_of_coverage_is_what_is_counted(name):
    model, shape = (DOCUMENTED | WHOLE)[name]()
    image = np.full(shape, 0.5, np.float32)
    found = rules.coverage(scores.logit(model, 1), image)
    counts = sum(found.rules.values()), found.held, len(found.missing)
    row = " | ".join(map(str, (name, *counts, len(rules.layers(model, image)))))
    assert f"\n| {row} |\n" in TABLE.read_text()
    assert not found.missing


@each_architecture
def test_deep_lift_is_complete(name):
    with strictly(True):
        model, image = setting(name)
        score, baseline = scores.logit(in_double(model), 1), np.full(image.shape, 0.5)
        found = jax.jit(lambda score, image: rules.deep_lift(score, image, baseline=baseline))(
            score, image
        )
        once = functools.partial(apply, score)
        gap = attribution.completeness_gap(once, image, found, baseline=baseline)
        change = once(jnp.asarray(image)) - once(jnp.asarray(baseline))
        assert abs(gap) < 1e-8 * abs(change)


@each_architecture
def test_relevance_adds_up_but_for_what_is_told(name):
    with strictly(True):
        model, image = setting(name)
        score = scores.logit(in_double(model), 1)
        found = jax.jit(
            lambda score, image: rules.conservation(
                score, image, composite=rules.epsilon_everywhere(1e-12)
            )
        )(score, image)
        total = found.image + sum(found.lost.values())
        assert_allclose(total, found.score, rtol=1e-6)
        # Products, sums and activations hand on all that they get; a softmax has a constant.
        held = {"epsilon", "softmax"}
        assert all(abs(found.lost[rule]) < 1e-6 for rule in set(found.lost) - held)


@each_architecture
def test_a_named_layer_is_among_the_cuts(name):
    model, image = setting(name)
    image = jnp.asarray(image, jnp.float32)
    cuts = rules.layers(model, image)
    carried = jax.tree.leaves(featured(model.layer(model.layers[2]), image))
    # A transformer's tokens, the class's and the patches', in a row.
    expected = np.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in carried])
    # The last first: it is the last operation of the layer.
    found = (
        featured(cut.layer, image).reshape(expected.shape)
        for cut in reversed(cuts)
        if np.prod(cut.shape) == expected.size
    )
    assert any(np.allclose(each, expected, rtol=1e-4, atol=1e-5) for each in found)
    logits = apply(model, image)
    for cut in cuts[:: max(1, len(cuts) // 5)]:
        assert_allclose(through(cut.layer, image), logits, rtol=1e-3, atol=1e-4)
