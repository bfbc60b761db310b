"""Total Sobol indices where they are known: of linear scores and of Ishigami's function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution
from saliency_jax.attribution._sobol import latin_hypercube

KEY = jax.random.key(6)
SEGMENTS = np.array([[0, 1, 2]])


def test_a_latin_hypercube_has_one_point_in_each_slice():
    points = latin_hypercube(KEY, 5, 3)
    assert_allclose(np.sort(np.floor(5 * points), axis=0), np.tile(np.arange(5.0)[:, None], 3))
    # The columns are put into different orders.
    assert len({tuple(column) for column in np.argsort(points, axis=0).T}) == 3


def test_of_a_linear_score_they_are_shares_of_squares():
    image, baseline, weights = (small_models.image((2, 3, 2), seed=seed) for seed in range(3))
    segments, samples = np.array([[0, 0, 2], [1, 2, 2]]), 10_000
    indices = attribution.total_sobol_indices(
        small_models.linear_score(weights), image, segments=segments, key=KEY,
        num_samples=samples, baseline=baseline, batch_size=4 * samples,
    )  # fmt: skip
    of_pixel = np.asarray(weights * (image - baseline), np.float64).sum(-1)
    parts = np.array([of_pixel[segments == segment].sum() for segment in range(3)])
    expected = (parts**2 / (parts**2).sum())[segments]
    # Of a difference of uniform numbers, E d^2 = 1/6 and E d^4 = 1/15: a sample's relative error.
    error = (36 / 15 - 1) ** 0.5 / samples**0.5
    assert_allclose(indices, expected, rtol=5 * error)


def test_published_case():
    # Ishigami, Homma, 1990: sin x + 7 sin^2 y + 0.1 z^4 sin x on [-pi, pi]^3.
    def score(image):
        x, y, z = jnp.pi * (2 * image.ravel() - 1)
        return jnp.sin(x) + 7 * jnp.sin(y) ** 2 + 0.1 * z**4 * jnp.sin(x)

    indices = attribution.total_sobol_indices(
        Partial(score), jnp.ones((1, 3, 1)), segments=SEGMENTS, key=KEY, num_samples=20_000,
        batch_size=80_000,
    )  # fmt: skip
    assert_allclose(indices, [[0.5576, 0.4424, 0.2437]], atol=0.02)


def test_an_interaction_counts_for_both_and_a_segment_without_effect_for_nothing():
    indices = attribution.total_sobol_indices(
        Partial(lambda image: image[0, 0, 0] * image[0, 2, 0]), jnp.ones((1, 3, 1)),
        segments=SEGMENTS, key=KEY, num_samples=10_000, batch_size=40_000,
    )  # fmt: skip
    # Of a product of uniform numbers: E a^2 Var b = 1/36 of Var a b = 1/9 - 1/16.
    assert_allclose(indices, [[4 / 7, 0, 4 / 7]], rtol=0.06)


def test_a_score_without_variance():
    indices = attribution.total_sobol_indices(
        Partial(lambda image: 0 * image.sum() + 0.1), jnp.ones((1, 3, 1)),
        segments=SEGMENTS, key=KEY,
    )  # fmt: skip
    assert_array_equal(indices, np.zeros((1, 3)))


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = jnp.ones((1, 3, 1))
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        attribution.total_sobol_indices(jnp.sum, image, segments=SEGMENTS, key=KEY, num_samples=0)
    with pytest.raises(ValueError, match=r"segments to be in 0 \.\. 1, got 0 \.\. 2"):
        attribution.total_sobol_indices(jnp.sum, image, segments=SEGMENTS, key=KEY, num_segments=2)
