"""Networks with PyTorch's weights against PyTorch's networks, and names in every wrapper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from numpy.testing import assert_array_equal

from saliency_jax import models

torch = pytest.importorskip("torch")
# Not before: it is made of PyTorch's modules.
import torch_models  # noqa: E402
from torch_models import logits_and_gradient, randomized  # noqa: E402

COUNTS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def arrays(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def abstract(network, *arguments, **settings):
    return nnx.eval_shape(lambda: network(*arguments, 7, width=4, **settings, rngs=nnx.Rngs(0)))


def torchvision(depth, **settings):
    ours = abstract(models.ResNet, depth, **settings)
    return ours, torch_models.ResNet(COUNTS[depth], bottleneck=depth >= 50, **settings)


def hugging_face(depth):
    theirs = torch_models.HuggingFaceResNet(COUNTS[depth], bottleneck=depth >= 50)
    return abstract(models.ResNet, depth), theirs


def cifar(depth):
    counts = ((depth - 2) // 6,) * 3
    theirs = torch_models.ResNet(counts, small=True, shortcut=None, last="linear")
    return abstract(models.ResNet, depth, stem=models.SMALL_IMAGE_STEM), theirs


def projected_cifar(depth):
    names = {"shortcut": "shortcut", "last": "linear"}
    theirs = torch_models.ResNet(COUNTS[depth], bottleneck=depth >= 50, small=True, **names)
    return abstract(models.ResNet, depth, stem=models.SMALL_IMAGE_STEM), theirs


def preact(*, raw, final_norm):
    counts = (2, 2, 2, 2)
    ours = abstract(models.PreActResNet, counts, raw_shortcut=raw, final_norm=final_norm)
    return ours, torch_models.PreActResNet(
        counts, width=4, stem_width=4, wide=False, raw=raw, final_norm=final_norm
    )


def wide():
    ours = abstract(models.PreActResNet, (2, 2, 2), stem_width=2)
    return ours, torch_models.PreActResNet((2, 2, 2), width=4, stem_width=2, wide=True)


PAIRS = {
    **{f"torchvision-{depth}": (torchvision, depth) for depth in COUNTS},
    **{f"hugging-face-{depth}": (hugging_face, depth) for depth in COUNTS},
    "wide-50-2": (functools.partial(torchvision, widening=2), 50),
    **{f"cifar-{depth}": (cifar, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"projected-cifar-{depth}": (projected_cifar, depth) for depth in (18, 50)},
    "preact-18": (functools.partial(preact, raw=False, final_norm=True),),
    "preact-18-raw": (functools.partial(preact, raw=True, final_norm=False),),
    "wide-16": (wide,),
}


@functools.cache
def pair(name):
    """(our abstract network, PyTorch's with random weights)"""
    make, *depth = PAIRS[name]
    ours, theirs = make(*depth)
    return ours, randomized(theirs)


def difference(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", PAIRS)
def test_logits_and_gradients_are_those_of_pytorch(name):
    """Within 1e-4 of the largest, on an odd height and an even width."""
    ours, theirs = pair(name)
    model = models.from_state_dict(ours, arrays(theirs))
    side = (9, 12) if hasattr(theirs, "pool") and model.conv1.stride == 1 else (33, 40)
    generator = np.random.default_rng(0)
    images = generator.random((2, *side, 3), np.float32)
    weights = generator.standard_normal((2, 7))
    logits, pullback = jax.vjp(jax.vmap(model), jnp.asarray(images))
    (gradient,) = pullback(jnp.asarray(weights, jnp.float32))
    expected_logits, expected_gradient = logits_and_gradient(theirs, images, weights)
    assert difference(logits, expected_logits) < 1e-4
    assert difference(gradient, expected_gradient) < 1e-4


@pytest.mark.parametrize("side", [(32, 32), (35, 31)])
def test_strides_and_paddings_are_those_of_pytorch_at_other_sizes(side):
    ours, theirs = pair("torchvision-18")
    model = models.from_state_dict(ours, arrays(theirs))
    images = np.random.default_rng(0).random((1, *side, 3), np.float32)
    expected, _ = logits_and_gradient(theirs, images, np.ones((1, 7)))
    assert difference(jax.vmap(model)(jnp.asarray(images)), expected) < 1e-4


@pytest.mark.parametrize("name", ["torchvision-50", "cifar-20", "wide-16"])
def test_weights_written_and_read_again_are_equal_to_the_bit(name, tmp_path):
    ours, theirs = pair(name)
    model = models.from_state_dict(ours, arrays(theirs))
    safetensors.numpy.save_file(models.to_state_dict(model), tmp_path / "weights.safetensors")
    again = models.from_state_dict(ours, models.read_state_dict(tmp_path / "weights.safetensors"))
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for new, old in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        assert_array_equal(new, old)


def test_pytorch_takes_back_what_is_written():
    ours, theirs = pair("torchvision-50")
    state = arrays(theirs)
    written = models.to_state_dict(models.from_state_dict(ours, state))
    assert written.keys() == {name for name in state if "num_batches" not in name}
    for name, array in written.items():
        assert_array_equal(array, state[name])
    tensors = {name: torch.tensor(array) for name, array in written.items()}
    missing, unexpected = theirs.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all("num_batches" in name for name in missing)


WRAPPERS = {
    "DataParallel": {"module.{}": 1},
    "a module's own name": {"net.{}": 1},
    "several of them": {"learner.backbone.encoder.{}": 1},
    "a sequence": {"1.{}": 1},
    "torch.compile": {"_orig_mod.{}": 1},
    "Lightning": {"model.{}": 1},
    "robustness": {"module.model.{}": 1, "module.attacker.model.{}": 2},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_taken_off(wrapper):
    ours, theirs = pair("torchvision-18")
    state = {
        pattern.format(name): array * factor
        for pattern, factor in WRAPPERS[wrapper].items()
        for name, array in arrays(theirs).items()
    }
    model = models.from_state_dict(ours, state)
    assert_array_equal(model.fc.bias[...], arrays(theirs)["fc.bias"])


BESIDE = {
    "PyTorch's averaged model": ("module.", "n_averaged"),
    "torchmetrics' counts": ("model.", "train_acc.tp"),
    "a loss's weight": ("net.", "criterion.weight"),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_is_beside_the_network_is_left_out(case):
    prefix, beside = BESIDE[case]
    ours, theirs = pair("torchvision-18")
    state = {beside: np.ones(7, np.float32)}
    state |= {prefix + name: array for name, array in arrays(theirs).items()}
    model = models.from_state_dict(ours, state)
    for name, array in models.to_state_dict(model).items():
        assert_array_equal(array, arrays(theirs)[name])


def test_what_pytorch_s_own_averaged_model_saves_is_read(tmp_path):
    ours, theirs = pair("torchvision-18")
    averaged = torch.optim.swa_utils.AveragedModel(theirs)
    averaged.update_parameters(theirs)
    torch.save(averaged.state_dict(), tmp_path / "averaged.pt")
    model = models.from_state_dict(ours, models.read_state_dict(tmp_path / "averaged.pt"))
    assert_array_equal(model.fc.bias[...], arrays(theirs)["fc.bias"])


def test_a_sequence_of_normalizer_and_network_is_read():
    class Normalizer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.25, 0.5, 0.75]).reshape(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.5, 0.25, 0.125]).reshape(1, 3, 1, 1))

    ours, theirs = pair("torchvision-18")
    state = arrays(torch.nn.Sequential(Normalizer(), theirs))
    assert {"0.mean", "1.conv1.weight"} <= state.keys()
    model = models.from_state_dict(ours, state)
    assert model.normalization.mean == (0.25, 0.5, 0.75)
    assert model.normalization.std == (0.5, 0.25, 0.125)
    assert_array_equal(model.fc.bias[...], arrays(theirs)["fc.bias"])


