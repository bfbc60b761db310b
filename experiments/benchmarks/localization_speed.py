"""How many images a second are explained and cut?

  python experiments/benchmarks/localization_speed.py

Saliency of a single pass by the bundled robust model, the graph cut of its maps by threads, and
both one after the other. On two processor cores 200, 344 and 126 images a second (jax 0.10.2).
"""

import concurrent.futures
import dataclasses

import jax
import numpy as np
from _measure import seconds

from saliency_jax import attribution, localization, models, runs, scores


@dataclasses.dataclass(frozen=True)
class Settings:
    images: int = 200
    """How many, at once; they are noise over smooth colours, and maps are those of the model."""
    repeats: int = 5
    """Timings, of which the median counts."""


@jax.jit
def saliency_maps(model, images, labels):
    def of_one(image, label):
        return attribution.saliency(scores.logit(model, label), image)

    return jax.vmap(of_one)(images, labels)


def boxes(maps, images):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [found.box for found in pool.map(localization.localize, maps, images)]


def main(settings: Settings) -> None:
    classifier = models.load("tiny-imagenet-robust")
    model, (height, width) = classifier.network, classifier.input.size
    generator = np.random.default_rng(0)
    colors = jax.image.resize(
        generator.random((settings.images, 4, 4, 3), np.float32),
        (settings.images, height, width, 3),
        "cubic",
    )
    noise = generator.normal(0, 0.05, colors.shape)
    images = np.clip(colors + noise, 0, 1).astype(np.float32)
    labels = generator.integers(0, classifier.num_classes, settings.images)
    maps = np.asarray(saliency_maps(model, images, labels))
    cases = {
        "saliency": lambda: saliency_maps(model, images, labels),
        "cut": lambda: boxes(maps, images),
        "both": lambda: boxes(np.asarray(saliency_maps(model, images, labels)), images),
    }
    for name, function in cases.items():
        rate = settings.images / seconds(function, repeats=settings.repeats)
        print(f"{name:10s}{rate:6.0f} images/s")


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__ or "")
