"""Data: the Tiny-ImageNet builder, and batches of any TFDS image set, on archives made here."""

import functools
import http.server
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from small_data import (
    CLASSES,
    NAME,
    PER_CLASS,
    box,
    encoded,
    layout,
    prepared_folder,
    write_tar,
    write_zip,
)

from saliency_jax import _constants as constants
from saliency_jax import data
from saliency_jax.data import _loading as loading
from saliency_jax.data import _tiny_imagenet as tiny_imagenet


@pytest.fixture(scope="module")
def folder(tiny_imagenet_folder: Path) -> Path:
    return tiny_imagenet_folder


@pytest.fixture(scope="module")
def load(folder: Path):
    return functools.partial(data.load, NAME, data_dir=folder)


def assert_equal_batches(left: list[data.Batches], right: list[data.Batches]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
            assert a[key].dtype == b[key].dtype


# The builder.


def test_the_twenty_classes_are_among_the_two_hundred() -> None:
    full = constants.tiny_imagenet_classes()
    assert len(full) == len(set(full.values())) == 200
    assert list(full) == sorted(full)
    assert {wnid: full[wnid] for wnid in tiny_imagenet.PAPER20} == tiny_imagenet.PAPER20


def test_description(folder: Path) -> None:
    described = data.describe(NAME, data_dir=folder)
    assert described.num_classes == 20
    assert described.class_names == tuple(tiny_imagenet.PAPER20.values())
    assert described.class_names[:2] == ("dining table", "magnetic compass")
    assert described.image_shape == (64, 64, 3)
    assert described.num_examples == {"train": 60, "validation": 40}


@pytest.mark.parametrize(("split", "archived"), [("train", "train"), ("validation", "val")])
def test_every_example_is_the_archives(load, split: str, archived: str) -> None:
    (batch,) = load(split, 100, dtype=np.uint8, fields=("bbox", "wnid", "file_name"))
    count = 20 * PER_CLASS[archived]
    assert batch["mask"].sum() == count
    seen = set()
    for position in range(count):
        label, name = int(batch["label"][position]), str(batch["file_name"][position])
        number = int(name.removesuffix(".JPEG").split("_")[-1])
        index = number if archived == "train" else number - PER_CLASS["val"] * label
        seen.add((label, index))
        assert batch["wnid"][position] == CLASSES[label][0]
        x0, y0, x1, y1 = box(label, index)
        np.testing.assert_array_equal(batch["bbox"][position] * 64, [y0, x0, y1 + 1, x1 + 1])
        expected = np.array(Image.open(io.BytesIO(encoded(archived, label, index))).convert("RGB"))
        np.testing.assert_array_equal(batch["image"][position], expected)
    assert seen == {(label, i) for label in range(20) for i in range(PER_CLASS[archived])}


def test_grey_files_have_three_channels_for_any_reader(folder: Path) -> None:
    source = tfds.data_source(NAME, split="train", data_dir=folder, download=False)
    assert {example["image"].shape for example in source} == {(64, 64, 3)}


def test_the_whole_image_has_the_unit_box(load) -> None:
    (batch,) = load("train", 60, fields=("bbox", "file_name"))
    first = np.char.endswith(batch["file_name"], "_0.JPEG")
    np.testing.assert_array_equal(batch["bbox"][first], np.tile([0, 0, 1, 1], (20, 1)))


def test_tar_gz_and_zip_prepare_the_same(load, tmp_path: Path) -> None:
    from_tar = prepared_folder(tmp_path, "tiny-imagenet-200.tar.gz", layout())
    tar = data.load(NAME, "train", 16, data_dir=from_tar, fields=("bbox", "file_name"))
    assert_equal_batches(list(tar), list(load("train", 16, fields=("bbox", "file_name"))))


def test_preparing_again_changes_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.array_record*")}
    assert before
    data.prepare(NAME, data_dir=folder)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.array_record*")}


def test_the_archive_is_downloaded_when_there_is_none(
    load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_zip(tmp_path / "tiny-imagenet-200.zip", layout())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/tiny-imagenet-200.zip"
        monkeypatch.setattr(tiny_imagenet, "URL", url)
        data.prepare(NAME, data_dir=tmp_path / "tfds")
    finally:
        server.shutdown()
        server.server_close()
    downloaded = data.load(NAME, "train", 16, data_dir=tmp_path / "tfds")
    assert_equal_batches(list(downloaded), list(load("train", 16)))


def without(prefix: str) -> dict[str, bytes]:
    return {name: content for name, content in layout().items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("train/n07749582/n07749582_boxes.txt", "train/n07749582/n07749582_boxes.txt"),
        ("train/n07749582/images/n07749582_1", "train/n07749582/images/n07749582_1.JPEG"),
        ("val", "val/val_annotations.txt"),
    ],
)
def test_an_incomplete_archive_is_refused(missing: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        prepared_folder(tmp_path, "tiny-imagenet-200.zip", without(missing))
    assert "tiny-imagenet-200.zip" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        data.describe(NAME, data_dir=tmp_path / "tfds")


@pytest.mark.parametrize("name", ["tiny-imagenet-200.zip", "tiny-imagenet-200.tar.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_damaged_archive_is_refused(name: str, kept: float, tmp_path: Path) -> None:
    (write_zip if name.endswith(".zip") else write_tar)(tmp_path / name, layout())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(kept * len(content))] or b"no archive")
    with pytest.raises(ValueError, match=r"expected a zip or a tar.gz, got .*tiny-imagenet-200"):
        data.prepare(NAME, manual_dir=tmp_path, data_dir=tmp_path / "tfds")


# Batches.


def test_images_are_the_bytes_over_255(load) -> None:
    for floats, bytes_ in zip(load("train", 16), load("train", 16, dtype=np.uint8), strict=True):
        assert floats["image"].dtype == np.float32
        assert bytes_["image"].dtype == np.uint8
        np.testing.assert_array_equal(floats["image"], bytes_["image"] / np.float32(255))
        assert 0.0 <= floats["image"].min() < 0.1
        assert 0.7 < floats["image"].max() <= 1.0


def test_last_batch_is_filled_up_with_zeros(load) -> None:
    batches = list(load("train", 16, epochs=2, seed=3, fields=("file_name", "bbox")))
    assert [int(batch["mask"].sum()) for batch in batches] == [16, 16, 16, 12] * 2
    for batch in batches:
        assert batch["image"].shape == (16, 64, 64, 3)
        assert batch["label"].shape == batch["mask"].shape == (16,)
        assert batch["label"].dtype == np.int32
        assert batch["mask"].dtype == np.bool_
        padding = ~batch["mask"]
        assert not batch["image"][padding].any()
        assert not batch["label"][padding].any()
        assert not batch["bbox"][padding].any()
        assert (batch["file_name"][padding] == "").all()
        assert (batch["image"][batch["mask"]].max(axis=(1, 2, 3)) > 0).all()


def names_by_epoch(batches: data.Batches) -> list[list[str]]:
    flat = [str(n) for b in batches for n in b["file_name"][b["mask"]]]
    size = batches.num_examples
    return [flat[i : i + size] for i in range(0, len(flat), size)]


def test_every_epoch_holds_every_image_once_in_a_new_order(load) -> None:
    shuffled = functools.partial(load, "train", 16, epochs=3, fields=("file_name",))
    stored = names_by_epoch(shuffled())
    seeded = names_by_epoch(shuffled(seed=0))
    assert stored[0] == stored[1] == stored[2]
    assert len(set(stored[0])) == 60
    orders = [stored[0], *seeded, *names_by_epoch(shuffled(seed=1))]
    assert all(sorted(order) == sorted(stored[0]) for order in orders)
    # Seven different orders; in particular epoch 1 of seed 0 is not epoch 0 of seed 1.
    assert len({tuple(order) for order in orders}) == 7
    assert seeded == names_by_epoch(shuffled(seed=0))


def test_images_keep_their_labels_when_shuffled(load) -> None:
    for batch in load("train", 7, seed=5, fields=("wnid",)):
        for label, wnid in zip(
            batch["label"][batch["mask"]], batch["wnid"][batch["mask"]], strict=True
        ):
            assert CLASSES[label][0] == wnid


def test_slices_are_disjoint_and_complete(load) -> None:
    parts = [
        names_by_epoch(load(split, 16, fields=("file_name",)))[0]
        for split in ("train[:90%]", "train[90%:]", "train")
    ]
    assert [len(part) for part in parts] == [54, 6, 60]
    assert parts[0] + parts[1] == parts[2]
    # Examples are stored shuffled: the archive's order is class after class.
    assert parts[2] != sorted(
        parts[2], key=lambda name: list(tiny_imagenet.PAPER20).index(name[:9])
    )


@pytest.mark.parametrize("seed", [None, 2])
def test_any_start_equals_the_rest_of_an_uninterrupted_run(load, seed: int | None) -> None:
    whole = list(load("train", 16, seed=seed, epochs=3))
    assert len(whole) == 12
    for start in (1, 4, 7, 12):
        rest = load("train", 16, seed=seed, epochs=3, start=start)
        assert len(rest) == 12 - start
        assert_equal_batches(list(rest), whole[start:])


def test_more_epochs_do_not_change_the_first(load) -> None:
    assert_equal_batches(
        list(load("train", 16, seed=1, epochs=3))[:4], list(load("train", 16, seed=1))
    )


def test_worker_processes_deliver_the_same(load) -> None:
    arguments = {"seed": 4, "epochs": 2, "start": 1, "fields": ("bbox", "file_name")}
    parallel = load("train", 16, workers=2, **arguments)
    assert_equal_batches(list(load("train", 16, **arguments)), list(parallel))


def test_batches_iterate_anew_each_time_and_at_once(load) -> None:
    batches = load("train", 16, seed=0)
    interleaved = list(zip(batches, batches, strict=True))
    assert len(interleaved) == len(batches) == batches.batches_per_epoch == 4
    assert_equal_batches(*(list(side) for side in zip(*interleaved, strict=True)))


def test_an_abandoned_iteration_ends_quietly(load) -> None:
    before = threading.active_count()
    for _ in range(3):
        next(iter(load("train", 4, epochs=50)))
    assert threading.active_count() <= before + 4


def test_image_size_fits_images(load) -> None:
    (small,) = load("train", 60, image_size=(16, 32))
    (whole,) = load("train", 60)
    assert small["image"].shape == (60, 16, 32, 3)
    # The images are of one colour, apart from the rounding of JPEG.
    np.testing.assert_allclose(
        small["image"].mean((1, 2)), whole["image"].mean((1, 2)), atol=2 / 255
    )
    (same,) = load("train", 60, image_size=64)
    np.testing.assert_array_equal(same["image"], whole["image"])


# Other datasets.


class OddImages(tfds.core.GeneratorBasedBuilder):
    """Images of several sizes and modes, one class label, no supervised keys."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="grey"),
        tfds.core.BuilderConfig(name="sizes"),
        tfds.core.BuilderConfig(name="text"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        image = {
            "grey": tfds.features.Image(shape=(28, 28, 1)),
            "sizes": tfds.features.Image(),
            "text": tfds.features.Text(),
        }[self.builder_config.name]
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"picture": image, "kind": tfds.features.ClassLabel(num_classes=3)}
            ),
        )

    def _split_generators(self, _: tfds.download.DownloadManager) -> dict:
        return {"test": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for number in range(6):
            grey = self.builder_config.name == "grey"
            mode = "L" if grey else ("RGB", "L", "RGBA", "P", "1", "CMYK")[number]
            size = (28, 28) if grey else (40 + 5 * number, 90 - 11 * number)
            level = 255 if mode == "1" else 40 * number
            picture = Image.new("L", size, level).convert(mode)
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
            text = self.builder_config.name == "text"
            yield number, {"picture": "a" if text else buffer.getvalue(), "kind": number % 3}


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for config in ("grey", "sizes", "text"):
        data.prepare(f"odd_images/{config}", data_dir=folder)
    return folder


def test_single_channel_images(odd_folder: Path) -> None:
    (batch,) = data.load("odd_images/grey", "test", 6, dtype=np.uint8, data_dir=odd_folder)
    assert batch["image"].shape == (6, 28, 28, 1)
    assert sorted(batch["image"][:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160, 200]
    np.testing.assert_array_equal(batch["label"], batch["image"][:, 5, 5, 0] // 40 % 3)
    assert data.describe("odd_images/grey", data_dir=odd_folder).class_names == ("0", "1", "2")


def test_images_of_several_sizes_and_modes(odd_folder: Path) -> None:
    (batch,) = data.load("odd_images/sizes", "test", 8, image_size=24, data_dir=odd_folder)
    assert batch["image"].shape == (8, 24, 24, 3)
    levels = np.sort(batch["image"][batch["mask"], 12, 12, 1] * 255)
    np.testing.assert_allclose(levels, [0, 40, 80, 120, 200, 255], atol=2)
    assert data.describe("odd_images/sizes", data_dir=odd_folder).image_shape == (None, None, 3)


# Bad input.


def test_images_of_several_sizes_need_a_size(odd_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"expected image_size, as the images .* differ in size"):
        data.load("odd_images/sizes", "test", 8, data_dir=odd_folder)


def test_a_dataset_without_images_is_refused(odd_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected a dataset with one 8-bit image .* picture: Text"
    ):
        data.load("odd_images/text", "test", 8, data_dir=odd_folder)


def test_unprepared_dataset_names_the_command(tmp_path: Path) -> None:
    for call in (data.describe, functools.partial(data.load, split="train", batch_size=8)):
        with pytest.raises(FileNotFoundError) as caught:
            call("cifar10", data_dir=tmp_path)
        message = str(caught.value)
        assert f"python -m saliency_jax.data cifar10 --data-dir {tmp_path}" in message
        assert "expected cifar10 prepared in" in message
        assert "\n" not in message


def test_preparing_without_a_package_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As cifar10 does: it reads its archive by TensorFlow.
    def generate(_: OddImages) -> Iterator:
        import tensorflow  # noqa: F401

        yield

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(OddImages, "_generate_examples", generate)
    with pytest.raises(ValueError, match="python -m pip install tensorflow") as caught:
        data.prepare("odd_images/grey", data_dir=tmp_path)
    assert "expected to prepare odd_images/grey in" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unprepared_tiny_imagenet_names_the_local_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--manual-dir FOLDER"):
        data.describe(NAME, data_dir=tmp_path)


def test_the_named_command_works(tmp_path: Path) -> None:
    write_tar(tmp_path / "tiny-imagenet-200.tar.gz", layout())
    command = [sys.executable, "-m", "saliency_jax.data", NAME, "--data-dir", str(tmp_path / "d")]
    done = subprocess.run(
        [*command, "--manual-dir", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "20 classes, 60 train, 40 validation" in done.stdout
    failed = subprocess.run(
        [*command, "--manual-dir", str(tmp_path / "absent")], capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith("error: expected manual_dir to be a folder")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar11", "got 'cifar11'; did you mean 'cifar10"),
        ("tinyimagenet/paper20", "did you mean 'tiny_imagenet'"),
        ("tiny_imagenet/paper21", "such as tiny_imagenet/full or tiny_imagenet/paper20"),
        ("tiny_imagenet/paper20:9.9.9", "got 'tiny_imagenet/paper20:9.9.9'"),
        ("", "expected the name of a dataset"),
        ("two words", "expected the name of a dataset"),
    ],
)
def test_unknown_dataset(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        data.load(name, "train", 8, data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["trian", "train[:0]", "train[:99999]", "train[", "train[9%:5%]"])
def test_bad_split(load, split: str) -> None:
    with pytest.raises(ValueError, match="expected a nonempty part of the splits train, valid"):
        load(split, 8)


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "expected batch_size to be at least 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "expected batch_size to be an integer, got 2.5"),
        ({"epochs": 0}, ValueError, "expected epochs to be at least 1"),
        ({"start": -1}, ValueError, "expected start to be at least 0"),
        ({"start": 9}, ValueError, r"expected start to be at most 8 \(1 epochs of 8 batches"),
        ({"workers": -1}, ValueError, "expected workers to be at least 0"),
        ({"seed": -1}, ValueError, "expected seed to be at least 0"),
        ({"image_size": 0}, ValueError, "expected height to be at least 1"),
        ({"image_size": (8, 8, 3)}, ValueError, "expected size to be one side or"),
        ({"dtype": np.float64}, ValueError, "expected dtype float32 or uint8, got float64"),
        ({"fields": ("bbx",)}, ValueError, "got 'bbx'; did you mean 'bbox'"),
        ({"fields": ("label",)}, ValueError, "got 'label'"),
        ({"fields": "bbox"}, TypeError, "expected fields to be a sequence of names"),
    ],
)
def test_bad_arguments(folder: Path, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        data.load(NAME, "train", **({"batch_size": 8, "data_dir": folder} | arguments))


def test_another_file_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.prepare("odd_images/grey", data_dir=tmp_path)
    monkeypatch.setattr("saliency_jax.data._preparation.FILE_FORMAT", "riegeli")
    with pytest.raises(ValueError, match="expected odd_images/grey in the file format riegeli"):
        data.describe("odd_images/grey", data_dir=tmp_path)


def test_labels_and_images_go_into_jax(load) -> None:
    batch = next(iter(load("train", 4)))
    assert jnp.asarray(batch["image"]).dtype == jnp.float32
    assert jnp.asarray(batch["label"]).dtype == jnp.int32


def test_a_large_seed_is_as_good(load) -> None:
    assert loading._spread(2**40) != loading._spread(2**40 + 1)
    assert len(list(load("train", 16, seed=2**40))) == 4


def test_channel_statistics_are_those_of_all_pixels():
    images = np.random.default_rng(0).random((5, 4, 3, 2)).astype(np.float32)
    batches = [
        {"image": images[:3], "mask": np.ones(3, bool)},
        {"image": np.concatenate([images[3:], 0 * images[:1]]), "mask": np.arange(3) < 2},
    ]
    mean, std = data.channel_statistics(batches)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(std, images.std((0, 1, 2)), atol=1e-4)
