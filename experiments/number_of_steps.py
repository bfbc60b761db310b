"""How many steps does a class visualization need?

  python experiments/number_of_steps.py
  python experiments/number_of_steps.py --classes lemon goose --seeds 2 --steps 256
  python experiments/number_of_steps.py --model efficientnet-lite0 --seeds 1 --steps 256 \
    --batch-size 2

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

To EfficientNet-Lite2, which had no part in them and sees them enlarged, later steps do say more
(twenty classes, one seed, up to 512 steps). Of the robust model's pictures it ranks none first
after 32 steps, 0.10 [0.00, 0.25] after 64 to 256 and 0.20 [0.05, 0.40] after 512; the median rank
falls from 59 after 32 to 39 after 128, 21 and 10. Of the standard model's none is among five at any
time, and the median rank is 371 to 492 until 256 steps, and 200 after 512.

An ImageNet network needs more. Of ten classes at 112x112 under EfficientNet-Lite0 (the last
command, Adam on Fourier coefficients under shifts, zooms and turns; 2 minutes), Lite2 ranks 0.20
[0.00, 0.50] first after 64 steps, when Lite0 is sure of 0.93, 0.50 [0.20, 0.80] after 128 and 0.60
[0.30, 0.90] after 256, of photographs of this size 0.69 [0.62, 0.74]; the median rank falls from 37
after 16 steps to 4, 1.5 and 1. Meanwhile the pictures grow harsher than photographs, with a total
variation of 0.20 to 0.28 against 0.08.

The run's folder then holds `curves.png` (everything measured, over the number of steps),
`steps.gif` (the pictures as they grow), `pictures-MODEL.png` and `pictures-MODEL.npz` (images and
what was measured of them), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from lab import frame, pictures, tables
from lab.frame import Count, Run
from lab.pictures import PHOTOGRAPHS, Results, Side, Variant
from matplotlib.figure import Figure

from saliency_jax import scores
from saliency_jax.runs import Section, plots


@dataclasses.dataclass(frozen=True)
class Settings(pictures.ClassSettings):
    steps: Count = 2048
    """The most; pictures are kept at every power of two up to it."""


@frame.experiment("The number of steps")
def main(settings: Settings, run: Run) -> list[Section]:
    sides = pictures.sides(settings)
    run.expect(len(sides) * len(sides[0].labels) * settings.seeds, "picture")
    counts = powers_of_two(settings.steps)
    results = []
    for side in sides:
        recipe = pictures.fixed(visualize, counts=counts, recipe=side.recipe)
        results.append((side, variants(run, side, recipe, counts, settings)))
    curves = Section(
        "Over the number of steps",
        "Bands are the 95 % bootstrap intervals; flat lines are photographs.",
        [run.save_figure("curves", draw_curves(results))],
    )
    run.save_animation("steps", frames(results))
    return pictures.save(run, results, [curves], "steps", results[0][1][-1].name)


def powers_of_two(most: int) -> tuple[int, ...]:
    return tuple(2**power for power in range(most.bit_length()))


def variants(
    run: Run,
    side: Side,
    recipe: Callable,
    counts: tuple[int, ...],
    settings: pictures.ClassSettings,
) -> list[Variant]:
    """One classifier's pictures after each number of steps."""
    made, seconds = pictures.make(run, side, "all steps", recipe, settings)
    return [
        Variant(
            f"{count} step{'s' if count > 1 else ''}",
            pictures.part(made, np.s_[:, :, place]),
            seconds * count / counts[-1],
        )
        for place, count in enumerate(counts)
    ]


def visualize(models, *, label, seed, counts, recipe="pixels"):
    """One ascent, and what is measured of its picture after these numbers of steps."""
    image, step_key = pictures.start(models.mean, pictures.INITIAL[recipe], label, seed)
    score = scores.logit(models.maker, label)
    made = pictures.ascend(score, image, step_key, counts[-1], recipe, snapshots=counts)
    return jax.vmap(lambda picture: pictures.measure(models, score, made, picture))(made.snapshots)


def draw_curves(results: Results) -> Figure:
    """A panel for each quantity, with a line for each classifier."""
    panels: dict[str, list[plots.Curve]] = {}
    for side, of_side in results:
        counts = np.array([int(variant.name.split()[0]) for variant in of_side])
        values = [
            {"score": variant.pictures.score} | pictures.class_values(side, variant.pictures)
            for variant in of_side
        ]
        for name in values[0]:
            curve = tables.curve(side.maker.name, counts, [measured[name] for measured in values])
            panels.setdefault(name, []).append(curve)
    for size in dict.fromkeys(len(side.models.mean) for side, _ in results):
        for name, interval in PHOTOGRAPHS.get(size, {}).items():
            if name in panels and not isinstance(interval, str):
                level = (np.full(len(counts), end) for end in interval)
                panels[name].append(plots.Curve(f"photographs {size}x{size}", counts, *level))
    return plots.curves(panels, "steps", log_base=2)


def frames(results: Results) -> list[Figure]:
    """For each number of steps a figure with a row of pictures for each classifier."""
    sides = [side for side, _ in results]
    return [
        plots.grid(
            [pictures.row(side, variant) for side, variant in zip(sides, at_count, strict=True)],
            row_titles=[side.maker.name for side in sides],
            column_titles=pictures.column_titles(sides[0]),
            caption=at_count[0].name,
            cell_width=pictures.CELL_WIDTH,
        )
        for at_count in zip(*(of_side for _, of_side in results), strict=True)
    ]


if __name__ == "__main__":
    main.from_command_line()
