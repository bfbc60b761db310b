"""Baselines against loops, and Gaussian blurs against a convolution written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax.attribution import baselines, integrated_gradients


def blurred_by_loops(image, sigma):
    """Each pixel's light spread over squares by the Gaussian's cumulative distribution."""
    image = np.asarray(image, np.float64)

    def share(distance):
        if sigma == 0:
            return float(distance == 0)
        ends = [(distance + side) / (sigma * math.sqrt(2)) for side in (-0.5, 0.5)]
        return (math.erf(ends[1]) - math.erf(ends[0])) / 2

    result = np.zeros(image.shape)
    for i, j in np.ndindex(image.shape[:2]):
        for a, b in np.ndindex(image.shape[:2]):
            result[i, j] += share(i - a) * share(j - b) * image[a, b]
    return result


@pytest.mark.parametrize("shape", [(4, 3, 2), (1, 5, 1)])
@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.5, 30.0])
def test_blurs_pixel_by_pixel(shape, sigma):
    image = small_models.image(shape)
    expected = blurred_by_loops(image, sigma)
    assert_allclose(baselines.gaussian_blur(image, sigma), expected, rtol=1e-4, atol=1e-6)
    normalized = expected / blurred_by_loops(np.ones(shape), sigma)
    assert_allclose(baselines.blur(image, sigma), normalized, rtol=1e-4, atol=1e-6)


def test_limits_of_the_blurs():
    image = small_models.image((4, 5, 3))
    assert_array_equal(baselines.gaussian_blur(image, 0.0), image)
    assert_array_equal(baselines.blur(image, 0), image)
    # Of 20 pixels, a kernel as wide as 1e4 sees all alike.
    assert_allclose(baselines.blur(image, 1e4), baselines.mean_color(image), rtol=1e-4)
    flat = baselines.constant(image, 0.25)
    assert_allclose(baselines.blur(flat, 1.0), flat, rtol=1e-6)


def test_a_blur_of_a_point_has_the_gaussians_variance():
    # A square of side 1 adds its own variance of 1/12.
    image = jnp.zeros((1, 41, 1)).at[0, 20].set(1.0)
    blurred = np.asarray(baselines.gaussian_blur(image, 2.0), np.float64)[0, :, 0]
    # The image's one row holds the middle pixel's share of the vertical Gaussian.
    weights, distance = blurred / math.erf(0.5 / (2 * math.sqrt(2))), np.arange(41) - 20
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert (weights * distance**2).sum() == pytest.approx(4 + 1 / 12, rel=1e-4)


def test_the_blur_can_be_differentiated_by_its_width():
    image = small_models.image((3, 4, 1))
    for sigma in (0.0, 1e-4, 0.7, 5.0):
        _, slope = jax.jvp(lambda s: baselines.gaussian_blur(image, s), (sigma,), (1.0,))
        step = 1e-4 if sigma > 0.01 else 0.0
        difference = blurred_by_loops(image, sigma + step) - blurred_by_loops(image, sigma - step)
        expected = difference / (2 * step) if step else np.zeros(image.shape)
        assert_allclose(slope, expected, atol=1e-5)


def test_simple_baselines():
    image = small_models.image((3, 4, 2))
    assert_array_equal(baselines.zeros(image), np.zeros((3, 4, 2)))
    assert_array_equal(baselines.constant(image, 0.5), np.full((3, 4, 2), 0.5))
    two = baselines.constant(image, jnp.array([0.25, 0.75]))
    assert_array_equal(two[2, 1], [0.25, 0.75])
    mean = [np.mean([float(image[i, j, c]) for i in range(3) for j in range(4)]) for c in (0, 1)]
    assert_allclose(baselines.mean_color(image)[1, 3], mean, rtol=1e-6)


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


@pytest.mark.usefixtures("entry_checks")
def test_bad_baselines():
    image = small_models.image((2, 3, 1))
    with pytest.raises(ValueError, match=r"baseline to have the image's .* got \(1, 3, 1\)"):
        integrated_gradients(jnp.sum, image, baseline=image[:1])
    with pytest.raises(TypeError, match="baseline to be an array, got float"):
        integrated_gradients(jnp.sum, image, baseline=0.5)
    with pytest.raises(ValueError, match="baseline to be finite"):
        integrated_gradients(jnp.sum, image, baseline=image * jnp.nan)
    with pytest.raises(ValueError, match="sigma to be at least 0, got -1"):
        baselines.blur(image, -1)
    with pytest.raises(ValueError, match=r"color to have shape \(\) or \(1,\), got \(3,\)"):
        baselines.constant(image, jnp.ones(3))
    with pytest.raises(ValueError, match="high to be at least 2, got 1"):
        baselines.uniform_noise(image, jax.random.key(0), 2, 1)
