"""Randomized weights, of networks whose gradients are known and of every kind of model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution, metrics, models, scores

KEY = jax.random.key(9)
IMAGE = small_models.image((3, 2, 2))
LAYERS = {
    "function with weights": ("1", "0"),
    "registered dataclass": ("0",),
    "flax nnx": ("dense", "norm", "convolution"),
    "flax linen": ("Dense_0", "Conv_0"),
}


def negated(parameter, key):
    return -parameter


def two_layers(weights, image):
    return weights["b"]["w"] @ (weights["a"]["w"] @ image.ravel())


def score_of_two_layers():
    a, b = small_models.image((4, 12, 1))[..., 0] - 0.5, small_models.image((1, 4, 1), seed=1)
    return Partial(two_layers, {"a": {"w": a}, "b": {"w": b[0, :, 0] - 0.5}})


def convolved(kernel, feature_map):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        feature_map[None], kernel, (1, 1), "SAME", dimension_numbers=layout
    )[0]


def residual(weights, image):
    # A layer in the image's type, as networks take their weights.
    weights = jax.tree.map(lambda leaf: leaf.astype(image.dtype), weights)
    feature_map = convolved(weights["stem"]["kernel"], image)
    for stage in weights["stages"]:
        for block in stage:
            inner = jax.nn.relu(convolved(block["conv1"]["kernel"], feature_map))
            feature_map = feature_map + convolved(block["conv2"]["kernel"], inner)
    return feature_map.mean((0, 1)) @ weights["head"]["kernel"] + weights["head"]["bias"]


def residual_network():
    """A stem, two stages of two blocks of two convolutions, and a linear head."""

    def kernel(*shape):
        return {"kernel": np.zeros(shape, np.float32)}

    def block():
        return {"conv2": kernel(3, 3, 4, 4), "conv1": kernel(3, 3, 4, 4)}

    weights = {
        "stem": kernel(3, 3, 2, 4),
        "stages": [[block(), block()], [block(), block()]],
        "head": kernel(4, 3) | {"bias": np.zeros(3, np.float32)},
    }
    return Partial(residual, weights)


class TestLayers:
    @pytest.mark.parametrize("kind", LAYERS)
    def test_of_every_kind_of_model_from_the_top(self, kind):
        score = scores.logit(small_models.MODELS[kind](2), 1)
        assert metrics.layer_names(score, IMAGE) == LAYERS[kind]

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
    def test_of_a_residual_network(self, dtype):
        names = metrics.layer_names(scores.logit(residual_network(), 1), IMAGE.astype(dtype))
        blocks = [f"stages.{stage}.{block}" for stage in (1, 0) for block in (1, 0)]
        convolutions = [f"{block}.conv{n}" for block in blocks for n in (2, 1)]
        assert names == ("head", *convolutions, "stem")

    def test_of_a_joined_readout_each_layer_is_there_once(self):
        network = residual_network()
        joined = scores.logit(network, 1) - 0.5 * scores.logit(network, 0)
        expected = metrics.layer_names(scores.logit(network, 1), IMAGE)
        assert metrics.layer_names(joined, IMAGE) == expected

    def test_what_a_readout_holds_is_no_layer(self):
        network = residual_network()
        score = scores.direction(network, jnp.ones(3))
        assert metrics.layer_names(score, IMAGE) == metrics.layer_names(
            scores.logit(network, 1), IMAGE
        )

    def test_what_is_not_used_is_left_out(self):
        weights = {"idle": {"w": jnp.ones(3)}, "busy": {"w": jnp.ones((3, 2, 2))}}
        score = Partial(lambda weights, image: jnp.sum(weights["busy"]["w"] * image), weights)
        assert metrics.layer_names(score, IMAGE) == ("busy",)


class TestCascade:
    def test_of_weights_that_change_their_sign(self):
        # The gradient is the product of both layers: once negated, then twice.
        similarities = metrics.cascading_randomization(
            attribution.input_gradient, score_of_two_layers(), IMAGE, key=KEY, redraw=negated
        )
        assert_allclose(similarities, [1, -1, 1], atol=1e-5)

    def test_is_from_the_top_unless_told_otherwise(self):
        score = score_of_two_layers()

        def gradients(layers):
            return metrics.cascading_randomization(
                attribution.input_gradient, score, IMAGE, key=KEY, layers=layers,
                similarity=lambda original, new: new,
            )  # fmt: skip

        top_down, bottom_up = gradients(None), gradients(("a", "b"))
        assert_array_equal(gradients(("b", "a")), top_down)
        # With the first layer's weights the gradient lies in the span of its rows.
        first = np.asarray(score.args[0]["a"]["w"], np.float64)
        onto = first.T @ np.linalg.pinv(first.T)
        for gradient, expected in ((top_down[1], True), (bottom_up[1], False)):
            gradient = np.ravel(gradient)
            assert np.allclose(onto @ gradient, gradient, atol=1e-4) == expected
        assert_allclose(top_down[2], bottom_up[2], rtol=1e-5)

    @pytest.mark.parametrize("kind", LAYERS)
    def test_of_every_kind_of_model_nothing_randomized_is_the_same_map(self, kind):
        score = scores.logit(small_models.MODELS[kind](2), 1)
        cascade = jax.jit(
            lambda score: metrics.cascading_randomization(
                attribution.input_gradient, score, IMAGE, key=KEY,
                similarity=lambda old, new: jnp.stack(
                    [metrics.spearman_correlation(old, new), jnp.max(jnp.abs(new - old))]
                ),
            )
        )  # fmt: skip
        correlations, changes = cascade(score).T
        assert correlations.shape == (len(LAYERS[kind]) + 1,)
        assert_allclose(correlations[0], 1, atol=1e-5)
        assert changes[0] == 0
        assert (changes[1:] > 0).all()

    def test_prefixes_are_layers(self):
        score = scores.logit(residual_network(), 1)
        counted = metrics.cascading_randomization(
            # The score of a method that only counts how many weights have become 7.
            lambda score, image: jnp.array(
                [jnp.sum(leaf == 7.0) for leaf in jax.tree.leaves(score) if leaf.ndim], float
            ).sum(),
            score, IMAGE, key=KEY, layers=("head", "stages.1", "stem"),
            similarity=lambda original, new: new - original,
            redraw=lambda parameter, key: jnp.full_like(parameter, 7),
        )  # fmt: skip
        assert_array_equal(np.diff(counted), [4 * 3 + 3, 4 * 3 * 3 * 4 * 4, 3 * 3 * 2 * 4])

    def test_a_networks_named_layers_are_layers(self):
        network = small_models.short_resnet(18, 4, width=2, stem=models.HALVING_STEM)
        options = {"key": KEY, "similarity": lambda original, new: new}

        def numbers_that_are_7(score, image):
            return jnp.stack(
                [jnp.sum(leaf == 7.0, dtype=float) for leaf in jax.tree.leaves(score.model)]
            )

        def cascade(layers):
            return metrics.cascading_randomization(
                numbers_that_are_7, scores.logit(network, 1), jnp.zeros((16, 16, 3)),
                layers=layers, redraw=lambda parameter, key: jnp.full_like(parameter, 7), **options,
            )  # fmt: skip

        by_name = cascade(("logits", "stage 4", "stage 3", "stage 2", "stage 1", "stem"))
        by_path = cascade(("fc", "stages.3", "stages.2", "stages.1", "stages.0", "bn1", "conv1"))
        assert_array_equal(by_name, np.asarray(by_path)[[0, 1, 2, 3, 4, 5, 7]])
        # All numbers are weights.
        assert_array_equal(by_name[-1], [leaf.size for leaf in jax.tree.leaves(network)])
        with pytest.raises(ValueError, match="got 'stage 5'; did you mean 'stage 4'"):
            cascade(("stage 5",))
        with pytest.raises(ValueError, match=r"logits, stage 4.* stem.*, got 'normalization'"):
            cascade(("normalization",))

    def test_of_a_joined_readout_the_model_forgets_once(self):
        # A difference of two logits of one linear model, all of whose weights change their sign.
        weights = small_models.image((3, 12, 1))[..., 0]
        model = Partial(lambda weights, image: weights @ image.ravel(), weights)
        joined = scores.logit(model, 1) - 0.5 * scores.logit(model, 0)
        gradients = metrics.cascading_randomization(
            attribution.input_gradient, joined, IMAGE, key=KEY, redraw=negated,
            similarity=lambda original, new: new,
        )  # fmt: skip
        expected = (weights[1] - 0.5 * weights[0]).reshape(IMAGE.shape)
        assert_allclose(gradients, [expected, -expected], rtol=1e-5)

    def test_a_direction_is_not_redrawn(self):
        weights, vector = small_models.image((3, 12, 1))[..., 0], jnp.array([1.0, -2.0, 0.5])
        model = Partial(lambda weights, image: weights @ image.ravel(), weights)
        gradients = metrics.independent_randomization(
            attribution.input_gradient, scores.direction(model, vector), IMAGE, key=KEY,
            redraw=negated, similarity=lambda original, new: new,
        )  # fmt: skip
        expected = -(vector @ weights).reshape(IMAGE.shape)
        assert_allclose(gradients, [expected], rtol=1e-5)


def test_each_layer_alone():
    similarities = metrics.independent_randomization(
        attribution.input_gradient, score_of_two_layers(), IMAGE, key=KEY, redraw=negated
    )
    assert_allclose(similarities, [-1, -1], atol=1e-5)
    settings = {"key": KEY, "layers": ("b", "a"), "similarity": lambda original, new: new}
    alone, cascade = (
        randomization(attribution.input_gradient, score_of_two_layers(), IMAGE, **settings)
        for randomization in (metrics.independent_randomization, metrics.cascading_randomization)
    )
    # The first layer to go is drawn alike, and the second is not alone in a cascade.
    assert_array_equal(alone[0], cascade[1])
    assert not np.allclose(alone[1], cascade[2])


def test_permuting_keeps_the_values_and_not_their_places():
    parameter = small_models.image((4, 3, 2))
    new = metrics.permuted(parameter, KEY)
    assert_array_equal(np.sort(np.ravel(new)), np.sort(np.ravel(parameter)))
    assert not np.array_equal(new, parameter)


class TestRandomLogit:
    WEIGHTS = small_models.image((3, 12, 1))[..., 0]

    def similarity(self, key, label=1):
        model = Partial(lambda weights, image: weights @ image.ravel(), self.WEIGHTS)
        return metrics.random_logit(attribution.input_gradient, model, label, IMAGE, key=key)

    def test_is_that_of_one_of_the_other_classes(self):
        # The gradients of a linear model are its rows.
        keys = jax.random.split(KEY, 30)
        similarities = np.asarray(jax.vmap(self.similarity)(keys))
        expected = [scipy.stats.spearmanr(self.WEIGHTS[1], self.WEIGHTS[c])[0] for c in (0, 2)]
        distance = np.abs(similarities[:, None] - np.array(expected)[None])
        assert distance.min(1).max() < 1e-5
        assert set(distance.argmin(1)) == {0, 1}

    def test_a_traced_label_out_of_range_is_nan(self):
        assert jnp.isnan(jax.jit(self.similarity)(KEY, 3))


@pytest.mark.usefixtures("entry_checks")
class TestBadSettings:
    def test_layers(self):
        score = score_of_two_layers()
        for randomization in (metrics.cascading_randomization, metrics.independent_randomization):
            with pytest.raises(ValueError, match="different layers of b, a, got 'c'"):
                randomization(attribution.saliency, score, IMAGE, key=KEY, layers=("b", "c"))

    def test_redrawn_parameters(self):
        for redraw, error, message in (
            (
                lambda parameter, key: parameter[:1],
                ValueError,
                r"its shape \(4, 12\), got \(1, 12\)",
            ),
            (lambda parameter, key: None, TypeError, "redrawn parameter to be an array, got None"),
        ):
            with pytest.raises(error, match=message):
                metrics.cascading_randomization(
                    attribution.saliency, score_of_two_layers(), IMAGE, key=KEY, redraw=redraw
                )

    def test_scores_without_weights(self):
        with pytest.raises(ValueError, match="whose leaves are its model's weights, got no"):
            metrics.cascading_randomization(attribution.saliency, jnp.sum, IMAGE, key=KEY)

    @pytest.mark.parametrize(("label", "classes"), [(3, 3), (-1, 3)])
    def test_labels(self, label, classes):
        def model(image):
            return jnp.ones(classes) * image.sum()

        with pytest.raises(ValueError, match=rf"label to be in 0 \.\. 2, got {label}"):
            metrics.random_logit(attribution.saliency, model, label, IMAGE, key=KEY)

    def test_one_class(self):
        with pytest.raises(ValueError, match="at least 2 classes to have another one, got 1"):
            metrics.random_logit(
                attribution.saliency, lambda image: image.sum()[None], 0, IMAGE, key=KEY
            )
