"""What does a class visualization owe to the image that it starts from?

  python experiments/initial_image.py
  python experiments/initial_image.py --classes lemon goose --seeds 2 --steps 200

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

The run's folder then holds `pictures-MODEL.png` and `pictures-MODEL.npz` (images and what was
measured of them), `config.json` and `index.html`, which shows it all.
"""

import dataclasses
import functools

import command_line
import comparison
import jax
import jax.numpy as jnp
import numpy as np
import saliency
import skimage.data
from comparison import Side, Variant, Work

from saliency_jax import ascent, data, report, scores

# The start whose pictures are another class's start.
DEFAULT = "normal"


@dataclasses.dataclass(frozen=True)
class Settings(comparison.ClassSettings):
    pass


def main(settings: Settings) -> None:
    comparison.check(settings)
    with report.RunFolder(settings.output, "initial_image") as run:
        run.save_config(settings)
        both = comparison.sides(settings)
        if len(both[0].labels) < 2:
            raise ValueError(
                "expected at least two of --classes, each to start from another's picture, got one"
            )
        recipe = functools.partial(visualize, steps=settings.steps)
        num_pictures = 2 * (len(comparison.INITIAL) + 2) * len(both[0].labels) * settings.seeds
        with comparison.working(run, settings, num_pictures) as work:
            results = [(side, variants(side, recipe, settings.seeds, work)) for side in both]
        measured = comparison.save(
            run, "The impact of the initial image", __doc__.partition("\n")[0], results
        )
    comparison.finish(run, measured)


def variants(side: Side, recipe: functools.partial, seeds: int, work: Work) -> list[Variant]:
    """One classifier's pictures of all classes from all seeds, for each start."""
    axes = {
        "of_class": {"label": side.labels, "place": np.arange(len(side.labels))},
        "seed": np.arange(seeds),
    }

    def made_from(name: str, starts: np.ndarray) -> Variant:
        shared = (side.models, starts)
        return Variant(name, *comparison.timed_sweep(work, side.maker, name, recipe, axes, shared))

    drawn = [made_from(name, initial_images(name, side, seeds)) for name in comparison.INITIAL]
    (default,) = (variant for variant in drawn if variant.name == DEFAULT)
    photograph = np.broadcast_to(cat(side), default.pictures.image.shape)
    others = np.roll(default.pictures.image, 1, axis=0)
    return [*drawn, made_from("photograph", photograph), made_from("another class", others)]


def initial_images(name: str, side: Side, seeds: int) -> np.ndarray:
    """(n, m, h, w, c), a start for each class and seed."""
    make, model = comparison.INITIAL[name], side.maker.model

    def of_one(label, seed):
        image_key, _ = comparison.keys(seed, label)
        return make(image_key, comparison.shape(model), comparison.mean_color(model))

    of_all = jax.vmap(jax.vmap(of_one, (None, 0)), (0, None))
    return np.asarray(jax.jit(of_all)(side.labels, np.arange(seeds)))


def cat(side: Side) -> np.ndarray:
    """(h, w, c) in [0, 1]: the photograph that scikit-image carries of a tabby cat."""
    photograph = data.fit(
        np.asarray(skimage.data.chelsea(), np.float32) / 255, side.maker.input_size
    )
    return saliency.with_channels(photograph, side.maker.model.channels)


def visualize(shared, *, of_class, seed, steps):
    """Gradient ascent from the start of a class and seed, and what is measured of its picture."""
    models, starts = shared
    _, step_key = comparison.keys(seed, of_class["label"])
    optimizer = comparison.make_optimizer("normalized", comparison.LEARNING_RATE)
    image = jnp.asarray(starts)[of_class["place"], seed]
    state = ascent.initial_state(image, optimizer, step_key)
    score = scores.logit(models.maker, of_class["label"])
    augment = ascent.jitter(comparison.JITTER)
    made = ascent.ascend(score, state, optimizer, steps, augment=augment)
    return comparison.measure(models, score, made, made.image)


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
