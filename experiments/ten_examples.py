"""What do the main attribution methods show of ten images, under a standard and a robust model?

  python experiments/ten_examples.py
  python experiments/ten_examples.py --method saliency grad_cam --classes lemon goose
  python experiments/ten_examples.py --images a.jpg b.png

A validation image of each of ten classes, among them the magnetic compass and the stopwatch: the
one of which the less sure of the two models is surest, so that both see the object. The methods are
saliency, input x gradient, SmoothGrad, integrated gradients, Grad-CAM, occlusion, RISE and XRAI, of
the logit of the image's class (RISE: of its probability), under the bundled standard and robust
ResNet. With `--images`, photographs of yours take their place, each explained for the class that
the model finds likeliest.

Ten images by eight methods and two models: under 2 minutes on two processor cores, while other work
ran beside. Interrupted, the same command continues.

Measured on them: what a map shows is the method's doing as much as the model's. By Spearman's
correlation of their absolute values, integrated gradients resemble the same model's saliency by
0.36 and 0.32, Grad-CAM by 0.34, occlusion by 0.21 and 0.11, and even SmoothGrad only by 0.46 under
the standard model, against 0.74 under the robust one, whose gradient changes less around the image.
The two models agree most where a method is coarse: by 0.89 under RISE and 0.69 under Grad-CAM,
against 0.25 under saliency and 0.08 under input x gradient. The robust model's finer maps show
outlines that can be named, such as the compass's ring and the goose's neck in integrated gradients,
where the standard model's are dots.

The run's folder then holds `ten_examples.png` (each image, and below it each method's map, a row
for each model), `METHOD-MODEL.npz` (images, labels, probabilities, signed attributions and maps),
`config.json` and `index.html`, which shows it all.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import classifiers
import command_line
import comparison
import jax
import labelled_images
import methods
import numpy as np
import saliency
from classifiers import Classifier
from comparison import Work
from matplotlib.figure import Figure
from saliency import Explanation, Photograph

from saliency_jax import data, metrics, plots, report

CELL_WIDTH = 128
# Images looked at at once, to choose the clearest.
READ = 250
HOW_TO_READ = (
    "Agreement of the models: Spearman's correlation of a method's maps under one model and the "
    "other; like saliency: that of the absolute values with the same model's saliency map. Means "
    "over the images with their 95 % bootstrap intervals, the images being resampled. A map that "
    "is the same everywhere has no correlation, and is left out."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    model: tuple[str, str] = classifiers.BUNDLED_PAIR
    """Names of two bundled models, or folders of saved ones."""
    images: tuple[Path, ...] = ()
    """Image files of any format and size; images of the dataset if none."""
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set."""
    split: str = "validation"
    """Split of the dataset, sliced at will: "validation[50%:]"."""
    classes: tuple[str, ...] = (
        "magnetic compass",
        "stopwatch",
        "bell pepper",
        "lemon",
        "goose",
        "school bus",
        "tabby",
        "king penguin",
        "monarch",
        "goldfish",
    )
    """Names or numbers of classes, of each of which one image is taken."""
    method: tuple[methods.Name, ...] = (
        "saliency",
        "input_x_gradient",
        "smoothgrad",
        "integrated_gradients",
        "grad_cam",
        "occlusion",
        "rise",
        "xrai",
    )
    """Attribution methods."""
    score: Literal["logit", "log_prob"] = "logit"
    """What is explained: the logit, or the logarithm of the probability (rise: the probability)."""
    batch_size: int = 16
    """Images explained at once, or copies of one; maps are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


def main(settings: Settings) -> None:
    if not settings.method:
        raise ValueError("expected at least one --method, got none")
    with report.RunFolder(settings.output, "ten_examples") as run:
        run.save_config(settings)
        both = classifiers.load(settings.model)
        labels: list[np.ndarray | None]
        if settings.images:
            photographs = [Photograph(data.read_image(path), path.name) for path in settings.images]
            labels = [None, None]
        else:
            photographs = clearest_of_classes(settings, both)
            labels = [
                np.array([classifier.label(photograph.title) for photograph in photographs])
                for classifier in both
            ]
        num_maps = 2 * len(settings.method) * len(photographs)
        with comparison.working(run, settings, num_maps) as work:
            explanations, seconds = explain_all(settings, both, photographs, labels, work)
        for (name, method), explanation in explanations.items():
            run.save_arrays(f"{method}-{name}", **explanation._asdict())
        table = tabulate(settings, both, explanations, seconds)
        figure = run.save_figure("ten_examples", draw(settings, both, photographs, explanations))
        run.save_page(
            f"{len(photographs)} images explained",
            [
                report.Section("Maps", figures=[figure]),
                report.Section("How they agree", HOW_TO_READ, table=table),
            ],
            __doc__.partition("\n")[0],
        )
    labelled_images.finish(run, table, HOW_TO_READ)


def clearest_of_classes(settings: Settings, both: Sequence[Classifier]) -> list[Photograph]:
    """Of each class the image that the less sure model is surest of, called by its class."""
    wanted = [both[0].class_names[both[0].label(name)] for name in settings.classes]
    if not wanted:
        raise ValueError("expected at least one of --classes, got none")
    names = data.describe(settings.dataset, data_dir=settings.data_dir).class_names
    numbers = [np.array([classifier.label(name) for name in names]) for classifier in both]
    clearest: dict[str, tuple[float, np.ndarray]] = {}
    for batch in data.load(
        settings.dataset,
        settings.split,
        READ,
        image_size=max(classifier.input_size for classifier in both),
        data_dir=settings.data_dir,
    ):
        images, labels = batch["image"], batch["label"]
        surest = np.min(
            [
                probabilities(classifier, images)[np.arange(len(labels)), of_model[labels]]
                for classifier, of_model in zip(both, numbers, strict=True)
            ],
            axis=0,
        )
        for place in np.flatnonzero(batch["mask"]):
            name = names[labels[place]]
            if name not in clearest or surest[place] > clearest[name][0]:
                clearest[name] = float(surest[place]), images[place]
    missing = ", ".join(name for name in wanted if name not in clearest)
    if missing:
        raise ValueError(
            f"expected an image of every class in {settings.split} of {settings.dataset}, got "
            f"none of {missing}"
        )
    return [Photograph(clearest[name][1], name) for name in wanted]


def probabilities(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """(n, k), what a classifier says of images of any size."""
    fitted = (data.fit(image, classifier.input_size) for image in images)
    seen = [saliency.with_channels(image, classifier.model.channels) for image in fitted]
    return np.asarray(_probabilities(classifier.model, np.stack(seen)))


@jax.jit
def _probabilities(model, images):
    return jax.nn.softmax(jax.vmap(model)(images))


def explain_all(
    settings: Settings,
    both: Sequence[Classifier],
    photographs: Sequence[Photograph],
    labels: Sequence[np.ndarray | None],
    work: Work,
) -> tuple[dict[tuple[str, str], Explanation], dict[tuple[str, str], float]]:
    """The explanations, and seconds an image, by file name of the model and name of the method."""
    explanations: dict[tuple[str, str], Explanation] = {}
    seconds: dict[tuple[str, str], float] = {}
    for method in settings.method:
        for classifier, of_classifier in zip(both, labels, strict=True):
            planned = saliency.plan(
                classifier,
                photographs,
                of_classifier,
                method=method,
                score=settings.score,
                batch_size=settings.batch_size,
            )
            columns, taken = comparison.timed_sweep(
                work._replace(batch_size=planned.batch_size),
                classifier,
                method,
                planned.function,
                planned.axes,
                classifier.model,
            )
            explanations[classifier.file_name, method] = Explanation(planned.images, *columns)
            seconds[classifier.file_name, method] = taken
    return explanations, seconds


@jax.jit
def correlations(first, second):
    """(n,), Spearman's, of maps (n, h, w)."""
    return jax.vmap(metrics.spearman_correlation)(first, second)


