"""What does every attribution method show of a photograph of yours, and which says most?

  python experiments/compare_methods.py
  python experiments/compare_methods.py --images cat.jpg --label tabby --method saliency rise xrai

Every attribution method of the library, under the bundled standard and robust ResNet, of the class
that each finds likeliest, or of one that you name. Without arguments: the two photographs that
scikit-image carries, a cat and a cup of coffee.

Each map is judged by what happens to the probability of the class: when pixels are shown one after
the other on a blurred image, the most salient first, it should rise soon (insertion: the mean over
the way, higher is better), and when they are replaced by the mean colour it should fall soon
(deletion, lower is better). A map of random numbers is the control.

The 24 methods on two photographs under the bundled standard and robust ResNet: 3.5 minutes on two
processor cores, while other work ran beside. Interrupted, the same command continues.

Measured on the cat and the coffee, two photographs alone: integrated gradients, their guided kind
and expected gradients find the pixels that matter, with insertions of 0.85 to 0.91 and deletions of
0.07 to 0.08 under the standard model (random 0.60 and 0.43), and 0.69 to 0.75 and 0.05 to 0.06
under the robust one (random 0.40 and 0.33). Saliency, whose sign is lost, is worse than random in
insertion under the standard model (0.51). The perturbation methods come next in deletion (0.10 to
0.20 and 0.08 to 0.18), those that draw masks at five to twelve times the time. VarGrad does not
tell an image's evidence from its lack: its deletion is no better than random under either model
(0.46 and 0.41).

The run's folder then holds `maps-MODEL-1.png` for the first photograph, and so on,
`METHOD-MODEL.npz` (images, labels, probabilities, signed attributions, maps and judgements),
`config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import classifiers
import command_line
import comparison
import jax.numpy as jnp
import labelled_images
import methods
import numpy as np
import saliency
from classifiers import Classifier
from comparison import Work
from matplotlib.figure import Figure
from saliency import Explanation, Photograph

from saliency_jax import data, metrics, plots, report

COLUMNS = 5
CELL_WIDTH = 192
CONTROL = "random"
# Parts of the pixels that are shown or replaced.
STEPS = 32
HOW_TO_READ = (
    "Means over the photographs. Insertion: the mean probability of the class while pixels are "
    "shown on the blurred photograph, the most salient first; higher is better. Deletion: while "
    "they are replaced by the mean colour; lower is better. Like saliency: Spearman's correlation "
    "of the absolute values with the same model's saliency map. Gini: 0 for a map that is the same "
    "everywhere, near 1 for a single pixel. Random: a map of random numbers."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    images: tuple[Path, ...] = ()
    """Image files of any format and size; scikit-image's cat and coffee if none."""
    model: tuple[str, ...] = classifiers.BUNDLED_PAIR
    """Names of bundled models, or folders of saved ones."""
    method: tuple[methods.Name, ...] = get_args(methods.Name)
    """Attribution methods; all if left out."""
    label: str | None = None
    """Name or number of the class to explain; each image's likeliest one if none."""
    score: Literal["logit", "log_prob"] = "logit"
    """What is explained: the logit, or the logarithm of the probability (rise: the probability)."""
    size: int | None = None
    """Height and width that images are fitted to; those that the model was trained for if none."""
    batch_size: int = 16
    """Copies of an image that are looked at at once; maps are kept when interrupted."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


class Judgement(NamedTuple):
    """What is measured of one method's maps of n photographs.

    Attributes:
      insertion: (n,).
      deletion: (n,).
      like_saliency: (n,).
      gini: (n,).
    """

    insertion: Any
    deletion: Any
    like_saliency: Any
    gini: Any


def main(settings: Settings) -> None:
    if not settings.method:
        raise ValueError("expected at least one --method, got none")
    with report.RunFolder(settings.output, "compare_methods") as run:
        run.save_config(settings)
        models = classifiers.load(settings.model)
        labels = [
            None if settings.label is None else model.label(settings.label) for model in models
        ]
        for model in models:
            for method in settings.method:
                methods.check(method, model)
        photographs = [
            Photograph(data.read_image(path), path.name) for path in settings.images
        ] or saliency.carried_photographs()
        # Saliency is what the others are compared with.
        names = list(dict.fromkeys([*settings.method, "saliency"]))
        num_maps = len(models) * (2 * len(names) + 1) * len(photographs)
        figures, rows = [], []
        with comparison.working(run, settings, num_maps) as work:
            for model, label in zip(models, labels, strict=True):
                explanations, seconds = explain_all(
                    settings, model, photographs, label, names, work
                )
                judgements = judge_all(settings, model, explanations, work)
                for method in settings.method:
                    run.save_arrays(
                        f"{method}-{model.file_name}",
                        **explanations[method]._asdict(),
                        **judgements[method]._asdict(),
                    )
                shown: dict[str, Explanation] = {
                    method: explanations[method] for method in settings.method
                }
                figures += [
                    run.save_figure(
                        f"maps-{model.file_name}-{index + 1}",
                        draw(model, photograph, shown, index),
                    )
                    for index, photograph in enumerate(photographs)
                ]
                rows += tabulate(settings, model, judgements, seconds)
        table = report.Table(
            ["model", "method", "insertion", "deletion", "like saliency", "Gini", "seconds"], rows
        )
        run.save_page(
            "Attribution methods compared",
            [
                report.Section("Maps", " ".join(map(methods.meaning, settings.method)), figures),
                report.Section("Judged", HOW_TO_READ, table=table),
            ],
            __doc__.partition("\n")[0],
        )
    labelled_images.finish(run, table, HOW_TO_READ)


def explain_all(
    settings: Settings,
    model: Classifier,
    photographs: Sequence[Photograph],
    label: int | None,
    names: Sequence[str],
    work: Work,
) -> tuple[dict[str, Explanation], dict[str, float]]:
    """The explanations and the seconds a photograph, by method."""
    explanations, seconds = {}, {}
    for method in names:
        planned = saliency.plan(
            model,
            photographs,
            label,
            method=method,
            score=settings.score,
            size=settings.size,
            batch_size=settings.batch_size,
        )
        columns, seconds[method] = comparison.timed_sweep(
            work._replace(batch_size=planned.batch_size),
            model,
            method,
            planned.function,
            planned.axes,
            model.model,
        )
        explanations[method] = Explanation(planned.images, *columns)
    return explanations, seconds


def judge_all(
    settings: Settings,
    model: Classifier,
    explanations: Mapping[str, Explanation],
    work: Work,
) -> dict[str, Judgement]:
    """What is measured of each method's maps, and of a map of random numbers."""
    reference = explanations["saliency"]
    count, *sides = reference.saliency_maps.shape
    maps = [explanation.saliency_maps for explanation in explanations.values()]
    maps.append(np.random.default_rng(0).random((count, *sides), np.float32))
    axes = {
        "saliency_map": np.concatenate(maps),
        # Which photograph, beside each of the maps.
        "place": np.tile(np.arange(count), len(maps)),
    }
    judged, _ = comparison.timed_sweep(
        work._replace(batch_size=1),
        model,
        "judged",
        _judge(settings.batch_size),
        {"example": axes},
        (model.model, reference.images, reference.labels, reference.saliency_maps),
    )
    per_method = [column.reshape(len(maps), count) for column in judged]
    names = [*explanations, CONTROL]
    return {
        name: Judgement(*(column[place] for column in per_method))
        for place, name in enumerate(names)
    }


