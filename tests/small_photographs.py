"""A folder of small pictures of noise, and a linear classifier of them: its gradients are known."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from saliency_jax.models import Classifier, Input

SIDE = 8
CLASSES = ("goose", "lemon", "pizza")
# Of a linear model the gradient, whatever the image.
WEIGHTS = np.random.default_rng(0).normal(size=(SIDE, SIDE, 3, len(CLASSES))).astype(np.float32)


def linear(weights, image):
    return jnp.einsum("hwc,hwck->k", image, weights)


def squared(weights, image):
    """A network whose gradient is another one for every image."""
    return linear(weights, image) ** 2


def classifier(function=linear) -> Classifier:
    network = jax.tree_util.Partial(function, jnp.asarray(WEIGHTS))
    return Classifier("linear", network, Input("image", (SIDE, SIDE)), CLASSES)


def folder(root: Path, count: int, side: int = SIDE) -> str:
    """`count` pictures, a third of each class, as a data set's name."""
    draws = np.random.default_rng(1)
    for index in range(count):
        place = root / "test" / CLASSES[index % len(CLASSES)]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{index:03d}.png")
    return str(root)
