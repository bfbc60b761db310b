"""Which canvas and which augmentations make class visualizations that another model recognizes?

  python experiments/canvases.py
  python experiments/canvases.py --classes lemon goose --seeds 2
  python experiments/canvases.py --model efficientnet-lite0 --seeds 1 --batch-size 2

First the paper's recipe: gradient ascent on the logit less an L2 norm, from the mean colour, on the
pixels as they are. Then normalized steps of 1.58, the best length found by `optimizers.py`, with
more and more changed at random before each step: shifted by up to 4 pixels, zoomed by 0.9 to 1.1,
turned by up to 20 degrees, mirrored. Last other canvases, with all of these augmentations: pixels
through a sigmoid, Fourier coefficients scaled by 1 / f, such with the colours' correlation in the
training set, and the phases of photographs' mean spectrum (MACO), for which Adam makes four times
as many steps; and the recipe of `class_visualization.py` for ImageNet's networks, at one size:
amplitudes that fall faster than 1 / f, wider zooms, 64 steps of Adam.

All twenty classes from five seeds, 64 steps each and 256 of Adam's, under the bundled standard and
robust ResNet: 307,000 gradient steps, 16 minutes at the 310 a second that two processor cores make
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

The measured run was without the last recipe and without EfficientNet-Lite2's ranks. Both were added
on six classes from one seed (lemon, banana, school bus, king penguin, monarch, goldfish; 4
minutes). The last recipe's pictures are recognized, 0.83 [0.50, 1.00] of the standard model's and
all of the robust one's. Lite2, which had no part in them and sees them enlarged, ranks none of the
standard model's first, by any recipe. Of the robust model's two of the six are, in decorrelated
colours and by the last recipe, whose median rank is the lowest, 9 [1, 30], against 19 and 20 in
decorrelated colours and by phases and 33 to 143 on pixels: six classes tell none from another.

Under an ImageNet network the canvas decides. Of ten classes at 112x112 under EfficientNet-Lite0
(the last command; 8 minutes beside other work) Lite2, which had no part in them, ranks none or 0.10
[0.00, 0.30] first of any recipe on pixels, whatever is changed before each step, at median ranks of
85 with all augmentations, 342 with none and 244 by the paper's recipe: outlines can be seen in
them, under a fine grain, with a slope of -0.6 to -1.0. On Fourier coefficients it ranks 0.20 [0.00,
0.50] first, at median ranks of 7, 29 in decorrelated colours, which are pale, and 4 by the last
recipe, with half among the first five. Lite0 is sure of most of them by every recipe, 0.78 and
more. At 224 pixels, of a hundred classes, Lite2 ranks 60 % first by lucid's recipe, 63 % by phases
and 80 % by wider zooms, from coarse to fine; see `imagenet_visualization.py`.

The run's folder then holds `pictures-MODEL.png` and `pictures-MODEL.npz` (images and what was
measured of them), `config.json` and `index.html`, which shows it all.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import optax
from lab import frame, imagenet, pictures, recipes
from lab.frame import Run
from lab.pictures import ClassSettings as Settings
from lab.pictures import Side, Variant

from saliency_jax import ascent, scores
from saliency_jax._types import Augment
from saliency_jax.ascent import Canvas
from saliency_jax.runs import Section

STEP = 1.58
PAPERS_STEP, PAPERS_L2 = 0.5, 0.001
SCALE, DEGREES = (0.9, 1.1), 20.0
ADAM_RATE, PHASE_RATE = 0.02, 0.05
# Of the pictures that the lengths of steps are for: larger ones take steps as much longer.
SIDE = 64

Shape = tuple[int, int, int]

shift = ascent.jitter(recipes.JITTER)
zoom, turn = ascent.scale(*SCALE), ascent.rotate(DEGREES)
ALL = ascent.compose(shift, zoom, turn, ascent.flip())


def plain(shape: Shape) -> Canvas:
    return Canvas(ascent.pixels, ascent.pixels)


def through_sigmoid(shape: Shape) -> Canvas:
    return ascent.sigmoid_canvas()


def fourier(shape: Shape) -> Canvas:
    return ascent.chain_canvases(ascent.fourier_canvas(shape), ascent.sigmoid_canvas())


def in_colors_of_photographs(canvas: Canvas) -> Canvas:
    colors = ascent.color_canvas(ascent.TINY_IMAGENET_COLORS.covariance)
    return ascent.chain_canvases(canvas, colors, ascent.sigmoid_canvas())


def decorrelated(shape: Shape) -> Canvas:
    return in_colors_of_photographs(ascent.fourier_canvas(shape))


def phases(shape: Shape) -> Canvas:
    _, width, _ = shape
    return in_colors_of_photographs(ascent.phase_canvas(ascent.tiny_imagenet_magnitude(), width))


class Recipe(NamedTuple):
    """A way to make a picture.

    Attributes:
      augment: how the image is changed at random before each step.
      canvas: from the image's shape to what the ascent is on.
      optimizer: of its steps, from how many times as large as `SIDE` the pictures are.
      times: how many times as many steps as the others it makes.
      l2: weight of the prior that draws towards the mean colour; if any, from which it starts.
    """

    augment: Augment | None
    canvas: Callable[[Shape], Canvas] = plain
    optimizer: Callable[[float], optax.GradientTransformation] = lambda size: (
        recipes.make_optimizer("normalized", STEP * size)
    )
    times: int = 1
    l2: float = 0.0


def normalized(size: float) -> optax.GradientTransformation:
    """Steps of the length that a sigmoid, where it is steepest, shortens to a quarter."""
    return optax.chain(ascent.normalize_by_l2(), optax.sgd(4 * STEP * size))


def adam(canvas: Callable[[Shape], Canvas], rate: float) -> Recipe:
    return Recipe(ALL, canvas, lambda size: optax.adam(rate), times=4)


# `imagenet.visualize` at one size, which is a recipe of its own.
WIDE = "Fourier, wide zooms"


RECIPES: Mapping[str, Recipe] = {
    "Simonyan et al.": Recipe(
        None, optimizer=lambda size: recipes.make_optimizer("sgd", PAPERS_STEP), l2=PAPERS_L2
    ),
    "no augmentation": Recipe(None),
    "shift": Recipe(shift),
    "shift, zoom": Recipe(ascent.compose(shift, zoom)),
    "shift, turn": Recipe(ascent.compose(shift, turn)),
    "shift, zoom, turn": Recipe(ascent.compose(shift, zoom, turn)),
    "shift, zoom, turn, mirror": Recipe(ALL),
    "sigmoid": Recipe(ALL, through_sigmoid, normalized),
    "Fourier": adam(fourier, ADAM_RATE),
    "Fourier, decorrelated": adam(decorrelated, ADAM_RATE),
    "phases": adam(phases, PHASE_RATE),
    WIDE: Recipe(imagenet.AUGMENT),
}
# Those that know the bundled models' colours or spectrum, and the ends of the shapes they suit.
OF_TINY_IMAGENET = {"Fourier, decorrelated": (3,), "phases": (64, 64, 3)}


@frame.experiment("Canvases and augmentations")
def main(settings: Settings, run: Run) -> list[Section]:
    chosen = [(side, suitable(side)) for side in pictures.sides(settings)]
    num_recipes = sum(len(names) * len(side.labels) for side, names in chosen)
    run.expect(num_recipes * settings.seeds, "picture")
    results = []
    for side, names in chosen:
        made = []
        for name in names:
            recipe = pictures.fixed(visualize, recipe=name, steps=settings.steps)
            made.append(Variant(name, *pictures.make(run, side, name, recipe, settings)))
        results.append((side, made))
    return pictures.save(run, results)


def suitable(side: Side) -> list[str]:
    """The names of the recipes for the images that a model was trained for."""
    ends = {name: OF_TINY_IMAGENET.get(name, ()) for name in RECIPES}
    shape = side.models.mean.shape
    return [name for name, end in ends.items() if shape[len(shape) - len(end) :] == end]


def visualize(models, *, label, seed, recipe, steps):
    """Gradient ascent by the recipe of a name, and what is measured of its picture."""
    score = scores.logit(models.maker, label)
    if recipe == WIDE:
        start, step_key = pictures.start(models.mean, pictures.INITIAL["fourier"], label, seed)
        made = pictures.ascend(score, start, step_key, steps, "fourier")
        return pictures.measure(models, score, made, made.image)
    chosen = RECIPES[recipe]
    canvas = chosen.canvas(models.mean.shape)
    start, step_key = recipes.start(models.mean, "mean" if chosen.l2 else "normal", label, seed)
    params = canvas.encode(jnp.clip(start, pictures.DARKEST, pictures.BRIGHTEST))
    made = recipes.ascend(
        score,
        params,
        step_key,
        steps * chosen.times,
        optimizer=chosen.optimizer(len(models.mean) / SIDE),
        augment=chosen.augment,
        decode=canvas.decode,
        prior=ascent.l2(chosen.l2, models.mean[0, 0]) if chosen.l2 else None,
    )
    return pictures.measure(models, score, made, made.image)


if __name__ == "__main__":
    main.from_command_line()
