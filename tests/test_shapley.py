"""Sampled Shapley values against the exact ones, summed over every coalition."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import attribution, scores

KEY = jax.random.key(4)
SEGMENTS = np.array([[0, 1, 2, 3]])


def exact(score, values):
    """sum over coalitions P without s of |P|! (d - |P| - 1)! / d! (S(P and s) - S(P))"""
    count = len(values)

    def of(coalition):
        return score([values[s] if s in coalition else 0.0 for s in range(count)])

    result = np.zeros(count)
    for s in range(count):
        others = [other for other in range(count) if other != s]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for coalition in itertools.combinations(others, size):
                result[s] += weight * (of({*coalition, s}) - of(set(coalition)))
    return result


def test_published_case():
    # Who comes first of the three loses 10: the standard deviation of a sample is 10 sqrt(2) / 3.
    shares = attribution.sampled_shapley_values(
        scores.logit(small_models.captum_multilayer, 0), as_image([20, 50, 30]),
        segments=SEGMENTS[:, :3], key=KEY, num_samples=2000, batch_size=8000,
    )  # fmt: skip
    error = 5 * 10 * math.sqrt(2) / 3 / math.sqrt(2000)
    assert_allclose(shares, [[76.667, 196.667, 116.667]], atol=error)
    assert shares.sum() == pytest.approx(390, rel=1e-6)


def test_every_coalition():
    def score(values):
        a, b, c, d = values
        return a * b + 2 * a * b * c - c * d + d

    values = [1.0, 0.5, 2.0, -1.0]
    shares = attribution.sampled_shapley_values(
        Partial(lambda image: score(image.ravel())), as_image(values),
        segments=SEGMENTS, key=KEY, num_samples=4000, batch_size=20_000,
    )  # fmt: skip
    # No segment's gains are further apart than 4, so that a standard deviation is at most 2.
    assert_allclose(shares[0], exact(score, values), atol=5 * 2 / math.sqrt(4000))


def test_of_a_linear_score_one_order_is_exact():
    image, baseline, weights = (small_models.image((2, 3, 2), seed=seed) for seed in range(3))
    segments = np.array([[0, 0, 2], [1, 2, 2]])
    shares = attribution.sampled_shapley_values(
        small_models.linear_score(weights), image, segments=segments, key=KEY, num_samples=1,
        baseline=baseline, batch_size=3,
    )  # fmt: skip
    of_pixel = np.asarray(weights * (image - baseline), np.float64).sum(-1)
    expected = [[of_pixel[segments == segment].sum() for segment in row] for row in segments]
    assert_allclose(shares, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = as_image([1, 2, 3, 4])
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        attribution.sampled_shapley_values(
            jnp.sum, image, segments=SEGMENTS, key=KEY, num_samples=0
        )
    with pytest.raises(ValueError, match=r"segments to be in 0 \.\. 2, got 0 \.\. 3"):
        attribution.sampled_shapley_values(
            jnp.sum, image, segments=SEGMENTS, key=KEY, num_segments=3
        )
