"""Sensitivity of attributions that change as the image does, by the moments of the noise."""

import functools

import jax
import jax.numpy as jnp
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, metrics

KEY = jax.random.key(7)
IMAGE, WEIGHTS = (small_models.image((4, 3, 2), seed=seed) for seed in range(2))
LINEAR = small_models.linear_score(WEIGHTS)


@functools.cache
def jitted(metric):
    return jax.jit(metric, static_argnums=0)


def scaled_square(scale, image):
    return scale * jnp.sum(image**2)


def of_one_value(metric, method, num_samples):
    image = jnp.full((1, 1, 1), 2.0)
    return metric(
        method, jnp.sum, image, key=KEY, radius=0.5, num_samples=num_samples,
        batch_size=num_samples,
    )  # fmt: skip


@pytest.mark.parametrize("metric", [metrics.max_sensitivity, metrics.average_sensitivity])
def test_the_gradient_of_a_linear_score_has_none(metric):
    assert metric(attribution.input_gradient, LINEAR, IMAGE, key=KEY) == 0
    assert metric(attribution.input_x_gradient, LINEAR, IMAGE, key=KEY, radius=0.0) == 0


def test_of_an_attribution_that_is_the_image():
    # |d| / 2 with d uniform in [-0.5, 0.5]: uniform in [0, 0.25].
    method = attribution.input_x_gradient
    mean = of_one_value(metrics.average_sensitivity, method, 4000)
    largest = of_one_value(metrics.max_sensitivity, method, 4000)
    assert_allclose(mean, 0.125, atol=5 * 0.25 / 12**0.5 / 4000**0.5)
    assert 0.25 * (1 - 10 / 4000) < largest <= 0.25


def test_it_is_relative():
    settings = {"key": KEY, "radius": 0.1, "num_samples": 3}
    small = small_models.linear_score(1e-3 * WEIGHTS)
    assert_allclose(
        metrics.max_sensitivity(attribution.input_x_gradient, LINEAR, IMAGE, **settings),
        metrics.max_sensitivity(attribution.input_x_gradient, small, IMAGE, **settings),
        rtol=1e-5,
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-18, 1e18, 1e20, 1e30])
@pytest.mark.parametrize(
    ("metric", "published"),
    [(metrics.max_sensitivity, 0.028), (metrics.average_sensitivity, 0.02 / 3**0.5 / 0.5)],
)
def test_scores_of_any_size(metric, published, scale):
    # The gradient is the image times a factor: |d| / |I|, with d^2 = 0.02^2 / 3 in the mean.
    image, score = jnp.full((4, 4, 1), 0.5), Partial(scaled_square, jnp.asarray(scale))
    result = jitted(metric)(attribution.input_gradient, score, image, key=jax.random.key(0))
    assert_allclose(result, published, rtol=0.15)
    one = jitted(metric)(
        attribution.input_gradient, Partial(scaled_square, jnp.ones(())), image,
        key=jax.random.key(0),
    )  # fmt: skip
    assert_allclose(result, one, rtol=1e-4)


def test_a_bound_key_is_no_part_of_the_change():
    method = functools.partial(attribution.smoothgrad, key=KEY, num_samples=2, noise_scale=0.1)
    score = small_models.linear_score(WEIGHTS)
    assert metrics.max_sensitivity(method, score, IMAGE, key=KEY) < 1e-6


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    with pytest.raises(ValueError, match="radius to be at least 0, got -1"):
        metrics.max_sensitivity(attribution.saliency, LINEAR, IMAGE, key=KEY, radius=-1)
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        metrics.average_sensitivity(attribution.saliency, LINEAR, IMAGE, key=KEY, num_samples=0)
