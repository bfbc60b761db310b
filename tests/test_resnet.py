"""The ResNet against its definition written out, and what a batch, a view and a size may change."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from flax import nnx
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal

from saliency_jax import models
from saliency_jax.models._resnet import average_pool, max_pool

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
apply = jax.jit(lambda model, image: model(image))


def randomized(model):
    """The model with batch statistics and scales that are not the identity."""
    generator = np.random.default_rng(0)

    def moved(leaf):
        return leaf + 0.3 * generator.random(leaf.shape, np.float32) if leaf.ndim == 1 else leaf

    return jax.tree.map(moved, model)


@functools.cache
def small(depth=18, stem=models.HALVING_STEM, even=False, channels=3):
    return randomized(
        small_models.drawn(
            lambda: models.ResNet(
                depth,
                5,
                width=4,
                stem=stem,
                even=even,
                channels=channels,
                mean=MEAN[:channels],
                std=STD[:channels],
                rngs=nnx.Rngs(0),
            )
        )
    )


def written_out(model, images):
    """The network of the paper over raw weights, with torch's paddings and library convolutions."""

    def convolve(images, layer, stride):
        size = layer.kernel.shape[0]
        return lax.conv_general_dilated(
            images,
            layer.kernel[...],
            (stride, stride),
            (((size - 1) // 2,) * 2,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def normalize(images, layer):
        scale = layer.scale[...] / jnp.sqrt(layer.var[...] + 1e-5)
        return images * scale.reshape(1, 1, 1, -1) + (
            layer.bias[...] - layer.mean[...] * scale
        ).reshape(1, 1, 1, -1)

    def rectify(images):
        return jnp.maximum(images, 0)

    images = (images - np.reshape(MEAN, (1, 1, 1, 3))) / np.reshape(STD, (1, 1, 1, 3))
    images = rectify(normalize(convolve(images, model.conv1, model.stem.stride), model.bn1))
    if model.stem.max_pool:
        images = lax.reduce_window(
            images, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        )
    for stage, blocks in enumerate(model.stages):
        for index, block in enumerate(blocks):
            stride = 2 if stage and not index else 1
            if hasattr(block, "conv3"):
                inside = rectify(normalize(convolve(images, block.conv1, 1), block.bn1))
                inside = rectify(normalize(convolve(inside, block.conv2, stride), block.bn2))
                inside = normalize(convolve(inside, block.conv3, 1), block.bn3)
            else:
                inside = rectify(normalize(convolve(images, block.conv1, stride), block.bn1))
                inside = normalize(convolve(inside, block.conv2, 1), block.bn2)
            if block.shortcut:
                images = normalize(convolve(images, block.shortcut.conv, stride), block.shortcut.bn)
            images = rectify(images + inside)
    return images.mean((1, 2)) @ model.fc.kernel[...] + model.fc.bias[...].reshape(1, -1)


@pytest.mark.parametrize(
    ("depth", "stem", "size"),
    [
        (18, models.HALVING_STEM, (17, 20)),
        (18, models.SMALL_IMAGE_STEM, (9, 8)),
        (50, models.IMAGENET_STEM, (33, 40)),
    ],
)
def test_logits_are_those_of_the_definition(depth, stem, size):
    model = small(depth, stem)
    images = jax.random.uniform(jax.random.key(0), (2, *size, 3))
    logits = jax.jit(jax.vmap(model))(images)
    assert_allclose(logits, jax.jit(written_out)(model, images), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("even", [False, True])
def test_a_batch_equals_its_singles_and_leaves_the_model_as_it_was(even):
    model = small(even=even)
    before = jax.tree.map(np.array, jax.tree.leaves(model))
    images = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3))
    singles = jnp.stack([apply(model, image) for image in images])
    together = jax.jit(lambda model, images: model.on_batch(images))(model, images)
    assert_allclose(together, singles, rtol=1e-4, atol=1e-5)
    mapped = jax.jit(jax.vmap(model))(images)
    assert_allclose(mapped, singles, rtol=1e-4, atol=1e-5)
    model.on_batch(images)
    for old, new in zip(before, jax.tree.leaves(model), strict=True):
        assert_array_equal(old, new)


LAYERS = ("normalization", "stem", "stage 1", "stage 2", "stage 3", "stage 4", "pooling", "logits")


def test_the_layers_are_the_parts_in_order():
    assert small().layers == LAYERS
    preact = nnx.eval_shape(lambda: models.PreActResNet((1, 1), 3, width=2, rngs=nnx.Rngs(0)))
    assert preact.layers == (
        *("normalization", "stem", "stage 1", "stage 2", "rectification", "pooling", "logits"),
    )


@pytest.mark.parametrize("name", LAYERS)
def test_a_cut_is_the_model_and_holds_each_weight_once(name):
    model, image = small(), jax.random.uniform(jax.random.key(0), (16, 16, 3))
    layer = model.layer(name)

    @jax.jit
    def both(layer, image):
        cut = layer.features(image)
        return cut, layer.head(cut)

    cut, logits = both(layer, image)
    assert_allclose(logits, apply(model, image), rtol=1e-5)
    sides = dict(zip(LAYERS[1:6], (8, 8, 4, 2, 1), strict=True))
    if name in sides:
        assert cut.shape[:2] == (sides[name],) * 2
        assert (cut >= 0).all()
    held = [*jax.tree.leaves(layer.features), *jax.tree.leaves(layer.head)]
    assert {id(leaf) for leaf in held} == {id(leaf) for leaf in jax.tree.leaves(model)}
    assert len(held) == len(jax.tree.leaves(model))


def test_a_layer_is_what_the_definition_has_there():
    model, image = small(), jax.random.uniform(jax.random.key(0), (16, 16, 3))
    assert_allclose(
        model.layer("normalization").map(image),
        (image - np.reshape(MEAN, (1, 1, 3))) / np.reshape(STD, (1, 1, 3)),
        rtol=1e-5,
    )
    top = model.layer("stage 4")
    mean = np.asarray(jax.jit(lambda top, image: top.map(image))(top, image)).mean((0, 1))
    expected = mean @ model.fc.kernel[...] + model.fc.bias[...]
    assert_allclose(apply(model, image), expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_layer_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"of normalization, stem, .* did you mean 'stage 2'"):
        small().layer("Stage_2")


def test_a_mapped_network_is_one_of_batches():
    """As many convolutions, and none that goes through the images in groups or in a loop."""
    model, images = small(even=True), jnp.zeros((3, 16, 16, 3))

    def convolutions(function):
        text = jax.jit(function).lower(images).compile().as_text()
        assert not re.findall(r"group_count=|\bwhile\(", text)
        return text.count(" convolution(")

    mapped = convolutions(jax.vmap(jax.grad(lambda image: model(image)[0])))
    together = convolutions(jax.grad(lambda images: model.on_batch(images)[:, 0].sum()))
    assert mapped == together > 20


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["as they are", "of NumPy", "the other byte order"])
def test_the_answer_has_the_precision_of_the_image(dtype, layout):
    if layout == "the other byte order" and dtype == "bfloat16":
        pytest.skip("NumPy's extension types know one byte order")
    model = models.PreActResNet((1, 1), 5, width=2, rngs=nnx.Rngs(0))
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    expected = apply(model, image)
    with jax.enable_x64(dtype == "float64"):
        given = image.astype(jnp.dtype(dtype))
        given = jnp.asarray(given) if layout == "as they are" else given
        given = given.astype(given.dtype.newbyteorder()) if "other" in layout else given
        logits = apply(model, given) if layout == "as they are" else model(given)
        gradient = jax.eval_shape(
            jax.grad(lambda image: model(image)[0]), jnp.asarray(image, dtype)
        )
        assert logits.dtype == gradient.dtype == jnp.dtype(dtype)
        scale = np.abs(expected).max()
        tolerance = {"float16": 0.02, "bfloat16": 0.1}.get(dtype, 1e-4) * scale
        assert_allclose(np.asarray(logits, np.float64), expected, atol=tolerance)


def test_another_rectifier_shares_the_weights():
    model, image = small(), jax.random.uniform(jax.random.key(0), (16, 16, 3))
    linear = nnx.with_attributes(model, relu=lambda x: x)
    assert linear.conv1.kernel is model.conv1.kernel
    assert linear.stages[3][1].relu is not model.stages[3][1].relu
    # Without rectifiers the network is affine in the image.
    middle = apply(linear, (image + 0.5) / 2)
    ends = (apply(linear, image) + apply(linear, jnp.full_like(image, 0.5))) / 2
    assert_allclose(middle, ends, rtol=1e-3, atol=1e-4)
    assert not np.allclose(apply(model, image), apply(linear, image))


def test_even_strides_reach_every_pixel_equally_often():
    """With all weights equal and no rectifier, the gradient's interior shows the reach."""

    def spread(even):
        model = models.ResNet(18, 1, width=1, stem=models.HALVING_STEM, even=even, rngs=nnx.Rngs(0))
        model = nnx.with_attributes(model, relu=lambda x: x)
        model = jax.tree.map(lambda leaf: jnp.ones_like(leaf) if leaf.ndim > 1 else leaf, model)
        layer = model.layer("stage 2")
        sum_of_stage = jax.jit(lambda image: layer.features(image).sum())
        gradient = jax.grad(sum_of_stage)(jnp.zeros((64, 64, 3)))
        interior = gradient[24:40, 24:40]
        return float(interior.max() / interior.min())

    assert spread(even=True) == pytest.approx(1, abs=1e-4)
    assert spread(even=False) > 1.5


@pytest.mark.parametrize("size", [(40, 40), (33, 47)])
def test_even_strides_take_any_size(size):
    """As many pixels as strides of 2 leave, rounded up, as without `even`."""
    image = jax.ShapeDtypeStruct((*size, 3), jnp.float32)
    shapes = [
        [jax.eval_shape(small(even=even).layer(name).features, image).shape for name in LAYERS]
        for even in (True, False)
    ]
    assert shapes[0] == shapes[1]


def test_pools_are_windows():
    images = jax.random.normal(jax.random.key(0), (1, 7, 6, 2))
    expected = lax.reduce_window(
        images, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    )
    assert_array_equal(max_pool(images), expected)
    pooled = average_pool(images)
    assert pooled.shape == (1, 4, 3, 2)
    assert_allclose(pooled[0, 1, 2], images[0, 2:4, 4:6].mean((0, 1)), rtol=1e-5)
    assert_allclose(pooled[0, 3, 0], images[0, 6, :2].mean(0), rtol=1e-5)


def test_ascent_through_the_network_keeps_fast_convolutions_in_a_loop():
    model = small(even=True)

    def step(image, _):
        return image + jax.grad(lambda image: model(image)[0])(image), None

    text = (
        jax.jit(lambda image: lax.scan(step, image, length=2)[0])
        .lower(jnp.zeros((64, 64, 3)))
        .compile()
        .as_text()
    )
    layouts = re.findall(r"dim_labels=([\w>-]+)", text)
    assert len(layouts) > 20
    assert set(layouts) == {"b01f_01io->b01f"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 19}, "depth"),
        ({"widening": 2}, "widening of 1 at depth 18"),
        ({"mean": (0.5,)}, "mean"),
    ],
)
def test_bad_architectures_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.ResNet(
            **({"depth": 18, "num_classes": 2, "width": 1, "rngs": nnx.Rngs(0)} | arguments)
        )


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (1, 1, 16, 16, 3)])
def test_bad_images_are_named(shape, entry_checks):
    for function in (small(), small().layer("stage 1").features):
        with pytest.raises(ValueError, match="expected an image"):
            function(jnp.zeros(shape))


def test_a_batch_is_pointed_to_vmap(entry_checks):
    for function in (small(), small().layer("stage 1").features):
        with pytest.raises(ValueError, match=r"a batch of shape \(2, 16, 16, 3\).*jax\.vmap"):
            function(jnp.zeros((2, 16, 16, 3)))


def test_numbers_that_are_no_floats_are_refused(entry_checks):
    with pytest.raises(TypeError, match="hold floats, got uint8"):
        small()(jnp.zeros((16, 16, 3), jnp.uint8))
