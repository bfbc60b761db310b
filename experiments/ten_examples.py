"""What do the main attribution methods show of ten images?

  python experiments/ten_examples.py
  python experiments/ten_examples.py --images ./photographs
  python experiments/ten_examples.py --method saliency grad_cam --images a.jpg b.png
  pair="--dataset tiny_imagenet/paper20 --model tiny-imagenet-standard tiny-imagenet-robust"
  python experiments/ten_examples.py $pair

Photographs, files or folders, under EfficientNet-Lite0, ten of them: first those of a compass, an
analog and a digital clock, as the WordNet ids that the names of files or folders begin with tell,
each explained for its class, or for the likeliest if its class is not told. Without any: five that
scikit-image carries.

Of a data set, a validation image of each of ten classes: the one of which the least sure of the
models is surest, so that all see the object. The methods are saliency, input x gradient,
SmoothGrad, integrated gradients, Grad-CAM, occlusion, RISE and XRAI, of the logit of the image's
class (RISE: of its probability).

Ten photographs of ImageNet under Lite0 in 11 minutes on two processor cores, while other work ran
beside, half of it RISE's. Measured on them: like the saliency map are input x gradient (0.66 [0.60,
0.73]) and integrated gradients (0.33), hardly SmoothGrad (0.11 [0.03, 0.20]) and the coarse ones
(Grad-CAM 0.24, occlusion 0.09, RISE 0.14, XRAI 0.14). Integrated gradients draw the digits of the
clock and the compass's ring, and SmoothGrad the guitar's neck; saliency is dots.

Ten images of Tiny-ImageNet by eight methods and two models: under 2 minutes on two processor cores,
while other work ran beside. Interrupted, the same command continues.

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

import jax
import numpy as np
from lab import frame, loading, methods, photographs, tables
from lab.frame import Count, Run
from lab.methods import METHODS
from lab.photographs import Explanation, Photograph

from saliency_jax import data, metrics, scores
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

SMALL_CELL_WIDTH = 128
# Images read and looked at at once, to choose the clearest.
READ, LOOKED_AT = 250, 8
# Of a data set or of folders those of which it has an image, in this order.
CLASSES = (
    *photographs.FIRST_CLASSES,
    "stopwatch",
    "bell pepper",
    "lemon",
    "goose",
    "school bus",
    "tabby",
    "king penguin",
    "monarch",
    "goldfish",
    "toucan",
    "African elephant",
    "electric guitar",
)
HOW_TO_READ = (
    "Like saliency: Spearman's correlation of a map's absolute values with the same model's "
    "saliency map; agreement of the models, if there are two: of a method's maps under one and the "
    "other. Means over the images with their 95 % bootstrap intervals, the images being resampled. "
    "A map that is the same everywhere has no correlation, and is left out."
)


@dataclasses.dataclass(frozen=True)
class Settings(photographs.Explaining):
    model: tuple[str, ...] = loading.FOR_PHOTOGRAPHS
    """Names of bundled models, or folders of saved ones."""
    images: tuple[Path, ...] = ()
    """Image files of any format and size, or folders of them. Their class is that whose WordNet id
    their name, or their folder's, begins with; the likeliest one if there is none."""
    dataset: str | None = None
    """A prepared TFDS set. Without it and --images: scikit-image's sample photographs."""
    split: str = "validation"
    """Split of the dataset, sliced at will: "validation[50%:]"."""
    classes: tuple[str, ...] | None = None
    """Names or numbers of classes, of each of which one image of the dataset is taken; ten that it
    has if left out, such as compass and clocks."""
    count: Count = 10
    """How many of the image files, those of such classes first."""
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
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


@frame.experiment("Images explained")
def main(settings: Settings, run: Run) -> list[Section]:
    classifiers = loading.load(settings.model)
    methods.check(settings.method, classifiers)
    shown = read(settings, classifiers)
    run.expect(len(classifiers) * len(settings.method) * len(shown), "map")
    both = explain(run, settings, classifiers, shown)
    maps = draw(settings, shown, both, photographs.CELL_WIDTH)
    return [
        Section("Maps", views=[run.save_view("ten_examples", maps)]),
        Section("How they agree", HOW_TO_READ, table=tabulate(settings, both)),
    ]


def read(settings: Settings, classifiers: Sequence[Classifier]) -> list[Photograph]:
    """The photographs that the settings name, or scikit-image's."""
    if settings.images and settings.dataset is not None:
        raise ValueError("expected --images or --dataset, got both")
    if settings.dataset is not None:
        return clearest_of_classes(settings, classifiers)
    if settings.images:
        return photographs.from_files(settings.images, settings.count, CLASSES)
    return photographs.sample_photographs()


