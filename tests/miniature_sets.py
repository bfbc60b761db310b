"""Miniatures of well-known datasets: TFDS's own builders with a few images of one grey level each.

Builder, features, class names and record files are TFDS's. Only where the examples come from is
replaced: the archives are not here, and TFDS reads some of them by TensorFlow.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from saliency_jax import data

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_SPLIT = 20


class Known(NamedTuple):
    """What the publishers of a dataset say of it."""

    splits: tuple[str, ...]
    shape: tuple[int | None, ...]
    num_classes: int
    some_names: dict[int, str]
    fields: tuple[str, ...] = ()
    test_split: str = "test"
    mirrored: bool = True


DIGITS = {number: str(number) for number in range(10)}
SETS = {
    "cifar10": Known(("train", "test"), (32, 32, 3), 10, dict(enumerate(CIFAR10)), ("id",)),
    "cifar100": Known(("train", "test"), (32, 32, 3), 100, {99: "worm"}, ("id", "coarse_label")),
    "mnist": Known(("train", "test"), (28, 28, 1), 10, DIGITS, mirrored=False),
    "fashion_mnist": Known(("train", "test"), (28, 28, 1), 10, {0: "T-shirt/top", 8: "Bag"}),
    "svhn_cropped": Known(
        ("train", "test", "extra"), (32, 32, 3), 10, DIGITS, ("id",), mirrored=False
    ),
    "resisc45": Known(
        ("train",), (256, 256, 3), 45, {0: "airplane", 44: "wetland"}, ("filename",), "train"
    ),
    "imagenette": Known(
        ("train", "validation"),
        (None, None, 3),
        10,
        {0: "tench", 4: "church", 9: "parachute"},
        (),
        "validation",
    ),
    "imagenet2012": Known(
        ("train", "validation", "test"),
        (None, None, 3),
        1000,
        {0: "tench", 281: "tabby", 967: "espresso"},
        ("file_name",),
        "validation",
    ),
    "imagenet_v2": Known(("test",), (None, None, 3), 1000, {1: "goldfish"}, ("file_name",)),
}


def label(name: str, split: str, number: int) -> int:
    if (name, split) == ("imagenet2012", "test"):
        return -1
    return 7 * number % SETS[name].num_classes


def level(number: int) -> int:
    return 10 + 12 * number


def pixels(shape: tuple[int | None, ...], number: int) -> np.ndarray:
    """An image of one grey level, from which a test can tell which image it has."""
    height, width = (shape[0] or 40 + number), (shape[1] or 70 - number)
    return np.full((height, width, shape[-1]), level(number), np.uint8)


def encoded(array: np.ndarray, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, kind)
    return buffer.getvalue()


def examples(builder: tfds.core.DatasetBuilder, split: str) -> Iterator[tuple[int, dict]]:
    for number in range(PER_SPLIT):
        array = pixels(SETS[builder.name].shape, number)
        example = {
            # As TFDS encodes arrays, if it has TensorFlow, and as the archives hold files.
            "image": io.BytesIO(encoded(array, "PNG" if SETS[builder.name].shape[0] else "JPEG")),
            "label": label(builder.name, split, number),
        }
        for field in SETS[builder.name].fields:
            example[field] = number if field == "coarse_label" else f"{split}_{number:05d}"
        yield number, example


def split_generators(self, _: tfds.download.DownloadManager) -> dict:
    # The builders of CIFAR read the names from the archive.
    if self.name == "cifar10":
        self.info.features["label"].names = list(CIFAR10)
    if self.name == "cifar100":
        self.info.features["label"].names = [f"class {i}" for i in range(99)] + ["worm"]
        self.info.features["coarse_label"].names = [f"superclass {i}" for i in range(20)]
    return {split: examples(self, split) for split in SETS[self.name].splits}


def prepare(names: Iterable[str], root: Path) -> Path:
    """A TFDS data folder with these datasets, prepared by `data.prepare` without TensorFlow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(tfds.builder_cls(name), "_split_generators", split_generators)
            data.prepare(name, data_dir=root)
    return root
