"""Which rule shows what, and which channels of the network speak for the class?

  python experiments/relevance.py
  python experiments/relevance.py --images ./compass.jpg --label "magnetic compass"
  python experiments/relevance.py --model tiny-imagenet-robust --layer "stage 3" --channels 8

Photographs, the cat and the cup of coffee that scikit-image carries if none are named, explained by
the backward rules of `saliency_jax.rules`: the gradient times the image, guided backpropagation,
layer-wise relevance propagation by its composites, and DeepLIFT from black by either of its rules;
of EfficientNet-Lite0's likeliest class if none is named. With every composite how much of the score
arrives at the image, and how much stays with biases on the way.

Then the channels that most of the relevance passes through at a layer, by the composite
epsilon-gamma-box: of each the picture that excites it most (feature visualization), and the
relevance that passes through it (concept relevance propagation, Achtibat et al. 2023,
arXiv:2206.03208).

The two photographs under EfficientNet-Lite0 take 7 minutes of a processor's time, most of it for
compiling, and took 23 on two cores that much else ran on. Interrupted, the same command continues.

Seen, on two photographs: epsilon-gamma-box draws the cat's eyes, nose, mouth and whiskers and the
cup's rim with the coffee, with hardly a blue pixel; epsilon-plus, epsilon-plus-flat, deep Taylor
and excitation show the same places with the lattice of the network's strides in them. Epsilon, like
input x gradient and DeepLIFT, is fine noise of both signs where the thing is; RevealCancel finds
the cat's whiskers and nose, and the saucer's and the spoon's edges too. Guided backpropagation
draws edges, of the spoon as well as of the cup, and DeconvNet the lattice alone, the same for both:
its rectifiers hand on what the image never let through. What arrives at the image is little: of the
cat's 9.25, 0.39 by the z+ rules and 0.06 by epsilon-gamma-box, -1.41 by epsilon; the constants,
batch normalizations' above all, have the rest. So these maps say where, and not how much.

Of the last layer's 1280 channels the first has 4 % of what speaks for the class. Some are of one
thing: the third of the espresso's finds the spoon and the cup's handle, the fourth the rim and the
saucer's edge; the cat's all find the eyes. Their pictures, by the recipe `smooth` of the classes'
pictures, are textures that only in part can be named: an eye in the cat's fourth, fans of fur or
feathers in its first, bright metal in the espresso's first.

The run's folder then holds `rules-MODEL.png`, `channels-MODEL.png`, `relevance-MODEL.npz` (images,
labels, maps, channels and their pictures), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from lab import channels, frame, loading, methods, photographs
from lab.channels import Channels
from lab.frame import Count, Run, Seed
from lab.photographs import SCORES, Photograph

from saliency_jax import attribution, rules
from saliency_jax.models import Classifier
from saliency_jax.runs import Section, Table, plots

CELL_WIDTH = 192
OF_CHANNELS = "epsilon-gamma-box"
COMPOSITES: Mapping[str, rules.Composite] = {
    "epsilon": rules.epsilon_everywhere(),
    "epsilon-plus": rules.epsilon_plus(),
    "epsilon-plus-flat": rules.epsilon_plus_flat(),
    "epsilon-alpha-beta": rules.epsilon_alpha_beta(),
    OF_CHANNELS: channels.COMPOSITE,
    "deep Taylor": rules.deep_taylor(0.0, 1.0),
    "excitation": rules.excitation_backpropagation,
}
OTHERS: Mapping[str, Callable] = {
    "input x gradient": attribution.input_x_gradient,
    "guided backpropagation": rules.guided_backprop,
    "DeconvNet": rules.deconvnet,
    "DeepLIFT": rules.deep_lift,
    "DeepLIFT, RevealCancel": functools.partial(rules.deep_lift, rule=rules.reveal_cancel),
}
METHODS: Mapping[str, Callable] = {
    **OTHERS,
    **{
        name: functools.partial(rules.lrp, composite=composite)
        for name, composite in COMPOSITES.items()
    },
}
HOW_TO_READ = (
    "Of each composite what arrives at the image, added up over its pixels, and what stays on the "
    "way, with the constants of operations, which biases are, and with what a rule leaves out: the "
    "two make the score. Below the maps: the value of the last colour."
)


@dataclasses.dataclass(frozen=True)
class Settings(photographs.Settings):
    layer: str | None = None
    """Whose channels are ranked, by its name; the deepest that makes a map of at least 7x7 cells if
    none."""
    channels: Count = 5
    """How many of them are shown, those that most relevance passes through first."""
    seed: Seed = 0
    """Of the channels' pictures."""


