"""What becomes of a saliency map when the model's input is multiplied by 0.01 to 1?

  python experiments/input_scale.py
  python experiments/input_scale.py --images ./photographs --scales 0.05 1 --count 20
  pair="--dataset tiny_imagenet/paper20 --model tiny-imagenet-standard tiny-imagenet-robust"
  python experiments/input_scale.py $pair --batch-size 5

An input can be scaled at two places. Before normalization the image is: it darkens towards black.
After it, where the data set's mean colour is 0, the normalized image is: that is the same as moving
the image towards the mean colour, mean + s (image - mean), which fades its contrast. Neither is a
change of the map's unit alone, as a ResNet with biases is not homogeneous.

At each scale s the saliency map of the logit of the image's own class is taken at the scaled input,
and compared with the map at 1: Spearman's correlation of the pixels, and structural similarity
(SSIM) of the maps as they are drawn, divided by what 99 % of their pixels do not exceed. The
control of both is the map of another image, for its own class, at scale 1. Measured besides:
whether the class is still named, and whether the answer is that at scale 1; the probability of the
answer; the map's share in the object's box; the absolute cosine of gradient and centred image, with
another image as control. (Etmann's alpha would fall with s, as it is measured in units of the
input.)

The photographs are files, or folders of files in folders named by WordNet ids, and the model is
EfficientNet-Lite0; without any the ten windows of a cat and a cup of coffee that need no download.
The last command is of all 1,000 validation images under the bundled standard and robust ResNet, at
seven scales in two ways: 32,000 gradients, 4 minutes on two processor cores. Interrupted, the same
command continues.

Of 100 photographs of ImageNet, each of another class, under Lite0, in 8 minutes while other work
ran beside: the correlation with the map at 1 falls to 0.49 [0.46, 0.51] at 0.5, 0.35 at 0.2, 0.26
at 0.1, 0.16 [0.12, 0.20] at 0.05 (another image's: 0.11 [0.09, 0.13]) and 0.01 at 0.02, before
normalization; after it by nearly the same. Lite0 sees more in the dark than the small pair: at 0.2
it names 72 % [63, 80] of the photographs, at 0.05 32 % [23, 41] and at 0.02 3 %, against 84 % at 1,
and its confidence falls with that, from 0.72 to 0.25 and 0.05. Its
gradients have no more of the image than of another at 1 (|cosine| 0.001 and 0.002) and a little
where nothing is recognized, 0.041 against 0.002 at 0.01: again the map that looks most like the
image says least of the answer.

Measured on Tiny-ImageNet: of the map at 1 little is left at 0.05. The correlation with it is 0.15
before and 0.14 after normalization under the standard model, less than with another image's map
(0.17 and 0.16), and 0.03 and 0.18 under the robust one (another's -0.01 and 0.13); at 0.5 it is
0.54 to 0.61. Up to 0.05 the answer is one class for nearly all images, with 5 % of the twenty
classes' images right, so that the map explains a class which the model no longer sees; darkened
images get that answer with confidence, 0.47 under the robust model. Still, moderately scaled inputs
give the more pleasing maps: at 0.2 the robust model's absolute cosine with the image is 0.26 before
and 0.27 after normalization (another image's 0.06 and 0.05), against 0.07 at 1, while only 5 % and
12 % of the answers are right. So a scale chosen for a picture's looks shows another part of the
function than the one that classifies.

The run's folder then holds `curves.png` (everything measured, over the scale), `before.png` and
`after.png` (inputs and maps at every scale, the scaling being before or after normalization),
`measurements-MODEL.npz`, `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from lab import examples, frame, methods, photographs, tables
from lab.examples import Measurements, Subject
from lab.frame import Count, Run
from matplotlib.figure import Figure

from saliency_jax import attribution, metrics, scores
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

PLACES = ("before", "after")
SMALL_CELL_WIDTH = 128
CAPTION = (
    "The input scaled {} normalization, and each model's saliency map of the image's own class. "
    f"Above the maps: the model's likeliest class. {methods.LAST_COLOR}"
)
HOW_TO_READ = (
    f"{examples.HOW_TO_READ} Before and after: where the input is scaled, before "
    "normalization, towards black, or after it, towards the mean colour. Correlation and SSIM are "
    "those with the map at scale 1; their control is another image's map at scale 1. Confidence: "
    "the probability of the likeliest class."
)


@dataclasses.dataclass(frozen=True)
class Settings(examples.Settings):
    scales: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    """What the input is multiplied by."""
    shown: Count = 3
    """How many of the images are shown."""
    batch_size: Count = 2
    """Images measured at once, each at all scales; those finished are kept when interrupted."""


@frame.experiment("The scale of the input")
def main(settings: Settings, run: Run) -> list[Section]:
    scales = np.array(settings.scales, np.float32)
    if not len(scales) or not np.isfinite(scales).all() or scales.min() <= 0 or scales.max() > 1:
        raise ValueError(
            f"expected --scales above 0 and at most 1, got {' '.join(map(str, settings.scales))}"
        )
    pair = examples.subjects(settings)
    shared = shared_by(scales)
    measured = examples.measure(run, settings, pair, measure, shared, scales=scales)
    looks = examples.look(settings, pair, look, shared)
    for p, place in enumerate(PLACES):
        run.save_figure(place, draw_place(settings, pair, looks, p, photographs.CELL_WIDTH))
    curves = run.save_figure("curves", draw_curves(pair, measured, scales))
    over_scale = "Bands are the 95 % bootstrap intervals over the images."
    return [
        *(
            Section(f"Scaled {place} normalization", views=[explore(settings, pair, looks, p)])
            for p, place in enumerate(PLACES)
        ),
        Section("Over the scale", over_scale, [curves]),
        *(
            Section(title, HOW_TO_READ, table=table)
            for title, table in tabulate(pair, measured, scales).items()
        ),
    ]


def shared_by(scales: np.ndarray) -> Callable:
    """From a classifier to what its examples share: network, colours scaled towards, and scales.

    The normalized image is (image - mean) / std, whose zero is the mean.
    """

    def shared(classifier: Classifier):
        mean = np.array(classifier.input.mean, np.float32)
        return classifier.network, np.stack([np.zeros_like(mean), mean]), scales

    return shared


def scaled(network, image, label, colors, scales):
    """What the model makes of an image that is scaled towards colours (p, c): (p, s, ...)."""

    def at(color, scale):
        origin = jnp.broadcast_to(color, image.shape)
        moved = origin + scale * (image - origin)
        gradient = attribution.input_gradient(scores.logit(network, label), moved)
        return {"images": moved, "logits": network(moved), "gradients": gradient}

    return jax.vmap(jax.vmap(at, (None, 0)), (0, None))(jnp.asarray(colors), jnp.asarray(scales))


def look(shared, *, example):
    """What is shown of one example."""
    network, colors, scales = shared
    return scaled(network, example["images"][0], example["labels"][0], colors, scales)


def measure(shared, *, example):
    """What is measured of one example at every scale; pairs are with the image and another."""
    network, *_ = shared
    (image, _), (label, _) = example["images"], example["labels"]
    answer = jnp.argmax(network(image))
    references = jnp.stack(
        [
            attribution.saliency(scores.logit(network, label), image)
            for label, image in zip(example["labels"], example["images"], strict=True)
        ]
    )

    def at_scale(seen):
        saliency_map, gradient = attribution.max_abs(seen["gradients"]), seen["gradients"]
        likeliest = jnp.argmax(seen["logits"])

        def beside(reference, image):
            return {
                "correlation": metrics.spearman_correlation(saliency_map, reference),
                "similarity": metrics.structural_similarity(drawn(saliency_map), drawn(reference)),
                "cosine": metrics.gradient_alignment(gradient, image),
            }

        measured = jax.vmap(beside)(references, example["images"]) | {
            "correct": (likeliest == label).astype(image.dtype),
            "unchanged": (likeliest == answer).astype(image.dtype),
            "confidence": jax.nn.softmax(seen["logits"]).max(),
        }
        if "boxes" in example:
            inside = metrics.box_mask(example["boxes"][0], image.shape[:2])
            measured["share"] = metrics.relevance_mass_accuracy(saliency_map, inside)
        return measured

    return jax.vmap(jax.vmap(at_scale))(look(shared, example=example))


def drawn(saliency_map):
    """The map in [0, 1], as figures show it; of a map of zeros nan."""
    return jnp.minimum(saliency_map / jnp.percentile(saliency_map, plots.PERCENTILE), 1)


def values(measured: Measurements) -> dict[str, dict[str, np.ndarray]]:
    """All that is reported, (n, p, s) by the names of table and column."""

    def paired(name: str, key: str) -> dict[str, np.ndarray]:
        return {name: measured[key][..., 0], f"{name}, control": measured[key][..., 1]}

    in_boxes = {"share in the box": measured["share"]} if "share" in measured else {}
    return {
        "The maps": {
            **paired("correlation", "correlation"),
            **paired("SSIM", "similarity"),
            **in_boxes,
        },
        "The answers and the gradients": {
            "accuracy": measured["correct"],
            "same answer": measured["unchanged"],
            "confidence": measured["confidence"],
            **paired("|cosine|", "cosine"),
        },
    }


def tabulate(
    pair: Sequence[Subject], measured: Sequence[Measurements], scales: np.ndarray
) -> dict[str, Table]:
    """The tables by title: a row for each model, place and scale."""
    named = [values(each) for each in measured]
    return {
        title: Table(
            ["model", "scaled", "by", *named[0][title]],
            [
                [
                    subject.name,
                    place,
                    f"{scale:g}",
                    *(tables.cell(column[:, p, s]) for column in columns[title].values()),
                ]
                for subject, columns in zip(pair, named, strict=True)
                for p, place in enumerate(PLACES)
                for s, scale in enumerate(scales)
            ],
        )
        for title in named[0]
    }


def draw_curves(
    pair: Sequence[Subject], measured: Sequence[Measurements], scales: np.ndarray
) -> Figure:
    """A panel for each quantity, with a line for each model and place of scaling."""
    panels: dict[str, list[plots.Curve]] = {}
    for subject, each in zip(pair, measured, strict=True):
        for name, column in functools.reduce(operator.or_, values(each).values()).items():
            panels.setdefault(name, []).extend(
                tables.curve(f"{subject.name}, {place}", scales, list(column[:, p].T))
                for p, place in enumerate(PLACES)
            )
    return plots.curves(panels, "scale", log_base=10)


def draw_place(
    settings: Settings,
    pair: Sequence[Subject],
    looks: Sequence[Measurements],
    p: int,
    cell_width: int = SMALL_CELL_WIDTH,
) -> Figure:
    """The first images scaled at one place, at all scales, with both models' maps."""
    by_image = cells(pair, looks, p)
    titles = [
        title
        for index in range(len(by_image))
        for title in (pair[0].class_name(index), *(subject.name for subject in pair))
    ]
    return plots.grid(
        [list(row) for rows in by_image for row in zip(*rows, strict=True)],
        row_titles=titles,
        column_titles=[f"times {scale:g}" for scale in settings.scales],
        caption=CAPTION.format(PLACES[p]),
        cell_width=cell_width,
    )


