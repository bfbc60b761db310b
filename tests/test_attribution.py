"""The gradient against closed forms, differences and published cases; reductions against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import MODELS

from saliency_jax import attribution, scores

SHAPES = [(6, 5, 3), (3, 7, 1), (1, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_a_linear_score_is_its_weights(shape):
    weights = jax.random.normal(jax.random.key(1), shape)
    gradient = attribution.input_gradient(
        small_models.linear_score(weights), small_models.image(shape)
    )
    assert_array_equal(gradient, weights)


def test_gradient_of_a_quadratic_score():
    # S = x.A.x with A not symmetric: dS/dx = (A + A^T) x
    matrix = jax.random.normal(jax.random.key(1), (12, 12))
    score = Partial(lambda matrix, image: image.ravel() @ matrix @ image.ravel(), matrix)
    image = small_models.image((2, 3, 2))
    exact = np.asarray(matrix, np.float64)
    expected = ((exact + exact.T) @ np.asarray(image).ravel()).reshape(2, 3, 2)
    assert_allclose(attribution.input_gradient(score, image), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make_score", [scores.logit, scores.log_prob])
@pytest.mark.parametrize("channels", [3, 1])
def test_gradient_agrees_with_central_differences(make_score, channels):
    score = make_score(small_models.plain_convnet(channels), 2)
    image = small_models.image((4, 3, channels))
    expected = small_models.central_differences(jax.jit(score), image)
    assert_allclose(jax.jit(attribution.input_gradient)(score, image), expected, atol=2e-4)


def test_input_x_gradient_of_a_linear_score_is_its_terms_which_add_up_to_it():
    weights = jnp.array([[[1.0, -2.0], [0.0, 3.0]]])
    image = jnp.array([[[0.5, 0.25], [1.0, -1.0]]])
    score = small_models.linear_score(weights)
    terms = attribution.input_x_gradient(score, image)
    assert_allclose(terms, [[[0.5, -0.5], [0.0, -3.0]]], rtol=1e-6)
    assert_allclose(terms.sum(), score(image), rtol=1e-6)


def test_saliency_of_a_linear_score_pixel_by_pixel():
    weights = jax.random.normal(jax.random.key(1), (4, 3, 3))
    saliency_map = attribution.saliency(
        small_models.linear_score(weights), small_models.image((4, 3, 3))
    )
    expected = [
        [max(abs(float(weights[i, j, c])) for c in range(3)) for j in range(3)] for i in range(4)
    ]
    assert_array_equal(saliency_map, np.float32(expected))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_model_and_any_shape(kind, shape):
    score = scores.logit(MODELS[kind](shape[-1]), 1)
    saliency_map = np.asarray(jax.jit(attribution.saliency)(score, small_models.image(shape)))
    assert saliency_map.shape == shape[:2]
    assert (saliency_map >= 0).all()
    assert saliency_map.max() > 0


class TestPublishedCases:
    """Toy networks of captum's test suite on which the gradient alone gives the published answer:
    there, LRP epsilon, feature ablation and integrated gradients are gradient times input.
    """

    def gradient_times_input(self, model, label, image):
        score = scores.logit(model, label)
        return image * jax.jit(attribution.input_gradient)(score, image)

    def test_lrp_epsilon_of_a_convolution(self):
        image = small_models.CAPTUM_CONVNET_IMAGE
        label = jnp.argmax(small_models.captum_convnet(image))
        assert_allclose(
            self.gradient_times_input(small_models.captum_convnet, label, image)[..., 0],
            [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]],
            atol=1e-4,
        )

    def test_lrp_epsilon_of_two_dense_layers(self):
        relevance = self.gradient_times_input(
            small_models.captum_lrp, 0, small_models.as_image([1, 2, 3])
        )
        assert_allclose(relevance.ravel(), [18, 36, 54], atol=1e-4)

    def test_feature_ablation_of_a_multilayer_network(self):
        relevance = self.gradient_times_input(
            small_models.captum_multilayer, 0, small_models.as_image([20, 50, 30])
        )
        assert_allclose(relevance.ravel(), [80, 200, 120], atol=1e-4)

    def test_integrated_gradients_of_a_linear_function(self):
        image, baseline = small_models.as_image([10, 5]), small_models.as_image([-1, -3])
        score = small_models.linear_score(small_models.as_image([2, 1]))
        relevance = (image - baseline) * attribution.input_gradient(score, image)
        assert_allclose(relevance.ravel(), [22, 8], atol=1e-4)


class TestReductions:
    REDUCTIONS = {  # noqa: RUF012
        attribution.max_abs: lambda values: max(abs(v) for v in values),
        attribution.sum_abs: lambda values: sum(abs(v) for v in values),
        attribution.sum_channels: lambda values: sum(values),
        attribution.l2_norm: lambda values: sum(v * v for v in values) ** 0.5,
    }
    EACH = pytest.mark.parametrize("reduce", REDUCTIONS, ids=lambda reduce: reduce.__name__)

    @EACH
    @pytest.mark.parametrize("shape", SHAPES)
    def test_pixel_by_pixel(self, reduce, shape):
        values = jax.random.normal(jax.random.key(3), shape)
        expected = np.zeros(shape[:2])
        for i, j in np.ndindex(shape[:2]):
            expected[i, j] = self.REDUCTIONS[reduce]([float(v) for v in values[i, j]])
        assert_allclose(reduce(values), expected, rtol=1e-6, atol=1e-6)

    @EACH
    def test_nothing_attributed_gives_an_empty_map(self, reduce):
        assert_array_equal(reduce(jnp.zeros((2, 3, 3))), np.zeros((2, 3)))

    @EACH
    def test_half_precision_and_numpy(self, reduce):
        values = np.array([[[300.0, -400.0]]], ">f8")
        expected = reduce(jnp.asarray(values.astype(np.float32)))
        assert_array_equal(reduce(values), expected)
        half = reduce(jnp.asarray(values.astype(np.float16)))
        assert half.dtype == jnp.float16
        assert_allclose(half, expected)

    @pytest.mark.parametrize("size", [1e-25, 1e25])
    def test_norm_of_values_whose_squares_are_no_numbers(self, size):
        norm = attribution.l2_norm(jnp.array([[[3.0, -4.0], [0.0, 0.0]]]) * size)
        assert_allclose(norm, [[5 * size, 0]], rtol=1e-6)

    @EACH
    @pytest.mark.usefixtures("entry_checks")
    def test_bad_input(self, reduce):
        with pytest.raises(ValueError, match=r"attribution to have .* got \(2, 3\)"):
            reduce(jnp.zeros((2, 3)))
        with pytest.raises(TypeError, match="attribution to hold floats, got int32"):
            reduce(jnp.zeros((2, 3, 3), jnp.int32))


@pytest.mark.parametrize("method", [attribution.input_gradient, attribution.saliency])
@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    SCORE = staticmethod(jnp.sum)

    @pytest.mark.parametrize(
        ("image", "error", "message"),
        [
            (
                jnp.zeros((2, 4, 4, 3)),
                ValueError,
                r"one image .* batch of shape \(2, 4, 4, 3\).*vmap",
            ),
            (jnp.zeros((4, 4)), ValueError, r"shape \(h, w, c\), got \(4, 4\).*\[\.\.\., None\]"),
            (jnp.zeros(4), ValueError, r"shape \(h, w, c\), got \(4,\)"),
            (jnp.zeros((0, 4, 3)), ValueError, r"shape \(h, w, c\), got \(0, 4, 3\)"),
            (np.zeros((4, 4, 3), np.uint8), TypeError, "hold floats, got uint8"),
            ([[[0.0]]], TypeError, "to be an array, got list"),
            (jnp.array([[[jnp.nan, jnp.inf, 0.0]]]), ValueError, "finite, got 2 .* among its 3"),
        ],
    )
    def test_image(self, method, image, error, message):
        with pytest.raises(error, match=message):
            method(self.SCORE, image)

    def test_shape_of_a_traced_image(self, method):
        with pytest.raises(ValueError, match=r"got \(4, 4\)"):
            jax.jit(lambda image: method(self.SCORE, image))(jnp.zeros((4, 4)))

    def test_model_in_place_of_a_score(self, method):
        with pytest.raises(
            ValueError, match=r"to return one real number, got shape \(4,\); .*logit"
        ):
            method(small_models.plain_convnet(), small_models.image())
