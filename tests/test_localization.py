"""Graph-cut localization against brute force over all labellings, and on objects that are known."""

import concurrent.futures
import itertools
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from numpy.testing import assert_array_equal

from saliency_jax import metrics
from saliency_jax.localization import (
    bounding_box,
    largest_component,
    localize,
    localize_by_threshold,
)

EIGHT_NEIGHBOURS = np.ones((3, 3), int)
# GrabCut's weight of neighbours, and what OpenCV adds to a covariance without volume.
GAMMA, VARIANCE = 50.0, 0.01


def rectangle(sides, y0, x0, y1, x1):
    row, column = np.mgrid[: sides[0], : sides[1]]
    return (row >= y0) & (row < y1) & (column >= x0) & (column < x1)


SIDES = (24, 20)
OBJECT = rectangle(SIDES, 4, 6, 19, 17)
PART = rectangle(SIDES, 8, 8, 12, 12)
BLUE, RED = (100.0, 150.0, 200.0), (200.0, 60.0, 50.0)


def scene(*objects, noise=5.0, seed=0):
    """A noisy blue image with objects, pairs of a mask and a colour in 0 .. 255."""
    levels = np.broadcast_to(BLUE, (*SIDES, 3))
    for mask, color in objects:
        levels = np.where(mask[..., None], color, levels)
    levels = levels + np.random.default_rng(seed).normal(0, noise, levels.shape)
    return np.clip(levels / 255, 0, 1)


def pointing_at(part, whole, seed=1):
    """A grainy map that is largest in a part of the object and least outside of the object."""
    return 2.0 * part + 1.0 * whole + np.random.default_rng(seed).random(SIDES)


def brute_force(levels, is_foreground, is_background):
    """The cut of least energy among all labellings, and by how much it is the least.

    Every component of a mixture of few colours is one of the colours, with the variance that
    OpenCV adds.
    """
    points = levels.reshape(-1, 3).astype(float)

    def cost(colors):
        squares = ((points[:, None] - colors[None]) ** 2).sum(-1)
        density = np.exp(-squares / (2 * VARIANCE)) / VARIANCE**1.5
        return -np.log(density.mean(1))

    costs = np.stack([cost(points[is_background.ravel()]), cost(points[is_foreground.ravel()])])
    places = np.argwhere(np.ones(levels.shape[:2]))
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(places)), 2)
        if np.abs(places[i] - places[j]).max() == 1
    ]
    squares = np.array([((points[i] - points[j]) ** 2).sum() for i, j in pairs])
    lengths = np.array([np.linalg.norm(places[i] - places[j]) for i, j in pairs])
    weights = GAMMA / lengths * np.exp(-squares / (2 * squares.mean()))

    labellings = np.array(list(itertools.product([0, 1], repeat=len(points))))
    energy = costs[labellings, np.arange(len(points))].sum(1)
    for weight, (i, j) in zip(weights, pairs, strict=True):
        energy += weight * (labellings[:, i] != labellings[:, j])
    energy[~labellings[:, is_foreground.ravel()].all(1)] = np.inf
    best, second = np.argsort(energy)[:2]
    return labellings[best].reshape(is_foreground.shape) == 1, energy[second] - energy[best]


def largest_by_scipy(mask):
    labels, count = scipy.ndimage.label(mask, EIGHT_NEIGHBOURS)
    sizes = scipy.ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    return labels == 1 + np.argmax(sizes), sizes


