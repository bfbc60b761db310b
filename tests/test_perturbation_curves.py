"""Insertion and deletion against a loop that deletes pixel after pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import baselines, metrics, scores

IMAGE = small_models.image((4, 3, 2))
SALIENCY = small_models.image((4, 3, 1), seed=3)[..., 0]
SCORE = scores.logit(small_models.plain_convnet(2), 1)
SETTINGS = ("steps", "batch_size", "baseline")
deletion = jax.jit(metrics.deletion, static_argnames=SETTINGS)
insertion = jax.jit(metrics.insertion, static_argnames=SETTINGS)


def deleted_by_a_loop(score, start, finish, counts):
    value, image, curve, done = jax.jit(score), np.array(start), [], 0
    most_salient_first = np.argsort(-np.ravel(SALIENCY))
    for count in counts:
        for pixel in most_salient_first[done:count]:
            image[np.unravel_index(pixel, SALIENCY.shape)] = np.asarray(finish)[
                np.unravel_index(pixel, SALIENCY.shape)
            ]
        done = count
        curve.append(float(value(jnp.asarray(image))))
    return curve


def test_step_by_step():
    # Five steps of twelve pixels do not divide evenly.
    counts = [0, 2, 4, 7, 9, 12]
    mean, blurred = baselines.mean_color(IMAGE), baselines.blurred(IMAGE, 5.0)
    down = deletion(SCORE, IMAGE, SALIENCY, steps=5, batch_size=4)
    up = insertion(SCORE, IMAGE, SALIENCY, steps=5, batch_size=4)
    assert_allclose(down.fractions, np.array(counts) / 12, rtol=1e-6)
    assert_allclose(down.scores, deleted_by_a_loop(SCORE, IMAGE, mean, counts), rtol=1e-4)
    assert_allclose(up.scores, deleted_by_a_loop(SCORE, blurred, IMAGE, counts), rtol=1e-4)


def test_of_a_linear_score_it_is_a_sum_in_the_order_of_saliency():
    weights, baseline = small_models.image((4, 3, 2), seed=1) - 0.5, 0.25 * IMAGE
    score = small_models.linear_score(weights)
    contributions = np.asarray(weights * (IMAGE - baseline), np.float64).sum(-1).ravel()
    lost = np.cumsum(contributions[np.argsort(-np.ravel(SALIENCY))])
    expected = float(score(IMAGE)) - np.array([0, *lost])
    curve = metrics.deletion(score, IMAGE, SALIENCY, steps=12, baseline=baseline)
    assert_allclose(curve.scores, expected, rtol=1e-4, atol=1e-5)
    assert_allclose(curve.area, (expected[1:] + expected[:-1]).mean() / 2, rtol=1e-4, atol=1e-5)


def test_the_ends_are_the_image_and_the_baseline():
    curve = insertion(SCORE, IMAGE, SALIENCY, steps=3, baseline=baselines.zeros)
    assert_allclose(curve.scores[-1], SCORE(IMAGE), rtol=1e-5)
    assert_allclose(curve.scores[0], SCORE(jnp.zeros_like(IMAGE)), rtol=1e-5, atol=1e-6)
    assert_array_equal(curve.fractions[jnp.array([0, -1])], [0, 1])


def test_only_the_order_of_the_map_matters():
    curve = deletion(SCORE, IMAGE, SALIENCY, steps=12)
    assert_array_equal(deletion(SCORE, IMAGE, SALIENCY + 1.0, steps=12).scores, curve.scores)
    assert_array_equal(deletion(SCORE, IMAGE, SALIENCY**3, steps=12).scores, curve.scores)


def test_deleting_is_inserting_the_least_salient_first_backwards():
    down = deletion(SCORE, IMAGE, SALIENCY, steps=12, baseline=baselines.zeros)
    up = insertion(SCORE, IMAGE, -SALIENCY, steps=12, baseline=baselines.zeros)
    assert_allclose(down.scores, up.scores[::-1], rtol=1e-5)


def test_area_of_a_batch():
    def of_image(image):
        return metrics.deletion(Partial(jnp.sum), image, SALIENCY, steps=2)

    curves = jax.vmap(of_image)(jnp.stack([IMAGE, jnp.ones_like(IMAGE)]))
    # The mean colour in place of pixels leaves the sum of a constant image as it is.
    assert_allclose(curves.area[1], IMAGE.size, rtol=1e-6)
    assert_allclose(curves.area[0], of_image(IMAGE).area, rtol=1e-6)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("curve", [metrics.deletion, metrics.insertion])
def test_bad_settings(curve):
    with pytest.raises(ValueError, match="steps to be at most the number of pixels 12, got 13"):
        curve(SCORE, IMAGE, SALIENCY, steps=13)
    with pytest.raises(ValueError, match="steps to be at least 1, got 0"):
        curve(SCORE, IMAGE, SALIENCY, steps=0)
    with pytest.raises(ValueError, match=r"the image's sides \(4, 3\), got \(3, 4\)"):
        curve(SCORE, IMAGE, SALIENCY.T, steps=2)
    with pytest.raises(ValueError, match=r"saliency_map to have shape \(h, w\), got \(4, 3, 2\)"):
        curve(SCORE, IMAGE, IMAGE, steps=2)
    with pytest.raises(ValueError, match="saliency_map to be finite"):
        curve(SCORE, IMAGE, SALIENCY.at[0, 0].set(jnp.nan), steps=2)
