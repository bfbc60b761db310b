"""Images with boxes from any prepared TFDS set that has them, of images or of the objects in them.

`labelled_images` reads sets of one image size with one box an image, by the batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import saliency
import tensorflow_datasets as tfds
from classifiers import Classifier

from saliency_jax import data
from saliency_jax.data.preparation import prepared

Keys = tuple[str, ...]


class Examples(NamedTuple):
    """Images that show one class each, and where.

    Attributes:
      images: (n, h, w, c) in [0, 1].
      labels: (n,), as the model numbers the classes.
      boxes: (n, m, 4), (y0, x0, y1, x1) in pixels, half open; zeros where an image has fewer.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


class Fields(NamedTuple):
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


def read(
    dataset: str,
    split: str,
    classifier: Classifier,
    *,
    count: int | None = None,
    data_dir: Path | None = None,
) -> Examples:
    """The examples of a split that have boxes of one class, as a classifier sees them.

    Args:
      dataset: TFDS name, with the config after a slash.
      split: of it, sliced at will.
      classifier: gives the images' size and channels, and the numbers of the classes.
      count: how many at most, from the first on; all if None.
      data_dir: folder of prepared TFDS sets; TFDS's default if None.

    Returns:
      The examples. Those with no box, or with objects of several classes, are left out.

    Raises:
      ValueError: the dataset has no classes and boxes, the model does not know a class, there is no
        such split, or it has fewer than 2 such examples.
      FileNotFoundError: the dataset is not prepared.
    """
    builder = prepared(dataset, data_dir=data_dir)
    fields = find_fields(dataset, builder.info.features)
    numbers = [classifier.label(name) for name in fields.class_names]
    images, labels, boxes = [], [], []
    for example in _examples(builder, dataset, split):
        of_objects = set(np.ravel(_at(example, fields.label)).tolist())
        image = np.asarray(example[fields.image], np.float32) / 255
        relative = np.reshape(_at(example, fields.boxes), (-1, 4))
        inside = fit_boxes(relative, image.shape[:2], classifier.input_size)
        if len(of_objects) != 1 or not len(inside):
            continue
        fitted = data.fit(image, classifier.input_size)
        images.append(saliency.with_channels(fitted, classifier.model.channels))
        labels.append(numbers[of_objects.pop()])
        boxes.append(inside)
        if len(images) == count:
            break
    if len(images) < 2:
        raise ValueError(
            f"expected at least 2 images with boxes of one class in {split} of {dataset}, got "
            f"{len(images)}"
        )
    most = max(map(len, boxes))
    padded = [np.pad(of_image, ((0, most - len(of_image)), (0, 0))) for of_image in boxes]
    return Examples(np.stack(images), np.array(labels, np.int32), np.stack(padded))


def find_fields(dataset: str, features: Mapping[str, Any]) -> Fields:
    """The fields of a dataset: where images and their objects both have classes, the images'.

    Raises:
      ValueError: it has no images, no classes or no boxes.
    """
    images = [key for key, one in features.items() if isinstance(one, tfds.features.Image)]
    labels = _find(features, tfds.features.ClassLabel)
    boxes = _find(features, tfds.features.BBoxFeature)
    if not (images and labels and boxes):
        raise ValueError(
            f"expected a dataset with images, classes and boxes, got {dataset} with "
            f"{', '.join(features)}"
        )
    label = min(labels, key=len)
    return Fields(images[0], label, min(boxes, key=len), labels[label].names)


def fit_boxes(boxes: np.ndarray, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Boxes after `data.fit` has cut the middle out of their image and resized it.

    Args:
      boxes: (m, 4), (y0, x0, y1, x1) in units of the image's sides.
      shape: height and width of the image.
      size: height and width that it is fitted to.

    Returns:
      Those that reach into the middle, at most (m, 4), in pixels of the fitted image.
    """
    sides, wanted = np.array(shape, float), np.array(size, float)
    window = wanted * (sides / wanted).min()
    corners = boxes.reshape(-1, 2, 2) * sides - (sides - window) / 2
    corners = np.clip(corners * wanted / window, 0, wanted)
    return corners[(corners[:, 1] > corners[:, 0]).all(1)].reshape(-1, 4)


def _examples(builder: tfds.core.DatasetBuilder, dataset: str, split: str) -> Iterator[Mapping]:
    try:
        source = builder.as_data_source(split)
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(
            f"expected a split of {dataset}, {', '.join(builder.info.splits)}, or a part of one, "
            f"got {split!r}"
        ) from error
    return iter(source)


def _find(features: Mapping[str, Any], kind: type) -> dict[Keys, Any]:
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
