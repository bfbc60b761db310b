"""What the experiments on class visualization share: recipes, sweeps, measurements, tables.

Each compares variants of a recipe on the same classes and seeds. Two classifiers of the same
classes make pictures in turn, and the other one judges them, which they were never optimized for.
"""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import classifiers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from classifiers import Classifier
from matplotlib.figure import Figure

from saliency_jax import ascent, metrics, models, plots, report, sweep

# Of the bundled models' classes those whose pictures are easily named.
FAMILIAR_CLASSES = (
    "lemon",
    "banana",
    "bell pepper",
    "school bus",
    "king penguin",
    "monarch",
    "ladybug",
    "goldfish",
    "espresso",
    "pizza",
)
# Each with a learning rate at which a robust model's pictures are good.
OPTIMIZERS: dict[str, tuple[Callable[[float], optax.GradientTransformation], float]] = {
    "normalized": (lambda rate: optax.chain(ascent.normalize_by_l2(), optax.sgd(rate)), 0.5),
    "sgd": (optax.sgd, 0.5),
    "momentum": (lambda rate: optax.sgd(rate, momentum=0.9), 0.05),
    "adam": (optax.adam, 0.01),
    "nadam": (optax.nadam, 0.01),
    "rmsprop": (optax.rmsprop, 0.01),
    "sign": (lambda rate: optax.chain(optax.scale_by_sign(), optax.sgd(rate)), 0.01),
    # Here the rate is that of the longest step, which the line search shortens.
    "lbfgs": (
        lambda rate: optax.lbfgs(
            rate, linesearch=optax.scale_by_backtracking_linesearch(8, decrease_factor=0.5)
        ),
        1.0,
    ),
}
INITIAL_NOISE = 0.05
# The standard deviation of photographs, as in `ascent.TINY_IMAGENET_COLORS`.
SMOOTH_NOISE = 0.28
INITIAL: dict[str, Callable] = {
    "zeros": lambda key, shape, mean: ascent.zeros(shape),
    "ones": lambda key, shape, mean: ascent.constant(shape, 1.0),
    "grey": lambda key, shape, mean: ascent.constant(shape, 0.5),
    "mean": lambda key, shape, mean: ascent.constant(shape, mean),
    "uniform": lambda key, shape, mean: ascent.uniform(key, shape),
    "normal": lambda key, shape, mean: ascent.normal(key, shape, 0.5, INITIAL_NOISE),
    "smooth": lambda key, shape, mean: jnp.clip(
        ascent.smooth(key, shape, mean, SMOOTH_NOISE), 0.0, 1.0
    ),
}
# The default recipe: normalized steps of this length from normal noise, each under a shift.
LEARNING_RATE = OPTIMIZERS["normalized"][1]
JITTER = 4

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
class Settings:
    model: tuple[str, str] = classifiers.BUNDLED_PAIR
    """Names of two bundled models, or folders of saved ones; each judges the other's pictures."""
    seeds: int = 5
    """How many pictures of each class, from seeds 0, 1, 2 ..."""
    steps: int = 64
    """As many as the default recipe needs under a robust model, see `number_of_steps.py`."""
    batch_size: int = 20
    """Pictures made at once; those finished are kept when the run is interrupted."""
    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""


@dataclasses.dataclass(frozen=True)
class ClassSettings(Settings):
    classes: tuple[str, ...] | None = None
    """Names of classes, or the first model's numbers of them; all if none."""


class Models(NamedTuple):
    """The network that pictures are made for, and the one that judges them."""

    maker: models.ResNet
    judge: models.ResNet


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
        return Models(self.maker.model, self.judge.model)

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


def check(settings: Settings) -> None:
    """Says at once what would only fail after the models are loaded."""
    for name in ("seeds", "steps", "batch_size"):
        value = getattr(settings, name)
        if value < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"expected --{flag} to be at least 1, got {value}")


def make_optimizer(name: str, learning_rate: Any) -> optax.GradientTransformation:
    """The optimizer of this name, kept in [0, 1]."""
    make, _ = OPTIMIZERS[name]
    return optax.chain(make(learning_rate), ascent.keep_in_range(0.0, 1.0))


def keys(seed: Any, label: Any) -> jax.Array:
    """The keys of the initial image and of the steps.

    They are of seed and class alone, so that a picture does not depend on which others are made.
    """
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), label))


def default_start(model: models.ResNet, label: Any, seed: Any) -> tuple[jax.Array, jax.Array]:
    """The initial image (h, w, c) of the default recipe, and the key of the steps."""
    image_key, step_key = keys(seed, label)
    return INITIAL["normal"](image_key, shape(model), mean_color(model)), step_key


def shape(model: models.ResNet) -> tuple[int, int, int]:
    """(h, w, c) of the images that a model was trained for."""
    height, width = model.input_size
    return height, width, model.channels


