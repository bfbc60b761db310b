"""The vision transformer against its definition written out, its cuts, sizes, names and files."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from precisions import PRECISIONS, strictly

from saliency_jax import attribution, models, scores
from saliency_jax.models._parts import with_dtype

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
DEPTH, WIDTH, HEADS, PATCH = 3, 12, 3, 4
LAYERS = ("normalization", "patches", "block 1", "block 2", "block 3", "norm", "logits")
IMAGE = np.random.default_rng(0).random((8, 12, 3), np.float32)
apply = jax.jit(lambda model, image: model(image))
mapped = jax.jit(lambda layer, image: layer.map(image))
slope = jax.jit(jax.grad(lambda image, model: model(image)[0]))


def randomized(model, seed=0):
    """The model with weights that are far from the identity."""
    generator = np.random.default_rng(seed)

    def draw(leaf):
        fan = math.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
        return jnp.asarray(generator.standard_normal(leaf.shape, np.float32) / fan**0.5)

    return jax.tree.map(draw, model)


@functools.cache
def small(distilled=False, size=(8, 12), epsilon=1e-6):
    build = functools.partial(models.VisionTransformer, DEPTH, 5, width=WIDTH, heads=HEADS)
    options = {"distilled": distilled, "epsilon": epsilon, "mean": MEAN, "std": STD}
    return randomized(
        nnx.eval_shape(lambda: build(size=size, patch=PATCH, **options, rngs=nnx.Rngs(0)))
    )


def normed(values, weights, name, epsilon):
    centred = values - values.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(values, weights, name):
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(values):
    return np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)(values)


def written_out(model, image):
    """Logits, tokens behind each block and attention maps, in double precision, patch by patch."""
    weights = {name: np.float64(array) for name, array in models.to_state_dict(model).items()}
    normal = (np.float64(image) - MEAN) / STD
    tokens = [weights["cls_token"][0, 0]]
    tokens += [weights["dist_token"][0, 0]] if model.distilled else []
    for top in range(0, image.shape[0], PATCH):
        for left in range(0, image.shape[1], PATCH):
            patch = normal[top : top + PATCH, left : left + PATCH]
            kernel = weights["patch_embed.proj.weight"]
            product = np.einsum("hwc,dchw->d", patch, kernel)
            tokens.append(product + weights["patch_embed.proj.bias"])
    tokens = np.stack(tokens) + weights["pos_embed"][0]
    behind, maps = [], []
    for block in range(DEPTH):
        name = f"blocks.{block}"
        normal = normed(tokens, weights, f"{name}.norm1", model.epsilon)
        mixed, heads = linear(normal, weights, f"{name}.attn.qkv"), []
        query, key, value = np.split(mixed, 3, -1)
        sums = []
        for head in range(HEADS):
            part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            similarity = query[:, part] @ key[:, part].T / math.sqrt(WIDTH // HEADS)
            raised = np.exp(similarity)
            heads.append(raised / raised.sum(-1, keepdims=True))
            sums.append(heads[-1] @ value[:, part])
        tokens = tokens + linear(np.concatenate(sums, -1), weights, f"{name}.attn.proj")
        hidden = linear(
            normed(tokens, weights, f"{name}.norm2", model.epsilon), weights, f"{name}.mlp.fc1"
        )
        tokens = tokens + linear(gelu(hidden), weights, f"{name}.mlp.fc2")
        behind.append(tokens)
        maps.append(np.stack(heads))
    final = normed(tokens, weights, "norm", model.epsilon)
    logits = linear(final[0], weights, "head")
    if model.distilled:
        logits = (logits + linear(final[1], weights, "head_dist")) / 2
    return logits, np.stack(behind), np.stack(maps)


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_the_network_is_its_definition(distilled, epsilon):
    model = small(distilled, epsilon=epsilon)
    logits, behind, _ = written_out(model, IMAGE)
    assert_allclose(apply(model, IMAGE), logits, rtol=1e-4, atol=1e-5)
    tokens = apply(model.layer("block 2").features, IMAGE)
    prefixes = 1 + distilled
    assert_allclose(tokens.prefix, behind[1, :prefixes], rtol=1e-4, atol=1e-5)
    assert_allclose(
        mapped(model.layer("block 2"), IMAGE),
        behind[1, prefixes:].reshape(2, 3, WIDTH),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_a_cut_is_the_model_and_holds_each_weight_once(name):
    model = small(distilled=True)
    assert model.layers == LAYERS
    layer = model.layer(name)
    head_of_features = jax.jit(lambda layer, image: layer.head(layer.features(image)))
    assert_allclose(head_of_features(layer, IMAGE), apply(model, IMAGE), rtol=1e-5, atol=1e-6)
    held = [*jax.tree.leaves(layer.features), *jax.tree.leaves(layer.head)]
    assert {id(leaf) for leaf in held} == {id(leaf) for leaf in jax.tree.leaves(model)}
    assert len(held) == len(jax.tree.leaves(model))


def test_maps_are_those_of_the_patches_as_long_as_they_are_read(entry_checks):
    model = small()
    for name in ("patches", "block 1", "block 2"):
        assert mapped(model.layer(name), IMAGE).shape == (2, 3, WIDTH)
    assert_allclose(
        model.layer("normalization").map(IMAGE),
        (IMAGE - np.reshape(MEAN, (1, 1, 3))) / np.reshape(STD, (1, 1, 3)),
        rtol=1e-4,
    )
    for name in ("block 3", "norm", "logits"):
        with pytest.raises(ValueError, match=r"expected the map .* shape \(i, j, d\)"):
            model.layer(name).map(IMAGE)


def test_grad_cam_weights_the_tokens_of_the_patches_by_hand():
    """The gradient in the class token takes no part, and that in the patches does."""
    model = small()
    layer, score = model.layer("block 2"), scores.logit(model, 2)
    carried = apply(layer.features, IMAGE)
    gradient = jax.jit(jax.grad(lambda tokens: layer.head(tokens)[2]))(carried)
    weights = np.zeros(WIDTH)
    for row in range(2):
        for column in range(3):
            weights += np.asarray(gradient.patches)[row, column] / 6
    cam = np.maximum(np.asarray(carried.patches) @ weights, 0)
    assert cam.max() > 0
    grad_cam = functools.partial(attribution.grad_cam, upsample=attribution.nearest)
    found = jax.jit(grad_cam)(score, IMAGE, layer=layer)
    assert_allclose(found, np.kron(cam, np.ones((PATCH, PATCH))), rtol=1e-4, atol=1e-6)


def test_score_cam_and_the_scores_of_features_read_the_patches():
    model = small()
    layer = model.layer("block 1")
    feature_map = np.asarray(mapped(layer, IMAGE))
    channel, neuron = scores.channel(layer, 4), scores.neuron(layer, 4, (1, 2))
    assert_allclose(apply(channel, IMAGE), feature_map[..., 4].mean(), rtol=1e-4)
    assert_allclose(apply(neuron, IMAGE), feature_map[1, 2, 4], rtol=1e-5)
    score, hidden = scores.logit(model, 0), np.zeros_like(IMAGE)
    values = []
    for channel in np.moveaxis(feature_map, -1, 0):
        stretched = (channel - channel.min()) / (channel.max() - channel.min())
        mask = np.kron(stretched, np.ones((PATCH, PATCH)))[..., None].astype(np.float32)
        values.append(float(apply(model, mask * IMAGE + (1 - mask) * hidden)[0]))
    weights = np.exp(values) / np.exp(values).sum()
    cam = np.kron(np.maximum(feature_map @ weights, 0), np.ones((PATCH, PATCH)))
    score_cam = functools.partial(attribution.score_cam, upsample=attribution.nearest)
    found = jax.jit(score_cam)(score, IMAGE, layer=layer)
    assert_allclose(found, cam, rtol=1e-3, atol=1e-5)


def test_what_does_not_fill_a_patch_is_not_seen():
    model = small()
    wider = np.concatenate([IMAGE, np.ones((8, 3, 3), np.float32)], 1)
    higher = np.concatenate([wider, np.ones((1, 15, 3), np.float32)], 0)
    assert_array_equal(apply(model, higher), apply(model, IMAGE))
    with pytest.raises(ValueError, match="at least 4x4, got 3x12"):
        model(IMAGE[:3])


def test_positions_of_another_grid_are_interpolated_with_the_weights_of_pytorch():
    """Cubic convolution with -3/4 at a distance of a quarter; an edge's own value goes on."""
    model = jax.tree.map(jnp.zeros_like, small(size=(24, 24)))
    table = np.zeros((6, 6, WIDTH), np.float32)
    table[2, 3] = 1
    table = np.concatenate([np.zeros((1, WIDTH)), table.reshape(36, WIDTH)])
    model.pos_embed[...] = jnp.asarray(table[None], jnp.float32)
    found = model.layer("patches").map(jnp.zeros((48, 24, 3)))[..., 0]
    quarter = np.array([-0.10546875, 0.87890625, 0.26171875, -0.03515625])
    assert_allclose(found[3:7, 3], [quarter[2], quarter[1], quarter[1], quarter[2]], rtol=1e-6)
    assert_allclose(found[[1, 2, 7, 8], 3], quarter[[3, 0, 0, 3]], rtol=1e-6)
    assert not np.asarray(found)[:, [0, 1, 2, 4, 5]].any()
    model.pos_embed[...] = jnp.ones((1, 37, WIDTH))
    assert_allclose(model.layer("patches").map(jnp.zeros((20, 64, 3))), 1, rtol=1e-5)


