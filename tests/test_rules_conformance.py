"""Backward rules on the published toy networks: the values that others' test suites state."""

import functools

import jax
import jax.numpy as jnp
import pytest
import small_models
from numpy.testing import assert_allclose
from small_models import CAPTUM_CONVNET_IMAGE, captum_convnet, captum_lrp

from saliency_jax import attribution, rules, scores

TOLERANCE = {"rtol": 0, "atol": 1e-4}


def test_guided_backpropagation_of_captums_convnet():
    found = rules.guided_backprop(scores.logit(captum_convnet, 0), CAPTUM_CONVNET_IMAGE)
    expected = [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]
    assert_allclose(found[..., 0], expected, **TOLERANCE)


def test_deconvnet_of_captums_convnet():
    found = rules.deconvnet(scores.logit(captum_convnet, 0), CAPTUM_CONVNET_IMAGE)
    expected = [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]
    assert_allclose(found[..., 0], expected, **TOLERANCE)


@pytest.mark.parametrize("composite", [rules.epsilon_everywhere(), rules.epsilon_everywhere(0.0)])
def test_relevance_of_captums_convnet(composite):
    """Which is input x gradient."""
    label = jnp.argmax(captum_convnet(CAPTUM_CONVNET_IMAGE))
    score = scores.logit(captum_convnet, label)
    found = rules.lrp(score, CAPTUM_CONVNET_IMAGE, composite=composite)
    expected = [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]
    assert_allclose(found[..., 0], expected, **TOLERANCE)
    same = attribution.input_x_gradient(score, CAPTUM_CONVNET_IMAGE)
    assert_allclose(found, same, **TOLERANCE)


def test_relevance_of_captums_dense_network():
    score, image = scores.logit(captum_lrp, 0), small_models.as_image([1, 2, 3])
    found = rules.lrp(score, image, composite=rules.epsilon_everywhere())
    assert_allclose(found.ravel(), [18, 36, 54], **TOLERANCE)


def captum_lrp_with_a_negative_weight(image):
    """L whose first weight [0, 0] is -2."""
    first = jnp.full((3, 3), 2.0).at[0, 0].set(-2.0)
    return jnp.full((1, 3), 3.0) @ jax.nn.relu(first @ image.ravel())


@pytest.mark.parametrize("second", [rules.epsilon, functools.partial(rules.gamma, gamma=1.0)])
def test_gamma_rule_on_the_first_layer(second):
    def composite(operation):
        if not operation.has_weights:
            return None
        return functools.partial(rules.gamma, gamma=1.0) if operation.is_first else second

    score = scores.logit(captum_lrp_with_a_negative_weight, 0)
    found = rules.lrp(score, small_models.as_image([1, 2, 3]), composite=composite)
    assert_allclose(found.ravel(), [28 / 3, 104 / 3, 52], **TOLERANCE)


def two_rectifiers(image):
    a, b = image.ravel()
    return 2 * jax.nn.relu(a) + 2 * jax.nn.relu(b - 1.5)


def test_deep_lift_of_two_rectifiers():
    image = small_models.as_image([1, 2])
    found = rules.deep_lift(two_rectifiers, image)
    assert_allclose(found.ravel(), [2, 1], **TOLERANCE)
    assert_allclose((found / image).ravel(), [2, 0.5], **TOLERANCE)
    assert abs(attribution.completeness_gap(two_rectifiers, image, found)) < 1e-6
