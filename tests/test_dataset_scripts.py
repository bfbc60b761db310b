"""Training on well-known datasets, and the pictures of what is trained: sizes, channels, splits."""

import dataclasses
import shlex
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from miniature_sets import SETS, encoded, level, pixels, prepare

from saliency_jax import data, models, training
from saliency_jax.models import _resnet as resnet

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
# Of a classifier, what decides how images are read.
SMALL = types.SimpleNamespace(input=models.Input("image", (8, 8)))
DEPTH = 8
TRAINED = ("mnist", "cifar10", "svhn_cropped")


@pytest.fixture(scope="module", autouse=True)
def experiments():
    sys.path.insert(0, str(EXPERIMENTS))
    yield
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def train(experiments):
    import train

    return train


@pytest.fixture(scope="module")
def saliency(experiments):
    import saliency

    return saliency


@pytest.fixture(scope="module")
def class_visualization(experiments):
    import class_visualization

    return class_visualization


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return prepare(SETS, tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="module")
def runs(train, folder, tmp_path_factory):
    """Settings and folders of runs of two steps on the datasets of TRAINED."""
    root = tmp_path_factory.mktemp("runs")
    # A smaller network than any of the library's: it is not what is tested here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGES, DEPTH, (1, 1, 1))
        settings = {
            name: train.Settings(
                output=root / name,
                dataset=name,
                data_dir=folder,
                depth=DEPTH,
                width=2,
                epochs=1,
                batch_size=9,
                test_epsilons=(),
                augment=name != "svhn_cropped",
            )
            for name in TRAINED
        }
        for of_one in settings.values():
            train.main(of_one)
        yield settings


@pytest.mark.parametrize("name", TRAINED)
def test_a_dataset_is_trained_on(runs, folder, name):
    described = data.describe(name, data_dir=folder)
    classifier = models.load(runs[name].output / "model")
    height, width, channels = described.image_shape
    taken = classifier.input
    assert (taken.kind, taken.size, taken.channels) == ("image", (height, width), channels)
    assert classifier.class_names == described.class_names
    assert (taken.mean, taken.std) == (described.mean, described.std)
    # 18 of the 20 images are trained on.
    log = np.loadtxt(runs[name].output / "log.csv", delimiter=",", skiprows=1, ndmin=2)
    assert log[-1, 0] == 2
    (batch,) = data.load(name, "test", 20, data_dir=folder)
    logits = jax.jit(lambda network, images: jax.vmap(network)(images))(
        classifier.network, batch["image"]
    )
    logits = np.asarray(logits)
    assert logits.shape == (20, 10)
    assert np.isfinite(logits).all()
    accuracy = (logits.argmax(axis=1) == batch["label"]).mean()
    card = (runs[name].output / "card.md").read_text()
    assert "Reported on all 20 examples of `test`" in card
    assert f"| top-1 | {100 * accuracy:g}% |" in card
    assert f"input {height}x{width}x{channels} in [0, 1]" in card
    assert "small stem" in card


@pytest.mark.parametrize("name", TRAINED)
def test_the_command_on_the_card_asks_for_the_same(train, runs, name):
    card = (runs[name].output / "card.md").read_text()
    (line,) = (line for line in card.splitlines() if "experiments/train.py" in line)
    again = tyro.cli(train.Settings, args=shlex.split(line)[2:])
    asked = dataclasses.replace(runs[name], output=again.output, data_dir=None)
    assert again == asked


def test_maps_of_images_with_one_channel(saliency, runs, folder, tmp_path):
    model = runs["mnist"].output / "model"
    settings = saliency.Settings(
        dataset="mnist", count=3, model=(str(model),), data_dir=folder, output=tmp_path / "maps"
    )
    saliency.main(settings)
    with np.load(tmp_path / "maps" / "saliency-model.npz") as stored:
        assert stored["images"].shape == stored["attributions"].shape == (3, 28, 28, 1)
        assert stored["saliency_maps"].shape == (3, 28, 28)
        assert stored["probabilities"].shape == (3, 10)
        # Of one channel the largest absolute value is that of the one.
        np.testing.assert_allclose(
            stored["saliency_maps"], np.abs(stored["attributions"][..., 0]), rtol=1e-5
        )
        assert stored["saliency_maps"].max() > 0
        (batch,) = data.load("mnist", "test[:3]", 3, data_dir=folder)
        np.testing.assert_array_equal(stored["images"], batch["image"])
    assert f"labelled {batch['label'][0]}" in (tmp_path / "maps" / "index.html").read_text()


def test_class_visualizations_of_images_with_one_channel(class_visualization, runs, tmp_path):
    model = runs["mnist"].output / "model"
    settings = class_visualization.Settings(
        classes=("3", "7"),
        model=(str(model),),
        learning_rate=0.1,
        steps=2,
        jitter=0,
        output=tmp_path / "classes",
    )
    class_visualization.main(settings)
    with np.load(tmp_path / "classes" / "class_visualization-model.npz") as stored:
        assert stored["images"].shape == (2, 28, 28, 1)
        assert stored["images"].min() >= 0
        assert stored["images"].max() <= 1
        assert stored["labels"].tolist() == [3, 7]
        assert (stored["values"][:, 1] > stored["values"][:, 0]).all()
    for name in ("class_visualization.png", "saliency.png", "index.html"):
        assert (tmp_path / "classes" / name).stat().st_size > 0


TRAIN_AND_TEST = ("train[:90%]", "train[90%:]", "test")
TRAIN_AND_VALIDATION = ("train[:90%]", "train[90%:]", "validation")


