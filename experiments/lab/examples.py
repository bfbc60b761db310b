"""Labelled images with boxes, measured under two models.

Every image is seen by both models, so that every difference is paired by image, and beside another
one, the next of the split, as a control: TFDS stores examples in a random order.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from saliency_jax import data
from saliency_jax.models import Classifier
from saliency_jax.runs import plots, sweep

from . import loading
from .frame import Check, Count, Output, Run
from .photographs import carried_photographs

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
AtLeastTwo = Annotated[int, Check(lambda count: count >= 2, "{} to be at least 2")]
Keys = tuple[str, ...]
Measurements = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    model: tuple[str, str] = loading.BUNDLED_PAIR
    """Names of two bundled models, or folders of saved ones, which know the dataset's classes."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set whose images have one size, labels and boxes."""
    split: str = "validation"
    """Split of the dataset, sliced at will: "validation[:500]"."""
    count: AtLeastTwo = 1000
    """How many of its images, from the first on."""
    shown: Count = 6
    """How many of them are shown."""
    batch_size: Count = 20
    """Images measured at once; those finished are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A classifier and n examples, each with another image's beside its own.

    Attributes:
      classifier: the model.
      examples: `images` (n, 2, h, w, c) in [0, 1], `labels` (n, 2), as the model numbers the
        classes, `boxes` (n, 2, 4) as (y0, x0, y1, x1) in pixels, and `number` (n,).
    """

    classifier: Classifier
    examples: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.classifier.name

    @property
    def count(self) -> int:
        return len(self.examples["number"])

    def first(self, count: int) -> "Subject":
        """With the first of the examples alone."""
        chosen = {name: values[:count] for name, values in self.examples.items()}
        return Subject(self.classifier, chosen)

    def alone(self) -> dict[str, np.ndarray]:
        """The examples without the other ones beside them."""
        return {
            "image": self.examples["images"][:, 0],
            "label": self.examples["labels"][:, 0],
            "box": self.examples["boxes"][:, 0],
            "number": self.examples["number"],
        }

    def class_name(self, index: int) -> str:
        """The name of an example's class."""
        return self.classifier.class_names[self.examples["labels"][index, 0]]

    def boxed(self, index: int) -> plots.Picture:
        """A cell of an example's image with its box, and its class above."""
        image, box = (self.examples[name][index, 0] for name in ("images", "boxes"))
        return plots.image(outlined(image, box), self.class_name(index))


def subjects(settings: Settings) -> list[Subject]:
    """Both classifiers, each with the examples as it sees them.

    Raises:
      ValueError: a model does not know a class, or the dataset has no boxes that fit the images.
      FileNotFoundError: the dataset is not prepared.
    """
    return [read(settings, classifier) for classifier in loading.load(settings.model)]


def read(settings: Settings, classifier: Classifier) -> Subject:
    """The examples as one classifier sees them; see `subjects`."""
    description = data.describe(settings.dataset, data_dir=settings.data_dir)
    numbers = np.array([classifier.label(name) for name in description.class_names], np.int32)
    height, width, _ = description.image_shape
    if height is None or width is None:
        raise ValueError(f"expected images of one size, got {settings.dataset} with many sizes")
    batches = data.load(
        settings.dataset,
        settings.split,
        min(_READ, settings.count),
        image_size=(height, width),
        fields=("bbox",),
        data_dir=settings.data_dir,
    )
    images: list[np.ndarray] = []
    labels, boxes = [], []
    for batch in batches:
        for index in np.flatnonzero(batch["mask"]):
            if len(images) == settings.count:
                break
            images.append(classifier.preprocess(batch["image"][index]))
            labels.append(numbers[batch["label"][index]])
            relative = batch["bbox"][index][None]
            boxes.append(whole_boxes(relative, (height, width), classifier)[0])
    if len(images) < 2:
        raise ValueError(f"expected at least 2 images in {settings.split}, got {len(images)}")
    return subject(classifier, images, labels, boxes)


def carried(classifier: Classifier) -> Subject:
    """Ten examples that need no dataset: windows of the two photographs in scikit-image's wheel.

    Each is as high as its photograph. The cat's and the coffee's take turns, so that the image
    beside each is one of the other class.

    Raises:
      ValueError: the model does not know a class.
    """
    height, width = classifier.input.size
    images, labels, boxes = [], [], []
    for place in np.linspace(0, 1, _WINDOWS):
        for photograph in carried_photographs():
            name, (top, left, bottom, right) = _CARRIED[photograph.title]
            whole_height, whole_width, _ = photograph.image.shape
            window = min(round(whole_height * width / height), whole_width)
            start = round(place * (whole_width - window))
            images.append(classifier.preprocess(photograph.image[:, start : start + window]))
            labels.append(classifier.label(name))
            ends = np.clip([left - start, right - start], 0, window) / window
            relative = np.array([[top / whole_height, ends[0], bottom / whole_height, ends[1]]])
            boxes.append(whole_boxes(relative, (whole_height, window), classifier)[0])
    return subject(classifier, images, labels, boxes)


def subject(
    classifier: Classifier,
    images: Sequence[np.ndarray],
    labels: Sequence[int],
    boxes: Sequence[np.ndarray],
) -> Subject:
    """A subject of n images (h, w, c), labels and boxes (4,) in pixels, each beside the next's."""
    return Subject(
        classifier,
        {
            "images": with_another(np.stack(images)),
            "labels": with_another(np.array(labels, np.int32)),
            "boxes": with_another(np.stack(boxes).astype(np.float32)),
            "number": np.arange(len(images)),
        },
    )


