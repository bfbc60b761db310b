"""The ConvNeXt against its definition written out, its cuts, names and files."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from precisions import PRECISIONS, strictly

from saliency_jax import attribution, models, scores
from saliency_jax.models._parts import with_dtype

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
BLOCKS = (1, 2)
LAYERS = ("normalization", "stem", "stage 1", "stage 2", "pooling", "logits")
# Neither fills its last patches.
IMAGE = np.random.default_rng(0).random((19, 26, 3), np.float32)
apply = jax.jit(lambda model, image: model(image))
mapped = jax.jit(lambda layer, image: layer.map(image))


@functools.cache
def small():
    model = nnx.eval_shape(
        lambda: models.ConvNext(BLOCKS, 5, width=4, mean=MEAN, std=STD, rngs=nnx.Rngs(0))
    )
    generator = np.random.default_rng(0)

    def draw(leaf):
        fan = math.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
        return jnp.asarray(generator.standard_normal(leaf.shape, np.float32) / fan**0.5)

    return jax.tree.map(draw, model)


def normed(values, weights, name):
    centred = values - values.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(values, weights, name):
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def patches(image, weights, name, size):
    rows, columns = image.shape[0] // size, image.shape[1] // size
    result = np.empty((rows, columns, weights[f"{name}.bias"].size))
    for row in range(rows):
        for column in range(columns):
            patch = image[row * size : (row + 1) * size, column * size : (column + 1) * size]
            result[row, column] = np.einsum("hwc,dchw->d", patch, weights[f"{name}.weight"])
    return result + weights[f"{name}.bias"]


def depthwise(image, weights, name):
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)))
    result = np.zeros_like(image) + weights[f"{name}.bias"]
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            window = padded[row : row + 7, column : column + 7]
            result[row, column] += np.einsum("hwc,chw->c", window, weights[f"{name}.weight"][:, 0])
    return result


def gelu(values):
    return np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)(values)


@functools.cache
def written_out():
    """Logits, and the map behind each stage, in double precision."""
    weights = {name: np.float64(array) for name, array in models.to_state_dict(small()).items()}
    maps = [normed(patches((IMAGE - MEAN) / STD, weights, "stem.0", 4), weights, "stem.1")]
    for stage, blocks in enumerate(BLOCKS):
        image = maps[-1]
        if stage:
            name = f"stages.{stage}.downsample"
            image = patches(normed(image, weights, f"{name}.0"), weights, f"{name}.1", 2)
        for block in range(blocks):
            name = f"stages.{stage}.blocks.{block}"
            residual = normed(depthwise(image, weights, f"{name}.conv_dw"), weights, f"{name}.norm")
            residual = gelu(linear(residual, weights, f"{name}.mlp.fc1"))
            image = image + weights[f"{name}.gamma"] * linear(residual, weights, f"{name}.mlp.fc2")
        maps.append(image)
    mean = normed(maps[-1].mean((0, 1)), weights, "head.norm")
    return linear(mean, weights, "head.fc"), maps


def test_the_network_is_its_definition():
    logits, maps = written_out()
    model = small()
    assert_allclose(apply(model, IMAGE), logits, rtol=1e-4, atol=1e-5)
    for name, expected in zip(LAYERS[1:4], maps, strict=True):
        assert_allclose(mapped(model.layer(name), IMAGE), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_a_cut_is_the_model_and_holds_each_weight_once(name):
    model = small()
    assert model.layers == LAYERS
    layer = model.layer(name)
    head_of_features = jax.jit(lambda layer, image: layer.head(layer.features(image)))
    assert_allclose(head_of_features(layer, IMAGE), apply(model, IMAGE), rtol=1e-5, atol=1e-6)
    held = [*jax.tree.leaves(layer.features), *jax.tree.leaves(layer.head)]
    assert {id(leaf) for leaf in held} == {id(leaf) for leaf in jax.tree.leaves(model)}
    assert len(held) == len(jax.tree.leaves(model))


def test_grad_cam_at_the_last_stage_is_the_linear_layer_behind_a_norm():
    """The mean is normed: its gradient is that of the norm at the mean, equal at every place."""
    model = small()
    layer = model.layer("stage 2")
    feature_map = np.asarray(mapped(layer, IMAGE), np.float64)
    kernel, scale = (
        np.asarray(each[...]) for each in (model.head.fc.kernel, model.head.norm.scale)
    )
    mean = feature_map.mean((0, 1))
    centred, spread = mean - mean.mean(), np.sqrt(mean.var() + 1e-6)
    back = kernel[:, 1] * scale
    back = (back - back.mean() - centred / spread**2 * (back * centred).mean()) / spread
    cam = np.maximum(feature_map @ back / feature_map[..., 0].size, 0)
    assert cam.max() > 0
    grad_cam = functools.partial(attribution.grad_cam, upsample=jnp.resize)
    found = jax.jit(grad_cam)(scores.logit(model, 1), IMAGE, layer=layer)
    assert_allclose(found, np.resize(cam, IMAGE.shape[:2]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", PRECISIONS)
def test_logits_and_gradients_have_the_precision_of_the_image(name):
    dtype, weights_dtype, double, tolerance = PRECISIONS[name]
    expected, _ = written_out()
    with strictly(double):
        model = with_dtype(small(), weights_dtype)
        image = jnp.asarray(IMAGE, dtype)
        logits = apply(model, image)
        gradient = jax.eval_shape(jax.grad(lambda image: model(image)[0]), image)
    assert logits.dtype == gradient.dtype == dtype
    scale = np.abs(expected).max()
    assert_allclose(np.asarray(logits, np.float64), expected, atol=3 * tolerance * scale)


# As timm's `convnext_tiny` lists them.
TIMM = {
    *("stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias"),
    *("stages.0.blocks.0.gamma", "stages.0.blocks.0.conv_dw.weight"),
    *("stages.0.blocks.0.norm.weight", "stages.0.blocks.0.mlp.fc1.weight"),
    *("stages.1.downsample.0.weight", "stages.1.downsample.1.bias"),
    *("stages.1.blocks.1.mlp.fc2.bias", "head.norm.weight", "head.fc.bias"),
}
HUGGING_FACE = (
    ("stem.0.", "convnext.embeddings.patch_embeddings."),
    ("stem.1.", "convnext.embeddings.layernorm."),
    ("head.norm.", "convnext.layernorm."),
    ("head.fc.", "classifier."),
    ("stages.", "convnext.encoder.stages."),
    (".downsample.", ".downsampling_layer."),
    (".blocks.", ".layers."),
    (".conv_dw.", ".dwconv."),
    (".norm.", ".layernorm."),
    (".mlp.fc", ".pwconv"),
    (".gamma", ".layer_scale_parameter"),
)


def test_weights_are_written_and_read_under_the_names_of_timm_and_hugging_face():
    model = small()
    state = models.to_state_dict(model)
    assert state.keys() > TIMM
    assert state["stages.1.blocks.0.conv_dw.weight"].shape == (8, 1, 7, 7)
    assert state["stages.1.downsample.1.weight"].shape == (8, 4, 2, 2)
    renamed = {}
    for name, array in state.items():
        for ours, theirs in HUGGING_FACE:
            name = name.replace(ours, theirs)
        renamed[name] = array
    assert "convnext.encoder.stages.1.layers.0.layernorm.weight" in renamed
    abstract = nnx.eval_shape(lambda: models.ConvNext(BLOCKS, 5, width=4, rngs=nnx.Rngs(0)))
    for given in (state, renamed):
        again = models.from_state_dict(abstract, given)
        for old, new in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
            assert_array_equal(old, new)


def test_a_network_is_saved_whole(tmp_path):
    model, taken = small(), models.Input("image", (32, 32), mean=MEAN, std=STD)
    models.save(models.Classifier("small", model, taken), tmp_path / "saved")
    again = models.load(tmp_path / "saved")
    assert jax.tree.structure(again.network) == jax.tree.structure(model)
    assert_array_equal(apply(again.network, IMAGE), apply(model, IMAGE))
