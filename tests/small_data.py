"""A miniature Tiny-ImageNet: archives in the original's layout, of images of one colour each."""

import io
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

from saliency_jax import data
from saliency_jax.data import _tiny_imagenet as tiny_imagenet

PER_CLASS = {"train": 3, "val": 2}
NAME = "tiny_imagenet/paper20"
CLASSES = list(tiny_imagenet.PAPER20.items())


def colour(split: str, label: int, index: int) -> tuple[int, int, int]:
    """The one colour of a fake image, from which a test can tell which image it has."""
    return 10 * label + 20, 100 if split == "train" else 200, 60 * index + 20


def box(label: int, index: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 in pixels, both ends included; the first image's box is the whole image."""
    return (0, 0, 63, 63) if index == 0 else (label, 2 * index, 30 + label, 40 + index)


def encoded(split: str, label: int, index: int) -> bytes:
    picture = Image.new("RGB", (64, 64), colour(split, label, index))
    if label == 3 and index == 1:
        picture = picture.convert("L")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def layout() -> dict[str, bytes]:
    """The files of the original archive: twenty classes, one stranger, a few images each."""
    wnids = [*tiny_imagenet.PAPER20, "n00000001"]
    files = {"wnids.txt": "\n".join(wnids).encode(), "test/images/test_0.JPEG": b"unlabelled"}
    annotations = []
    for label, wnid in enumerate(wnids):
        boxes = []
        for index in range(PER_CLASS["train"]):
            name = f"{wnid}_{index}.JPEG"
            files[f"train/{wnid}/images/{name}"] = encoded("train", label, index)
            boxes.append("\t".join(map(str, (name, *box(label, index)))))
        files[f"train/{wnid}/{wnid}_boxes.txt"] = ("\n".join(boxes) + "\n").encode()
        for index in range(PER_CLASS["val"]):
            name = f"val_{PER_CLASS['val'] * label + index}.JPEG"
            files[f"val/images/{name}"] = encoded("val", label, index)
            annotations.append("\t".join(map(str, (name, wnid, *box(label, index)))))
    files["val/val_annotations.txt"] = ("\n".join(annotations) + "\n").encode()
    return files


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-imagenet-200/", b"")
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"tiny-imagenet-200/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def prepared_folder(root: Path, archive: str, files: dict[str, bytes]) -> Path:
    manual = root / "manual"
    manual.mkdir(parents=True)
    write = write_zip if archive.endswith(".zip") else write_tar
    write(manual / archive, files)
    data.prepare(NAME, manual_dir=manual, data_dir=root / "tfds")
    return root / "tfds"
