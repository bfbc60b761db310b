"""What becomes of a saliency map when the model's input is multiplied by 0.01 to 1?

  python experiments/input_scale.py
  python experiments/input_scale.py --scales 0.05 1 --count 200

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

All 1,000 validation images under the bundled standard and robust ResNet, at seven scales in two
ways: 32,000 gradients, 4 minutes on two processor cores. Interrupted, the same command continues.

Measured on them: of the map at 1 little is left at 0.05. The correlation with it is 0.15 before and
0.14 after normalization under the standard model, less than with another image's map (0.17 and
0.16), and 0.03 and 0.18 under the robust one (another's -0.01 and 0.13); at 0.5 it is 0.54 to 0.61.
Up to 0.05 the answer is one class for nearly all images, with 5 % of the twenty classes' images
right, so that the map explains a class which the model no longer sees; darkened images get that
answer with confidence, 0.47 under the robust model. Still, moderately scaled inputs give the more
pleasing maps: at 0.2 the robust model's absolute cosine with the image is 0.26 before and 0.27
after normalization (another image's 0.06 and 0.05), against 0.07 at 1, while only 5 % and 12 % of
the answers are right. So a scale chosen for a picture's looks shows another part of the function
than the one that classifies.

The run's folder then holds `curves.png` (everything measured, over the scale), `before.png` and
`after.png` (inputs and maps at every scale, the scaling being before or after normalization),
`measurements-MODEL.npz`, `config.json` and `index.html`, which shows it all.
"""

import dataclasses
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
from comparison import Work
from matplotlib.figure import Figure

from saliency_jax import attribution, metrics, plots, report, scores, sweep

PLACES = ("before", "after")
CELL_WIDTH = 128
HOW_TO_READ = (
    f"{labelled_images.HOW_TO_READ} Before and after: where the input is scaled, before "
    "normalization, towards black, or after it, towards the mean colour. Correlation and SSIM are "
    "those with the map at scale 1; their control is another image's map at scale 1. Confidence: "
    "the probability of the likeliest class."
)


@dataclasses.dataclass(frozen=True)
class Settings(labelled_images.Settings):
    scales: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    """What the input is multiplied by."""
    shown: int = 3
    """How many of the images are shown."""
    batch_size: int = 5
    """Images measured at once, each at all scales; those finished are kept when interrupted."""


class Scaled(NamedTuple):
    """An image at p places of scaling and s scales, and what the model makes of it.

    Attributes:
      images: (p, s, h, w, c).
      logits: (p, s, k).
      gradients: (p, s, h, w, c), of the explained logit with respect to the scaled image.
    """

    images: Any
    logits: Any
    gradients: Any


class Measurements(NamedTuple):
    """What is measured at p places of scaling and s scales.

    Attributes:
      correlation: (p, s, 2), of the map with that at scale 1, and with another image's.
      similarity: (p, s, 2), likewise.
      correct: (p, s), whether the model names the class.
      unchanged: (p, s), whether its answer is that to the image itself.
      confidence: (p, s), the probability of its answer.
      share: (p, s), the saliency's share inside the box.
      cosine: (p, s, 2), of the gradient and the centred image without its sign, and another.
    """

    correlation: Any
    similarity: Any
    correct: Any
    unchanged: Any
    confidence: Any
    share: Any
    cosine: Any


