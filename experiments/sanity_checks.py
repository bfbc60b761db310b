"""Which attribution methods explain the model at all, and would not show the same without it?

  python experiments/sanity_checks.py
  python experiments/sanity_checks.py --method saliency rise --count 20 --seed 1
  python experiments/sanity_checks.py --model efficientnet-lite0 --dataset None --images ./photos

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

100 validation images under the bundled standard and robust ResNet, of six layers: those that it is
cut at by name, from the logits to the stem. A method is run 18 times for an image: 8 in the
cascade, 7 independently, 3 for labels and controls. The seven methods take 52 gradients together
(SmoothGrad 16, integrated gradients 32), so that it is 187,000 gradients; with each residual block
a layer, eleven in all, it was 290,000, which with compiling and ranking pixels took 45 minutes on
two processor cores. All images see the same permuted weights, of `--seed`. Interrupted, the same
command continues.

Measured: when nothing learnt is left, saliency, gradient and SmoothGrad are no longer like the maps
of the trained model (0.01 to 0.05, both models), nor are Grad-CAM (0.005 and -0.10, over the images
for which it is not 0 everywhere) and LayerCAM, which turns round (-0.44 and -0.27). Input x
gradient and integrated gradients fail, with 0.21 and 0.27 under the standard model and 0.23 and
0.30 under the robust one, where edges have -0.05 to 0.17: that is the image they are multiplied by,
for of the values with their sign nothing is left (-0.003 to 0.006). So their absolute values should
not be shown. For another label all maps but Grad-CAM's keep much of their order (0.30 to 0.63):
what is salient depends on the image more than on the label.

The backward rules, of 50 images (`--count 50 --method guided_backprop deconvnet guided_grad_cam lrp
lrp_epsilon_gamma_box deep_lift`; 26 minutes beside other work): guided backpropagation, which is
known to fail, passes here by the weights, 0.04 and 0.01, and DeconvNet too, -0.003 and 0.07; but
for another label their maps are the same, 0.95 and 0.94, 0.70 and 0.86: they say nothing of the
class. Relevance by epsilon-plus fails by the weights, 0.32 [0.24, 0.39] and 0.49 [0.42, 0.55], as
Sixt et al. found of the z+ rule, and so does DeepLIFT, 0.26 and 0.30, whose values with their sign
keep nothing (0.00 and 0.01), like those of integrated gradients. Relevance by epsilon-gamma-box
passes, -0.01 and 0.05, as does guided Grad-CAM, which alone depends on the label (0.23 and 0.28).

Under EfficientNet-Lite0, of 6 photographs of ImageNet (`--count 6 --batch-size 2 --method
guided_backprop deconvnet guided_grad_cam lrp lrp_epsilon_gamma_box deep_lift`; 30 minutes beside
other work, most of it compiling), more is left when nothing learnt is: of guided backpropagation
0.16 [0.09, 0.24], as much as the edges' 0.17, of DeconvNet 0.18 [0.17, 0.19], and for another label
their maps are the same, 0.998 and 0.997. Relevance by epsilon-plus fails by far, 0.61 [0.55, 0.68];
that by epsilon-gamma-box, which passes on the pair, fails too, 0.27 [0.18, 0.36], and with another
label stays as it was, 0.89. DeepLIFT fails by absolute values, 0.23 [0.18, 0.30], and not with
their sign, -0.003. Guided Grad-CAM passes, 0.17 [0.05, 0.32], where the edges have 0.22.

The run's folder then holds `curves-MODEL.png` (the likeness, layer by layer), `examples-MODEL.png`
(the maps), `measurements-MODEL.npz`, `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from lab import examples, frame, loading, methods, tables
from lab.examples import Measurements, Subject
from lab.frame import Count, Natural, Run
from lab.methods import CONTROLS
from matplotlib.figure import Figure

from saliency_jax import metrics, models, scores
from saliency_jax.runs import Section, Table, plots

ABSOLUTE, SIGNED = 0, 1
RANDOM, EDGES = (list(CONTROLS).index(name) for name in ("random", "edges"))
# A likeness that is proved and smaller says nothing of a method.
LEAST_LIKENESS = 0.1
CELL_WIDTH = 96
COLUMNS = ("verdict", "nothing learnt", "with sign", "edges", "random", "other label", "images")
CAPTION = (
    "Maps of the trained model, and after the weights of the layer {} are permuted too, so that in "
    f"the last one nothing learnt is left. {methods.COLORS} {methods.LAST_COLOR}"
)
HOW_TO_READ = (
    f"{examples.HOW_TO_READ.partition('. The difference')[0]}. All are rank correlations "
    "with the map of the trained model and the image's own class, of absolute values but in the "
    "column with sign. Nothing learnt: all layers' weights permuted. Edges and random: the two "
    "controls, which do not look at the model. Other label: the trained model's map for another "
    "class. Images: how many have a likeness when nothing is learnt: a map of zeros has "
    "none. A method fails if the map of the model that has learnt nothing is more like that of "
    f"the trained one than random numbers are, by {LEAST_LIKENESS}, and not less than the edges."
)


@dataclasses.dataclass(frozen=True)
class Settings(examples.Settings):
    model: tuple[str, ...] = loading.BUNDLED_PAIR
    """Names of bundled models, or folders of saved ones, which know the images' classes."""
    dataset: str | None = "tiny_imagenet/paper20"
    """A prepared TFDS set whose images have labels; None for --images."""
    batch_size: Count = 20
    """Images measured at once; those finished are kept when the run is interrupted."""
    method: tuple[methods.Name, ...] = methods.COMMON
    """Attribution methods."""
    count: examples.AtLeastTwo = 100
    """How many of its images, from the first on."""
    shown: Count = 1
    """How many of the images are shown."""
    seed: Natural = 0
    """Of the permutations."""


