"""How far does a saliency map depend on the label that it explains?

  python experiments/labels.py
  python experiments/labels.py --incorrect 8 --count 200

For every image the maps of its own class, of the runner-up (the likeliest of the other classes) and
of several other classes, drawn at random, all in one call mapped over the labels, which share the
pass forward. Compared with the correct label's map are those of the others, by Spearman's
correlation of the saliency maps' pixels and by the cosine of the gradients, which has a sign; the
incorrect ones are compared with each other too. As a control, the label is kept and the image is
changed: the map of another image for the same class. The label's part is what is left of the maps,
each scaled to length 1, when their mean over the labels is taken off: 0 if all were equal, in units
of their square.

All 1,000 validation images under the bundled standard and robust ResNet, six labels and a control
each: 14,000 gradients, a minute on two processor cores. Interrupted, the same command continues.

Measured on them: a map depends on its label, but more on its image. The map of an incorrect label
correlates with that of the correct one by 0.49 under the standard and 0.44 under the robust model,
the runner-up's by 0.53 and 0.47, and another image's map for the same label by 0.19 and 0.17. The
gradients themselves are nearly orthogonal, with a cosine of -0.05 and -0.07 for an incorrect label:
the labels look at the same places and want something else there. Only the standard model's gradient
of the runner-up is opposed to the correct label's (-0.24). Of the squares of the maps the label's
part is 19 % and 17 %. So an incorrect label's map lies on the object nearly as well as the correct
one's, with shares in the box of 0.577 against 0.591 and 0.597 against 0.611, and a map on the
object is no sign that the model sees the class there.

The run's folder then holds `examples.png` (maps of the labels, and their differences from the
correct one's), `measurements-MODEL.npz`, `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import classifiers
import command_line
import comparison
import jax
import jax.numpy as jnp
import labelled_images
import methods
import numpy as np
from classifiers import Classifier
from matplotlib.figure import Figure

from saliency_jax import attribution, metrics, plots, report, scores, sweep

CORRECT, RUNNER_UP, INCORRECT = 0, 1, 2
# Incorrect labels in the figure.
SHOWN_INCORRECT = 2
CELL_WIDTH = 128
HOW_TO_READ = (
    f"{labelled_images.HOW_TO_READ} Correlation: Spearman's, of the saliency maps of two labels. "
    "Cosine: of the two gradients. The control keeps the label and changes the image. Label's "
    "part: of the squares of the labels' maps, what their mean does not explain."
)


@dataclasses.dataclass(frozen=True)
class Settings(labelled_images.Settings):
    incorrect: int = 4
    """How many labels beside the correct one and the runner-up."""
    shown: int = 4
    """How many of the images are shown."""


class Explained(NamedTuple):
    """An image's gradients for l labels: the correct one, the runner-up, and others.

    Attributes:
      labels: (l,).
      probabilities: (l,), by the model.
      gradients: (l, h, w, c), of the labels' logits.
    """

    labels: Any
    probabilities: Any
    gradients: Any


class Measurements(NamedTuple):
    """What is measured of an image's maps for l labels.

    Attributes:
      labels: (l,).
      probabilities: (l,).
      correlation: (l, l), Spearman's, of the saliency maps.
      cosine: (l, l), of the gradients.
      control_correlation: of the correct label's map with another image's for the same label.
      control_cosine: likewise.
      share: (l,), the maps' shares inside the box.
      label_part: of the saliency maps.
    """

    labels: Any
    probabilities: Any
    correlation: Any
    cosine: Any
    control_correlation: Any
    control_cosine: Any
    share: Any
    label_part: Any


def main(settings: Settings) -> None:
    labelled_images.check(settings)
    if settings.incorrect < 1:
        raise ValueError(f"expected --incorrect to be at least 1, got {settings.incorrect}")
    with report.RunFolder(settings.output, "labels") as run:
        run.save_config(settings)
        both = classifiers.load(settings.model)
        for classifier in both:
            if settings.incorrect > len(classifier.class_names) - 2:
                raise ValueError(
                    f"expected --incorrect to be at most {len(classifier.class_names) - 2}, as "
                    f"{classifier.name} knows {len(classifier.class_names)} classes, got "
                    f"{settings.incorrect}"
                )
        examples = [labelled_images.read(settings, classifier) for classifier in both]
        function = functools.partial(measure, num_incorrect=settings.incorrect)
        with comparison.working(run, settings, 2 * len(examples[0]["number"])) as work:
            measured = [
                comparison.timed_sweep(
                    work, classifier, "measurements", function, {"example": of}, classifier.model
                )[0]
                for classifier, of in zip(both, examples, strict=True)
            ]
        for classifier, measurements in zip(both, measured, strict=True):
            run.save_arrays(f"measurements-{classifier.file_name}", **measurements._asdict())
        names = [classifier.name for classifier in both]
        table = labelled_images.tabulate(names, [values(of) for of in measured])
        sections = [
            report.Section("Measured", HOW_TO_READ, table=table),
            report.Section(
                "The first images",
                figures=[run.save_figure("examples", draw_examples(settings, both, examples))],
            ),
        ]
        run.save_page("The label's part in a map", sections, __doc__.partition("\n")[0])
    labelled_images.finish(run, table, HOW_TO_READ)


def explained(model, *, example, num_incorrect):
    """The gradients of an image's labels, from one mapped call."""
    image, label = example["images"][0], example["labels"][0]
    logits = model(image)
    classes = jnp.arange(logits.size)
    runner_up = jnp.argmax(jnp.where(classes == label, -jnp.inf, logits))
    # By the image's number alone: models that number classes alike have the same ones.
    drawn = jax.random.uniform(
        jax.random.fold_in(jax.random.key(0), example["number"]), (logits.size,)
    )
    taken = (classes == label) | (classes == runner_up)
    _, incorrect = jax.lax.top_k(jnp.where(taken, -1.0, drawn), num_incorrect)
    labels = jnp.concatenate([jnp.stack([label, runner_up]), incorrect])

    def gradient(of_class):
        return attribution.input_gradient(scores.logit(model, of_class), image)

    return Explained(labels, jax.nn.softmax(logits)[labels], jax.vmap(gradient)(labels))


