"""The images of a data set, as a classifier takes them, chunk by chunk."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from .._validation import check_instance, check_text
from ..models import Classifier
from ._compute import Columns, Points, Source
from ._store import TEXT, texts


def images_of(
    classifier: Classifier,
    dataset: str,
    split: str | None,
    batch_size: int,
    *,
    size: tuple[int, int] | None = None,
    class_labels: Sequence[int] | None = None,
    need_labels: bool = False,
    given: np.ndarray | None = None,
    data_dir: str | Path | None = None,
) -> Source:
    """Images, labels and numbers of a data set's examples, and as a column their ids.

    Args:
      classifier, dataset, split, size, class_labels, data_dir: see `attribute`.
      batch_size: see the room.
      need_labels: whether every class of the data set must be one of the classifier's.
      given: a label for all examples or for each, which then is a point too.

    Returns:
      The source of the points `image`, `label`, `number`, `readable` and, if there is one, `given`.
    """
    check_instance("classifier", classifier, Classifier, "a Classifier")
    check_text("dataset", dataset)
    if split is not None:
        check_text("split", split)
    info = data.describe(dataset, data_dir=data_dir)
    if info.kind != classifier.input.kind:
        raise ValueError(
            f"expected a dataset of kind {classifier.input.kind}, got {dataset}, of kind "
            f"{info.kind}"
        )
    if info.sample_rate not in (None, classifier.input.sample_rate):
        raise ValueError(
            f"expected a dataset of {classifier.input.sample_rate} samples a second, got "
            f"{dataset}, of {info.sample_rate}"
        )
    numbers = _numbers(classifier, info, class_labels, need_labels)
    height, width = classifier.input.resize
    loaded = data.load(
        dataset,
        split or info.test_split,
        batch_size,
        image_size=(height, width) if None in info.image_shape else None,
        fields=[info.id_field] if info.id_field else [],
        strict=False,
        data_dir=data_dir,
    )
    count = loaded.num_examples
    if given is not None:
        if given.ndim and len(given) != count:
            raise ValueError(f"expected labels for {count} images, got {len(given)}")
        given = given if given.ndim else np.full(count, given)
    is_folder = dataset.startswith((".", "~", os.sep))
    root = Path(dataset).expanduser() if is_folder else None

    def read(number: int) -> tuple[Points, Columns]:
        batch = loaded.dataset[number]
        rows = np.minimum(np.arange(number * batch_size, (number + 1) * batch_size), count - 1)
        names: Any = rows
        if info.id_field:
            names = [
                os.path.relpath(name, root) if root and name else name
                for name in batch[info.id_field]
            ]
        points = {
            "image": np.stack(
                [classifier.preprocess(image, size=size) for image in batch["image"]]
            ),
            "label": np.where(batch["label"] < 0, -1, numbers[batch["label"]]),
            "number": rows.astype(np.int32),
            # What fills up the last chunk is nobody's image.
            "readable": batch["readable"] | ~batch["mask"],
        }
        if given is not None:
            points["given"] = given[rows].astype(np.int32)
        return points, {f"ids{TEXT}": texts([str(name) for name in names])}

    return Source(count, batch_size, read)


def _numbers(
    classifier: Classifier,
    info: data.Description,
    class_labels: Sequence[int] | None,
    need_labels: bool,
) -> np.ndarray:
    """The classifier's label of each class of the data set, -1 of those that it does not know."""
    if class_labels is not None:
        labels = np.asarray(class_labels, np.int32)
        if labels.shape != (info.num_classes,) or labels.max() >= classifier.num_classes:
            raise ValueError(
                f"expected class_labels to be {info.num_classes} labels below "
                f"{classifier.num_classes}, got {list(class_labels)}"
            )
        return labels
    labels = np.full(info.num_classes, -1, np.int32)
    for number, name in enumerate(info.class_names):
        try:
            labels[number] = classifier.label(name)
        except ValueError:
            if need_labels:
                raise
    return labels
