"""How far does a saliency map depend on the label that it explains?

  python experiments/labels.py
  python experiments/labels.py --images ./photographs
  pair="--dataset tiny_imagenet/paper20 --model tiny-imagenet-standard tiny-imagenet-robust"
  python experiments/labels.py $pair --batch-size 20

For every image the maps of its own class, of the runner-up and the third (the two likeliest of the
other classes) and of several other classes, drawn at random, all in one call mapped over the
labels, which share the pass forward. Compared with the correct label's map are those of the others,
by Spearman's correlation of the saliency maps' pixels and by the cosine of the gradients, which has
a sign; the incorrect ones are compared with each other too. As a control, the label is kept and the
image is changed: the map of another image for the same class. The label's part is what is left of
the maps, each scaled to length 1, when their mean over the labels is taken off: 0 if all were
equal, in units of their square.

The photographs are files, or folders of files in folders named by WordNet ids, and the model is
EfficientNet-Lite0; without any the ten windows of a cat and a cup of coffee that need no download.
The last command is of all 1,000 validation images under the bundled standard and robust ResNet,
seven labels and a control each: 16,000 gradients, 3 minutes on two processor cores while other work
ran beside. Interrupted, the same command continues.

Of 203 photographs of ImageNet, each of another class, under Lite0, in 4 minutes while other work
ran beside: the runner-up's map correlates with the correct label's by 0.54 [0.52, 0.56], the
third's by 0.51, an incorrect one's by 0.46 [0.44, 0.47], and another image's for the same label by
0.06. The gradients of the likely labels agree in sign too: their cosine is 0.34 [0.30, 0.38] for
the runner-up, 0.27 for the third, and -0.02 for an incorrect label. So among a thousand classes
those that are confused with the correct one rest on much the same evidence; among the twenty of
Tiny-ImageNet, below, the likely label's gradient is opposed to the correct one's, or nearly
orthogonal. The label's part is 24.5 %.

Measured on Tiny-ImageNet: a map depends on its label, but more on its image. The map of an
incorrect label correlates with that of the correct one by 0.48 under the standard and 0.43 under
the robust model, the runner-up's by 0.53 and 0.47, and another image's map for the same label by
0.19 and 0.17. The gradients themselves are nearly orthogonal, with a cosine of -0.04 and -0.07 for
an incorrect label: the labels look at the same places and want something else there. Only the
standard model's gradients of the runner-up and the third are opposed to the correct label's (-0.24
and -0.14). Of the squares of the maps the label's part is 20 % and 17 %. So an incorrect label's
map lies on the object nearly as well as the correct one's, with shares in the box of 0.577 against
0.591 and 0.596 against 0.611, and a map on the object is no sign that the model sees the class
there.

The run's folder then holds `examples.png` (maps of the labels, and their differences from the
correct one's), `measurements-MODEL.npz`, `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from lab import examples, frame, photographs, tables
from lab.examples import Measurements, Subject
from lab.frame import Count, Run
from matplotlib.figure import Figure

from saliency_jax import attribution, metrics, scores
from saliency_jax.runs import Section, plots

CORRECT, RUNNER_UP, THIRD, INCORRECT = 0, 1, 2, 3
# Incorrect labels in the figure.
SHOWN_INCORRECT = 2
SMALL_CELL_WIDTH = 128
CAPTION = (
    "Saliency maps of the class that is written above them, with its probability. Black is 0; "
    "below: the value of the brightest colour, which 99 % of the map's pixels do not exceed. In "
    "the differences each map is first divided by its mean: red where the correct label's is "
    "stronger, blue where it is weaker, white where they are equal."
)
# By the image and the model; see `look`.
Shown = Sequence[Sequence[Sequence[plots.Cell | None]]]
HOW_TO_READ = (
    f"{examples.HOW_TO_READ} Correlation: Spearman's, of the saliency maps of two labels. "
    "Cosine: of the two gradients. The control keeps the label and changes the image. Label's "
    "part: of the squares of the labels' maps, what their mean does not explain."
)


@dataclasses.dataclass(frozen=True)
class Settings(examples.Settings):
    incorrect: Count = 4
    """How many labels beside the correct one and the two likeliest others."""
    shown: Count = 4
    """How many of the images are shown."""


@frame.experiment("The label's part in a map")
def main(settings: Settings, run: Run) -> list[Section]:
    pair = examples.subjects(settings)
    for subject in pair:
        others = subject.classifier.num_classes - INCORRECT
        if settings.incorrect > others:
            raise ValueError(
                f"expected --incorrect to be at most {others}, as {subject.name} knows "
                f"{others + INCORRECT} classes, got {settings.incorrect}"
            )
    function = functools.partial(measure, num_incorrect=settings.incorrect)
    measured = examples.measure(run, settings, pair, function)
    table = tables.paired([subject.name for subject in pair], map(values, measured))
    shown = look(settings, pair)
    run.save_figure("examples", draw_examples(pair, shown, photographs.CELL_WIDTH))
    return [
        Section("The first images", views=[explore(pair, shown)]),
        Section("Measured", HOW_TO_READ, table=table),
    ]


def explained(network, *, example, num_incorrect):
    """Labels (l,), their probabilities, and their logits' gradients (l, h, w, c), from one call.

    The labels are the correct one, the runner-up, the third, and incorrect ones.
    """
    image, label = example["images"][0], example["labels"][0]
    logits = network(image)
    classes = jnp.arange(logits.size)
    _, likely = jax.lax.top_k(jnp.where(classes == label, -jnp.inf, logits), INCORRECT - RUNNER_UP)
    # By the image's number alone: models that number classes alike have the same ones.
    drawn = jax.random.uniform(
        jax.random.fold_in(jax.random.key(0), example["number"]), (logits.size,)
    )
    taken = (classes == label) | jnp.isin(classes, likely)
    _, incorrect = jax.lax.top_k(jnp.where(taken, -1.0, drawn), num_incorrect)
    labels = jnp.concatenate([jnp.atleast_1d(label), likely, incorrect])

    def gradient(label):
        return attribution.input_gradient(scores.logit(network, label), image)

    return {
        "labels": labels,
        "probabilities": jax.nn.softmax(logits)[labels],
        "gradients": jax.vmap(gradient)(labels),
    }


def measure(network, *, example, num_incorrect):
    """What is measured of one example: of single labels (l,), and of pairs of them (l, l)."""
    made = explained(network, example=example, num_incorrect=num_incorrect)
    gradients = made.pop("gradients")
    maps = jax.vmap(attribution.max_abs)(gradients)
    score = scores.logit(network, made["labels"][CORRECT])
    other_gradient = attribution.input_gradient(score, example["images"][1])
    other_map = attribution.max_abs(other_gradient)
    if "boxes" in example:
        inside = metrics.box_mask(example["boxes"][0], example["images"].shape[1:3])
        made["share"] = jax.vmap(metrics.relevance_mass_accuracy, (0, None))(maps, inside)
    return made | {
        "correlation": _of_pairs(metrics.spearman_correlation)(maps, maps),
        "control_correlation": metrics.spearman_correlation(maps[CORRECT], other_map),
        "cosine": _of_pairs(cosine)(gradients, gradients),
        "control_cosine": cosine(gradients[CORRECT], other_gradient),
        "label_part": label_part(maps),
    }


def _of_pairs(function):
    return jax.vmap(jax.vmap(function, (None, 0)), (0, None))


def cosine(first, second):
    """The cosine of two gradients; of one that is 0 it is nan."""
    return jnp.sum(first / jnp.linalg.norm(first) * (second / jnp.linalg.norm(second)))


def label_part(saliency_maps):
    """Of the squares of maps (l, h, w), each scaled to length 1, what their mean leaves."""
    lengths = jnp.linalg.norm(saliency_maps.reshape(len(saliency_maps), -1), axis=1)
    mean = jnp.mean(saliency_maps / lengths[:, None, None], axis=0)
    return 1 - jnp.sum(mean**2)


def values(measured: Measurements) -> dict[str, np.ndarray]:
    """All that is reported: (n,) by name."""
    incorrect = range(INCORRECT, measured["labels"].shape[1])
    pairs = np.array(list(itertools.combinations(incorrect, 2)), int).reshape(-1, 2)
    named = {}
    for name in ("correlation", "cosine"):
        likeness = measured[name]
        named[f"{name}, correct and runner-up"] = likeness[:, CORRECT, RUNNER_UP]
        named[f"{name}, correct and third"] = likeness[:, CORRECT, THIRD]
        named[f"{name}, correct and incorrect"] = likeness[:, CORRECT, INCORRECT:].mean(1)
        if len(pairs):
            named[f"{name}, two incorrect"] = likeness[:, pairs[:, 0], pairs[:, 1]].mean(1)
        named[f"{name}, control"] = measured[f"control_{name}"]
    named["label's part"] = measured["label_part"]
    if "share" in measured:
        share = measured["share"]
        incorrect_share = share[:, INCORRECT:].mean(1)
        named |= {
            "share in the box, correct": share[:, CORRECT],
            "share in the box, runner-up": share[:, RUNNER_UP],
            "share in the box, incorrect": incorrect_share,
            "share in the box, correct - incorrect": share[:, CORRECT] - incorrect_share,
        }
    return {
        "probability, correct": measured["probabilities"][:, CORRECT],
        "probability, runner-up": measured["probabilities"][:, RUNNER_UP],
        "probability, third": measured["probabilities"][:, THIRD],
        **named,
    }


def look(settings: Settings, pair: Sequence[Subject]) -> Shown:
    """Of each of the first images and each model the image, its labels' maps, their differences."""
    function = functools.partial(explained, num_incorrect=settings.incorrect)
    looks = examples.look(settings, pair, function)
    num_labels = INCORRECT + min(SHOWN_INCORRECT, settings.incorrect)
    return [
        [_row(subject, look, index, num_labels) for subject, look in zip(pair, looks, strict=True)]
        for index in range(len(looks[0]["labels"]))
    ]


