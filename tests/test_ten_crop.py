"""Ten-crop against a loop over crops, and where every crop agrees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import attribution, scores

SCORE = scores.logit(small_models.plain_convnet(2), 1)
IMAGE = small_models.image((5, 6, 2))


def by_loops(method, image, size):
    """Each pixel's mean over the crops that contain it."""
    height, width = image.shape[:2]
    bottom, right = height - size[0], width - size[1]
    values: dict[tuple[int, int], list[float]] = {}
    for top, left in [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]:
        crop = image[top : top + size[0], left : left + size[1]]
        plain, mirrored = np.asarray(method(crop)), np.asarray(method(crop[:, ::-1]))
        for row, column in np.ndindex(size):
            of_pixel = values.setdefault((top + row, left + column), [])
            of_pixel += [plain[row, column], mirrored[row, size[1] - 1 - column]]
    return [[np.mean(values[row, column]) for column in range(width)] for row in range(height)]


@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_crop_by_crop(size):
    # Of size (4, 3) the middle columns are in the centre's crops and one corner's, or in fewer.
    method = jax.jit(functools.partial(attribution.saliency, SCORE))
    saliency_map = attribution.ten_crop(SCORE, IMAGE, size=size, batch_size=4)
    assert_allclose(saliency_map, by_loops(method, IMAGE, size), rtol=1e-4, atol=1e-6)


def test_where_all_crops_agree_it_is_the_method():
    # The gradient is twice the pixel, wherever a crop begins and whichever way it faces.
    ten_cropped = attribution.ten_crop(
        Partial(lambda image: (image**2).sum()), IMAGE, size=(4, 4),
        method=attribution.input_gradient,
    )  # fmt: skip
    assert_allclose(ten_cropped, 2 * IMAGE, rtol=1e-6)


def test_crops_of_the_images_size():
    def both_ways(image):
        return SCORE(image) + SCORE(image[:, ::-1])

    whole = functools.partial(attribution.ten_crop, size=IMAGE.shape[:2])
    plain, reflected = (
        attribution.saliency(SCORE, IMAGE),
        attribution.saliency(SCORE, IMAGE[:, ::-1]),
    )
    expected = (plain + reflected[:, ::-1]) / 2
    assert_allclose(whole(SCORE, IMAGE), expected, rtol=1e-4, atol=1e-6)
    # The score takes an image for its mirror image: plain saliency.
    symmetric = Partial(both_ways)
    assert_allclose(
        whole(symmetric, IMAGE), attribution.saliency(symmetric, IMAGE), rtol=1e-4, atol=1e-6
    )


def test_resizing_is_a_part_of_the_score():
    # Each pixel becomes four, and the weight 1 + 2 j is that of a row of eight: a pixel's gradient
    # is 2 ((1 + 4 j) + (3 + 4 j)) = 8 + 16 j in the crop, and 8 + 16 (3 - j) in the mirrored one.
    def score(image):
        return jnp.einsum("ijc,j->", image, 1 + 2 * jnp.arange(8.0))

    def doubled(crop):
        return crop.repeat(2, 0).repeat(2, 1)

    saliency_map = attribution.ten_crop(Partial(score), IMAGE, size=(4, 4), resize=doubled)
    assert_allclose(saliency_map, np.full((5, 6), 8 + 16 * 1.5), rtol=1e-6)


def test_a_sum_above_the_largest_half_precision_number():
    image = IMAGE.astype(jnp.float16)
    steep = Partial(lambda image: (20_000 * image).sum())
    saliency_map = attribution.ten_crop(steep, image, size=(4, 4))
    assert saliency_map.dtype == jnp.float16
    assert_allclose(saliency_map, np.full((5, 6), 20_000))


@pytest.mark.usefixtures("entry_checks")
class TestBadSettings:
    @pytest.mark.parametrize(
        ("size", "message"),
        [
            ((2, 4), "crop's height to be from half of the image's 5 to all of it, got 2"),
            ((4, 7), "crop's width to be from half of the image's 6 to all of it, got 7"),
            ((0, 4), "crop's height to be at least 1, got 0"),
        ],
    )
    def test_size(self, size, message):
        with pytest.raises(ValueError, match=message):
            attribution.ten_crop(SCORE, IMAGE, size=size)

    def test_what_is_no_function_or_size(self):
        with pytest.raises(TypeError, match="resize to be callable, got int"):
            attribution.ten_crop(SCORE, IMAGE, size=(4, 4), resize=2)
        with pytest.raises(ValueError, match=r"size to be \(height, width\), got 4"):
            attribution.ten_crop(SCORE, IMAGE, size=4)

    def test_method(self):
        def smaller(score, image):
            return image[:2, :2]

        with pytest.raises(ValueError, match=r"the crop's sides \(4, 4\), got \(2, 2, 2\)"):
            attribution.ten_crop(SCORE, IMAGE, size=(4, 4), method=smaller)