def test_a_batch_is_refused_and_mapped_over(entry_checks):
    model, images = small(), np.stack([IMAGE, IMAGE[::-1]])
    with pytest.raises(ValueError, match=r"map over it with jax\.vmap"):
        model(images)
    singles = [apply(model, image) for image in images]
    together = jax.jit(jax.vmap(lambda model, image: model(image), (None, 0)))(model, images)
    assert_allclose(together, singles, rtol=1e-4, atol=1e-5)
    together = jax.jit(lambda model, images: model.on_batch(images))(model, images)
    assert_allclose(together, singles, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PRECISIONS)
def test_logits_and_gradients_have_the_precision_of_the_image(name):
    dtype, weights_dtype, double, tolerance = PRECISIONS[name]
    expected, _, _ = written_out(small(epsilon=1e-12), IMAGE)
    with strictly(double):
        model = with_dtype(small(epsilon=1e-12), weights_dtype)
        image = jnp.asarray(IMAGE, dtype)
        logits, gradient = apply(model, image), slope(image, model)
    assert logits.dtype == gradient.dtype == dtype
    assert np.isfinite(np.asarray(gradient, np.float64)).all()
    scale = np.abs(expected).max()
    assert_allclose(np.asarray(logits, np.float64), expected, atol=3 * tolerance * scale)


