"""Published networks by name: their sizes, their files, and what is said when one does not fit."""

import functools
import hashlib
import re

import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from numpy.testing import assert_array_equal

from saliency_jax import models
from saliency_jax.models import __main__ as table
from saliency_jax.models._published import PUBLISHED

# One name for each architecture of its own.
ARCHITECTURES = {published.description.parameters: name for name, published in PUBLISHED.items()}


def abstract(name, num_classes=None):
    build, description = PUBLISHED[name]
    classes = num_classes or len(description.class_names)
    return nnx.eval_shape(lambda: build(classes, rngs=nnx.Rngs(0)))


def random_state(model, seed=0):
    """Weights for an abstract model, in torchvision's names."""
    generator = np.random.default_rng(seed)
    filled = jax.tree.map(lambda leaf: generator.random(leaf.shape, np.float32) / 8, model)
    return models.to_state_dict(filled)


@functools.cache
def resnet18_state():
    return random_state(abstract("resnet18"))


def test_of_residual_networks_torchvisions_counts_are_said():
    counts = {18: 11689512, 34: 21797672, 50: 25557032, 101: 44549160, 152: 60192808}
    for depth, parameters in counts.items():
        assert PUBLISHED[f"resnet{depth}"].description.parameters == parameters


@pytest.mark.parametrize(("said", "name"), ARCHITECTURES.items())
def test_a_network_has_as_many_parameters_as_is_said(said, name):
    """Said are torchvision's counts, 0.27 to 1.7 million by He et al., 36.5 and 46.2 by others."""
    parameters = nnx.state(abstract(name), nnx.Param)
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(parameters)) == said


def test_what_is_available_is_described():
    known = models.available()
    assert set(models.bundled()) < set(known)
    assert (
        len([name for name in known if re.match(r"(wide-)?resnet\d+(-\d)?-l(2|inf)-", name)]) == 55
    )
    for description in known.values():
        assert description.parameters > 50_000
        assert len(set(description.class_names)) == len(description.class_names) > 1
        assert description.weights
        for weights in description.weights.values():
            assert all(0 < percent <= 100 for percent in weights.accuracies.values())
            form = r"[0-9.]+" if weights.package else r"[0-9a-f]{40}"
            assert weights.revision is None or re.fullmatch(form, weights.revision)
            assert (
                weights.file
                or weights.source.startswith("https://")
                or description in (known[name] for name in models.bundled())
            )
    assert known["tiny-imagenet-robust"].parameters == 3_101_908
    assert 50 < known["tiny-imagenet-robust"].weights["bundled"].accuracies["top-1"] < 100


def test_the_table_names_every_model(capsys):
    table.main()
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in models.available())
    assert "torchvision-v2: top-1 80.858 % (timm/resnet50.tv2_in1k)" in printed


def test_the_names_of_imagenet_are_those_of_wordnet_in_order():
    """Of the ten classes of Imagenette, whose labels torchvision's users know by heart."""
    names = models.imagenet_classes()
    labels = {0: "tench", 217: "English springer", 482: "cassette player", 491: "chain saw"}
    labels |= {497: "church", 566: "French horn", 569: "garbage truck", 571: "gas pump"}
    labels |= {574: "golf ball", 701: "parachute"}
    assert {label: names[label] for label in labels} == labels
    assert len(set(names)) == 1000


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub whose files are those put into its cache, as its client keeps them."""
    asked = []

    def put(name, content):
        blob = tmp_path / "blobs" / name
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(content)
        return blob

    def download(repository, file, *, revision):
        asked.append((repository, file, revision))
        blobs = list((tmp_path / "blobs").glob("*"))
        if not blobs:
            raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")
        link = tmp_path / "snapshots" / file
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(blobs[0])
        return str(link)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return put, asked


def test_a_model_comes_from_the_hub_whole(hub):
    put, asked = hub
    content = safetensors.numpy.save(resnet18_state())
    put(hashlib.sha256(content).hexdigest(), content)
    classifier = models.load("resnet18", weights="torchvision-v1")
    assert asked == [("timm/resnet18.tv_in1k", "model.safetensors", None)]
    for name, array in models.to_state_dict(classifier.network).items():
        assert_array_equal(array, resnet18_state()[name])
    assert classifier.name == "resnet18"
    assert classifier.class_names[281] == "tabby"
    assert (classifier.input.size, classifier.input.resize) == ((224, 224), (256, 256))
    assert classifier.input.mean == classifier.network.normalization.mean == (0.485, 0.456, 0.406)
    assert classifier.accuracies == {"top-1": 69.758}


def test_a_file_of_the_hub_that_changed_is_refused(hub):
    put, _ = hub
    put(hashlib.sha256(b"what was published").hexdigest(), b"what arrived")
    with pytest.raises(ValueError, match=r"expected .* to have the SHA-256"):
        models.load("resnet18")


def test_without_the_hub_a_path_is_asked_for(hub):
    with pytest.raises(ConnectionError, match=r"model\.safetensors from timm/resnet50.*path="):
        models.load("resnet50")


def test_a_robust_checkpoint_is_read_as_madrylab_saves_it(tmp_path):
    """With PyTorch, in its archive, with the attacker's copy and the normalizer beside."""
    torch = pytest.importorskip("torch")
    state = {}
    for prefix, factor in (("module.model.", 1), ("module.attacker.model.", 2)):
        state |= {
            prefix + name: torch.tensor(array * factor) for name, array in resnet18_state().items()
        }
    state["module.normalizer.new_mean"] = torch.tensor([0.25, 0.5, 0.75]).reshape(3, 1, 1)
    state["module.normalizer.new_std"] = torch.tensor([0.5, 0.25, 0.5]).reshape(3, 1, 1)
    torch.save({"model": state, "epoch": 90, "schedule": None}, tmp_path / "robust.ckpt")
    classifier = models.load("resnet18-l2-3.0", path=tmp_path / "robust.ckpt")
    taken = classifier.input
    assert_array_equal(classifier.network.fc.bias[...], resnet18_state()["fc.bias"])
    assert (taken.mean, taken.std) == ((0.25, 0.5, 0.75), (0.5, 0.25, 0.5))
    assert taken.resize == (256, 256)
    assert taken.mean_color == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-preact-resnet18-linf-8.0"])
