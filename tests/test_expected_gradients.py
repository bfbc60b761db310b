"""Expected gradients against a loop over the same pairs and the expectation's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose
from small_models import as_image

from saliency_jax import attribution

KEY = jax.random.key(3)
BASELINES = jax.random.uniform(jax.random.key(1), (3, 2, 2, 1))
expected_gradients = jax.jit(
    attribution.expected_gradients, static_argnames=("num_samples", "batch_size")
)


def square_sum(image):
    return jnp.sum(image**2)


def test_expectation_of_a_square():
    # Integrated gradients of I^2 from B are I^2 - B^2, whatever the path's length.
    image = small_models.image((2, 2, 1))
    shares = expected_gradients(
        Partial(square_sum),
        image,
        baselines=BASELINES,
        key=KEY,
        num_samples=20_000,
        batch_size=5000,
    )  # fmt: skip
    expected = np.mean([np.asarray(image) ** 2 - np.asarray(b) ** 2 for b in BASELINES], axis=0)
    # A sample is below 2 |I - B| <= 2 in size: five standard errors are below 5 * 2 / sqrt(20,000).
    assert_allclose(shares, expected, atol=0.07)
    # Far more than that would be the error of a mean baseline in place of a mean over baselines.
    assert np.abs(np.var(np.asarray(BASELINES), axis=0)).max() > 0.07


def test_of_a_linear_score_with_one_baseline_it_is_gradient_times_difference():
    image, weights = small_models.image((2, 2, 1)), small_models.image((2, 2, 1), seed=1)
    shares = expected_gradients(
        small_models.linear_score(weights),
        image,
        baselines=BASELINES[:1],
        key=KEY,
        num_samples=5,
        batch_size=2,
    )
    assert_allclose(shares, weights * (image - BASELINES[0]), rtol=1e-5)


def test_every_baseline_is_drawn_equally_often():
    # S = sum I, and each baseline is zero in one place only: there I - B is 1, elsewhere 0.
    baselines = 1 - jnp.eye(4).reshape(4, 2, 2, 1)
    shares = expected_gradients(
        Partial(jnp.sum), jnp.ones((2, 2, 1)), baselines=baselines, key=KEY, num_samples=4000,
        batch_size=4000,
    )  # fmt: skip
    assert_allclose(shares, np.full((2, 2, 1), 0.25), atol=5 * (0.25 * 0.75 / 4000) ** 0.5)


def test_baselines_as_a_data_set_gives_them():
    image = as_image([1, 2, 4])
    for baselines in (np.ones((2, 1, 3, 1)), np.ones((2, 1, 3, 1), ">f4")):
        shares = attribution.expected_gradients(jnp.sum, image, baselines=baselines, key=KEY)
        assert_allclose(shares.ravel(), [0, 1, 3], rtol=1e-6)


def test_a_sum_above_the_largest_half_precision_number():
    image = as_image([1, 2]).astype(jnp.float16)
    shares = attribution.expected_gradients(
        Partial(lambda x: (2000 * x).sum()), image, baselines=np.ones((2, 1, 2, 1)), key=KEY
    )
    assert_allclose(shares.ravel(), [0, 2000])


@pytest.mark.usefixtures("entry_checks")
def test_bad_settings():
    image = small_models.image((2, 2, 1))
    with pytest.raises(ValueError, match=r"to have shape \(n, h, w, c\), got \(2, 2, 1\)"):
        attribution.expected_gradients(jnp.sum, image, baselines=BASELINES[0], key=KEY)
    with pytest.raises(ValueError, match=r"baselines to have shape \(n, 2, 2, 1\), got \(3, 1, 2,"):
        attribution.expected_gradients(jnp.sum, image, baselines=BASELINES[:, :1], key=KEY)
    with pytest.raises(ValueError, match="num_samples to be at least 1, got 0"):
        attribution.expected_gradients(jnp.sum, image, baselines=BASELINES, key=KEY, num_samples=0)
