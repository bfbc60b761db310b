"""RISE against the covariance of its masks, which bilinear weights and a fair shift determine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution

KEY = jax.random.key(2)
rise = jax.jit(attribution.rise, static_argnames=("num_samples", "cells", "batch_size"))


def overlap(first, second, side, count):
    """Mean product of two pixels' weights on the cells of one axis, over all shifts of the grid."""
    cell, total = -(-side // count), 0.0
    for shift in range(cell):
        weights = []
        for pixel in (first, second):
            place = (pixel + shift + 0.5) * count / ((count + 1) * cell) - 0.5
            place = min(max(place, 0), count - 1)
            weights.append([max(0, 1 - abs(place - a)) for a in range(count)])
        total += np.dot(*weights)
    return total / cell


def expected_product(first, second, shape, cells, p):
    """E[m m'] = p^2 + p (1 - p) times the sum over cells of both pixels' mean weights on them."""
    rows, columns = (
        overlap(first[axis], second[axis], shape[axis], cells[axis]) for axis in (0, 1)
    )
    return p**2 + p * (1 - p) * rows * columns


def test_expectation_of_one_pixel():
    # S = I at (0, 1), where the image is 1: E[S m_ij] / p is that pixel's mask times another's.
    shape, cells, p, samples = (4, 5), (2, 3), 0.4, 20_000

    def score(image):
        return image[0, 1, 0]

    saliency_map = rise(
        Partial(score), jnp.ones((*shape, 1)), key=KEY, num_samples=samples, cells=cells,
        probability=p, batch_size=samples,
    )  # fmt: skip
    expected = np.zeros(shape)
    for pixel in np.ndindex(shape):
        expected[pixel] = expected_product((0, 1), pixel, shape, cells, p) / p
    # A sample is in [0, 1 / p]: its standard deviation is at most 1 / (2 p).
    error = 5 / (2 * p) / samples**0.5
    assert_allclose(saliency_map, expected, atol=error)
    assert np.ptp(expected) > 4 * error


def test_when_all_is_seen_it_is_the_score():
    image, weights = small_models.image((4, 5, 2)), small_models.image((4, 5, 2), seed=1)
    saliency_map = rise(
        small_models.linear_score(weights), image, key=KEY, num_samples=5, probability=1.0,
        batch_size=2,
    )  # fmt: skip
    assert_allclose(saliency_map, np.full((4, 5), np.sum(weights * image)), rtol=1e-5)


def test_a_sum_above_the_largest_half_precision_number():
    image = jnp.ones((4, 5, 1), jnp.float16)
    saliency_map = rise(
        Partial(lambda image: 0 * image.sum() + 2000), image, key=KEY, num_samples=100,
        probability=1.0, batch_size=50,
    )  # fmt: skip
    assert saliency_map.dtype == jnp.float16
    assert_allclose(saliency_map, np.full((4, 5), 2000))


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = small_models.image()
    with pytest.raises(ValueError, match="probability to be at least"):
        attribution.rise(jnp.sum, image, key=KEY, probability=0.0)
    with pytest.raises(ValueError, match="probability to be at most 1, got"):
        attribution.rise(jnp.sum, image, key=KEY, probability=1.5)
    with pytest.raises(TypeError, match="probability to be one number, got 'half'"):
        attribution.rise(jnp.sum, image, key=KEY, probability="half")
    with pytest.raises(ValueError, match=r"cells to be \(rows, columns\), got 7"):
        attribution.rise(jnp.sum, image, key=KEY, cells=7)
    with pytest.raises(ValueError, match="number of columns to be at least 1, got 0"):
        attribution.rise(jnp.sum, image, key=KEY, cells=(2, 0))
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        attribution.rise(jnp.sum, image, key=KEY, num_samples=0)
