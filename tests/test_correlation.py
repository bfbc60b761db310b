"""Correlations against SciPy, ties and constants among them."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_models
from numpy.testing import assert_allclose

from saliency_jax import metrics

FIRST, SECOND = small_models.image((4, 3, 2)), small_models.image((4, 3, 2), seed=1)


def test_pearson_is_scipys_whatever_unit_and_origin():
    expected = scipy.stats.pearsonr(np.ravel(FIRST), np.ravel(SECOND))[0]
    assert_allclose(metrics.pearson_correlation(FIRST, SECOND), expected, atol=1e-6)
    # Squares of such numbers are 0 in float32.
    tiny = metrics.pearson_correlation(1e-30 * FIRST, 7.0 - 2 * SECOND)
    assert_allclose(tiny, -expected, atol=1e-5)


def test_spearman_is_scipys_with_ties():
    tied = jnp.round(4 * FIRST)
    expected = scipy.stats.spearmanr(np.ravel(tied), np.ravel(SECOND))[0]
    assert_allclose(metrics.spearman_correlation(tied, SECOND), expected, atol=1e-6)
    assert len(np.unique(tied)) < tied.size


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_ranks_whole_pictures(dtype):
    # More ranks than half precision tells apart, or has.
    first, second = (small_models.image((300, 300), seed=seed).astype(dtype) for seed in (0, 1))
    second = (first + second).astype(dtype)
    expected = scipy.stats.spearmanr(
        np.ravel(first).astype(np.float64), np.ravel(second).astype(np.float64)
    )[0]
    assert_allclose(metrics.spearman_correlation(first, second), expected, atol=1e-4)


def test_a_rising_function_keeps_ranks_and_not_values():
    assert_allclose(metrics.spearman_correlation(FIRST, FIRST**9), 1, atol=1e-6)
    assert metrics.pearson_correlation(FIRST, FIRST**9) < 0.9


@pytest.mark.parametrize("correlation", [metrics.pearson_correlation, metrics.spearman_correlation])
def test_undefined_is_nan(correlation):
    # The mean of many 0.1 is not 0.1 in float32, so that the deviations are not 0.
    assert jnp.isnan(correlation(jnp.full(1000, 0.1), jnp.arange(1000.0)))
    assert jnp.isnan(correlation(FIRST.at[0, 0, 0].set(jnp.nan), SECOND))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_neither_vanish_nor_overflow(scale):
    expected = scipy.stats.pearsonr(np.ravel(FIRST), np.ravel(SECOND))[0]
    assert_allclose(metrics.pearson_correlation(scale * FIRST, SECOND), expected, atol=1e-5)


@pytest.mark.usefixtures("entry_checks")
def test_bad_arrays():
    with pytest.raises(ValueError, match=r"one shape.*, got \(4, 3, 2\) and \(4, 3\)"):
        metrics.pearson_correlation(FIRST, SECOND[..., 0])
    with pytest.raises(ValueError, match=r"one shape that is not empty, got \(0,\) and \(0,\)"):
        metrics.spearman_correlation(jnp.ones(0), jnp.ones(0))
    with pytest.raises(TypeError, match="second to hold floats, got int32"):
        metrics.spearman_correlation(FIRST, jnp.ones((4, 3, 2), int))
