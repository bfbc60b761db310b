"""Priors against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from numpy.testing import assert_allclose
from skimage.restoration import denoise_tv_chambolle

from saliency_jax import ascent, scores

IMAGE = small_models.image((4, 5, 2))
evaluate = jax.jit(jax.value_and_grad(lambda prior, image: prior(image), argnums=1))


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5, 6.0])
def test_alpha_norm_value_by_value(alpha):
    center = np.array([0.5, 0.4])
    offset = np.asarray(IMAGE, np.float64) - center
    value, gradient = evaluate(ascent.alpha_norm(0.3, alpha, jnp.float32(center)), IMAGE)
    assert_allclose(value, 0.3 * (np.abs(offset) ** alpha).sum(), rtol=1e-5)
    expected = 0.3 * alpha * np.abs(offset) ** (alpha - 1) * np.sign(offset)
    assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_alpha_norm_of_two_is_l2():
    value, gradient = evaluate(ascent.alpha_norm(0.3, 2.0, 0.5), IMAGE)
    of_l2, gradient_of_l2 = evaluate(ascent.l2(0.3, 0.5), IMAGE)
    assert_allclose(value, of_l2, rtol=1e-6)
    assert_allclose(gradient, gradient_of_l2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "prior", [ascent.alpha_norm(1.0), ascent.alpha_norm(1.0, 1.0), ascent.total_variation(1.0)]
)
def test_at_the_least_image_value_and_gradient_are_zero(prior):
    value, gradient = evaluate(prior, jnp.zeros_like(IMAGE))
    assert value == 0
    assert (gradient == 0).all()


def test_total_variation_pair_by_pair():
    image, total, slope = np.asarray(IMAGE, np.float64), 0.0, np.zeros(IMAGE.shape)
    for i, j, c in np.ndindex(image.shape):
        for below, right in ((i + 1, j), (i, j + 1)):
            if below < image.shape[0] and right < image.shape[1]:
                difference = image[below, right, c] - image[i, j, c]
                total += abs(difference)
                slope[below, right, c] += np.sign(difference)
                slope[i, j, c] -= np.sign(difference)
    value, gradient = evaluate(ascent.total_variation(0.25), IMAGE)
    assert_allclose(value, 0.25 * total, rtol=1e-5)
    assert_allclose(gradient, 0.25 * slope, atol=1e-6)


def test_total_variation_falls_where_scikit_image_denoises():
    smoother = denoise_tv_chambolle(np.asarray(IMAGE), weight=0.1, channel_axis=-1)
    prior = ascent.total_variation(1.0)
    assert prior(jnp.float32(smoother)) < 0.9 * prior(IMAGE)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (4, 1, 2)])
def test_total_variation_of_a_line(shape):
    image = small_models.image(shape)
    expected = np.abs(np.diff(np.asarray(image), axis=0)).sum()
    expected += np.abs(np.diff(np.asarray(image), axis=1)).sum()
    assert_allclose(ascent.total_variation(1.0)(image), expected, rtol=1e-5)


def test_priors_are_added_and_scaled_and_their_numbers_are_arguments(compilations):
    def joined(factor, alpha):
        return factor * ascent.total_variation(0.1) + ascent.alpha_norm(0.2, alpha) / 2

    compiled = jax.jit(lambda prior, image: prior(image))
    parts = [prior(IMAGE) for prior in (ascent.total_variation(0.1), ascent.alpha_norm(0.2, 3.0))]
    compiled(joined(2.0, 4.0), IMAGE)
    with compilations.counted():
        value = compiled(joined(3.0, 3.0), IMAGE)
    assert compilations.count == 0
    assert_allclose(value, 3 * parts[0] + parts[1] / 2, rtol=1e-5)


def test_a_score_less_its_priors_runs_its_model_once():
    model = small_models.plain_convnet(2)
    logit, other = scores.logit(model, 1), scores.logit(model, 2)
    priors = ascent.l2(0.3, 0.5), ascent.total_variation(0.1)
    objective = logit - 0.1 * other - (priors[0] + 2 * priors[1])
    expected = logit(IMAGE) - 0.1 * other(IMAGE) - priors[0](IMAGE) - 2 * priors[1](IMAGE)
    assert_allclose(objective(IMAGE), expected, rtol=1e-5)
    weights = [leaf for leaf in jax.tree.leaves(objective) if np.ndim(leaf)]
    assert len(weights) == len(jax.tree.leaves(model))
    assert str(jax.make_jaxpr(objective)(IMAGE)).count("conv_general_dilated[") == 1


def test_a_sum_of_priors_is_a_score_of_the_image_itself():
    joined = ascent.l2(0.3) + 0.5 * ascent.alpha_norm(0.2, 3.0)
    doubled = joined.on(lambda image: 2 * image)
    expected = ascent.l2(0.3)(2 * IMAGE) + 0.5 * ascent.alpha_norm(0.2, 3.0)(2 * IMAGE)
    assert_allclose(doubled(IMAGE), expected, rtol=1e-5)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ascent.alpha_norm(-1.0), "weight to be at least 0, got -1"),
        (lambda: ascent.alpha_norm(1.0, 0.5), "alpha to be at least 1, got 0.5"),
        (lambda: ascent.alpha_norm(1.0, 2.0, np.ones(3))(IMAGE), "center to have shape"),
        (lambda: ascent.total_variation(-1.0), "weight to be at least 0, got -1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
