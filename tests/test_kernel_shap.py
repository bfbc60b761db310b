"""Kernel SHAP against Shapley values: over every order, and in closed form."""

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

KEY = jax.random.key(6)


def one_a_pixel(count):
    return np.arange(count)[None]


def by_orders(game, count):
    """What each adds to those before it, averaged over all orders."""
    total = np.zeros(count)
    for order in itertools.permutations(range(count)):
        for place, segment in enumerate(order):
            total[segment] += game({*order[: place + 1]}) - game({*order[:place]})
    return total / math.factorial(count)


def test_published_case():
    values = attribution.kernel_shap(
        scores.logit(small_models.captum_multilayer, 0), as_image([20, 50, 30]),
        segments=one_a_pixel(3), key=KEY,
    )  # fmt: skip
    assert_allclose(values, [[76.667, 196.667, 116.667]], atol=1e-3)


def test_every_coalition():
    image, baseline = [1.0, 0.5, 2.0, -1.0, 1.5], [0.5, 0.0, -1.0, 1.0, 0.0]

    def score(values):
        a, b, c, d, e = values
        return a * b + 2 * a * b * c - c * d + d + 3 * a * c * d * e - e**2

    def game(coalition):
        return score([image[s] if s in coalition else baseline[s] for s in range(5)])

    values = attribution.kernel_shap(
        Partial(lambda image: score(image.ravel())), as_image(image), segments=one_a_pixel(5),
        key=KEY, num_samples=32, baseline=as_image(baseline), batch_size=7,
    )  # fmt: skip
    assert_allclose(values[0], by_orders(game, 5), rtol=1e-4, atol=1e-5)


def test_pairs_are_exact_where_segments_act_alone_or_in_twos():
    # With the complement of each z the score's odd part is linear: phi = a + the half of each pair.
    alone, twos = small_models.image((12, 1, 1))[:, 0, 0], small_models.image((12, 12, 1))[..., 0]
    twos = jnp.triu(twos, 1)

    def score(image):
        seen = image.ravel()
        return seen @ alone + seen @ twos @ seen

    values = attribution.kernel_shap(
        Partial(score), as_image(np.ones(12)), segments=one_a_pixel(12), key=KEY, num_samples=60,
        batch_size=100,
    )  # fmt: skip
    assert_allclose(values[0], alone + (twos + twos.T).sum(0) / 2, rtol=1e-3, atol=1e-4)


def test_samples_have_the_sizes_of_the_kernel():
    # The score is 1 where five certain segments are seen: they share it. Fair coins instead of the
    # kernel's sizes would give each 1 / 16 and an equal part of what is left, 0.105.
    count, together, samples = 16, 5, 20_000

    def score(image):
        return image.ravel()[:together].prod()

    values = attribution.kernel_shap(
        Partial(score), as_image(np.ones(count)), segments=one_a_pixel(count), key=KEY,
        num_samples=samples, batch_size=samples,
    )  # fmt: skip
    # A z varies by 1 / (2 H) in each direction, H = 1 + 1/2 + ... + 1 / (count - 1); what the
    # regression leaves of a pair's two scores is apart by at most about 1.
    variance = 1 / (2 * sum(1 / n for n in range(1, count)))
    error = 5 / math.sqrt(2 * samples * variance)
    assert_allclose(values[0], [1 / together] * together + [0] * (count - together), atol=error)
    assert error < 1 / together - 0.105


# Of 3 segments 8 images are all.
@pytest.mark.parametrize("num_samples", [7, 8])
def test_of_a_linear_score_it_is_exact(num_samples):
    image, baseline, weights = (small_models.image((2, 3, 2), seed=seed) for seed in range(3))
    segments = np.array([[0, 0, 2], [1, 2, 2]])
    values = attribution.kernel_shap(
        small_models.linear_score(weights), image, segments=segments, key=KEY, baseline=baseline,
        num_samples=num_samples, batch_size=3,
    )  # fmt: skip
    of_pixel = np.asarray(weights * (image - baseline), np.float64).sum(-1)
    expected = [[of_pixel[segments == segment].sum() for segment in row] for row in segments]
    assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_samples", [5, 64])
def test_values_add_up_however_few_the_samples(num_samples):
    score = scores.logit(small_models.plain_convnet(1), 1)
    image, baseline = small_models.image((1, 6, 1)), small_models.image((1, 6, 1), seed=3)
    values = attribution.kernel_shap(
        score, image, segments=one_a_pixel(6), key=KEY, num_samples=num_samples, baseline=baseline
    )
    assert float(values.sum()) == pytest.approx(float(score(image) - score(baseline)), abs=1e-5)


def test_one_segment_has_the_whole_difference():
    values = attribution.kernel_shap(
        jnp.prod, as_image([2, 3, 4]), segments=np.zeros((1, 3), int), key=KEY
    )
    assert_allclose(values, [[24, 24, 24]])


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = as_image([1, 2, 3, 4])
    with pytest.raises(ValueError, match="num_samples to be at least 4, got 3"):
        attribution.kernel_shap(jnp.sum, image, segments=one_a_pixel(4), key=KEY, num_samples=3)
    with pytest.raises(ValueError, match=r"segments to be in 0 \.\. 2, got 0 \.\. 3"):
        attribution.kernel_shap(jnp.sum, image, segments=one_a_pixel(4), key=KEY, num_segments=3)