@frame.experiment("Relevance, rule by rule and channel by channel")
def main(settings: Settings, run: Run) -> list[Section]:
    classifiers = loading.load(settings.model)
    shown = photographs.from_files(settings.images)
    labels = settings.labels(classifiers)
    run.expect(len(classifiers) * len(shown) * (1 + len(METHODS) + settings.channels), "map")
    rows: list[Sequence[Any]] = []
    views, of_channels = [], []
    for classifier, label in zip(classifiers, labels, strict=True):
        layer = layer_of(classifier, settings)
        images = np.stack([classifier.preprocess(each.image, size=settings.size) for each in shown])
        example = {"image": images, "label": np.full(len(images), -1 if label is None else label)}
        maps = {}
        for name in METHODS:
            (asked, maps[name], value), _ = run.sweep(
                classifier,
                name,
                functools.partial(explain, name=name, score=settings.score),
                {"example": example},
                shared=classifier.network,
                batch_size=1,
            )
        found, _ = run.sweep(
            classifier,
            "channels",
            functools.partial(
                channels.rank, score=settings.score, layer=layer, count=settings.channels
            ),
            {"example": {"image": images, "label": asked}},
            shared=classifier.network,
            batch_size=1,
        )
        of_images = Channels(*found)
        wanted = np.unique(of_images.numbers)
        pictures, _ = run.sweep(
            classifier,
            "pictures",
            functools.partial(
                channels.picture, layer=layer, seed=settings.seed, shape=images.shape[1:]
            ),
            {"channel": wanted.astype(np.int32)},
            shared=classifier.network,
            batch_size=1,
        )
        run.save_arrays(
            f"relevance-{classifier.file_name}",
            images=images,
            labels=asked,
            pictured=wanted,
            pictures=pictures,
            **of_images._asdict(),
            **{name.replace(" ", "-"): values for name, values in maps.items()},
        )
        names = [classifier.class_names[number] for number in asked]
        view = draw(classifier, shown, images, names, maps)
        views.append(run.save_view(f"rules-{classifier.file_name}", view))
        by_channel = dict(zip(wanted, pictures, strict=True))
        view = draw_channels(classifier, images, names, layer, of_images, by_channel)
        of_channels.append(run.save_view(f"channels-{classifier.file_name}", view))
        rows += [
            [classifier.name, each.title, class_name, name, *(f"{part:.2f}" for part in parts)]
            for index, (each, class_name) in enumerate(zip(shown, names, strict=True))
            for name in COMPOSITES
            for arrived in [maps[name][index].sum()]
            for parts in [(value[index], arrived, value[index] - arrived)]
        ]
    header = ("model", "photograph", "class", "composite", "score", "at the image", "on the way")
    return [
        Section(
            "Rules",
            f"{HOW_TO_READ} {methods.SIGNED_COLORS}",
            table=Table(header, rows),
            views=views,
        ),
        Section(
            "Channels",
            f"The channels that most of the relevance passes through, by {OF_CHANNELS}.",
            views=of_channels,
        ),
    ]


def layer_of(classifier: Classifier, settings: Settings) -> str:
    """The name of the layer whose channels are ranked."""
    network: Any = classifier.network
    if settings.layer is not None:
        network.layer(settings.layer)
        return settings.layer
    sides = settings.size or classifier.input.size
    height, width = (sides, sides) if isinstance(sides, int) else sides
    image = jax.ShapeDtypeStruct((height, width, classifier.input.channels), jnp.float32)
    return methods.finer_map_name(network, image)


def explain(network, *, example, name, score):
    """The label, a method's map (h, w), and the score."""
    image = example["image"]
    label = jnp.where(example["label"] < 0, jnp.argmax(network(image)), example["label"])
    explained = SCORES[score](network, label)
    return label, METHODS[name](explained, image).sum(-1), explained(image)


def draw(
    classifier: Classifier,
    shown: Sequence[Photograph],
    images: np.ndarray,
    names: Sequence[str],
    maps: Mapping[str, np.ndarray],
) -> plots.View:
    """A row of maps for each photograph."""
    rows = []
    for index, each in enumerate(shown):
        cells: list[Any] = [plots.image(images[index], each.title, names[index])]
        cells += [
            plots.layers(images[index], maps[name][index], draw=plots.signed_map)
            for name in METHODS
        ]
        half = -(-len(cells) // 2)
        titles = ["", *METHODS]
        cells = [
            dataclasses.replace(cell, title=cell.title or title)
            for cell, title in zip(cells, titles, strict=True)
        ]
        rows += [cells[:half], cells[half:]]
    return plots.explore(
        rows,
        caption=f"{classifier.name}: the class below the photograph is explained. "
        f"{methods.SIGNED_COLORS} {methods.LAST_COLOR}",
        cell_width=CELL_WIDTH,
    )


def draw_channels(
    classifier: Classifier,
    images: np.ndarray,
    names: Sequence[str],
    layer: str,
    found: Channels,
    pictures: Mapping[int, np.ndarray],
) -> plots.View:
    """Of each photograph two rows: what its channels look for, and where they find it."""
    rows: list[list[plots.Cell | None]] = []
    for image, name, numbers, shares, maps in zip(images, names, *found, strict=True):
        rows.append(
            [
                plots.image(image, name),
                *(
                    plots.image(pictures[number], f"channel {number}", plots.percent(share))
                    for number, share in zip(numbers, shares, strict=True)
                ),
            ]
        )
        drawn = (plots.layers(image, one, draw=plots.signed_map) for one in maps)
        rows.append([None, *drawn])
    return plots.explore(
        rows,
        caption=f"{classifier.name}, {layer}. Above: the picture that excites a channel most, and "
        "below it the channel's share of all that speaks for the class. Below: the relevance that "
        f"passes through the channel. {methods.SIGNED_COLORS} {methods.LAST_COLOR}",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    main.from_command_line()
