"""The datasets that are named in the documentation, by TFDS's own builders, and image folders."""

import functools
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from miniature_sets import PER_SPLIT, SETS, encoded, label, level, pixels, prepare
from PIL import Image
from tensorflow_datasets.core.folder_dataset import image_folder

from saliency_jax import _constants as constants
from saliency_jax import data, images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(SETS, tmp_path_factory.mktemp("datasets"))


@pytest.mark.parametrize("name", SETS)
def test_description(name: str, folder: Path) -> None:
    known = SETS[name]
    described = data.describe(name, data_dir=folder)
    assert described.kind == "image"
    assert described.image_shape == known.shape
    assert described.num_classes == len(set(described.class_names)) == known.num_classes
    assert {i: described.class_names[i] for i in known.some_names} == known.some_names
    assert described.num_examples == dict.fromkeys(known.splits, PER_SPLIT)
    assert described.test_split == known.test_split
    assert described.mirrored == known.mirrored
    assert len(described.mean) == len(described.std) == known.shape[-1]


def test_batches_are_joined_without_what_fills_them_up() -> None:
    numbers = np.arange(12).reshape(3, 4)
    masks = np.array([[True] * 4, [False, True, True, False], [True, False, False, False]])
    batches = [{"x": x, "mask": mask} for x, mask in zip(numbers, masks, strict=True)]
    joined = data.joined(iter(batches))
    assert joined["x"].tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert joined["mask"].all()
    with pytest.raises(ValueError, match="expected at least one batch, got none"):
        data.joined([])


@pytest.mark.parametrize("name", SETS)
def test_every_split_is_read(name: str, folder: Path) -> None:
    known = SETS[name]
    size = None if known.shape[0] else 32
    for split in known.splits:
        batches = data.load(
            name, split, 8, image_size=size, fields=known.fields, dtype=np.uint8, data_dir=folder
        )
        columns = data.joined(batches)
        shape = (32, 32, 3) if size else known.shape
        assert columns["image"].shape == (PER_SPLIT, *shape)
        numbers = (columns["image"][:, 5, 5, 0].astype(int) - 10 + 6) // 12
        assert sorted(numbers) == list(range(PER_SPLIT))
        # Of one level each; JPEG rounds.
        difference = columns["image"] - np.array([level(n) for n in numbers]).reshape(-1, 1, 1, 1)
        assert np.abs(difference).max() <= (0 if known.shape[0] else 2)
        assert columns["label"].tolist() == [label(name, split, number) for number in numbers]
        for field in known.fields:
            expected = numbers if field == "coarse_label" else [f"{split}_{n:05d}" for n in numbers]
            assert columns[field].tolist() == list(expected)


def test_images_that_differ_in_size_are_the_largest_centred_window_resized(tmp_path: Path) -> None:
    array = np.zeros((40, 80, 3), np.uint8)
    array[:, 20:60] = 200
    path = tmp_path / "train" / "middle"
    path.mkdir(parents=True)
    (path / "wide.png").write_bytes(encoded(array, "PNG"))
    (batch,) = data.load(str(tmp_path), "train", 1, image_size=10, dtype=np.uint8)
    # Into the outermost pixels the filter brings some of what is beyond the window.
    np.testing.assert_array_equal(batch["image"][:, :, 1:-1], np.full((1, 10, 8, 3), 200))


@pytest.mark.parametrize("name", ["imagenette", "imagenet2012", "imagenet_v2"])
def test_images_that_differ_in_size_need_one(name: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"expected image_size, as the images of {name} differ"):
        data.load(name, SETS[name].splits[0], 8, data_dir=folder)


def test_a_split_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="part of the splits test of imagenet_v2, got 'validation"):
        data.load("imagenet_v2", "validation", 8, image_size=8, data_dir=folder)


