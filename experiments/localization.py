"""Where is the object? Boxes from saliency and a graph cut, by models that never saw a box.

  python experiments/localization.py
  python experiments/localization.py --count 200 --tuning-split "train[:100]"
  python experiments/localization.py --images photographs/ cat.jpg --label tabby

The weakly supervised localization of Simonyan et al. 2013 (arXiv:1312.6034, section 3.2): saliency
averaged over ten crops, colour models from its quantiles, a graph cut, the largest component, its
box. Beside it stand the same cut of other maps, a threshold on each, the whole image, and the best
box in the middle. Two of the maps are products, of a gradient, which is sharp, and of LayerCAM at
the last stage but one, which is blurred but on the object. Whatever can be set, of a cut, of a
threshold or of the box in the middle, is chosen by the boxes of training images alone.

A box is wrong whose intersection over union with every true one is below 0.5. The map is always
that of the true class; top-1 and top-5 count as wrong also the images for which that class is not
the likeliest, or not among the five likeliest.

Measured on the 1,000 validation images, in 12 minutes on two processor cores. A box around the
whole image is wrong of 46.8 % of them, the best box in the middle of 41.7 %. The best method of the
table, the cut of the product of ten-crop saliency and LayerCAM under the robust model, is wrong of
36.4 % [33.4, 39.4], 5.3 points [2.8, 7.8] better than the box in the middle; next are the same with
single saliency (37.3 %), the product of ten crops with a threshold (37.6 %) and LayerCAM at the
last stage but one with a threshold, under either model (37.8 %). It is the best of 56 rows, so that
a little of it is luck. The paper's own method does not get there. Under the robust model saliency's
cut is wrong of 41.2 % by the paper's quantiles and 40.3 % by chosen ones, averaged over ten crops
of 44.1 and 41.7 %: as good as the box in the middle, not better by more than chance. The standard
model is 3 points worse in each (44.8, 43.8, 47.3, 44.5 %), the intervals of the differences
excluding 0.

Which step loses it: both the cut and the map. From a map that is highest in the middle of the true
box and falls to 0 at its edge, the paper's quantiles give 42.3 % wrong boxes, as many as the box in
the middle; the best ones 23.3 %, where a threshold makes no mistake. So 23 of the 42 points are
lost by the cut even so: a few per cent of the pixels show few of an object's colours, and
at 64x64 much of the background shares them. The other 18 are the map's: saliency marks edges, of
the background too, and the average over shifted and enlarged crops blurs what the cut needs.
LayerCAM, which says where, is too coarse to be cut (41.7 %), and takes 5 of those points off when
saliency is multiplied by it.

With `--images` nothing is measured: files, and folders of them, are cut out for their likeliest
class, or for `--label`, by the paper's settings.

The run's folder then holds `localization-MODEL.png`, with boxes that are right and boxes that are
wrong, `localization-MODEL.npz` (labels, logits, true boxes, and of every row of the table the boxes
and their intersections over union), `config.json` and `index.html`. Interrupted, the same command
continues.
"""

import concurrent.futures
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import boxed_images
import classifiers
import command_line
import comparison
import jax
import jax.numpy as jnp
import labelled_images
import methods
import numpy as np
import saliency
from boxed_images import Examples
from classifiers import Classifier
from comparison import Work
from matplotlib.figure import Figure

from saliency_jax import attribution, data, filters, metrics, plots, report, scores
from saliency_jax.localization import Localization, bounding_box, largest_component, localize

RIGHT_IOU = 0.5
TOP = 5
PAPERS_MAP = "ten_crop"
# Of `methods.METHODS` those that take at most the ten gradients of the paper's.
CHEAP = ("saliency", PAPERS_MAP, "input_x_gradient", "grad_cam", "grad_cam_plus_plus", "layer_cam")
INNER = "inner LayerCAM"
PRODUCTS = {
    f"saliency x {INNER}": ("saliency", INNER),
    f"ten crop x {INNER}": (PAPERS_MAP, INNER),
}
# A map that no model makes: how wrong is the cut if nothing else is?
ORACLE = "true box"
TRUE_COLOR = (0.1, 0.9, 0.2)
FADED = 0.75
CELL_WIDTH = 192

