"""Blur integrated gradients against what the path's ends determine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution, filters, scores

blur_integrated = jax.jit(
    attribution.blur_integrated_gradients, static_argnames=("steps", "batch_size", "blur")
)


def sine_sum(image):
    return jnp.sin(image).sum()


def test_published_case_of_a_point():
    # Each pixel is a function of itself alone, so its share is its own change along the path.
    image = jnp.zeros((5, 5, 1)).at[1, 1].set(0.7)
    shares = blur_integrated(Partial(sine_sum), image, max_sigma=10.0)
    expected = np.sin(image) - np.sin(filters.gaussian_blur(image, 10.0))
    assert_allclose(shares, expected, atol=1e-4)
    # The published number comes from a sum of differences along the path.
    assert float(shares[1, 1, 0]) == pytest.approx(0.641, abs=3e-3)


@pytest.mark.parametrize("blur", [filters.gaussian_blur, filters.blur])
def test_of_a_linear_score_it_is_gradient_times_what_the_blur_takes(blur):
    image, weights = small_models.image((4, 3, 2)), small_models.image((4, 3, 2), seed=1)
    shares = blur_integrated(
        small_models.linear_score(weights), image, max_sigma=3.0, steps=50, blur=blur
    )
    assert_allclose(shares, weights * (image - blur(image, 3.0)), atol=1e-4)


def test_completeness_of_a_network():
    score, image = scores.logit(small_models.plain_convnet(1), 1), small_models.image((4, 3, 1))
    shares = blur_integrated(score, image, max_sigma=4.0)
    baseline = filters.gaussian_blur(image, 4.0)
    change = score(image) - score(baseline)
    gap = attribution.completeness_gap(score, image, shares, baseline=baseline)
    assert abs(change) > 0.1
    assert abs(gap) < 1e-3 * abs(change)


def test_no_blur_gives_nothing():
    image = small_models.image((5, 5, 1))
    assert_array_equal(blur_integrated(Partial(sine_sum), image, max_sigma=0.0), 0 * image)


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = small_models.image()
    with pytest.raises(ValueError, match=r"max_sigma to be at least 0, got -1\.0"):
        attribution.blur_integrated_gradients(jnp.sum, image, max_sigma=-1.0)
    with pytest.raises(ValueError, match="steps to be at least 1, got 0"):
        attribution.blur_integrated_gradients(jnp.sum, image, steps=0)
