import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from skimage.metrics import structural_similarity

from saliency_jax import metrics


def pair(shape=(14, 19)):
    first = np.random.default_rng(0).random(shape, np.float32)
    return first, 0.7 * first + 0.3 * np.random.default_rng(1).random(shape, np.float32)


@pytest.mark.parametrize("data_range", [1.0, 4.0])
def test_it_is_that_of_scikit_image(data_range):
    first, second = pair()
    expected = structural_similarity(
        first,
        second,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
    )
    result = metrics.structural_similarity(
        jnp.asarray(first), jnp.asarray(second), data_range=data_range
    )
    assert_allclose(result, expected, rtol=1e-5)


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
