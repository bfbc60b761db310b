"""Class visualizations by variants of a recipe: made, measured, judged, shown.

Two classifiers of the same classes make pictures in turn, and the other one judges them, which they
were never optimized for. Each experiment compares variants on the same classes and seeds.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from saliency_jax import ascent, metrics
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

from . import loading, tables
from .frame import SOME, Count, Output, Run
from .photographs import likeliest
from .recipes import FAMILIAR_CLASSES

# Of the validation images of tiny_imagenet/paper20, as `photograph_statistics.py` prints them.
PHOTOGRAPHS = {
    "total variation": metrics.Interval(0.139, 0.125, 0.152),
    "spectrum slope": metrics.Interval(-2.272, -2.359, -2.184),
}
HOW_TO_READ = (
    "Each number is a mean over classes and seeds, with its 95 % bootstrap interval, the classes "
    "being resampled. Own probability: what the model that the pictures were made for gives to "
    "their class. Recognized: the share whose class is the likeliest one for the other model, for "
    "which they were never optimized. Total variation: the mean absolute difference of "
    "neighbouring pixels, down and right together. Spectrum slope: of the power over the "
    "frequency, both in logarithms; 0 for white noise. Seed distance: the root-mean-square "
    "difference of two pictures of one class from different seeds. Photographs: the validation "
    "images of the bundled models' data set, 64x64."
)
COLUMNS = 6
CELL_WIDTH = 128


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    model: tuple[str, str] = loading.BUNDLED_PAIR
    """Names of two bundled models, or folders of saved ones; each judges the other's pictures."""
    seeds: Count = 5
    """How many pictures of each class, from seeds 0, 1, 2 ..."""
    steps: Count = 64
    """As many as the default recipe needs under a robust model, see `number_of_steps.py`."""
    batch_size: Count = 20
    """Pictures made at once; those finished are kept when the run is interrupted."""


@dataclasses.dataclass(frozen=True)
class ClassSettings(Settings):
    classes: Annotated[tuple[str, ...] | None, SOME] = None
    """Names of classes, or the first model's numbers of them; all if none."""


class Models(NamedTuple):
    """What the pictures of one classifier are made and judged with.

    Attributes:
      maker: the network that pictures are made for.
      judge: the network that has to recognize them.
      mean: (h, w, c), an image of the mean colour of the maker's training images.
    """

    maker: Any
    judge: Any
    mean: Any


@dataclasses.dataclass(frozen=True)
class Side:
    """A classifier that makes pictures of n classes, and the other, which judges them.

    Attributes:
      maker: for whose score the pictures are made.
      judge: who has to recognize them.
      labels: (n,), the classes as the maker numbers them.
      judge_labels: (n,), the same classes as the judge numbers them.
    """

    maker: Classifier
    judge: Classifier
    labels: np.ndarray
    judge_labels: np.ndarray

    @property
    def models(self) -> Models:
        return models(self.maker, self.judge)

    @property
    def class_names(self) -> list[str]:
        return [self.maker.class_names[label] for label in self.labels]


class Measurements(NamedTuple):
    """A picture and what is measured of it; of several pictures, stacked.

    Attributes:
      image: (h, w, c) in [0, 1].
      score: what was maximized, at the picture as it is.
      own: (k,), the probabilities that its maker gives to the classes.
      judged: (k,), those that the judge gives.
      total_variation: the mean over its values of |down - here| + |right - here|.
      spectrum_slope: of the power.
      failed_at: the step of the ascent that was not finite, 0 if all were.
    """

    image: Any
    score: Any
    own: Any
    judged: Any
    total_variation: Any
    spectrum_slope: Any
    failed_at: Any


class Variant(NamedTuple):
    """Pictures of n classes from m seeds, all by one recipe.

    Attributes:
      name: what is special about the recipe.
      pictures: the measurements, with leading axes (n, m).
      seconds: wall time a picture; nan if an interruption lost it.
    """

    name: str
    pictures: Measurements
    seconds: float


Results = Sequence[tuple[Side, Sequence[Variant]]]


def models(maker: Classifier, judge: Classifier) -> Models:
    """What the pictures of a classifier are made and judged with."""
    return Models(maker.network, judge.network, loading.mean_image(maker))