class TestLocalize:
    def test_the_cut_is_the_best_of_all_labellings(self):
        sizes_found = set()
        for seed in range(40):
            generator = np.random.default_rng(seed)
            levels = generator.integers(100, 102, (3, 3, 3)).astype(np.uint8)
            order = generator.permutation(9).reshape(3, 3)
            # Quantiles of 0 .. 8: 6.4 and 2.4.
            expected, margin = brute_force(levels, order > 6, order < 3)
            component, sizes = largest_by_scipy(expected)
            if margin < 1e-6 or (sizes == sizes.max()).sum() > 1:
                continue
            found = localize(order.astype(float), levels / 255, 0.8, 0.3)
            assert_array_equal(found.mask, component, err_msg=str(seed))
            sizes_found.add(int(component.sum()))
        # Neither all foreground nor only the seeds.
        assert len(sizes_found) > 3

    @pytest.mark.parametrize("noise", [0.0, 5.0, 10.0])
    def test_the_object_of_which_the_map_shows_a_part(self, noise):
        found = localize(pointing_at(PART, OBJECT), scene((OBJECT, RED), noise=noise), 0.97)
        assert_array_equal(found.mask, OBJECT)
        assert found.box == (4, 6, 19, 17)
        assert float(metrics.box_iou(found.box, (4, 6, 19, 17))) == 1

    def test_the_largest_of_several_alike(self):
        small = rectangle(SIDES, 1, 1, 3, 4)
        image = scene((OBJECT, RED), (small, RED))
        assert_array_equal(localize(pointing_at(PART, OBJECT | small), image, 0.97).mask, OBJECT)

    def test_what_lies_between_the_quantiles_is_in_neither_colour_model(self):
        # Below a strip at the top an object, whose colour is at distance 1 of what surrounds it.
        # That is at distance 2 of the strip, but in the background's model if it is learnt from.
        strip = rectangle(SIDES, 0, 0, 4, 20)
        levels = np.where(OBJECT, 100.0, np.where(strip, 103.0, 101.0))[..., None]
        saliency_map = pointing_at(PART, ~strip)
        assert_array_equal(localize(saliency_map, levels / 255, 0.97, 0.16).mask, ~strip)
        assert_array_equal(localize(saliency_map, levels / 255, 0.97, 0.9).mask, OBJECT)

    def test_another_cut_learns_the_colours_of_the_whole_object(self):
        # From the seeds at its left to the right the object's colour goes towards the background's.
        shade = np.clip((np.arange(SIDES[1]) - 6) / 10, 0, 1)[:, None]
        image = scene((OBJECT, (1 - shade) * RED + shade * (140.0, 120.0, 150.0)))
        saliency_map = pointing_at(rectangle(SIDES, 5, 6, 18, 8), OBJECT)
        once, twice = (localize(saliency_map, image, iterations=n).mask for n in (1, 2))
        assert once.sum() < OBJECT.sum()
        assert_array_equal(twice, OBJECT)

    def test_only_the_order_of_the_map_matters(self):
        saliency_map, image = pointing_at(PART, OBJECT), scene((OBJECT, RED), noise=40.0)
        first = localize(saliency_map, image)
        for other in (4 * saliency_map - 100, saliency_map.astype(np.float32)):
            assert_array_equal(localize(other, image).mask, first.mask)

    def test_grey_is_three_equal_channels(self):
        saliency_map = pointing_at(PART, OBJECT)
        grey = scene((OBJECT, RED), noise=40.0).mean(-1, keepdims=True)
        first, second = (
            localize(saliency_map, image) for image in (grey, np.repeat(grey, 3, axis=-1))
        )
        assert_array_equal(first.mask, second.mask)

    def test_the_same_whatever_was_drawn_before_and_whatever_runs_beside(self):
        generator = np.random.default_rng(5)
        images = [generator.random((16, 16, 3)) for _ in range(6)]
        saliency_maps = [generator.random((16, 16)) for _ in images]
        threads, found = cv2.getNumThreads(), []
        try:
            for count, seed in ((1, 7), (2, 8)):
                cv2.setNumThreads(count)
                cv2.setRNGSeed(seed)
                found.append(list(map(localize, saliency_maps, images)))
        finally:
            cv2.setNumThreads(threads)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            found.append(list(pool.map(localize, saliency_maps, images)))
        for one, two, three in zip(*found, strict=True):
            assert_array_equal(one.mask, two.mask)
            assert_array_equal(one.mask, three.mask)

    def test_a_constant_map_says_nothing(self):
        found = localize(np.zeros(SIDES), scene((OBJECT, RED)))
        assert found.mask.all()
        assert found.box == (0, 0, *SIDES)

    @pytest.mark.parametrize("noise", [0.0, 5.0])
    def test_one_pixel(self, noise):
        pixel = rectangle(SIDES, 9, 9, 10, 10)
        image = scene((pixel, RED), noise=noise)
        assert localize(pixel.astype(float), image).box == (9, 9, 10, 10)

    def test_all_foreground(self):
        saliency_map, grey = pointing_at(PART, OBJECT), np.full((*SIDES, 1), 0.5)
        for foreground, background in ((0.95, 0.3), (0.0, 0.0), (1.0, 1.0)):
            found = localize(saliency_map, grey, foreground, background, iterations=3)
            assert found.mask.all()
            assert found.box == (0, 0, *SIDES)

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize(
        "awkward",
        [
            np.asfortranarray,
            lambda values: values.astype(">f8"),
            lambda values: values.astype(np.longdouble),
            lambda values: values[:, ::-1].copy()[:, ::-1],
        ],
    )
    def test_arrays_in_any_layout(self, awkward):
        saliency_map, image = pointing_at(PART, OBJECT), scene((OBJECT, RED))
        found = localize(awkward(saliency_map), awkward(image), 0.97)
        assert_array_equal(found.mask, OBJECT)
        mask = np.asfortranarray(OBJECT)
        assert_array_equal(largest_component(mask), OBJECT)
        assert bounding_box(mask) == found.box

    def test_half_precision(self):
        saliency_map, image = pointing_at(PART, OBJECT), scene((OBJECT, RED))
        halves = (jnp.asarray(values, jnp.bfloat16) for values in (saliency_map, image))
        assert_array_equal(localize(*halves, 0.97).mask, OBJECT)

    @pytest.mark.parametrize("sides", [(1, 1), (1, 2), (1, 5), (5, 1), (2, 2)])
    @pytest.mark.parametrize("iterations", [1, 3])
    def test_the_smallest_images(self, sides, iterations):
        generator = np.random.default_rng(0)
        saliency_map, image = generator.random(sides), generator.random((*sides, 3))
        found = localize(saliency_map, image, iterations=iterations)
        assert found.mask.any()
        assert found.box == bounding_box(found.mask)

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"saliency_map": np.zeros((4, 5, 1))}, ValueError, "shape (h, w), got (4, 5, 1)"),
            ({"saliency_map": np.zeros((4, 5), int)}, TypeError, "to hold floats, got int64"),
            ({"saliency_map": np.full((4, 5), np.nan)}, ValueError, "saliency_map to be finite"),
            ({"saliency_map": np.zeros((5, 4))}, ValueError, "height and width (4, 5), got (5, 4)"),
            ({"image": np.zeros((4, 5, 2))}, ValueError, "1 or 3 channels, got 2"),
            ({"image": np.full((4, 5, 3), 2.0)}, ValueError, "in [0, 1], got values from 2 to 2"),
            ({"image": np.zeros((1, 4, 5, 3))}, ValueError, "got a batch"),
            ({"foreground": 0.2}, ValueError, "background 0.3 and foreground 0.2"),
            ({"foreground": 95}, ValueError, "foreground 95"),
            ({"background": np.nan}, ValueError, "background nan"),
            ({"iterations": 0}, ValueError, "iterations to be at least 1, got 0"),
            ({"iterations": 1.5}, TypeError, "iterations to be an integer, got 1.5"),
        ],
    )
    def test_bad_arguments(self, changes, error, message):
        arguments = {"saliency_map": np.zeros((4, 5)), "image": np.zeros((4, 5, 3)), **changes}
        with pytest.raises(error, match="expected ") as raised:
            localize(**arguments)
        assert message in str(raised.value)


