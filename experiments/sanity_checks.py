"""Which attribution methods explain the model at all, and would not show the same without it?

  python experiments/sanity_checks.py
  python experiments/sanity_checks.py --method saliency rise --count 20 --seed 1

The checks of Adebayo et al. (2018, arXiv:1810.03292). The weights of a layer are permuted, layer by
layer from the logits down to the image, and after each the map is compared with that of the trained
model, by the rank correlation of the pixels' absolute values (and of the values with their sign).
Cascading: the layers above stay permuted, so that the last model has learnt nothing. Independent:
only one layer at a time is. Random logit (Sixt et al. 2019, arXiv:1912.09818): the label is another
one, drawn at random. An explanation has to change.

Two controls know nothing of the model: a map of random numbers, and the edges of the image (Sobel).
A method fails if its map of the model that has learnt nothing is still like that of the trained one
(by a rank correlation of 0.1 or more above that of random numbers), and not clearly less so than
the edges are: then it is no better than an edge detector, which would show the same of any model.
The 0.1 was set after the first run: without it saliency and gradient of the standard model fail
too, by likenesses of 0.01 to 0.05 that are proved and mean nothing.

100 validation images under the bundled standard and robust ResNet, of eleven layers (a residual
block is one). A method is run 28 times for an image: 13 in the cascade, 12 independently, 3 for
labels and controls. The seven methods take 52 gradients together (SmoothGrad 16, integrated
gradients 32), so that it is 290,000 gradients: with compiling and ranking pixels 45 minutes on two
processor cores. All images see the same permuted weights, of `--seed`.
Interrupted, the same command continues.

Measured: when nothing learnt is left, saliency, gradient and SmoothGrad are no longer like the maps
of the trained model (0.01 to 0.05, both models), nor are Grad-CAM (0.005 and -0.10, over the images
for which it is not 0 everywhere) and LayerCAM, which turns round (-0.44 and -0.27). Input x
gradient and integrated gradients fail, with 0.21 and 0.27 under the standard model and 0.23 and
0.30 under the robust one, where edges have -0.05 to 0.17: that is the image they are multiplied by,
for of the values with their sign nothing is left (-0.003 to 0.006). So their absolute values should
not be shown. For another label all maps but Grad-CAM's keep much of their order (0.30 to 0.63):
what is salient depends on the image more than on the label.

The run's folder then holds `curves-MODEL.png` (the likeness, layer by layer), `examples-MODEL.png`
(the maps), `measurements-MODEL.npz`, `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
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

from saliency_jax import metrics, plots, report, scores, sweep

# A layer is what the first parts of its path name: a residual block is one, `stages.0.1`.
PATH_PARTS = 3
ABSOLUTE, SIGNED = 0, 1
RANDOM, EDGES = (list(judging.CONTROLS).index(name) for name in ("random", "edges"))
# A likeness that is proved and smaller says nothing of a method.
LEAST_LIKENESS = 0.1
CELL_WIDTH = 96
COLUMNS = ("nothing learnt", "with sign", "edges", "random", "other label", "images", "verdict")
HOW_TO_READ = (
    f"{labelled_images.HOW_TO_READ.partition('. The difference')[0]}. All are rank correlations "
    "with the map of the trained model and the image's own class, of absolute values but in the "
    "column with sign. Nothing learnt: all layers' weights permuted. Edges and random: the two "
    "controls, which do not look at the model. Other label: the trained model's map for another "
    "class. Images: how many have a likeness when nothing is learnt: a map of zeros has "
    "none. A method fails if the map of the model that has learnt nothing is more like that of "
    f"the trained one than random numbers are, by {LEAST_LIKENESS}, and not less than the edges."
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
    )
    """Attribution methods."""
    count: int = 100
    """How many of its images, from the first on."""
    shown: int = 1
    """How many of the images are shown."""
    seed: int = 0
    """Of the permutations."""


class Measurements(NamedTuple):
    """How like a method's map of the trained model are others of the same image, with l layers.

    Each has a last axis of two: of absolute values, and of values with their sign.

    Attributes:
      cascading: (l + 1, 2), first with no layer permuted.
      independent: (l, 2).
      other_label: (2,), the trained model's map for another class.
      controls: (c, 2), the maps of the controls, in their order.
    """

    cascading: Any
    independent: Any
    other_label: Any
    controls: Any


def main(settings: Settings) -> None:
    labelled_images.check(settings)
    judging.check(settings.method, [])
    if settings.seed < 0:
        raise ValueError(f"expected --seed to be at least 0, got {settings.seed}")
    with report.RunFolder(settings.output, "sanity_checks") as run:
        run.save_config(settings)
        both = classifiers.load(settings.model)
        judging.check(settings.method, both)
        examples = [labelled_images.read(settings, classifier) for classifier in both]
        num_points = len(both) * len(settings.method) * len(examples[0]["number"])
        with comparison.working(run, settings, num_points) as work:
            measured = [
                measure_all(settings, classifier, of, work)
                for classifier, of in zip(both, examples, strict=True)
            ]
        table_rows: list[list[str]] = []
        sections: list[report.Section] = []
        for classifier, of_methods, of in zip(both, measured, examples, strict=True):
            names = layers(classifier.model)
            run.save_arrays(
                f"measurements-{classifier.file_name}",
                **{
                    f"{method}_{name}": values
                    for method, measurements in of_methods.items()
                    for name, values in measurements._asdict().items()
                },
                layers=np.array(names),
            )
            table_rows += [
                [classifier.name, methods.title(method), *row(measurements)]
                for method, measurements in of_methods.items()
            ]
            curves = draw_curves(of_methods)
            pictures = draw_examples(settings, classifier, of)
            sections.append(
                report.Section(
                    f"Layer by layer: {classifier.name}",
                    "The likeness to the map of the trained model after each layer, from the "
                    f"logits down to the image: {numbered(names)}. Bands are the 95 % bootstrap "
                    "intervals over the images.",
                    [
                        run.save_figure(f"curves-{classifier.file_name}", curves),
                        run.save_figure(f"examples-{classifier.file_name}", pictures),
                    ],
                )
            )
        table = report.Table(["model", "method", *COLUMNS], table_rows)
        sections = [report.Section("Measured", HOW_TO_READ, table=table), *sections]
        run.save_page("Sanity checks", sections, __doc__.partition("\n")[0])
    labelled_images.finish(run, table, HOW_TO_READ)


def layers(model: Any) -> tuple[str, ...]:
    """The model's layers from the top, a residual block being one."""
    height, width = model.input_size
    image = jnp.zeros((height, width, model.channels))
    names = metrics.layer_names(scores.logit(model, 0), image)
    return tuple(dict.fromkeys(".".join(name.split(".")[:PATH_PARTS]) for name in names))


