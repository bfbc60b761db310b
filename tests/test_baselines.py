"""Baselines against loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import ascent, attacks, baselines, filters, metrics
from saliency_jax.attribution import integrated_gradients


def test_simple_baselines():
    image = small_models.image((3, 4, 2))
    assert_array_equal(baselines.zeros(image), np.zeros((3, 4, 2)))
    assert_array_equal(baselines.constant(image, 0.5), np.full((3, 4, 2), 0.5))
    two = baselines.constant(image, jnp.array([0.25, 0.75]))
    assert_array_equal(two[2, 1], [0.25, 0.75])
    mean = [np.mean([float(image[i, j, c]) for i in range(3) for j in range(4)]) for c in (0, 1)]
    assert_allclose(baselines.mean_color(image)[1, 3], mean, rtol=1e-6)


def test_a_blur_is_a_baseline():
    image = small_models.image((2, 3, 1))
    shares = integrated_gradients(
        small_models.linear_score(image), image, baseline=Partial(baselines.blurred, sigma=0.7)
    )
    assert_allclose(shares, image * (image - filters.blur(image, 0.7)), rtol=1e-4, atol=1e-6)


def test_uniform_noise_fills_its_range_evenly():
    noise = np.asarray(
        baselines.uniform_noise(jnp.zeros((40, 40, 3)), jax.random.key(0), -1.0, 3.0)
    )
    assert noise.min() >= -1
    assert noise.max() < 3
    # Five standard errors of the mean of 4,800 values.
    assert noise.mean() == pytest.approx(1, abs=5 * 4 / math.sqrt(12 * noise.size))
    assert noise.var() == pytest.approx(16 / 12, rel=0.1)
    counts = np.histogram(noise, bins=4, range=(-1, 3))[0]
    assert (np.abs(counts - 1200) < 5 * math.sqrt(1200)).all()


def test_a_baseline_is_an_array_or_a_function():
    image = small_models.image((2, 3, 1))
    weights = small_models.image((2, 3, 1), seed=1)
    for baseline in (baselines.constant(image, 0.5), Partial(baselines.constant, color=0.5)):
        shares = integrated_gradients(
            small_models.linear_score(weights), image, baseline=baseline, steps=2
        )
        assert_allclose(shares, weights * (image - 0.5), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_baselines_have_the_images_dtype(dtype):
    image = small_models.image((3, 4, 2)).astype(dtype)
    grey = Partial(baselines.constant, color=np.array([0.25, 0.75], ">f8"))
    blurred = Partial(baselines.blurred, sigma=1.0)
    noise = Partial(baselines.uniform_noise, key=jax.random.key(0))
    for baseline in (baselines.zeros, grey, baselines.mean_color, blurred, noise):
        assert baseline(image).dtype == dtype
    assert_array_equal(baselines.as_baseline(np.ones((3, 4, 2), ">f8"), image), np.ones((3, 4, 2)))
    assert baselines.as_baseline(np.ones((3, 4, 2)), image).dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_rounds_the_random_numbers_of_single(dtype):
    image, key = small_models.image((3, 4, 2)), jax.random.key(3)
    draws = {
        "baseline": baselines.uniform_noise,
        "perturbation": Partial(metrics.gaussian_perturbation, noise_scale=0.5),
        "augmentation": lambda image, key: ascent.noise(0.5)(0 * image, key),
        "start in a ball": lambda image, key: attacks.L2.sample(key, image.shape, image.dtype),
        "start in a cube": lambda image, key: attacks.LINF.sample(key, image.shape, image.dtype),
    }
    for name, draw in draws.items():
        half = draw(image.astype(dtype), key)
        assert half.dtype == dtype, name
        assert_allclose(half.astype(jnp.float32), draw(image, key), rtol=0.02, err_msg=name)


@pytest.mark.usefixtures("entry_checks")
def test_bad_baselines():
    image = small_models.image((2, 3, 1))
    with pytest.raises(ValueError, match=r"baseline to have the image's .* got \(1, 3, 1\)"):
        integrated_gradients(jnp.sum, image, baseline=image[:1])
    with pytest.raises(TypeError, match="baseline to be an array, got float"):
        integrated_gradients(jnp.sum, image, baseline=0.5)
    with pytest.raises(ValueError, match="baseline to be finite"):
        integrated_gradients(jnp.sum, image, baseline=image * jnp.nan)
    with pytest.raises(ValueError, match=r"color to have shape \(\) or \(1,\), got \(3,\)"):
        baselines.constant(image, jnp.ones(3))
    with pytest.raises(TypeError, match="color to be a number or an array of them, got 'grey'"):
        baselines.constant(image, "grey")
    with pytest.raises(TypeError, match=r"key to be a JAX random key, got int"):
        baselines.uniform_noise(image, 0)
    with pytest.raises(ValueError, match="high to be at least 2, got 1"):
        baselines.uniform_noise(image, jax.random.key(0), 2, 1)
