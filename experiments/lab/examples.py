"""Labelled images, with boxes or without, measured under one model or several.

Every image is seen by all models, so that every difference is paired by image, and beside another
one, the next, as a control: TFDS stores examples in a random order.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saliency_jax import data
from saliency_jax.models import Classifier
from saliency_jax.runs import plots, sweep

from . import imagenet, loading, photographs
from .frame import Check, Count, Output, Run

# Of the photographs in scikit-image's wheel the class, and the object's box (y0, x0, y1, x1).
_CARRIED = {"cat": ("tabby", (0, 20, 300, 400)), "coffee": ("espresso", (15, 170, 310, 415))}
# Of each, evenly spaced from its left end to its right one.
_WINDOWS = 5
HOW_TO_READ = (
    "Means over the images with their 95 % bootstrap intervals, the images being resampled. The "
    "difference of two models is paired by image: its interval says whether they differ. Images "
    "for which a quantity is undefined, such as a share of a map that is 0, are left out of it."
)
AtLeastTwo = Annotated[int, Check(lambda count: count >= 2, "{} to be at least 2")]
Measurements = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    model: tuple[str, ...] = loading.FOR_PHOTOGRAPHS
    """Names of bundled models, or folders of saved ones, which know the images' classes."""
    images: tuple[Path, ...] = ()
    """Image files, or folders of them. Their class is that whose WordNet id their name, or their
    folder's, begins with; the likeliest one if there is none."""
    dataset: str | None = None
    """A prepared TFDS set whose images have labels and boxes. Without it and --images: windows of
    the two photographs that scikit-image carries, a cat and a cup of coffee."""
    split: str = "validation"
    """Split of the dataset, sliced at will: "validation[:500]"."""
    count: AtLeastTwo = 1000
    """How many of its images, from the first on."""
    shown: Count = 6
    """How many of them are shown."""
    batch_size: Count = 4
    """Images measured at once; those finished are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


@dataclasses.dataclass(frozen=True)
class PairSettings(Settings):
    """Of the two models that differ by their training alone."""

    model: tuple[str, str] = loading.BUNDLED_PAIR
    """Names of two bundled models, or folders of saved ones, which know the dataset's classes."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set whose images have one size, labels and boxes."""
    batch_size: Count = 20
    """Images measured at once; those finished are kept when the run is interrupted."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A classifier and n examples, each with another image's beside its own.

    They are `images` (n, 2, h, w, c) in [0, 1], `labels` (n, 2), as the model numbers the classes,
    `boxes` (n, 2, 4) as (y0, x0, y1, x1) in pixels, if known, and `number` (n,).
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
        names = {"images": "image", "labels": "label", "boxes": "box"}
        first = {names[name]: self.examples[name][:, 0] for name in names if name in self.examples}
        return {**first, "number": self.examples["number"]}

    def class_name(self, index: int) -> str:
        """The name of an example's class."""
        return self.classifier.class_names[self.examples["labels"][index, 0]]

    def boxed(self, index: int) -> plots.Picture:
        """A cell of an example's image with its box, if known, and its class above."""
        image = self.examples["images"][index, 0]
        if "boxes" in self.examples:
            image = plots.outlined(image, self.examples["boxes"][index, 0])
        return plots.image(image, self.class_name(index))


