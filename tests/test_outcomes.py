"""Probabilities and right answers of a model whose logits are the image."""

import jax
import jax.numpy as jnp
import pytest
import scipy.special
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import metrics

MODEL = Partial(lambda image: image.ravel())


def test_probability_is_the_softmax():
    logits = [1.0, -2.0, 0.5]
    probabilities = [metrics.probability(MODEL, c)(as_image(logits)) for c in range(3)]
    assert_allclose(probabilities, scipy.special.softmax(logits), rtol=1e-6)


@pytest.mark.parametrize(
    ("logits", "expected"), [([1.0, 3.0, 2.0], [0, 1, 0]), ([2.0, 1.0, 2.0], [0, 0, 0])]
)
def test_accuracy_counts_the_only_largest_logit(logits, expected):
    answers = [metrics.accuracy(MODEL, c)(as_image(logits)) for c in range(3)]
    assert_allclose(answers, expected)


@pytest.mark.parametrize("outcome", [metrics.probability, metrics.accuracy])
def test_a_traced_label_out_of_range_is_nan(outcome):
    value = jax.jit(lambda label: outcome(MODEL, label)(as_image([1.0, 2.0])))(2)
    assert jnp.isnan(value)
