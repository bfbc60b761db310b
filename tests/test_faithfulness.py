"""Correlations of sums and falls: exact for linear scores, and over every subset of a small one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import attribution, metrics

KEY = jax.random.key(5)
IMAGE, BASELINE, WEIGHTS = (small_models.image((4, 3, 2), seed=seed) for seed in range(3))
LINEAR = small_models.linear_score(WEIGHTS - 0.5)
SHARES = attribution.sum_channels((WEIGHTS - 0.5) * (IMAGE - BASELINE))
EVERY_SIZE = np.array([1, 2, 5, 11])


def test_published_case():
    image = as_image([1, -2, 3, 0.5])
    for sign in (1, -1):
        fidelity = metrics.mu_fidelity(
            Partial(jnp.sum), image, sign * image[..., 0], key=KEY, cells=(1, 4), size=2,
        )  # fmt: skip
        assert_allclose(fidelity, sign, atol=1e-5)


def test_shares_of_a_linear_score_have_sensitivity_n_for_every_n():
    for sign in (1, -1):
        correlations = metrics.sensitivity_n(
            LINEAR, IMAGE, sign * SHARES, sizes=EVERY_SIZE, key=KEY, num_samples=20,
            baseline=BASELINE,
        )  # fmt: skip
        assert_allclose(correlations, np.full(4, sign), atol=1e-4)


def test_over_every_subset():
    # Subsets of two of four values; the gradient's shares miss the product of the last two.
    values, shares = np.array([1.0, -0.5, 2.0, 1.5]), np.array([1.0, -1.0, 4.0, 3.0])

    def score(x):
        return x[0] + 2 * x[1] + 2 * x[2] * x[3]

    sums, falls = [], []
    for subset in itertools.combinations(range(4), 2):
        hidden = values.copy()
        hidden[list(subset)] = 0
        sums.append(shares[list(subset)].sum())
        falls.append(score(values) - score(hidden))
    expected = scipy.stats.pearsonr(sums, falls)[0], scipy.stats.spearmanr(sums, falls)[0]

    image, saliency_map = as_image(values), jnp.asarray(shares, jnp.float32).reshape(1, 4)
    settings = {"key": KEY, "size": 2, "num_samples": 4000, "batch_size": 4000}
    of_image = Partial(lambda image: score(image.ravel()))
    result = metrics.faithfulness_correlation(of_image, image, saliency_map, **settings)
    assert_allclose(result, expected[0], atol=0.02)
    result = metrics.mu_fidelity(of_image, image, saliency_map, cells=(1, 4), **settings)
    assert_allclose(result, expected[1], atol=0.02)
    assert max(expected) < 0.95


def test_faithfulness_is_sensitivity_at_one_size():
    settings = {"key": KEY, "num_samples": 10, "baseline": BASELINE}
    score, saliency_map = Partial(lambda image: jnp.sum(image**2)), IMAGE[..., 1]
    one = metrics.faithfulness_correlation(score, IMAGE, saliency_map, size=3, **settings)
    of_several = metrics.sensitivity_n(score, IMAGE, saliency_map, sizes=np.array([3]), **settings)
    assert_allclose(one, of_several[0], rtol=1e-5)
    assert abs(one) < 0.999


def test_cells_hide_whole_rectangles():
    # No two pairs of these have one sum, whose rank would depend on rounding.
    sums = jnp.array([[0.0, 1.0], [2.0, 4.0]])
    # Inside each cell the map is wrong and adds up to the right sum.
    saliency_map = jnp.zeros((4, 6)).at[::2, ::3].set(sums)
    image = jnp.repeat(jnp.repeat(sums, 2, 0), 3, 1)[..., None] / 6
    settings = {"key": KEY, "num_samples": 30}
    cells = metrics.mu_fidelity(
        Partial(jnp.sum), image, saliency_map, cells=(2, 2), size=2, **settings
    )
    pixels = metrics.mu_fidelity(
        Partial(jnp.sum), image, saliency_map, cells=(4, 6), size=12, **settings
    )
    assert_allclose(cells, 1, atol=1e-5)
    assert pixels < 0.9


def test_of_a_constant_map_it_is_undefined():
    assert jnp.isnan(
        metrics.faithfulness_correlation(LINEAR, IMAGE, jnp.ones((4, 3)), size=3, key=KEY)
    )


@pytest.mark.parametrize("side", [64, 224])
def test_of_a_constant_map_by_cells_too(side):
    # The usual sides hold the default's cells whole, so that all sets hide as many pixels.
    image = small_models.image((side, side, 1))
    fidelity = metrics.mu_fidelity(
        Partial(jnp.sum), image, jnp.ones((side, side)), num_samples=20, key=KEY
    )
    assert jnp.isnan(fidelity)


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    with pytest.raises(ValueError, match=r"sizes of subsets to be in 1 \.\. 11, got \[12\]"):
        metrics.faithfulness_correlation(LINEAR, IMAGE, SHARES, size=12, key=KEY)
    with pytest.raises(ValueError, match=r"sizes of subsets to be in 1 \.\. 11, got \[0 3\]"):
        metrics.sensitivity_n(LINEAR, IMAGE, SHARES, sizes=np.array([0, 3]), key=KEY)
    with pytest.raises(TypeError, match="sizes of subsets to be integers, got list"):
        metrics.sensitivity_n(LINEAR, IMAGE, SHARES, sizes=[1, 2], key=KEY)
    for shape in ((), (0,)):
        with pytest.raises(ValueError, match=r"sizes of subsets in one row, got the shape \("):
            metrics.sensitivity_n(LINEAR, IMAGE, SHARES, sizes=np.ones(shape, int), key=KEY)
    with pytest.raises(TypeError, match=r"size to be an integer, got 2\.5"):
        metrics.faithfulness_correlation(LINEAR, IMAGE, SHARES, size=2.5, key=KEY)
    with pytest.raises(ValueError, match=r"sizes of subsets to be in 1 \.\. 3, got \[13\]"):
        metrics.mu_fidelity(LINEAR, IMAGE, SHARES, cells=(2, 2), key=KEY)
    with pytest.raises(ValueError, match="number of columns to be at most the image's 3, got 4"):
        metrics.mu_fidelity(LINEAR, IMAGE, SHARES, cells=(4, 4), key=KEY)
    with pytest.raises(ValueError, match="num_samples to be at least 2, got 1"):
        metrics.mu_fidelity(LINEAR, IMAGE, SHARES, cells=(2, 2), size=1, num_samples=1, key=KEY)
