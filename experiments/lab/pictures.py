"""Class visualizations by variants of a recipe: made, measured, judged, shown.

One or two classifiers make pictures of classes, and others judge them, for which they were never
optimized: of two makers the other one, and a network of ImageNet's classes that had no part in any.
Each experiment compares variants of a recipe on the same classes and seeds.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from saliency_jax import ascent, metrics
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

from . import imagenet, loading, recipes, tables
from .frame import SOME, Count, Output, Run
from .photographs import likeliest

RecipeName = Literal["pixels", "fourier"]
# By the side of the pictures, as `photograph_statistics.py` prints them: of 64 pixels those of the
# validation images of tiny_imagenet/paper20, else of 203 photographs, each of another class.
PHOTOGRAPHS: dict[int, dict[str, metrics.Interval | str]] = {
    64: {
        "total variation": metrics.Interval(0.139, 0.125, 0.152),
        "spectrum slope": metrics.Interval(-2.272, -2.359, -2.184),
        "first, efficientnet-lite2": metrics.Interval(0.386, 0.291, 0.484),
        "among 5, efficientnet-lite2": metrics.Interval(0.662, 0.593, 0.728),
        "rank, efficientnet-lite2": "2 [2, 3]",
    },
    112: {
        "total variation": metrics.Interval(0.078, 0.073, 0.082),
        "spectrum slope": metrics.Interval(-2.768, -2.807, -2.729),
        "first, efficientnet-lite2": metrics.Interval(0.685, 0.621, 0.744),
        "among 5, efficientnet-lite2": metrics.Interval(0.892, 0.847, 0.931),
        "rank, efficientnet-lite2": "1 [1, 1]",
    },
    224: {
        "total variation": metrics.Interval(0.066, 0.062, 0.070),
        "spectrum slope": metrics.Interval(-2.796, -2.840, -2.751),
        "first, efficientnet-lite2": metrics.Interval(0.833, 0.778, 0.882),
        "among 5, efficientnet-lite2": metrics.Interval(0.956, 0.926, 0.980),
        "rank, efficientnet-lite2": "1 [1, 1]",
    },
}
HOW_TO_READ = (
    "Each number is a mean over classes and seeds, with its 95 % bootstrap interval, the classes "
    "being resampled; of ranks the median. Own probability: what the model that the pictures were "
    "made for gives to their class. Recognized: the share whose class is the likeliest one for the "
    "other model, for which they were never optimized. First, among 5, rank: the place of the "
    "class in the order of a network of more classes that had no part in the pictures, which sees "
    "them enlarged. Total variation: the mean absolute difference of neighbouring pixels, down and "
    "right together. Spectrum slope: of the power over the frequency, both in logarithms; 0 for "
    "white noise. Seed distance: the root-mean-square difference of two pictures of one class from "
    "different seeds. Photographs: images of data sets, of the pictures' size, as "
    "photograph_statistics.py measures them."
)
# The names of the initial images of the recipes; that on Fourier coefficients has noise of its own.
INITIAL: dict[RecipeName, str] = {"pixels": "normal", "fourier": "Fourier noise"}
# A canvas through a sigmoid cannot hold black and white.
DARKEST, BRIGHTEST = 0.02, 0.98
COLUMNS = 6
# Of those that a judge does not know, in one line.
SHOWN_NAMES = 5
CELL_WIDTH = 128


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    model: tuple[str, ...] = loading.BUNDLED_PAIR
    """Names of one or two models that come with the package, or folders of saved ones; of two, each
    judges the other's pictures."""
    judge: str | None = imagenet.JUDGE
    """A network of more classes that had no part in the pictures, by name or folder, which ranks
    the right one; None for none."""
    side: Count | None = None
    """Height and width of the pictures; if none those of the model's images, halved from 128 pixels
    on, where a step then costs a quarter."""
    recipe: RecipeName | None = None
    """What is varied: pixels, normalized steps on the pixels; fourier, Adam on Fourier
    coefficients, as class_visualization.py has it; fourier for models of images from 128 pixels on
    if none."""
    seeds: Count = 5
    """How many pictures of each class, from seeds 0, 1, 2 ..."""
    steps: Count = 64
    """As many as the default recipe needs under a robust model, see `number_of_steps.py`."""
    batch_size: Count = 20
    """Pictures made at once; those finished are kept when the run is interrupted."""


