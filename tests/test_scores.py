"""Scores against hand-made logits, and with every kind of model and of label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import MODELS

from saliency_jax import scores

BOTH = pytest.mark.parametrize("make_score", [scores.logit, scores.log_prob])


def constant_model(logits):
    """Answers the same for every image."""
    return Partial(lambda logits, image: logits + 0.0 * image.sum(), jnp.asarray(logits, float))


def test_logit_is_the_class_entry_of_the_logits():
    model = constant_model([3.0, -1.0, 0.5])
    answers = [float(scores.logit(model, label)(small_models.image())) for label in range(3)]
    assert answers == [3.0, -1.0, 0.5]


@pytest.mark.parametrize("logits", [[3.0, -1.0, 0.5], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
def test_log_prob_is_the_logarithm_of_the_softmax(logits):
    exact = np.asarray(logits, np.float64)
    expected = exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())
    model = constant_model(logits)
    answers = [float(scores.log_prob(model, label)(small_models.image())) for label in range(3)]
    assert_allclose(answers, expected, rtol=1e-6)


def test_gradient_of_log_prob_of_a_linear_model():
    # d log p_c / dI = W_c - sum_j p_j W_j
    weights = np.asarray(jax.random.normal(jax.random.key(0), (4, 2, 3, 1)), np.float64)
    image = small_models.image((2, 3, 1))
    logits = np.einsum("khwc,hwc->k", weights, image)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    expected = weights[2] - np.einsum("k,khwc->hwc", probabilities, weights)

    model = Partial(
        lambda weights, image: jnp.einsum("khwc,hwc->k", weights, image), jnp.float32(weights)
    )
    gradient = jax.jit(jax.grad(scores.log_prob(model, 2)))(image)
    assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_crosses_jit_as_an_argument(make_score, kind):
    model, image = MODELS[kind](), small_models.image()
    logits = np.asarray(jax.jit(lambda image: model(image))(image), np.float64)
    expected = {scores.logit: logits, scores.log_prob: logits - np.log(np.exp(logits).sum())}
    value = jax.jit(lambda score, image: score(image))(make_score(model, 1), image)
    assert_allclose(value, expected[make_score][1], rtol=1e-5, atol=1e-6)


@BOTH
def test_plain_function_crosses_jit_as_a_model(make_score):
    score = make_score(small_models.captum_multilayer, 1)
    call = jax.jit(lambda score, image: score(image))
    image = small_models.as_image([20, 50, 30])
    assert_array_equal(call(score, image), score(image))


@pytest.mark.parametrize(
    "label", [2, np.int64(2), np.array(2, np.uint8), jnp.uint8(2), jnp.array([0, 2])[1]], ids=repr
)
@BOTH
def test_any_integer_is_a_label(make_score, label, compilations):
    call = jax.jit(lambda score, image: score(image))
    # All the probability is on class 2, so that both scores of it are 0.
    model, image = constant_model([-200.0, -100.0, 0.0]), small_models.image()
    first, second = make_score(model, 1), make_score(model, label)
    assert call(first, image) == -100.0
    with compilations.counted():
        value = call(second, image)
    assert compilations.count == 0
    assert value == 0.0


@BOTH
def test_labels_of_one_image_share_the_forward_pass(make_score):
    model, image = small_models.plain_convnet(), small_models.image()
    program = jax.make_jaxpr(jax.vmap(lambda label: make_score(model, label)(image)))(jnp.arange(4))
    convolved = [
        equation.outvars[0].aval.shape
        for equation in program.eqns
        if equation.primitive.name == "conv_general_dilated"
    ]
    assert convolved == [(1, 6, 5, 4)]


@BOTH
@pytest.mark.parametrize("label", [-1, 4, 2**31 - 1])
def test_known_label_out_of_range_is_refused(make_score, label):
    score = make_score(small_models.plain_convnet(), label)
    with pytest.raises(ValueError, match=rf"expected label to be in 0 .. 3, got {label}"):
        score(small_models.image())


@BOTH
@pytest.mark.parametrize("label", [-1, 4, 2**31 - 1])
def test_traced_label_out_of_range_gives_nan_and_no_other_class(make_score, label):
    model, image = small_models.plain_convnet(), small_models.image()
    value, gradient = jax.jit(
        lambda label, image: jax.value_and_grad(make_score(model, label))(image)
    )(label, image)
    assert jnp.isnan(value)
    assert jnp.isnan(gradient).all()


@BOTH
@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    @pytest.mark.parametrize("label", [1.0, True, jnp.float32(1), "goose", None], ids=repr)
    def test_label_of_another_type(self, make_score, label):
        with pytest.raises(TypeError, match="expected label to be an integer, got"):
            make_score(small_models.plain_convnet(), label)

    def test_several_labels(self, make_score):
        with pytest.raises(ValueError, match=r"one integer, got shape \(3,\).*jax.vmap"):
            make_score(small_models.plain_convnet(), jnp.arange(3))

    def test_model_that_cannot_be_called(self, make_score):
        with pytest.raises(TypeError, match="expected model to be callable, got str"):
            make_score("resnet", 0)

    def test_model_of_batches(self, make_score):
        score = make_score(lambda image: jnp.zeros((1, 10)), 0)
        with pytest.raises(ValueError, match=r"answer .* shape \(k,\), got \(1, 10\)"):
            score(small_models.image())

    def test_model_that_answers_with_integers(self, make_score):
        score = make_score(lambda image: jnp.arange(4), 0)
        with pytest.raises(TypeError, match=r"answer .* to hold floats, got int32"):
            score(small_models.image())
