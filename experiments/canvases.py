"""Which canvas and which augmentations make class visualizations that another model recognizes?

  python experiments/canvases.py
  python experiments/canvases.py --classes lemon goose --seeds 2

First the paper's recipe: gradient ascent on the logit less an L2 norm, from the mean colour, on the
pixels as they are. Then normalized steps of 1.58, the best length found by `optimizers.py`, with
more and more changed at random before each step: shifted by up to 4 pixels, zoomed by 0.9 to 1.1,
turned by up to 20 degrees, mirrored. Last other canvases, with all of these augmentations: pixels
through a sigmoid, Fourier coefficients scaled by 1 / f, such with the colours' correlation in the
training set, and the phases of photographs' mean spectrum (MACO), for which Adam makes four times
as many steps.

All twenty classes from five seeds, 64 steps each and 256 of Adam's, under the bundled standard and
robust ResNet: 294,000 gradient steps, 16 minutes at the 310 a second that two processor cores make
with turns and zooms. Interrupted, the same command continues.

Measured: the standard model's pictures become recognizable by what is changed before each step and
by the canvas. The paper's recipe gives 0.30 [0.10, 0.50] that the robust model recognizes, longer
normalized steps without augmentation 0.49, with shifts 0.65, and zooms and turns on top 0.82 [0.64,
0.96]; mirrors add nothing (0.81). On Fourier coefficients it is 0.89 [0.77, 0.99], the best recipe
found; their spectrum is nearer to that of photographs, with a slope of -1.95 against -1.60. A
sigmoid changes nothing (0.79), decorrelated colours cost a third of them (0.57). The phases of a
fixed spectrum (0.79) give the pictures with the most contrast and variety, a total variation of
0.27 and a distance of 0.38 between seeds against 0.15 and 0.16: a cat's face, penguins and a pepper
can be named. Of the robust model's pictures all are recognized by every recipe but the paper's
(0.75), whose plain steps are too short for its smaller gradients.

The run's folder then holds `pictures-MODEL.png` and `pictures-MODEL.npz` (images and what was
measured of them), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import command_line
import comparison
import jax.numpy as jnp
import numpy as np
import optax
from comparison import Side, Variant, Work

from saliency_jax import ascent, report, scores
from saliency_jax._types import Augment
from saliency_jax.ascent import Canvas

STEP = 1.58
PAPERS_STEP, PAPERS_L2 = 0.5, 0.001
JITTER, SCALE, DEGREES = comparison.JITTER, (0.9, 1.1), 20.0
ADAM_RATE, PHASE_RATE = 0.02, 0.05
# A canvas through a sigmoid cannot hold black and white.
DARKEST, BRIGHTEST = 0.02, 0.98

shift, zoom, turn = ascent.jitter(JITTER), ascent.scale(*SCALE), ascent.rotate(DEGREES)
ALL = ascent.compose(shift, zoom, turn, ascent.flip())


def plain(shape: tuple[int, int, int]) -> Canvas:
    return Canvas(ascent.pixels, ascent.pixels)


def through_sigmoid(shape: tuple[int, int, int]) -> Canvas:
    return ascent.sigmoid_canvas()


def fourier(shape: tuple[int, int, int]) -> Canvas:
    return ascent.chain_canvases(ascent.fourier_canvas(shape), ascent.sigmoid_canvas())


def decorrelated(shape: tuple[int, int, int]) -> Canvas:
    colors = ascent.color_canvas(ascent.TINY_IMAGENET_COLORS.covariance)
    return ascent.chain_canvases(ascent.fourier_canvas(shape), colors, ascent.sigmoid_canvas())


def phases(shape: tuple[int, int, int]) -> Canvas:
    _, width, _ = shape
    colors = ascent.color_canvas(ascent.TINY_IMAGENET_COLORS.covariance)
    of_spectrum = ascent.phase_canvas(ascent.tiny_imagenet_magnitude(), width)
    return ascent.chain_canvases(of_spectrum, colors, ascent.sigmoid_canvas())


class Recipe(NamedTuple):
    """A way to make a picture.

    Attributes:
      augment: how the image is changed at random before each step.
      canvas: from the image's shape to what the ascent is on.
      optimizer: of its steps.
      times: how many times as many steps as the others it makes.
      l2: weight of the prior that draws towards the mean colour; if any, from which it starts.
    """

    augment: Augment | None
    canvas: Callable[[tuple[int, int, int]], Canvas] = plain
    optimizer: optax.GradientTransformation = comparison.make_optimizer("normalized", STEP)
    times: int = 1
    l2: float = 0.0


def normalized(length: float) -> optax.GradientTransformation:
    """Steps of this length; where a sigmoid is steepest it shortens them to a quarter."""
    return optax.chain(ascent.normalize_by_l2(), optax.sgd(length))


def adam(canvas: Callable[[tuple[int, int, int]], Canvas], rate: float) -> Recipe:
    return Recipe(ALL, canvas, optax.adam(rate), times=4)


RECIPES: Mapping[str, Recipe] = {
    "Simonyan et al.": Recipe(
        None, optimizer=comparison.make_optimizer("sgd", PAPERS_STEP), l2=PAPERS_L2
    ),
    "no augmentation": Recipe(None),
    "shift": Recipe(shift),
    "shift, zoom": Recipe(ascent.compose(shift, zoom)),
    "shift, turn": Recipe(ascent.compose(shift, turn)),
    "shift, zoom, turn": Recipe(ascent.compose(shift, zoom, turn)),
    "shift, zoom, turn, mirror": Recipe(ALL),
    "sigmoid": Recipe(ALL, through_sigmoid, normalized(4 * STEP)),
    "Fourier": adam(fourier, ADAM_RATE),
    "Fourier, decorrelated": adam(decorrelated, ADAM_RATE),
    "phases": adam(phases, PHASE_RATE),
}
# Those that know the bundled models' colours or spectrum.
OF_TINY_IMAGENET = {"Fourier, decorrelated": (3,), "phases": (64, 64, 3)}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.ClassSettings):
    pass


def main(settings: Settings) -> None:
    comparison.check(settings)
    with report.RunFolder(settings.output, "canvases") as run:
        run.save_config(settings)
        both = comparison.sides(settings)
        names = [recipes(side) for side in both]
        pictures_of_each = len(both[0].labels) * settings.seeds
        num_pictures = sum(map(len, names)) * pictures_of_each
        with comparison.working(run, settings, num_pictures) as work:
            results = [
                (side, [variant(side, name, settings, work) for name in of_side])
                for side, of_side in zip(both, names, strict=True)
            ]
        measured = comparison.save(
            run, "Canvases and augmentations", __doc__.partition("\n")[0], results
        )
    comparison.finish(run, measured)


def recipes(side: Side) -> list[str]:
    """The names of those that suit the images that a model was trained for."""
    shape = comparison.shape(side.maker.model)
    return [
        name
        for name in RECIPES
        if name not in OF_TINY_IMAGENET
        or shape[-len(OF_TINY_IMAGENET[name]) :] == OF_TINY_IMAGENET[name]
    ]


def variant(side: Side, name: str, settings: Settings, work: Work) -> Variant:
    """One classifier's pictures of all classes from all seeds by one recipe."""
    recipe = functools.partial(visualize, recipe=name, steps=settings.steps)
    axes = {"label": side.labels, "seed": np.arange(settings.seeds)}
    return Variant(name, *comparison.timed_sweep(work, side.maker, name, recipe, axes, side.models))


def visualize(models, *, label, seed, recipe, steps):
    """Gradient ascent by the recipe of a name, and what is measured of its picture."""
    chosen = RECIPES[recipe]
    canvas = chosen.canvas(comparison.shape(models.maker))
    image, step_key = comparison.default_start(models.maker, label, seed)
    mean = comparison.mean_color(models.maker)
    if chosen.l2:
        image = jnp.broadcast_to(mean, image.shape)
    params = canvas.encode(jnp.clip(image, DARKEST, BRIGHTEST))
    score = scores.logit(models.maker, label)
    made = ascent.ascend(
        score,
        ascent.initial_state(params, chosen.optimizer, step_key),
        chosen.optimizer,
        steps * chosen.times,
        decode=canvas.decode,
        augment=chosen.augment,
        prior=ascent.l2(chosen.l2, mean) if chosen.l2 else None,
    )
    return comparison.measure(models, score, made, made.image)


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