HOW_TO_READ = (
    "Means over the images with their 95 % bootstrap intervals, the images being resampled. Error: "
    "the share of the images whose box is wrong, the class being known. Minus centred: the error "
    "less that of the best box in the middle, paired by image; where the interval is below 0 the "
    "row is better. True box: a map that is highest in the middle of the true boxes and falls to 0 "
    "at their edges, so that what is wrong is wrong by the cut."
)
REFERENCE = (
    "The paper reports 46.4 % top-5 error on the test set of ILSVRC-2013. The numbers are not "
    "comparable as they stand: there the class is one of a thousand, so that many errors are of "
    "the class, the photographs are of about 500x400 pixels, and the objects cover less of them, "
    "so that a box around the whole image is right less often."
)


@dataclasses.dataclass(frozen=True)
class Settings(labelled_images.Settings):
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set with classes and boxes, of images or of the objects in them."""
    tuning_split: str = "train[:400]"
    """By whose boxes the settings are chosen."""
    images: tuple[Path, ...] = ()
    """Image files, or folders of them, to be cut out instead."""
    label: str | None = None
    """With --images: name or number of the class; each image's likeliest one if none."""
    foreground: float = 0.95
    """Quantile above which pixels are foreground: the paper's, where it is not chosen."""
    background: float = 0.30
    """Quantile up to which pixels give the background's colours."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """The paper's way from a map to a box, after smoothing the map."""

    sigma: float
    foreground: float
    background: float
    iterations: int = 1

    def __call__(self, saliency_map: np.ndarray, image: np.ndarray) -> Localization:
        return localize(
            saliency_map, image, self.foreground, self.background, iterations=self.iterations
        )

    def __str__(self) -> str:
        quantiles = f"quantiles {self.foreground:g} and {self.background:g}"
        return f"sigma {self.sigma:g}, {quantiles}, cuts {self.iterations}"


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The largest component of what is at least a fraction of the smoothed map's maximum."""

    sigma: float
    fraction: float

    def __call__(self, saliency_map: np.ndarray, image: np.ndarray) -> Localization:
        mask = largest_component(saliency_map >= self.fraction * saliency_map.max())
        return Localization(mask, bounding_box(mask))

    def __str__(self) -> str:
        return f"sigma {self.sigma:g}, {self.fraction:g} of the maximum"


Rule = Cut | Threshold

