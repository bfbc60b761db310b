"""XRAI against a greedy loop, and with regions that leave nothing to choose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, baselines
from saliency_jax.attribution import rank_regions

rank = jax.jit(rank_regions)
SHAPE = (4, 5)


def greedily(saliency_map, regions):
    """The paper's algorithm 1, on sets of pixels; the pixels of no region come as one region."""
    pixels = set(np.ndindex(saliency_map.shape))
    sets = [set(zip(*np.nonzero(region), strict=True)) for region in regions]
    sets.append(pixels - set().union(*sets))
    ranked, seen = np.zeros(saliency_map.shape), set()
    while seen != pixels:
        gains = [
            np.mean([saliency_map[pixel] for pixel in region - seen]) if region - seen else -np.inf
            for region in sets
        ]
        best = int(np.argmax(gains))
        for pixel in sets[best] - seen:
            ranked[pixel] = gains[best]
        seen |= sets[best]
    return ranked


@pytest.mark.parametrize("seed", range(4))
def test_region_by_region(seed):
    random = np.random.default_rng(seed)
    saliency_map = random.normal(size=SHAPE).astype(np.float32)
    # Overlapping, one of them empty, and some pixels in none.
    regions = random.uniform(size=(6, *SHAPE)) < 0.25
    regions[3] = False
    assert not regions.any(0).all()
    ranked = rank(jnp.asarray(saliency_map), regions)
    assert_allclose(ranked, greedily(saliency_map, regions), rtol=1e-5)
    assert_allclose(ranked.sum(), saliency_map.sum(), rtol=1e-4)


def test_by_hand():
    # First {5, 4}, whose mean is 4.5; of {4, 3, 1} two are left, with the mean 2.
    regions = np.array([[[True, True, False, False]], [[False, True, True, True]]])
    ranked = rank_regions(jnp.array([[5.0, 4.0, 3.0, 1.0]]), regions)
    assert_allclose(ranked, [[4.5, 4.5, 2.0, 2.0]])


def test_an_area_above_the_largest_half_precision_number():
    ranked = rank(jnp.full((300, 300), 2.0, jnp.float16), np.ones((1, 300, 300), bool))
    assert ranked.dtype == jnp.float16
    assert (ranked == 2).all()


# The sum of two pixels of -3e38 overflows.
@pytest.mark.parametrize(
    ("value", "gain"), [(-3e38, -np.inf), (-np.inf, -np.inf), (np.nan, np.nan)]
)
def test_a_sum_that_is_not_finite_comes_to_an_end(value, gain):
    regions = np.array([[[False, False]], [[True, True]]])
    assert_allclose(rank(jnp.full((1, 2), value), regions), [[gain, gain]])


class TestLinearScore:
    """From black and from white, integrated gradients are w I and w (I - 1): on average,
    w (I - 1/2), a black pixel's as much as a white one's."""

    WEIGHTS, IMAGE = (small_models.image((*SHAPE, 2), seed=seed) for seed in (1, 0))
    EXPECTED = np.asarray(WEIGHTS * (IMAGE - 0.5)).sum(-1)

    def xrai(self, regions, **options):
        score = small_models.linear_score(self.WEIGHTS)
        return attribution.xrai(score, self.IMAGE, regions=regions, steps=3, **options)

    def test_of_regions(self):
        regions = np.random.default_rng(5).uniform(size=(6, *SHAPE)) < 0.3
        expected = greedily(self.EXPECTED, regions)
        assert_allclose(self.xrai(regions, batch_size=2), expected, rtol=1e-4, atol=1e-5)

    def test_single_pixels_keep_their_attribution(self):
        pixels = np.eye(20, dtype=bool).reshape(20, *SHAPE)
        assert_allclose(self.xrai(pixels), self.EXPECTED, rtol=1e-4, atol=1e-6)

    def test_one_baseline_and_one_region(self):
        everything = np.ones((1, *SHAPE), bool)
        mean = np.asarray(self.WEIGHTS * self.IMAGE).sum(-1).mean()
        ranked = self.xrai(everything, baselines=(baselines.zeros,))
        assert_allclose(ranked, np.full(SHAPE, mean), rtol=1e-4)


@pytest.mark.usefixtures("entry_checks")
class TestBadSettings:
    @pytest.mark.parametrize(
        ("regions", "error", "message"),
        [
            ([[True]], TypeError, "regions to be an array, got list"),
            (np.zeros((2, *SHAPE), int), TypeError, "regions to hold booleans, got int64"),
            (np.zeros((2, 5, 4), bool), ValueError, r"shape \(n, 4, 5\), got \(2, 5, 4\)"),
            (np.zeros(SHAPE, bool), ValueError, r"shape \(n, 4, 5\), got \(4, 5\)"),
        ],
    )
    def test_regions(self, regions, error, message):
        with pytest.raises(error, match=message):
            rank_regions(jnp.zeros(SHAPE), regions)

        def never(image):
            pytest.fail("the score was called")

        with pytest.raises(error, match=message):
            attribution.xrai(Partial(never), jnp.zeros((*SHAPE, 1)), regions=regions)

    def test_no_baseline(self):
        regions = np.ones((1, *SHAPE), bool)
        with pytest.raises(ValueError, match="number of baselines to be at least 1, got 0"):
            attribution.xrai(jnp.sum, jnp.zeros((*SHAPE, 1)), regions=regions, baselines=())