def main(settings: Settings) -> None:
    labelled_images.check(settings)
    scales = np.array(settings.scales, np.float32)
    if not len(scales) or not np.isfinite(scales).all() or scales.min() <= 0 or scales.max() > 1:
        raise ValueError(
            f"expected --scales above 0 and at most 1, got {' '.join(map(str, settings.scales))}"
        )
    with report.RunFolder(settings.output, "input_scale") as run:
        run.save_config(settings)
        both = classifiers.load(settings.model)
        examples = [labelled_images.read(settings, classifier) for classifier in both]
        with comparison.working(run, settings, 2 * len(examples[0]["number"])) as work:
            measured = [
                measure_all(classifier, of, scales, work)
                for classifier, of in zip(both, examples, strict=True)
            ]
        for classifier, measurements in zip(both, measured, strict=True):
            run.save_arrays(
                f"measurements-{classifier.file_name}", **measurements._asdict(), scales=scales
            )
        names = [classifier.name for classifier in both]
        tables = {
            title: tabulate(names, [values(of) for of in measured], scales)
            for title, values in VALUES.items()
        }
        figures = draw_examples(settings, both, examples, scales)
        sections = [
            report.Section(
                "Over the scale",
                "Bands are the 95 % bootstrap intervals over the images.",
                [run.save_figure("curves", draw_curves(both, measured, scales))],
            ),
            *(report.Section(title, HOW_TO_READ, table=table) for title, table in tables.items()),
            *(
                report.Section(
                    f"Scaled {place} normalization", figures=[run.save_figure(place, of)]
                )
                for place, of in zip(PLACES, figures, strict=True)
            ),
        ]
        run.save_page("The scale of the input", sections, __doc__.partition("\n")[0])
    text = "\n\n".join(f"{title}\n{table}" for title, table in tables.items())
    labelled_images.finish(run, text, HOW_TO_READ)


def scaled(model, image, label, scales):
    """The model's answers to an image that is scaled towards black and towards the mean colour."""

    def at(origin, scale):
        moved = origin + scale * (image - origin)
        gradient = attribution.input_gradient(scores.logit(model, label), moved)
        return Scaled(moved, model(moved), gradient)

    # The normalized image is (image - mean) / std, whose zero is the mean colour.
    mean = jnp.asarray(model.mean, image.dtype)
    origins = jnp.stack([jnp.zeros_like(image), jnp.broadcast_to(mean, image.shape)])
    return jax.vmap(jax.vmap(at, (None, 0)), (0, None))(origins, scales)


def look(shared, *, example):
    """What is shown of one example."""
    model, scales = shared
    return scaled(model, example["images"][0], example["labels"][0], scales)


def measure(shared, *, example):
    """What is measured of one example at every scale."""
    model, scales = shared
    (image, another), (label, other_label) = example["images"], example["labels"]
    answer = jnp.argmax(model(image))
    references = jnp.stack(
        [
            attribution.saliency(scores.logit(model, label), image),
            attribution.saliency(scores.logit(model, other_label), another),
        ]
    )
    _, height, width = references.shape
    inside = metrics.box_mask(example["boxes"][0], (height, width))

    def of_one(one):
        saliency_map = attribution.max_abs(one.gradients)

        def beside(reference, image):
            return (
                metrics.spearman_correlation(saliency_map, reference),
                metrics.structural_similarity(drawn(saliency_map), drawn(reference)),
                metrics.gradient_alignment(one.gradients, image),
            )

        correlation, similarity, cosine = jax.vmap(beside)(references, example["images"])
        likeliest = jnp.argmax(one.logits)
        return Measurements(
            correlation,
            similarity,
            (likeliest == label).astype(float),
            (likeliest == answer).astype(float),
            jax.nn.softmax(one.logits).max(),
            metrics.relevance_mass_accuracy(saliency_map, inside),
            cosine,
        )

    return jax.vmap(jax.vmap(of_one))(scaled(model, image, label, scales))


def drawn(saliency_map):
    """The map in [0, 1], as figures show it; of a map of zeros nan."""
    return jnp.minimum(saliency_map / jnp.percentile(saliency_map, plots.PERCENTILE), 1)


def measure_all(
    classifier: Classifier,
    examples: Mapping[str, np.ndarray],
    scales: np.ndarray,
    work: Work,
) -> Measurements:
    """The measurements of all examples, with a leading axis."""
    axes = {"example": examples}
    measurements, _ = comparison.timed_sweep(
        work, classifier, "measurements", measure, axes, (classifier.model, scales)
    )
    return measurements


