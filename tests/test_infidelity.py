"""Infidelity of linear scores, whose expectation over Gaussian noise has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import metrics

KEY = jax.random.key(6)
IMAGE, WEIGHTS, OTHER = (small_models.image((4, 3, 2), seed=seed) for seed in range(3))
LINEAR = small_models.linear_score(WEIGHTS)
NOISE = {
    "perturbation": Partial(metrics.gaussian_perturbation, noise_scale=0.3),
    "key": KEY,
    "num_samples": 20_000,
    "batch_size": 20_000,
}


def test_the_gradient_of_a_linear_score_has_none():
    for metric in (metrics.infidelity, metrics.scaled_infidelity):
        assert_allclose(metric(LINEAR, IMAGE, WEIGHTS, **NOISE), 0, atol=1e-10)


def test_of_another_attribution():
    # <A - w, P> is normal with variance s^2 |A - w|^2; a mean of n squares has relative error
    # sqrt(2 / n).
    expected = 0.3**2 * np.sum((np.asarray(OTHER - WEIGHTS, np.float64)) ** 2)
    result = metrics.infidelity(LINEAR, IMAGE, OTHER, **NOISE)
    assert_allclose(result, expected, rtol=5 * (2 / 20_000) ** 0.5)


def test_the_best_factor_leaves_what_is_at_right_angles():
    a, w = (np.asarray(values, np.float64).ravel() for values in (OTHER, WEIGHTS))
    expected = 0.3**2 * (w @ w - (a @ w) ** 2 / (a @ a))
    result = metrics.scaled_infidelity(LINEAR, IMAGE, OTHER, **NOISE)
    assert_allclose(result, expected, rtol=5 * (2 / 20_000) ** 0.5)


def test_scale_and_sign_are_forgiven_only_by_the_scaled_one():
    few = NOISE | {"num_samples": 50}
    scaled = metrics.scaled_infidelity(LINEAR, IMAGE, OTHER, **few)
    assert_allclose(metrics.scaled_infidelity(LINEAR, IMAGE, -7 * OTHER, **few), scaled, rtol=1e-4)
    assert metrics.infidelity(LINEAR, IMAGE, -7 * OTHER, **few) > 10 * scaled
    # What predicts nothing leaves the mean squared fall, and is no division by 0.
    nothing = metrics.scaled_infidelity(LINEAR, IMAGE, jnp.zeros_like(IMAGE), **few)
    assert_allclose(nothing, metrics.infidelity(LINEAR, IMAGE, jnp.zeros_like(IMAGE), **few))


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_scale_of_an_attribution_neither_vanishes_nor_overflows(scale):
    few = NOISE | {"num_samples": 50}
    expected = metrics.scaled_infidelity(LINEAR, IMAGE, OTHER, **few)
    result = metrics.scaled_infidelity(LINEAR, IMAGE, scale * OTHER, **few)
    assert_allclose(result, expected, rtol=1e-4)


@pytest.mark.parametrize("metric", [metrics.infidelity, metrics.scaled_infidelity])
def test_nan_is_refused_where_it_is_known_and_nan_where_not(metric):
    broken, few = OTHER.at[0, 0, 0].set(jnp.nan), NOISE | {"num_samples": 2}
    with pytest.raises(ValueError, match="attribution to be finite, got 1 infinite or nan"):
        metric(LINEAR, IMAGE, broken, **few)
    assert jnp.isnan(jax.jit(lambda broken: metric(LINEAR, IMAGE, broken, **few))(broken))


def test_squares_are_removed_at_all_places():
    keys = jax.random.split(KEY, 600)
    removal = Partial(metrics.square_removal, side=2, baseline=0.25 * IMAGE)
    removed = np.asarray(jax.vmap(lambda key: removal(IMAGE, key))(keys))
    places, counts = np.unique(removed, axis=0, return_counts=True)
    expected = []
    for top in range(3):
        for left in range(2):
            square = np.zeros(IMAGE.shape, np.float32)
            square[top : top + 2, left : left + 2] = 0.75 * IMAGE[top : top + 2, left : left + 2]
            expected.append(square)
    for square in expected:
        assert min(np.abs(place - square).max() for place in places) < 1e-6
    assert len(places) == 6
    # Binomial counts of 600 / 6 each.
    assert np.abs(counts - 100).max() < 5 * (600 * 5 / 36) ** 0.5


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    with pytest.raises(ValueError, match=r"the image's shape \(4, 3, 2\), got \(3, 4, 2\)"):
        metrics.infidelity(LINEAR, IMAGE, OTHER.swapaxes(0, 1), **NOISE)
    wrong = NOISE | {"perturbation": lambda image, key: image[..., 0]}
    with pytest.raises(ValueError, match=r"perturbation to have the image's shape .* got \(4, 3\)"):
        metrics.infidelity(LINEAR, IMAGE, OTHER, **wrong)
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        metrics.scaled_infidelity(LINEAR, IMAGE, OTHER, **NOISE | {"num_samples": 0})
    with pytest.raises(ValueError, match="side to be at most the image's 3, got 4"):
        metrics.square_removal(IMAGE, KEY, side=4)
    with pytest.raises(ValueError, match=r"noise_scale to be at least 0, got -0\.1"):
        metrics.gaussian_perturbation(IMAGE, KEY, noise_scale=-0.1)
