"""Vision transformers and ConvNeXts against Hugging Face's and timm's, on the same weights."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from saliency_jax import attribution, models, scores

torch = pytest.importorskip("torch")
from torch_models import logits_and_gradient  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")

SETTINGS = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
    "num_labels": 7,
}
TINY = SETTINGS | {
    "hidden_size": 192,
    "intermediate_size": 768,
    "image_size": 64,
    "patch_size": 16,
}


def transformer(config, *, distilled=False, epsilon=1e-12):
    return nnx.eval_shape(
        lambda: models.VisionTransformer(
            config["num_hidden_layers"],
            config["num_labels"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            size=(config["image_size"],) * 2,
            patch=config["patch_size"],
            distilled=distilled,
            epsilon=epsilon,
            rngs=nnx.Rngs(0),
        )
    )


def convnext():
    return nnx.eval_shape(lambda: models.ConvNext((1, 1, 2, 1), 7, width=4, rngs=nnx.Rngs(0)))


def vit(config):
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**config))
    return transformer(config), theirs


def deit():
    theirs = transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**SETTINGS))
    return transformer(SETTINGS, distilled=True), theirs


def hugging_face_convnext():
    config = transformers.ConvNextConfig(
        hidden_sizes=[4, 8, 16, 32], depths=[1, 1, 2, 1], num_labels=7
    )
    return convnext(), transformers.ConvNextForImageClassification(config)


def timm_pair(kind):
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    if kind == "convnext":
        theirs = timm.models.ConvNeXt(depths=(1, 1, 2, 1), dims=(4, 8, 16, 32), num_classes=7)
        return convnext(), theirs
    if kind == "distilled":
        theirs = timm.models.VisionTransformerDistilled(**sizes, num_classes=7)
        return transformer(SETTINGS, distilled=True, epsilon=1e-6), theirs
    theirs = timm.models.VisionTransformer(**sizes, num_classes=7)
    return transformer(SETTINGS, epsilon=1e-6), theirs


PAIRS = {
    "vit": (vit, (SETTINGS,), (16, 16)),
    "vit-tiny": (vit, (TINY,), (64, 64)),
    "deit-distilled": (deit, (), (16, 16)),
    "convnext": (hugging_face_convnext, (), (64, 70)),
    "timm-vit": (timm_pair, ("vit",), (16, 16)),
    "timm-distilled": (timm_pair, ("distilled",), (16, 16)),
    "timm-convnext": (timm_pair, ("convnext",), (64, 70)),
}


def randomized(network):
    """Weights and scales that are far from those of the start, in inference mode."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        spread = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.data.normal_(0, spread, generator=generator)
    return network.eval()


def arrays(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


class Logits(torch.nn.Module):
    """Hugging Face's networks answer with a record."""

    def __init__(self, network, **settings):
        super().__init__()
        self.network, self.settings = network, settings

    def forward(self, images):
        answer = self.network(images, **self.settings)
        return getattr(answer, "logits", answer)


def difference(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@jax.jit
def ours_of(model, images, weights):
    logits, pullback = jax.vjp(jax.vmap(model), images)
    return logits, *pullback(weights)


def check(model, theirs, side, **settings):
    generator = np.random.default_rng(0)
    images = generator.random((2, *side, 3), np.float32)
    weights = generator.standard_normal((2, 7))
    logits, gradient = ours_of(model, images, jnp.asarray(weights, jnp.float32))
    expected, expected_gradient = logits_and_gradient(Logits(theirs, **settings), images, weights)
    assert difference(logits, expected) < 1e-4
    assert difference(gradient, expected_gradient) < 1e-4


@pytest.mark.parametrize("name", PAIRS)
def test_logits_and_gradients_are_those_of_pytorch(name):
    make, arguments, side = PAIRS[name]
    ours, theirs = make(*arguments)
    theirs = randomized(theirs)
    check(models.from_state_dict(ours, arrays(theirs)), theirs, side)


@pytest.mark.parametrize("side", [(20, 20), (8, 28), (16, 24)])
def test_positions_are_interpolated_as_hugging_face_does(side):
    ours, theirs = vit(SETTINGS)
    theirs = randomized(theirs)
    model = models.from_state_dict(ours, arrays(theirs))
    check(model, theirs, side, interpolate_pos_encoding=True)


@pytest.mark.parametrize("name", ["vit", "deit-distilled", "convnext"])
def test_files_are_read_as_hugging_face_saves_them(name, tmp_path):
    make, arguments, _ = PAIRS[name]
    ours, theirs = make(*arguments)
    theirs.save_pretrained(tmp_path)
    saved = models.read_state_dict(tmp_path / "model.safetensors")
    from_file = models.from_state_dict(ours, saved)
    from_memory = models.from_state_dict(ours, arrays(theirs))
    for one, other in zip(jax.tree.leaves(from_file), jax.tree.leaves(from_memory), strict=True):
        np.testing.assert_array_equal(one, other)


def relevance_by_hand(network, image, label, prefixes):
    """Chefer et al.'s rule on PyTorch's own gradients, and rollout, both as (h, w) of one pixel a
    patch.
    """
    network = network.double()
    network.set_attn_implementation("eager")
    pixels = torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[None]
    answer = network(pixels, output_attentions=True)
    maps = answer.attentions
    gradients = torch.autograd.grad(answer.logits[0, label], maps)
    count = maps[0].shape[-1]
    relevance, rollout = np.eye(count), np.eye(count)
    for attention, gradient in zip(maps, gradients, strict=True):
        attention, gradient = attention[0].detach().numpy(), gradient[0].numpy()
        relevance = relevance + np.maximum(attention * gradient, 0).mean(0) @ relevance
        rollout = (attention.mean(0) + np.eye(count)) / 2 @ rollout
    network.float()
    side = round((count - prefixes) ** 0.5)
    return [
        found[:prefixes, prefixes:].mean(0).reshape(side, side) for found in (relevance, rollout)
    ]


@pytest.mark.parametrize(("name", "prefixes"), [("vit", 1), ("deit-distilled", 2)])
def test_attention_and_its_gradients_are_those_of_hugging_face(name, prefixes):
    make, arguments, _ = PAIRS[name]
    ours, theirs = make(*arguments)
    theirs = randomized(theirs)
    model = models.from_state_dict(ours, arrays(theirs))
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    expected = relevance_by_hand(theirs, image, 3, prefixes)
    for method, patches in zip(
        (attribution.attention_relevance, attribution.attention_rollout), expected, strict=True
    ):
        found = method(
            scores.logit(model, 3), image, attention=model.attention, upsample=attribution.nearest
        )
        assert difference(found, np.kron(patches, np.ones((4, 4)))) < 1e-4
