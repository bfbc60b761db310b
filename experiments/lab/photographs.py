"""Pictures from files and data sets, and what classifiers say of them, and why."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from matplotlib.figure import Figure

from saliency_jax import data, scores
from saliency_jax.images import read_image
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

from . import loading
from .frame import Count, Output, Run
from .methods import METHODS, Case, regions

SCORES = {"logit": scores.logit, "log_prob": scores.log_prob}
ScoreName = Literal["logit", "log_prob"]
TOP = 5
# Images of a data set that are read at once.
_READ = 250
ROWS_PER_FIGURE = 16
CAPTION = (
    "Of the {score} of the class named above each map. {meaning} {colors} So maps are comparable "
    "in shape, not in strength."
)


class Photograph(NamedTuple):
    """An image (h, w, c) in [0, 1] of any size, and what it is called."""

    image: np.ndarray
    title: str
    note: str = ""


class Explanation(NamedTuple):
    """What one classifier says about n photographs, and why.

    Attributes:
      images: (n, h, w, c) in [0, 1], as the model saw them.
      labels: (n,), the explained classes.
      probabilities: (n, k).
      attributions: (n, h, w, c) or (n, h, w), signed: of saliency, the gradients of the score, per
        unit of the image.
      saliency_maps: (n, h, w).
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    attributions: np.ndarray
    saliency_maps: np.ndarray


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    images: tuple[Path, ...] = ()
    """Image files of any format and size; scikit-image's cat and coffee if none."""
    model: tuple[str, ...] = loading.BUNDLED_PAIR
    """Names of bundled models, or folders of saved ones."""
    label: str | None = None
    """Name or number of the class to explain; each image's likeliest one if none."""
    score: ScoreName = "logit"
    """What is explained: the logit, or the logarithm of the probability (rise: the probability)."""
    size: int | None = None
    """Height and width that images are fitted to; those that the model was trained for if none."""
    batch_size: Count = 16
    """Images explained at once, or copies of one where the method looks at many; maps are kept when
    the run is interrupted."""

    def labels(self, classifiers: Sequence[Classifier]) -> list[int | None]:
        """The class to explain as each classifier numbers it, or none.

        Raises:
          ValueError: a classifier does not know it.
        """
        return [
            None if self.label is None else classifier.label(self.label)
            for classifier in classifiers
        ]


@dataclasses.dataclass(frozen=True)
class Explaining:
    """How photographs are explained.

    Attributes:
      method: a key of `METHODS`.
      score: what is explained, a key of `SCORES`.
      size: the height and width that photographs are fitted to; the model's own if None.
      batch_size: how many are explained at once, or copies of one looked at; at least 1.
    """

    method: str = "saliency"
    score: ScoreName = "logit"
    size: int | None = None
    batch_size: int = 8


def carried_photographs() -> list[Photograph]:
    """The two photographs in scikit-image's wheel that show a class of the bundled models."""
    return [
        Photograph(skimage.data.chelsea().astype(np.float32) / 255, "cat"),
        Photograph(skimage.data.coffee().astype(np.float32) / 255, "coffee"),
    ]


def from_files(paths: Sequence[Path]) -> list[Photograph]:
    """The photographs in image files of any format and size; the carried ones if there are none."""
    return [Photograph(read_image(path), path.name) for path in paths] or carried_photographs()


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
    photographs: list[Photograph] = []
    for batch in data.load(
        dataset,
        split,
        min(count, _READ),
        image_size=read_size(description, classifiers, size),
        data_dir=data_dir,
    ):
        for image, label in zip(
            batch["image"][batch["mask"]], batch["label"][batch["mask"]], strict=True
        ):
            title = f"{split} {len(photographs)}"
            known = f"labelled {description.class_names[label]}" if label >= 0 else ""
            photographs.append(Photograph(image, title, known))
            if len(photographs) == count:
                return photographs
    return photographs


def read_size(
    description: data.Description, classifiers: Sequence[Classifier], size: int | None = None
) -> int | tuple[int, int] | None:
    """What images are read at ahead of `classifier.preprocess`: as they are if they have one size.

    Args:
      description: of the data set.
      classifiers: for which images of many sizes are read as the largest that they are fitted to.
      size: the height and width that the classifiers are given, if not their own.
    """
    if None not in description.image_shape[:2]:
        return None
    height, width = max(classifier.input.resize for classifier in classifiers)
    return size or (height, width)


def explain(
    run: Run,
    classifier: Classifier,
    photographs: Sequence[Photograph],
    label: int | Sequence[int] | np.ndarray | None = None,
    how: Explaining = Explaining(),
    *,
    name: str | None = None,
) -> tuple[Explanation, float]:
    """Maps of photographs, kept when the run is interrupted.

    Args:
      run: the experiment's.
      classifier: the model.
      photographs: n of any sizes.
      label: the class to explain, or one for each photograph; each one's likeliest if None.
      how: they are explained.
      name: what the work is called, unlike the classifier's other work; the method's if None.

    Returns:
      The explanation, and the seconds a photograph.
    """
    method = METHODS[how.method]
    images = np.stack(
        [classifier.preprocess(photograph.image, size=how.size) for photograph in photographs]
    )
    example = {"image": images}
    if label is not None:
        example["label"] = np.broadcast_to(np.asarray(label, np.int32), len(images))
    if "regions" in method.needs:
        example["regions"] = regions(images)
    columns, seconds = run.sweep(
        classifier,
        how.method if name is None else name,
        _explainer(how.method, how.score, how.batch_size),
        {"example": example},
        shared=classifier.network,
        # A method that looks at many copies of an image bounds its memory itself.
        batch_size=1 if "batch_size" in method.needs else how.batch_size,
    )
    return Explanation(images, *columns), seconds