def sides(settings: ClassSettings) -> tuple[Side, Side]:
    """Both classifiers as makers, each with the other as judge, of the same classes."""
    first, second = loading.load(settings.model)
    check_channels(first, second)
    if settings.classes is None:
        numbers = list(range(first.num_classes))
    else:
        numbers = [first.label(name) for name in settings.classes]
    labels = second_labels = np.array(numbers, np.int32)
    if first.class_names != second.class_names:
        names = [first.class_names[number] for number in numbers]
        second_labels = np.array([second.label(name) for name in names], np.int32)
    return Side(first, second, labels, second_labels), Side(second, first, second_labels, labels)


def check_channels(maker: Classifier, judge: Classifier) -> None:
    """Says that one classifier cannot look at the other's pictures."""
    if maker.input.channels != judge.input.channels:
        raise ValueError(
            f"expected models of images with equally many channels, got {maker.name} with "
            f"{maker.input.channels} and {judge.name} with {judge.input.channels}"
        )


def measure(models: Models, score: Callable, made: ascent.Ascent, image: Any) -> Measurements:
    """What is to be known of a picture: of an ascent its result or a snapshot."""
    return Measurements(
        image,
        score(image),
        jax.nn.softmax(models.maker(image)),
        jax.nn.softmax(models.judge(image)),
        ascent.total_variation(1 / image.size)(image),
        metrics.spectrum_slope(image),
        made.state.failed_at,
    )


def make(
    run: Run,
    side: Side,
    name: str,
    recipe: Callable,
    settings: Settings,
    axes: Mapping[str, Any] | None = None,
) -> tuple[Any, float]:
    """A side's pictures at all points of a grid, kept where the run continues.

    Args:
      run: the experiment's.
      side: whose.
      name: what they are called, unlike the side's others.
      recipe: from `Models`, and from a value of each axis by keyword, to `Measurements`. It is
        compiled once: define it once.
      settings: the experiment's.
      axes: as `runs.sweep` takes them; `label` and `seed` if None.

    Returns:
      The measurements with a leading axis for each of the grid's, and the seconds a picture.
    """
    axes = grid(side, settings) if axes is None else axes
    return run.sweep(
        side.maker, name, recipe, axes, shared=side.models, batch_size=settings.batch_size
    )


def grid(side: Side, settings: Settings) -> dict[str, np.ndarray]:
    """The axes of n classes and m seeds."""
    return {"label": side.labels, "seed": np.arange(settings.seeds)}


def part(pictures: Measurements, index: Any) -> Measurements:
    """The measurements at an index of the leading axes."""
    return Measurements(*(leaf[index] for leaf in pictures))


def own_probability(side: Side, pictures: Measurements) -> np.ndarray:
    """(n, m), the probability of each picture's class, by its maker."""
    return np.take_along_axis(pictures.own, side.labels[:, None, None], axis=-1)[..., 0]


def judged_probability(side: Side, pictures: Measurements) -> np.ndarray:
    """(n, m), the probability of each picture's class, by the judge."""
    return np.take_along_axis(pictures.judged, side.judge_labels[:, None, None], axis=-1)[..., 0]


def class_values(side: Side, pictures: Measurements) -> dict[str, np.ndarray]:
    """All that is reported of pictures of classes: by name, (n, m) or (n,)."""
    recognized = pictures.judged.argmax(-1) == side.judge_labels[:, None]
    return {
        "own probability": own_probability(side, pictures),
        "recognized": recognized.astype(np.float32),
        **picture_values(pictures),
    }


def picture_values(pictures: Measurements) -> dict[str, np.ndarray]:
    """What is reported of pictures whatever they show: by name, (n, m) or (n,)."""
    values = {
        "total variation": pictures.total_variation,
        "spectrum slope": pictures.spectrum_slope,
    }
    if pictures.image.shape[1] > 1:
        values["seed distance"] = np.asarray(_distances(pictures.image))
    return values


_distances = jax.jit(jax.vmap(metrics.mean_pairwise_distance))