class TestThreshold:
    @pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 1.0])
    def test_against_scipy(self, fraction):
        for seed in range(10):
            saliency_map = np.random.default_rng(seed).random(SIDES)
            expected, sizes = largest_by_scipy(saliency_map / saliency_map.max() >= fraction)
            found = localize_by_threshold(saliency_map, fraction)
            assert found.mask.sum() == sizes.max()
            if (sizes == sizes.max()).sum() == 1:
                assert_array_equal(found.mask, expected)
            assert found.box == bounding_box(found.mask)

    def test_the_whole_image_is_at_least_nothing(self):
        assert localize_by_threshold(pointing_at(PART, OBJECT), 0.0).mask.all()
        assert localize_by_threshold(np.zeros(SIDES), 0.5).box == (0, 0, *SIDES)

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize(
        ("saliency_map", "fraction", "error", "message"),
        [
            (np.ones(SIDES), 1.5, ValueError, r"fraction to be in \[0, 1\], got 1.5"),
            (np.ones(SIDES), np.nan, ValueError, "fraction to be in"),
            (-np.ones(SIDES), 0.5, ValueError, "saliency_map to be at least 0, got -1"),
            (np.full(SIDES, np.nan), 0.5, ValueError, "saliency_map to be finite"),
            (np.ones((*SIDES, 1)), 0.5, ValueError, r"shape \(h, w\)"),
            (np.ones(SIDES, int), 0.5, TypeError, "to hold floats"),
        ],
    )
    def test_bad_arguments(self, saliency_map, fraction, error, message):
        with pytest.raises(error, match=f"expected {message}|expected saliency_map .*{message}"):
            localize_by_threshold(saliency_map, fraction)


class TestComponentAndBox:
    def test_against_scipy(self):
        checked = 0
        for seed in range(40):
            generator = np.random.default_rng(seed)
            mask = generator.random((9, 12)) < 0.3
            expected, sizes = largest_by_scipy(mask)
            found = largest_component(mask)
            assert found.sum() == sizes.max()
            if (sizes == sizes.max()).sum() == 1:
                assert_array_equal(found, expected)
                checked += 1
            ((rows, columns),) = scipy.ndimage.find_objects(found.astype(int))
            box = bounding_box(found)
            assert box == (rows.start, columns.start, rows.stop, columns.stop)
        assert checked > 10

    def test_of_two_alike_the_first(self):
        # In reading order, though the other begins further to the left.
        mask = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0]], bool)
        assert bounding_box(largest_component(mask)) == (0, 3, 2, 4)

    def test_nothing(self):
        empty = np.zeros((3, 4), bool)
        assert not largest_component(empty).any()
        assert bounding_box(empty) == (0, 0, 0, 0)

    @pytest.mark.usefixtures("entry_checks")
    @pytest.mark.parametrize("function", [largest_component, bounding_box])
    def test_bad_masks(self, function):
        with pytest.raises(TypeError, match="expected mask to hold booleans, got int64"):
            function(np.ones((2, 2), int))
        with pytest.raises(ValueError, match=r"expected mask to have shape \(h, w\), got \(2,\)"):
            function(np.ones(2, bool))


def test_opencv_is_not_loaded_before_it_is_needed():
    program = "import sys, saliency_jax.localization; print('cv2' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "False\n"
