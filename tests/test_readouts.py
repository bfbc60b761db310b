"""Readouts beyond the logit, and the arithmetic of scores, against NumPy written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from flax import nnx
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from precisions import PRECISIONS, strictly

from saliency_jax import ascent, scores

IMAGE = small_models.image((5, 4, 3))
LOGITS = np.array([3.0, -1.0, 0.5, 2.0])
call = jax.jit(lambda score, image: score(image))


def constant_model(logits):
    return Partial(lambda logits, image: logits + 0.0 * image.sum(), jnp.asarray(logits, float))


def layer(seed=0, depth=4):
    """Features (h, w, depth): a matrix on the channels of every pixel, squared."""
    weights = jax.random.normal(jax.random.key(seed), (3, depth))
    return Partial(_squares, weights)


def _squares(weights, image):
    return (image @ weights) ** 2


def layer_by_hand(features, image=IMAGE):
    (weights,) = (np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(features))
    return np.einsum("hwc,cd->hwd", np.asarray(image, np.float64), weights) ** 2


READOUTS = {
    "margin": lambda index, seed=0: scores.margin(small_models.plain_convnet(seed=seed), index),
    "margin to a class": lambda index, seed=0: scores.margin(
        small_models.plain_convnet(seed=seed), index, 2
    ),
    "neuron": lambda index, seed=0: scores.neuron(layer(seed), index, (index, 1)),
    "neuron at the centre": lambda index, seed=0: scores.neuron(layer(seed), index),
    "channel": lambda index, seed=0: scores.channel(layer(seed), index),
    "direction": lambda index, seed=0: scores.direction(layer(seed), jnp.arange(4.0) * 0.1 + index),
    "deep dream": lambda index, seed=0: (1 + index) * scores.deep_dream(layer(seed)),
    "feature inversion": lambda index, seed=0: scores.feature_inversion(
        layer(seed), IMAGE * (2.0 + index)
    ),
    "arithmetic": lambda index, seed=0: (
        0.5 * scores.channel(layer(seed), index) - scores.deep_dream(layer(seed)) / 3 + 1.5
    ),
}
INDEXED = [name for name in READOUTS if name.startswith(("margin", "neuron", "channel"))]
each_readout = pytest.mark.parametrize("make", READOUTS.values(), ids=READOUTS)
each_indexed = pytest.mark.parametrize("name", INDEXED)


class TestByHand:
    @pytest.mark.parametrize("label", range(4))
    def test_margin_to_the_runner_up(self, label):
        expected = LOGITS[label] - max(LOGITS[j] for j in range(4) if j != label)
        assert call(scores.margin(constant_model(LOGITS), label), IMAGE) == expected

    @pytest.mark.parametrize(("label", "other"), [(0, 3), (1, 2)])
    def test_margin_to_a_class(self, label, other):
        score = scores.margin(constant_model(LOGITS), label, other)
        assert call(score, IMAGE) == LOGITS[label] - LOGITS[other]

    def test_margin_to_a_class_is_a_difference_of_logits(self):
        model = small_models.plain_convnet()
        difference = scores.logit(model, 3) - scores.logit(model, 0)
        assert call(scores.margin(model, 3, 0), IMAGE) == call(difference, IMAGE)

    def test_neuron(self):
        expected = layer_by_hand(layer())
        assert_allclose(
            call(scores.neuron(layer(), 2, (4, 0)), IMAGE), expected[4, 0, 2], rtol=1e-5
        )
        assert_allclose(call(scores.neuron(layer(), 1), IMAGE), expected[2, 2, 1], rtol=1e-5)

    def test_channel_is_the_mean_of_its_neurons(self):
        expected = layer_by_hand(layer()).mean((0, 1))
        for index in range(4):
            assert_allclose(call(scores.channel(layer(), index), IMAGE), expected[index], rtol=1e-5)

    def test_channel_of_a_layer_without_positions(self):
        model = small_models.plain_convnet()
        assert scores.channel(model, 1)(IMAGE) == scores.logit(model, 1)(IMAGE)

    def test_direction(self):
        vector = np.array([0.5, -2.0, 0.0, 1.0], np.float32)
        expected = (layer_by_hand(layer()) @ vector).mean()
        assert_allclose(call(scores.direction(layer(), vector), IMAGE), expected, rtol=1e-5)

    def test_direction_of_one_channel_is_the_channel(self):
        value = call(scores.direction(layer(), jnp.eye(4)[3]), IMAGE)
        assert value == call(scores.channel(layer(), 3), IMAGE)

    def test_deep_dream(self):
        expected = (layer_by_hand(layer()) ** 2).mean()
        assert_allclose(call(scores.deep_dream(layer()), IMAGE), expected, rtol=1e-5)

    def test_deep_dream_follows_the_features_themselves(self):
        # The published code's gradient is that of |F|^2 / 2: the features, pulled back.
        features = layer()
        value, pull_back = jax.vjp(features, IMAGE)
        (expected,) = pull_back(value)
        gradient = jax.grad(scores.deep_dream(features))(IMAGE)
        assert_allclose(gradient * value.size / 2, expected, rtol=1e-4, atol=1e-5)

    def test_feature_inversion(self):
        target = small_models.image((5, 4, 3), seed=7)
        wanted, found = layer_by_hand(layer(), target), layer_by_hand(layer())
        expected = -((found - wanted) ** 2).sum() / (wanted**2).sum()
        score = scores.feature_inversion(layer(), target)
        assert_allclose(call(score, IMAGE), expected, rtol=1e-5)
        assert_allclose(call(score, target), 0.0, atol=1e-10)
        assert call(score, jnp.zeros_like(IMAGE)) == -1.0

    def test_squares_above_the_largest_half_precision_number(self):
        image = jnp.full((2, 3, 1), 300, jnp.float16)
        target = jnp.full((2, 3, 1), 100, jnp.float16)
        assert scores.deep_dream(lambda image: image)(image) == 90_000
        inversion = scores.feature_inversion(lambda image: image, target)
        assert_allclose(inversion(image), -4.0, rtol=1e-6)

    def test_feature_inversion_of_the_pixels_finds_the_target(self):
        target = small_models.image((5, 4, 3), seed=7)
        score = scores.feature_inversion(lambda image: image, target)
        # The energy's Hessian is 2 / |T|^2, so one step of half its inverse is Newton's.
        optimizer = optax.sgd(float(jnp.sum(target**2)) / 2)
        state = ascent.initial_state(IMAGE, optimizer, jax.random.key(0))
        state, _ = ascent.ascent_step(score, state, optimizer)
        assert_allclose(state.params, target, atol=1e-6)


class TestArithmetic:
    A, B = (scores.channel(layer(seed), 1) for seed in (0, 1))

    @pytest.mark.parametrize(
        "combine",
        [
            lambda a, b: a + b,
            lambda a, b: a - b,
            lambda a, b: a + b - 2 * (b - a),
            lambda a, b: -a,
            lambda a, b: 3 * a - b * 0.1,
            lambda a, b: a / 4,
            lambda a, b: a + 1.5,
            lambda a, b: 1 - a,
            lambda a, b: sum([a, b]),
            lambda a, b: np.float32(0.5) * a,
            lambda a, b: np.array(0.5) * a - np.int32(2),
            lambda a, b: jnp.float32(0.5) * a + jnp.float32(0.25),
        ],
    )
    def test_of_scores_is_that_of_their_values(self, combine):
        combined = combine(self.A, self.B)
        assert isinstance(combined, scores.Score)
        expected = combine(float(self.A(IMAGE)), float(self.B(IMAGE)))
        assert_allclose(call(combined, IMAGE), expected, rtol=1e-5, atol=1e-6)
        gradients = [np.asarray(jax.grad(score)(IMAGE)) for score in (self.A, self.B)]
        constant = combine(0.0, 0.0)
        linear = [combine(1.0, 0.0) - constant, combine(0.0, 1.0) - constant]
        expected = linear[0] * gradients[0] + linear[1] * gradients[1]
        assert_allclose(jax.grad(combined)(IMAGE), expected, rtol=1e-5, atol=1e-6)

    def test_any_function_of_an_image_is_a_term(self):
        for total in (self.A + jnp.sum, jnp.sum + self.A, self.A - (lambda image: -image.sum())):
            assert_allclose(call(total, IMAGE), self.A(IMAGE) + IMAGE.sum(), rtol=1e-6)
        assert_allclose(call(jnp.sum - self.A, IMAGE), IMAGE.sum() - self.A(IMAGE), rtol=1e-6)

    def test_a_score_less_a_prior_is_the_objective_of_ascent(self):
        optimizer = optax.sgd(0.1)
        state = ascent.initial_state(IMAGE, optimizer, jax.random.key(0))
        prior = ascent.l2(0.3)
        joined, _ = ascent.ascent_step(self.A - prior, state, optimizer)
        apart, _ = ascent.ascent_step(self.A, state, optimizer, prior=prior)
        assert_allclose(joined.params, apart.params, rtol=1e-6)

    @pytest.mark.parametrize("other", ["a", None, jnp.ones(2), np.ones((1, 1))], ids=str)
    def test_with_anything_else_is_refused(self, other):
        for operation in (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: b * a):
            with pytest.raises(TypeError):
                operation(self.A, other)

    def test_a_product_of_scores_is_refused(self):
        with pytest.raises(TypeError):
            self.A * self.B


class TestInvariants:
    @each_readout
    def test_jit_and_another_number_or_weight(self, make, compilations):
        first, second = make(0), make(1, seed=5)
        compiled = jax.jit(lambda score, image: score(image))
        assert_allclose(compiled(first, IMAGE), first(IMAGE), rtol=1e-5)
        other_image = IMAGE + 0.5
        with compilations.counted():
            value = compiled(second, other_image)
        assert compilations.count == 0
        assert_allclose(value, second(other_image), rtol=1e-5)

    @each_readout
    @pytest.mark.parametrize("precision", [name for name in PRECISIONS if "model" not in name])
    def test_every_precision(self, make, precision):
        dtype, _, double, tolerance = PRECISIONS[precision]
        score, image = make(1), np.asarray(IMAGE)
        expected = call(score, IMAGE)
        with strictly(double):
            # The weights; labels, factors and the target's energy are single numbers.
            cast = jax.tree.map(
                lambda leaf: jnp.asarray(np.asarray(leaf), dtype) if np.ndim(leaf) else leaf, score
            )
            value, gradient = jax.jit(lambda score, image: jax.value_and_grad(score)(image))(
                cast, jnp.asarray(image, dtype)
            )
            assert gradient.dtype == dtype
            assert_allclose(float(value), expected, rtol=tolerance, atol=tolerance)

    @each_readout
    def test_numpy_images_of_any_byte_order(self, make):
        awkward = np.asarray(IMAGE).astype(">f8", order="F")
        assert_allclose(make(1)(awkward), call(make(1), IMAGE), rtol=1e-5)

    @each_readout
    def test_the_gradient_is_that_of_finite_differences(self, make):
        score = make(1)
        expected = small_models.central_differences(jax.jit(lambda image: score(image)), IMAGE)
        assert_allclose(jax.grad(score)(IMAGE), expected, rtol=1e-2, atol=2e-3)

    @each_indexed
    def test_vmap_over_indices_is_a_loop(self, name):
        values = jax.vmap(lambda index: READOUTS[name](index)(IMAGE))(np.arange(2))
        expected = [READOUTS[name](index)(IMAGE) for index in range(2)]
        assert_allclose(values, jnp.stack(expected), rtol=1e-5)

    @each_indexed
    @pytest.mark.parametrize("index", [-1, 5])
    def test_an_index_out_of_range(self, name, index):
        with pytest.raises(ValueError, match=rf"to be in 0 \.\. \d, got {index}"):
            READOUTS[name](index)(IMAGE)
        value, gradient = jax.jit(lambda index: jax.value_and_grad(READOUTS[name](index))(IMAGE))(
            index
        )
        assert jnp.isnan(value)
        assert jnp.isnan(gradient).any()

    def test_a_bound_method_keeps_its_weights_as_leaves(self, compilations):
        class Features(nnx.Module):
            def __init__(self, scale):
                self.scale = nnx.Param(jnp.array(scale))

            def features(self, image):
                return image * self.scale[...]

        compiled = jax.jit(lambda score, image: score(image))
        first = compiled(scores.deep_dream(Features(2.0).features), IMAGE)
        with compilations.counted():
            second = compiled(scores.deep_dream(Features(4.0).features), IMAGE)
        assert compilations.count == 0
        assert_allclose(second, 4 * first, rtol=1e-6)
        (leaf,) = jax.tree.leaves(scores.deep_dream(Features(2.0).features))
        assert_array_equal(leaf, 2.0)


@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    def test_equal_classes(self):
        with pytest.raises(ValueError, match="another class than label 2, got the same"):
            scores.margin(small_models.plain_convnet(), 2, 2)

    def test_a_single_class_has_no_runner_up(self):
        with pytest.raises(ValueError, match="at least 2 classes to have a runner-up, got 1"):
            scores.margin(constant_model([1.0]), 0)(IMAGE)

    def test_neuron_of_a_layer_without_positions(self):
        with pytest.raises(ValueError, match=r"to have shape \(h, w, d\), got \(4,\)"):
            scores.neuron(small_models.plain_convnet(), 0)(IMAGE)

    def test_a_layer_that_cannot_be_called(self):
        with pytest.raises(TypeError, match="expected layer to be callable, got ArrayImpl"):
            scores.channel(IMAGE, 0)

    def test_channel_of_another_type(self):
        with pytest.raises(TypeError, match=r"expected channel to be an integer, got 1\.5"):
            scores.channel(layer(), 1.5)

    def test_vector_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"vector to have shape \(4,\), got \(3,\)"):
            scores.direction(layer(), jnp.ones(3))(IMAGE)
        with pytest.raises(ValueError, match=r"expected vector to have shape \(d,\), got \(1, 4\)"):
            scores.direction(layer(), jnp.ones((1, 4)))

    def test_target_without_features(self):
        with pytest.raises(ValueError, match="target's features not to be all 0"):
            scores.feature_inversion(layer(), jnp.zeros_like(IMAGE))

    def test_features_of_another_size_than_the_targets(self):
        score = scores.feature_inversion(layer(), IMAGE)
        with pytest.raises(ValueError, match=r"shape \(5, 4, 4\), got \(2, 4, 4\)"):
            score(IMAGE[:2])

    def test_scalar_features(self):
        with pytest.raises(ValueError, match=r"to have shape \(\.\.\., d\), got \(\)"):
            scores.deep_dream(lambda image: image.sum())(IMAGE)
