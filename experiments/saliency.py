"""Which pixels does a classifier's answer depend on, for photographs of yours?

  python experiments/saliency.py
  python experiments/saliency.py --images cat.jpg coffee.png --label tabby --method grad_cam
  python experiments/saliency.py --dataset tiny_imagenet/paper20 --split validation --count 16

The saliency map of Simonyan et al. 2013 (arXiv:1312.6034): at each pixel the largest
absolute value, over the channels, of the gradient of the class score. Without arguments: the two
photographs that scikit-image carries, a cat and a cup of coffee, under the bundled standard and
robust ResNet, which takes 15 seconds on two processor cores. The standard model's maps look like
noise; the robust one's follow the object. `--method` takes any other attribution method of the
library. With `--size` images are explained at another size than the model was trained for. Memory
is set by `--batch-size` alone: a photograph at 512x512 takes, as the peak of the whole process at
the default 8, 0.7 GiB for a single gradient and the Grad-CAM family, 1.3 for all that evaluates
the score alone, from Score-CAM and occlusion to RISE with its 4,000 masks, 1.8 for the averages of
gradients (integrated gradients, SmoothGrad, 64 pairs of expected gradients), and 2.5 for XRAI.

The run's folder then holds `saliency.png` (the photograph, each model's five likeliest classes, its
map, and the map over the photograph), `saliency-MODEL.npz` (images, labels, probabilities, signed
attributions and maps), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import classifiers
import command_line
import jax
import jax.numpy as jnp
import methods
import numpy as np
import skimage.data
import tqdm
from classifiers import Classifier
from matplotlib.figure import Figure

from saliency_jax import data, plots, report, scores, sweep

SCORES = {"logit": scores.logit, "log_prob": scores.log_prob}
TOP = 5
ROWS_PER_FIGURE = 16
CAPTION = (
    "Of the {score} of the class named above each map. {meaning} {colors} So maps are comparable "
    "in shape, not in strength."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    images: tuple[Path, ...] = ()
    """Image files of any format and size; scikit-image's cat and coffee if none."""
    dataset: str | None = None
    """A prepared TFDS set to take images from, such as tiny_imagenet/paper20."""
    split: str | None = None
    """Split of the dataset, sliced at will: "validation[100:]"; validation or test if none."""
    count: int = 16
    """How many of its images."""
    model: tuple[str, ...] = classifiers.BUNDLED_PAIR
    """Names of bundled models, or folders of saved ones."""
    label: str | None = None
    """Name or number of the class to explain; each image's likeliest one if none."""
    method: methods.Name = "saliency"
    """How it is explained."""
    score: Literal["logit", "log_prob"] = "logit"
    """What is explained: the logit, or the logarithm of the probability (rise: the probability)."""
    size: int | None = None
    """Height and width that images are fitted to; those that the model was trained for if none."""
    batch_size: int = 8
    """Images explained at once, or copies of one where the method looks at many."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


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


class Plan(NamedTuple):
    """The sweep that explains photographs to one classifier.

    Attributes:
      function: from the network and an example to all of an `Explanation` but the images.
      axes: the examples.
      batch_size: how many of them at once.
    """

    function: functools.partial
    axes: dict[str, dict[str, np.ndarray]]
    batch_size: int

    @property
    def images(self) -> np.ndarray:
        return self.axes["example"]["image"]


def main(settings: Settings) -> None:
    with report.RunFolder(settings.output, "saliency") as run:
        run.save_config(settings)
        models = classifiers.load(settings.model)
        labels = [
            None if settings.label is None else model.label(settings.label) for model in models
        ]
        photographs = read_photographs(settings, models)
        explanations = [
            explain(
                model,
                photographs,
                label,
                method=settings.method,
                score=settings.score,
                size=settings.size,
                batch_size=settings.batch_size,
            )
            for model, label in zip(models, labels, strict=True)
        ]
        section = save(
            run, models, photographs, explanations, method=settings.method, score=settings.score
        )
        run.save_page("Saliency maps", [section], __doc__.partition("\n")[0])
    print(section.table)
    print(f"pictures, arrays and index.html are in {run.path.resolve()}")


def carried_photographs() -> list[Photograph]:
    """The two photographs in scikit-image's wheel that show a class of the bundled models."""
    return [
        Photograph(skimage.data.chelsea().astype(np.float32) / 255, "cat"),
        Photograph(skimage.data.coffee().astype(np.float32) / 255, "coffee"),
    ]