def test_two_networks_in_one_file_are_named():
    ours, theirs = pair("torchvision-18")
    state = {
        f"{prefix}.{name}": array
        for prefix in ("student", "teacher")
        for name, array in arrays(theirs).items()
    }
    with pytest.raises(ValueError, match=r"of 2, behind the prefixes student\., teacher\."):
        models.from_state_dict(ours, state)


def test_what_is_missing_behind_a_prefix_is_named_with_it():
    ours, theirs = pair("torchvision-18")
    state = {f"backbone.{name}": array for name, array in arrays(theirs).items()}
    state["head.weight"] = state.pop("backbone.fc.weight")
    del state["backbone.fc.bias"]
    with pytest.raises(ValueError, match=r"behind the prefix 'backbone\.'") as caught:
        models.from_state_dict(ours, state)
    assert str(caught.value).splitlines()[1:] == ["2 missing: fc.bias, fc.weight"]


def test_a_file_of_something_else_is_told_in_one_line():
    ours, _ = pair("torchvision-18")
    state = {f"blocks.{i}.attn.qkv.weight": np.zeros((3, 3), np.float32) for i in range(12)}
    with pytest.raises(ValueError, match=r"got none of them, but blocks.* and 9 more$"):
        models.from_state_dict(ours, state)


@pytest.mark.parametrize(
    ("mean", "std", "prefix"),
    [
        ("module.normalizer.new_mean", "module.normalizer.new_std", "module.model."),
        ("mu", "sigma", ""),
        ("normalize.mean", "normalize.std", "model."),
    ],
)
def test_the_normalization_of_the_file_is_the_model_s(mean, std, prefix):
    ours, theirs = pair("torchvision-18")
    state = {prefix + name: array for name, array in arrays(theirs).items()}
    state[mean] = np.array([0.25, 0.5, 0.75], np.float32).reshape(3, 1, 1)
    state[std] = np.array([0.5, 0.25, 0.125], np.float32).reshape(3, 1, 1)
    model = models.from_state_dict(ours, state)
    mean, std = model.normalization.mean, model.normalization.std
    assert (mean, std) == ((0.25, 0.5, 0.75), (0.5, 0.25, 0.125))
    images = np.random.default_rng(0).random((1, 33, 40, 3), np.float32)
    normalized = (images - np.float32(mean)) / np.float32(std)
    expected, _ = logits_and_gradient(theirs, normalized, np.ones((1, 7)))
    assert difference(jax.vmap(model)(jnp.asarray(images)), expected) < 1e-4


