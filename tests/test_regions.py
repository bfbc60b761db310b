"""Boxes, masks and points by hand, by loops over pixels, and the published case."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import metrics

SALIENCY = small_models.image((6, 5, 1), seed=4)[..., 0]
MASK = np.zeros((6, 5), bool)
MASK[1:4, 2:4] = MASK[5, 0] = True


def test_published_case_of_mass_and_rank():
    # The map is 1 on an area as large as the mask, half of it inside.
    saliency_map = jnp.zeros((6, 5)).at[2:4, 1:4].set(1.0)
    mask = jnp.zeros((6, 5), bool).at[1:3, 1:4].set(True)
    assert_allclose(metrics.relevance_mass_accuracy(saliency_map, mask), 0.5)
    assert_allclose(metrics.relevance_rank_accuracy(saliency_map, mask), 0.5)


def test_box_mask_is_half_open_and_may_reach_out():
    expected = np.zeros((4, 5), bool)
    expected[1:3, 0:2] = True
    assert_array_equal(metrics.box_mask((1, 0, 3, 2), (4, 5)), expected)
    assert_array_equal(metrics.box_mask(jnp.array([-3, 0, 9, 5]), (4, 5)), np.ones((4, 5), bool))
    assert not metrics.box_mask((2, 2, 2, 4), (4, 5)).any()


class TestBoxIou:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ((0, 0, 4, 4), (2, 1, 6, 5)),
            ((1, 1, 3, 5), (1, 1, 3, 5)),
            ((0, 0, 2, 2), (2, 2, 4, 4)),
            ((0, 0, 6, 6), (2, 2, 3, 5)),
        ],
    )
    def test_counting_pixels(self, first, second):
        a, b = (np.asarray(metrics.box_mask(box, (6, 6))) for box in (first, second))
        expected = (a & b).sum() / (a | b).sum()
        assert_allclose(metrics.box_iou(first, second), expected, rtol=1e-6)
        assert metrics.box_iou(second, first) == metrics.box_iou(first, second)

    def test_many_at_once(self):
        boxes = jnp.array([[0, 0, 2, 2], [0, 1, 2, 3]])
        assert_allclose(jax.vmap(metrics.box_iou)(boxes, boxes[::-1]), [1 / 3, 1 / 3], rtol=1e-6)

    def test_of_nothing_it_is_undefined(self):
        assert jnp.isnan(metrics.box_iou((1, 1, 1, 1), (2, 2, 2, 2)))

    def test_the_best_of_several_by_counting_pixels(self):
        boxes = np.array([[0, 0, 2, 2], [2, 2, 8, 9], [0, 0, 0, 0], [4, 4, 8, 8]])
        masks = [np.asarray(metrics.box_mask(box, (9, 9))) for box in boxes]
        found = np.array([[2, 2, 8, 8], [0, 0, 3, 2], [4, 5, 8, 8]])
        expected = [
            max((a & b).sum() / (a | b).sum() for b in masks)
            for a in (np.asarray(metrics.box_mask(box, (9, 9))) for box in found)
        ]
        best = jax.jit(jax.vmap(metrics.best_box_iou, in_axes=(0, None)))
        assert_allclose(best(found, boxes), expected, rtol=1e-6)
        assert metrics.best_box_iou(found[0], boxes[1:2]) == metrics.box_iou(found[0], boxes[1])

    @pytest.mark.parametrize("boxes", [np.ones(4), np.ones((0, 4)), np.ones((2, 3))])
    def test_several_boxes_have_two_axes(self, boxes, entry_checks):
        with pytest.raises(ValueError, match=r"expected (boxes|a box) .*got shape|\(m, 4\), got"):
            metrics.best_box_iou((0, 0, 1, 1), boxes)


class TestPointingGame:
    @pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2.5])
    def test_point_by_point(self, tolerance):
        play = jax.jit(jax.vmap(metrics.pointing_game, in_axes=(0, None)))
        points = [(row, column) for row in range(6) for column in range(5)]
        maps = jnp.stack([jnp.zeros((6, 5)).at[point].set(1.0) for point in points])
        on_object = np.argwhere(MASK)
        expected = [
            float(np.min(np.hypot(*(on_object - point).T)) <= tolerance) for point in points
        ]
        result = play(maps, MASK) if tolerance == 0 else jax.vmap(
            lambda saliency_map: metrics.pointing_game(saliency_map, MASK, tolerance=tolerance)
        )(maps)  # fmt: skip
        assert_array_equal(result, expected)

    def test_of_the_mask_itself_it_is_a_hit(self):
        assert metrics.pointing_game(jnp.asarray(MASK, float), MASK) == 1

    def test_of_equal_values_it_is_the_share_that_hits(self):
        assert_allclose(metrics.pointing_game(jnp.ones((6, 5)), MASK), 7 / 30, rtol=1e-6)

    def test_an_empty_mask_is_never_hit(self):
        assert metrics.pointing_game(SALIENCY, np.zeros((6, 5), bool), tolerance=9) == 0


def test_mass_is_the_mean_of_the_mask_weighted_by_the_map():
    expected = np.average(MASK, weights=np.asarray(SALIENCY, np.float64))
    assert_allclose(metrics.relevance_mass_accuracy(SALIENCY, MASK), expected, rtol=1e-6)
    assert_allclose(metrics.relevance_mass_accuracy(jnp.ones((6, 5)), MASK), 7 / 30, rtol=1e-6)
    assert jnp.isnan(metrics.relevance_mass_accuracy(jnp.zeros((6, 5)), MASK))


def test_rank_counts_the_most_salient():
    most_salient = np.argsort(-np.ravel(SALIENCY))[:7]
    expected = MASK.ravel()[most_salient].mean()
    assert_allclose(metrics.relevance_rank_accuracy(SALIENCY, MASK), expected, rtol=1e-6)
    assert jnp.isnan(metrics.relevance_rank_accuracy(SALIENCY, np.zeros((6, 5), bool)))


def test_rank_of_ties_is_the_mean_over_ways_to_break_them():
    # One pixel is above fourteen equal ones, of which six more have to be picked.
    rng = np.random.default_rng(0)
    values = np.asarray(SALIENCY)
    tied = (np.median(values) < values).astype(np.float32) + (values.max() == values)
    broken = [tied + rng.uniform(0, 0.5, tied.shape) for _ in range(4000)]
    picked = np.argsort(-np.reshape(broken, (4000, -1)), axis=1)[:, :7]
    shares = MASK.ravel()[picked].mean(1)
    result = metrics.relevance_rank_accuracy(jnp.asarray(tied), MASK)
    assert_allclose(result, shares.mean(), atol=5 * shares.std() / 4000**0.5)
    assert shares.std() > 0.05


@pytest.mark.usefixtures("entry_checks")
class TestBadSettings:
    def test_boxes(self):
        with pytest.raises(ValueError, match=r"that ends after it begins, got \(3, 0, 1, 2\)"):
            metrics.box_iou((0, 0, 1, 1), (3, 0, 1, 2))
        with pytest.raises(ValueError, match=r"box \(y0, x0, y1, x1\), got shape \(3,\)"):
            metrics.box_mask((0, 1, 2), (4, 4))
        with pytest.raises(ValueError, match="height to be at least 1, got 0"):
            metrics.box_mask((0, 0, 1, 1), (0, 4))

    @pytest.mark.parametrize("end", [np.nan, np.inf])
    def test_boxes_without_ends(self, end):
        for call in (
            lambda box: metrics.box_iou((0, 0, 1, 1), box),
            lambda box: metrics.box_mask(box, (4, 4)),
        ):
            with pytest.raises(ValueError, match="box to be finite, got 1 infinite or nan"):
                call((0, 0, 1, end))

    @pytest.mark.parametrize(
        "metric",
        [metrics.pointing_game, metrics.relevance_mass_accuracy, metrics.relevance_rank_accuracy],
    )
    def test_masks(self, metric):
        with pytest.raises(ValueError, match=r"the map's sides \(6, 5\), got \(5, 6\)"):
            metric(SALIENCY, MASK.T)
        with pytest.raises(TypeError, match="mask to hold booleans, got int64"):
            metric(SALIENCY, MASK.astype(int))
        with pytest.raises(TypeError, match="mask to hold booleans, got list"):
            metric(SALIENCY, MASK.tolist())

    def test_shares_of_negative_values(self):
        with pytest.raises(ValueError, match="saliency_map to be at least 0, got -"):
            metrics.relevance_mass_accuracy(-SALIENCY, MASK)

    def test_tolerance(self):
        with pytest.raises(ValueError, match="tolerance to be at least 0, got -1"):
            metrics.pointing_game(SALIENCY, MASK, tolerance=-1)
