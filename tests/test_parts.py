"""The six methods of parts: their segments, what hides them, and their scores' rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import as_image

from saliency_jax import attribution
from saliency_jax.segments import as_segments, paint, show, show_segments

SAMPLED = {"key": jax.random.key(3), "num_samples": 12}
METHODS = {
    "feature_ablation": attribution.feature_ablation,
    "lime": functools.partial(attribution.lime, ridge=0.0, **SAMPLED),
    "kernel_shap": functools.partial(attribution.kernel_shap, **SAMPLED),
    "sampled_shapley_values": functools.partial(attribution.sampled_shapley_values, **SAMPLED),
    "total_sobol_indices": functools.partial(attribution.total_sobol_indices, **SAMPLED),
    "hsic": functools.partial(attribution.hsic, **SAMPLED),
}
ADDITIVE = ("feature_ablation", "lime", "kernel_shap", "sampled_shapley_values")
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
IMAGE = as_image([1, 2, 4])
ONE_A_PIXEL = np.array([[0, 1, 2]])


def half_sum(image):
    return image.sum().astype(jnp.bfloat16)


@pytest.mark.parametrize("name", ADDITIVE)
def test_a_half_precision_score_is_solved_in_single(name):
    values = METHODS[name](Partial(half_sum), IMAGE, segments=ONE_A_PIXEL)
    assert values.dtype == jnp.float32
    assert_allclose(values, [[1, 2, 4]], rtol=1e-5)


@pytest.mark.parametrize("name", ["hsic", "total_sobol_indices"])
def test_a_half_precision_score_that_rounds_nothing_changes_nothing(name):
    score = Partial(lambda image: jnp.round(image.sum()))
    half = Partial(lambda image: jnp.round(image.sum()).astype(jnp.bfloat16))
    expected = METHODS[name](score, IMAGE, segments=ONE_A_PIXEL)
    assert_allclose(METHODS[name](half, IMAGE, segments=ONE_A_PIXEL), expected, rtol=1e-6)


def test_kernel_shap_of_distant_ids():
    values = attribution.kernel_shap(
        jnp.sum, jnp.ones((1, 2, 1)), segments=jnp.array([[0, 4000]]), key=jax.random.key(0)
    )
    assert_allclose(values, [[1, 1]], rtol=1e-5)


@each_method
def test_ids_with_gaps_are_as_if_renumbered(method):
    image, score = small_models.image((2, 3, 1)), small_models.plain_convnet(1)
    numbered = np.array([[0, 0, 2], [1, 1, 2]])
    expected = method(Partial(lambda model, x: model(x)[1], score), image, segments=numbered)
    # The usual id of what has no label, as a PNG has it; 64 bits of the other byte order.
    for ids in (np.array([0, 15, 255], np.uint8), np.array([7, 8, 2**40], ">i8")):
        values = method(Partial(lambda model, x: model(x)[1], score), image, segments=ids[numbered])
        assert_array_equal(values, expected)


@each_method
def test_traced_segments_are_taken_as_they_are(method):
    def traced(segments):
        return method(Partial(jnp.sum), IMAGE, segments=segments, num_segments=3)

    known = method(Partial(jnp.sum), IMAGE, segments=ONE_A_PIXEL)
    assert_allclose(jax.jit(traced)(ONE_A_PIXEL), known, rtol=1e-4, atol=1e-6)
    out_of_range = jax.jit(traced)(jnp.array([[-1, 1, 3]]))
    assert_array_equal(jnp.isnan(out_of_range), [[True, False, True]])


@each_method
@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    @pytest.mark.parametrize(
        ("segments", "error", "message"),
        [
            ([[0, 1, 2]], TypeError, "segments to be an array, got list"),
            (None, TypeError, "segments to be an array, got NoneType"),
            (np.zeros((1, 3)), TypeError, "segments to hold integers, got float64"),
            (np.zeros((1, 3), bool), TypeError, "segments to hold integers, got bool"),
            (np.zeros((3, 1), int), ValueError, r"image's sides \(1, 3\), got \(3, 1\)"),
            (np.array([[0, -1, 1]]), ValueError, r"segments to be in 0 \.\. , got -1 \.\. 1"),
        ],
    )
    def test_segments(self, method, segments, error, message):
        with pytest.raises(error, match=message):
            method(jnp.sum, IMAGE, segments=segments)

    def test_number_of_traced_segments(self, method):
        with pytest.raises(TypeError, match="num_segments with traced segments, got None"):
            jax.jit(lambda segments: method(jnp.sum, IMAGE, segments=segments))(ONE_A_PIXEL)

    @pytest.mark.parametrize(
        ("baseline", "error", "message"),
        [
            (0.5, TypeError, "baseline to be an array, got float"),
            (lambda image: None, TypeError, "baseline to be an array, got NoneType"),
            (lambda image: image[:, :2], ValueError, r"image's shape \(1, 3, 1\), got \(1, 2, 1\)"),
        ],
        ids=["number", "none", "shape"],
    )
    def test_baseline(self, method, baseline, error, message):
        with pytest.raises(error, match=message):
            method(jnp.sum, IMAGE, segments=ONE_A_PIXEL, baseline=baseline)


class TestShown:
    def test_shown_and_hidden_parts_are_the_images_and_the_baselines_bits(self):
        image, baseline = (1000 * small_models.image((3, 4, 2), seed=seed) for seed in range(2))
        mask = np.random.default_rng(0).random((3, 4)) < 0.5
        shown = show(image, mask, baseline)
        assert_array_equal(shown, np.where(mask[..., None], image, baseline))
        half = show(image, np.full((3, 4), 0.25), baseline)
        assert_allclose(half, 0.25 * image + 0.75 * baseline, rtol=1e-6)

    def test_segments_share_by_share(self):
        image, baseline = (small_models.image((2, 3, 2), seed=seed) for seed in range(2))
        segments, shares = np.array([[0, 0, 2], [1, 2, 2]]), [0.0, 0.5, 1.0]
        shown = show_segments(image, jnp.array(shares), jnp.asarray(segments), baseline)
        for pixel in np.ndindex(segments.shape):
            share = shares[segments[pixel]]
            expected = share * image[pixel] + (1 - share) * baseline[pixel]
            assert_allclose(shown[pixel], expected, rtol=1e-6)

    def test_painted_values(self):
        segments, count = as_segments(np.array([[3, 9], [9, 5]]), None, jnp.ones((2, 2, 1)))
        assert count == 3
        assert_array_equal(segments, [[0, 2], [2, 1]])
        assert_array_equal(paint(jnp.array([1.0, 2.0, 4.0]), segments), [[1, 4], [4, 2]])

    @pytest.mark.usefixtures("entry_checks")
    def test_a_mask_of_another_shape(self):
        image = jnp.ones((2, 3, 1))
        with pytest.raises(ValueError, match=r"mask to have the image's sides \(2, 3\), got \(3,"):
            show(image, jnp.ones((3, 2)), image)