def label_names(shown: Shown) -> list[str]:
    """The names of the labels whose maps are shown."""
    num_incorrect = len(shown[0][0]) // 2 - INCORRECT
    incorrect = (f"incorrect label {number + 1}" for number in range(num_incorrect))
    return ["correct label", "runner-up", "third", *incorrect]


def draw_examples(
    pair: Sequence[Subject], shown: Shown, cell_width: int = SMALL_CELL_WIDTH
) -> Figure:
    """For each of the first images a row of maps and their differences for each model."""
    names = label_names(shown)
    return plots.grid(
        [row for rows in shown for row in rows],
        row_titles=[subject.name for subject in pair] * len(shown),
        column_titles=["image", *names, *(f"correct less {name}" for name in names[RUNNER_UP:])],
        caption=CAPTION,
        cell_width=cell_width,
    )


def explore(pair: Sequence[Subject], shown: Shown) -> plots.View:
    """The same under a slider along the labels: a row for each image."""
    names = label_names(shown)

    def cells(rows: Sequence[Sequence[plots.Cell | None]], place: int) -> list[plots.Cell | None]:
        maps = [row[1 + place] for row in rows]
        differences = [row[len(names) + place] if place else None for row in rows]
        return [rows[0][0], *maps, *differences]

    titles = [subject.name for subject in pair]
    return plots.explore(
        {name: [cells(rows, place) for rows in shown] for place, name in enumerate(names)},
        "label",
        column_titles=["image", *titles, *(f"correct less this, {title}" for title in titles)],
        caption=CAPTION,
    )


def _row(
    subject: Subject, look: Measurements, index: int, num_labels: int
) -> list[plots.Cell | None]:
    image = subject.examples["images"][index, 0]
    maps = np.abs(look["gradients"][index, :num_labels]).max(-1)
    titles = [
        f"{subject.classifier.class_names[label]} {plots.percent(probability)}"
        for label, probability in zip(
            look["labels"][index], look["probabilities"][index], strict=True
        )
    ]
    means = maps.mean((1, 2), keepdims=True)
    relative = maps / np.where(means > 0, means, 1)
    return [
        plots.image(image, subject.class_name(index)),
        *(plots.layers(image, *each) for each in zip(maps, titles, strict=False)),
        *(plots.signed_map(relative[CORRECT] - other) for other in relative[RUNNER_UP:]),
    ]


if __name__ == "__main__":
    main.from_command_line()
