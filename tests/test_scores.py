"""Scores against hand-made logits, and with every kind of model and of label."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import MODELS, as_image

from saliency_jax import scores

BOTH = pytest.mark.parametrize("make_score", [scores.logit, scores.log_prob])


def constant_model(logits):
    """Answers the same for every image."""
    return Partial(lambda logits, image: logits + 0.0 * image.sum(), jnp.asarray(logits, float))


class EquinoxModel(eqx.Module):
    """Its perceptron holds functions beside the weights."""

    perceptron: eqx.nn.MLP

    def __call__(self, image):
        return self.perceptron(image.mean((0, 1)))


def equinox_model():
    return EquinoxModel(eqx.nn.MLP(3, 4, width_size=4, depth=1, key=jax.random.key(0)))


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


def call(score, image):
    return score(image)


class TestScore:
    """The contract: a readout of a model."""

    IMAGE = small_models.image()

    def test_it_is_the_weights_and_the_label(self):
        model = small_models.plain_convnet()
        score = scores.logit(model, 2)
        leaves, structure = jax.tree.flatten(score)
        assert [np.shape(leaf) for leaf in leaves] == [(), (3, 3, 3, 4), (4, 4)]
        assert leaves[0] == 2
        assert_array_equal(jax.tree.unflatten(structure, leaves)(self.IMAGE), score(self.IMAGE))
        names = {str(path[0]) for path, _ in jax.tree_util.tree_leaves_with_path(score)}
        assert names == {".readout", ".model"}

    def test_value_is_the_readout_of_the_answer(self):
        score = scores.Score(lambda answer: answer["a"] - answer["b"], answer_pair)
        assert score(jnp.full((1, 1, 1), 3.0)) == 3.0 - 9.0

    def test_on_another_callable(self):
        model, other = small_models.plain_convnet(seed=1), small_models.plain_convnet(seed=2)
        for make in (scores.logit, scores.log_prob, scores.margin, scores.probability):
            assert_array_equal(make(model, 1).on(other)(self.IMAGE), make(other, 1)(self.IMAGE))
        joined = 2 * scores.logit(model, 1) - scores.logit(model, 3) + 0.5
        expected = 2 * scores.logit(other, 1) - scores.logit(other, 3) + 0.5
        assert_array_equal(joined.on(other)(self.IMAGE), expected(self.IMAGE))

    def test_on_the_head_of_a_layer(self):
        # Of tanh and mean: the readout of the head is the score of what the trunk makes.
        kernel, dense = small_models.plain_convnet().args
        head = Partial(lambda dense, features: features.mean((0, 1)) @ dense, dense)
        features = jnp.tanh(small_models._convolve(self.IMAGE, kernel, "SAME"))
        score = scores.log_prob(small_models.plain_convnet(), 1)
        assert_allclose(score.on(head)(features), score(self.IMAGE), rtol=1e-5)

    def test_a_sum_of_several_models_has_no_other(self):
        two = scores.logit(small_models.plain_convnet(seed=1), 0) + scores.logit(
            small_models.plain_convnet(seed=2), 0
        )
        with pytest.raises(ValueError, match="a score of one model, got a sum of scores of 2"):
            two.on(small_models.plain_convnet())

    def test_any_callable_is_a_score(self):
        assert scores.as_score(jnp.sum)(self.IMAGE) == self.IMAGE.sum()
        score = scores.logit(small_models.plain_convnet(), 1)
        assert scores.as_score(score) is score

    def test_it_crosses_jit_and_vmap_as_an_argument(self, compilations):
        program = jax.jit(jax.vmap(call, in_axes=(0, None)))
        models = [small_models.plain_convnet(seed=seed) for seed in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
        several = jax.vmap(scores.logit)(stacked, jnp.array([0, 3, 1]))
        values = program(several, self.IMAGE)
        expected = [
            scores.logit(model, label)(self.IMAGE)
            for model, label in zip(models, (0, 3, 1), strict=True)
        ]
        assert_allclose(values, jnp.stack(expected), rtol=1e-5)
        with compilations.counted():
            program(jax.vmap(scores.logit)(stacked, jnp.array([2, 2, 0])), self.IMAGE)
        assert compilations.count <= 1  # that of the scores' own vmap, whose labels are others

    def test_half_precision_scores_of_two_models_add_up_in_the_wider(self):
        half = scores.as_score(lambda image: image.sum().astype(jnp.bfloat16))
        total = half + scores.as_score(jnp.sum)
        assert total(self.IMAGE).dtype == jnp.float32


def answer_pair(image):
    return {"a": image.sum(), "b": (image**2).sum()}


KINDS = MODELS | {"equinox": equinox_model}


class TestJoining:
    """Scores of one model are one score of it."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_leaves_and_value_are_those_of_one_model(self, kind):
        model, image = KINDS[kind](), small_models.image()
        joined = scores.logit(model, 3) - 0.1 * scores.logit(model, 1)
        numbers = [leaf for leaf in jax.tree.leaves(model) if not callable(leaf)]
        # The model's once, two labels, and the factors 0.1 and -1.
        assert len(jax.tree.leaves(joined.model)) == len(numbers)
        assert len(jax.tree.leaves(joined.readout)) <= 5
        assert_allclose(
            joined(image),
            scores.logit(model, 3)(image) - 0.1 * scores.logit(model, 1)(image),
            rtol=1e-5,
        )

    def test_under_a_trace_it_costs_one_model(self):
        model, image = small_models.plain_convnet(), small_models.image((16, 16, 3))
        leaves = []

        def joined(model, image):
            score = scores.logit(model, 3) - 0.1 * scores.logit(model, 2)
            leaves.append(len(jax.tree.leaves(score.model)))
            return score(image)

        def one(model, image):
            return scores.logit(model, 3)(image)

        operations = [
            jax.jit(function).lower(model, image).compile().cost_analysis()["flops"]
            for function in (joined, one)
        ]
        assert leaves == [len(jax.tree.leaves(model))]
        assert operations[0] <= 1.02 * operations[1]

    def test_different_models_add_up(self):
        first, second = small_models.plain_convnet(seed=1), small_models.plain_convnet(seed=2)
        image = small_models.image()
        total = scores.logit(first, 3) - 0.1 * scores.logit(second, 3) + scores.logit(first, 0)
        assert len(jax.tree.leaves(total.model)) == 4
        expected = (
            scores.logit(first, 3)(image)
            - 0.1 * scores.logit(second, 3)(image)
            + scores.logit(first, 0)(image)
        )
        assert_allclose(total(image), expected, rtol=1e-5)

    def test_equal_weights_in_other_arrays_are_another_model(self):
        model, copy = small_models.plain_convnet(), small_models.plain_convnet()
        total = scores.logit(model, 1) + scores.logit(copy, 1)
        assert len(jax.tree.leaves(total.model)) == 4