def explain(
    run: Run, settings: Settings, classifiers: Sequence[Classifier], shown: Sequence[Photograph]
) -> list[dict[str, Explanation]]:
    """Of each model the explanations by method; of each photograph's class, or the likeliest."""
    both = []
    for classifier in classifiers:
        labels = [
            None if each.class_name is None else classifier.label(each.class_name) for each in shown
        ]
        made = {
            name: photographs.explain(run, classifier, shown, name, settings, labels)
            for name in settings.method
        }
        for name, explanation in made.items():
            run.save_arrays(f"{name}-{classifier.file_name}", **explanation.arrays)
        both.append(made)
    return both


def clearest_of_classes(settings: Settings, classifiers: Sequence[Classifier]) -> list[Photograph]:
    """Of each class the image that the least sure model is surest of, called by its class."""
    first, dataset = classifiers[0], settings.dataset or ""
    description = data.describe(dataset, data_dir=settings.data_dir)
    names = description.class_names
    if settings.classes is None:
        wanted = [name for name in (*CLASSES, *names) if name in names]
        wanted = list(dict.fromkeys(wanted))[: settings.count]
    else:
        wanted = [first.class_names[first.label(name)] for name in settings.classes]
    if not wanted:
        raise ValueError("expected at least one of --classes, got none")
    numbers = [np.array([each.label(name) for name in names]) for each in classifiers]
    clearest: dict[str, tuple[float, np.ndarray]] = {}
    sides, folder = photographs.read_size(description, classifiers), settings.data_dir
    for batch in data.load(dataset, settings.split, READ, image_size=sides, data_dir=folder):
        each_ones = [
            probabilities(
                classifier.network,
                np.stack([*map(classifier.preprocess, batch["image"])]),
                number[batch["label"]],
            )
            for classifier, number in zip(classifiers, numbers, strict=True)
        ]
        surest = np.min(each_ones, axis=0)
        for index in np.flatnonzero(batch["mask"]):
            name = names[batch["label"][index]]
            if name not in clearest or surest[index] > clearest[name][0]:
                clearest[name] = float(surest[index]), batch["image"][index]
    missing = ", ".join(name for name in wanted if name not in clearest)
    if missing:
        raise ValueError(
            f"expected an image of every class in {settings.split} of {dataset}, got none of "
            f"{missing}"
        )
    return [Photograph(clearest[name][1], name, class_name=name) for name in wanted]


@jax.jit
def probabilities(network, images, labels):
    """(n,), of the images' own classes."""

    def of_one(example):
        image, label = example
        return scores.probability(network, label)(image)

    return jax.lax.map(of_one, (images, labels), batch_size=LOOKED_AT)


@jax.jit
def correlations(first, second):
    """(n,), Spearman's, of maps (n, h, w)."""
    return jax.vmap(metrics.spearman_correlation)(first, second)


def tabulate(settings: Settings, both: Sequence[Mapping[str, Explanation]]) -> Table:
    """A row for each method and model: how its maps agree, and what they cost."""
    rows, two = [], len(both) == 2
    for name in settings.method:
        maps = [made[name].saliency_maps for made in both]
        one_size = two and maps[0].shape == maps[1].shape
        agreement = tables.cell(correlations(*maps)) if one_size else ""
        for made, saliency_maps in zip(both, maps, strict=True):
            like = ""
            if "saliency" in made:
                reference = made["saliency"].saliency_maps
                like = tables.cell(correlations(np.abs(saliency_maps), reference))
            model, seconds = made[name].classifier.name, tables.seconds(made[name].seconds)
            rows.append([METHODS[name].title, model, *[agreement] * two, like, seconds])
            agreement = ""
    compared = ["agreement of the models"] * two
    return Table(["method", "model", *compared, "like saliency", "seconds an image"], rows)


def draw(
    settings: Settings,
    shown: Sequence[Photograph],
    both: Sequence[Mapping[str, Explanation]],
    cell_width: int = SMALL_CELL_WIDTH,
) -> plots.View:
    """For each image a row of maps for each model."""
    rows: list[list[plots.Cell | None]] = []
    for index, photograph in enumerate(shown):
        for made in both:
            first = made[settings.method[0]]
            classes = dict.fromkeys([first.likeliest(index), first.explained(index)])
            rows.append([first.image(index, photograph.title, ", ".join(classes))])
            rows[-1] += [without_scale(each.map(index)) for each in made.values()]
    return plots.explore(
        rows,
        row_titles=[made[settings.method[0]].classifier.name for made in both] * len(shown),
        column_titles=["image", *map(methods.title, settings.method)],
        caption="Below each image: the model's likeliest class, and, if it is another, the class "
        f"that the maps explain. {methods.COLORS} The last colour is the value that 99 % of a "
        "map's pixels do not exceed, so maps are comparable in shape, not in strength. "
        + " ".join(METHODS[name].meaning for name in settings.method),
        cell_width=cell_width,
    )


def without_scale(cell: plots.Layers) -> plots.Layers:
    """The map without its note on the scale, which the caption gives, unless it has none."""
    return cell if cell.note == plots.ALL_ZERO else dataclasses.replace(cell, note="")


if __name__ == "__main__":
    main.from_command_line()