def numbered(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(("none", *names)))


def measure_all(
    settings: Settings, classifier: Classifier, examples: Mapping[str, np.ndarray], work: Work
) -> dict[str, Measurements]:
    """The measurements of all examples, with a leading axis, by method."""
    shared = (classifier.model, jax.random.key(settings.seed))
    measured: dict[str, Measurements] = {}
    for method in settings.method:
        function = measure(method, layers(classifier.model))
        measured[method], _ = comparison.timed_sweep(
            work, classifier, method, function, {"example": examples}, shared
        )
    return measured


@functools.cache
def measure(method: str, names: tuple[str, ...]) -> Callable:
    """From model, key and example to `Measurements`; one function for equal arguments."""
    explain = functools.partial(judging.explain, method)

    def of_example(shared, *, example):
        # The key is the same for all images: with weights of its own each would be slow.
        model, key = shared
        image, label = example["images"][0], example["labels"][0]
        score = scores.logit(model, label)
        original = explain(score, image)
        settings: dict[str, Any] = {"key": key, "layers": names, "similarity": likeness}
        return Measurements(
            metrics.cascading_randomization(explain, score, image, **settings),
            metrics.independent_randomization(explain, score, image, **settings),
            metrics.random_logit(
                explain,
                model,
                label,
                image,
                key=jax.random.fold_in(key, example["number"]),
                similarity=likeness,
            ),
            jnp.stack(
                [
                    likeness(original, judging.explain(control, score, image))
                    for control in judging.CONTROLS
                ]
            ),
        )

    return of_example


def likeness(first, second):
    """(2,), the rank correlation of two maps' absolute values, and of their values."""
    return jnp.stack(
        [
            metrics.spearman_correlation(jnp.abs(first), jnp.abs(second)),
            metrics.spearman_correlation(first, second),
        ]
    )