def test_published_statistics_are_possible() -> None:
    for name, statistics in constants.STATISTICS.items():
        for mean, std in zip(statistics.mean, statistics.std, strict=True):
            # Of values in [0, 1] the variance is at most mean (1 - mean).
            assert 0 < std < (mean * (1 - mean)) ** 0.5, name


@pytest.mark.parametrize("name", [*SETS, "tiny_imagenet/full"])
def test_what_is_not_prepared_names_the_command(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name, "train", 8, data_dir=tmp_path)
    message = str(caught.value)
    assert f"prepare it by: python -m saliency_jax.data {name} --data-dir {tmp_path}" in message
    assert ("--manual-dir" in message) == (name.partition("_v")[0] in BY_HAND)
    assert "\n" not in message


BY_HAND = {"resisc45", "imagenet2012", "tiny_imagenet/full"}


def test_what_cannot_be_downloaded_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object) -> None:
        raise ConnectionError("no route to www.cs.toronto.edu")

    monkeypatch.setattr(tfds.builder_cls("cifar10"), "_split_generators", offline)
    with pytest.raises(ValueError, match=r"expected to prepare cifar10 in .*no route to") as caught:
        data.prepare("cifar10", data_dir=tmp_path)
    assert f"repeat: python -m saliency_jax.data cifar10 --data-dir {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_downloaded_by_hand_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected to prepare imagenet2012") as caught:
        data.prepare("imagenet2012", data_dir=tmp_path)
    assert "ILSVRC2012_img_train.tar" in str(caught.value)
    assert "--manual-dir FOLDER" in str(caught.value)
    assert "\n" not in str(caught.value)