def read_photographs(settings: Settings, models: Sequence[Classifier]) -> list[Photograph]:
    """The photographs that the settings name."""
    if settings.images and settings.dataset is not None:
        raise ValueError("expected --images or --dataset, got both")
    if settings.images:
        return [Photograph(data.read_image(path), path.name) for path in settings.images]
    if settings.dataset is None:
        return carried_photographs()
    if settings.count < 1:
        raise ValueError(f"expected --count to be at least 1, got {settings.count}")
    description = data.describe(settings.dataset, data_dir=settings.data_dir)
    split = description.test_split if settings.split is None else settings.split
    largest = max(model.input_size for model in models)
    batches = data.load(
        settings.dataset,
        split,
        settings.batch_size,
        image_size=largest if settings.size is None else settings.size,
        data_dir=settings.data_dir,
    )
    photographs: list[Photograph] = []
    for batch in batches:
        for image, label in zip(
            batch["image"][batch["mask"]], batch["label"][batch["mask"]], strict=True
        ):
            title = f"{split} {len(photographs)}"
            known = f"labelled {description.class_names[label]}" if label >= 0 else ""
            photographs.append(Photograph(image, title, known))
            if len(photographs) == settings.count:
                return photographs
    return photographs


def explain(
    classifier: Classifier,
    photographs: Sequence[Photograph],
    label: int | Sequence[int] | np.ndarray | None = None,
    *,
    method: str = "saliency",
    score: str = "logit",
    size: int | None = None,
    batch_size: int = 8,
) -> Explanation:
    """Maps of photographs, fitted to the size that the model takes or to another.

    Args:
      classifier: the model.
      photographs: n of any sizes.
      label: the class to explain, or one for each photograph; each one's likeliest if None.
      method: one of `methods.METHODS`.
      score: a key of SCORES.
      size: height and width; the model's own if None.
      batch_size: how many are explained at once, or copies of one looked at; at least 1.

    Returns:
      The explanation.
    """
    planned = plan(
        classifier,
        photographs,
        label,
        method=method,
        score=score,
        size=size,
        batch_size=batch_size,
    )
    description = f"{methods.title(method)}, {classifier.name}"
    with tqdm.tqdm(total=len(photographs), desc=description, unit="image", file=sys.stdout) as bar:
        columns = sweep(
            planned.function,
            planned.axes,
            shared=classifier.model,
            batch_size=planned.batch_size,
            progress=bar.update,
        )
    return Explanation(planned.images, *columns)


def plan(
    classifier: Classifier,
    photographs: Sequence[Photograph],
    label: int | Sequence[int] | np.ndarray | None = None,
    *,
    method: str = "saliency",
    score: str = "logit",
    size: int | None = None,
    batch_size: int = 8,
) -> Plan:
    """The sweep that `explain` makes, for scripts that keep what is done of it."""
    if batch_size < 1:
        raise ValueError(f"expected --batch-size to be at least 1, got {batch_size}")
    methods.check(method, classifier)
    fitted = (
        data.fit(photograph.image, classifier.input_size if size is None else size)
        for photograph in photographs
    )
    images = np.stack([with_channels(image, classifier.model.channels) for image in fitted])
    example = {"image": images}
    if label is not None:
        example["label"] = np.broadcast_to(np.asarray(label, np.int32), len(images))
    if methods.METHODS[method].takes("regions"):
        example["regions"] = methods.regions(images)
    # A method that looks at many copies of an image bounds its memory itself.
    at_once = 1 if methods.METHODS[method].takes("batch_size") else batch_size
    return Plan(_explainer(method, score, batch_size), {"example": example}, at_once)


@functools.cache
def _explainer(method: str, score: str, batch_size: int) -> functools.partial:
    """One function for equal arguments, so that it is compiled once."""
    return functools.partial(
        _explain_one,
        method=methods.METHODS[method],
        make_score=SCORES[score],
        batch_size=batch_size,
    )


