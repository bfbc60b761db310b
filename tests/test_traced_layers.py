"""The layers of any traced function: where it can be cut, and that a cut is the model."""

import inspect

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from flax import nnx
from jax import lax
from jax.tree_util import Partial
from numpy.testing import assert_allclose

from saliency_jax import ascent, attribution, models, rules, scores
from saliency_jax.layers import Layer

IMAGE = small_models.image((6, 5, 3))
OTHER = small_models.image((6, 5, 3), seed=9)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def conv(x, kernel, stride=1):
    return lax.conv_general_dilated(
        x[None], kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def plain(weights, image):
    x = jax.nn.relu(conv(image, weights["first"]))
    x = jax.jit(jnp.tanh)(conv(x, weights["second"], 2))
    return x.mean((0, 1)) @ weights["dense"]


def plain_weights():
    return {
        "first": numbers(0, 3, 3, 3, 4),
        "second": numbers(1, 3, 3, 4, 4),
        "dense": numbers(2, 4, 2),
    }


def residual(weights, image):
    x = jax.nn.relu(conv(image, weights["first"]))
    with jax.named_scope("block"):
        y = jax.nn.relu(conv(x, weights["second"]))
        y = conv(y, weights["second"])
        x = x + y
    x = jnp.maximum(x, 0)
    return x.mean((0, 1)) @ weights["dense"]


def scanned(weights, image):
    x = conv(image, weights["first"])
    x, _ = lax.scan(lambda x, kernel: (jnp.tanh(conv(x, kernel)), None), x, weights["stack"])
    return x.mean((0, 1)) @ weights["dense"]


def nested(weights, image):
    @jax.jit
    def block(x):
        return jax.jit(jax.nn.relu)(conv(x, weights["first"]))

    @jax.checkpoint
    def head(x):
        return x.mean((0, 1)) @ weights["dense"]

    return head(block(image))


def batched(weights, image):
    """As modules have it that take batches."""
    x = lax.conv_general_dilated(
        image[None], weights["first"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return (jax.nn.relu(x).mean((1, 2)) @ weights["dense"])[0]


def answers_twice(weights, image):
    """A PyTree for an answer."""
    x = jax.nn.relu(conv(image, weights["first"]))
    pooled = x.mean((0, 1))
    return {"logits": pooled @ weights["dense"], "features": pooled}


class EquinoxConvnet(eqx.Module):
    """Channels first, and without a cut of its own."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    dense: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.first = eqx.nn.Conv2d(3, 4, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(4, 5, 3, stride=2, key=keys[1])
        self.dense = eqx.nn.Linear(5, 2, key=keys[2])

    def __call__(self, image):
        x = jnp.moveaxis(image, -1, 0)
        x = jax.nn.relu(self.first(x))
        x = jax.nn.relu(self.second(x))
        return self.dense(x.mean((1, 2)))


class NnxConvnet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.dense = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, image):
        return self.dense(nnx.relu(self.norm(self.first(image))).mean((0, 1)))


class LinenConvnet(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.relu(nn.Conv(4, (3, 3), name="first")(image))
        x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(2)(x.mean((0, 1)))


def linen_convnet():
    module = LinenConvnet()
    return Partial(module.apply, module.init(jax.random.key(0), IMAGE))


MODELS = {
    "plain": lambda: Partial(plain, plain_weights()),
    "residual": lambda: Partial(residual, plain_weights()),
    "scanned": lambda: Partial(
        scanned,
        plain_weights() | {"stack": numbers(3, 2, 3, 3, 4, 4)},
    ),
    "nested": lambda: Partial(nested, plain_weights()),
    "batched": lambda: Partial(batched, plain_weights()),
    "answers twice": lambda: Partial(answers_twice, plain_weights()),
    "equinox": lambda: EquinoxConvnet(jax.random.key(2)),
    "nnx": lambda: NnxConvnet(nnx.Rngs(0)),
    "linen": linen_convnet,
}
each_model = pytest.mark.parametrize("name", MODELS)


def of_primitive(cuts, *primitives):
    return [cut for cut in cuts if cut.primitive in primitives]


def rectified(cuts):
    """Behind jnp.maximum, or jax.nn.relu, whose derivative is its own."""
    return of_primitive(cuts, "max")


@jax.jit
def both(layer, image):
    """What is carried, and the answer of what is."""
    carried = layer.features(image)
    return carried, layer.head(carried)


@each_model
def test_a_cut_is_the_model_at_every_place(name):
    model = MODELS[name]()
    cuts = rules.layers(model, IMAGE)
    assert len(cuts) >= 4
    # Found for one image, they cut the model for every image of its shape.
    for image in (IMAGE, OTHER):
        expected = model(image)
        for cut in cuts:
            carried, answer = both(cut.layer, image)
            assert carried.shape == cut.shape
            jax.tree.map(
                lambda found, wanted: assert_allclose(found, wanted, **CLOSE),
                answer,
                expected,
            )


@each_model
def test_every_later_value_passes_through_a_cut(name):
    """The answer does not change where the image does but what is carried does not."""
    model = MODELS[name]()
    expected = model(OTHER)
    for cut in rules.layers(model, IMAGE):
        carried, _ = both(cut.layer, OTHER)
        # Found with another image, which nothing of the head may depend on.
        jax.tree.map(
            lambda found, wanted: assert_allclose(found, wanted, **CLOSE),
            jax.jit(lambda layer, carried: layer.head(carried))(cut.layer, carried),
            expected,
        )


@each_model
def test_a_cuts_gradient_is_the_models(name):
    model = MODELS[name]()

    def total(image):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(model(image)))

    expected = jax.jit(jax.grad(total))(IMAGE)
    cuts = rules.layers(model, IMAGE)
    for cut in cuts[:: max(1, len(cuts) // 4)]:

        def through(image, layer=cut.layer):
            answer = layer.head(layer.features(image))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(answer))

        assert_allclose(jax.jit(jax.grad(through))(IMAGE), expected, rtol=1e-4, atol=1e-6)


def test_the_places_of_a_plain_network():
    cuts = rules.layers(Partial(plain, plain_weights()), IMAGE)
    shapes = [(cut.primitive, cut.shape) for cut in cuts]
    assert shapes.count(("conv_general_dilated", (1, 6, 5, 4))) == 1
    assert shapes.count(("conv_general_dilated", (1, 3, 3, 4))) == 1
    assert ("max", (6, 5, 4)) in shapes
    assert ("tanh", (3, 3, 4)) in shapes
    # Neither the image nor the answer.
    assert (6, 5, 3) not in [cut.shape for cut in cuts[:1] if cut.primitive == "copy"]
    for cut in cuts:
        carried = cut.layer.features(IMAGE)
        if carried.shape == (2,):
            assert not np.array_equal(carried, plain(plain_weights(), IMAGE))


def test_there_is_no_cut_inside_a_residual_block():
    """Between the fork and the addition, two values are alive."""
    cuts = rules.layers(Partial(residual, plain_weights()), IMAGE)
    assert len(of_primitive(cuts, "conv_general_dilated")) == 1
    inside = [cut for cut in cuts if cut.scope == "block"]
    assert [cut.primitive for cut in inside] == ["add"]


def test_a_scan_is_cut_between_its_steps():
    cuts = rules.layers(MODELS["scanned"](), IMAGE)
    assert len(of_primitive(cuts, "tanh")) == 2


def test_maps_have_their_channels_last():
    by_name = {name: rules.layers(MODELS[name](), IMAGE) for name in ("equinox", "batched", "nnx")}
    first, second = rectified(by_name["equinox"])
    assert first.shape == (4, 6, 5)
    assert first.layer.map(IMAGE).shape == (6, 5, 4)
    assert second.layer.map(IMAGE).shape == (2, 2, 5)
    expected = jnp.moveaxis(first.layer.features(IMAGE), 0, -1)
    assert_allclose(first.layer.map(IMAGE), expected)
    (cut,) = rectified(by_name["batched"])
    assert cut.shape == (1, 6, 5, 4)
    assert cut.layer.map(IMAGE).shape == (6, 5, 4)
    (cut,) = rectified(by_name["nnx"])
    assert cut.layer.map(IMAGE).shape == (6, 5, 4)


def test_channels_first_whose_sides_are_as_many_as_channels():
    """Shapes alone do not tell (4, 4, 4) from itself: the convolution's own numbers do."""
    model = EquinoxConvnet(jax.random.key(2))
    image = small_models.image((4, 4, 3))
    first = rectified(rules.layers(model, image))[0]
    assert first.shape == (4, 4, 4)
    expected = jax.nn.relu(model.first(jnp.moveaxis(image, -1, 0)))
    assert_allclose(first.layer.map(image), jnp.moveaxis(expected, 0, -1), **CLOSE)


def by_hand(name):
    if name == "equinox":
        model = MODELS[name]()

        def features(image):
            x = jax.nn.relu(model.first(jnp.moveaxis(image, -1, 0)))
            return jnp.moveaxis(jax.nn.relu(model.second(x)), 0, -1)

        return (
            model,
            Layer(features, lambda x: model.dense(x.mean((0, 1)))),
            ("max", (5, 2, 2)),
        )
    weights = plain_weights()
    layer = Layer(
        lambda image: jax.nn.relu(conv(image, weights["first"])),
        lambda x: jnp.tanh(conv(x, weights["second"], 2)).mean((0, 1)) @ weights["dense"],
    )
    return Partial(plain, weights), layer, ("max", (6, 5, 4))


# For which something at the layer speaks.
LABELS = {"plain": 1, "equinox": 0}
MAPS = {
    "grad_cam": attribution.grad_cam,
    "grad_cam_plus_plus": attribution.grad_cam_plus_plus,
    "layer_cam": attribution.layer_cam,
    "score_cam": attribution.score_cam,
}


@pytest.mark.parametrize("name", ["plain", "equinox"])
@pytest.mark.parametrize("method", MAPS)
def test_activation_maps_at_a_cut_are_those_of_a_layer_by_hand(name, method):
    model, layer, place = by_hand(name)
    (cut,) = [each for each in rules.layers(model, IMAGE) if (each.primitive, each.shape) == place]
    score = scores.logit(model, LABELS[name])
    found, expected = (
        jax.jit(lambda image, layer=each: MAPS[method](score, image, layer=layer))(IMAGE)
        for each in (cut.layer, layer)
    )
    assert np.abs(found).max() > 0
    assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "equinox"])
def test_relevance_and_readouts_of_a_cuts_channels(name):
    model, layer, place = by_hand(name)
    (cut,) = [each for each in rules.layers(model, IMAGE) if (each.primitive, each.shape) == place]
    channel, hand = scores.channel(cut.layer, 2), scores.channel(layer, 2)
    assert_allclose(channel(IMAGE), hand(IMAGE), **CLOSE)
    neuron, hand = scores.neuron(cut.layer, 1, (1, 0)), scores.neuron(layer, 1, (1, 0))
    assert_allclose(neuron(IMAGE), hand(IMAGE), **CLOSE)
    score = scores.logit(model, 1)
    found, expected = (
        jax.jit(lambda image, layer=each: rules.channel_relevances(score, image, layer))(IMAGE)
        for each in (cut.layer, layer)
    )
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    through, expected = (
        jax.jit(lambda image, layer=each: rules.relevance_through(score, image, layer, 1))(IMAGE)
        for each in (cut.layer, layer)
    )
    assert_allclose(through, expected, rtol=1e-3, atol=1e-5)


def test_the_stages_of_a_bundled_network_are_among_the_cuts():
    """Which it names itself, `network.layer("stage 3")`."""
    network, image = models.load("tiny-imagenet-standard").network, small_models.image((16, 16, 3))
    last = rectified(rules.layers(network, image))
    mapped = jax.jit(lambda layer, image: layer.map(image))
    for name in ("stem", "stage 1", "stage 4"):
        expected = mapped(network.layer(name), image)
        # The last rectifier first: it is the stage's.
        maps = (
            mapped(cut.layer, image) for cut in reversed(last) if cut.shape == (1, *expected.shape)
        )
        assert any(np.allclose(found, expected, rtol=1e-5, atol=1e-6) for found in maps)


def test_lines_and_scopes_are_those_of_the_model():
    lines, start = inspect.getsourcelines(residual)

    def line_of(text):
        return start + next(index for index, line in enumerate(lines) if text in line)

    cuts = rules.layers(Partial(residual, plain_weights()), IMAGE)
    (added,) = [cut for cut in cuts if cut.primitive == "add" and cut.scope]
    assert added.scope == "block"
    assert added.line == f"test_traced_layers.py:{line_of('x = x + y')} (residual)"
    first, last = rectified(cuts)
    assert first.line.endswith(f":{line_of('jax.nn.relu(conv(image')} (residual)")
    assert last.line.endswith(f":{line_of('jnp.maximum(x, 0)')} (residual)")
    assert last.scope == ""


def test_scopes_within_scopes():
    def model(image):
        with jax.named_scope("stage 1"), jax.named_scope("block 2"):
            x = jnp.tanh(image)
        return jax.named_scope("head")(jax.jit(jnp.sin))(x).sum((0, 1))

    cuts = rules.layers(model, IMAGE)
    assert {cut.primitive: cut.scope for cut in cuts}["tanh"] == "stage 1/block 2"
    assert {cut.primitive: cut.scope for cut in cuts}["sin"] == "head"


@pytest.mark.parametrize("name", ["equinox", "nnx", "linen"])
def test_lines_of_modules_are_of_the_test_and_not_the_library(name):
    for cut in rules.layers(MODELS[name](), IMAGE):
        assert cut.line.startswith("test_traced_layers.py:")
        assert "Convnet.__call__" in cut.line


def test_weights_stay_leaves_of_the_layer():
    weights = plain_weights()
    (cut, *_) = rectified(rules.layers(Partial(plain, weights), IMAGE))
    leaves = jax.tree.leaves(cut.layer)
    for weight in jax.tree.leaves(weights):
        assert any(leaf is weight for leaf in leaves)
    # Other weights, the same cut.
    doubled = jax.tree.map(lambda leaf: 2 * leaf, cut.layer)
    expected = jax.nn.relu(conv(IMAGE, 2 * weights["first"]))
    assert_allclose(doubled.features(IMAGE), expected, **CLOSE)
    model = Partial(plain, jax.tree.map(lambda leaf: 2 * leaf, weights))
    assert_allclose(doubled.head(doubled.features(IMAGE)), model(IMAGE), rtol=1e-4)


def test_weights_are_arguments_of_the_program_and_no_constants():
    def program(width):
        kernel, dense = numbers(0, 3, 3, 3, width), numbers(1, width, 2)

        def model(kernel, dense, image):
            return jax.nn.relu(conv(image, kernel)).mean((0, 1)) @ dense

        model = Partial(model, kernel, dense)
        (cut,) = rectified(rules.layers(model, IMAGE))
        mapped = jax.jit(lambda score, layer: attribution.grad_cam(score, IMAGE, layer=layer))
        return mapped.lower(scores.logit(model, 1), cut.layer).as_text()

    assert len(program(1000)) < 1.1 * len(program(100))


def test_another_cut_compiles_again_and_other_weights_do_not(compilations):
    program = jax.jit(lambda layer, image: layer.map(image))
    model = Partial(plain, plain_weights())
    counts = []
    other = Partial(plain, jax.tree.map(lambda leaf: 2 * leaf, plain_weights()))
    first, second, third = (
        of_primitive(rules.layers(each, IMAGE), "max", "tanh") for each in (model, other, model)
    )
    for cut in (first[0], second[0], third[1]):
        with compilations.counted():
            program(cut.layer, IMAGE)
        counts.append(compilations.count)
    assert counts == [1, 0, 1]


@each_model
def test_mapped_over_images_a_cut_is_a_loop(name):
    if name == "answers twice":
        pytest.skip("its answer is no array")
    model = MODELS[name]()
    cuts = rules.layers(model, IMAGE)
    cut = cuts[len(cuts) // 2]
    images = jnp.stack([IMAGE, OTHER])
    mapped = jax.jit(jax.vmap(lambda image: cut.layer.head(cut.layer.features(image))))(images)
    assert_allclose(mapped, jnp.stack([model(image) for image in images]), **CLOSE)


def test_a_cut_can_be_found_inside_jit():
    def cam(image):
        model = Partial(plain, plain_weights())
        (cut, *_) = rectified(rules.layers(model, image))
        return attribution.grad_cam(scores.logit(model, 0), image, layer=cut.layer)

    assert_allclose(jax.jit(cam)(IMAGE), cam(IMAGE), **CLOSE)
    assert_allclose(jax.vmap(cam)(IMAGE[None])[0], cam(IMAGE), **CLOSE)


def test_the_picture_of_a_channel_of_a_cut():
    (cut, *_) = rectified(rules.layers(EquinoxConvnet(jax.random.key(2)), IMAGE))
    # One that is awake.
    channel = int(cut.layer.map(IMAGE).sum((0, 1)).argmax())
    score, optimizer = scores.channel(cut.layer, channel), optax.sgd(1.0)
    state = ascent.initial_state(IMAGE, optimizer, jax.random.key(0))
    climbed = ascent.ascend(score, state, optimizer, 3)
    assert score(climbed.image) > score(IMAGE)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype):
    weights = jax.tree.map(lambda leaf: leaf.astype(dtype), plain_weights())
    model, image = Partial(plain, weights), IMAGE.astype(dtype)
    for cut in rules.layers(model, image):
        carried = cut.layer.features(image)
        answer = cut.layer.head(carried)
        assert answer.dtype == dtype
        # Sums carry single precision.
        assert carried.dtype in (dtype, jnp.float32)
        single = [each.astype(jnp.float32) for each in (answer, model(image))]
        assert_allclose(*single, rtol=0.05, atol=0.05)


def test_weights_that_depend_on_weights_are_worked_out_in_the_head():
    """A kernel that is normalized before its use, as in weight standardization."""

    def model(image):
        kernel = numbers(4, 3, 3, 3, 4)
        x = jnp.tanh(conv(image, kernel / jnp.linalg.norm(kernel)))
        second = numbers(5, 3, 3, 4, 4)
        return conv(x, second - second.mean()).sum((0, 1))

    for cut in rules.layers(model, IMAGE):
        assert_allclose(cut.layer.head(cut.layer.features(OTHER)), model(OTHER), rtol=1e-4)


def test_a_model_that_uses_its_image_again_has_no_cut_before():
    def model(image):
        x = jnp.tanh(image)
        y = jnp.sin(x) + image
        return jnp.cos(y).sum((0, 1))

    primitives = [cut.primitive for cut in rules.layers(model, IMAGE)]
    assert primitives == ["add", "cos"]


@pytest.mark.usefixtures("entry_checks")
def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="expected model to be callable, got int"):
        rules.layers(3, IMAGE)
    with pytest.raises(ValueError, match=r"to be one image .* batch of shape \(2, 4, 4, 3\)"):
        rules.layers(jnp.sum, jnp.zeros((2, 4, 4, 3)))
    (cut, *_) = rules.layers(Partial(plain, plain_weights()), IMAGE)
    with pytest.raises(ValueError, match=r"image of shape \(6, 5, 3\), .* got \(4, 4, 3\)"):
        cut.layer.features(jnp.zeros((4, 4, 3)))


def test_numpy_images_are_welcome():
    model = Partial(plain, plain_weights())
    cuts = rules.layers(model, np.asarray(IMAGE, np.float64))
    assert [cut.shape for cut in cuts] == [cut.shape for cut in rules.layers(model, IMAGE)]
    (cut, *_) = rectified(cuts)
    score = scores.logit(model, 1)
    found = attribution.grad_cam(score, np.asarray(IMAGE), layer=cut.layer)
    assert_allclose(found, attribution.grad_cam(score, IMAGE, layer=cut.layer), **CLOSE)