# What is chosen from. Maps as smooth as suit a threshold leave the cut too few edges to follow.
CUTS = [
    Cut(sigma, foreground, background=0.3, iterations=iterations)
    for sigma, foreground, iterations in itertools.product(
        (0.0, 0.5), (0.9, 0.925, 0.95, 0.975), (1, 2)
    )
]
THRESHOLDS = [
    Threshold(sigma, fraction)
    for sigma, fraction in itertools.product(
        (0.0, 1.0, 2.0, 4.0, 8.0), (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
    )
]


class Row(NamedTuple):
    """One line of the table.

    Attributes:
      saliency_map: what the boxes were found from.
      box_by: how.
      settings: of what is how.
      boxes: (n, 4).
    """

    saliency_map: str
    box_by: str
    settings: str
    boxes: np.ndarray


class Measured(NamedTuple):
    """What one model says about n examples, and all boxes found with it.

    Attributes:
      examples: the examples.
      logits: (n, k).
      rows: the lines of the table; the whole image and the box in the middle come first.
      maps: (n, h, w), the paper's.
      cut: the rule that was chosen for them.
    """

    examples: Examples
    logits: np.ndarray
    rows: Sequence[Row]
    maps: np.ndarray
    cut: Cut

    @property
    def overlaps(self) -> np.ndarray:
        """(rows, n), the intersections over union."""
        return overlaps(np.stack([row.boxes for row in self.rows]), self.examples.boxes)

    @property
    def rank(self) -> np.ndarray:
        """(n,), how many classes are likelier than the true one."""
        of_class = np.take_along_axis(self.logits, self.examples.labels[:, None], 1)
        return (self.logits > of_class).sum(1)


def main(settings: Settings) -> None:
    check(settings)
    with report.RunFolder(settings.output, "localization") as run:
        run.save_config(settings)
        both = classifiers.load(settings.model)
        if settings.images:
            sections, text = cut_out(run, settings, both), __doc__.partition("\n")[0]
        else:
            sections, text = measure(run, settings, both), f"{HOW_TO_READ} {REFERENCE}"
        run.save_page("Localization", sections, text)
    tables = (f"{section.title}\n{section.table}" for section in sections)
    labelled_images.finish(run, "\n\n".join(tables), text)


def check(settings: Settings) -> None:
    """Says at once what would only fail after the models are loaded."""
    labelled_images.check(settings)
    if not 0 <= settings.background <= settings.foreground <= 1:
        raise ValueError(
            "expected 0 <= --background <= --foreground <= 1, got "
            f"{settings.background} and {settings.foreground}"
        )
    if settings.label is not None and not settings.images:
        raise ValueError("expected --label with --images, got it with a dataset, which has labels")


def measure(
    run: report.RunFolder, settings: Settings, both: Sequence[Classifier]
) -> list[report.Section]:
    """Chooses, localizes and measures with both models; writes it, and returns what shows it."""
    examples = [read(settings, classifier) for classifier in both]
    num_images = sum(len(one.labels) for pair in examples for one in pair)
    num_maps = len(CHEAP) + 1 + len(PRODUCTS) + 1
    num_tuning = sum(len(tuning.labels) for tuning, _ in examples)
    num_boxes = num_maps * (
        (len(CUTS) + len(THRESHOLDS)) * num_tuning + 3 * (num_images - num_tuning)
    )
    with comparison.working(run, settings, num_images + num_boxes) as work:
        measured = [
            of_model(settings, classifier, *pair, work)
            for classifier, pair in zip(both, examples, strict=True)
        ]
    sections = []
    for classifier, one in zip(both, measured, strict=True):
        name = f"localization-{classifier.file_name}"
        run.save_arrays(
            name,
            labels=one.examples.labels,
            logits=one.logits,
            true_boxes=one.examples.boxes,
            rows=np.array([" | ".join(row[:3]) for row in one.rows]),
            boxes=np.stack([row.boxes for row in one.rows]),
            overlaps=one.overlaps,
        )
        figure = draw(classifier, one, settings.shown)
        sections.append(
            report.Section(
                f"{classifier.name}, {len(one.examples.labels)} images",
                figures=[run.save_figure(name, figure)],
                table=tabulate(one),
            )
        )
    return [*sections, compare(both, measured)]


def read(settings: Settings, classifier: Classifier) -> tuple[Examples, Examples]:
    """The examples for tuning, and those that are measured, as a classifier sees them."""
    return (
        boxed_images.read(
            settings.dataset, settings.tuning_split, classifier, data_dir=settings.data_dir
        ),
        boxed_images.read(
            settings.dataset,
            settings.split,
            classifier,
            count=settings.count,
            data_dir=settings.data_dir,
        ),
    )


def of_model(
    settings: Settings, classifier: Classifier, tuning: Examples, examples: Examples, work: Work
) -> Measured:
    """The boxes of one model, by rules that are chosen on the examples for tuning."""
    _, tuning_maps = explain(classifier, tuning, "maps for tuning", work)
    logits, maps = explain(classifier, examples, "maps", work)
    tuning_maps[ORACLE], maps[ORACLE] = pyramids(tuning), pyramids(examples)
    count, sides = len(examples.labels), examples.images.shape[1:3]
    rows = [
        Row("", name, ", ".join(map(str, box)), np.tile(box, (count, 1)))
        for name, box in (
            ("whole image", (0, 0, *sides)),
            ("centred box", centred_box(tuning.boxes, sides)),
        )
    ]
    papers = Cut(0.0, settings.foreground, settings.background)
    chosen: dict[str, tuple[Cut, Threshold]] = {}
    for name, of_tuning in tuning_maps.items():
        folder = work.folder / classifier.file_name / name.replace(" ", "-")
        work.bar.set_description(f"{classifier.name}, boxes from {methods.title(name)}")
        cuts = find_boxes(CUTS, of_tuning, tuning.images, folder, work.bar.update)
        thresholds = find_boxes(THRESHOLDS, of_tuning, tuning.images, folder, work.bar.update)
        chosen[name] = (
            CUTS[fewest_errors(cuts, tuning.boxes)],
            THRESHOLDS[fewest_errors(thresholds, tuning.boxes)],
        )
        rules = (papers, *chosen[name])
        found = find_boxes(rules, maps[name], examples.images, folder, work.bar.update)
        rows += [
            Row(methods.title(name), box_by, str(rule), boxes)
            for box_by, rule, boxes in zip(
                ("cut, the paper's settings", "cut", "threshold"), rules, found, strict=True
            )
        ]
    return Measured(examples, logits, rows, maps[PAPERS_MAP], chosen[PAPERS_MAP][0])


def explain(
    classifier: Classifier, examples: Examples, name: str, work: Work
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits (n, k), and maps (n, h, w) of the true class by name."""
    axes = {"example": (examples.images, examples.labels)}
    (logits, maps), _ = comparison.timed_sweep(
        work, classifier, name, explain_one, axes, classifier.model
    )
    products = {name: maps[first] * maps[second] for name, (first, second) in PRODUCTS.items()}
    # A sweep's dictionaries are sorted.
    return logits, {name: maps[name] for name in (*CHEAP, INNER)} | products


def explain_one(model, *, example):
    """The logits of one example, and its maps: of signed attributions the absolute values."""
    image, label = example
    maps = {}
    for name in CHEAP:
        method = methods.METHODS[name]
        attributed = method.attribute(scores.logit, model, label, image, batch_size=1)
        maps[name] = jnp.abs(method.reduce(attributed))
    return model(image), maps | {INNER: inner_layer_cam(model, label, image)}


def pyramids(examples: Examples) -> np.ndarray:
    """(n, h, w), 1 in the middle of the true boxes and 0 from their edges on."""
    height, width = examples.images.shape[1:3]
    pixels = np.moveaxis(np.mgrid[:height, :width], 0, -1) + 0.5
    corners = examples.boxes[:, :, None, None]
    middle, half = (
        (corners[..., 2:] + corners[..., :2]) / 2,
        (corners[..., 2:] - corners[..., :2]) / 2,
    )
    return np.maximum(1 - (abs(pixels - middle) / half).max(-1), 0).max(1).astype(np.float32)


def inner_layer_cam(model, label, image):
    """LayerCAM at the last stage but one, where maps are twice as fine as at the last."""

    def score(feature_map):
        maps = feature_map[None]
        for block in model.stages[-1]:
            maps = block(maps)
        return model.head(maps[0])[label]

    return attribution.layer_cam(
        score, image, features=lambda image: model.stage_outputs(image)[-2]
    )


def find_boxes(
    rules: Sequence[Rule],
    maps: np.ndarray,
    images: np.ndarray,
    folder: Path,
    progress: Callable[[int], object],
) -> np.ndarray:
    """(rules, n, 4), the boxes in n images by each of some rules, kept in a folder once found."""
    digest = hashlib.sha256(repr((rules, len(maps))).encode()).hexdigest()
    path = folder / f"{digest}.npy"
    if path.exists():
        progress(len(rules) * len(maps))
        return np.load(path)
    found = []
    for rule in rules:
        found.append([one.box for one in find(rule, maps, images)])
        progress(len(maps))
    boxes = np.array(found)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "partial.npy"
    np.save(partial, boxes)
    partial.replace(path)
    return boxes


def find(rule: Rule, maps: np.ndarray, images: np.ndarray) -> list[Localization]:
    """What a rule makes of n maps (n, h, w) and images (n, h, w, c)."""
    smoothed = np.asarray(_smooth(maps, rule.sigma)) if rule.sigma else maps
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(rule, smoothed, images))


@jax.jit
def _smooth(maps, sigma):
    # Means of the map's own pixels: zeros beyond the border would be a prior on the middle.
    return jax.vmap(lambda one: filters.blur(one[..., None], sigma)[..., 0])(maps)


def overlaps(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(..., n), the largest intersection over union of boxes (..., n, 4) with one of (n, m, 4)."""
    boxes = found.reshape(-1, *true.shape[::2]).astype(np.float32)
    return np.asarray(_overlaps(boxes, true.astype(np.float32))).reshape(found.shape[:-1])


@jax.jit
def _overlaps(found, true):
    nearest = jax.vmap(metrics.box_iou, in_axes=(None, 0))
    of_images = jax.vmap(lambda box, boxes: nearest(box, boxes).max())
    return jax.vmap(of_images, in_axes=(0, None))(found, true)


def fewest_errors(found: np.ndarray, true: np.ndarray) -> int:
    """Of boxes (rules, n, 4) the first rule that is wrong of the fewest images."""
    return int((overlaps(found, true) < RIGHT_IOU).sum(1).argmin())


def centred_box(true: np.ndarray, sides: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in the middle of the image that is wrong of the fewest of boxes (n, m, 4)."""
    height, width = sides
    candidates = [
        (top, left, height - top, width - left)
        for top, left in itertools.product(range(-(-height // 2)), range(-(-width // 2)))
    ]
    of_each = np.repeat(np.array(candidates)[:, None], len(true), axis=1)
    return candidates[fewest_errors(of_each, true)]


def tabulate(measured: Measured) -> report.Table:
    """A line for each way to a box, with its errors."""
    wrong = measured.overlaps < RIGHT_IOU
    centred = wrong[1].astype(np.float32)
    lines = [
        (
            *row[:3],
            labelled_images.cell(of_row.astype(np.float32)),
            labelled_images.cell(of_row - centred),
            labelled_images.cell((of_row | (measured.rank >= 1)).astype(np.float32)),
            labelled_images.cell((of_row | (measured.rank >= TOP)).astype(np.float32)),
            labelled_images.cell(overlap),
        )
        for row, of_row, overlap in zip(measured.rows, wrong, measured.overlaps, strict=True)
    ]
    header = ("map", "box by", "settings", "error", "minus centred", "top-1 error")
    return report.Table((*header, f"top-{TOP} error", "mean IoU"), lines)


def compare(both: Sequence[Classifier], measured: Sequence[Measured]) -> report.Section:
    """How the errors of two models differ."""
    first, second = ((one.overlaps < RIGHT_IOU).astype(np.float32) for one in measured)
    names = [row[:2] for row in measured[0].rows]
    lines = [
        (*name, labelled_images.cell(difference))
        for name, difference in zip(names, second - first, strict=True)
        if name[0]
    ]
    return report.Section(
        "One model against the other",
        "The error, paired by image: where the interval is below 0 the second model is better.",
        table=report.Table(("map", "box by", f"{both[1].name} minus {both[0].name}"), lines),
    )


def draw(classifier: Classifier, measured: Measured, count: int) -> Figure:
    """Images that the paper's method gets right and others that it does not, each spread evenly.

    Evenly over their intersections over union, that is, so that nobody picks them.
    """
    images, labels, boxes = measured.examples
    found = find(measured.cut, measured.maps, images)
    overlap = overlaps(np.array([one.box for one in found]), boxes)
    order = np.argsort(-overlap)
    right, wrong = order[overlap[order] >= RIGHT_IOU], order[overlap[order] < RIGHT_IOU]
    rows, titles = [], []
    for title, indices in (("right", right), ("wrong", wrong)):
        places = np.linspace(0, len(indices) - 1, min(-(-count // 2), len(indices)))
        for index in indices[np.round(places).astype(int)]:
            marked = images[index]
            for box in boxes[index][boxes[index].any(1)]:
                marked = labelled_images.outlined(marked, box, TRUE_COLOR)
            name = f"{classifier.class_names[labels[index]]}, {overlap[index]:.2f}"
            rows.append(cells(images[index], marked, measured.maps[index], found[index], name))
            titles.append(title)
    caption = (
        "Green: the true box. Red: that of the cut, with its intersection over union. The images "
        "are spread evenly over those that are right and over those that are wrong, in the order "
        f"of that number. {measured.cut}."
    )
    return grid(classifier, rows, titles, caption)


def cells(
    image: np.ndarray, marked: np.ndarray, saliency_map: np.ndarray, found: Localization, title: str
) -> list[plots.Cell | None]:
    """A row of a figure: an image with its box, the map, and what is cut out."""
    faded = FADED + (1 - FADED) * image
    return [
        plots.image(labelled_images.outlined(marked, np.array(found.box)), title),
        plots.saliency_map(saliency_map),
        plots.image(np.where(found.mask[..., None], image, faded)),
    ]


def grid(
    classifier: Classifier,
    rows: Sequence[Sequence[plots.Cell | None]],
    titles: Sequence[str],
    caption: str,
) -> Figure:
    return plots.grid(
        rows,
        row_titles=titles,
        column_titles=[classifier.name, methods.title(PAPERS_MAP), "cut"],
        caption=caption,
        cell_width=CELL_WIDTH,
    )


def cut_out(
    run: report.RunFolder, settings: Settings, both: Sequence[Classifier]
) -> list[report.Section]:
    """The objects in image files by the paper's settings, which no box has changed."""
    labels = [
        None if settings.label is None else classifier.label(settings.label) for classifier in both
    ]
    photographs = [
        saliency.Photograph(data.read_image(path), path.name)
        for path in image_files(settings.images)
    ]
    rule = Cut(0.0, settings.foreground, settings.background)
    sections = []
    for classifier, label in zip(both, labels, strict=True):
        explained = saliency.explain(
            classifier, photographs, label, method=PAPERS_MAP, batch_size=settings.batch_size
        )
        found = find(rule, explained.saliency_maps, explained.images)
        classes = [
            f"{classifier.class_names[of_image]} {plots.percent(probabilities[of_image])}"
            for of_image, probabilities in zip(
                explained.labels, explained.probabilities, strict=True
            )
        ]
        name = f"localization-{classifier.file_name}"
        run.save_arrays(
            name,
            **explained._asdict(),
            masks=np.stack([one.mask for one in found]),
            boxes=np.array([one.box for one in found]),
        )
        rows = [
            cells(image, image, saliency_map, one, title)
            for image, saliency_map, one, title in zip(
                explained.images, explained.saliency_maps, found, classes, strict=True
            )
        ]
        figure = grid(
            classifier,
            rows,
            [photograph.title for photograph in photographs],
            f"Red: the box of the cut. {rule}.",
        )
        table = report.Table(
            ("photograph", "explained class", "box"),
            [
                (photograph.title, title, ", ".join(map(str, one.box)))
                for photograph, title, one in zip(photographs, classes, found, strict=True)
            ],
        )
        sections.append(
            report.Section(
                classifier.name,
                "Boxes are (y0, x0, y1, x1) in pixels of the fitted images, half open.",
                [run.save_figure(name, figure)],
                table,
            )
        )
    return sections


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files, each folder replaced by the files in it that are not hidden, sorted.

    Raises:
      ValueError: a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(one for one in path.iterdir() if one.is_file() and one.name[0] != ".")
        if not inside:
            raise ValueError(f"expected image files in {path}, got none")
        files += inside
    return files


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
