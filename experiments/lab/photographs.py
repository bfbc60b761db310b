"""Pictures from files and data sets, and what classifiers say of them, and why."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data

from saliency_jax import _constants as constants
from saliency_jax import data, scores
from saliency_jax.images import read_image
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

from . import datasets, loading
from .frame import Count, Output, Run
from .methods import METHODS, Case, regions

SCORES = {"logit": scores.logit, "log_prob": scores.log_prob}
ScoreName = Literal["logit", "log_prob"]
TOP = 5
# Of photographs in folders those of a course's examples come first.
FIRST_CLASSES = ("magnetic compass", "analog clock", "digital clock")
_WORDNET_ID = re.compile(r"n\d{8}")
# Images of a data set that are read at once.
_READ = 250
ROWS_PER_FIGURE = 16
# Pictures of 64 pixels are shown twice as large, those of 224 as they are.
CELL_WIDTH = 150
CAPTION = (
    "Of the {score} of the class named above each map. {meaning} {colors} So maps are comparable "
    "in shape, not in strength."
)


class Photograph(NamedTuple):
    """An image (h, w, c) in [0, 1] of any size, what it is called, and its class, if known."""

    image: np.ndarray
    title: str
    note: str = ""
    class_name: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """What one classifier says about n photographs, and why, by one method.

    Attributes:
      classifier: who says it.
      method: a key of `METHODS`.
      seconds: what a photograph took; nan if an interruption lost it.
      images: (n, h, w, c) in [0, 1], as the model saw them.
      labels: (n,), the explained classes.
      probabilities: (n, k).
      attributions: (n, h, w, c) or (n, h, w), signed: of saliency, the gradients of the score, per
        unit of the image.
      saliency_maps: (n, h, w).
    """

    classifier: Classifier
    method: str
    seconds: float
    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    attributions: np.ndarray
    saliency_maps: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is written of it."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def image(self, index: int, title: str, note: str = "") -> plots.Picture:
        """A cell with the photograph as the model saw it."""
        return plots.image(self.images[index], title, note)

    def map(self, index: int, title: str = "") -> plots.Layers:
        """A cell with its map, and below it the photograph."""
        image, saliency_map = self.images[index], self.saliency_maps[index]
        return plots.layers(image, saliency_map, title, draw=METHODS[self.method].draw)

    def likeliest(self, index: int) -> str:
        """The likeliest class, with its probability."""
        return likeliest(self.classifier, self.probabilities[index])

    def explained(self, index: int) -> str:
        """The explained class, with its probability."""
        label = self.labels[index]
        probability = plots.percent(self.probabilities[index][label])
        return f"{self.classifier.class_names[label]} {probability}"

    def top(self, index: int) -> tuple[list[str], list[float]]:
        """The likeliest classes' names and probabilities, from the top down."""
        labels = np.argsort(-self.probabilities[index])[:TOP]
        names = [self.classifier.class_names[label] for label in labels]
        return names, self.probabilities[index][labels].tolist()


def likeliest(classifier: Classifier, probabilities: np.ndarray) -> str:
    """The likeliest class, with its probability."""
    label = probabilities.argmax()
    return f"{classifier.class_names[label]} {plots.percent(probabilities[label])}"


@dataclasses.dataclass(frozen=True)
class Explaining(Output):
    """How photographs are explained, and how many at once."""

    score: ScoreName = "logit"
    """What is explained: the logit, or the logarithm of the probability (rise: the probability)."""
    size: int | None = None
    """Height and width that images are fitted to; those that the model was trained for if none."""
    batch_size: Count = 16
    """Images explained at once, or copies of one where the method looks at many; maps are kept when
    the run is interrupted."""


@dataclasses.dataclass(frozen=True)
class Settings(Explaining):
    images: tuple[Path, ...] = ()
    """Image files of any format and size, or folders of them; scikit-image's cat and coffee if
    none."""
    model: tuple[str, ...] = loading.FOR_PHOTOGRAPHS
    """Names of bundled models, or folders of saved ones."""
    label: str | None = None
    """Name or number of the class to explain; each image's likeliest one if none."""

    def labels(self, classifiers: Sequence[Classifier]) -> list[int | None]:
        """The class to explain as each classifier numbers it, or none."""
        wanted = self.label
        return [None if wanted is None else classifier.label(wanted) for classifier in classifiers]