@dataclasses.dataclass(frozen=True)
class ClassSettings(Settings):
    classes: Annotated[tuple[str, ...] | None, SOME] = None
    """Names of classes, or the first model's numbers of them; all if none, of a model of ImageNet's
    classes the ten of class_visualization.py."""


class Models(NamedTuple):
    """What the pictures of one classifier are made with.

    Attributes:
      maker: the network that pictures are made for.
      mean: (h, w, c), an image of the mean colour of the maker's training images.
    """

    maker: Any
    mean: Any


class Judge(NamedTuple):
    """A classifier that had no part in pictures of n classes, which it knows.

    Attributes:
      classifier: who has to recognize them.
      labels: (n,), the classes as it numbers them.
    """

    classifier: Classifier
    labels: np.ndarray

    @property
    def name(self) -> str:
        return self.classifier.name


@dataclasses.dataclass(frozen=True)
class Side:
    """A classifier that makes pictures of n classes, and those who judge them.

    Attributes:
      maker: for whose score the pictures are made.
      labels: (n,), the classes as the maker numbers them.
      other: the other maker, if there are two.
      apart: a network that makes no pictures, if it knows the classes.
      unjudged: why it does not judge them, if it does not know them.
      models: what the pictures are made with.
      recipe: whose variants are compared.
    """

    maker: Classifier
    labels: np.ndarray
    other: Judge | None
    apart: Judge | None
    unjudged: str
    models: Models
    recipe: RecipeName

    @property
    def judge(self) -> Judge | None:
        """Who says whether a picture shows its class: the other maker, or the network apart."""
        return self.other or self.apart

    @property
    def class_names(self) -> list[str]:
        return [self.maker.class_names[label] for label in self.labels]


class Measurements(NamedTuple):
    """A picture and what is measured of it; of several pictures, stacked.

    Attributes:
      image: (h, w, c) in [0, 1].
      score: what was maximized, at the picture as it is.
      own: (k,), the probabilities that its maker gives to the classes.
      total_variation: the mean over its values of |down - here| + |right - here|.
      spectrum_slope: of the power.
      failed_at: the step of the ascent that was not finite, 0 if all were.
      judged: (j,), the probabilities that the judge gives; none until it has seen the picture.
      ranks: the place of the class for the network apart, 1 for the likeliest; none until then.
    """

    image: Any
    score: Any
    own: Any
    total_variation: Any
    spectrum_slope: Any
    failed_at: Any
    judged: Any = None
    ranks: Any = None


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


def load(settings: Settings) -> tuple[list[Classifier], Classifier | None]:
    """The makers, one or two, and the network apart.

    Raises:
      ValueError: there are more, they cannot look at each other's pictures, or the network apart
        makes some.
    """
    makers = loading.load(settings.model)
    if len(makers) > 2:
        raise ValueError(f"expected one or two of --model, got {len(makers)}")
    check_channels(makers[0], makers[-1])
    if settings.judge is None:
        return makers, None
    check_apart(settings.judge, settings.model)
    (apart,) = loading.load([settings.judge])
    return makers, apart


def models(maker: Classifier, settings: Settings) -> Models:
    """What the pictures of a classifier are made with."""
    height, width = maker.input.size
    if settings.side is not None:
        height = width = settings.side
    elif min(height, width) >= imagenet.LEAST_SIDE:
        height, width = height // 2, width // 2
    return Models(maker.network, loading.mean_image(maker, (height, width)))


def recipe(asked: RecipeName | None, maker: Classifier) -> RecipeName:
    """The recipe that was asked for, or that suits the size of the model's images."""
    return asked or ("fourier" if min(maker.input.size) >= imagenet.LEAST_SIDE else "pixels")


def sides(settings: ClassSettings) -> list[Side]:
    """The makers of pictures of the same classes, each with its judges."""
    makers, apart = load(settings)
    first = makers[0]
    names = settings.classes
    if names is None:
        ten = set(imagenet.CLASSES).issubset(first.class_names)
        names = imagenet.CLASSES if ten else tuple(map(str, range(first.num_classes)))
    numbers = np.array([first.label(name) for name in names], np.int32)
    known = [Judge(first, numbers)]
    for second in makers[1:]:
        if second.class_names != first.class_names:
            found = [second.label(first.class_names[number]) for number in numbers]
            numbers = np.array(found, np.int32)
        known.append(Judge(second, numbers))
    both = []
    for maker, labels in known:
        others = [judge for judge in known if judge.classifier is not maker]
        asked = apart and knowing(apart, maker.name, maker.class_names, labels)
        both.append(
            Side(
                maker,
                labels,
                others[0] if others else None,
                *(asked or (None, "")),
                models(maker, settings),
                recipe(settings.recipe, maker),
            )
        )
    return both


