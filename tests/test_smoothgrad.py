"""SmoothGrad, its square and its variance against loops and the moments of Gaussian noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution, scores

KEY = jax.random.key(5)
FAMILY = [attribution.smoothgrad, attribution.smoothgrad_squared, attribution.vargrad]


def square_sum(image):
    return jnp.sum(image**2)


def cube_sum(image):
    return jnp.sum(image**3)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("num_samples", "batch_size"))
def run(method, score, image, **options):
    return method(score, image, key=KEY, **options)


def test_moments_of_the_gradient_of_a_square():
    # dS/dI = 2 (I + e): mean 2 I, variance 4 sigma^2, mean square their 4 I^2 + 4 sigma^2.
    image, samples = jnp.linspace(-1.0, 1.0, 24).reshape(4, 3, 2), 4000
    sigma = 0.2 * 2.0
    exact = np.asarray(image)
    options = {"num_samples": samples, "noise_scale": 0.2, "batch_size": 1000}
    score = Partial(square_sum)
    mean, square, variance = (run(method, score, image, **options) for method in FAMILY)
    # Five standard errors; the variance of e^2 is 2 sigma^4.
    of_mean, of_variance = 2 * sigma / samples**0.5, 4 * sigma**2 * (2 / samples) ** 0.5
    assert_allclose(mean, 2 * exact, atol=5 * of_mean)
    assert_allclose(variance, np.full(image.shape, 4 * sigma**2), atol=5 * of_variance)
    assert_allclose(
        square,
        4 * exact**2 + 4 * sigma**2,
        atol=5 * (of_variance + 4 * np.abs(exact).max() * of_mean),
    )
    assert_allclose(square, mean**2 + variance, rtol=1e-3)


def test_the_same_samples_in_a_loop():
    image = small_models.image((3, 2, 1))
    spread = float(image.max() - image.min())
    gradients = []
    for key in jax.random.split(KEY, 5):
        noise = 0.3 * spread * np.asarray(jax.random.normal(key, image.shape), np.float64)
        gradients.append(3 * (np.asarray(image) + noise) ** 2)
    expected = [np.mean(gradients, 0), np.mean(np.square(gradients), 0), np.var(gradients, axis=0)]
    for method, value in zip(FAMILY, expected, strict=True):
        options = {"num_samples": 5, "noise_scale": 0.3, "batch_size": 2}
        assert_allclose(run(method, Partial(cube_sum), image, **options), value, rtol=1e-4)


@pytest.mark.parametrize("method", [attribution.input_gradient, attribution.saliency])
def test_without_noise_it_is_the_method_itself(method):
    score, image = scores.logit(small_models.plain_convnet(), 1), small_models.image()
    plain = method(score, image)
    mean, square, variance = (
        family(score, image, key=KEY, method=method, num_samples=3, noise_scale=0.0)
        for family in FAMILY
    )
    assert_allclose(mean, plain, rtol=1e-5, atol=1e-7)
    assert_allclose(square, plain**2, rtol=1e-5, atol=1e-9)
    assert_allclose(variance, np.zeros(plain.shape), atol=1e-12)


def test_a_linear_score_has_no_variance():
    weights = 100 + small_models.image((3, 2, 1))
    score = small_models.linear_score(weights)
    image = small_models.image((3, 2, 1), seed=1)
    options = {"num_samples": 5, "noise_scale": 0.3, "batch_size": 2}
    assert_array_equal(run(attribution.vargrad, score, image, **options), np.zeros((3, 2, 1)))
    assert_allclose(run(attribution.smoothgrad, score, image, **options), weights, rtol=1e-6)


def test_a_small_variance_of_a_large_gradient_is_not_lost():
    # dS/dI = 1000 + 2 e, whose variance of 4 sigma^2 is below the rounding of its square.
    def score(image):
        return jnp.sum(1000 * image + (image - 0.5) ** 2)

    image = jnp.array([[[0.0], [0.5], [1.0]]])
    options = {"num_samples": 4000, "noise_scale": 0.01, "batch_size": 4000}
    variance = run(attribution.vargrad, Partial(score), image, **options)
    assert_allclose(variance, np.full((1, 3, 1), 4 * 0.01**2), rtol=0.15)


def test_noise_is_in_units_of_the_images_range():
    # The same picture in [0, 1] and in other units: x = 100 u + 7 has dS/dx = dS/du / 100.
    image = small_models.image((3, 2, 1))
    options = {"num_samples": 5, "batch_size": 5, "noise_scale": 0.2}
    in_units = run(attribution.smoothgrad, Partial(cube_sum), image, **options)
    rescaled = Partial(lambda x: cube_sum((x - 7) / 100))
    in_other = run(attribution.smoothgrad, rescaled, 100 * image + 7, **options)
    assert_allclose(100 * in_other, in_units, rtol=1e-3)


class TestHalfPrecision:
    """Sums are taken in single, whatever the batch_size; the mean is a number again."""

    def test_a_sum_above_the_largest_number(self):
        image = jnp.array([[[0.0], [1.0]]], jnp.float16)
        steep = Partial(lambda x: (2000 * x).sum())
        assert_array_equal(attribution.smoothgrad(steep, image, key=KEY), np.full((1, 2, 1), 2000))
        # The squares of 300 are above 65,504 as well: their variance, and mean, is not.
        assert_array_equal(attribution.vargrad(steep, image, key=KEY), np.zeros((1, 2, 1)))
        moderate = Partial(lambda x: (200 * x).sum())
        square = attribution.smoothgrad_squared(moderate, image, key=KEY)
        assert_array_equal(square, np.full((1, 2, 1), 40_000))

    @pytest.mark.parametrize("batch_size", [1, 1000])
    def test_many_samples(self, batch_size):
        image = jnp.array([[[0.0], [1.0]]], jnp.bfloat16)
        score = Partial(lambda x: (1.2969 * x).sum())
        options = {"num_samples": 1000, "batch_size": batch_size}
        mean = run(attribution.smoothgrad, score, image, **options)
        assert mean.dtype == jnp.bfloat16
        assert_array_equal(mean, np.full((1, 2, 1), jnp.bfloat16(1.2969)))


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.usefixtures("entry_checks")
def test_bad_settings(method):
    image = small_models.image()
    if method is not attribution.vargrad:
        with pytest.raises(TypeError, match="the method's result to be an array, got NoneType"):
            method(jnp.sum, image, key=KEY, method=lambda score, image: None)
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        method(jnp.sum, image, key=KEY, num_samples=0)
    with pytest.raises(ValueError, match=r"noise_scale to be at least 0, got -0\.1"):
        method(jnp.sum, image, key=KEY, noise_scale=-0.1)
    with pytest.raises(TypeError, match="noise_scale to be one number, got 'some'"):
        method(jnp.sum, image, key=KEY, noise_scale="some")
    with pytest.raises(TypeError, match=r"key to be a JAX random key, got int"):
        method(jnp.sum, image, key=5)
    with pytest.raises(ValueError, match=r"key to be one key, got shape \(2,\).*jax.vmap"):
        method(jnp.sum, image, key=jax.random.split(KEY))
    with pytest.raises(TypeError, match="method to be callable, got str"):
        method(jnp.sum, image, key=KEY, method="saliency")
    with pytest.raises(ValueError, match="batch_size to be at least 1, got 0"):
        method(jnp.sum, image, key=KEY, batch_size=0)
