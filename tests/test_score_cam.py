"""Score-CAM against a loop over feature maps, and where one weight is all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution
from saliency_jax.layers import Layer, identity
from saliency_jax.scores import Score

IMAGE = small_models.image((4, 6, 1))


def features(image, np=jnp):
    """Three maps of half the sides: one of either sign, one rectified and one without contrast."""
    height, width, _ = image.shape
    cells = image.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    return np.stack([3 * cells - 1.5, np.maximum(cells - 0.4, 0), 0 * cells - 0.1], axis=-1)


def readout(feature_map):
    """Of either sign, and no function of the maps' means."""
    return (feature_map[..., 0] ** 2).mean() - 3 * feature_map[0, 0, 1] + feature_map[1, 2, 1]


def score_cam_by_loops(image, baseline):
    image, baseline = np.asarray(image, np.float64), np.asarray(baseline, np.float64)
    feature_map = features(image, np)
    values = []
    for k in range(feature_map.shape[-1]):
        mask = feature_map[..., k].repeat(2, axis=0).repeat(2, axis=1)
        mask -= mask.min()
        mask /= mask.max() or 1
        seen = baseline.copy()
        for i, j in np.ndindex(mask.shape):
            seen[i, j] += mask[i, j] * (image[i, j] - baseline[i, j])
        values.append(readout(features(seen, np)))
    weights = np.exp(values) / np.exp(values).sum()
    assert weights.min() > 0.02
    cam = sum(weights[k] * feature_map[..., k] for k in range(3))
    return np.maximum(cam, 0).repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("baseline", [jnp.zeros_like(IMAGE), 1 - IMAGE], ids=["black", "negative"])
def test_map_by_map(baseline):
    saliency_map = attribution.score_cam(
        Score(readout, features), IMAGE, layer=Layer(features, identity), baseline=baseline,
        upsample=attribution.nearest, batch_size=2,
    )  # fmt: skip
    expected = score_cam_by_loops(IMAGE, baseline)
    assert expected.max() > 0
    assert (expected == 0).any()
    assert_allclose(saliency_map, expected, rtol=1e-4, atol=1e-6)


def test_of_one_map_it_is_that_map():
    def of_first(image):
        return features(image)[..., :1]

    saliency_map = attribution.score_cam(
        Score(jnp.sum, of_first), IMAGE, layer=Layer(of_first, identity)
    )
    expected = attribution.bilinear(jax.nn.relu(of_first(IMAGE)[..., 0]), (4, 6))
    assert_array_equal(saliency_map, expected)


def test_a_score_far_above_the_others_has_all_the_weight():
    # Each of the two maps lets its own half of the image through, and the score sees the left one.
    def halves(image):
        left = jnp.arange(6)[None, :, None] < 3
        return jnp.concatenate([jnp.where(left, image, 0), jnp.where(left, 0, image)], axis=-1)

    def of_left(feature_map):
        return 1e4 * feature_map[..., 0].sum()

    saliency_map = attribution.score_cam(
        Score(of_left, halves),
        IMAGE,
        layer=Layer(halves, identity),
        upsample=attribution.nearest,
    )
    assert_allclose(saliency_map, halves(IMAGE)[..., 0], rtol=1e-6)