def of_maps(measured: Measurements) -> dict[str, np.ndarray]:
    """What is reported of the maps: (n, p, s) by name."""
    return {
        "correlation": measured.correlation[..., 0],
        "correlation, control": measured.correlation[..., 1],
        "SSIM": measured.similarity[..., 0],
        "SSIM, control": measured.similarity[..., 1],
        "share in the box": measured.share,
    }


def of_answers(measured: Measurements) -> dict[str, np.ndarray]:
    """What is reported of the model's answers and of its gradients: (n, p, s) by name."""
    return {
        "accuracy": measured.correct,
        "same answer": measured.unchanged,
        "confidence": measured.confidence,
        "|cosine|": measured.cosine[..., 0],
        "|cosine|, control": measured.cosine[..., 1],
    }


VALUES = {"The maps": of_maps, "The answers and the gradients": of_answers}


def tabulate(
    names: Sequence[str], of_models: Sequence[Mapping[str, np.ndarray]], scales: np.ndarray
) -> report.Table:
    """A row for each model, place and scale."""
    rows = []
    for name, named in zip(names, of_models, strict=True):
        for p, place in enumerate(PLACES):
            for s, scale in enumerate(scales):
                columns = [of[:, p, s] for of in named.values()]
                cells = [labelled_images.cell(column[np.isfinite(column)]) for column in columns]
                rows.append([name, place, f"{scale:g}", *cells])
    return report.Table(["model", "scaled", "by", *of_models[0]], rows)


def draw_curves(
    both: Sequence[Classifier], measured: Sequence[Measurements], scales: np.ndarray
) -> Figure:
    """A panel for each quantity, with a line for each model and place of scaling."""
    panels: dict[str, list[plots.Curve]] = {}
    for classifier, measurements in zip(both, measured, strict=True):
        for name, of in (of_maps(measurements) | of_answers(measurements)).items():
            panels.setdefault(name, []).extend(
                labelled_images.curve(f"{classifier.name}, {place}", scales, list(of[:, p].T))
                for p, place in enumerate(PLACES)
            )
    return plots.curves(panels, "scale", log_base=10)


def draw_examples(
    settings: Settings,
    both: Sequence[Classifier],
    examples: Sequence[Mapping[str, np.ndarray]],
    scales: np.ndarray,
) -> list[Figure]:
    """For each place of scaling the first images at all scales, with both models' maps."""
    looks = [
        sweep(
            look,
            {"example": labelled_images.first(of, settings.shown)},
            shared=(classifier.model, scales),
            batch_size=settings.batch_size,
        )
        for classifier, of in zip(both, examples, strict=True)
    ]
    labels = examples[0]["labels"][:, 0]
    return [_draw_place(both, looks, labels, scales, p) for p in range(len(PLACES))]


def _draw_place(
    both: Sequence[Classifier],
    looks: Sequence[Scaled],
    labels: np.ndarray,
    scales: np.ndarray,
    place: int,
) -> Figure:
    rows: list[list[plots.Cell | None]] = []
    row_titles = []
    for index in range(len(looks[0].images)):
        rows.append([plots.image(image) for image in looks[0].images[index, place]])
        row_titles.append(both[0].class_names[labels[index]])
        for classifier, look in zip(both, looks, strict=True):
            row: list[plots.Cell | None] = []
            for logits, gradient in zip(
                look.logits[index, place], look.gradients[index, place], strict=True
            ):
                probabilities = np.asarray(jax.nn.softmax(logits))
                likeliest = probabilities.argmax()
                name = classifier.class_names[likeliest]
                title = f"{name} {plots.percent(probabilities[likeliest])}"
                row.append(methods.draw("saliency", np.abs(gradient).max(-1), title))
            rows.append(row)
            row_titles.append(classifier.name)
    return plots.grid(
        rows,
        row_titles=row_titles,
        column_titles=[f"times {scale:g}" for scale in scales],
        caption=f"The input scaled {PLACES[place]} normalization, and each model's saliency map of "
        "the class that is written beside the image. Above the maps: the model's likeliest class. "
        "Below: the value of the brightest colour, which 99 % of the map's pixels do not exceed.",
        cell_width=CELL_WIDTH,
    )


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