def row(measured: Measurements) -> list[str]:
    """What the table says of a method."""
    nothing_learnt = measured.cascading[:, -1]
    columns = [
        nothing_learnt[:, ABSOLUTE],
        nothing_learnt[:, SIGNED],
        measured.controls[:, EDGES, ABSOLUTE],
        measured.controls[:, RANDOM, ABSOLUTE],
        measured.other_label[:, ABSOLUTE],
    ]
    cells = [labelled_images.cell(column[np.isfinite(column)]) for column in columns]
    num_defined = np.isfinite(nothing_learnt[:, ABSOLUTE]).sum()
    return [*cells, str(num_defined), verdict(measured)]


def verdict(measured: Measurements) -> str:
    """Whether the map of the model that has learnt nothing is no better than the controls.

    Both differences are paired by image, and count where their bootstrap intervals lie above
    `LEAST_LIKENESS`, and above 0.
    """
    kept = measured.cascading[:, -1, ABSOLUTE]
    edges, random = (measured.controls[:, control, ABSOLUTE] for control in (EDGES, RANDOM))
    above_random, below_edges = kept - random, edges - kept
    defined = np.isfinite(above_random + below_edges)
    if not defined.any():
        return "undefined"
    is_like = comparison.interval(above_random[defined]).low > LEAST_LIKENESS
    is_less_than_edges = comparison.interval(below_edges[defined]).low > 0
    return "fails" if is_like and not is_less_than_edges else "passes"


def draw_curves(of_methods: Mapping[str, Measurements]) -> Figure:
    """A panel for each method, with the likeness after each layer and that of the controls."""
    panels: dict[str, list[plots.Curve]] = {}
    for method, measured in of_methods.items():
        x = np.arange(measured.cascading.shape[1])
        lines = {
            "cascading": (x, measured.cascading),
            "independent": (x[1:], measured.independent),
        }
        for place, control in enumerate(judging.CONTROLS):
            of_control = measured.controls[:, place]
            lines[f"control: {control}"] = (x, np.stack([of_control] * len(x), axis=1))
        panels[methods.title(method)] = [
            labelled_images.curve(name, at, list(values[..., ABSOLUTE].T))
            for name, (at, values) in lines.items()
        ]
    return plots.curves(panels, "layers from the top")


@functools.cache
def look(method: str, names: tuple[str, ...]) -> Callable:
    """From model, key and example to the maps (l + 1, h, w) of the cascade."""

    def of_example(shared, *, example):
        model, key = shared
        score = scores.logit(model, example["labels"][0])
        return metrics.cascading_randomization(
            functools.partial(judging.explain, method),
            score,
            example["images"][0],
            key=key,
            layers=names,
            similarity=lambda original, new: new,
        )

    return of_example


def draw_examples(
    settings: Settings, classifier: Classifier, examples: Mapping[str, np.ndarray]
) -> Figure:
    """For each of the first images a row for each method, with its maps of the cascade."""
    names = layers(classifier.model)
    first = labelled_images.first(examples, settings.shown)
    looks = {
        method: sweep(
            look(method, names),
            {"example": first},
            shared=(classifier.model, jax.random.key(settings.seed)),
            batch_size=settings.batch_size,
        )
        for method in settings.method
    }
    grid: list[list[plots.Cell | None]] = []
    row_titles = []
    for index in range(len(first["number"])):
        image, label = first["images"][index, 0], first["labels"][index, 0]
        score = scores.logit(classifier.model, int(label))
        grid.append(
            [
                plots.image(image, classifier.class_names[label]),
                *(
                    judging.draw(
                        control,
                        np.asarray(judging.explain(control, score, jnp.asarray(image))),
                        f"control: {control}",
                    )
                    for control in judging.CONTROLS
                ),
            ]
        )
        row_titles.append("image and\ncontrols: no model")
        for method, maps in looks.items():
            grid.append([judging.draw(method, saliency_map) for saliency_map in maps[index]])
            row_titles.append(methods.title(method))
    return plots.grid(
        grid,
        row_titles=row_titles,
        column_titles=["trained", *(f"and {name}" for name in names)],
        caption="Maps of the trained model, and after the weights of the layer above each column "
        "are permuted too, so that in the last one nothing learnt is left. From black at 0 to "
        "bright the maps are never negative; in those with white at 0 red raises the logit and "
        "blue lowers it. Below: the value of the last colour, which 99 % of a map's pixels do not "
        "exceed.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