def carried_photographs() -> list[Photograph]:
    """The two photographs in scikit-image's wheel that show a class of the bundled models."""
    return [
        Photograph(skimage.data.chelsea().astype(np.float32) / 255, "cat"),
        Photograph(skimage.data.coffee().astype(np.float32) / 255, "coffee"),
    ]


def sample_photographs() -> list[Photograph]:
    """More in scikit-image's wheel that show a class of ImageNet."""
    others = {
        "photographer": skimage.data.camera()[..., None].repeat(3, axis=-1),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
        "rocket": skimage.data.rocket(),
    }
    return carried_photographs() + [
        Photograph(image.astype(np.float32) / 255, name) for name, image in others.items()
    ]


def from_files(
    paths: Sequence[Path], count: int | None = None, first: Sequence[str] = FIRST_CLASSES
) -> list[Photograph]:
    """The photographs in image files and folders; the carried ones if there are none.

    Of folders the first classes' come first, in their order; not more than count.
    """
    found = files(paths, first)[:count]
    return [
        Photograph(read_image(path), name or path.name, class_name=name)
        for path, name in zip(found, map(class_of, found), strict=True)
    ] or carried_photographs()


def files(paths: Sequence[Path], first: Sequence[str] = FIRST_CLASSES) -> list[Path]:
    """The files, each folder replaced by those in it and in its folders, the first classes' first.

    Raises:
      ValueError: a folder holds none.
    """
    order = {name: place for place, name in enumerate(first)}
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            seen = [*path.glob("[!.]*"), *path.glob("[!.]*/[!.]*")]
            inside = sorted(one for one in seen if one.is_file())
        if not inside:
            raise ValueError(f"expected image files in {path}, got none")
        found += sorted(inside, key=lambda one: order.get(class_of(one) or "", len(order)))
    return found


def class_of(path: Path) -> str | None:
    """The class whose WordNet id the name of a file, or of its folder, begins with, or none."""
    ids = filter(None, map(_WORDNET_ID.match, (path.name, path.absolute().parent.name)))
    names = constants.imagenet_classes()
    return next((names[found[0]] for found in ids if found[0] in names), None)


def from_dataset(
    dataset: str,
    split: str | None,
    count: int,
    classifiers: Sequence[Classifier],
    *,
    size: int | None = None,
    data_dir: Path | None = None,
) -> list[Photograph]:
    """The first images of a split of a prepared TFDS set; of validation or test if None."""
    description = data.describe(dataset, data_dir=data_dir)
    split = description.test_split if split is None else split
    sides = read_size(description, classifiers, size)
    loaded = data.load(dataset, split, min(count, _READ), image_size=sides, data_dir=data_dir)
    photographs = []
    for number, example in enumerate(itertools.islice(datasets.examples(loaded), count)):
        label = example["label"]
        known = f"labelled {description.class_names[label]}" if label >= 0 else ""
        photographs.append(Photograph(example["image"], f"{split} {number}", known))
    return photographs


def read_size(
    description: data.Description, classifiers: Sequence[Classifier], size: int | None = None
) -> int | tuple[int, int] | None:
    """What images are read at ahead of `classifier.preprocess`: as they are if they have one size.

    Those of many sizes are read at the size, or as the largest that a classifier fits them to.
    """
    if None not in description.image_shape[:2]:
        return None
    height, width = max(classifier.input.resize for classifier in classifiers)
    return size or (height, width)