def explore(
    settings: Settings, pair: Sequence[Subject], looks: Sequence[Measurements], p: int
) -> plots.View:
    """The same under a slider along the scales: a row for each image."""
    by_image = cells(pair, looks, p)
    return plots.explore(
        {
            f"times {scale:g}": [rows[place] for rows in by_image]
            for place, scale in enumerate(settings.scales)
        },
        "scale",
        start=f"times {max(settings.scales):g}",
        row_titles=[pair[0].class_name(index) for index in range(len(by_image))],
        column_titles=["image", *(subject.name for subject in pair)],
        caption=CAPTION.format(PLACES[p]),
    )


def cells(
    pair: Sequence[Subject], looks: Sequence[Measurements], p: int
) -> list[list[list[plots.Cell | None]]]:
    """Of each image, at each scale: the image scaled at one place, and each model's map."""

    def at_scale(index: int, place: int) -> list[plots.Cell | None]:
        row: list[plots.Cell | None] = [plots.image(looks[0]["images"][index, p, place])]
        for subject, seen in zip(pair, looks, strict=True):
            probabilities = np.asarray(jax.nn.softmax(seen["logits"][index, p, place]))
            title = photographs.likeliest(subject.classifier, probabilities)
            saliency_map = np.abs(seen["gradients"][index, p, place]).max(-1)
            row.append(plots.layers(seen["images"][index, p, place], saliency_map, title))
        return row

    count, _, num_scales = looks[0]["images"].shape[:3]
    return [[at_scale(index, place) for place in range(num_scales)] for index in range(count)]


if __name__ == "__main__":
    main.from_command_line()