@frame.experiment("Sanity checks")
def main(settings: Settings, run: Run) -> list[Section]:
    methods.check(settings.method, [], many=True)
    trained = loading.as_trained(settings.model)
    pair = [examples.read(settings, classifier) for classifier in trained]
    methods.check(settings.method, [subject.classifier for subject in pair])
    run.expect(len(pair) * len(settings.method) * pair[0].count, "image")
    rows: list[list[str]] = []
    sections: list[Section] = []
    for subject in pair:
        classifier, names = subject.classifier, layers(subject.classifier.network)
        measured = measure_all(settings, run, subject)
        arrays = {
            f"{method}_{name}": values
            for method, measurements in measured.items()
            for name, values in measurements.items()
        }
        file = classifier.file_name
        run.save_arrays(f"measurements-{file}", **arrays, layers=np.array(names))
        rows += [[classifier.name, methods.title(name), *row(measured[name])] for name in measured]
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(("none", *names)))
        figure, view = draw_examples(settings, subject)
        run.save_figure(f"examples-{file}", figure)
        sections.append(
            Section(
                f"Layer by layer: {classifier.name}",
                "The likeness to the map of the trained model after each layer, from the logits "
                f"down to the image: {numbered}. Bands are the 95 % bootstrap intervals over the "
                "images.",
                [run.save_figure(f"curves-{file}", draw_curves(measured))],
                views=[view],
            )
        )
    table = Table(["model", "method", *COLUMNS], rows)
    return [Section("Measured", HOW_TO_READ, table=table), *sections]


def layers(network: models.Network) -> tuple[str, ...]:
    """The layers that a network is cut at by name and that have weights, from the logits down."""
    parts = network.parts()

    def has_weights(name: str) -> bool:
        return any(hasattr(leaf, "shape") for leaf in jax.tree.leaves(parts[name]))

    return tuple(filter(has_weights, reversed(network.layers)))


def network_and_key(settings: Settings) -> Callable:
    """What all images share: with weights of its own each would be slow."""
    return lambda classifier: (classifier.network, jax.random.key(settings.seed))


def measure_all(settings: Settings, run: Run, subject: Subject) -> dict[str, Measurements]:
    """The measurements of all examples, with a leading axis, by method."""
    measured = {}
    for method in settings.method:
        measured[method], _ = run.sweep(
            subject.classifier,
            method,
            functools.partial(measure, method=method),
            {"example": dict(subject.examples)},
            shared=network_and_key(settings)(subject.classifier),
            batch_size=settings.batch_size,
        )
        forget_programs()
    return measured


def forget_programs() -> None:
    """Lets the programs of a method go, which no other method runs.

    Their code is mapped into memory in thousands of pieces, of which a process may have so many.
    """
    jax.clear_caches()


def measure(shared, *, example, method):
    """How like a method's map of the trained model others of the same image are.

    They are `cascading` (l + 1, 2), first with no layer permuted; `independent` (l, 2);
    `other_label` (2,), the trained model's map for another class; and `controls` (c, 2). The last
    axis is of absolute values, and of values with their sign.
    """
    network, key = shared
    image, label = example["images"][0], example["labels"][0]
    explain, make_score = functools.partial(methods.explain, method), methods.row(method).score
    score = make_score(network, label)
    original = explain(score, image)
    options = {"key": key, "layers": layers(network), "similarity": likeness}
    controls = [likeness(original, methods.explain(name, score, image)) for name in CONTROLS]
    return {
        "cascading": metrics.cascading_randomization(explain, score, image, **options),
        "independent": metrics.independent_randomization(explain, score, image, **options),
        "other_label": metrics.random_logit(
            explain,
            network,
            label,
            image,
            key=jax.random.fold_in(key, example["number"]),
            similarity=likeness,
            make_score=make_score,
        ),
        "controls": jnp.stack(controls),
    }


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
    nothing_learnt = measured["cascading"][:, -1]
    columns = [
        nothing_learnt[:, ABSOLUTE],
        nothing_learnt[:, SIGNED],
        measured["controls"][:, EDGES, ABSOLUTE],
        measured["controls"][:, RANDOM, ABSOLUTE],
        measured["other_label"][:, ABSOLUTE],
    ]
    num_defined = np.isfinite(columns[0]).sum()
    return [verdict(measured), *map(tables.cell, columns), str(num_defined)]