def explain(
    run: Run,
    classifier: Classifier,
    photographs: Sequence[Photograph],
    method: str = "saliency",
    how: Explaining = Explaining(),
    label: int | Sequence[int | None] | None = None,
) -> Explanation:
    """Maps of photographs, kept where the run continues.

    They are of a class, or of one for each photograph; of its likeliest where that is None.
    """
    needs = METHODS[method].needs
    images = np.stack([classifier.preprocess(each.image, size=how.size) for each in photographs])
    example = {"image": images}
    # No class has the number -1.
    asked = np.array(
        [-1 if one is None else one for one in np.atleast_1d(np.asarray(label, object))], np.int32
    )
    example["label"] = np.broadcast_to(asked, len(images))
    if "regions" in needs:
        example["regions"] = regions(images)
    columns, seconds = run.sweep(
        classifier,
        method,
        _explainer(method, how.score, how.batch_size),
        {"example": example},
        shared=classifier.network,
        # A method that looks at many copies of an image bounds its memory itself.
        batch_size=1 if "batch_size" in needs else how.batch_size,
    )
    return Explanation(classifier, method, seconds, images, *columns)


@functools.cache
def _explainer(method: str, score: str, batch_size: int) -> functools.partial:
    """One function for equal arguments, so that it is compiled once."""
    return functools.partial(_explain_one, method=method, score=score, batch_size=batch_size)


def _explain_one(network: Any, *, example, method, score, batch_size):
    chosen, image = METHODS[method], example["image"]
    logits = network(image)
    label = jnp.where(example["label"] < 0, jnp.argmax(logits), example["label"])
    case = Case(image, network, batch_size, example.get("regions"))
    attributed = chosen(chosen.score(network, label, SCORES[score]), case, chosen.uses.figure)
    return label, jax.nn.softmax(logits), attributed, chosen.reduce(attributed)


def save(
    run: Run,
    photographs: Sequence[Photograph],
    explained: Sequence[Explanation],
    score: ScoreName = "logit",
) -> Section:
    """Writes arrays and figures of each model's explanations, and returns the section of both."""
    for each in explained:
        run.save_arrays(f"saliency-{each.classifier.file_name}", **each.arrays)
    views = []
    for number, start in enumerate(range(0, len(photographs), ROWS_PER_FIGURE), 1):
        shown = range(start, min(start + ROWS_PER_FIGURE, len(photographs)))
        name = "saliency" if number == 1 else f"saliency-{number}"
        drawn = functools.partial(_drawn, photographs, explained, shown, score)
        run.save_figure(name, drawn(overlays=True).figure())
        # There overlays are a layer of the maps.
        views.append(drawn(overlays=False))
    rows = [
        (
            ", ".join(filter(None, (photograph.title, photograph.note))),
            each.classifier.name,
            each.classifier.class_names[each.labels[index]],
            ", ".join(
                f"{name} {plots.percent(fraction)}"
                for name, fraction in zip(*each.top(index), strict=True)
            ),
        )
        for index, photograph in enumerate(photographs)
        for each in explained
    ]
    return Section(
        "Saliency maps",
        f"Which pixels each model's answer depends on, by {METHODS[explained[0].method].title}.",
        table=Table(("photograph", "model", "explained class", f"{TOP} likeliest classes"), rows),
        views=views,
    )


def _drawn(
    photographs: Sequence[Photograph],
    explained: Sequence[Explanation],
    indices: Sequence[int],
    score: ScoreName,
    overlays: bool,
) -> plots.View:
    method = METHODS[explained[0].method]
    rows: list[list[plots.Cell | None]] = []
    for index in indices:
        title, note = photographs[index].title, photographs[index].note
        rows.append([explained[0].image(index, title, note)])
        for each in explained:
            explained_class = each.explained(index)
            cell = each.map(index, explained_class)
            rows[-1] += [plots.Ranking(*each.top(index)), cell]
            if overlays:
                overlay = cell.pictures["overlay"]
                rows[-1].append(dataclasses.replace(overlay, title=explained_class, note=""))
    over = "its absolute value over the photograph" if method.signed else "over the photograph"
    column_titles = ["photograph"]
    for each in explained:
        column_titles += [each.classifier.name, method.title, *[over] * overlays]
    score_names = {"logit": "logit", "log_prob": "log-probability"}
    caption = CAPTION.format(
        score="probability" if method.make_score else score_names[score],
        meaning=method.meaning,
        colors=method.colors,
    )
    return plots.explore(rows, column_titles=column_titles, caption=caption)