def test_another_activation_shares_the_weights():
    model = small()
    relu = nnx.with_attributes(model, only=lambda path, value: True, gelu=jax.nn.relu)
    assert relu.blocks[0].mlp.fc1.kernel is model.blocks[0].mlp.fc1.kernel
    assert not np.allclose(apply(relu, IMAGE), apply(model, IMAGE))


# As timm's `vit_tiny_patch16_224` and `deit_tiny_distilled_patch16_224` list them.
IN_A_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
TIMM = {"cls_token", "pos_embed"} | {
    f"{layer}.{kind}"
    for layer in (
        "patch_embed.proj",
        *(f"blocks.{block}.{inner}" for block in range(DEPTH) for inner in IN_A_BLOCK),
        "norm",
        "head",
    )
    for kind in ("weight", "bias")
}
HEADS_OF_HUGGING_FACE = {"head": "cls_classifier", "head_dist": "distillation_classifier"}


@pytest.mark.parametrize("distilled", [False, True])
def test_weights_are_written_and_read_under_the_names_of_timm(distilled):
    model = small(distilled)
    state = models.to_state_dict(model)
    more = {"dist_token", "head_dist.weight", "head_dist.bias"} if distilled else set()
    assert state.keys() == TIMM | more
    assert state["patch_embed.proj.weight"].shape == (WIDTH, 3, PATCH, PATCH)
    assert state["blocks.1.attn.qkv.weight"].shape == (3 * WIDTH, WIDTH)
    assert state["pos_embed"].shape == (1, 7 + distilled, WIDTH)
    wrapped = {f"module.model.{name}": array for name, array in state.items()}
    again = models.from_state_dict(small(distilled, epsilon=1e-12), wrapped)
    for old, new in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        assert_array_equal(old, new)