def measure(model, *, example, num_incorrect):
    """What is measured of one example."""
    own = explained(model, example=example, num_incorrect=num_incorrect)
    saliency_maps = jax.vmap(attribution.max_abs)(own.gradients)
    score = scores.logit(model, own.labels[CORRECT])
    other_gradient = attribution.input_gradient(score, example["images"][1])
    _, height, width = saliency_maps.shape
    inside = metrics.box_mask(example["boxes"][0], (height, width))
    return Measurements(
        own.labels,
        own.probabilities,
        _of_pairs(metrics.spearman_correlation)(saliency_maps, saliency_maps),
        _of_pairs(cosine)(own.gradients, own.gradients),
        metrics.spearman_correlation(saliency_maps[CORRECT], attribution.max_abs(other_gradient)),
        cosine(own.gradients[CORRECT], other_gradient),
        jax.vmap(metrics.relevance_mass_accuracy, (0, None))(saliency_maps, inside),
        label_part(saliency_maps),
    )


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
    count = measured.labels.shape[1]
    first, second = np.triu_indices(count - INCORRECT, 1)
    pairs = (slice(None), first + INCORRECT, second + INCORRECT)
    named = {}
    for name, of_pairs, control in (
        ("correlation", measured.correlation, measured.control_correlation),
        ("cosine", measured.cosine, measured.control_cosine),
    ):
        named[f"{name}, correct and runner-up"] = of_pairs[:, CORRECT, RUNNER_UP]
        named[f"{name}, correct and incorrect"] = of_pairs[:, CORRECT, INCORRECT:].mean(1)
        if len(first):
            named[f"{name}, two incorrect"] = of_pairs[pairs].mean(1)
        named[f"{name}, control"] = control
    share = measured.share
    return {
        "probability, correct": measured.probabilities[:, CORRECT],
        "probability, runner-up": measured.probabilities[:, RUNNER_UP],
        **named,
        "label's part": measured.label_part,
        "share in the box, correct": share[:, CORRECT],
        "share in the box, runner-up": share[:, RUNNER_UP],
        "share in the box, incorrect": share[:, INCORRECT:].mean(1),
        "share in the box, correct - incorrect": share[:, CORRECT] - share[:, INCORRECT:].mean(1),
    }


def draw_examples(
    settings: Settings,
    both: Sequence[Classifier],
    examples: Sequence[Mapping[str, np.ndarray]],
) -> Figure:
    """For each of the first images a row of maps and their differences for each model."""
    num_incorrect = min(SHOWN_INCORRECT, settings.incorrect)
    function = functools.partial(explained, num_incorrect=settings.incorrect)
    looks = [
        sweep(
            function,
            {"example": labelled_images.first(of, settings.shown)},
            shared=classifier.model,
            batch_size=settings.batch_size,
        )
        for classifier, of in zip(both, examples, strict=True)
    ]
    rows: list[list[plots.Cell | None]] = []
    row_titles = []
    for index in range(len(looks[0].labels)):
        for classifier, look, of in zip(both, looks, examples, strict=True):
            rows.append(_row(classifier, look, of["images"][index, 0], index, num_incorrect))
            row_titles.append(classifier.name)
    incorrect = [f"incorrect label {number + 1}" for number in range(num_incorrect)]
    compared = ["runner-up", *incorrect]
    return plots.grid(
        rows,
        row_titles=row_titles,
        column_titles=[
            "image",
            "correct label",
            *compared,
            *(f"correct less {name}" for name in compared),
        ],
        caption="Saliency maps of the class that is written above them, with its probability. "
        "Black is 0; below: the value of the brightest colour, which 99 % of the map's pixels do "
        "not exceed. In the differences each map is first divided by its mean: red where the "
        "correct label's is stronger, blue where it is weaker, white where they are equal.",
        cell_width=CELL_WIDTH,
    )


def _row(
    classifier: Classifier, look: Explained, image: np.ndarray, index: int, num_incorrect: int
) -> list[plots.Cell | None]:
    saliency_maps = np.abs(look.gradients[index]).max(-1)[: INCORRECT + num_incorrect]
    names = [classifier.class_names[label] for label in look.labels[index]]
    titles = [
        f"{name} {plots.percent(probability)}"
        for name, probability in zip(names, look.probabilities[index], strict=True)
    ]
    means = saliency_maps.mean((1, 2), keepdims=True)
    relative = saliency_maps / np.where(means > 0, means, 1)
    return [
        plots.image(image, names[CORRECT]),
        *map(functools.partial(methods.draw, "saliency"), saliency_maps, titles),
        *(plots.signed_map(relative[CORRECT] - other) for other in relative[RUNNER_UP:]),
    ]


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
