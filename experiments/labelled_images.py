"""Labelled images with boxes: what the experiments that measure maps over a whole split share.

Each measures the same images under two models, so that every difference is paired by image, and
each image beside another one, the next of the split, as a control: TFDS stores examples in a random
order.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import classifiers
import comparison
import numpy as np
import saliency
from classifiers import Classifier

from saliency_jax import data, plots, report

# Examples read at once, before they are measured.
_READ = 250
RED = (1.0, 0.2, 0.2)
# Of the photographs in scikit-image's wheel the class, and the object's box (y0, x0, y1, x1).
_CARRIED = {"cat": ("tabby", (0, 20, 300, 400)), "coffee": ("espresso", (15, 170, 310, 415))}
# Of each, evenly spaced from its left end to its right one.
_WINDOWS = 5
HOW_TO_READ = (
    "Means over the images with their 95 % bootstrap intervals, the images being resampled. The "
    "difference is paired by image: its interval says whether the models differ. Images for which "
    "a quantity is undefined, such as a share of a map that is 0, are left out of it."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    model: tuple[str, str] = classifiers.BUNDLED_PAIR
    """Names of two bundled models, or folders of saved ones, which know the dataset's classes."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set whose images have one size, labels and boxes."""
    split: str = "validation"
    """Split of the dataset, sliced at will: "validation[:500]"."""
    count: int = 1000
    """How many of its images, from the first on."""
    shown: int = 6
    """How many of them are shown."""
    batch_size: int = 20
    """Images measured at once; those finished are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


def check(settings: Settings) -> None:
    """Says at once what would only fail after the models are loaded."""
    for name, least in (("count", 2), ("shown", 1), ("batch_size", 1)):
        value = getattr(settings, name)
        if value < least:
            flag = name.replace("_", "-")
            raise ValueError(f"expected --{flag} to be at least {least}, got {value}")


def read(settings: Settings, classifier: Classifier) -> dict[str, np.ndarray]:
    """The examples, as this classifier sees them.

    Args:
      settings: which images.
      classifier: gives the images' size and channels, and the numbers of the classes.

    Returns:
      Of n examples, each with another image's beside its own: `images` (n, 2, h, w, c) in [0, 1],
      `labels` (n, 2), `boxes` (n, 2, 4) as (y0, x0, y1, x1) in pixels, and `number` (n,).

    Raises:
      ValueError: the model does not know a class, or the dataset has no boxes that fit the images.
      FileNotFoundError: the dataset is not prepared.
    """
    description = data.describe(settings.dataset, data_dir=settings.data_dir)
    numbers = np.array([classifier.label(name) for name in description.class_names], np.int32)
    height, width = classifier.input_size
    whole_height, whole_width, _ = description.image_shape
    if whole_height is None or whole_width is None or whole_height * width != whole_width * height:
        raise ValueError(
            f"expected images of the proportions {height}x{width}, so that their boxes fit when "
            f"they are resized, got {settings.dataset} with {whole_height}x{whole_width}"
        )
    batches = data.load(
        settings.dataset,
        settings.split,
        min(_READ, settings.count),
        image_size=(height, width),
        fields=("bbox",),
        data_dir=settings.data_dir,
    )
    columns: dict[str, list[np.ndarray]] = {"image": [], "label": [], "bbox": []}
    read = 0
    for batch in batches:
        kept = batch["mask"] & (read + np.arange(len(batch["mask"])) < settings.count)
        for name, column in columns.items():
            column.append(batch[name][kept])
        read += kept.sum()
        if read == settings.count:
            break
    if read < 2:
        raise ValueError(f"expected at least 2 images in {settings.split}, got {read}")
    images, labels, boxes = (np.concatenate(column) for column in columns.values())
    return _examples(classifier, images, numbers[labels], boxes)


def carried(classifier: Classifier) -> dict[str, np.ndarray]:
    """Ten examples that need no dataset: windows of the two photographs in scikit-image's wheel.

    Each is as high as its photograph. The cat's and the coffee's take turns, so that the image
    beside each is one of the other class.

    Args:
      classifier: gives the images' size and channels, and the numbers of the classes.

    Returns:
      The examples, as `read` returns them.

    Raises:
      ValueError: the model does not know a class.
    """
    height, width = classifier.input_size
    images, labels, boxes = [], [], []
    for place in np.linspace(0, 1, _WINDOWS):
        for photograph in saliency.carried_photographs():
            name, (top, left, bottom, right) = _CARRIED[photograph.title]
            whole_height, whole_width, _ = photograph.image.shape
            window = min(round(whole_height * width / height), whole_width)
            start = round(place * (whole_width - window))
            images.append(data.fit(photograph.image[:, start : start + window], (height, width)))
            labels.append(classifier.label(name))
            ends = np.clip([left - start, right - start], 0, window) / window
            boxes.append([top / whole_height, ends[0], bottom / whole_height, ends[1]])
    return _examples(
        classifier,
        np.stack(images),
        np.array(labels, np.int32),
        np.array(boxes, np.float32),
    )


def _examples(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, boxes: np.ndarray
) -> dict[str, np.ndarray]:
    """Images, labels and boxes in units of the image, each beside the next one's."""
    height, width = classifier.input_size
    images = np.stack(
        [saliency.with_channels(image, classifier.model.channels) for image in images]
    )
    return {
        "images": with_another(images),
        "labels": with_another(labels),
        "boxes": with_another(boxes * np.array([height, width, height, width], np.float32)),
        "number": np.arange(len(labels)),
    }


