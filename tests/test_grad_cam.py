"""Class activation maps against a published case and loops over places and channels."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from jax.tree_util import Partial
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import attribution, scores
from saliency_jax.layers import Layer, identity
from saliency_jax.scores import Score

METHODS = [attribution.grad_cam, attribution.grad_cam_plus_plus, attribution.layer_cam]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


def features(image):
    """Two rectified maps of half the sides."""
    height, width, _ = image.shape
    cells = image.reshape(height // 2, 2, width // 2, 2, -1).mean((1, 3))
    return jax.nn.relu(jnp.concatenate([cells, 0.6 - cells[..., :1]], axis=-1))


def head(feature_map):
    total = (feature_map**2).sum((0, 1))
    return jnp.stack([total[0] - total[1], 3 * total[1] - 0.02 * total[0]])


def model(image):
    return head(features(image))


IMAGE = small_models.image((4, 6, 1))
LAYER = Layer(features, head)
FEATURE_MAP = np.asarray(features(IMAGE), np.float64)


def gradient(label):
    """Of the head above, by hand."""
    return 2 * FEATURE_MAP * np.array([[1, -1], [-0.02, 3]])[label]


def grad_cam_by_loops(label):
    rows, columns, channels = FEATURE_MAP.shape
    weights = np.zeros(channels)
    for i, j, k in np.ndindex(FEATURE_MAP.shape):
        weights[k] += gradient(label)[i, j, k] / (rows * columns)
    return rectified_sum(lambda i, j, k: weights[k])


def grad_cam_plus_plus_by_loops(label):
    weights = np.zeros(FEATURE_MAP.shape[-1])
    for i, j, k in np.ndindex(FEATURE_MAP.shape):
        g = gradient(label)[i, j, k]
        if g != 0:
            share = g**2 / (2 * g**2 + FEATURE_MAP[:, :, k].sum() * g**3)
            weights[k] += share * max(g, 0)
    return rectified_sum(lambda i, j, k: weights[k])


def layer_cam_by_loops(label):
    return rectified_sum(lambda i, j, k: max(gradient(label)[i, j, k], 0))


def rectified_sum(weight):
    cam = np.zeros(FEATURE_MAP.shape[:2])
    for i, j, k in np.ndindex(FEATURE_MAP.shape):
        cam[i, j] += weight(i, j, k) * FEATURE_MAP[i, j, k]
    return np.maximum(cam, 0)


LOOPS = [grad_cam_by_loops, grad_cam_plus_plus_by_loops, layer_cam_by_loops]


@pytest.mark.parametrize(("method", "by_loops"), list(zip(METHODS, LOOPS, strict=True)))
@pytest.mark.parametrize("label", [0, 1])
def test_place_by_place(method, by_loops, label):
    saliency_map = method(
        scores.logit(model, label), IMAGE, layer=LAYER, upsample=attribution.nearest
    )
    expected = by_loops(label).repeat(2, axis=0).repeat(2, axis=1)
    assert expected.max() > 0
    assert_allclose(saliency_map, expected, rtol=1e-5, atol=1e-6)


def test_published_case():
    # The feature map is the first ReLU of captum's convolutional network, the head what follows.
    def of_convolution(image):
        sums = sum(image[i : i + 2, j : j + 2] for i in range(3) for j in range(3))
        return jax.nn.relu(jnp.concatenate([sums - 50, sums - 75], axis=-1))

    def dense(feature_map):
        row = jnp.array([1.0, 1, 1, 1, 1, -1, -1, -1])
        return jax.nn.relu(jnp.tile(row, (4, 1)) @ feature_map.transpose(2, 0, 1).ravel())

    image = small_models.CAPTUM_CONVNET_IMAGE
    assert_array_equal(dense(of_convolution(image)), small_models.captum_convnet(image))
    saliency_map = attribution.grad_cam(
        scores.logit(small_models.captum_convnet, 0),
        image,
        layer=Layer(of_convolution, dense),
        upsample=attribution.nearest,
    )
    assert_allclose(saliency_map[::2, ::2], [[0, 4], [28, 32.5]], atol=1e-4)


def test_with_global_pooling_it_is_the_class_activation_map():
    # Zhou's map is the feature maps weighted by the dense layer; Grad-CAM has it over i j.
    model, image = small_models.nnx_convnet(), small_models.image((6, 5, 3))

    def convolution(image):
        return jax.nn.relu(model.norm(model.convolution(image)))

    def pooled(feature_map):
        return model.dense(feature_map.mean((0, 1)))

    cam = convolution(image) @ model.dense.kernel[...][:, 2]
    saliency_map = attribution.grad_cam(
        scores.logit(model, 2), image, layer=Layer(convolution, pooled)
    )
    assert_allclose(saliency_map, np.maximum(cam, 0) / 30, rtol=1e-4, atol=1e-7)


@each_method
def test_methods_of_a_model_are_a_layer(method):
    class Model(small_models.NnxConvnet):
        def features(self, image):
            return jax.nn.relu(self.norm(self.convolution(image)))

        def head(self, feature_map):
            return self.dense(feature_map.mean((0, 1)))

    model = Model(3, small_models.nnx.Rngs(0))

    @jax.jit
    def of_label(model, label, image):
        layer = Layer(model.features, model.head)
        return method(scores.logit(model, label), image, layer=layer)

    image = small_models.image()
    layer = Layer(Partial(Model.features, model), Partial(Model.head, model))
    maps = [method(scores.logit(model, label), image, layer=layer) for label in range(4)]
    assert np.max(maps) > 0
    of_labels = jax.vmap(of_label, in_axes=(None, 0, None))
    assert_allclose(of_labels(model, jnp.arange(4), image), maps, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("small", "large"), [((2, 3), (6, 7)), ((1, 1), (3, 2)), ((3, 4), (3, 4))])
def test_upsampling_pixel_by_pixel(small, large):
    cam = jax.random.normal(jax.random.key(1), small)
    smooth, blocks = np.zeros(large), np.zeros(large)
    for y, x in np.ndindex(large):
        # The centre of pixel y lies at (y + 1/2) i / h in a map whose value i has its at i + 1/2.
        v, u = (
            min(max((place + 0.5) * few / many - 0.5, 0), few - 1)
            for place, few, many in zip((y, x), small, large, strict=True)
        )
        for i, j in np.ndindex(small):
            smooth[y, x] += max(0, 1 - abs(v - i)) * max(0, 1 - abs(u - j)) * float(cam[i, j])
        i, j = (
            math.floor((place + 0.5) * few / many)
            for place, few, many in zip((y, x), small, large, strict=True)
        )
        blocks[y, x] = cam[i, j]
    assert_allclose(attribution.bilinear(cam, large), smooth, rtol=1e-4, atol=1e-6)
    assert_array_equal(attribution.nearest(cam, large), np.float32(blocks))


def test_a_map_whose_sum_is_above_the_largest_half_precision_number():
    # Of a sum: g = 1, and the weight is the number of places over 2 + the map's sum.
    image = jnp.full((1, 400, 1), 200.0, jnp.float16)
    score = Score(jnp.sum, identity)
    saliency_map = attribution.grad_cam_plus_plus(score, image, layer=Layer(identity, identity))
    assert saliency_map.dtype == jnp.float16
    assert_allclose(saliency_map, np.full((1, 400), 200 * 400 / 80_002), rtol=1e-3)


class TestFuseLayers:
    def test_pixel_by_pixel(self):
        maps = [3 * small_models.image((3, 4, 1), seed=seed)[..., 0] for seed in range(3)]
        fused, averaged = np.zeros((3, 4)), np.zeros((3, 4))
        for pixel in np.ndindex(3, 4):
            scaled = [math.tanh(1.5 * float(m[pixel]) / np.max(m)) for m in maps]
            fused[pixel], averaged[pixel] = max(scaled), sum(scaled) / 3
        assert_allclose(attribution.fuse_layers(maps, gamma=1.5), fused, rtol=1e-5)
        mean = attribution.fuse_layers(maps, gamma=1.5, reduce=jnp.mean)
        assert_allclose(mean, averaged, rtol=1e-5)

    def test_units_do_not_matter_and_a_dead_layer_adds_nothing(self):
        fine, coarse = (small_models.image((3, 4, 1), seed=seed)[..., 0] for seed in range(2))
        of_two = attribution.fuse_layers([fine, coarse])
        of_three = attribution.fuse_layers([1000 * fine, 0 * fine, 0.001 * coarse])
        assert_allclose(of_three, of_two, rtol=1e-5)
        assert float(of_two.max()) == pytest.approx(math.tanh(2))

    def test_a_small_gamma_only_scales(self):
        (saliency_map,) = maps = [attribution.layer_cam(scores.logit(model, 1), IMAGE, layer=LAYER)]
        fused = attribution.fuse_layers(maps, gamma=1e-3)
        assert_allclose(fused / 1e-3, saliency_map / saliency_map.max(), rtol=1e-5, atol=1e-7)

    @pytest.mark.usefixtures("entry_checks")
    def test_bad_settings(self):
        saliency_map = jnp.ones((3, 4))
        with pytest.raises(ValueError, match="maps to be at least one map, got none"):
            attribution.fuse_layers([])
        with pytest.raises(ValueError, match=r"one shape, got \(3, 4\) and \(4, 3\)"):
            attribution.fuse_layers([saliency_map, saliency_map.T])
        with pytest.raises(
            ValueError, match=r"each of maps to have shape \(h, w\), got \(3, 4, 1\)"
        ):
            attribution.fuse_layers([saliency_map[..., None]])
        with pytest.raises(TypeError, match="maps to be a sequence of maps, got ArrayImpl"):
            attribution.fuse_layers(saliency_map)
        with pytest.raises(ValueError, match="each of maps to be finite, got 1 infinite or nan"):
            attribution.fuse_layers([saliency_map.at[0, 0].set(jnp.nan)])
        with pytest.raises(TypeError, match="reduce to be callable, got str"):
            attribution.fuse_layers([saliency_map], reduce="max")
        with pytest.raises(ValueError, match="gamma to be at least"):
            attribution.fuse_layers([saliency_map], gamma=0.0)


@pytest.mark.parametrize("method", [*METHODS, attribution.score_cam])
@pytest.mark.usefixtures("entry_checks")
class TestBadInput:
    def test_a_layer_that_is_a_function(self, method):
        with pytest.raises(TypeError, match=r"layer to be a Layer\(features, head\), got function"):
            method(scores.logit(model, 0), IMAGE, layer=features)

    def test_what_does_not_upsample(self, method):
        score = scores.logit(model, 0)
        with pytest.raises(TypeError, match="upsample to be callable, got str"):
            method(score, IMAGE, layer=LAYER, upsample="bilinear")
        with pytest.raises(ValueError, match=r"upsample's result to have shape \(4, 6\), got"):
            method(score, IMAGE, layer=LAYER, upsample=lambda cam, shape: jnp.ones((4, 5)))

    def test_a_layer_without_a_map(self, method):
        convnet = small_models.plain_convnet(1)
        layer = Layer(convnet, lambda logits: logits)
        with pytest.raises(ValueError, match=r"what the layer makes .* \(i, j, d\), got \(4,\)"):
            method(scores.logit(convnet, 0), IMAGE, layer=layer)


@pytest.mark.usefixtures("entry_checks")
@each_method
def test_a_score_that_does_not_know_its_model(method):
    with pytest.raises(TypeError, match=r"a Score, such as scores.logit\(model, label\) or .* got"):
        method(jnp.sum, IMAGE, layer=LAYER)