# Folders of images.


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five images of two classes for training, two for testing, and files that are none of them."""
    root = tmp_path / "pictures"
    for split, kind, count in (("train", "dog", 3), ("train", "cat", 2), ("test", "cat", 2)):
        (root / split / kind).mkdir(parents=True)
        for number in range(count):
            kinds = (".jpg", ".PNG", ".jpeg")
            array = pixels((None, None, 3), number)
            file = root / split / kind / f"{number}{kinds[number]}"
            file.write_bytes(encoded(array, "PNG" if kinds[number] == ".PNG" else "JPEG"))
    (root / "train" / "dog" / "notes.txt").write_text("not an image")
    (root / "train" / ".cache" / "x").mkdir(parents=True)
    return root


def test_a_folder_is_the_dataset_that_tfds_makes_of_it(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TFDS's class asks two things of TensorFlow that `os` knows too.
    gfile = types.SimpleNamespace(
        listdir=lambda path: [name for name in os.listdir(path) if name[0] != "."],
        isdir=os.path.isdir,
    )
    tensorflow = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile))
    monkeypatch.setattr(image_folder, "tf", tensorflow)
    theirs = tfds.ImageFolder(str(pictures))
    ours = data.describe(str(pictures))
    assert ours.class_names == tuple(theirs.info.features["label"].names) == ("cat", "dog")
    assert ours.num_examples == {
        name: split.num_examples for name, split in theirs.info.splits.items()
    }
    for split, their_examples in theirs._split_examples.items():
        (batch,) = data.load(str(pictures), split, 5, image_size=8, fields=("image/filename",))
        read = [
            (name, ours.class_names[number])
            for name, number in zip(batch["image/filename"], batch["label"], strict=True)
        ]
        expected = [(example.image_path, example.label) for example in their_examples]
        assert read[: len(expected)] == expected
        assert batch["mask"].sum() == len(expected)


def test_a_folder_is_read_like_any_dataset(pictures: Path) -> None:
    described = data.describe(str(pictures))
    assert described.image_shape == (None, None, 3)
    assert described.test_split == "test"
    assert described.mean is None
    whole, *parts = (
        np.concatenate(
            [
                batch["image/filename"][batch["mask"]]
                for batch in data.load(
                    str(pictures), split, 2, image_size=8, fields=("image/filename",)
                )
            ]
        ).tolist()
        for split in ("train", "train[:60%]", "train[60%:]", "test+train[:1]")
    )
    assert parts[0] + parts[1] == whole
    assert [len(part) for part in parts] == [3, 2, 3]
    (batch,) = data.load(str(pictures), "train", 5, image_size=8, seed=3, dtype=np.uint8)
    kinds = np.array(described.class_names)[batch["label"]]
    assert sorted(zip(kinds.tolist(), batch["image"][:, 4, 4, 0].tolist(), strict=True)) == [
        *(("cat", level(number)) for number in range(2)),
        *(("dog", level(number)) for number in range(3)),
    ]


def test_the_reader_of_a_folder_goes_to_another_process(pictures: Path) -> None:
    batches = data.load(str(pictures), "train", 5, image_size=8)
    sent = pickle.loads(pickle.dumps(batches.dataset))
    np.testing.assert_array_equal(sent[0]["image"], batches.dataset[0]["image"])


def test_a_folder_needs_no_preparation(pictures: Path) -> None:
    before = sorted(pictures.rglob("*"))
    assert data.prepare(str(pictures)).info.splits["train"].num_examples == 5
    assert sorted(pictures.rglob("*")) == before


def test_a_folder_is_named_by_a_path(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    assert data.describe("./pictures").num_classes == 2
    with pytest.raises(ValueError, match=r"a folder of images is named by a path: \./pict"):
        data.describe("pictures")
    with pytest.raises(FileNotFoundError, match=r"expected a folder of images, got no folder at"):
        data.describe("./absent")


def test_folders_of_wordnet_ids_have_names(tmp_path: Path) -> None:
    for wnid in ("n02123045", "n07920052"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        (tmp_path / "train" / wnid / "0.png").write_bytes(encoded(pixels((8, 8, 3), 0), "PNG"))
    assert data.describe(str(tmp_path)).class_names == ("tabby", "espresso")


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(encoded(pixels((8, 8, 3), 0), "PNG"))
    with pytest.raises(ValueError, match=r"expected images in .*SPLIT/CLASS .*train/CLASS"):
        data.describe(str(tmp_path))


@pytest.mark.parametrize("split", ["absent", "train[:0]", "train[9%:5%]", "train["])
def test_a_part_that_a_folder_does_not_have_is_refused(pictures: Path, split: str) -> None:
    with pytest.raises(ValueError, match=r"expected a nonempty part of the splits test, train of"):
        data.load(str(pictures), split, 2, image_size=8)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(pixels((64, 64, 3), 3))[:300]])
def test_a_file_that_is_no_image_is_named(pictures: Path, content: bytes) -> None:
    broken = pictures / "train" / "dog" / "broken.jpg"
    broken.write_bytes(content)
    with pytest.raises(ValueError, match=f"expected an image in {broken}, got {len(content)} byte"):
        list(data.load(str(pictures), "train", 2, image_size=8))


def odd_pictures(folder: Path) -> None:
    """Of one size: 16 bits, transparent over a hidden colour, grey, turned, with broken EXIF."""
    folder.mkdir(parents=True)
    color = pixels((6, 8, 3), 3)
    color[:, :4] = 255
    Image.fromarray(np.full((6, 8), 1000, np.uint16)).save(folder / "deep.png")
    clear = Image.fromarray(color)
    clear.putalpha(51)
    clear.save(folder / "clear.png")
    Image.fromarray(color[..., 0]).save(folder / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(color).save(folder / "turned.png", exif=exif)
    Image.fromarray(color).save(folder / "broken.png", exif=b"Exif\0\0broken metadata")


def test_a_folder_holds_the_very_images_that_are_read_alone(tmp_path: Path) -> None:
    odd_pictures(tmp_path / "train" / "a")
    root = str(tmp_path)
    load = functools.partial(data.load, root, "train", 5, fields=("image/filename",))
    with pytest.raises(ValueError, match="expected image_size"):
        load()
    (batch,) = load(image_size=(6, 8))
    by_name = dict(zip(batch["image/filename"], batch["image"], strict=True))
    for name, image in by_name.items():
        np.testing.assert_array_equal(image, images.read_image(name))
    image = {Path(name).stem: image for name, image in by_name.items()}
    np.testing.assert_allclose(image["deep"], 1000 / 65535, rtol=1e-6)
    np.testing.assert_allclose(image["clear"][:, :4], 1)
    np.testing.assert_array_equal(image["turned"], image["broken"][::-1, ::-1])
    (fitted,) = load(image_size=4)
    for name, small in zip(fitted["image/filename"], fitted["image"], strict=True):
        expected = images.fit(images.read_image(name), 4)
        np.testing.assert_allclose(small, expected, atol=1.1 / 255)
    (stored,) = load(image_size=(6, 8), dtype=np.uint8)
    assert stored["image"].dtype == np.uint8
    np.testing.assert_allclose(stored["image"] / 255, batch["image"], atol=0.51 / 255)


def test_what_pillow_reads_is_read_and_the_rest_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = tmp_path / "train" / "cat"
    kind.mkdir(parents=True)
    endings = (".jpg", ".webp", ".tif", ".TIFF", ".bmp", ".gif", ".ppm")
    for number, ending in enumerate(endings):
        Image.fromarray(pixels((8, 8, 3), number)).save(kind / f"{number}{ending}")
    (kind / "notes.txt").write_text("not an image")
    (kind / "labels.csv").write_text("")
    (kind / "more.csv").write_text("")
    (kind / "album.jpg").mkdir()
    (kind / "album.jpg" / "inner.jpg").write_bytes(b"")
    # What macOS and others leave behind.
    (kind / "._0.jpg").write_bytes(b"resource fork")
    (kind / ".DS_Store").write_bytes(b"")
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "cat" / "0.jpg").write_bytes(b"resource fork")
    (tmp_path / "train" / "__MACOSX").mkdir()
    (tmp_path / "train" / "__MACOSX" / "0.jpg").write_bytes(b"resource fork")

    described = data.describe(str(tmp_path))
    assert described.class_names == ("cat",)
    assert described.num_examples == {"train": len(endings)}
    assert described.left_out == 4
    (batch,) = data.load(str(tmp_path), "train", len(endings), image_size=8, dtype=np.uint8)
    found = np.sort(batch["image"][:, 4, 4, 0].astype(int))
    np.testing.assert_allclose(found, [level(number) for number in range(len(endings))], atol=3)
    (message,) = (record.getMessage() for record in caplog.records)
    assert message == f"left out of {tmp_path} what is no picture: .csv 2, .txt 1, folders 1"


def test_a_class_that_has_no_picture_left_is_named(tmp_path: Path) -> None:
    for kind, name in (("cat", "0.png"), ("dog", "0.heif_")):
        (tmp_path / "train" / kind).mkdir(parents=True)
        (tmp_path / "train" / kind / name).write_bytes(encoded(pixels((8, 8, 3), 0), "PNG"))
    with pytest.raises(ValueError, match=r"expected a picture .* in .*dog, got none .* 0\.heif_"):
        data.describe(str(tmp_path))


def test_signals_builders_are_imported_when_they_are_named(tmp_path: Path) -> None:
    program = """
import sys
from saliency_jax import data
assert "saliency_jax.signals" not in sys.modules
try:
    data.describe("spoken_digits", data_dir=sys.argv[1])
except FileNotFoundError as error:
    print(error)
assert "saliency_jax.signals" in sys.modules
try:
    data.describe("radio_modulation", data_dir=sys.argv[1])
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "expected spoken_digits prepared in" in done.stdout
    assert "did you mean 'radio_modulations'" in done.stdout


def test_a_folder_on_the_command_line(pictures: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "saliency_jax.data", str(pictures)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 classes, 2 test, 5 train, in" in done.stdout