def explain_each(
    run: Run,
    classifier: Classifier,
    photographs: Sequence[Photograph],
    label: int | Sequence[int] | np.ndarray | None,
    methods: Sequence[str],
    how: Explaining,
) -> tuple[dict[str, Explanation], dict[str, float]]:
    """Explanations, and the seconds a photograph, by method; see `explain`."""
    explanations, seconds = {}, {}
    for name in methods:
        chosen = dataclasses.replace(how, method=name)
        explanations[name], seconds[name] = explain(run, classifier, photographs, label, chosen)
    return explanations, seconds


@functools.cache
def _explainer(method: str, score: str, batch_size: int) -> functools.partial:
    """One function for equal arguments, so that it is compiled once."""
    return functools.partial(_explain_one, method=method, score=score, batch_size=batch_size)


def _explain_one(network: Any, *, example, method, score, batch_size):
    chosen, image = METHODS[method], example["image"]
    logits = network(image)
    label = example.get("label", jnp.argmax(logits))
    case = Case(image, network, batch_size, example.get("regions"))
    attributed = chosen(chosen.score(network, label, SCORES[score]), case, chosen.uses.figure)
    return label, jax.nn.softmax(logits), attributed, chosen.reduce(attributed)


def save(
    run: Run,
    photographs: Sequence[Photograph],
    explained: Mapping[Classifier, Explanation],
    how: Explaining = Explaining(),
) -> Section:
    """Writes arrays and figures of the explanations, and returns the section that shows them."""
    for classifier, explanation in explained.items():
        run.save_arrays(f"saliency-{classifier.file_name}", **explanation._asdict())
    starts = range(0, len(photographs), ROWS_PER_FIGURE)
    figures = [
        run.save_figure(
            "saliency" if start == 0 else f"saliency-{1 + start // ROWS_PER_FIGURE}",
            _draw(
                photographs, explained, list(range(len(photographs)))[start:][:ROWS_PER_FIGURE], how
            ),
        )
        for start in starts
    ]
    rows = [
        (
            ", ".join(filter(None, (photograph.title, photograph.note))),
            classifier.name,
            classifier.class_names[explanation.labels[index]],
            ", ".join(
                f"{name} {plots.percent(fraction)}"
                for name, fraction in zip(*top(classifier, explanation, index), strict=True)
            ),
        )
        for index, photograph in enumerate(photographs)
        for classifier, explanation in explained.items()
    ]
    return Section(
        "Saliency maps",
        f"Which pixels each model's answer depends on, by {METHODS[how.method].title}.",
        figures,
        Table(("photograph", "model", "explained class", f"{TOP} likeliest classes"), rows),
    )


def _draw(
    photographs: Sequence[Photograph],
    explained: Mapping[Classifier, Explanation],
    indices: Sequence[int],
    how: Explaining,
) -> Figure:
    method = METHODS[how.method]
    first, *_ = explained.values()
    rows: list[list[plots.Cell | None]] = []
    for index in indices:
        photograph = photographs[index]
        row: list[plots.Cell | None] = [
            plots.image(first.images[index], photograph.title, photograph.note)
        ]
        for classifier, explanation in explained.items():
            title = named(classifier, explanation, index)
            saliency_map = explanation.saliency_maps[index]
            overlay = plots.overlay(explanation.images[index], np.abs(saliency_map), title)
            row += [
                plots.Ranking(*top(classifier, explanation, index)),
                method.draw(saliency_map, title),
                dataclasses.replace(overlay, note=""),
            ]
        rows.append(row)
    over = "its absolute value over the photograph" if method.signed else "over the photograph"
    column_titles = ["photograph"]
    for classifier in explained:
        column_titles += [classifier.name, method.title, over]
    score_names = {"logit": "logit", "log_prob": "log-probability"}
    caption = CAPTION.format(
        score="probability" if method.make_score else score_names[how.score],
        meaning=method.meaning,
        colors=method.colors,
    )
    return plots.grid(rows, column_titles=column_titles, caption=caption)


def named(classifier: Classifier, explanation: Explanation, index: int) -> str:
    """The explained class of a photograph, with its probability."""
    label = explanation.labels[index]
    probability = explanation.probabilities[index][label]
    return f"{classifier.class_names[label]} {plots.percent(probability)}"


def likeliest(classifier: Classifier, probabilities: np.ndarray) -> str:
    """The likeliest class, with its probability."""
    label = probabilities.argmax()
    return f"{classifier.class_names[label]} {plots.percent(probabilities[label])}"


def top(
    classifier: Classifier, explanation: Explanation, index: int
) -> tuple[list[str], list[float]]:
    """A photograph's likeliest classes' names and probabilities, from the top down."""
    probabilities = explanation.probabilities[index]
    labels = np.argsort(-probabilities)[:TOP]
    return [classifier.class_names[label] for label in labels], probabilities[labels].tolist()
