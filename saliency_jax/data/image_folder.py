"""A folder of images as a TFDS dataset, read without TensorFlow."""

import dataclasses
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

SUFFIXES = (".jpg", ".jpeg", ".png")


class ImageFolder(tfds.ImageFolder, skip_registration=True):  # type: ignore[call-arg]
    """The dataset of `tfds.ImageFolder`, whose own reading needs TensorFlow.

    The files are PATH/SPLIT/CLASS/*.jpg (or .jpeg, .png), with names of your choice for splits and
    classes. They are read where they are; nothing is prepared. An example holds `image`, `label`
    and `image/filename`. Examples are in a random order, always the same, so that a slice of a
    split has all classes.

    Args:
        folder: PATH.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it does not have this layout.
    """

    def __init__(self, folder: str | os.PathLike):
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"expected a folder of images, got no folder at {root}")
        self._image_shape = self._image_dtype = None
        # Past the constructor that lists files by TensorFlow.
        tfds.core.DatasetBuilder.__init__(self, data_dir=root)
        self._data_dir = root
        files = {
            split.name: [
                (path, kind.name)
                for kind in _folders(split)
                for path in sorted(kind.iterdir())
                if path.suffix.lower() in SUFFIXES
            ]
            for split in _folders(root)
        }
        self._files = {split: examples for split, examples in files.items() if examples}
        if not self._files:
            raise ValueError(
                f"expected images in {root / 'SPLIT' / 'CLASS'} ({', '.join(SUFFIXES)}), got none; "
                f"move those for training into {root / 'train' / 'CLASS'}"
            )
        names = {name for examples in self._files.values() for _, name in examples}
        self.info.features["label"].names = sorted(names)
        for split, examples in self._files.items():
            random.Random(split).shuffle(examples)
        self.info.set_splits(
            tfds.core.SplitDict(
                [
                    tfds.core.SplitInfo(name=split, shard_lengths=[len(examples)], num_bytes=0)
                    for split, examples in self._files.items()
                ]
            )
        )

    def as_data_source(self, split: str, **_: Any) -> "Records":
        """The examples of a split or of a slice of it, serialized like those of a prepared set."""
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(self.info.splits)
        files = [
            file for part in parts for file in self._files[part.splitname][part.from_ : part.to]
        ]
        if not files:
            raise ValueError("no example in it")
        return Records(self.info.features, files)


@dataclasses.dataclass(frozen=True)
class Records:
    """Serialized examples of image files, each read when it is asked for.

    Attributes:
        features: The features of an example.
        files: Path and class of every example.
    """

    features: tfds.features.FeaturesDict
    files: Sequence[tuple[Path, str]]

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, numbers: Sequence[int]) -> list[bytes]:
        return [
            self.features.serialize_example(
                {"image": path.read_bytes(), "label": kind, "image/filename": os.fspath(path)}
            )
            for path, kind in (self.files[number] for number in np.asarray(numbers))
        ]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