def mean_color(model: models.ResNet) -> np.ndarray:
    """(c,), the mean colour of the images that a model was trained on."""
    return np.asarray(model.mean, np.float32)


def sides(settings: ClassSettings) -> tuple[Side, Side]:
    """Both classifiers as makers, each with the other as judge, of the same classes."""
    first, second = classifiers.load(settings.model)
    check_channels(first, second)
    if settings.classes is None:
        numbers = list(range(len(first.class_names)))
    else:
        numbers = [first.label(name) for name in settings.classes]
    if not numbers:
        raise ValueError("expected at least one of --classes, got none")
    labels = second_labels = np.array(numbers, np.int32)
    if first.class_names != second.class_names:
        names = [first.class_names[number] for number in numbers]
        second_labels = np.array([second.label(name) for name in names], np.int32)
    return Side(first, second, labels, second_labels), Side(second, first, second_labels, labels)


def check_channels(maker: Classifier, judge: Classifier) -> None:
    """Says that one classifier cannot look at the other's pictures."""
    if maker.model.channels != judge.model.channels:
        raise ValueError(
            f"expected models of images with equally many channels, got {maker.name} with "
            f"{maker.model.channels} and {judge.name} with {judge.model.channels}"
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


class Work(NamedTuple):
    """How a script's sweeps are made.

    Attributes:
      folder: where they keep what is done.
      batch_size: pictures at once.
      bar: told of every picture.
    """

    folder: Path
    batch_size: int
    bar: tqdm.tqdm


@contextlib.contextmanager
def working(run: report.RunFolder, settings: Any, num_pictures: int) -> Iterator[Work]:
    """Shows the progress of a script's sweeps, and has them continue an interrupted run."""
    folder = run.unfinished(dataclasses.replace(settings, output=None))
    with tqdm.tqdm(total=num_pictures, unit="picture", file=sys.stdout) as bar:
        yield Work(folder, settings.batch_size, bar)


def timed_sweep(
    work: Work,
    maker: Classifier,
    name: str,
    function: Callable,
    axes: Mapping[str, Any],
    shared: Any,
) -> tuple[Any, float]:
    """`sweep`, and the seconds that a point took, compilation excepted.

    Args:
      work: how it is made.
      maker: whose pictures it makes.
      name: what it is called, unlike the maker's other sweeps.
      function: from `shared` and a value of each axis to a PyTree of arrays.
      axes: as `sweep` takes them.
      shared: likewise.

    Returns:
      What the sweep returns, and the seconds a point; nan if an interruption lost them.
    """
    work.bar.set_description(f"{maker.name}, {name}")
    folder = work.folder / maker.file_name / name.replace(" ", "-")
    stopwatch = _Stopwatch(work.bar)
    values = sweep(
        function,
        axes,
        shared=shared,
        batch_size=work.batch_size,
        folder=folder,
        progress=stopwatch,
    )
    path = folder / "seconds"
    if stopwatch.points:
        path.write_text(repr(stopwatch.seconds / stopwatch.points))
    return values, float(path.read_text()) if path.exists() else math.nan


class _Stopwatch:
    """Measures computed points, not those found, which come before the program is compiled."""

    def __init__(self, bar: tqdm.tqdm):
        self.points = 0
        self.seconds = 0.0
        self._bar = bar
        self._start: float | None = None

    def __call__(self, points: int) -> None:
        if points == 0:
            self._start = time.perf_counter()
        elif self._start is not None:
            self.points += points
            self.seconds = time.perf_counter() - self._start
        self._bar.update(points)


def part(pictures: Measurements, index: Any) -> Measurements:
    """The measurements at an index of the leading axes."""
    return Measurements(*(leaf[index] for leaf in pictures))


def of_class(side: Side, pictures: Measurements) -> np.ndarray:
    """(n, m), the probability of each picture's class, by its maker."""
    return np.take_along_axis(pictures.own, side.labels[:, None, None], axis=-1)[..., 0]


def judged_of_class(side: Side, pictures: Measurements) -> np.ndarray:
    """(n, m), the probability of each picture's class, by the judge."""
    return np.take_along_axis(pictures.judged, side.judge_labels[:, None, None], axis=-1)[..., 0]


def recognized(side: Side, pictures: Measurements) -> np.ndarray:
    """(n, m), whether the judge finds the class the likeliest one."""
    return pictures.judged.argmax(-1) == side.judge_labels[:, None]


def class_values(side: Side, pictures: Measurements) -> dict[str, np.ndarray]:
    """All that is reported of pictures of classes: by name, (n, m) or (n,)."""
    return {
        "own probability": of_class(side, pictures),
        "recognized": recognized(side, pictures).astype(np.float32),
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
_interval = jax.jit(metrics.bootstrap_interval)


def interval(values: np.ndarray) -> metrics.Interval:
    """The mean over (n, ...) values and its 95 % bootstrap interval over the n classes."""
    return metrics.Interval(*map(float, _interval(values, key=jax.random.key(0))))


def tabulate(rows: Sequence[tuple[Sequence[str], Mapping[str, np.ndarray], float]]) -> report.Table:
    """A row for each variant, with means and their intervals.

    Args:
      rows: of each, what it is, under the headings model and variant; the values, of one set of
        names in all; the seconds a picture.

    Returns:
      The table.
    """
    _, named, _ = rows[0]
    header = ["pictures of", "variant", *named, "seconds a picture"]
    cells = [
        [*names, *(cell(interval(values[name])) for name in named), _seconds(seconds)]
        for names, values, seconds in rows
    ]
    photographs = [PHOTOGRAPHS.get(name) for name in named]
    reference = ["" if value is None else cell(value) for value in photographs]
    return report.Table(header, [*cells, ["photographs", "", *reference, ""]])


def cell(interval: metrics.Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _seconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds:.2f}"


def draw(side: Side, variants: Sequence[Variant]) -> Figure:
    """A row for each variant, with pictures of a few classes from the first seed."""
    shown = shown_classes(side)
    rows: list[list[plots.Cell | None]] = [
        [picture_cell(side, variant.pictures, place) for place in shown] for variant in variants
    ]
    return plots.grid(
        rows,
        row_titles=[variant.name for variant in variants],
        column_titles=[side.class_names[place] for place in shown],
        caption=f"Above each picture: the probability that {side.maker.name}, for which it was "
        f"made, gives to its class. Below: what {side.judge.name} takes it for.",
        cell_width=CELL_WIDTH,
    )


def shown_classes(side: Side) -> list[int]:
    """The places of the classes that figures show."""
    names = side.class_names
    familiar = [names.index(name) for name in FAMILIAR_CLASSES if name in names]
    others = [place for place in range(len(names)) if place not in familiar]
    return sorted((familiar + others)[:COLUMNS])


def picture_cell(side: Side, pictures: Measurements, place: int) -> plots.Picture:
    """The picture of a class from the first seed, under its maker's and over its judge's word."""
    of_first_seed = part(pictures, (place, 0))
    likeliest = of_first_seed.judged.argmax()
    return plots.image(
        of_first_seed.image,
        plots.percent(of_first_seed.own[side.labels[place]]),
        f"{side.judge.class_names[likeliest]} {plots.percent(of_first_seed.judged[likeliest])}",
    )


def save(
    run: report.RunFolder,
    title: str,
    question: str,
    results: Sequence[tuple[Side, Sequence[Variant]]],
    sections: Sequence[report.Section] = (),
) -> report.Section:
    """Writes the arrays, a figure for each maker, the table and the page of an experiment.

    Args:
      run: the folder.
      title: the page's.
      question: what the experiment asks.
      results: of each maker, the variants.
      sections: more parts of the page, after the table.

    Returns:
      The part of the page with the table.
    """
    figures = []
    for side, variants in results:
        stacked = Measurements(
            *(np.stack(column) for column in zip(*(v.pictures for v in variants), strict=True))
        )
        save_pictures(
            run,
            f"pictures-{side.maker.file_name}",
            stacked,
            variants=np.array([variant.name for variant in variants]),
            labels=side.labels,
            judge_labels=side.judge_labels,
            seconds=np.array([variant.seconds for variant in variants]),
        )
        figure = draw(side, variants)
        figures.append(run.save_figure(f"pictures-{side.maker.file_name}", figure))
    text = " ".join([HOW_TO_READ, *_stopped(results)])
    measured = report.Section("Measured", text, table=compare(results))
    run.save_page(
        title,
        [
            measured,
            *sections,
            *(
                report.Section(f"Pictures of {side.maker.name}", figures=[figure])
                for (side, _), figure in zip(results, figures, strict=True)
            ),
        ],
        question,
    )
    return measured


def compare(results: Sequence[tuple[Side, Sequence[Variant]]]) -> report.Table:
    """A row for each variant of each maker, and one for photographs."""
    return tabulate(
        [
            ((side.maker.name, variant.name), class_values(side, variant.pictures), variant.seconds)
            for side, variants in results
            for variant in variants
        ]
    )


def _stopped(results: Sequence[tuple[Side, Sequence[Variant]]]) -> list[str]:
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


def save_pictures(
    run: report.RunFolder, name: str, pictures: Measurements, **arrays: np.ndarray
) -> None:
    """Writes measurements as an array each, the images as bytes from 0 to 255."""
    bytes_ = np.rint(np.clip(pictures.image, 0, 1) * 255).astype(np.uint8)
    run.save_arrays(name, **pictures._replace(image=bytes_)._asdict(), **arrays)


def finish(run: report.RunFolder, measured: report.Section) -> None:
    """Prints what a finished run found, and where it is."""
    print(f"\n{measured.table}\n\n{measured.text}")
    print(f"\npictures, arrays and index.html are in {run.path.resolve()}")