def test_the_unused_twin_of_a_wide_network_is_left_out():
    ours, theirs = pair("wide-16")
    state = arrays(theirs)
    twin = {
        name.replace("block1.", "sub_block1."): array
        for name, array in state.items()
        if name.startswith("block1.")
    }
    assert twin
    model = models.from_state_dict(ours, state | twin)
    assert_array_equal(model.fc.bias[...], state["fc.bias"])


def test_every_mismatch_is_named_at_once():
    ours, theirs = pair("hugging-face-18")
    state = arrays(theirs)
    bias = "classifier.1.bias"
    state["extra.weight"] = state.pop("resnet.embedder.embedder.convolution.weight")
    state["another"] = state.pop("resnet.encoder.stages.2.layers.1.layer.0.normalization.bias")
    state[bias] = state[bias][:3]
    with pytest.raises(ValueError, match="expected the 102 weights") as caught:
        models.from_state_dict(ours, state)
    assert str(caught.value).splitlines()[1:] == [
        "2 missing: conv1.weight, layer3.1.bn1.bias",
        "2 unexpected: extra.weight, another",
        f"1 of another shape: {bias} (expected (7,), got (3,))",
    ]


def test_two_names_for_one_weight_are_one_too_many():
    ours, theirs = pair("projected-cifar-18")
    state = arrays(theirs)
    with pytest.raises(ValueError, match=r"1 unexpected: fc\.bias"):
        models.from_state_dict(ours, state | {"fc.bias": state["linear.bias"]})


def test_weights_in_half_precision_become_floats():
    ours, theirs = pair("torchvision-18")
    state = {name: array.astype(np.float16) for name, array in arrays(theirs).items()}
    model = models.from_state_dict(ours, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype(jnp.float32)}