def knowing(
    judge: Classifier, whose: str, class_names: Sequence[str], labels: np.ndarray
) -> tuple[Judge | None, str]:
    """A judge of pictures of these classes, or why it is none: that it does not know them all."""
    names = [class_names[label] for label in labels]
    found = imagenet.labels(names, judge)
    missing = [name for name, label in zip(names, found, strict=True) if label is None]
    unknown = ", ".join(missing[:SHOWN_NAMES]) + (" ..." if missing[SHOWN_NAMES:] else ".")
    # Numbers that stand for names are no names: another's class of this number is another class.
    nameless = tuple(class_names) == tuple(map(str, range(len(class_names))))
    if nameless and tuple(class_names) != judge.class_names:
        missing, unknown = names, "classes without names."
    if missing:
        told = f"{judge.name} does not judge the pictures of {whose}, as it does not know"
        return None, f"{told}: {unknown}"
    return Judge(judge, np.array(found, np.int32)), ""


def check_channels(maker: Classifier, judge: Classifier) -> None:
    """Says that one classifier cannot look at the other's pictures."""
    if maker.input.channels != judge.input.channels:
        raise ValueError(
            f"expected models of images with equally many channels, got {maker.name} with "
            f"{maker.input.channels} and {judge.name} with {judge.input.channels}"
        )


def check_apart(judge: str, makers: Collection[str]) -> None:
    """Says that pictures are made for the network that is to judge them."""
    if judge in makers:
        raise ValueError(
            f"expected a --judge that had no part in the pictures, got {judge}, for which they are "
            "made"
        )


def start(mean: Any, name: str, label: Any, seed: Any) -> tuple[Any, jax.Array]:
    """The initial image of a name of `recipes.INITIAL` or `INITIAL`, and the key of the steps."""
    if name != INITIAL["fourier"]:
        return recipes.start(mean, name, label, seed)
    image_key, step_key = recipes.keys(seed, label)
    best = imagenet.RECIPES[imagenet.BEST]
    params = best.start(image_key, mean.shape)
    return best.make_canvas(mean.shape).decode(params), step_key


def ascend(
    score: Any, image: Any, key: jax.Array, steps: int, recipe: RecipeName, **changes: Any
) -> ascent.Ascent:
    """Gradient ascent from an image, by the recipe of a name where nothing else is said."""
    if recipe == "pixels":
        return recipes.ascend(score, image, key, steps, **changes)
    best = imagenet.RECIPES[imagenet.BEST]
    canvas = best.make_canvas(image.shape)
    options = {name: getattr(best, name) for name in ("optimizer", "augment", "prior")}
    options["decode"] = canvas.decode
    params = canvas.encode(jnp.clip(image, DARKEST, BRIGHTEST))
    return recipes.ascend(score, params, key, steps, **options | changes)


def measure(models: Models, score: Callable, made: ascent.Ascent, image: Any) -> Measurements:
    """What is to be known of a picture: of an ascent its result or a snapshot."""
    return Measurements(
        image,
        score(image),
        jax.nn.softmax(models.maker(image)),
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
    ranked: bool = True,
) -> tuple[Measurements, float]:
    """A side's pictures at all points of a grid, kept where the run continues, and judged.

    Args:
      run: the experiment's.
      side: whose.
      name: what they are called, unlike the side's others.
      recipe: from `Models`, and from a value of each axis by keyword, to `Measurements`. It is
        compiled once: define it once.
      settings: the experiment's.
      axes: as `runs.sweep` takes them, `label` or `start` for the classes; `label` and `seed` if
        None.
      ranked: whether the network apart is asked as well.

    Returns:
      The measurements with a leading axis for each of the grid's, and the seconds a picture.
    """
    axes = grid(side, settings) if axes is None else axes
    made, seconds = run.sweep(
        side.maker, name, recipe, axes, shared=side.models, batch_size=settings.batch_size
    )
    judge, apart = side.judge, side.apart if ranked else None
    if judge is not None:
        made = made._replace(judged=answers(run, judge.classifier, made.image))
    if apart is not None:
        said = made.judged if apart is judge else answers(run, apart.classifier, made.image)
        classes = list(axes).index("start" if "start" in axes else "label")
        labels = apart.labels.reshape(-1, *(1,) * (made.failed_at.ndim - classes - 1))
        labels = np.broadcast_to(labels, made.failed_at.shape)
        ranks = imagenet.ranks(said.reshape(labels.size, -1), labels.ravel())
        made = made._replace(ranks=ranks.reshape(labels.shape))
    return made, seconds