def with_another(values: np.ndarray) -> np.ndarray:
    """(n, 2, ...): beside each of n values the next one, beside the last the first."""
    return np.stack([values, np.roll(values, -1, axis=0)], axis=1)


def measure(
    run: Run,
    pair: Sequence[Subject],
    function: Callable,
    *,
    batch_size: int,
    shared: Callable[[Classifier], Any] = lambda classifier: classifier.network,
    **arrays: np.ndarray,
) -> list[Measurements]:
    """What is measured of every example under each model, kept and written as arrays.

    Args:
      run: the experiment's.
      pair: the subjects.
      function: from what is shared and an `example` to arrays by name.
      batch_size: examples at once.
      shared: from a classifier to what all its examples see.
      **arrays: more to be written into `measurements-MODEL.npz`.

    Returns:
      Of each subject the arrays by name, with a leading axis (n, ...).
    """
    run.expect(sum(subject.count for subject in pair), "image")
    measured = []
    for subject in pair:
        measurements, _ = run.sweep(
            subject.classifier,
            "measurements",
            function,
            {"example": dict(subject.examples)},
            shared=shared(subject.classifier),
            batch_size=batch_size,
        )
        run.save_arrays(f"measurements-{subject.classifier.file_name}", **measurements, **arrays)
        measured.append(measurements)
    return measured


def look(
    pair: Sequence[Subject],
    function: Callable,
    count: int,
    *,
    batch_size: int,
    shared: Callable[[Classifier], Any] = lambda classifier: classifier.network,
) -> list[Any]:
    """What a function, as `measure` takes it, makes of the first examples, for figures."""
    return [
        sweep(
            function,
            {"example": dict(subject.first(count).examples)},
            shared=shared(subject.classifier),
            batch_size=batch_size,
        )
        for subject in pair
    ]


def beside_control(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """A measure (n, 2) with its control, as three: itself, the control, and how far above it is."""
    itself, control = values.T
    return {name: itself, f"{name}, control": control, f"{name}, above control": itself - control}


def outlined(image: np.ndarray, box: np.ndarray, color: Sequence[float] = RED) -> np.ndarray:
    """(h, w, 3), an image with the pixels along the inside of a box in a colour."""
    marked = np.repeat(image, 3 // image.shape[-1], axis=-1)
    top, left, bottom, right = (round(float(end)) for end in box)
    inside = np.zeros(image.shape[:2], bool)
    inside[top:bottom, left:right] = True
    inside[top + 1 : bottom - 1, left + 1 : right - 1] = False
    marked[inside] = color
    return marked


def whole_boxes(boxes: np.ndarray, sides: tuple[int, int], classifier: Classifier) -> np.ndarray:
    """Boxes after `classifier.preprocess` has cut the middle out of their image and resized it.

    Args:
      boxes: (m, 4), (y0, x0, y1, x1) in units of the image's sides.
      sides: height and width of the image.
      classifier: whose input the image becomes.

    Returns:
      (m, 4) in pixels of the input, cut off at its sides.
    """
    whole, wanted = np.array(sides, float), np.array(classifier.input.size, float)
    resized = np.array(classifier.input.resize, float)
    # Of the image the largest window of the proportions of `resize`, and of that the middle.
    window = resized * (whole / resized).min() * wanted / resized
    corners = np.reshape(boxes, (-1, 2, 2)) * whole - (whole - window) / 2
    return np.clip(corners * wanted / window, 0, wanted).reshape(-1, 4)


class Objects(NamedTuple):
    """Images that show one class each, and where its objects are.

    Attributes:
      images: (n, h, w, c) in [0, 1].
      labels: (n,), as the model numbers the classes.
      boxes: (n, m, 4), (y0, x0, y1, x1) in pixels, half open; zeros where an image has fewer.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


def read_objects(
    dataset: str,
    split: str,
    classifier: Classifier,
    *,
    count: int | None = None,
    data_dir: Path | None = None,
) -> Objects:
    """The first images with boxes of one class, as a classifier sees them, all if count is None.

    Raises:
      ValueError: the dataset has no classes and boxes, the model does not know a class, there is no
        such split, or it has fewer than 2 such images.
      FileNotFoundError: the dataset is not prepared.
    """
    class_names, objects = data.load_objects(dataset, split, data_dir=data_dir)
    numbers = [classifier.label(name) for name in class_names]
    images, labels, boxes = [], [], []
    for image, label, relative in objects:
        inside = whole_boxes(relative, image.shape[:2], classifier)
        inside = inside[(inside[:, 2:] > inside[:, :2]).all(1)]
        if not len(inside):
            continue
        images.append(classifier.preprocess(image))
        labels.append(numbers[label])
        boxes.append(inside)
        if len(images) == count:
            break
    if len(images) < 2:
        raise ValueError(
            f"expected at least 2 images with boxes of one class in {split} of {dataset}, got "
            f"{len(images)}"
        )
    most = max(map(len, boxes))
    padded = [np.pad(inside, ((0, most - len(inside)), (0, 0))) for inside in boxes]
    return Objects(np.stack(images), np.array(labels, np.int32), np.stack(padded))
