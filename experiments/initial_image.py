"""What does a class visualization owe to the image that it starts from?

  python experiments/initial_image.py
  python experiments/initial_image.py --classes lemon goose --seeds 2 --steps 200
  python experiments/initial_image.py --model efficientnet-lite0 --seeds 1 --batch-size 2

Nine starts under one recipe, normalized steps of length 0.5 that each see the image shifted: black,
white, grey, the mean colour, uniform noise, normal noise about grey (the default), smooth noise, a
photograph of a cat, and another class's visualization, made from normal noise.

All twenty classes from five seeds, 64 steps each, under the bundled standard and robust ResNet:
115,000 gradient steps, 6 minutes at the 345 a second that two processor cores make; the times in
the table of the run below were taken while other work ran beside. Interrupted, the same command
continues.

Measured: under the robust model the start decides what the background is like and hardly which
class is seen. From grey, the mean colour, normal noise, the photograph and another class's picture
the other model recognizes all pictures (1.00), from uniform and smooth noise 0.99, and fewer from
the corners of the colour space, 0.90 from black and 0.79 from white [0.63, 0.93], where clipping
stops half of each step. Noise stays: the total variation is 0.60 from uniform noise, 0.14 from
normal noise, 0.08 from grey, and 0.14 in photographs. The standard model is surer of its own
pictures (0.98 and more from every start), of which the robust one recognizes 0.05 to 0.18: no start
turns them into pictures of the class. Two seeds differ by what the start gives them, 0.40 from
uniform and 0.17 from normal noise, and by 0.05 from the photograph and 0.12 from grey, where only
the shifts differ.

To EfficientNet-Lite2, which had no part in them and sees them enlarged, the start is more than a
background (twenty classes, one seed). Of the robust model's pictures it ranks the right one of its
thousand classes first for 0.25 [0.10, 0.45] from grey, 0.15 [0.00, 0.30] from the mean colour and
from the photograph, 0.10 [0.00, 0.25] from normal noise and for none from uniform and smooth noise:
the median rank is 10, 7, 22, 64, 267 and 171. Grain that stays hides a class that the small
networks still see. Of photographs of 64 pixels 0.39 are ranked first. Of the standard model's
pictures none is, from any start, and the ranks are those of chance, 276 to 592.

Under an ImageNet network no start is seen to be worse. Of ten classes at 112x112 under
EfficientNet-Lite0 (the last command, Adam on Fourier coefficients under shifts, zooms and turns; 4
minutes) Lite2 ranks 0.20 to 0.50 first, and every interval holds both: ten classes tell no start
from another. Black and white, from which the robust ResNet lost some classes, have 0.40 [0.10,
0.70]: on this canvas no step is lost by clipping. The grain of uniform noise stays here too, with a
total variation of 0.47 against 0.20 from the recipe's own noise, and half of both are among
the first five.

The run's folder then holds `pictures-MODEL.png` and `pictures-MODEL.npz` (images and what was
measured of them), `config.json` and `index.html`, which shows it all.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from lab import frame, photographs, pictures, recipes
from lab.frame import Run
from lab.pictures import ClassSettings as Settings
from lab.pictures import Side, Variant
from lab.recipes import INITIAL

from saliency_jax import scores
from saliency_jax.runs import Section


@frame.experiment("The impact of the initial image")
def main(settings: Settings, run: Run) -> list[Section]:
    sides = pictures.sides(settings)
    num_classes = len(sides[0].labels)
    if num_classes < 2:
        raise ValueError(
            "expected at least two of --classes, each to start from another's picture, got one"
        )
    starts = sum(len(names(side)) + 2 for side in sides)
    run.expect(starts * num_classes * settings.seeds, "picture")
    results = []
    for side in sides:
        recipe = pictures.fixed(visualize, recipe=side.recipe, steps=settings.steps)
        results.append((side, variants(run, side, recipe, settings)))
    return pictures.save(run, results)


def names(side: Side) -> list[str]:
    """Of the initial images that are drawn, that of the recipe among them."""
    return list(dict.fromkeys((*INITIAL, pictures.INITIAL[side.recipe])))


def variants(run: Run, side: Side, recipe: Callable, settings: Settings) -> list[Variant]:
    """One classifier's pictures of all classes from all seeds, for each start."""
    seeds = np.arange(settings.seeds)

    def made_from(name: str, images: np.ndarray) -> Variant:
        axes = {"start": {"label": side.labels, "images": images}, "seed": seeds}
        return Variant(name, *pictures.make(run, side, name, recipe, settings, axes))

    mean = side.models.mean
    drawn = {
        name: made_from(name, np.asarray(_initial_images(mean, side.labels, seeds, name=name)))
        for name in names(side)
    }
    others = np.roll(drawn[pictures.INITIAL[side.recipe]].pictures.image, 1, axis=0)
    cat, _ = photographs.carried_photographs()
    photograph = np.broadcast_to(
        side.maker.preprocess(cat.image, size=mean.shape[:2]), others.shape
    )
    return [
        *drawn.values(),
        made_from("photograph", photograph),
        made_from("another class", others),
    ]


@functools.partial(jax.jit, static_argnames="name")
def _initial_images(mean, labels, seeds, *, name):
    """(n, m, h, w, c), a start for each class and seed."""

    def initial_image(label, seed):
        return pictures.start(mean, name, label, seed)[0]

    return jax.vmap(jax.vmap(initial_image, (None, 0)), (0, None))(labels, seeds)


def visualize(models, *, start, seed, steps, recipe="pixels"):
    """Gradient ascent from the start of a class and seed, and what is measured of its picture."""
    _, step_key = recipes.keys(seed, start["label"])
    score = scores.logit(models.maker, start["label"])
    made = pictures.ascend(score, start["images"][seed], step_key, steps, recipe)
    return pictures.measure(models, score, made, made.image)


if __name__ == "__main__":
    main.from_command_line()
