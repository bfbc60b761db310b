"""Diversity over a batch against the joint objective written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import ascent, scores

SHAPE = (5, 4, 3)
IMAGES = jax.random.uniform(jax.random.key(0), (3, *SHAPE))
OPTIMIZER = optax.sgd(0.3)


def layer(depth=4):
    return Partial(_tanh, jax.random.normal(jax.random.key(1), (3, depth)))


def _tanh(weights, image):
    return jnp.tanh(3 * (image - 0.5) @ weights)


def similarities(images, features):
    """Cosines (n, n) between the Gram matrices, one entry of them after the other."""
    grams = []
    for image in images:
        of_image = np.asarray(features(image), np.float64).reshape(-1, 4)
        grams.append([sum(p[i] * p[j] for p in of_image) for i in range(4) for j in range(4)])
    lengths = [np.sqrt(np.dot(gram, gram)) for gram in grams]
    return np.array(
        [
            [np.dot(a, b) / (m * n) for b, n in zip(grams, lengths, strict=True)]
            for a, m in zip(grams, lengths, strict=True)
        ]
    )


def joint(images):
    """The sum over the batch, in one function of all images."""
    places = jax.vmap(layer())(images).reshape(len(images), -1, 4)
    grams = jnp.einsum("npi,npj->nij", places, places).reshape(len(images), -1)
    units = grams / jnp.linalg.norm(grams, axis=1, keepdims=True)
    return (len(images) - jnp.sum(units @ units.T)) / (len(images) - 1)


@jax.jit
def pictures(score):
    """Four steps of all images at once."""

    def picture(image):
        state = ascent.initial_state(image, OPTIMIZER, jax.random.key(0))
        return ascent.ascend(score, state, OPTIMIZER, 4).image

    return jax.vmap(picture, axis_name="batch")(IMAGES)


def logit_and_diversity(weight):
    model = small_models.dataclass_model()
    return scores.logit(model, 1) + weight * scores.diversity(layer())


def test_each_score_is_the_mean_over_the_others():
    cosines = similarities(IMAGES, layer())
    expected = [-(cosines[i].sum() - 1) / 2 for i in range(3)]
    values = jax.vmap(scores.diversity(layer()), axis_name="batch")(IMAGES)
    assert_allclose(values, expected, rtol=1e-5)


def test_the_gradient_is_that_of_the_sum():
    gradients = jax.vmap(jax.grad(scores.diversity(layer())), axis_name="batch")(IMAGES)
    assert_allclose(gradients, jax.grad(joint)(IMAGES), rtol=1e-4, atol=1e-6)


def test_ascent_under_vmap_is_ascent_of_the_batch():
    # Plain steps on one function of all images.
    model, images = small_models.dataclass_model(), IMAGES

    def objective(images):
        return jax.vmap(scores.logit(model, 1))(images).sum() + 5.0 * joint(images)

    slope = jax.jit(jax.grad(objective))
    for _ in range(4):
        images = images + 0.3 * slope(images)
    assert_allclose(pictures(logit_and_diversity(5.0)), images, rtol=1e-4, atol=1e-5)


def test_without_weight_each_image_climbs_alone():
    score, climbed = scores.logit(small_models.dataclass_model(), 1), IMAGES
    slopes = jax.jit(jax.vmap(jax.grad(score)))
    for _ in range(4):
        climbed = climbed + 0.3 * slopes(climbed)
    result = pictures(logit_and_diversity(0.0))
    assert_allclose(result, climbed, rtol=1e-5, atol=1e-6)
    assert joint(pictures(logit_and_diversity(5.0))) > joint(result) + 0.1


def test_equal_images_have_none_and_black_ones_are_no_nan():
    same = jnp.stack([IMAGES[0], IMAGES[0], jnp.zeros(SHAPE)])
    value_and_slope = jax.value_and_grad(scores.diversity(lambda image: image))
    values, slopes = jax.vmap(value_and_slope, axis_name="batch")(same)
    assert_allclose(values, [-0.5, -0.5, 0.0], atol=1e-6)
    assert jnp.isfinite(slopes).all()


def test_weights_are_arguments(compilations):
    compiled = jax.jit(lambda score, images: jax.vmap(score, axis_name="batch")(images))
    compiled(0.5 * scores.diversity(layer()), IMAGES)
    with compilations.counted():
        twice = compiled(2.0 * scores.diversity(layer()), IMAGES)
    assert compilations.count == 0
    once = jax.vmap(scores.diversity(layer()), axis_name="batch")(IMAGES)
    assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    def test_no_batch(self):
        with pytest.raises(ValueError, match=r"axis_name='batch'\), got no such axis"):
            scores.diversity(layer())(IMAGES[0])
        with pytest.raises(ValueError, match=r"axis_name='other'\), got no such axis"):
            jax.vmap(scores.diversity(layer(), "other"), axis_name="batch")(IMAGES)

    def test_a_batch_of_one(self):
        with pytest.raises(ValueError, match=r"at least 2 images under .* got 1"):
            jax.vmap(scores.diversity(layer()), axis_name="batch")(IMAGES[:1])

    def test_a_layer_that_cannot_be_called(self):
        with pytest.raises(TypeError, match="expected layer to be callable, got ArrayImpl"):
            scores.diversity(IMAGES)