@functools.cache
def fixed(recipe: Callable, /, **settings: Any) -> functools.partial:
    """A recipe with some settings: one object for equal ones, as programs are compiled by it."""
    return functools.partial(recipe, **settings)


def answers(run: Run, judge: Classifier, images: np.ndarray) -> np.ndarray:
    """(..., k), the probabilities that a judge gives to pictures (..., h, w, c)."""
    run.advance(0, f"{judge.name} judges")
    *grid, height, width, channels = images.shape
    # One by one: a thousand at once would fill the memory, and chunks of many sizes compile anew.
    said = [
        imagenet.answers(judge, image[None])
        for image in images.reshape(-1, height, width, channels)
    ]
    return np.concatenate(said).reshape(*grid, -1)


def grid(side: Side, settings: Settings) -> dict[str, np.ndarray]:
    """The axes of n classes and m seeds."""
    return {"label": side.labels, "seed": np.arange(settings.seeds)}


def part(pictures: Measurements, index: Any) -> Measurements:
    """The measurements at an index of the leading axes."""
    return jax.tree.map(lambda leaf: leaf[index], pictures)


def own_probability(side: Side, pictures: Measurements) -> np.ndarray:
    """(n, m), the probability of each picture's class, by its maker."""
    return np.take_along_axis(pictures.own, side.labels[:, None, None], axis=-1)[..., 0]


def judged_probability(judge: Judge, pictures: Measurements) -> np.ndarray:
    """(n, m), the probability of each picture's class, by the judge."""
    return np.take_along_axis(pictures.judged, judge.labels[:, None, None], axis=-1)[..., 0]


def class_values(side: Side, pictures: Measurements) -> dict[str, np.ndarray]:
    """All that is reported of pictures of classes but their ranks: by name, (n, m) or (n,)."""
    values = {"own probability": own_probability(side, pictures)}
    if side.other is not None:
        recognized = pictures.judged.argmax(-1) == side.other.labels[:, None]
        values["recognized"] = recognized.astype(np.float32)
    if side.apart is not None:
        values |= shares(side.apart, pictures.ranks)
    return values | picture_values(pictures)


