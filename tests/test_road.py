"""Imputation against a dense system of equations, and images that their neighbours determine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import metrics

KEY = jax.random.key(8)
IMAGE = small_models.image((6, 5, 2))
SALIENCY = small_models.image((6, 5, 1), seed=3)[..., 0]
imputed = jax.jit(metrics.noisy_linear_imputation)
road = jax.jit(metrics.road, static_argnames=("fractions", "batch_size"))


def imputed_by_equations(image, missing):
    """One equation for each pixel, written down and solved in float64."""
    height, width, _ = image.shape
    matrix, right = np.eye(height * width), np.array(image, np.float64).reshape(-1, image.shape[-1])
    for row, column in np.argwhere(missing):
        index = row * width + column
        right[index] = 0
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                y, x = row + down, column + across
                if (down, across) != (0, 0) and 0 <= y < height and 0 <= x < width:
                    weight = 1 / 6 if 0 in (down, across) else 1 / 12
                    matrix[index, y * width + x] -= weight
        matrix[index] /= -matrix[index].sum() + matrix[index, index]
        matrix[index, index] = 1
    return np.linalg.solve(matrix, right).reshape(image.shape)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_equation_by_equation(share):
    missing = np.asarray(np.quantile(SALIENCY, 1 - share) < SALIENCY)
    expected = imputed_by_equations(IMAGE, missing)
    assert_allclose(imputed(IMAGE, missing, KEY, 0.0), expected, atol=1e-5)


def test_a_ramp_is_restored_inside():
    row, column = jnp.mgrid[:6, :5].astype(float)
    ramp = jnp.stack([row + 2 * column, 3 - row], axis=-1)
    missing = np.zeros((6, 5), bool)
    missing[1:5, 1:4] = True
    assert_allclose(imputed(ramp, missing, KEY, 0.0), ramp, atol=1e-4)


def test_noise_is_added_to_missing_pixels_only():
    missing = np.asarray(SALIENCY > 0.5)
    without = np.asarray(imputed(IMAGE, missing, KEY, 0.0))
    noisy = jax.vmap(lambda key: imputed(IMAGE, missing, key, 0.5))(jax.random.split(KEY, 400))
    assert_array_equal(
        noisy[:, ~missing], np.broadcast_to(IMAGE[~missing], noisy[:, ~missing].shape)
    )
    noise = (np.asarray(noisy) - without)[:, missing]
    assert_allclose(noise.std(), 0.5, rtol=5 / (2 * noise.size) ** 0.5)


def test_where_nothing_is_left():
    everything = np.ones((6, 5), bool)
    assert_array_equal(imputed(IMAGE, everything, KEY, 0.0), jnp.zeros_like(IMAGE))
    assert_array_equal(imputed(IMAGE, ~everything, KEY, 0.5), IMAGE)


def test_of_a_linear_score_it_is_the_sum_over_imputed_images():
    weights = small_models.image((6, 5, 2), seed=1) - 0.5
    order = np.argsort(-np.ravel(SALIENCY))
    expected = []
    for count in (0, 6, 15, 27):
        missing = np.zeros(30, bool)
        missing[order[:count]] = True
        expected.append(np.sum(weights * imputed_by_equations(IMAGE, missing.reshape(6, 5))))
    curve = road(
        small_models.linear_score(weights), IMAGE, SALIENCY, key=KEY,
        fractions=(0.0, 0.2, 0.5, 0.9), noise_scale=0.0, batch_size=3,
    )  # fmt: skip
    assert_allclose(curve.scores, expected, atol=1e-4)
    assert_allclose(curve.fractions, [0, 0.2, 0.5, 0.9])


def test_a_constant_image_never_changes():
    curve = road(
        Partial(jnp.mean), jnp.full((6, 5, 2), 0.3), SALIENCY, key=KEY, noise_scale=0.0,
        fractions=(0.0, 0.2, 0.5, 0.9), batch_size=3,
    )  # fmt: skip
    assert_allclose(curve.scores, np.full(4, 0.3), rtol=1e-4)


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.float16, 2e-3), (jnp.bfloat16, 0.01)])
def test_half_precision_is_solved_in_single(dtype, rounding):
    # In half precision conjugate gradients end in nan at 4 of 9 fractions.
    image = small_models.image((12, 12, 3)).astype(dtype)
    saliency_map = small_models.image((12, 12), seed=3)
    curve = road(Partial(jnp.mean), image, saliency_map.astype(dtype), key=KEY, noise_scale=0.0)
    order, expected = np.argsort(-np.ravel(saliency_map.astype(dtype)), kind="stable"), []
    for fraction in np.asarray(curve.fractions, np.float64):
        missing = np.zeros(144, bool)
        missing[order[: round(144 * fraction)]] = True
        expected.append(imputed_by_equations(image, missing.reshape(12, 12)).mean())
    assert_allclose(curve.scores, expected, atol=rounding)
    assert curve.scores.dtype == jnp.float32


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    with pytest.raises(ValueError, match="fractions in rising order"):
        metrics.road(jnp.sum, IMAGE, SALIENCY, key=KEY, fractions=(0.2, 0.2))
    with pytest.raises(ValueError, match=r"the image's sides \(6, 5\), got \(5, 6\)"):
        metrics.road(jnp.sum, IMAGE, SALIENCY.T, key=KEY)
    with pytest.raises(TypeError, match="mask to hold booleans, got float32"):
        metrics.noisy_linear_imputation(IMAGE, SALIENCY, KEY, 0.0)
    with pytest.raises(ValueError, match=r"noise_scale to be at least 0, got -1\.0"):
        metrics.noisy_linear_imputation(IMAGE, SALIENCY > 0.5, KEY, -1.0)
