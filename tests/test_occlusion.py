"""Occlusion and ablation against loops over windows and segments, and a published case."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal
from small_models import as_image

from saliency_jax import attribution, baselines, scores

SCORE = scores.logit(small_models.plain_convnet(2), 1)
IMAGE = small_models.image((5, 4, 2))
occlusion = jax.jit(
    attribution.occlusion, static_argnames=("window", "stride", "batch_size", "baseline")
)


def occluded_by_loops(window, stride, baseline):
    value = jax.jit(SCORE)
    whole, total, count = float(value(IMAGE)), np.zeros((5, 4)), np.zeros((5, 4))
    top = 0
    while True:
        left = 0
        while True:
            hidden = np.array(IMAGE)
            inside = (slice(top, top + window[0]), slice(left, left + window[1]))
            hidden[inside] = np.asarray(baseline)[inside]
            total[inside] += whole - float(value(hidden))
            count[inside] += 1
            if left + window[1] >= 4:
                break
            left += stride[1]
        if top + window[0] >= 5:
            break
        top += stride[0]
    return total / count


@pytest.mark.parametrize(
    ("window", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 1)), ((2, 3), (2, 3)), ((5, 4), (1, 1))]
)
def test_window_by_window(window, stride):
    # Windows of (2, 2) and (2, 3) do not divide the sides: the last is cut off.
    baseline = baselines.mean_color(IMAGE)
    saliency_map = occlusion(
        SCORE, IMAGE, window=window, stride=stride, baseline=baselines.mean_color, batch_size=4
    )
    expected = occluded_by_loops(window, stride, baseline)
    assert_allclose(saliency_map, expected, rtol=1e-4, atol=1e-5)


def test_single_pixels_of_a_linear_score_are_gradient_times_difference():
    weights = small_models.image((5, 4, 2), seed=1)
    saliency_map = attribution.occlusion(
        small_models.linear_score(weights), IMAGE, window=(1, 1), stride=(1, 1)
    )
    assert_allclose(saliency_map, (weights * IMAGE).sum(-1), rtol=1e-4, atol=1e-5)


def test_many_windows_in_half_precision():
    # In bfloat16, 300 windows can neither be counted nor added up; each hides 300 pixels.
    image = jnp.ones((1, 600, 1), jnp.bfloat16)
    saliency_map = occlusion(
        Partial(jnp.sum), image, window=(1, 300), stride=(1, 1), batch_size=301
    )
    assert saliency_map.dtype == jnp.bfloat16
    assert_array_equal(saliency_map, np.full((1, 600), 300))


class TestFeatureAblation:
    def test_published_case(self):
        score = scores.logit(small_models.captum_multilayer, 0)
        segments = np.array([[0, 1, 2]])
        saliency_map = attribution.feature_ablation(
            score, as_image([20, 50, 30]), segments=segments, batch_size=2
        )
        assert_allclose(saliency_map, [[80, 200, 120]], atol=1e-4)

    def test_segment_by_segment(self):
        segments = np.array([[0, 0, 2, 2], [0, 3, 3, 2], [3, 3, 3, 2], [4, 4, 4, 4], [0, 4, 4, 0]])
        value, expected = jax.jit(SCORE), np.zeros((5, 4))
        for segment in (0, 2, 3, 4):
            hidden = np.array(IMAGE)
            hidden[segments == segment] = 0.5
            expected[segments == segment] = float(value(IMAGE)) - float(value(hidden))
        grey = Partial(baselines.constant, color=0.5)
        saliency_map = attribution.feature_ablation(
            SCORE, IMAGE, segments=segments, baseline=grey, batch_size=2
        )
        assert_allclose(saliency_map, expected, rtol=1e-4, atol=1e-5)

    def test_segments_that_are_windows_are_occlusion(self):
        row, column = np.mgrid[:5, :4]
        segments = row // 2 * 2 + column // 2
        saliency_map = attribution.feature_ablation(SCORE, IMAGE, segments=segments)
        assert_allclose(
            saliency_map,
            occlusion(SCORE, IMAGE, window=(2, 2), stride=(2, 2)),
            rtol=1e-4,
            atol=1e-6,
        )

    def test_a_traced_segment_out_of_range_is_nan(self):
        def ablate(segments):
            return attribution.feature_ablation(
                Partial(jnp.sum), as_image([20, 50, 30]), segments=segments, num_segments=2
            )

        saliency_map = jax.jit(ablate)(jnp.array([[-1, 1, 2]]))
        assert_allclose(saliency_map, [[np.nan, 50, np.nan]])


@pytest.mark.usefixtures("entry_checks")
class TestBadSettings:
    @pytest.mark.parametrize(
        ("window", "stride", "message"),
        [
            ((6, 1), (1, 1), "window's height to be at most the image's 5, got 6"),
            ((1, 0), (1, 1), "window's width to be at least 1, got 0"),
            ((2, 2), (3, 1), "stride along the height to be at most the window's 2, got 3"),
            ((2, 2), (1, 0), "stride along the width to be at least 1, got 0"),
            (3, (1, 1), r"window to be \(height, width\), got 3"),
            ((2, 2), (1, 1, 1), r"stride to be \(vertical, horizontal\), got \(1, 1, 1\)"),
        ],
    )
    def test_windows(self, window, stride, message):
        with pytest.raises(ValueError, match=message):
            attribution.occlusion(SCORE, IMAGE, window=window, stride=stride)

    @pytest.mark.parametrize(
        ("segments", "count", "error", "message"),
        [
            (np.zeros((4, 5), int), None, ValueError, r"sides \(5, 4\), got \(4, 5\)"),
            (np.zeros((5, 4)), None, TypeError, "segments to hold integers, got float64"),
            (np.full((5, 4), 3), 3, ValueError, r"segments to be in 0 \.\. 2, got 3 \.\. 3"),
            (np.full((5, 4), -1), 3, ValueError, r"segments to be in 0 \.\. 2, got -1 \.\. -1"),
            (np.zeros((5, 4), int), 0, ValueError, "num_segments to be at least 1, got 0"),
        ],
    )
    def test_segments(self, segments, count, error, message):
        with pytest.raises(error, match=message):
            attribution.feature_ablation(SCORE, IMAGE, segments=segments, num_segments=count)

    def test_number_of_traced_segments(self):
        with pytest.raises(TypeError, match="num_segments with traced segments, got None"):
            jax.jit(lambda s: attribution.feature_ablation(SCORE, IMAGE, segments=s))(
                jnp.zeros((5, 4), int)
            )