def with_another(values: np.ndarray) -> np.ndarray:
    """(n, 2, ...): beside each of n values the next one, beside the last the first."""
    return np.stack([values, np.roll(values, -1, axis=0)], axis=1)


def beside_control(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """A measure (n, 2) with its control, as three: itself, the control, and how far above it is."""
    own, control = values.T
    return {name: own, f"{name}, control": control, f"{name}, above control": own - control}


def tabulate(names: Sequence[str], values: Sequence[Mapping[str, np.ndarray]]) -> report.Table:
    """A row for each measure, with both models' means and their paired difference.

    Args:
      names: the two models'.
      values: of each, (n,) by the name of the measure; nan where it is undefined.

    Returns:
      The table.
    """
    first, second = values
    rows = []
    for measure in first:
        pair = np.stack([first[measure], second[measure]]).astype(np.float32)
        defined = pair[:, np.isfinite(pair).all(axis=0)]
        differences = (*defined, defined[1] - defined[0])
        rows.append([measure, *map(cell, differences), str(defined.shape[1])])
    return report.Table(["", *names, "difference", "images"], rows)


def cell(values: np.ndarray) -> str:
    """The mean over images with its interval, as tables write it."""
    return comparison.cell(comparison.interval(values)) if len(values) else "undefined"


def seconds_cell(seconds: float) -> str:
    """Wall time as tables write it, unless an interruption lost it."""
    return "" if math.isnan(seconds) else f"{seconds:.2f}"


def curve(name: str, x: np.ndarray, of_each: Sequence[np.ndarray]) -> plots.Curve:
    """A curve of means over images, with their intervals.

    Args:
      name: in the legend.
      x: (m,).
      of_each: for each of the m, values (n,); nan where they are undefined.

    Returns:
      The curve, with a gap where nothing is defined.
    """
    ends = []
    for values in of_each:
        defined = values[np.isfinite(values)].astype(np.float32)
        ends.append(comparison.interval(defined) if len(defined) else (np.nan,) * 3)
    return plots.Curve(name, x, *np.array(ends).T)


def outlined(image: np.ndarray, box: np.ndarray, color: Sequence[float] = RED) -> np.ndarray:
    """(h, w, 3), an image with the pixels along the inside of a box in a colour."""
    marked = np.repeat(image, 3 // image.shape[-1], axis=-1)
    top, left, bottom, right = (round(float(end)) for end in box)
    inside = np.zeros(image.shape[:2], bool)
    inside[top:bottom, left:right] = True
    inside[top + 1 : bottom - 1, left + 1 : right - 1] = False
    marked[inside] = color
    return marked


def finish(run: report.RunFolder, table: Any, text: str) -> None:
    """Prints what a finished run found, and where it is."""
    print(f"\n{table}\n\n{text}")
    print(f"\npictures, arrays and index.html are in {run.path.resolve()}")


def first(examples: Mapping[str, np.ndarray], count: int) -> dict[str, Any]:
    """The first of the examples."""
    return {name: values[:count] for name, values in examples.items()}
