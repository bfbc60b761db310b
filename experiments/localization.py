"""Where is the object? Boxes from saliency and a graph cut, by models that never saw a box.

  python experiments/localization.py
  python experiments/localization.py --count 200 --tuning-split "train[:100]"
  python experiments/localization.py --model tiny-imagenet-robust efficientnet-lite0 \
    --method ten_crop inner_layer_cam --tuning-split "train[:60]" --count 300
  python experiments/localization.py --images photographs/ cat.jpg --label tabby

The weakly supervised localization of Simonyan et al. 2013 (arXiv:1312.6034, section 3.2): saliency
averaged over ten crops, colour models from its quantiles, a graph cut, the largest component, its
box. Beside it stand the same cut of other maps, a threshold on each, the whole image, and the best
box in the middle. Two of the maps are products, of a gradient, which is sharp, and of LayerCAM at
the deepest layer of at least 7x7 cells ("inner"; the bundled pair's last stage but one), which is
blurred but on the object. Whatever can be set, of a cut, of a threshold or of the box in the
middle, is chosen by the boxes of training images alone. A model of larger images sees all of each,
enlarged.

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

At 224 pixels, the third command above, in 20 minutes beside other work: 300 validation images, of
which the best box in the middle is wrong of 43.3 %, and 60 to choose by. The paper's own method
under EfficientNet-Lite0 is wrong of 41.0 % [35.7, 46.7], 2.3 points less than that box [-2.0, 6.7],
and by chosen quantiles of 39.0 %, 4.3 less [-1.0, 9.7]: in neither case by more than chance, nor
better than the robust model at 64 pixels (39.7 and 37.7 %). Of all 1,000 images, with 200 to choose
by, even that little is gone: 42.7 % [39.6, 45.7] by the paper's quantiles and 41.2 % [38.2, 44.2]
by chosen ones, where the box is wrong of 42.2 %, differences of 0.5 [-1.9, 3.0] and -1.0 [-3.8,
1.8]. With 400 to choose by the same is chosen, and saliency of the whole image in place of ten
crops is worse, 45.3 and 43.3 %. Nor does another threshold in place of 0.5 help: of boxes in the
middle that are chosen for 0.3, 0.6, 0.7 and 0.8 none is beaten by more than chance (at 0.7 by 1.0
[-1.3, 3.2] points). More pixels alone are no gain: they are 64 by 64 of each photograph, enlarged,
and the map of the true box by the paper's quantiles is still wrong of 37.0 %. But the paper's cut
of the product of ten-crop saliency and LayerCAM, with nothing chosen, is wrong of 29.3 % [24.3,
34.3], 14.0 points less than the box [8.7, 19.0] and 6.0 less than under the robust model [0.7,
11.3]: LayerCAM of Lite0 says better where the object is.

Nor does it help to choose what OpenCV fixes. On 500 training images alone another minimum cut, of
the same maps at 64 and 112 pixels, was tried with 462 settings of their blur, both quantiles, one
to five Gaussians, the least variance of these, a uniform share of colours, the weight of the eight
neighbours and hard or soft seeds (what was wrong of over 45 % of the first 200 was left out early).
By the setting that is best on one half of them it is wrong of 42.4 % of the other, the box in the
middle, chosen likewise, of 42.3 % (means of 200 halvings); in ten folds the difference is -0.8
[-4.4, 2.8], and even of the best of all settings, on the very images that it was chosen by, no more
than -1.4 [-5.0, 2.2]. Of its 39.8 % wrong boxes 36.8 are larger than the true ones. So that cut is
not part of this script, and no validation image has been cut by it.

With `--images` nothing is measured: files, and folders of them, are cut out for their likeliest
class, or for `--label`, by the paper's settings.

The run's folder then holds `localization.png`, with boxes that are right and boxes that are wrong,
`localization-MODEL.npz` (labels, logits, true boxes, of every row of the table the boxes and their
intersections over union, and the maps that are shown), `config.json` and `index.html`, where the
map that gives the boxes is chosen by a slider. Interrupted, the same command continues.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from lab import examples, frame, loading, methods, photographs, tables
from lab.examples import Objects
from lab.frame import Check, Run
from lab.methods import METHODS

from saliency_jax import attribution, filters, metrics, scores
from saliency_jax.localization import Localization, localize, localize_by_threshold
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

RIGHT_IOU = 0.5
TOP = 5
PAPERS_MAP = "ten_crop"
# LayerCAM at the deepest layer with a map of at least 7x7 cells; see `methods.finer_map`.
INNER = "inner_layer_cam"
# Of `METHODS` those that take at most the ten gradients of the paper's, and one more.
CHEAP = (
    "saliency",
    PAPERS_MAP,
    "input_x_gradient",
    "grad_cam",
    "grad_cam_plus_plus",
    "layer_cam",
    INNER,
)
MapName = tyro.extras.literal_type_from_choices(CHEAP)
WITH_PAPERS = Check(lambda names: PAPERS_MAP in names, f"{{}} to name {PAPERS_MAP}")
# Where both are among the maps.
PRODUCTS = (("saliency", INNER), (PAPERS_MAP, INNER))
# Sigmas are in pixels of images of this side, and grow with it.
UNIT_SIDE = 64
# A map that no model makes: how wrong is the cut if nothing else is?
ORACLE = "true box"
# Neither among the colours of maps, nor to be taken for the found boxes' red by the colour-blind.
TRUE_COLOR = (0.0, 0.9, 1.0)
FADED = 0.75
CELL_WIDTH = 192

HOW_TO_READ = (
    "Means over the images with their 95 % bootstrap intervals, the images being resampled. Error: "
    "the share of the images whose box is wrong, the class being known. Minus centred: the error "
    "less that of the best box in the middle, paired by image; where the interval is below 0 the "
    "row is better. Named: of the images alone whose class is the model's likeliest one. True box: "
    "a map that is highest in the middle of the true boxes and falls to 0 at their edges, so that "
    "what is wrong is wrong by the cut."
)
REFERENCE = (
    "The paper reports 46.4 % top-5 error on the test set of ILSVRC-2013. The numbers are not "
    "comparable as they stand: there the class is one of a thousand, so that many errors are of "
    "the class, the photographs are of about 500x400 pixels, and the objects cover less of them, "
    "so that a box around the whole image is right less often."
)


@dataclasses.dataclass(frozen=True)
class Settings(examples.Settings):
    dataset: str = "tiny_imagenet/paper20"
    """A prepared TFDS set with classes and boxes, of images or of the objects in them."""
    model: tuple[str, ...] = loading.BUNDLED_PAIR
    """Names of bundled models, or folders of saved ones, that know the dataset's classes."""
    method: Annotated[tuple[MapName, ...], WITH_PAPERS] = CHEAP
    """Whose maps, and the products of which, are localized by."""
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


