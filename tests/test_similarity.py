"""Structural similarity against scikit-image in double precision."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.metrics import structural_similarity

from saliency_jax import metrics


def pair(shape=(14, 19)):
    first = np.random.default_rng(0).random(shape, np.float32)
    return first, 0.7 * first + 0.3 * np.random.default_rng(1).random(shape, np.float32)


def of_scikit_image(first, second, data_range):
    return structural_similarity(
        first.astype(np.float64),
        second.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
    )


@pytest.mark.parametrize("data_range", [1.0, 4.0])
def test_it_is_that_of_scikit_image(data_range):
    first, second = pair()
    expected = of_scikit_image(first, second, data_range)
    result = metrics.structural_similarity(
        jnp.asarray(first), jnp.asarray(second), data_range=data_range
    )
    assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("level", "contrast"), [(1e4, 1.0), (0.5, 1e-3), (0.0, 1e-25), (0.0, 1e15)]
)
def test_a_level_far_above_the_contrast_is_taken_off_first(level, contrast):
    # 0.038 and 0.02 where windows' mean squares and squared means cancel to 0.885 and -0.26.
    rng = np.random.default_rng(0)
    maps = [(level + contrast * rng.random((24, 24))).astype(np.float32) for _ in range(2)]
    expected = of_scikit_image(*maps, contrast)
    result = metrics.structural_similarity(*map(jnp.asarray, maps), data_range=contrast)
    assert_allclose(result, expected, atol=1e-3)
    assert_array_equal(metrics.structural_similarity(maps[0], maps[0], data_range=contrast), 1)


def test_a_range_whose_square_vanishes_leaves_no_constants():
    first, second = (values.astype(np.float64) for values in pair())
    expected = of_scikit_image(first, second, 1e-30)
    assert_allclose(metrics.structural_similarity(first, second, data_range=1e-30), expected, 1e-5)
    first[:] = 0
    assert_array_equal(metrics.structural_similarity(first, first, data_range=1e-30), 1)


def test_a_slope_far_steeper_than_the_contrast():
    # No constant makes it small in all windows.
    rng, slope = np.random.default_rng(0), np.linspace(0, 1e4, 24)[:, None]
    first, second = ((slope + rng.random((24, 24))).astype(np.float32) for _ in range(2))
    expected = of_scikit_image(first, second, 1.0)
    assert_allclose(metrics.structural_similarity(first, second), expected, atol=1e-4)


@pytest.mark.parametrize("data_range", [1e-3, 1.0, 1e3])
def test_it_is_never_above_1(data_range):
    rng = np.random.default_rng(1)
    for level in (0.0, 1.0, 1e3, 1e5):
        first = level + rng.random((12, 12))
        for second in (first, first + 1e-3 * rng.random((12, 12)), 2 * first, -first):
            maps = (values.astype(np.float32) for values in (first, second))
            assert metrics.structural_similarity(*maps, data_range=data_range) <= 1


def test_one_window_of_two_constants_is_the_similarity_of_their_levels():
    first, second = jnp.full((11, 11), 0.2), jnp.full((11, 11), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert_allclose(metrics.structural_similarity(first, second), expected, rtol=1e-3)


def test_it_is_symmetric_and_1_for_equal_maps():
    first, second = map(jnp.asarray, pair())
    there, back = (
        metrics.structural_similarity(*maps) for maps in ((first, second), (second, first))
    )
    assert_allclose(there, back, rtol=1e-6)
    assert_allclose(metrics.structural_similarity(first, first), 1, rtol=1e-6)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((10, 20), (10, 20)), r"sides of at least 11, got \(10, 20\)"),
        (((12, 12), (12, 13)), r"image's sides \(12, 12\), got \(12, 13\)"),
    ],
)
def test_what_is_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        metrics.structural_similarity(*map(jnp.zeros, shapes))
