"""How much faster are deletion and insertion of many images at once than image by image?

  python experiments/benchmarks/perturbation_metrics.py

Both metrics of 100 images at 64x64 in 64 steps are 13,000 passes forward of the bundled ResNet.
They are made

- one image and one step at a time, as the definition reads: a loop that replaces pixels in NumPy
  and calls the model, as it is or compiled by `jax.jit`, and reads the probability;
- of one image at a time, compiled whole, with several steps at once (`batch_size`);
- of many images at once: `sweep`, one program that maps over images, and over the steps of each in
  turn, compiled once; each core takes its share of the images.

The first two are timed on a few images only. Printed are the milliseconds a pass, compilation
excepted, how many times faster than one at a time that is, and by how much the areas differ at
most; at the end those of the bare passes in batches, without any metric, so that what is left
between is the metrics' own cost.

Measured on two processor cores (jax 0.10.2; 2 minutes), milliseconds a pass, and how many times
faster than one step at a time without and with a compiled model:

  one step at a time, not compiled       22.78
  one step at a time, compiled            5.37
  1 images, 1 steps at once               4.12          5.5          1.3
  1 images, 16 steps at once              2.06         11.1          2.6
  4 images, 4 steps at once               1.57         14.5          3.4
  20 images, 1 steps at once              1.48         15.4          3.6
  100 images, 1 steps at once             1.48         15.4          3.6

The areas differ by 1e-7 at most. Bare passes on one device take 6.33 ms one at a time and 2.13 ms
at best in batches: the metrics' own cost is small, and both cores are busier when each has its own
images.

Where the time goes: a pass is 0.3 billion operations, in convolutions. Two cores whose matrix
products reach 450 billion a second need 0.7 ms for it, however many images there are at once; what
is gained beyond the compiled pass of one image over that is not arithmetic, but calls and
operations that were not compiled. An accelerator, which one image leaves idle, gains more.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _measure import seconds

from saliency_jax import filters, metrics, models, runs, scores
from saliency_jax.runs import sweep

# Images and steps at once.
BATCHES = ((1, 1), (1, 16), (4, 4), (20, 1), (100, 1))


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "tiny-imagenet-standard"
    """A bundled model, or the folder of a saved one."""
    count: int = 100
    """Images of smooth noise."""
    few: int = 2
    """How many of them are also measured one step at a time."""
    steps: int = 64
    """Parts of the pixels that are replaced one after the other."""


def areas(model: Any, *, example: Mapping[str, jax.Array], steps: int, batch_size: int):
    """(2,), the areas under the curves of one map."""
    score = scores.probability(model, 0)
    curves = (metrics.deletion, metrics.insertion)
    return jnp.stack(
        [
            curve(score, example["image"], example["map"], steps=steps, batch_size=batch_size).area
            for curve in curves
        ]
    )


def areas_step_by_step(
    probability: Callable, image: np.ndarray, saliency_map: np.ndarray, steps: int
) -> list[float]:
    """The same, as the definition reads."""
    order = np.argsort(-saliency_map.ravel(), kind="stable")
    flat = image.reshape(order.size, -1)
    mean = np.broadcast_to(flat.mean(0), flat.shape)
    blurred = np.asarray(filters.blur(jnp.asarray(image), 5.0)).reshape(flat.shape)
    results = []
    for start, finish in ((flat, mean), (blurred, flat)):
        shown, probabilities, fractions = start.copy(), [], []
        for step in range(steps + 1):
            count = step * order.size // steps
            shown[order[:count]] = finish[order[:count]]
            probabilities.append(float(probability(shown.reshape(image.shape))))
            fractions.append(count / order.size)
        results.append(float(np.trapezoid(probabilities, fractions)))
    return results


def seconds_of_sweep(
    model: Any, examples: Mapping[str, np.ndarray], steps: int, images: int, batch_size: int
) -> tuple[float, np.ndarray]:
    """Wall time of all examples from the first chunk on, and their areas (n, 2)."""
    started: list[float] = []

    def begin(points: int) -> None:
        if points == 0:
            started.append(time.perf_counter())

    values = sweep(
        functools.partial(areas, steps=steps, batch_size=batch_size),
        {"example": examples},
        shared=model,
        batch_size=images,
        progress=begin,
    )
    return time.perf_counter() - started[0], values


def main(settings: Settings) -> None:
    classifier = models.load(settings.model)
    model = classifier.network
    shape = (*classifier.input.size, classifier.input.channels)
    draw = np.random.default_rng(0).random
    # Noise with a few large shapes, so that probabilities vary.
    smooth = jax.jit(jax.vmap(functools.partial(filters.blur, sigma=6.0)))
    images = np.asarray(smooth(draw((settings.count, *shape), np.float32)))
    images = np.clip(0.5 + 6 * (images - 0.5), 0, 1)
    examples = {"image": images, "map": draw((settings.count, *shape[:2]), np.float32)}
    passes = 2 * (settings.steps + 1)
    few = range(min(settings.few, settings.count))

    def probability(model, image):
        return jax.nn.softmax(model(image))[0]

    print(f"{'':32s}{'ms a pass':>12s}{'faster than':>26s}{'largest':>12s}")
    print(f"{'':44s}{'not compiled':>14s}{'compiled':>12s}{'difference':>12s}")
    one_at_a_time: dict[str, float] = {}
    calls: dict[str, Callable] = {"not compiled": probability, "compiled": jax.jit(probability)}
    for name, call in calls.items():
        of_image = functools.partial(call, model)
        of_image(images[0])
        start = time.perf_counter()
        expected = [
            areas_step_by_step(of_image, images[i], examples["map"][i], settings.steps) for i in few
        ]
        one_at_a_time[name] = (time.perf_counter() - start) / len(few) / passes
        print(f"one step at a time, {name:12s}{1e3 * one_at_a_time[name]:12.2f}", flush=True)
    for at_once, batch_size in BATCHES:
        if at_once > settings.count:
            continue
        taken, values = seconds_of_sweep(model, examples, settings.steps, at_once, batch_size)
        each = taken / settings.count / passes
        faster = "".join(f"{before / each:13.1f}" for before in one_at_a_time.values())
        difference = np.abs(values[: len(few)] - np.array(expected)).max()
        what = f"{at_once} images, {batch_size} steps at once"
        print(f"{what:32s}{1e3 * each:12.2f}{faster}{difference:12.0e}", flush=True)
    bare = jax.jit(lambda model, images: jax.vmap(model)(images))
    for size in sorted({at_once * batch_size for at_once, batch_size in BATCHES}):
        if size <= settings.count:
            each = seconds(bare, model, images[:size]) / size
            print(f"bare passes, {size:3d} at once         {1e3 * each:12.2f}", flush=True)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
