"""Which attribution method is best, by which measure, and are they better than an edge detector?

  python experiments/evaluate_methods.py
  python experiments/evaluate_methods.py --method saliency grad_cam rise --count 1000

Maps of the logit of the image's own class, by eight methods and two controls: random numbers, and
the edges of the image (Sobel), which no model is needed for. Measured of every map:

- insertion and deletion: the mean probability of the class while pixels are shown on the blurred
  image, or replaced by its mean colour, the most salient first, in 16 steps;
- ROAD: the mean accuracy when the most salient 10, 30 and 50 % are imputed from their neighbours;
- mu-fidelity: the rank correlation of the map's sums over 32 random sets of cells with the falls
  of the logit when those get the mean colour;
- share in the box (of signed maps their positive part's), rank accuracy and pointing game;
- Gini sparsity, and the rank correlation of the map's absolute values with the edges;
- average sensitivity: the map's relative change under noise of up to 0.02, on the first 100 images.

500 validation images under the bundled standard and robust ResNet. An image under a model takes 51
gradients (SmoothGrad 16, integrated gradients 32) and 227 passes forward (occlusion 225) for the
maps, and each of its ten maps 70 passes and three imputations; the sensitivity takes the maps three
times again. That took 30 minutes on two processor cores. RISE, which is left out, would add 256
passes. Interrupted, the same command continues.

Measured: integrated gradients say best which pixels matter to the model. They have the highest
insertion, 0.70 [0.68, 0.72] under the standard model and 0.62 under the robust one, and the lowest
deletion (0.12, 0.12; random 0.30, 0.27) and ROAD (0.37, 0.33; random 0.75, 0.68). Of mu-fidelity
(of the first 200 images) occlusion has more, 0.56 and 0.76 against 0.35 and 0.62, which hides
squares as that measure does; of random numbers it is 0.
Where the object is LayerCAM and Grad-CAM say best by rank accuracy (0.74 and 0.73 under the
standard model, random 0.53), integrated gradients by the pointing game and the share in the box
(0.84 and 0.70 under the robust one). An edge detector, which knows no model, is better than
saliency, gradient and input x gradient under the standard model by insertion, 0.52 against 0.48,
0.38 and 0.46, and share in the box, 0.61 against 0.59, 0.58 and 0.58; by deletion it is worse, 0.37
against 0.29, 0.26 and 0.24, and worse than random pixels (0.30): pixels of edges replaced by one
colour leave the shape. The gradient with its sign is worse than random pixels by insertion (0.46)
and ROAD, and better by deletion: the measures do not agree about the weak methods, only about the
best. Under the robust model the gradients are more like
edges (0.23 against -0.01), half as sensitive to noise or less, and better at the pointing game
(0.79 against 0.70); the class activation maps are worse there (rank accuracy 0.68).

The run's folder then holds `scores.png` (everything measured), `examples.png` (the first images'
maps), `measurements-MODEL.npz` (a value for every method and image), `config.json` and
`index.html`, which shows it all.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import classifiers
import command_line
import comparison
import jax
import jax.numpy as jnp
import judging
import labelled_images
import methods
import numpy as np
from classifiers import Classifier
from comparison import Work
from matplotlib.figure import Figure

from saliency_jax import attribution, filters, metrics, plots, report, scores

# Each measure with what is good of it.
BETTER = {
    "insertion": "higher",
    "deletion": "lower",
    "ROAD": "lower",
    "mu-fidelity": "higher",
    "share in the box": "higher",
    "rank accuracy": "higher",
    "pointing game": "higher",
    "Gini": "",
    "like edges": "",
    "sensitivity": "lower",
}
REMOVED = (0.1, 0.3, 0.5)
SETS = 32
NOISY_COPIES = 2
CELL_WIDTH = 96
PANELS_IN_A_ROW = 5
PANEL_WIDTH, LINE_HEIGHT, PANEL_MARGIN = 2.6, 0.26, 1.0
HOW_TO_READ = (
    f"{labelled_images.HOW_TO_READ} Higher is better of insertion, mu-fidelity, share in the box, "
    "rank accuracy and pointing game, lower of deletion, ROAD and sensitivity; Gini (0 for a map "
    "that is the same everywhere) and the likeness to the edges say what a map looks like. Random "
    "and edges are the controls, which do not look at the model: a method that is no better than "
    "they are says nothing by that measure. Mu-fidelity asks for maps with a sign."
)


@dataclasses.dataclass(frozen=True)
class Settings(labelled_images.Settings):
    method: tuple[methods.Name, ...] = (
        "saliency",
        "gradient",
        "input_x_gradient",
        "smoothgrad",
        "integrated_gradients",
        "grad_cam",
        "layer_cam",
        "occlusion",
    )
    """Attribution methods."""
    count: int = 500
    """How many of its images, from the first on."""
    few: int = 100
    """How many of those the sensitivity is measured on."""
    steps: int = 16
    """Parts of the pixels that are shown or replaced one after the other."""
    shown: int = 3
    """How many of the images are shown."""


class Measurements(NamedTuple):
    """What is measured of a map, in the order of `BETTER`, without the sensitivity."""

    insertion: Any
    deletion: Any
    road: Any
    mu_fidelity: Any
    share: Any
    rank: Any
    pointing: Any
    gini: Any
    edges: Any


class Evaluated(NamedTuple):
    """Of one model and m methods, controls included.

    Attributes:
      maps: (m, s, h, w), of the first images.
      values: by measure (m, n); the sensitivity is nan but for the first images.
      seconds: by method, wall time of a map; nan if an interruption lost it.
      judged: wall time of judging a map, likewise.
      total: wall time of all, likewise.
    """

    maps: np.ndarray
    values: dict[str, np.ndarray]
    seconds: dict[str, float]
    judged: float
    total: float


def main(settings: Settings) -> None:
    labelled_images.check(settings)
    for name in ("few", "steps"):
        if getattr(settings, name) < 1:
            raise ValueError(f"expected --{name} to be at least 1, got {getattr(settings, name)}")
    judging.check(settings.method, [])
    names = [*settings.method, *judging.CONTROLS]
    with report.RunFolder(settings.output, "evaluate_methods") as run:
        run.save_config(settings)
        both = classifiers.load(settings.model)
        judging.check(settings.method, both)
        examples = [labelled_images.read(settings, classifier) for classifier in both]
        count = len(examples[0]["number"])
        num_points = len(both) * len(names) * (2 * count + min(settings.few, count))
        with comparison.working(run, settings, num_points) as work:
            evaluated = [
                evaluate(settings, classifier, own(of), names, work)
                for classifier, of in zip(both, examples, strict=True)
            ]
        for classifier, of_model in zip(both, evaluated, strict=True):
            run.save_arrays(
                f"measurements-{classifier.file_name}",
                **{name.replace(" ", "_"): values for name, values in of_model.values.items()},
                methods=np.array(names),
                seconds=np.array([of_model.seconds[name] for name in names]),
            )
        model_names = [classifier.name for classifier in both]
        table = labelled_images.tabulate(model_names, [rows(names, of) for of in evaluated])
        text = f"{HOW_TO_READ} {took(model_names, evaluated)}"
        sections = [
            report.Section(
                "At a glance",
                "Means over the images and their 95 % bootstrap intervals.",
                [run.save_figure("scores", draw_scores(model_names, names, evaluated))],
            ),
            report.Section("Measured", text, table=table),
            report.Section(
                "The first images",
                figures=[
                    run.save_figure("examples", draw_examples(both, examples[0], names, evaluated))
                ],
            ),
        ]
        run.save_page("Attribution methods evaluated", sections, __doc__.partition("\n")[0])
    labelled_images.finish(run, table, text)


def own(examples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The examples without the other ones beside them."""
    return {
        "image": examples["images"][:, 0],
        "label": examples["labels"][:, 0],
        "box": examples["boxes"][:, 0],
        "number": examples["number"],
    }