def verdict(measured: Measurements) -> str:
    """Whether the map of the model that has learnt nothing is no better than the controls.

    Both differences are paired by image, and count where their bootstrap intervals lie above
    `LEAST_LIKENESS`, and above 0.
    """
    kept = measured["cascading"][:, -1, ABSOLUTE]
    edges, random = (measured["controls"][:, control, ABSOLUTE] for control in (EDGES, RANDOM))
    above_random, below_edges = kept - random, edges - kept
    defined = np.isfinite(above_random + below_edges)
    if not defined.any():
        return "undefined"
    is_like = tables.interval(above_random[defined]).low > LEAST_LIKENESS
    is_less_than_edges = tables.interval(below_edges[defined]).low > 0
    return "fails" if is_like and not is_less_than_edges else "passes"


def draw_curves(measured: Mapping[str, Measurements]) -> Figure:
    """A panel for each method, with the likeness after each layer and that of the controls."""
    panels = {}
    for method, arrays in measured.items():
        x = np.arange(arrays["cascading"].shape[1])
        lines = {"cascading": arrays["cascading"], "independent": arrays["independent"]}
        for place, name in enumerate(CONTROLS):
            lines[f"control: {name}"] = np.repeat(arrays["controls"][:, [place]], len(x), axis=1)
        panels[methods.title(method)] = [
            # Independently, no layer is no case.
            tables.curve(name, x[-values.shape[1] :], list(values[..., ABSOLUTE].T))
            for name, values in lines.items()
        ]
    return plots.curves(panels, "layers from the top")


def look(shared, *, example, method):
    """The maps (l + 1, h, w) of the cascade."""
    network, key = shared
    return metrics.cascading_randomization(
        functools.partial(methods.explain, method),
        methods.row(method).score(network, example["labels"][0]),
        example["images"][0],
        key=key,
        layers=layers(network),
        similarity=lambda original, new: new,
    )


def draw_examples(settings: Settings, subject: Subject) -> tuple[Figure, plots.View]:
    """Of each of the first images a row for each method with its maps of the cascade.

    In the view they are under a slider along the layers, in a row for each image.
    """
    shared, network = network_and_key(settings), subject.classifier.network
    looks = {}
    for method in settings.method:
        function = functools.partial(look, method=method)
        (looks[method],) = examples.look(settings, [subject], function, shared)
        forget_programs()
    groups: list[tuple[list[plots.Cell | None], list[list[plots.Cell | None]]]] = []
    for index in range(subject.first(settings.shown).count):
        image, label = (subject.alone()[name][index] for name in ("image", "label"))
        score = scores.logit(network, label)
        first: list[plots.Cell | None] = [plots.image(image, subject.class_name(index))]
        for name, control in CONTROLS.items():
            saliency_map = np.asarray(methods.explain(name, score, jnp.asarray(image)))
            first.append(control.draw(saliency_map, f"control: {name}"))
        of_methods: list[list[plots.Cell | None]] = [
            [plots.layers(image, one, draw=methods.row(method).draw) for one in maps[index]]
            for method, maps in looks.items()
        ]
        groups.append((first, of_methods))
    titles = [*map(methods.title, settings.method)]
    permuted = ["trained", *(f"and {name}" for name in layers(network))]
    figure = plots.grid(
        [row for first, of_methods in groups for row in (first, *of_methods)],
        row_titles=["image and\ncontrols: no model", *titles] * len(groups),
        column_titles=permuted,
        caption=CAPTION.format("above each column"),
        cell_width=CELL_WIDTH,
    )
    frames = {
        name: [[*first, *(cells[place] for cells in of_methods)] for first, of_methods in groups]
        for place, name in enumerate(permuted)
    }
    view = plots.explore(
        frames,
        "permuted layers",
        column_titles=["image", *[""] * len(CONTROLS), *titles],
        caption=CAPTION.format("at the slider"),
    )
    return figure, view


if __name__ == "__main__":
    main.from_command_line()
