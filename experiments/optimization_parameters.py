"""How do learning rate, momentum, priors and augmentations change a class visualization?

  python experiments/optimization_parameters.py
  python experiments/optimization_parameters.py --classes lemon goose --seeds 2 --steps 200
  python experiments/optimization_parameters.py --model efficientnet-lite0 --seeds 1 --batch-size 2

One factor at a time around the default recipe: normalized steps of length 0.5 without momentum from
normal noise about grey, no prior, each step seeing the image shifted by up to 4 pixels. With a
momentum m the rate is multiplied by 1 - m, so that the steps of a constant gradient keep their
length. The L2 prior draws towards the mean colour of the training set.

Seventeen recipes, all twenty classes from five seeds, 64 steps each, under the bundled standard and
robust ResNet: 218,000 gradient steps, 12 minutes at the 320 a second that two processor cores make.
Recipes that differ in numbers alone are one compiled program. Interrupted, the same command
continues.

Measured: the length of the way decides. Under the robust model steps of 0.5, 1.5 and 5 make
pictures that are all recognized, with more and more contrast (total variation 0.14, 0.18, 0.22;
photographs 0.14); with 0.15 the pictures are unfinished after 64 steps (0.81 recognized), with 0.05
hardly begun (0.18). The standard model is sure of its own pictures at every rate, and the robust
one recognizes most of them at 1.5: 0.59 [0.39, 0.78], against 0.13 at 0.5 and 0.30 at 5. Momentum
with an equal step length gains nothing, and 0.9 is slower (0.91). A prior trades the score for
smoothness: L2 at 0.01 and total variation at 0.001 halve the total variation and more, all pictures
still being recognized; ten times that weight leaves nothing to see (0.61 and 0.06). Augmentations
change little here: without shifts the total variation is 0.16 and not 0.14; zooms and turns of 10
degrees cost a tenth more time and show no difference. (With longer steps they do: `canvases.py`.)

EfficientNet-Lite2, which had no part in them and sees them enlarged, ranks none of the standard
model's pictures first or among five (twenty classes, one seed). Of the robust model's it ranks 0.10
[0.00, 0.25] first by the default, at a median rank of 64; longer steps and priors that smooth bring
the class nearer, to 14 and 10 at lengths of 1.5 and 5, 8 and 17 with L2 at 0.01 and total variation
at 0.001, 0.20 [0.05, 0.40] being first with each of these two. With a length of 0.15 and less, or
the priors' ten times larger weights, none or 0.05 is.

An ImageNet network asks for other things. Under EfficientNet-Lite0 (the last command: fifteen
recipes about Adam at a rate of 0.1 on Fourier coefficients, ten classes at 112x112, 4 minutes),
Lite2, which had no part in them, ranks 0.30 [0.00, 0.60] first by the default. Without augmentation
it ranks none first, at a median rank of 204, where the small pair saw no difference. Smaller steps
do no harm: at a rate of 0.01, which gives pale pictures with half of photographs' total variation,
0.60 [0.30, 0.90] are first; at 1 0.20 [0.00, 0.50], and the pictures are black and white patches.
Of the other augmentations, priors and momentum ten classes say nothing: 0.20 to 0.40, by shifts
alone and without the L2 norm 0.20. Lite0 itself is sure of all but the harshest pictures, 0.86 and
more.

The run's folder then holds `pictures-MODEL.png` and `pictures-MODEL.npz` (images and what was
measured of them), `config.json` and `index.html`, which shows it all.
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import optax
from lab import frame, imagenet, pictures, recipes
from lab.frame import Run
from lab.pictures import ClassSettings as Settings
from lab.pictures import Side, Variant

from saliency_jax import ascent, scores
from saliency_jax._types import Augment
from saliency_jax.runs import Section

# On pixels steps of a normalized gradient, on Fourier coefficients Adam's.
DEFAULTS: dict[str, dict[str, float]] = {
    "pixels": {
        "learning_rate": recipes.LEARNING_RATE,
        "momentum": 0.0,
        "l2": 0.0,
        "total_variation": 0.0,
        "jitter": recipes.JITTER,
        "scale": 0.0,
        "degrees": 0.0,
    },
    "fourier": {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": imagenet.L2,
        "total_variation": 0.0,
        "jitter": 8,
        "least": 0.6,
        "most": 1.3,
        "degrees": 15.0,
    },
}


def shift(setting) -> Augment:
    return ascent.jitter(setting["jitter"])


def shift_and_turn(setting) -> Augment:
    zoom = ascent.scale(1 - setting["scale"], 1 + setting["scale"])
    return ascent.compose(shift(setting), zoom, ascent.rotate(setting["degrees"]))


def frame_and_turn(setting) -> Augment:
    """`imagenet.AUGMENT` with settings."""
    return ascent.compose(
        ascent.pad(12, 0.5),
        shift(setting),
        ascent.scale(setting["least"], setting["most"]),
        ascent.rotate(setting["degrees"]),
        ascent.jitter(setting["jitter"] // 2),
    )


# By augmentation, what each recipe changes of the default one. Shifts alone do without the turns of
# images, which take time even where they are by 0 degrees.
RECIPES: dict[Callable[..., Augment], dict[str, dict[str, float]]] = {
    shift: {
        "default": {},
        "learning rate 0.05": {"learning_rate": 0.05},
        "learning rate 0.15": {"learning_rate": 0.15},
        "learning rate 1.5": {"learning_rate": 1.5},
        "learning rate 5": {"learning_rate": 5.0},
        "momentum 0.5": {"momentum": 0.5},
        "momentum 0.9": {"momentum": 0.9},
        "L2 0.001": {"l2": 0.001},
        "L2 0.01": {"l2": 0.01},
        "L2 0.1": {"l2": 0.1},
        "total variation 0.0001": {"total_variation": 0.0001},
        "total variation 0.001": {"total_variation": 0.001},
        "total variation 0.01": {"total_variation": 0.01},
        "no augmentation": {"jitter": 0},
        "jitter 8": {"jitter": 8},
    },
    shift_and_turn: {
        "jitter, scale 0.9 to 1.1": {"scale": 0.1},
        "jitter, scale, rotate 10": {"scale": 0.1, "degrees": 10.0},
    },
}
NO_ZOOM = {"least": 1.0, "most": 1.0}
# The same on Fourier coefficients.
FOURIER_RECIPES: dict[Callable[..., Augment], dict[str, dict[str, float]]] = {
    frame_and_turn: {
        "default": {},
        "learning rate 0.01": {"learning_rate": 0.01},
        "learning rate 0.03": {"learning_rate": 0.03},
        "learning rate 0.3": {"learning_rate": 0.3},
        "learning rate 1": {"learning_rate": 1.0},
        "momentum 0": {"momentum": 0.0},
        "no L2": {"l2": 0.0},
        "L2 0.003": {"l2": 0.003},
        "L2 0.03": {"l2": 0.03},
        "total variation 0.0001": {"total_variation": 0.0001},
        "total variation 0.001": {"total_variation": 0.001},
        "no augmentation": {"jitter": 0, "degrees": 0.0, **NO_ZOOM},
        "jitter": {"degrees": 0.0, **NO_ZOOM},
        "jitter, scale 0.9 to 1.1": {"degrees": 0.0, "least": 0.9, "most": 1.1},
        "jitter, scale 0.6 to 1.3": {"degrees": 0.0},
    }
}


@frame.experiment("The impact of the optimization's parameters")
def main(settings: Settings, run: Run) -> list[Section]:
    sides = pictures.sides(settings)
    by_recipe = {"pixels": RECIPES, "fourier": FOURIER_RECIPES}
    num_recipes = sum(len(changes) for side in sides for changes in by_recipe[side.recipe].values())
    run.expect(num_recipes * len(sides[0].labels) * settings.seeds, "picture")
    results = []
    for side in sides:
        fixed = {"steps": settings.steps, "recipe": side.recipe}
        made: list[Variant] = []
        for augmentation, changes in by_recipe[side.recipe].items():
            recipe = pictures.fixed(visualize, augmentation=augmentation, **fixed)
            made += variants(run, side, changes, recipe, settings)
        results.append((side, made))
    return pictures.save(run, results)


def variants(
    run: Run,
    side: Side,
    changes: Mapping[str, dict[str, float]],
    recipe: functools.partial,
    settings: Settings,
) -> list[Variant]:
    """One classifier's pictures by recipes of one augmentation, in one sweep."""
    default = DEFAULTS[side.recipe]
    changed = [default | change for change in changes.values()]
    setting = {name: np.array([one[name] for one in changed]) for name in default}
    axes = {"setting": setting, **pictures.grid(side, settings)}
    name = recipe.keywords["augmentation"].__name__.replace("_", " ")
    made, seconds = pictures.make(run, side, name, recipe, settings, axes)
    return [
        Variant(name, pictures.part(made, place), seconds) for place, name in enumerate(changes)
    ]


def visualize(models, *, setting, label, seed, augmentation, steps, recipe="pixels"):
    """Gradient ascent with these settings, and what is measured of its picture."""
    image, step_key = pictures.start(models.mean, pictures.INITIAL[recipe], label, seed)
    rate, momentum = setting["learning_rate"], setting["momentum"]
    if recipe == "pixels":
        center = models.mean[0, 0]
        optimizer = optax.chain(
            ascent.normalize_by_l2(),
            optax.sgd(rate * (1 - momentum), momentum=momentum),
            ascent.keep_in_range(0.0, 1.0),
        )
    else:
        center, optimizer = 0.5, optax.adam(rate, b1=momentum)
    score = scores.logit(models.maker, label)
    made = pictures.ascend(
        score,
        image,
        step_key,
        steps,
        recipe,
        optimizer=optimizer,
        augment=augmentation(setting),
        prior=ascent.l2(setting["l2"], center) + ascent.total_variation(setting["total_variation"]),
    )
    return pictures.measure(models, score, made, made.image)


if __name__ == "__main__":
    main.from_command_line()
