"""Gaussian blurs against a convolution written out, and SciPy's; edges against SciPy's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import small_models
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import baselines, filters


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
    assert_allclose(filters.gaussian_blur(image, sigma), expected, rtol=1e-4, atol=1e-6)
    normalized = expected / blurred_by_loops(np.ones(shape), sigma)
    assert_allclose(filters.blur(image, sigma), normalized, rtol=1e-4, atol=1e-6)


def test_limits_of_the_blurs():
    image = small_models.image((4, 5, 3))
    assert_array_equal(filters.gaussian_blur(image, 0.0), image)
    assert_array_equal(filters.blur(image, 0), image)
    # Of 20 pixels, a kernel as wide as 1e4 sees all alike.
    assert_allclose(filters.blur(image, 1e4), baselines.mean_color(image), rtol=1e-4)
    flat = jnp.full_like(image, 0.25)
    assert_allclose(filters.blur(flat, 1.0), flat, rtol=1e-6)


def test_a_blur_of_a_point_has_the_gaussians_variance():
    # A square of side 1 adds its own variance of 1/12.
    image = jnp.zeros((1, 41, 1)).at[0, 20].set(1.0)
    blurred = np.asarray(filters.gaussian_blur(image, 2.0), np.float64)[0, :, 0]
    # The image's one row holds the middle pixel's share of the vertical Gaussian.
    weights, distance = blurred / math.erf(0.5 / (2 * math.sqrt(2))), np.arange(41) - 20
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert (weights * distance**2).sum() == pytest.approx(4 + 1 / 12, rel=1e-4)


@pytest.mark.parametrize("sigma", [3.0, 14.0, 28.0, 1e3])
def test_of_what_is_not_negative_no_blur_is_and_its_tails_are_exact(sigma):
    # Differences of numbers next to 1 were negative here.
    image = jnp.zeros((1, 224, 1)).at[0, 0].set(1.0)
    blurred = np.asarray(filters.gaussian_blur(image, sigma), np.float64)[0, :, 0]
    ends = (np.arange(224)[:, None] + [-0.5, 0.5]) / (sigma * math.sqrt(2))
    tails = -np.diff(scipy.special.erfc(ends))[:, 0] / 2
    expected = tails * math.erf(0.5 / (sigma * math.sqrt(2)))
    assert blurred.min() >= 0
    assert_allclose(blurred, expected, rtol=3e-4, atol=1e-30)


def test_the_blur_can_be_differentiated_by_its_width():
    image = small_models.image((3, 4, 1))
    for sigma in (0.0, 1e-4, 0.7, 5.0):
        _, slope = jax.jvp(lambda s: filters.gaussian_blur(image, s), (sigma,), (1.0,))
        step = 1e-4 if sigma > 0.01 else 0.0
        difference = blurred_by_loops(image, sigma + step) - blurred_by_loops(image, sigma - step)
        expected = difference / (2 * step) if step else np.zeros(image.shape)
        assert_allclose(slope, expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_a_wide_blur_is_scipys(sigma):
    # SciPy samples the Gaussian at the centres of pixels. To be a mean over whole pixels adds the
    # variance of one, 1/12, and what is left of the difference falls with sigma's fourth power.
    def outside(array):
        std = math.sqrt(sigma**2 + 1 / 12)
        return scipy.ndimage.gaussian_filter(
            array, std, mode="constant", truncate=40.0, axes=(0, 1)
        )

    image = small_models.image((6, 9, 2))
    exact = np.asarray(image, np.float64)
    expected = outside(exact) / outside(np.ones_like(exact))
    assert_allclose(filters.blur(image, sigma), expected, atol=0.003 / sigma**4)


@pytest.mark.parametrize("blur", [filters.gaussian_blur, filters.blur])
def test_the_blurs_gradient_is_its_transpose(blur):
    image, weights = small_models.image((4, 5, 3)), small_models.image((4, 5, 3), seed=1)
    blurred, pull_back = jax.vjp(lambda image: blur(image, 0.7), image)
    (pulled,) = pull_back(weights)
    assert_allclose(jnp.sum(pulled * image), jnp.sum(blurred * weights), rtol=1e-5)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("blur", [filters.gaussian_blur, filters.blur])
def test_bad_input_is_named(blur):
    with pytest.raises(ValueError, match="sigma to be at least 0, got -1"):
        blur(small_models.image(), -1)
    with pytest.raises(ValueError, match=r"image to have shape \(h, w, c\)"):
        blur(small_models.image()[0], 1.0)


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 1)])
def test_edges_are_scipys(shape):
    image = small_models.image(shape)
    # Channel by channel, as SciPy would smooth across them; its weights are not divided by 8.
    channels = np.asarray(image).transpose(2, 0, 1)
    slopes = [
        np.stack([scipy.ndimage.sobel(channel, axis, mode="nearest") / 8 for channel in channels])
        for axis in (0, 1)
    ]
    expected = np.sqrt(sum(slope**2 for slope in slopes).sum(0))
    assert_allclose(filters.sobel(image), expected, rtol=1e-5, atol=1e-6)


def test_the_edge_strength_of_a_ramp_is_its_slope():
    row, column = np.mgrid[:5, :6].astype(np.float32)
    ramp = jnp.asarray(3 * row + 4 * column)[..., None]
    assert_allclose(filters.sobel(ramp)[1:-1, 1:-1], 5, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_edges_of_any_strength(scale):
    image = small_models.image((5, 4, 2))
    assert_allclose(filters.sobel(scale * image) / scale, filters.sobel(image), rtol=1e-5)
