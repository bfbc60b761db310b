"""Alignment of linear models, whose gradients are their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, metrics

IMAGE, OTHER = small_models.image((4, 3, 2)), small_models.image((4, 3, 2), seed=1)
WEIGHTS = small_models.image((3, 24, 1), seed=2)[..., 0] - 0.5


def linear(weights, image):
    return weights @ image.ravel()


def test_it_is_the_cosine_to_the_centred_image():
    score = small_models.linear_score(OTHER)
    gradient = attribution.input_gradient(score, IMAGE)
    centered = np.asarray(IMAGE, np.float64) - np.asarray(IMAGE, np.float64).mean((0, 1))
    expected = abs(np.sum(OTHER * centered)) / np.linalg.norm(OTHER) / np.linalg.norm(centered)
    assert_allclose(metrics.gradient_alignment(gradient, IMAGE), expected, rtol=1e-4)


def test_neither_brightness_nor_contrast_nor_units_matter():
    expected = metrics.gradient_alignment(OTHER, IMAGE)
    changed = metrics.gradient_alignment(-1e-30 * OTHER, 0.05 * IMAGE + 0.3)
    assert_allclose(changed, expected, rtol=1e-3)
    assert_allclose(metrics.gradient_alignment(IMAGE, IMAGE, baseline=0 * IMAGE), 1, rtol=1e-6)


def test_etmanns_is_of_the_predicted_class():
    model = Partial(linear, WEIGHTS)
    predicted = int(np.argmax(model(IMAGE)))
    w, x = np.asarray(WEIGHTS[predicted], np.float64), np.asarray(IMAGE, np.float64).ravel()
    expected = abs(w @ x) / np.linalg.norm(w)
    assert_allclose(metrics.etmann_alignment(model, IMAGE), expected, rtol=1e-5)
    others = [abs(v @ x) / np.linalg.norm(v) for v in np.asarray(WEIGHTS)]
    assert np.ptp(others) > 0.1 * expected


def test_etmanns_grows_with_the_image():
    model = Partial(linear, WEIGHTS)
    expected = 0.05 * metrics.etmann_alignment(model, IMAGE)
    assert_allclose(metrics.etmann_alignment(model, 0.05 * IMAGE), expected, rtol=1e-5)


def test_of_no_gradient_it_is_undefined():
    assert jnp.isnan(metrics.gradient_alignment(jnp.zeros_like(IMAGE), IMAGE))
    assert jnp.isnan(metrics.etmann_alignment(Partial(linear, jnp.zeros((3, 24))), IMAGE))


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_squares_neither_vanish_nor_overflow(scale):
    expected = metrics.gradient_alignment(OTHER, IMAGE)
    assert_allclose(metrics.gradient_alignment(scale * OTHER, IMAGE), expected, rtol=1e-4)
    assert_allclose(metrics.gradient_alignment(OTHER, scale * IMAGE), expected, rtol=1e-4)
    model, strong = Partial(linear, WEIGHTS), Partial(linear, scale * WEIGHTS)
    expected = metrics.etmann_alignment(model, IMAGE)
    assert_allclose(metrics.etmann_alignment(strong, IMAGE), expected, rtol=1e-4)


def test_nan_is_refused_where_it_is_known_and_nan_where_not():
    broken = OTHER.at[0, 0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="gradient to be finite, got 1 infinite or nan"):
        metrics.gradient_alignment(broken, IMAGE)
    assert jnp.isnan(jax.jit(metrics.gradient_alignment)(broken, IMAGE))


@pytest.mark.usefixtures("entry_checks")
def test_bad_shapes():
    with pytest.raises(ValueError, match=r"the image's shape \(4, 3, 2\), got \(4, 3, 1\)"):
        metrics.gradient_alignment(OTHER[..., :1], IMAGE)
    with pytest.raises(ValueError, match=r"baseline to have the image's shape"):
        metrics.gradient_alignment(OTHER, IMAGE, baseline=OTHER[..., :1])