def tabulate(rows: Sequence[tuple[Sequence[str], Mapping[str, np.ndarray], float]]) -> Table:
    """A row for each variant, with means and their intervals, and one for photographs.

    Args:
      rows: of each, what it is, under the headings model and variant; the values, of one set of
        names in all; the seconds a picture.

    Returns:
      The table.
    """
    _, named, _ = rows[0]
    cells = [
        [*names, *(tables.cell(values[name]) for name in named), tables.seconds(seconds)]
        for names, values, seconds in rows
    ]
    reference = [tables.written(PHOTOGRAPHS[name]) if name in PHOTOGRAPHS else "" for name in named]
    header = ["pictures of", "variant", *named, "seconds a picture"]
    return Table(header, [*cells, ["photographs", "", *reference, ""]])


def draw(side: Side, variants: Sequence[Variant]) -> Figure:
    """A row for each variant, with pictures of a few classes from the first seed."""
    return plots.grid(
        [row(side, variant) for variant in variants],
        row_titles=[variant.name for variant in variants],
        column_titles=column_titles(side),
        caption=f"Above each picture: the probability that {side.maker.name}, for which it was "
        f"made, gives to its class. Below: what {side.judge.name} takes it for.",
        cell_width=CELL_WIDTH,
    )


def row(side: Side, variant: Variant) -> list[plots.Cell | None]:
    """A variant's pictures of the classes that figures show."""
    return [cell(side, variant.pictures, place) for place in shown_classes(side)]


def column_titles(side: Side) -> list[str]:
    """The names of the classes that figures show."""
    return [side.class_names[place] for place in shown_classes(side)]


def shown_classes(side: Side) -> list[int]:
    """The places of the classes that figures show."""
    names = side.class_names
    familiar = [names.index(name) for name in FAMILIAR_CLASSES if name in names]
    others = [place for place in range(len(names)) if place not in familiar]
    return sorted((familiar + others)[:COLUMNS])


def cell(side: Side, pictures: Measurements, place: int) -> plots.Cell | None:
    """The picture of a class from the first seed, under its maker's and over its judge's word."""
    shown = part(pictures, (place, 0))
    probability = plots.percent(shown.own[side.labels[place]])
    return plots.image(shown.image, probability, likeliest(side.judge, shown.judged))


def save(run: Run, results: Results, sections: Sequence[Section] = ()) -> list[Section]:
    """Writes the arrays and a figure for each maker, and returns the sections of the page.

    Args:
      run: the experiment's.
      results: of each maker, the variants.
      sections: more of them, after the table.

    Returns:
      The table, the further sections, and the pictures of each maker.
    """
    figures = []
    for side, variants in results:
        columns = zip(*(variant.pictures for variant in variants), strict=True)
        save_pictures(
            run,
            f"pictures-{side.maker.file_name}",
            Measurements(*map(np.stack, columns)),
            variants=np.array([variant.name for variant in variants]),
            labels=side.labels,
            judge_labels=side.judge_labels,
            seconds=np.array([variant.seconds for variant in variants]),
        )
        name = run.save_figure(f"pictures-{side.maker.file_name}", draw(side, variants))
        figures.append(Section(f"Pictures of {side.maker.name}", figures=[name]))
    text = " ".join([HOW_TO_READ, *stopped(results)])
    return [Section("Measured", text, table=compare(results)), *sections, *figures]


def compare(results: Results) -> Table:
    """A row for each variant of each maker, and one for photographs."""
    return tabulate(
        [
            ((side.maker.name, variant.name), class_values(side, variant.pictures), variant.seconds)
            for side, variants in results
            for variant in variants
        ]
    )


def stopped(results: Results) -> list[str]:
    """A sentence for each variant with ascents that met infinity or nan."""
    counts = [
        (np.count_nonzero(variant.pictures.failed_at), side.maker.name, variant.name)
        for side, variants in results
        for variant in variants
    ]
    return [
        f"{count} pictures of {maker}, {variant}, stopped before a step that was not finite."
        for count, maker, variant in counts
        if count
    ]


def save_pictures(run: Run, name: str, pictures: Measurements, **arrays: np.ndarray) -> None:
    """Writes measurements as an array each, the images as bytes from 0 to 255."""
    bytes_ = np.rint(np.clip(pictures.image, 0, 1) * 255).astype(np.uint8)
    run.save_arrays(name, **pictures._replace(image=bytes_)._asdict(), **arrays)