def hugging_face(state, family, *, newest):
    """A state of timm's names in Hugging Face's, by hand."""
    renamed = {
        "cls_token": "embeddings.cls_token",
        "dist_token": "embeddings.distillation_token",
        "pos_embed": "embeddings.position_embeddings",
    }
    result = {}
    for name, array in state.items():
        module, _, kind = name.rpartition(".")
        if name in renamed:
            result[f"{family}.{renamed[name]}"] = array
        elif module.startswith("blocks."):
            _, block, layer = module.split(".", 2)
            within = f"{family}.layers.{block}" if newest else f"{family}.encoder.layer.{block}"
            if layer == "attn.qkv":
                names = ("q_proj", "k_proj", "v_proj") if newest else ("query", "key", "value")
                attention = "attention" if newest else "attention.attention"
                for part, values in zip(names, np.split(array, 3), strict=True):
                    result[f"{within}.{attention}.{part}.{kind}"] = values
                continue
            layers = {
                "norm1": "layernorm_before",
                "norm2": "layernorm_after",
                "attn.proj": "attention.o_proj" if newest else "attention.output.dense",
                "mlp.fc1": "mlp.fc1" if newest else "intermediate.dense",
                "mlp.fc2": "mlp.fc2" if newest else "output.dense",
            }
            result[f"{within}.{layers[layer]}.{kind}"] = array
        elif module == "patch_embed.proj":
            result[f"{family}.embeddings.patch_embeddings.projection.{kind}"] = array
        elif module == "norm":
            result[f"{family}.layernorm.{kind}"] = array
        else:
            head = HEADS_OF_HUGGING_FACE[module] if "dist_token" in state else "classifier"
            result[f"{head}.{kind}"] = array
    return result


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize(("family", "distilled"), [("vit", False), ("deit", True)])
def test_weights_are_read_under_the_names_of_hugging_face(family, distilled, newest):
    model = small(distilled)
    state = hugging_face(models.to_state_dict(model), family, newest=newest)
    again = models.from_state_dict(small(distilled, epsilon=1e-12), state)
    for old, new in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        assert_array_equal(old, new)


def test_a_distilled_file_does_not_become_another_network():
    state = models.to_state_dict(small(distilled=True))
    with pytest.raises(ValueError, match=r"3 unexpected: dist_token, head_dist\.\w+, head_dist"):
        models.from_state_dict(small(), state)


def test_a_value_without_its_key_is_named():
    state = hugging_face(models.to_state_dict(small()), "vit", newest=True)
    del state["vit.layers.1.attention.k_proj.bias"]
    with pytest.raises(ValueError, match=r"1 missing: blocks\.1\.attn\.qkv\.bias"):
        models.from_state_dict(small(), state)


def test_a_published_network_is_loaded_from_a_file_and_saved(tmp_path):
    abstract = nnx.eval_shape(
        lambda: models.VisionTransformer(12, 1000, width=192, heads=3, rngs=nnx.Rngs(0))
    )
    state = models.to_state_dict(randomized(abstract))
    safetensors.numpy.save_file(
        hugging_face(state, "vit", newest=False), tmp_path / "model.safetensors"
    )
    classifier = models.load(
        "deit-tiny-patch16-224", weights="hugging-face", path=tmp_path / "model.safetensors"
    )
    assert classifier.network.epsilon == 1e-12
    assert classifier.input.resize == (256, 256)
    assert classifier.label("tabby") == 281
    for name, array in models.to_state_dict(classifier.network).items():
        assert_array_equal(array, state[name])


def test_a_network_is_saved_whole(tmp_path):
    model = small(distilled=True)
    taken = models.Input("image", (8, 12), mean=MEAN, std=STD)
    models.save(models.Classifier("small", model, taken), tmp_path / "saved")
    again = models.load(tmp_path / "saved")
    assert jax.tree.structure(again.network) == jax.tree.structure(model)
    assert_array_equal(apply(again.network, IMAGE), apply(model, IMAGE))


def test_widths_and_sizes_that_do_not_fit_are_refused():
    build = functools.partial(models.VisionTransformer, 1, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="a width that 3 heads divide, got 10"):
        build(width=10, heads=3)
    with pytest.raises(ValueError, match="a size of at least 16x16"):
        build(width=6, heads=3, size=(8, 32))
