"""Grids counted by hand, and Felzenszwalb's regions of pictures whose parts are plain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from skimage.morphology import isotropic_dilation

from saliency_jax.segments import felzenszwalb_regions, grid_segments


class TestGrid:
    def test_cells_of_unequal_sides(self):
        segments = grid_segments(jnp.zeros((5, 7, 3)), (2, 3))
        expected = [[0, 0, 0, 1, 1, 2, 2]] * 3 + [[3, 3, 3, 4, 4, 5, 5]] * 2
        assert_array_equal(segments, expected)

    def test_known_under_jit(self):
        def largest(image):
            return image.sum() + int(grid_segments(image, (4, 3)).max())

        assert jax.jit(largest)(jnp.zeros((4, 3, 1))) == 11

    @pytest.mark.usefixtures("entry_checks")
    def test_bad_settings(self):
        image = jnp.zeros((5, 7, 3))
        with pytest.raises(ValueError, match="number of rows to be at most the image's 5, got 6"):
            grid_segments(image, (6, 2))
        with pytest.raises(ValueError, match=r"cells to be \(rows, columns\), got 4"):
            grid_segments(image, 4)
        with pytest.raises(ValueError, match="number of columns to be at least 1, got 0"):
            grid_segments(image, (2, 0))


def bands(width):
    """Three plain bands: with segments of this size at least, no strip along an edge is another."""
    rows = jnp.array([0.0, 0.3, 1.0]).repeat(np.array([64, 90, 70]))
    return jnp.broadcast_to(rows[:, None, None], (224, width, 1)), {"min_size": 4000}


class TestFelzenszwalb:
    @pytest.mark.parametrize("width", [224, 56])
    def test_plain_parts_are_found_at_every_scale(self, width):
        picture, settings = bands(width)
        regions = felzenszwalb_regions(picture, scales=[100, 500], dilation=0, **settings)
        expected = [picture[..., 0] == value for value in jnp.unique(picture)]
        assert_array_equal(regions, np.stack(2 * expected))

    def test_they_grow_by_a_disk(self):
        picture = jnp.zeros((224, 224, 1)).at[100:, 90:].set(1.0)
        apart, grown = (
            felzenszwalb_regions(picture, scales=[500], min_size=4000, dilation=dilation)
            for dilation in (0, 7.5)
        )
        assert len(grown) == 2
        for region, expected in zip(grown, apart, strict=True):
            assert_array_equal(region, isotropic_dilation(expected, 7.5))

    def test_range_and_offset_do_not_matter(self):
        picture = jax.random.uniform(jax.random.key(0), (28, 28, 3))
        regions = felzenszwalb_regions(picture, scales=[100])
        assert len(regions) > 1
        assert_array_equal(regions, felzenszwalb_regions(4 * picture - 1, scales=[100]))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float64, np.dtype(">f4")], ids=str)
    def test_every_dtype_has_the_same_regions(self, dtype):
        picture = np.round(32 * np.random.default_rng(0).random((14, 14, 3))) / 32
        expected = felzenszwalb_regions(jnp.asarray(picture, jnp.float32), scales=[100])
        array = jnp.asarray(picture, dtype) if dtype is jnp.bfloat16 else picture.astype(dtype)
        assert_array_equal(felzenszwalb_regions(array, scales=[100]), expected)

    def test_an_image_of_one_colour_is_one_region(self):
        regions = felzenszwalb_regions(jnp.full((3, 4, 1), 0.5), scales=[50])
        assert_array_equal(regions, np.ones((1, 3, 4), bool))

    @pytest.mark.usefixtures("entry_checks")
    def test_bad_settings(self):
        image = jnp.zeros((3, 4, 1))
        with pytest.raises(TypeError, match="scales to be numbers, got 50"):
            felzenszwalb_regions(image, scales=50)
        with pytest.raises(ValueError, match="number of scales to be at least 1, got 0"):
            felzenszwalb_regions(image, scales=[])
        with pytest.raises(ValueError, match="scales to be at least"):
            felzenszwalb_regions(image, scales=[50, 0])
        with pytest.raises(ValueError, match="min_size to be at least 1, got 0"):
            felzenszwalb_regions(image, min_size=0)
        with pytest.raises(ValueError, match="dilation to be at least 0, got -1"):
            felzenszwalb_regions(image, dilation=-1)
        with pytest.raises(TypeError, match="image to be known, got a traced array"):
            jax.jit(felzenszwalb_regions)(image)
