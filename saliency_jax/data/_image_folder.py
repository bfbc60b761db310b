"""A folder of images as a TFDS dataset, read without TensorFlow."""

import collections
import dataclasses
import functools
import logging
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image as PILImage

# Formats whose endings Pillow knows, but which it reads by other programs or not at all.
_UNREADABLE = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# What macOS packs beside the files of a zip archive.
_OF_MACOS = "__MACOSX"


class ImageFolder(tfds.ImageFolder, skip_registration=True):  # type: ignore[call-arg]
    """The dataset of `tfds.ImageFolder`, whose own reading needs TensorFlow.

    The files are PATH/SPLIT/CLASS/*, with names of your choice for splits and classes, in the
    formats that Pillow reads, known by their endings. They are read where they are; nothing is
    prepared. An example holds `image`, `label` and `image/filename`. Examples are in a random
    order, always the same, so that a slice of a split has all classes.

    Hidden files and folders are passed over. What else is no picture is left out, counted in
    `left_out` and named in one logged warning.

    Args:
      folder: PATH.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it does not have this layout, or nothing in a class's folder is a picture.
    """

    def __init__(self, folder: str | os.PathLike):
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"expected a folder of images, got no folder at {root}")
        self._image_shape = self._image_dtype = None
        # Past the constructor that lists files by TensorFlow.
        tfds.core.DatasetBuilder.__init__(self, data_dir=root)
        self._data_dir = root
        self._files: dict[str, list[tuple[Path, str]]] = {}
        left_out: collections.Counter[str] = collections.Counter()
        for split in _folders(root):
            files = list(_pictures(split, left_out))
            if files:
                self._files[split.name] = files
        if not self._files:
            raise ValueError(
                f"expected images in {root / 'SPLIT' / 'CLASS'} (.jpg, .png or whatever Pillow "
                f"reads), got none; move those for training into {root / 'train' / 'CLASS'}"
            )
        self.left_out = left_out.total()
        if left_out:
            _warn_once(root, ", ".join(f"{ending} {n}" for ending, n in sorted(left_out.items())))
        names = {name for examples in self._files.values() for _, name in examples}
        self.info.features["label"].names = sorted(names)
        for split_name, examples in self._files.items():
            random.Random(split_name).shuffle(examples)
        self.info.set_splits(
            tfds.core.SplitDict(
                [
                    tfds.core.SplitInfo(name=name, shard_lengths=[len(examples)], num_bytes=0)
                    for name, examples in self._files.items()
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
      features: the features of an example.
      files: path and class of every example.
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


@functools.cache
def _endings() -> frozenset[str]:
    """The endings of the files that Pillow reads, such as ".jpg"."""
    formats = PILImage.registered_extensions()  # It loads the formats as well.
    readable = set(PILImage.OPEN) - _UNREADABLE
    return frozenset(ending for ending, kind in formats.items() if kind in readable)


@functools.cache
def _warn_once(root: Path, counts: str) -> None:
    logging.getLogger(__name__).warning("left out of %s what is no picture: %s", root, counts)


def _visible(folder: Path) -> list[os.DirEntry]:
    """What is in a folder by name, hidden things apart."""
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if entry.name[0] != "." and entry.name != _OF_MACOS]
    return sorted(seen, key=lambda entry: entry.name)


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _visible(folder) if entry.is_dir()]


def _pictures(split: Path, left_out: collections.Counter[str]) -> Iterator[tuple[Path, str]]:
    """Path and class of the pictures of a split; what else there is is counted by its ending."""
    for kind in _folders(split):
        entries = _visible(kind)
        found = 0
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                left_out["folders"] += 1
            elif ending in _endings():
                found += 1
                yield Path(entry.path), kind.name
            else:
                left_out[ending or "no ending"] += 1
        if entries and not found:
            raise ValueError(
                f"expected a picture that Pillow reads in {kind}, got none among its "
                f"{len(entries)} entries, such as {entries[0].name}"
            )