def test_a_cifar_network_is_loaded_and_saved(name, tmp_path):
    state = random_state(abstract(name))
    safetensors.numpy.save_file(state, tmp_path / "weights.safetensors")
    classifier = models.load(name, path=tmp_path / "weights.safetensors")
    assert classifier.class_names[3] == "cat"
    models.save(classifier, tmp_path / "saved")
    again = models.load(tmp_path / "saved")
    assert (again.input, again.accuracies) == (classifier.input, classifier.accuracies)
    assert jax.tree.structure(again.network) == jax.tree.structure(classifier.network)
    leaves = (jax.tree.leaves(one.network) for one in (again, classifier))
    for new, old in zip(*leaves, strict=True):
        assert_array_equal(new, old)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("cifar10-")])
def test_the_mean_colour_is_of_the_images_whatever_the_normalization(name):
    """CIFAR-10's training images: 0.4914, 0.4822, 0.4465, by all who state it."""
    for weights in PUBLISHED[name].description.weights.values():
        assert weights.input.mean_color == (0.4914, 0.4822, 0.4465)
    (carmon,) = PUBLISHED["cifar10-wide-resnet28-10-linf-8.0"].description.weights.values()
    assert (carmon.input.mean, carmon.input.std) == ((0,) * 3, (1,) * 3)


def test_another_number_of_classes_is_taken_from_the_file(tmp_path):
    state = random_state(abstract("cifar10-resnet20", 3))
    safetensors.numpy.save_file(state, tmp_path / "mine.safetensors")
    classifier = models.load("cifar10-resnet20", path=tmp_path / "mine.safetensors")
    assert (classifier.num_classes, classifier.class_names) == (3, ("0", "1", "2"))
    assert not classifier.accuracies


def test_the_file_of_another_network_is_refused_with_every_name(tmp_path):
    state = random_state(abstract("cifar10-resnet20"))
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="does not hold a cifar10-resnet32") as caught:
        models.load("cifar10-resnet32", path=tmp_path / "a.safetensors")
    missing = re.search(r"60 missing: (.*)", str(caught.value))
    assert missing
    assert missing[1].count("layer") == 60


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = random_state(abstract("cifar10-resnet20"))
    state["fc.bias"][0] = np.nan
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"nan or infinity in .*fc.*bias"):
        models.load("cifar10-resnet20", path=tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet50", {"weights": "torchvision-v3"}, "did you mean 'torchvision-v"),
        ("resnet-50", {"path": "a.pt"}, "did you mean 'resnet50"),
        ("resnet51", {}, "did you mean 'resnet50"),
        ("tiny-imagenet-robust", {"weights": "bundled"}, "name of a published model"),
        ("cifar10-resnet20", {}, "expected path=.*github.com/akamaster"),
    ],
)
def test_what_cannot_be_loaded_is_explained(name, settings, message):
    with pytest.raises(ValueError, match=message):
        models.load(name, **settings)


def test_a_path_to_no_file_is_named():
    with pytest.raises(FileNotFoundError, match="got no file at"):
        models.load("resnet50", path="nowhere.pt")
