"""Every method crossed with every invariant: a new method is one more line of METHODS."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import MODELS

from saliency_jax import ascent, attribution, scores

ADAM = optax.adam(0.1)


def ascended(score, image):
    state = ascent.initial_state(image, ADAM, jax.random.key(0))
    return ascent.ascend(
        score, state, ADAM, 3, augment=ascent.jitter(1), prior=ascent.l2(0.01)
    ).image


METHODS = {
    "input_gradient": attribution.input_gradient,
    "saliency": attribution.saliency,
    "ascend": ascended,
}
SHAPES = [(6, 5, 3), (4, 7, 1)]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
each_model = pytest.mark.parametrize("make_model", MODELS.values(), ids=MODELS)
two_models = pytest.mark.parametrize(
    "make_model", [small_models.plain_convnet, small_models.nnx_convnet]
)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_method
@two_models
def test_jit_changes_nothing(method, make_model):
    score, image = scores.logit(make_model(), 1), small_models.image()
    assert_allclose(jax.jit(method)(score, image), method(score, image), **TOLERANCE)


@each_method
@two_models
def test_vmap_over_labels_and_images_is_a_loop(method, make_model):
    model, labels = make_model(), np.array([3, 0])
    images = jnp.stack([small_models.image(seed=seed) for seed in range(2)])

    def of_label(label, image):
        return method(scores.logit(model, label), image)

    one = jax.jit(of_label)
    looped = [[one(label, image) for image in images] for label in labels]
    over_images = jax.vmap(of_label, in_axes=(None, 0))
    mapped = jax.jit(jax.vmap(over_images, in_axes=(0, None)))(labels, images)
    assert_allclose(mapped, jnp.array(looped), **TOLERANCE)


@each_method
@each_model
def test_another_label_image_or_weights_do_not_compile_again(method, make_model, compilations):
    # A function of its own: JAX keeps one cache for every `jit` of the same function.
    model, compiled = make_model(), jax.jit(lambda score, image: method(score, image))
    other_weights = jax.tree.map(lambda leaf: leaf if callable(leaf) else 2 * leaf, model)
    image, other_image = small_models.image(seed=0), small_models.image(seed=1)
    arguments = [
        (scores.logit(model, 0), image),
        (scores.logit(model, 3), image),
        (scores.logit(model, np.int64(2)), other_image),
        (scores.logit(other_weights, jnp.int32(1)), image),
    ]
    results = []
    for score, image in arguments:
        with compilations.counted():
            results.append(compiled(score, image))
        assert compilations.count == (len(results) == 1)
    for first, second in itertools.pairwise(results):
        assert not jnp.array_equal(first, second)


@each_method
def test_equal_calls_give_equal_bits(method):
    score, image = scores.logit(small_models.plain_convnet(), 2), small_models.image()
    compiled = jax.jit(method)
    assert_array_equal(compiled(score, image), compiled(score, image))


@each_method
def test_weights_are_arguments_of_the_program_and_no_constants(method):
    def program(width):
        model = jax.eval_shape(lambda: small_models.plain_convnet(width=width))
        return jax.jit(method).lower(scores.logit(model, 1), small_models.image()).as_text()

    # Only the digits of the width differ: 1,000 x 27 + 1,000 x 4 weights would be 31,000 numbers.
    assert len(program(1000)) < 1.1 * len(program(100))


@each_method
def test_traced_label_out_of_range_is_nan_everywhere(method):
    model, image = small_models.plain_convnet(), small_models.image()
    of_label = jax.jit(lambda label: method(scores.logit(model, label), image))
    for label in (-1, small_models.NUM_CLASSES):
        assert jnp.isnan(of_label(label)).all()


@each_method
@each_shape
def test_the_image_keeps_its_sides_and_its_dtype(method, shape):
    score = scores.logit(small_models.plain_convnet(shape[-1]), 1)
    result = jax.eval_shape(method, score, small_models.image(shape))
    assert result.shape[:2] == shape[:2]
    assert result.dtype == jnp.float32


@each_method
def test_a_dead_score_gives_a_finite_answer(method):
    score = Partial(lambda image: jnp.maximum(image.sum() - 1e6, 0.0))
    assert jnp.isfinite(method(score, small_models.image())).all()