def tabulate(
    settings: Settings,
    both: Sequence[Classifier],
    explanations: Mapping[tuple[str, str], Explanation],
    seconds: Mapping[tuple[str, str], float],
) -> report.Table:
    """A row for each method: how its maps agree, and what they cost."""
    rows = []
    for method in settings.method:
        maps = [explanations[model.file_name, method].saliency_maps for model in both]
        one_size = maps[0].shape == maps[1].shape
        agreement = cell(correlations(*maps)) if one_size else ""
        for model, of_model in zip(both, maps, strict=True):
            reference = explanations.get((model.file_name, "saliency"))
            like = (
                cell(correlations(np.abs(of_model), reference.saliency_maps)) if reference else ""
            )
            taken = labelled_images.seconds_cell(seconds[model.file_name, method])
            rows.append([methods.title(method), model.name, agreement, like, taken])
            agreement = ""
    header = ["method", "model", "agreement of the models", "like saliency", "seconds an image"]
    return report.Table(header, rows)


def cell(values: jax.Array) -> str:
    """The mean over the images where the values are defined, with its interval."""
    return labelled_images.cell(np.asarray(values)[np.isfinite(values)])


def draw(
    settings: Settings,
    both: Sequence[Classifier],
    photographs: Sequence[Photograph],
    explanations: Mapping[tuple[str, str], Explanation],
) -> Figure:
    """For each image a row of maps for each model, all in one figure."""
    rows: list[list[plots.Cell | None]] = []
    row_titles = []
    for index, photograph in enumerate(photographs):
        for classifier in both:
            of_model = [explanations[classifier.file_name, method] for method in settings.method]
            probabilities = of_model[0].probabilities[index]
            label, likeliest = of_model[0].labels[index], probabilities.argmax()
            explained = classifier.class_names[label]
            answer = (
                f"{classifier.class_names[likeliest]} {plots.percent(probabilities[likeliest])}"
            )
            if likeliest != label:
                answer += f", {explained} {plots.percent(probabilities[label])}"
            image = plots.image(of_model[0].images[index], photograph.title, answer)
            cells = [
                without_scale(methods.draw(method, explanation.saliency_maps[index]))
                for method, explanation in zip(settings.method, of_model, strict=True)
            ]
            rows.append([image, *cells])
            row_titles.append(classifier.name)
    return plots.grid(
        rows,
        row_titles=row_titles,
        column_titles=["image", *map(methods.title, settings.method)],
        caption="Below each image: the model's likeliest class, and, if it is another, the class "
        "that the maps explain. Maps from black at 0 to bright: never negative. Maps with white at "
        "0: red raises the score, blue lowers it. The last colour is the value that 99 % of a "
        "map's pixels do not exceed, so maps are comparable in shape, not in strength. "
        + " ".join(map(methods.meaning, settings.method)),
        cell_width=CELL_WIDTH,
    )


def without_scale(cell: plots.Picture) -> plots.Picture:
    """The map without its note on the scale, which the caption gives, unless it has none."""
    return cell if cell.note == plots.ALL_ZERO else dataclasses.replace(cell, note="")


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