@functools.cache
def _judge(batch_size: int) -> functools.partial:
    """One function for equal arguments, so that it is compiled once."""
    return functools.partial(judge, batch_size=batch_size)


def judge(shared, *, example, batch_size):
    """What is measured of one map."""
    model, images, labels, references = shared
    saliency_map, place = example["saliency_map"], example["place"]
    image, label = jnp.asarray(images)[place], jnp.asarray(labels)[place]
    score = metrics.probability(model, label)
    inserted, deleted = (
        curve(score, image, saliency_map, steps=STEPS, batch_size=batch_size).area
        for curve in (metrics.insertion, metrics.deletion)
    )
    return Judgement(
        inserted,
        deleted,
        metrics.spearman_correlation(jnp.abs(saliency_map), jnp.asarray(references)[place]),
        metrics.gini_sparsity(saliency_map),
    )


def tabulate(
    settings: Settings,
    model: Classifier,
    judgements: Mapping[str, Judgement],
    seconds: Mapping[str, float],
) -> list[list[str]]:
    """A row for each method, and one for the control."""
    rows = []
    for name in [*settings.method, CONTROL]:
        means = [f"{column.mean():.3f}" for column in judgements[name]]
        taken = labelled_images.seconds_cell(seconds[name]) if name in seconds else ""
        rows.append([model.name, methods.title(name), *means, taken])
    return rows


def draw(
    model: Classifier,
    photograph: Photograph,
    explanations: Mapping[str, Explanation],
    index: int,
) -> Figure:
    """The photograph and all maps of it."""
    explanation = next(iter(explanations.values()))
    label, probabilities = explanation.labels[index], explanation.probabilities[index]
    note = f"{model.class_names[label]} {plots.percent(probabilities[label])}"
    cells: list[plots.Cell | None] = [
        plots.image(explanation.images[index], photograph.title, note),
        *(
            methods.draw(method, of_method.saliency_maps[index], methods.title(method))
            for method, of_method in explanations.items()
        ),
    ]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    return plots.grid(
        rows,
        caption=f"{model.name}: the class below the photograph is explained. Maps from black at 0 "
        "to bright are never negative; in those with white at 0 red raises the score and blue "
        "lowers it. Below: the value of the last colour, which 99 % of a map's pixels do not "
        "exceed.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