def evaluate(
    settings: Settings,
    classifier: Classifier,
    examples: Mapping[str, np.ndarray],
    names: Sequence[str],
    work: Work,
) -> Evaluated:
    """All methods' maps of all images under one model, and what is measured of them."""
    count = len(examples["number"])
    few = min(settings.few, count)
    shown: list[np.ndarray] = []
    columns: list[list[np.ndarray]] = []
    seconds: dict[str, float] = {}
    judged: list[float] = []
    total = 0.0

    def swept(what: str, function: Callable, points: Mapping[str, Any]) -> tuple[Any, float]:
        nonlocal total
        values, taken = comparison.timed_sweep(
            work, classifier, what, function, {"example": points}, classifier.model
        )
        total += taken * len(points["number"])
        return values, taken

    for name in names:
        maps, seconds[name] = swept(f"{name} maps", explain(name), examples)
        measured, taken = swept(
            f"{name} judged", judge(settings.steps), {**examples, "saliency_map": maps}
        )
        changes, _ = swept(
            f"{name} sensitivity", sensitivity(name), labelled_images.first(examples, few)
        )
        padded = np.pad(changes, (0, count - few), constant_values=np.nan)
        columns.append([*measured, padded])
        shown.append(maps[: settings.shown])
        judged.append(taken)
    by_measure = [np.stack(of) for of in zip(*columns, strict=True)]
    values = dict(zip(BETTER, by_measure, strict=True))
    return Evaluated(np.stack(shown), values, seconds, float(np.mean(judged)), total)


