"""The TFDS builder of Tiny-ImageNet, prepared without TensorFlow."""

import io
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image as PILImage

from .._constants import tiny_imagenet_classes
from ._archives import local_archive

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ARCHIVE_NAMES = ("tiny-imagenet-200.zip", "tiny-imagenet-200.tar.gz")
SIDE = 64

# The classes that answer the figures of Simonyan et al. (2013) and of courses built on it, with
# the short names that titles and command lines use, in the order in which figures show them.
PAPER20 = {
    "n03201208": "dining table",
    "n03706229": "magnetic compass",
    "n04328186": "stopwatch",
    "n07720875": "bell pepper",
    "n07749582": "lemon",
    "n01855672": "goose",
    "n03255030": "dumbbell",
    "n03085013": "computer keyboard",
    "n03670208": "limousine",
    "n02123045": "tabby",
    "n07920052": "espresso",
    "n07747607": "orange",
    "n07753592": "banana",
    "n02279972": "monarch",
    "n04146614": "school bus",
    "n02056570": "king penguin",
    "n02165456": "ladybug",
    "n01443537": "goldfish",
    "n07873807": "pizza",
    "n04398044": "teapot",
}


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Tiny-ImageNet: 64x64 photographs of 200 ImageNet classes, each with one bounding box.

    Two configs: `full` (200 classes, 100,000 training and 10,000 validation images) and `paper20`
    (twenty of them, 10,000 and 1,000). The archive comes from TFDS's manual folder, as the
    original zip or as a tar.gz of the same layout, and is downloaded otherwise. An example holds
    `image`, `label`, `wnid`, `bbox` (normalized ymin, xmin, ymax, xmax) and `file_name`.

    Reference: Le and Yang, "Tiny ImageNet Visual Recognition Challenge", 2015 (Stanford CS231n).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="full", description="All 200 classes."),
        tfds.core.BuilderConfig(name="paper20", description="Twenty classes for figures."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Optional: put {' or '.join(ARCHIVE_NAMES)} into the manual folder; "
        f"otherwise {URL} is downloaded."
    )

    @property
    def classes(self) -> dict[str, str]:
        """The classes of this config as wnid -> name, in label order."""
        return PAPER20 if self.builder_config.name == "paper20" else tiny_imagenet_classes()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(self.classes.values())),
                    "wnid": tfds.features.Text(),
                    "bbox": tfds.features.BBoxFeature(),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
            description=type(self).__doc__,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        archive = local_archive(dl_manager, ARCHIVE_NAMES) or Path(dl_manager.download(URL))
        return {
            "train": self._generate_examples(archive, "train"),
            "validation": self._generate_examples(archive, "val"),
        }

    def _generate_examples(self, archive: Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            files = _read_folder(archive, split)
            for path, wnid, box in _annotations(files, split, self.classes):
                name = posixpath.basename(path)
                yield (
                    name,
                    {
                        "image": _three_channels(files[path]),
                        "label": self.classes[wnid],
                        "wnid": wnid,
                        "bbox": box,
                        "file_name": name,
                    },
                )
        except KeyError as error:
            raise ValueError(
                f"expected the layout of {ARCHIVE_NAMES[0]} in {archive}, got none of its "
                f"{split}/{error.args[0]}"
            ) from error
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"expected a zip or a tar.gz, got {archive} ({error})") from error


def _read_folder(archive: Path, split: str) -> dict[str, bytes]:
    """One pass over the archive: a tar.gz cannot be read at random, and 200 MB fit in memory."""
    prefix = f"tiny-imagenet-200/{split}/"
    files: dict[str, bytes] = {}
    with open(archive, "rb") as stream:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as zipped:
                for entry in zipped.infolist():
                    if entry.filename.startswith(prefix) and not entry.is_dir():
                        files[entry.filename[len(prefix) :]] = zipped.read(entry)
        else:
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isfile() else None
                    if content is not None and member.name.startswith(prefix):
                        files[member.name[len(prefix) :]] = content.read()
    return files


def _annotations(
    files: dict[str, bytes], split: str, classes: dict[str, str]
) -> Iterator[tuple[str, str, tfds.features.BBox]]:
    """Yields (path of the image, wnid, box) for every image of these classes."""
    if split == "val":
        for line in files["val_annotations.txt"].decode().splitlines():
            name, wnid, *corners = line.split("\t")
            if wnid in classes:
                yield f"images/{name}", wnid, _box(corners)
    else:
        for wnid in classes:
            for line in files[f"{wnid}/{wnid}_boxes.txt"].decode().splitlines():
                name, *corners = line.split("\t")
                yield f"{wnid}/images/{name}", wnid, _box(corners)


def _box(corners: list[str]) -> tfds.features.BBox:
    """Corners are pixel indices, both ends included: 0 0 63 63 is the whole image."""
    x0, y0, x1, y1 = (int(corner) for corner in corners)
    return tfds.features.BBox(
        ymin=y0 / SIDE, xmin=x0 / SIDE, ymax=(y1 + 1) / SIDE, xmax=(x1 + 1) / SIDE
    )


def _three_channels(encoded: bytes) -> bytes:
    """The file as it is, or, for the few grey ones, the same pixels as an RGB PNG.

    Readers of TFDS return a grey file with one channel, against the declared shape.
    """
    with PILImage.open(io.BytesIO(encoded)) as image:
        if image.mode == "RGB":
            return encoded
        buffer = io.BytesIO()
        PILImage.fromarray(np.asarray(image.convert("RGB"))).save(buffer, format="PNG")
        return buffer.getvalue()
