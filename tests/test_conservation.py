"""On whole networks what arrives at the image and the constants' shares make the score.

The constants' shares are worked out here, b_j R_j / z_j for every operation, and not as what is
missing. Of the kinds that do not come with the package there are shorter networks here, and in the
nightly whole ones.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from flax import nnx

from saliency_jax import models, rules, scores
from saliency_jax.models import _resnet as resnet

SIDE = 64
EPSILON = 1e-12
NETWORKS = {
    "tiny-imagenet-standard": lambda: models.load("tiny-imagenet-standard").network,
    "tiny-imagenet-robust": lambda: models.load("tiny-imagenet-robust").network,
    "efficientnet-lite0": lambda: models.load("efficientnet-lite0").network,
    "short ResNet-50": lambda: resnet50((1, 2, 1, 1), width=16),
    "short ViT": lambda: vision_transformer(2, width=96),
}
WHOLE = {
    "ResNet-50": lambda: resnet50(resnet.STAGES[50], width=64),
    "ViT-S": lambda: vision_transformer(12, width=384),
}


def resnet50(blocks, width):
    options = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}
    return small_models.short_resnet(50, 10, blocks, width=width, **options)


def vision_transformer(depth, width):
    options = {"width": width, "heads": 6, "size": (SIDE, SIDE), "patch": 16}
    return models.VisionTransformer(depth, 10, **options, rngs=nnx.Rngs(0))


def kept_by_softmax(operation, relevance):
    """What the expansion of a softmax at its input leaves to the softmax of zeros."""
    (array,), axis = operation.inputs, operation.axes[0]
    slope = operation.output * (array - (operation.output * array).sum(axis, keepdims=True))
    return (relevance * (1 - slope / operation.output)).sum()


# One for all tests: two of the networks share a program.
@jax.jit
def parts(score, image):
    kept = []

    def watched(rule, operation, relevance):
        if operation.kind == "softmax":
            kept.append(kept_by_softmax(operation, relevance))
        elif operation.kind == "affine":
            quotient = relevance / jnp.where(operation.output == 0, 1, operation.output)
            kept.append((operation.constant() * quotient).sum())
        return rule(operation, relevance)

    composite = rules.epsilon_everywhere(EPSILON)

    def watching(operation):
        rule = composite(operation)
        if operation.kind == "softmax":
            rule = rules.softmax
        return None if rule is None else functools.partial(watched, rule)

    return score(image), rules.lrp(score, image, composite=watching).sum(), sum(kept)


@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.nightly) for name in WHOLE)]
)
def test_the_image_and_the_constants_make_the_score(name):
    image = np.random.default_rng(0).random((SIDE, SIDE, 3))
    with jax.enable_x64(True):
        network = (NETWORKS | WHOLE)[name]()
        found = parts(scores.logit(network, 3), jnp.asarray(image))
        assert found[0].dtype == jnp.float64
        value, arrived, kept = map(float, found)
    # The constants have a share worth the test.
    assert abs(kept) > 1e-3 * abs(value)
    assert abs(arrived + kept - value) < 1e-4 * abs(value)