def shares(apart: Judge, ranks: np.ndarray) -> dict[str, np.ndarray]:
    """By the names of columns, whether a network ranks the class first, and among the first."""
    return {
        f"first, {apart.name}": (ranks == 1).astype(np.float32),
        f"among {imagenet.TOP}, {apart.name}": (ranks <= imagenet.TOP).astype(np.float32),
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


def tabulate(
    rows: Sequence[tuple[Sequence[str], Mapping[str, np.ndarray | str], float]],
    sizes: Sequence[int] = (),
) -> Table:
    """A row for each variant, with means and their intervals, and one for photographs of each size.

    Args:
      rows: of each, what it is, under the headings model and variant; the values, of one set of
        names in all, or what is written of them; the seconds a picture.
      sizes: of the pictures' sides.

    Returns:
      The table.
    """
    _, named, _ = rows[0]
    cells = [
        [*names, *(written(values[name]) for name in named), tables.seconds(seconds)]
        for names, values, seconds in rows
    ]
    for size in dict.fromkeys(sizes):
        known = PHOTOGRAPHS.get(size, {})
        reference = [written(known[name]) if name in known else "" for name in named]
        cells.append(["photographs", f"{size}x{size}", *reference, ""])
    header = ["pictures of", "variant", *named, "seconds a picture"]
    return Table(header, cells)


def written(values: np.ndarray | metrics.Interval | str) -> str:
    """What a cell of a table says of values, of their mean and its interval, or as it is."""
    if isinstance(values, str):
        return values
    return tables.written(values) if isinstance(values, metrics.Interval) else tables.cell(values)


def said_of_photographs(size: int, judge: str) -> str:
    """What a judge says of photographs of this height and width, if that was measured."""
    known = PHOTOGRAPHS.get(size, {})
    names = [f"{share}, {judge}" for share in ("first", f"among {imagenet.TOP}")]
    if not all(name in known for name in names):
        return ""
    first, among = (written(known[name]) for name in names)
    return (
        f"Of photographs of {size}x{size} pixels {judge} ranks the right class first for {first} "
        f"and among its first {imagenet.TOP} for {among}."
    )


def draw(side: Side, variants: Sequence[Variant]) -> Figure:
    """A row for each variant, with pictures of a few classes from the first seed."""
    below = side.judge and f" Below: what {side.judge.name} takes it for."
    return plots.grid(
        [row(side, variant) for variant in variants],
        row_titles=[variant.name for variant in variants],
        column_titles=column_titles(side),
        caption=f"Above each picture: the probability that {side.maker.name}, for which it was "
        f"made, gives to its class.{below or ''}",
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
    familiar = [names.index(name) for name in recipes.FAMILIAR_CLASSES if name in names]
    others = [place for place in range(len(names)) if place not in familiar]
    return sorted((familiar + others)[:COLUMNS])


def cell(side: Side, pictures: Measurements, place: int) -> plots.Cell | None:
    """The picture of a class from the first seed, under its maker's and over its judge's word."""
    shown = part(pictures, (place, 0))
    probability = plots.percent(shown.own[side.labels[place]])
    taken_for = likeliest(side.judge.classifier, shown.judged) if side.judge else ""
    return plots.image(shown.image, probability, taken_for)


def explore(results: Results, slider: str = "recipe", start: str | None = None) -> plots.View:
    """The pictures of `draw` under one slider along the variants, a row for each maker."""
    names = dict.fromkeys(variant.name for _, variants in results for variant in variants)
    by_name = [(side, {variant.name: variant for variant in each}) for side, each in results]
    frames = {
        name: [row(side, known[name]) if name in known else [] for side, known in by_name]
        for name in names
    }
    judged = " Below: what its judge takes it for." if results[0][0].judge else ""
    return plots.explore(
        frames,
        slider,
        row_titles=[side.maker.name for side, _ in results],
        column_titles=column_titles(results[0][0]),
        caption="Above each picture: the probability that the model for which it was made gives "
        f"to its class.{judged}",
        start=start,
    )


def save(
    run: Run,
    results: Results,
    sections: Sequence[Section] = (),
    slider: str = "recipe",
    start: str | None = None,
) -> list[Section]:
    """Writes the arrays and a figure for each maker, and returns the sections of the page.

    Args:
      run: the experiment's.
      results: of each maker, the variants.
      sections: more of them, after the table.
      slider: what the variants differ in.
      start: the name of that which is shown at first; the first one if None.

    Returns:
      The pictures under a slider, the table, and the further sections.
    """
    for side, variants in results:
        judge_labels = {"judge_labels": side.judge.labels} if side.judge else {}
        save_pictures(
            run,
            f"pictures-{side.maker.file_name}",
            jax.tree.map(lambda *leaves: np.stack(leaves), *(one.pictures for one in variants)),
            variants=np.array([variant.name for variant in variants]),
            labels=side.labels,
            **judge_labels,
            seconds=np.array([variant.seconds for variant in variants]),
        )
        run.save_figure(f"pictures-{side.maker.file_name}", draw(side, variants))
    text = " ".join([HOW_TO_READ, *unjudged(results), *stopped(results)])
    shown = Section("Pictures", views=[explore(results, slider, start)])
    return [shown, Section("Measured", text, table=compare(results)), *sections]


def compare(results: Results) -> Table:
    """A row for each variant of each maker, and one for photographs of each size."""
    rows = []
    for side, variants in results:
        for variant in variants:
            values: dict[str, Any] = class_values(side, variant.pictures)
            if side.apart is not None:
                values[f"rank, {side.apart.name}"] = tables.median(variant.pictures.ranks)
            rows.append(((side.maker.name, variant.name), values, variant.seconds))
    return tabulate(rows, [len(side.models.mean) for side, _ in results])


def unjudged(results: Results) -> list[str]:
    """A sentence for each maker whose classes the network apart does not know."""
    return [side.unjudged for side, _ in results if side.unjudged]


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
    known = {key: value for key, value in pictures._asdict().items() if value is not None}
    run.save_arrays(name, **known | {"image": bytes_}, **arrays)