def _explain_one(model: Any, *, example, method, make_score, batch_size):
    image = example["image"]
    logits = model(image)
    label = example.get("label", jnp.argmax(logits))
    attributed = method.attribute(
        make_score, model, label, image, regions=example.get("regions"), batch_size=batch_size
    )
    return label, jax.nn.softmax(logits), attributed, method.reduce(attributed)


def save(
    run: report.RunFolder,
    models: Sequence[Classifier],
    photographs: Sequence[Photograph],
    explanations: Sequence[Explanation],
    *,
    method: str = "saliency",
    score: str = "logit",
) -> report.Section:
    """Writes arrays and figures of the explanations, and returns the section that shows them."""
    for model, explanation in zip(models, explanations, strict=True):
        run.save_arrays(f"saliency-{model.file_name}", **explanation._asdict())
    starts = range(0, len(photographs), ROWS_PER_FIGURE)
    figures = [
        run.save_figure(
            "saliency" if start == 0 else f"saliency-{1 + start // ROWS_PER_FIGURE}",
            _draw(
                models,
                photographs,
                explanations,
                range(start, min(start + ROWS_PER_FIGURE, len(photographs))),
                method,
                score,
            ),
        )
        for start in starts
    ]
    rows = [
        (
            ", ".join(filter(None, (photograph.title, photograph.note))),
            model.name,
            model.class_names[explanation.labels[index]],
            ", ".join(
                f"{name} {plots.percent(fraction)}"
                for name, fraction in zip(
                    *_top(model, explanation.probabilities[index]), strict=True
                )
            ),
        )
        for index, photograph in enumerate(photographs)
        for model, explanation in zip(models, explanations, strict=True)
    ]
    header = ("photograph", "model", "explained class", f"{TOP} likeliest classes")
    return report.Section(
        "Saliency maps",
        f"Which pixels each model's answer depends on, by {methods.title(method)}.",
        figures,
        report.Table(header, rows),
    )


def _draw(
    models: Sequence[Classifier],
    photographs: Sequence[Photograph],
    explanations: Sequence[Explanation],
    indices: Sequence[int],
    method: str,
    score: str,
) -> Figure:
    rows: list[list[plots.Cell | None]] = []
    for index in indices:
        photograph = photographs[index]
        image = explanations[0].images[index]
        row: list[plots.Cell | None] = [plots.image(image, photograph.title, photograph.note)]
        for model, explanation in zip(models, explanations, strict=True):
            label = explanation.labels[index]
            probabilities = explanation.probabilities[index]
            title = f"{model.class_names[label]} {plots.percent(probabilities[label])}"
            saliency_map = explanation.saliency_maps[index]
            overlay = plots.overlay(explanation.images[index], np.abs(saliency_map), title)
            row += [
                plots.Ranking(*_top(model, probabilities)),
                methods.draw(method, saliency_map, title),
                dataclasses.replace(overlay, note=""),
            ]
        rows.append(row)
    column_titles = ["photograph"]
    explained = methods.METHODS[method]
    over = "its absolute value over the photograph" if explained.signed else "over the photograph"
    names = {"logit": "logit", "log_prob": "log-probability"}
    for model in models:
        column_titles += [model.name, methods.title(method), over]
    caption = CAPTION.format(
        score="probability" if explained.make_score else names[score],
        meaning=methods.meaning(method),
        colors=explained.colors,
    )
    return plots.grid(rows, column_titles=column_titles, caption=caption)


def _top(model: Classifier, probabilities: np.ndarray) -> tuple[list[str], list[float]]:
    """The likeliest classes' names and probabilities, from the top down."""
    labels = np.argsort(-probabilities)[:TOP]
    return [model.class_names[label] for label in labels], probabilities[labels].tolist()


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """The image (h, w, c), its channels made one or three by their mean where they are not."""
    if image.shape[-1] == channels:
        return image
    grey = image.mean(axis=-1, keepdims=True)
    return np.repeat(grey, channels, axis=-1)


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
