"""How many steps does a class visualization need?

  python experiments/number_of_steps.py
  python experiments/number_of_steps.py --classes lemon goose --seeds 2 --steps 256

The default recipe, normalized steps of length 0.5 from normal noise about grey, each seeing the
image shifted, looked at after 1, 2, 4 ... 2048 steps: snapshots of one run.

All twenty classes from five seeds, under the bundled standard and robust ResNet: 410,000 gradient
steps, 20 minutes at the 345 a second that two processor cores make. Interrupted, the same command
continues.

Measured: the robust model's pictures need 64 steps. The other model recognizes 0.68 of them after
16, 0.91 after 32 and all from 64 on; later steps add contrast (total variation 0.14 at 64, 0.24 at
2048) and variety between the seeds (distance 0.17 and 0.41). The standard model is sure of its
pictures after 16 steps (0.99), when the robust one recognizes none above chance (0.05); that takes
128 steps and more, is best at 512, 0.77 [0.60, 0.92], and falls to 0.50 at 2048, where the pictures
are rougher than photographs. So a model's own probability does not say when to stop.

The run's folder then holds `curves.png` (everything measured, over the number of steps),
`steps.gif` (the pictures as they grow), `pictures-MODEL.png` and `pictures-MODEL.npz` (images and
what was measured of them), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Sequence

import command_line
import comparison
import jax
import numpy as np
from comparison import Side, Variant, Work
from matplotlib.figure import Figure

from saliency_jax import ascent, metrics, plots, report, scores


@dataclasses.dataclass(frozen=True)
class Settings(comparison.ClassSettings):
    steps: int = 2048
    """The most; pictures are kept at every power of two up to it."""


def main(settings: Settings) -> None:
    comparison.check(settings)
    counts = tuple(2**power for power in range(settings.steps.bit_length()))
    with report.RunFolder(settings.output, "number_of_steps") as run:
        run.save_config(settings)
        both = comparison.sides(settings)
        recipe = functools.partial(visualize, counts=counts)
        num_pictures = 2 * len(both[0].labels) * settings.seeds
        with comparison.working(run, settings, num_pictures) as work:
            results = [(side, variants(side, recipe, settings.seeds, work)) for side in both]
        sections = [
            report.Section(
                "Over the number of steps",
                "Bands are the 95 % bootstrap intervals; dashes are photographs.",
                [run.save_figure("curves", draw_curves(results))],
            ),
            report.Section(
                "As the pictures grow", figures=[run.save_animation("steps", frames(results))]
            ),
        ]
        measured = comparison.save(
            run, "The number of steps", __doc__.partition("\n")[0], results, sections
        )
    comparison.finish(run, measured)


def variants(side: Side, recipe: functools.partial, seeds: int, work: Work) -> list[Variant]:
    """One classifier's pictures after each number of steps."""
    axes = {"label": side.labels, "seed": np.arange(seeds)}
    pictures, seconds = comparison.timed_sweep(
        work, side.maker, "all steps", recipe, axes, side.models
    )
    counts = recipe.keywords["counts"]
    return [
        Variant(
            f"{count} step{'s' if count > 1 else ''}",
            comparison.part(pictures, np.s_[:, :, place]),
            seconds * count / counts[-1],
        )
        for place, count in enumerate(counts)
    ]


def visualize(models, *, label, seed, counts):
    """One ascent, and what is measured of its picture after these numbers of steps."""
    image, step_key = comparison.default_start(models.maker, label, seed)
    optimizer = comparison.make_optimizer("normalized", comparison.LEARNING_RATE)
    state = ascent.initial_state(image, optimizer, step_key)
    score = scores.logit(models.maker, label)
    augment = ascent.jitter(comparison.JITTER)
    made = ascent.ascend(score, state, optimizer, counts[-1], augment=augment, snapshots=counts)
    return jax.vmap(lambda picture: comparison.measure(models, score, made, picture))(
        made.snapshots
    )


def draw_curves(results: Sequence[tuple[Side, Sequence[Variant]]]) -> Figure:
    """A panel for each quantity, with a line for each classifier."""
    panels: dict[str, list[plots.Curve]] = {}
    for side, of_side in results:
        counts = np.array([int(variant.name.split()[0]) for variant in of_side])
        values = [
            {"score": variant.pictures.score} | comparison.class_values(side, variant.pictures)
            for variant in of_side
        ]
        for name in values[0]:
            intervals = [comparison.interval(of_count[name]) for of_count in values]
            panels.setdefault(name, []).append(curve(side.maker.name, counts, intervals))
    for name, interval in comparison.PHOTOGRAPHS.items():
        panels[name].append(curve("photographs", counts, [interval] * len(counts)))
    return plots.curves(panels, "steps", log_base=2)


def curve(name: str, counts: np.ndarray, intervals: Sequence[metrics.Interval]) -> plots.Curve:
    return plots.Curve(name, counts, *(np.array(ends) for ends in zip(*intervals, strict=True)))


def frames(results: Sequence[tuple[Side, Sequence[Variant]]]) -> list[Figure]:
    """For each number of steps a figure with a row of pictures for each classifier."""
    frames = []
    for at_count in zip(*(of_side for _, of_side in results), strict=True):
        rows: list[list[plots.Cell | None]] = [
            [
                comparison.picture_cell(side, variant.pictures, place)
                for place in comparison.shown_classes(side)
            ]
            for (side, _), variant in zip(results, at_count, strict=True)
        ]
        shown = comparison.shown_classes(results[0][0])
        frames.append(
            plots.grid(
                rows,
                row_titles=[side.maker.name for side, _ in results],
                column_titles=[results[0][0].class_names[place] for place in shown],
                caption=at_count[0].name,
                cell_width=comparison.CELL_WIDTH,
            )
        )
    return frames


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