@functools.cache
def explain(name: str) -> Callable:
    """From a model and an example to the method's map (h, w); one function for equal arguments."""

    def of_example(model, *, example):
        score = scores.logit(model, example["label"])
        return judging.explain(name, score, example["image"])

    return of_example


@functools.cache
def sensitivity(name: str) -> Callable:
    """From a model and an example to the relative change of the method's map under noise."""

    def of_example(model, *, example):
        return metrics.average_sensitivity(
            functools.partial(judging.explain, name),
            scores.logit(model, example["label"]),
            example["image"],
            key=example_key(example),
            num_samples=NOISY_COPIES,
            batch_size=1,
        )

    return of_example


@functools.cache
def judge(steps: int) -> Callable:
    """From a model and an example with its map to what is measured of the map."""

    def of_example(model, *, example):
        image, label, saliency_map = (example[name] for name in ("image", "label", "saliency_map"))
        key = example_key(example)
        inside = metrics.box_mask(example["box"], saliency_map.shape)
        inserted, deleted = (
            curve(
                metrics.probability(model, label), image, saliency_map, steps=steps, batch_size=1
            ).area
            for curve in (metrics.insertion, metrics.deletion)
        )
        removed = metrics.road(
            metrics.accuracy(model, label),
            image,
            saliency_map,
            key=key,
            fractions=REMOVED,
            batch_size=1,
        )
        fidelity = metrics.mu_fidelity(
            scores.logit(model, label),
            image,
            saliency_map,
            key=key,
            num_samples=SETS,
            baseline=attribution.baselines.mean_color,
            batch_size=1,
        )
        return Measurements(
            inserted,
            deleted,
            removed.scores.mean(),
            fidelity,
            metrics.relevance_mass_accuracy(jnp.maximum(saliency_map, 0), inside),
            metrics.relevance_rank_accuracy(saliency_map, inside),
            metrics.pointing_game(saliency_map, inside),
            metrics.gini_sparsity(saliency_map),
            metrics.spearman_correlation(jnp.abs(saliency_map), filters.sobel(image)),
        )

    return of_example


def example_key(example: Mapping[str, Any]) -> jax.Array:
    """The same for all methods and models, so that their differences are not the draws'."""
    return jax.random.fold_in(jax.random.key(0), example["number"])


