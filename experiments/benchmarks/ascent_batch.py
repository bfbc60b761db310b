"""What does a class visualization cost alone, in a batch, and on all devices?

  python experiments/benchmarks/ascent_batch.py

The default recipe of `experiments/class_visualization.py`, 256 steps for each of the first ten
classes of the bundled robust ResNet: one picture alone, all ten under `jax.vmap` on one device, and
all ten by `saliency_jax.sweep`, which shares them out among the devices, here the cores.
Compilation is not counted.

Measured on two processor cores (jax 0.10.2, median of three):

                       seconds   a picture  against alone
  one alone               1.86       1.857           1.00
  10 in a batch          11.99       1.199           0.65
  10 on 2 devices         7.27       0.727           0.39
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from _measure import seconds

from saliency_jax import ascent, models, runs, scores
from saliency_jax.runs import sweep


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "tiny-imagenet-robust"
    """Name of a bundled model, or the folder of a saved one."""
    classes: int = 10
    """Pictures at once."""
    steps: int = 256
    repeats: int = 3
    """Timings, of which the median counts."""


def visualize(model, *, label, shape, steps):
    """(h, w, c), the picture of a class by the default recipe."""
    optimizer = optax.chain(
        ascent.normalize_by_l2(), optax.sgd(0.5), ascent.keep_in_range(0.0, 1.0)
    )
    image_key, step_key = jax.random.split(jax.random.fold_in(jax.random.key(0), label))
    start = ascent.normal_noise(image_key, shape, 0.5, 0.05)
    state = ascent.initial_state(start, optimizer, step_key)
    score = scores.logit(model, label)
    return ascent.ascend(score, state, optimizer, steps, augment=ascent.jitter(4)).image


def main(settings: Settings) -> None:
    classifier = models.load(settings.model)
    model = classifier.network
    shape = (*classifier.input.size, classifier.input.channels)
    labels = jnp.arange(settings.classes)
    one = functools.partial(visualize, shape=shape, steps=settings.steps)
    single = jax.jit(one)
    batch = jax.jit(lambda model, labels: jax.vmap(lambda label: one(model, label=label))(labels))
    axes = {"label": labels}
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "one alone": (lambda: single(model, label=labels[0]), 1),
        f"{len(labels)} in a batch": (lambda: batch(model, labels), len(labels)),
        f"{len(labels)} on {jax.local_device_count()} devices": (
            lambda: sweep(one, axes, shared=model, batch_size=len(labels)),
            len(labels),
        ),
    }
    print(f"{'':20}{'seconds':>10}{'a picture':>12}{'against alone':>15}")
    alone = None
    for name, (call, pictures) in calls.items():
        whole = seconds(call, repeats=settings.repeats)
        each = whole / pictures
        alone = each if alone is None else alone
        print(f"{name:20}{whole:10.2f}{each:12.3f}{each / alone:15.2f}")


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
