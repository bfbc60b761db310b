"""Gini index and entropy: their ends, their definitions as double sums, and what is undefined."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_models
from numpy.testing import assert_allclose

from saliency_jax import metrics

ATTRIBUTION = small_models.image((4, 3, 2)) - 0.5


def test_gini_is_half_the_relative_mean_difference():
    values = np.abs(np.asarray(ATTRIBUTION, np.float64)).ravel()
    differences = np.abs(values[:, None] - values[None, :])
    expected = differences.mean() / (2 * values.mean())
    assert_allclose(metrics.gini_sparsity(ATTRIBUTION), expected, rtol=1e-5)


def test_entropy_is_scipys():
    expected = scipy.stats.entropy(np.abs(np.asarray(ATTRIBUTION, np.float64)).ravel())
    assert_allclose(metrics.entropy(ATTRIBUTION), expected, rtol=1e-5)


def test_half_precision_adds_up():
    # 4,096 values of up to 100 add up to more than float16 holds.
    halves = jnp.full((64, 64), 50.0, jnp.float16).at[:32].set(100.0)
    assert_allclose(metrics.gini_sparsity(halves), 1 / 6, rtol=1e-3)
    share = np.array([2 / 3, 1 / 3])
    expected = scipy.stats.entropy(share) + np.log(2048)
    assert_allclose(metrics.entropy(halves), expected, rtol=1e-3)
    mask = jnp.zeros((64, 64), bool).at[:32].set(True)
    assert_allclose(metrics.relevance_mass_accuracy(halves, mask), 2 / 3, rtol=1e-3)


@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_the_ends(scale):
    equal = jnp.full((4, 3), scale)
    single = jnp.zeros((4, 3)).at[1, 2].set(scale)
    assert_allclose(
        [metrics.gini_sparsity(equal), metrics.gini_sparsity(single)], [0, 11 / 12], atol=1e-6
    )
    assert_allclose([metrics.entropy(equal), metrics.entropy(single)], [np.log(12), 0], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e37])
def test_sums_neither_vanish_nor_overflow(scale):
    # Maps beside each other, which add up to more than float32 holds.
    wide = jnp.tile(jnp.abs(ATTRIBUTION[..., 0]), (4, 8))
    mask = np.asarray(wide > 0.2)
    for metric in (
        metrics.gini_sparsity,
        metrics.entropy,
        lambda saliency_map: metrics.relevance_mass_accuracy(saliency_map, mask),
    ):
        assert_allclose(metric(scale * wide), metric(wide), rtol=1e-4)


@pytest.mark.parametrize("metric", [metrics.gini_sparsity, metrics.entropy])
class TestBothAre:
    def test_undefined_for_nothing(self, metric):
        assert jnp.isnan(metric(jnp.zeros((4, 3))))

    @pytest.mark.usefixtures("entry_checks")
    def test_for_finite_floats(self, metric):
        with pytest.raises(ValueError, match="attribution to be finite"):
            metric(jnp.array([[jnp.inf, 1.0]]))
        with pytest.raises(TypeError, match="attribution to hold floats, got int32"):
            metric(jnp.ones((2, 2), int))
        with pytest.raises(ValueError, match=r"attribution to hold values, got shape \(0, 3\)"):
            metric(jnp.ones((0, 3)))