class Objects(NamedTuple):
    """Images (n, h, w, c) in [0, 1] that show one class each, as a model numbers it, and where.

    The boxes (n, m, 4) are (y0, x0, y1, x1) in pixels, half open; zeros where an image has fewer.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


def subjects(settings: Settings) -> list[Subject]:
    """The classifiers, each with the examples as it sees them; see `read`."""
    return [read(settings, classifier) for classifier in loading.load(settings.model)]


def read(settings: Settings, classifier: Classifier) -> Subject:
    """The examples as one classifier sees them: of files, of a dataset, or the carried ones.

    Raises:
      ValueError: an image has several boxes, or there are fewer than 2.
    """
    dataset = settings.dataset
    if settings.images and dataset is not None:
        raise ValueError("expected --images or --dataset, got both")
    if settings.images:
        return photographed(classifier, photographs.files(settings.images)[: settings.count])
    if dataset is None:
        return carried(classifier)
    objects = read_objects(dataset, settings.split, classifier, settings.count, settings.data_dir)
    if objects.boxes.shape[1] > 1:
        raise ValueError(f"expected a dataset with one box an image, got {dataset}")
    return subject(classifier, objects)


def photographed(classifier: Classifier, paths: Sequence[Path]) -> Subject:
    """Image files with the classes that their names tell, or else the likeliest ones; no boxes."""
    if len(paths) < 2:
        raise ValueError(f"expected at least 2 --images, got {len(paths)}")
    images = np.stack([classifier.preprocess(path) for path in paths])
    names = map(photographs.class_of, paths)
    labels = [
        int(_likeliest(classifier.network, image)) if name is None else classifier.label(name)
        for image, name in zip(images, names, strict=True)
    ]
    return _beside_others(classifier, images=images, labels=np.array(labels, np.int32))


@jax.jit
def _likeliest(network, image):
    return jnp.argmax(network(image))


def carried(classifier: Classifier) -> Subject:
    """Ten examples that need no dataset: windows of the two photographs in scikit-image's wheel.

    Each is as high as its photograph. The cat's and the coffee's take turns, so that the image
    beside each is one of the other class.
    """
    height, width = classifier.input.size
    windows = []
    for place in np.linspace(0, 1, _WINDOWS):
        for photograph in photographs.carried_photographs():
            name, (top, left, bottom, right) = _CARRIED[photograph.title]
            whole_height, whole_width, _ = photograph.image.shape
            window = min(round(whole_height * width / height), whole_width)
            start = round(place * (whole_width - window))
            ends = np.clip([left - start, right - start], 0, window) / window
            box = np.array([[top / whole_height, ends[0], bottom / whole_height, ends[1]]])
            image = photograph.image[:, start : start + window]
            windows.append((image, classifier.label(name), box))
    return subject(classifier, seen_by(classifier, windows))


def read_objects(
    dataset: str,
    split: str,
    classifier: Classifier,
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
    # By WordNet id where names differ; what has neither is an error that names the nearest.
    numbers = [
        classifier.label(name) if label is None else label
        for name, label in zip(class_names, imagenet.labels(class_names, classifier), strict=True)
    ]
    numbered = ((image, numbers[label], boxes) for image, label, boxes in objects)
    seen = seen_by(classifier, numbered, count)
    if len(seen.images) < 2:
        raise ValueError(
            f"expected at least 2 images with boxes of one class in {split} of {dataset}, got "
            f"{len(seen.images)}"
        )
    return seen


def seen_by(
    classifier: Classifier,
    shown: Iterable[tuple[np.ndarray, int, np.ndarray]],
    count: int | None = None,
) -> Objects:
    """Images, labels and boxes in units of the image's sides, as a classifier sees them.

    Images of which it sees no box are left out.
    """
    images, labels, boxes = [], [], []
    for image, label, relative in shown:
        inside = whole_boxes(relative, image.shape[:2], classifier)
        inside = inside[(inside[:, 2:] > inside[:, :2]).all(1)]
        if len(inside):
            images.append(classifier.preprocess(image))
            labels.append(label)
            boxes.append(inside)
        if len(images) == count:
            break
    most = max(map(len, boxes), default=0)
    padded = [np.pad(inside, ((0, most - len(inside)), (0, 0))) for inside in boxes]
    return Objects(np.array(images), np.array(labels, np.int32), np.array(padded))


def whole_boxes(boxes: np.ndarray, sides: tuple[int, int], classifier: Classifier) -> np.ndarray:
    """Where boxes are when `classifier.preprocess` has cut the middle out of their image.

    They are (m, 4), (y0, x0, y1, x1) in units of the image's sides; then in pixels of the
    classifier's input, cut off at its edges.
    """
    whole, wanted = np.array(sides, float), np.array(classifier.input.size, float)
    resized = np.array(classifier.input.resize, float)
    # Of the image the largest window of the proportions of `resize`, and of that the middle.
    window = resized * (whole / resized).min() * wanted / resized
    corners = np.reshape(boxes, (-1, 2, 2)) * whole - (whole - window) / 2
    return np.clip(corners * wanted / window, 0, wanted).reshape(-1, 4)


def subject(classifier: Classifier, objects: Objects) -> Subject:
    """A subject of images with one box each, beside each the next one's."""
    boxes = objects.boxes[:, 0].astype(np.float32)
    return _beside_others(classifier, images=objects.images, labels=objects.labels, boxes=boxes)


def _beside_others(classifier: Classifier, **fields: np.ndarray) -> Subject:
    examples = {name: with_another(values) for name, values in fields.items()}
    return Subject(classifier, examples | {"number": np.arange(len(fields["images"]))})


def with_another(values: np.ndarray) -> np.ndarray:
    """(n, 2, ...): beside each of n values the next one, beside the last the first."""
    return np.stack([values, np.roll(values, -1, axis=0)], axis=1)


def network_alone(classifier: Classifier) -> Any:
    """What all examples share where a function says nothing else."""
    return classifier.network


def measure(
    run: Run,
    settings: Settings,
    pair: Sequence[Subject],
    function: Callable,
    shared: Callable[[Classifier], Any] = network_alone,
    **arrays: np.ndarray,
) -> list[Measurements]:
    """What a function measures of every example under each model, (n, ...) by name.

    The function takes what is shared and an `example`. All is kept where the run continues, and
    written into `measurements-MODEL.npz`, beside more arrays.
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
            batch_size=settings.batch_size,
        )
        run.save_arrays(f"measurements-{subject.classifier.file_name}", **measurements, **arrays)
        measured.append(measurements)
    return measured


def look(
    settings: Settings,
    pair: Sequence[Subject],
    function: Callable,
    shared: Callable[[Classifier], Any] = network_alone,
) -> list[Any]:
    """What a function, as `measure` takes it, makes of the examples that are shown."""
    return [
        sweep(
            function,
            {"example": dict(subject.first(settings.shown).examples)},
            shared=shared(subject.classifier),
            batch_size=settings.batch_size,
        )
        for subject in pair
    ]


def beside_control(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """A measure (n, 2) with its control, as three: itself, the control, and how far above it is."""
    itself, control = values.T
    return {name: itself, f"{name}, control": control, f"{name}, above control": itself - control}