@pytest.mark.parametrize(
    ("name", "splits", "image_size", "stem", "mirror"),
    [
        ("cifar10", TRAIN_AND_TEST, None, "small", True),
        ("cifar100", TRAIN_AND_TEST, None, "small", True),
        ("mnist", TRAIN_AND_TEST, None, "small", False),
        ("fashion_mnist", TRAIN_AND_TEST, None, "small", True),
        ("svhn_cropped", TRAIN_AND_TEST, None, "small", False),
        ("resisc45", ("train[:80%]", "train[80%:90%]", "train[90%:]"), None, "imagenet", True),
        ("imagenette", TRAIN_AND_VALIDATION, 224, "imagenet", True),
        ("imagenet2012", TRAIN_AND_VALIDATION, 224, "imagenet", True),
    ],
)
def test_what_is_not_asked_for_follows_the_data(
    train, folder, name, splits, image_size, stem, mirror
):
    info = data.describe(name, data_dir=folder)
    settings = train.follow(train.Settings(Path("run"), dataset=name), info)
    assert (settings.train_split, settings.holdout_split, settings.test_split) == splits
    assert (settings.image_size, settings.stem) == (image_size, stem)
    assert settings.mirror == mirror


def test_what_is_asked_for_does_not_follow_the_data(train, folder):
    info = data.describe("imagenette", data_dir=folder)
    asked = train.Settings(
        Path("run"), train_split="train", test_split="train", image_size=64, mirror=False
    )
    settings = train.follow(asked, info)
    assert settings == dataclasses.replace(asked, holdout_split="train[90%:]", stem="halving")
    assert train.follow(settings, info) == settings


def test_the_defaults_are_those_of_the_bundled_models(train, tiny_imagenet_folder):
    asked = train.Settings(Path("run"))
    settings = train.follow(asked, data.describe(asked.dataset, data_dir=tiny_imagenet_folder))
    assert settings == dataclasses.replace(
        asked,
        train_split="train[:90%]",
        holdout_split="train[90%:]",
        test_split="validation",
        stem="halving",
        mirror=True,
    )


def test_a_dataset_without_a_training_split_is_refused(train, folder, tmp_path):
    settings = train.Settings(tmp_path / "run", dataset="imagenet_v2", data_dir=folder)
    with pytest.raises(ValueError, match="expected a dataset with a split train, got imagenet_v2"):
        train.main(settings)
    assert not settings.output.exists()


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", "expected labelled images in test of imagenet2012.*another --test-split"),
        ("tset", "expected a nonempty part of the splits .*, got 'tset'"),
    ],
)
def test_a_split_without_labels_or_examples_is_refused_before_anything_is_made(
    train, folder, tmp_path, split, message
):
    settings = train.Settings(
        tmp_path / "run", dataset="imagenet2012", test_split=split, image_size=8, data_dir=folder
    )
    with pytest.raises(ValueError, match=message):
        train.main(settings)
    assert not settings.output.exists()


def test_photographs_without_labels_are_shown_without(saliency, folder):
    settings = saliency.Settings(dataset="imagenet2012", split="test", data_dir=folder)
    photographs = saliency.read_photographs(settings, [SMALL])
    assert [photograph.note for photograph in photographs] == [""] * 16


def test_photographs_come_from_the_split_that_is_made_for_it(saliency, folder):
    settings = saliency.Settings(dataset="imagenet_v2", count=2, data_dir=folder)
    photographs = saliency.read_photographs(settings, [SMALL])
    names = data.describe("imagenet_v2", data_dir=folder).class_names
    for index, photograph in enumerate(photographs):
        assert photograph.title == f"test {index}"
        number = round((255 * photograph.image[4, 4, 0] - level(0)) / 12)
        assert photograph.note == f"labelled {names[7 * number]}"


def test_a_folder_of_images_is_a_dataset_for_the_scripts(train, saliency, tmp_path):
    for split, kind in (("train", "a"), ("train", "b"), ("test", "b")):
        (tmp_path / split / kind).mkdir(parents=True)
        for number in range(5):
            file = tmp_path / split / kind / f"{number}.png"
            file.write_bytes(encoded(pixels((None, None, 3), number), "PNG"))
    asked = train.Settings(Path("run"), dataset=str(tmp_path), image_size=8, batch_size=9)
    settings = train.follow(asked, data.describe(str(tmp_path)))
    assert settings.train_split == "train[:90%]"
    assert settings.test_split == "test"
    photographs = saliency.read_photographs(
        saliency.Settings(dataset=str(tmp_path), count=9), [SMALL]
    )
    assert [photograph.note for photograph in photographs] == ["labelled b"] * 5


def test_images_of_characters_are_shifted_and_zoomed_but_not_mirrored():
    image = jax.random.uniform(jax.random.key(0), (8, 8, 1))
    keys = jax.random.split(jax.random.key(1), 16)

    @jax.jit
    def augmented(image):
        return tuple(
            jax.vmap(augment, in_axes=(None, 0))(image, keys)
            for augment in (training.flip_crop_and_zoom, training.crop_and_zoom)
        )

    either, kept = augmented(image)
    _, mirrored = augmented(image[:, ::-1])
    is_kept, is_mirrored = (
        jnp.abs(either - other).max(axis=(1, 2, 3)) < 1e-5 for other in (kept, mirrored)
    )
    assert (is_kept ^ is_mirrored).all()
    assert 0 < is_kept.sum() < 16