class Rule(NamedTuple):
    """A way from a map, smoothed, and its image to a box; see `UNIT_SIDE` for sigma's unit."""

    text: str
    sigma: float
    localize: Callable[[np.ndarray, np.ndarray], Localization]


def cut(sigma: float, foreground: float, background: float, iterations: int = 1) -> Rule:
    """The paper's way."""
    options: dict[str, Any] = {
        "foreground": foreground,
        "background": background,
        "iterations": iterations,
    }
    text = f"sigma {sigma:g}, quantiles {foreground:g} and {background:g}, cuts {iterations}"
    return Rule(text, sigma, functools.partial(localize, **options))


def threshold(sigma: float, fraction: float) -> Rule:
    """The largest component of what is at least a fraction of the smoothed map's maximum."""
    text = f"sigma {sigma:g}, {fraction:g} of the maximum"
    return Rule(text, sigma, lambda saliency_map, _: localize_by_threshold(saliency_map, fraction))


# What is chosen from. Maps as smooth as suit a threshold leave the cut too few edges to follow.
CUTS = [
    cut(sigma, foreground, 0.3, iterations)
    for sigma in (0.0, 0.5)
    for foreground in (0.9, 0.925, 0.95, 0.975)
    for iterations in (1, 2)
]
# For large images, of 224x224 pixels say, whose cuts take 20 times as long.
FEW_CUTS = [cut(0.0, foreground, 0.3) for foreground in (0.9, 0.925, 0.95, 0.975)]
THRESHOLDS = [
    threshold(sigma, fraction)
    for sigma in (0.0, 1.0, 2.0, 4.0, 8.0)
    for fraction in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one model says about n images (logits (n, k)), and all boxes found with it.

    The boxes (n, 4) are by what is written of them: from which map, how, and with what settings.
    The whole image and the box in the middle are the first. Of k images that are shown there are
    all maps (k, h, w) by name, and by what is said of it the name of a map and its best rule.
    """

    classifier: Classifier
    objects: Objects
    logits: np.ndarray
    boxes: Mapping[tuple[str, str, str], np.ndarray]
    shown: np.ndarray
    maps: Mapping[str, np.ndarray]
    rules: Mapping[str, tuple[str, Rule]]

    @property
    def overlaps(self) -> np.ndarray:
        """(rows, n), the intersections over union."""
        return overlaps(np.stack([*self.boxes.values()]), self.objects.boxes)

    @property
    def wrong(self) -> np.ndarray:
        """(rows, n), 1 for a wrong box and 0 for a right one."""
        return (self.overlaps < RIGHT_IOU).astype(np.float32)

    @property
    def rank(self) -> np.ndarray:
        """(n,), how many classes are likelier than the true one."""
        true = np.take_along_axis(self.logits, self.objects.labels[:, None], 1)
        return (self.logits > true).sum(1)


@frame.experiment("Localization")
def main(settings: Settings, run: Run) -> list[Section]:
    if not 0 <= settings.background <= settings.foreground <= 1:
        raise ValueError(
            "expected 0 <= --background <= --foreground <= 1, got "
            f"{settings.background} and {settings.foreground}"
        )
    if settings.label is not None and not settings.images:
        raise ValueError("expected --label with --images, got it with a dataset, which has labels")
    classifiers = loading.load(settings.model)
    if settings.images:
        return cut_out(run, settings, classifiers)
    return measure(run, settings, classifiers)


def measure(run: Run, settings: Settings, classifiers: Sequence[Classifier]) -> list[Section]:
    """Chooses, localizes and measures with each model."""
    splits = ((settings.tuning_split, None), (settings.split, settings.count))
    classifiers = [*map(uncropped, classifiers)]
    pairs = [
        [
            examples.read_objects(settings.dataset, split, classifier, count, settings.data_dir)
            for split, count in splits
        ]
        for classifier in classifiers
    ]
    points = 0
    for tuning, objects in pairs:
        num_rules = len(cuts(tuning)) + len(THRESHOLDS)
        num_boxes = num_rules * len(tuning.labels) + 3 * len(objects.labels)
        num_maps = len(settings.method) + len(products(settings.method)) + 1
        points += len(tuning.labels) + len(objects.labels) + num_maps * num_boxes
    folder = run.expect(points, "image")
    measured: list[Measured] = []
    sections = []
    for classifier, (tuning, objects) in zip(classifiers, pairs, strict=True):
        kept = folder / classifier.file_name
        shown = measured[0].shown if measured else None
        each = localized(run, settings, classifier, tuning, objects, kept, shown)
        measured.append(each)
        run.save_arrays(
            f"localization-{classifier.file_name}",
            labels=each.objects.labels,
            logits=each.logits,
            true_boxes=each.objects.boxes,
            rows=np.array([" | ".join(texts) for texts in each.boxes]),
            boxes=np.stack([*each.boxes.values()]),
            overlaps=each.overlaps,
            shown=each.shown,
            map_names=np.array([*each.maps]),
            maps=np.stack([*each.maps.values()], 1),
        )
        title = f"{classifier.name}, {len(each.objects.labels)} images"
        sections.append(Section(title, table=tabulate(each)))
    sections.insert(0, Section("Boxes", views=[run.save_view("localization", explore(measured))]))
    differences = [compare(measured[0], other) for other in measured[1:]]
    return [*sections, *differences, Section("How to read it", f"{HOW_TO_READ} {REFERENCE}")]


def uncropped(classifier: Classifier) -> Classifier:
    """The classifier, seeing whole images, so that all are measured on the same boxes."""
    return dataclasses.replace(
        classifier, input=dataclasses.replace(classifier.input, resize=classifier.input.size)
    )


def cuts(objects: Objects) -> Sequence[Rule]:
    """What the cuts of images of this size are chosen from."""
    return FEW_CUTS if max(objects.images.shape[1:3]) > 2 * UNIT_SIDE else CUTS


def products(names: Sequence[str]) -> list[tuple[str, str]]:
    """Those whose factors are among the maps."""
    return [pair for pair in PRODUCTS if set(pair) <= set(names)]


def localized(
    run: Run,
    settings: Settings,
    classifier: Classifier,
    tuning: Objects,
    objects: Objects,
    folder: Path,
    shown: np.ndarray | None,
) -> Measured:
    """The boxes of one model, by rules that are chosen on the images for tuning.

    Shown are the images of these numbers, or some that the paper's map, cut, gets right and wrong.
    """
    _, tuning_maps = explain(run, settings, classifier, tuning, "maps for tuning")
    logits, maps = explain(run, settings, classifier, objects, "maps")
    sides = objects.images.shape[1:3]
    fixed = {"whole image": (0, 0, *sides), "centred box": centred_box(tuning.boxes, sides)}
    boxes = {
        ("", name, ", ".join(map(str, box))): np.tile(box, (len(objects.labels), 1))
        for name, box in fixed.items()
    }
    papers = cut(0.0, settings.foreground, settings.background)
    chosen = {f"{titled(PAPERS_MAP)}, the paper's settings": (PAPERS_MAP, papers)}
    for name in maps:
        title, kept = titled(name), folder / name.replace(" ", "-")
        run.advance(0, f"{classifier.name}, boxes from {title}")
        rules, fewest = {"cut, the paper's settings": papers}, np.inf
        for way, candidates in (("cut", cuts(tuning)), ("threshold", THRESHOLDS)):
            tried = find_boxes(run, kept, candidates, tuning_maps[name], tuning.images)
            rules[way] = candidates[fewest_errors(tried, tuning.boxes)]
            errors = (overlaps(tried, tuning.boxes) < RIGHT_IOU).sum(1).min()
            if errors < fewest:
                chosen[title], fewest = (name, rules[way]), errors
        for way, rule in rules.items():
            (found,) = find_boxes(run, kept, [rule], maps[name], objects.images)
            boxes[title, way, rule.text] = found
    if shown is None:
        by_cut = {texts[:2]: found for texts, found in boxes.items()}[titled(PAPERS_MAP), "cut"]
        shown = spread(overlaps(by_cut[None], objects.boxes)[0], settings.shown)
    return Measured(
        classifier,
        objects,
        logits,
        boxes,
        shown,
        {name: each[shown] for name, each in maps.items()},
        chosen,
    )


def explain(
    run: Run, settings: Settings, classifier: Classifier, objects: Objects, name: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits (n, k), and maps (n, h, w) of the true class by name."""
    (logits, maps), _ = run.sweep(
        classifier,
        name,
        _explaining(settings.method),
        {"example": (objects.images, objects.labels)},
        shared=classifier.network,
        batch_size=settings.batch_size,
    )
    # A sweep's dictionaries are sorted.
    ordered = {name: maps[name] for name in settings.method}
    for first, second in products(settings.method):
        ordered[f"{titled(first)} x {titled(second)}"] = maps[first] * maps[second]
    return logits, ordered | {ORACLE: pyramids(objects)}


def titled(name: str) -> str:
    """A map's name as figures and tables write it."""
    return "inner LayerCAM" if name == INNER else methods.title(name)


@functools.cache
def _explaining(names: tuple[str, ...]) -> functools.partial:
    """One function for equal maps, so that it is compiled once."""
    return functools.partial(explain_one, names=names)


def explain_one(network, *, example, names):
    """The logits of one example, and its maps: of signed attributions the absolute values."""
    image, label = example
    score, case = scores.logit(network, label), methods.Case(image, network, batch_size=1)
    maps = {}
    for name in names:
        if name == INNER:
            layer = methods.finer_map(network, image)
            maps[name] = attribution.layer_cam(score, image, layer=layer)
        else:
            method = METHODS[name]
            maps[name] = jnp.abs(method.reduce(method(score, case, method.uses.figure)))
    return network(image), maps


def pyramids(objects: Objects) -> np.ndarray:
    """(n, h, w), 1 in the middle of the true boxes and 0 from their edges on."""
    height, width = objects.images.shape[1:3]
    pixels = np.moveaxis(np.mgrid[:height, :width], 0, -1) + 0.5
    corners = objects.boxes[:, :, None, None]
    middle = (corners[..., 2:] + corners[..., :2]) / 2
    half = (corners[..., 2:] - corners[..., :2]) / 2
    return np.maximum(1 - (abs(pixels - middle) / half).max(-1), 0).max(1).astype(np.float32)


def find_boxes(
    run: Run, folder: Path, rules: Sequence[Rule], maps: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """(rules, n, 4), the boxes in n images by each of some rules, kept in a folder once found."""
    texts = [rule.text for rule in rules]
    digest = hashlib.sha256(repr((texts, len(maps))).encode()).hexdigest()

    def found() -> np.ndarray:
        boxes = []
        for rule in rules:
            boxes.append([each.box for each in find(rule, maps, images)])
            run.advance(len(maps))
        return np.array(boxes)

    return run.kept(folder / f"{digest}.npy", len(rules) * len(maps), found)


def find(rule: Rule, maps: np.ndarray, images: np.ndarray) -> list[Localization]:
    """What a rule makes of n maps (n, h, w) and images (n, h, w, c)."""
    sigma = rule.sigma * max(maps.shape[1:]) / UNIT_SIDE
    smoothed = np.asarray(_smooth(maps, sigma)) if sigma else maps
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(rule.localize, smoothed, images))


@jax.jit
def _smooth(maps, sigma):
    # Means of the map's own pixels: zeros beyond the border would be a prior on the middle.
    return jax.vmap(lambda one: filters.blur(one[..., None], sigma)[..., 0])(maps)


def overlaps(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(rules, n), the largest intersection over union of boxes (rules, n, 4) with (n, m, 4)."""
    return np.asarray(_overlaps(np.float32(found), np.float32(true)))


_overlaps = jax.jit(jax.vmap(jax.vmap(metrics.best_box_iou), in_axes=(0, None)))


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


def tabulate(measured: Measured) -> Table:
    """A line for each way to a box, with its errors."""
    all_wrong, rank = measured.wrong, measured.rank
    lines = []
    for texts, wrong, overlap in zip(measured.boxes, all_wrong, measured.overlaps, strict=True):
        tops = (np.maximum(wrong, rank >= top) for top in (1, TOP))
        better = wrong - all_wrong[1]
        of_named = np.where(rank == 0, better, np.nan)
        lines.append([*texts, *map(tables.cell, (wrong, better, *tops, overlap, of_named))])
    header = ("map", "box by", "settings", "error", "minus centred", "top-1 error")
    return Table((*header, f"top-{TOP} error", "mean IoU", "minus centred, named"), lines)


def compare(first: Measured, second: Measured) -> Section:
    """How the errors of two models differ."""
    lines = [
        (saliency_map, box_by, tables.cell(difference))
        for (saliency_map, box_by, _), difference in zip(
            first.boxes, second.wrong - first.wrong, strict=True
        )
        if saliency_map
    ]
    header = ("map", "box by", f"{second.classifier.name} minus {first.classifier.name}")
    return Section(
        f"{second.classifier.name} against {first.classifier.name}",
        "The error, paired by image: where the interval is below 0 the second model is better.",
        table=Table(header, lines),
    )


def spread(overlap: np.ndarray, count: int) -> np.ndarray:
    """The numbers of images with right boxes and of others with wrong ones, each spread evenly.

    Evenly over their intersections over union, that is, so that nobody picks them.
    """
    order = np.argsort(-overlap)
    right = overlap[order] >= RIGHT_IOU
    numbers = []
    for among in (order[right], order[~right]):
        places = np.linspace(0, len(among) - 1, min(-(-count // 2), len(among)))
        numbers.append(among[np.round(places).astype(int)])
    return np.concatenate(numbers)


def explore(measured: Sequence[Measured]) -> plots.View:
    """A row for each image that is shown, under a slider of the maps that the boxes are from."""
    first = measured[0]
    names, (images, labels, boxes) = first.classifier.class_names, first.objects
    frames = {}
    for title in first.rules:
        columns = [
            [
                plots.image(boxed(images[number], boxes[number]), names[labels[number]])
                for number in first.shown
            ],
            *(cells(each, *each.rules[title]) for each in measured),
        ]
        frames[title] = [[*row] for row in zip(*columns, strict=True)]
    return plots.explore(
        frames,
        "map",
        column_titles=["image and true box", *(each.classifier.name for each in measured)],
        caption="Blue: the true box. Red: the one that was found, with its intersection over union "
        "above; below, by which cut or threshold, of each map the one that is wrong of the fewest "
        f"training images. The first images are those that {first.classifier.name} gets right by "
        "the chosen cut of the paper's map, the others those that it does not, each spread evenly "
        f"in the order of that number. {methods.LAST_COLOR}",
        cell_width=CELL_WIDTH,
    )


def cells(measured: Measured, name: str, rule: Rule) -> list[plots.Layers]:
    """A map of each image that is shown, with the box that a rule finds."""
    images, boxes = (measured.objects[place][measured.shown] for place in (0, 2))
    found = find(rule, measured.maps[name], images)
    (overlap,) = overlaps(np.array([[each.box for each in found]]), boxes)
    return [
        cell(image, saliency_map, one, true, f"IoU {share:.2f}", rule)
        for image, saliency_map, one, true, share in zip(
            images, measured.maps[name], found, boxes, overlap, strict=True
        )
    ]


def cell(
    image: np.ndarray,
    saliency_map: np.ndarray,
    found: Localization,
    true: np.ndarray,
    title: str,
    rule: Rule,
) -> plots.Layers:
    """An image, and with the true and the found boxes what is cut out, the map over it, the map."""
    made = plots.layers(image, saliency_map, title)
    faded = np.where(found.mask[..., None], image, FADED + (1 - FADED) * image)
    original, overlay, drawn = made.pictures.values()
    pictures = {"cut": plots.image(faded), "overlay": overlay, "map": drawn}
    marked = {
        name: plots.image(plots.outlined(boxed(picture.pixels, true), np.array(found.box)))
        for name, picture in pictures.items()
    }
    return plots.Layers({"original": original, **marked}, title, f"{rule.text}; {made.note}")


def boxed(image: np.ndarray, true: np.ndarray) -> np.ndarray:
    """An image with its true boxes (m, 4), of which those of zeros are none."""
    for box in true[true.any(1)]:
        image = plots.outlined(image, box, TRUE_COLOR)
    return image


def cut_out(run: Run, settings: Settings, classifiers: Sequence[Classifier]) -> list[Section]:
    """The objects in image files by the paper's settings, which no box has changed."""
    wanted = settings.label
    labels = [None if wanted is None else classifier.label(wanted) for classifier in classifiers]
    shown = photographs.from_files(settings.images)
    titles = [photograph.title for photograph in shown]
    rule = cut(0.0, settings.foreground, settings.background)
    how = photographs.Explaining(batch_size=settings.batch_size)
    run.expect(len(classifiers) * len(shown), "image")
    rows: list[list[plots.Cell | None]] = [[] for _ in shown]
    lines = []
    for classifier, label in zip(classifiers, labels, strict=True):
        explained = photographs.explain(run, classifier, shown, PAPERS_MAP, how, label)
        found = find(rule, explained.saliency_maps, explained.images)
        masks, boxes = (np.array(each) for each in zip(*found, strict=True))
        arrays = {**explained.arrays, "masks": masks, "boxes": boxes}
        run.save_arrays(f"localization-{classifier.file_name}", **arrays)
        for index, (title, one) in enumerate(zip(titles, found, strict=True)):
            image, saliency_map = explained.images[index], explained.saliency_maps[index]
            name, none = explained.explained(index), np.zeros((0, 4))
            rows[index].append(cell(image, saliency_map, one, none, name, rule))
            lines.append((title, classifier.name, name, ", ".join(map(str, one.box))))
    view = plots.explore(
        rows,
        row_titles=titles,
        column_titles=[classifier.name for classifier in classifiers],
        caption=f"Red: the box of the cut. {methods.LAST_COLOR}",
        cell_width=CELL_WIDTH,
    )
    header = ("photograph", "model", "explained class", "box")
    return [
        Section(
            "Cut out",
            "Boxes are (y0, x0, y1, x1) in pixels of the fitted images, half open.",
            table=Table(header, lines),
            views=[run.save_view("localization", view)],
        )
    ]


if __name__ == "__main__":
    main.from_command_line()