@pytest.mark.usefixtures("entry_checks")
class TestWhatIsNoScore:
    @pytest.mark.parametrize("score", [3, None, "logit", jnp.zeros(3)], ids=str)
    def test_what_cannot_be_called(self, score):
        with pytest.raises(TypeError, match="expected score to be callable, got"):
            scores.as_score(score)

    @pytest.mark.parametrize(
        ("answer", "error", "got"),
        [
            (lambda x: x.sum((0, 1)), ValueError, r"shape \(3,\); scores\.logit\(model, label\)"),
            (lambda x: x, ValueError, r"shape \(6, 5, 3\)"),
            (lambda x: [x.sum()], TypeError, "list"),
            (lambda x: None, TypeError, "NoneType"),
            (lambda x: 1.5, TypeError, "float"),
            (lambda x: x.sum().astype(int), TypeError, "int32"),
            (lambda x: x.sum() > 0, TypeError, "bool"),
            (lambda x: jax.lax.complex(x.sum(), x.sum()), TypeError, "complex64"),
        ],
        ids=["vector", "image", "list", "none", "number", "integer", "boolean", "complex"],
    )
    def test_what_is_no_real_number(self, answer, error, got):
        with pytest.raises(error, match=f"expected score to return one real .*got {got}"):
            scores.as_score(answer)(small_models.image())


class TestOutcomes:
    """Probabilities and right answers of a model whose logits are the image."""

    # Without it Python would once take a partial for a method.
    MODEL = staticmethod(Partial(lambda image: image.ravel()))

    def test_probability_is_the_softmax(self):
        logits = [1.0, -2.0, 0.5]
        answers = [scores.probability(self.MODEL, c)(as_image(logits)) for c in range(3)]
        assert_allclose(answers, scipy.special.softmax(logits), rtol=1e-6)

    @pytest.mark.parametrize(
        ("logits", "expected"), [([1.0, 3.0, 2.0], [0, 1, 0]), ([2.0, 1.0, 2.0], [0, 0, 0])]
    )
    def test_accuracy_counts_the_only_largest_logit(self, logits, expected):
        answers = [scores.accuracy(self.MODEL, c)(as_image(logits)) for c in range(3)]
        assert_allclose(answers, expected)

    @pytest.mark.parametrize("make_score", [scores.probability, scores.accuracy])
    def test_a_traced_label_out_of_range_is_nan(self, make_score):
        value = jax.jit(lambda label: make_score(self.MODEL, label)(as_image([1.0, 2.0])))(2)
        assert jnp.isnan(value)


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
