"""Information curves by hand, and the entropy against closed forms and WebP files."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_models
from numpy.testing import assert_allclose
from PIL import Image as PILImage
from small_models import as_image

from saliency_jax import baselines, metrics

IMAGE = as_image([4, 3, 2, 1])


def shown(image):
    return jnp.sum(image != 0.0)


def curve(score, image=IMAGE, **options):
    settings = {"fractions": (0.25, 0.5, 0.75), "num_points": 5, "information": shown}
    return metrics.performance_information_curve(
        score, image, IMAGE[..., 0], baseline=baselines.zeros, **settings | options
    )


def test_of_a_linear_score_it_is_the_share_of_the_sum():
    result = curve(jnp.sum)
    assert_allclose(result.fractions, [0, 0.25, 0.5, 0.75, 1])
    assert_allclose(result.scores, [0, 0.4, 0.7, 0.9, 1], rtol=1e-6)
    assert_allclose(result.area, 0.25 * (0.2 + 0.55 + 0.8 + 0.95), rtol=1e-6)


def test_it_never_falls_and_is_cut_off_at_the_images_own_score():
    # Scores of 0, 4, 7, 5, 6 as pixels come, the image's own being 6.
    weights = as_image([1, 1, -1, 1])
    result = curve(small_models.linear_score(weights))
    assert_allclose(result.scores, [0, 4 / 6, 1, 1, 1], rtol=1e-6)


def test_points_are_ordered_by_information():
    # Informations of 0, 3, 1, 2, 4: the scores 0, 4, 7, 9, 10 are those of 0, 3/4, 1/4, 2/4, 1.
    amounts = jnp.array([0, 3, 1, 2, 4])
    result = curve(jnp.sum, information=lambda image: amounts[shown(image)])
    assert_allclose(result.scores, [0, 0.7, 0.9, 0.9, 1], rtol=1e-6)


def test_undefined_is_nan():
    # The image has no more information, or no larger score, than the baseline.
    assert jnp.isnan(curve(jnp.sum, information=jnp.sum, image=-IMAGE).scores).all()
    assert jnp.isnan(curve(lambda image: -jnp.sum(image)).scores).all()


class TestResidualEntropy:
    def test_of_a_constant_image_only_the_first_pixel_has_any(self):
        # One residual of 20 is not 0: 20 H(1/20) bits, twice for two channels.
        p = 1 / 20
        expected = -2 * 20 * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
        assert_allclose(metrics.residual_entropy(jnp.full((4, 5, 2), 0.5)), expected, rtol=1e-5)

    def test_of_different_residuals_it_is_their_logarithm(self):
        # One row is predicted from its left neighbours: the residuals are 1, 2, 3, 4.
        row = jnp.array([1.0, 3.0, 6.0, 10.0]).reshape(1, 4, 1) / 255
        assert_allclose(metrics.residual_entropy(row), 4 * 2, rtol=1e-6)

    def test_it_goes_along_with_the_size_of_a_file(self):
        row, column = np.mgrid[:48, :48] / 48
        smooth = np.stack([row, column, np.sin(7 * row * column) ** 2], axis=-1)
        textured = np.clip(smooth + 0.3 * np.random.default_rng(0).normal(size=smooth.shape), 0, 1)
        images = [
            np.asarray(baselines.blurred(jnp.asarray(textured, jnp.float32), sigma))
            for sigma in (0.0, 0.3, 0.5, 1.0, 2.0, 5.0)
        ]
        sizes = [self.size_of_file(image) for image in images]
        entropy = jax.jit(metrics.residual_entropy)
        bits = [float(entropy(jnp.asarray(image))) for image in images]
        assert scipy.stats.pearsonr(bits, sizes)[0] > 0.98

    @staticmethod
    def size_of_file(image):
        file = io.BytesIO()
        picture = PILImage.fromarray(np.rint(255 * image).astype(np.uint8))
        picture.save(file, format="webp", lossless=True, quality=100)
        return len(file.getvalue())


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.5, 0.25)}, "fractions in rising order"),
        ({"fractions": (0.5, 1.25)}, "fractions to be numbers from 0 to 1"),
        ({"fractions": ()}, "fractions to be numbers from 0 to 1"),
        ({"num_points": 1}, "num_points to be at least 2, got 1"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        curve(jnp.sum, **options)
