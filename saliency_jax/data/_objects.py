"""Images with boxes, of any prepared TFDS set that has them, of images or of their objects."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float

from .._validation import check_text
from ._preparation import prepared

Keys = tuple[str, ...]


class ObjectFields(NamedTuple):
    """Where a TFDS set keeps images, classes and boxes, the last two by the keys that lead there.

    Attributes:
      image: the key.
      label: one key, or two of a field in a sequence.
      boxes: likewise.
      class_names: in the order of the labels.
    """

    image: str
    label: Keys
    boxes: Keys
    class_names: Sequence[str]


class Objects(NamedTuple):
    """An image that shows objects of one class, and where they are.

    Attributes:
      image: (h, w, c) in [0, 1], of any size.
      label: the class.
      boxes: (m, 4), (y0, x0, y1, x1) in units of the image's sides.
    """

    image: Float[np.ndarray, "h w c"]
    label: int
    boxes: Float[np.ndarray, "m 4"]


def load_objects(
    name: str, split: str, *, data_dir: str | Path | None = None
) -> tuple[tuple[str, ...], Iterator[Objects]]:
    """The images with boxes of one class of a prepared TFDS set.

    Args:
      name: TFDS name, with the config after a slash.
      split: of it, sliced at will.
      data_dir: TFDS data folder; TFDS's own default if None.

    Returns:
      The names of the classes, and the images one after the other. Those with no box, or with
      objects of several classes, are left out.

    Raises:
      ValueError: the dataset has no classes and boxes, or no such split.
      FileNotFoundError: the dataset is not prepared.

    Example:
      >>> names, objects = load_objects("voc/2007", "train")  # doctest: +SKIP
      >>> next(objects).boxes.shape  # doctest: +SKIP
      (1, 4)
    """
    check_text("split", split)
    builder = prepared(name, data_dir=data_dir)
    fields = _object_fields(name, builder.info.features)
    try:
        source = builder.as_data_source(split)
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(
            f"expected a split of {name}, {', '.join(builder.info.splits)}, or a part of one, got "
            f"{split!r}"
        ) from error
    return tuple(fields.class_names), _of_one_class(source, fields)


def _of_one_class(source: Any, fields: ObjectFields) -> Iterator[Objects]:
    for example in source:
        classes = set(np.ravel(_at(example, fields.label)).tolist())
        boxes = np.reshape(_at(example, fields.boxes), (-1, 4))
        if len(classes) == 1 and len(boxes):
            image = np.asarray(example[fields.image], np.float32) / 255
            yield Objects(image, classes.pop(), boxes)


def _object_fields(name: str, features: tfds.features.FeaturesDict) -> ObjectFields:
    """The fields of a dataset: where images and their objects both have classes, the images'.

    Raises:
      ValueError: it has no images, no classes or no boxes.
    """
    images = [key for key, one in features.items() if isinstance(one, tfds.features.Image)]
    labels = _find(features, tfds.features.ClassLabel)
    boxes = _find(features, tfds.features.BBoxFeature)
    if not (images and labels and boxes):
        raise ValueError(
            f"expected a dataset with images, classes and boxes, got {name} with "
            f"{', '.join(features)}"
        )
    label = min(labels, key=len)
    return ObjectFields(images[0], label, min(boxes, key=len), labels[label].names)


def _find(features: tfds.features.FeaturesDict, kind: type) -> dict[Keys, Any]:
    """The features of a kind, by their key, or by that of a sequence and of a field in it."""
    found: dict[Keys, Any] = {}
    for key, feature in features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, kind):
            found[key,] = feature
        elif isinstance(inner, kind):
            found[key,] = inner
        elif isinstance(inner, tfds.features.FeaturesDict):
            found |= {(key, name): one for name, one in inner.items() if isinstance(one, kind)}
    return found


def _at(example: Mapping, path: Keys) -> np.ndarray:
    value: Any = example
    for key in path:
        value = value[key]
    return np.asarray(value)