def rows(names: Sequence[str], evaluated: Evaluated) -> dict[str, np.ndarray]:
    """All that is reported: (n,) by the name of measure and method."""
    return {
        f"{measure}, {methods.title(name)}": values
        for measure, of_methods in evaluated.values.items()
        for name, values in zip(names, of_methods, strict=True)
    }


def took(model_names: Sequence[str], evaluated: Sequence[Evaluated]) -> str:
    """How long it took, but for what an interruption lost."""
    sentences = []
    for model_name, of_model in zip(model_names, evaluated, strict=True):
        each = [
            f"{methods.title(name)} {seconds:.3f}"
            for name, seconds in of_model.seconds.items()
            if not math.isnan(seconds)
        ]
        if not math.isnan(of_model.total):
            sentences.append(
                f"All maps under {model_name} took {of_model.total / 60:.1f} minutes, compilation "
                f"excepted; seconds a map: {', '.join(each)}, judging one {of_model.judged:.3f}."
            )
    return " ".join(sentences)


def draw_scores(
    model_names: Sequence[str], names: Sequence[str], evaluated: Sequence[Evaluated]
) -> Figure:
    """A panel for each measure, with a line for each method and a point for each model."""
    num_rows = -(-len(BETTER) // PANELS_IN_A_ROW)
    height = num_rows * (LINE_HEIGHT * len(names) + PANEL_MARGIN)
    figure = Figure(figsize=(PANELS_IN_A_ROW * PANEL_WIDTH, height), dpi=100, layout="constrained")
    places = figure.subplots(num_rows, PANELS_IN_A_ROW, sharey=True, squeeze=False).ravel()
    lines = np.arange(len(names))
    offsets = np.linspace(-0.15, 0.15, len(model_names))
    for place, (measure, better) in zip(places, BETTER.items(), strict=False):
        for model_name, offset, of_model in zip(model_names, offsets, evaluated, strict=True):
            means = labelled_images.curve(model_name, lines, list(of_model.values[measure]))
            ends = np.stack([means.y - means.low, means.high - means.y])
            place.errorbar(means.y, lines + offset, xerr=ends, fmt="o", ms=3, label=model_name)
        # Below the line are the controls.
        place.axhline(len(names) - len(judging.CONTROLS) - 0.5, color="#bbbbbb", linewidth=1)
        title = f"{measure}\n{better} is better" if better else measure
        place.set_title(title, fontsize=8.5, weight="bold")
        place.tick_params(labelsize=8.5)
    for place in places[len(BETTER) :]:
        place.set_axis_off()
    places[0].set_yticks(lines, [methods.title(name) for name in names])
    places[0].invert_yaxis()
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    return figure


def draw_examples(
    both: Sequence[Classifier],
    examples: Mapping[str, np.ndarray],
    names: Sequence[str],
    evaluated: Sequence[Evaluated],
) -> Figure:
    """For each of the first images a row of all maps under each model."""
    grid: list[list[plots.Cell | None]] = []
    row_titles = []
    for index in range(evaluated[0].maps.shape[1]):
        image = labelled_images.outlined(examples["images"][index, 0], examples["boxes"][index, 0])
        label = examples["labels"][index, 0]
        for classifier, of_model in zip(both, evaluated, strict=True):
            grid.append(
                [
                    plots.image(image, both[0].class_names[label]),
                    *(
                        judging.draw(name, saliency_map)
                        for name, saliency_map in zip(names, of_model.maps[:, index], strict=True)
                    ),
                ]
            )
            row_titles.append(classifier.name)
    return plots.grid(
        grid,
        row_titles=row_titles,
        column_titles=["image and box", *map(methods.title, names)],
        caption="Maps of the class above the image. From black at 0 to bright they are never "
        "negative; in those with white at 0 red raises the logit and blue lowers it. Below: the "
        "value of the last colour, which 99 % of a map's pixels do not exceed.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
