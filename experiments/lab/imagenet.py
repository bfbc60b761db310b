"""Pictures of ImageNet's classes: who makes them, how, and who judges them.

The judge is a network that had no part in the pictures. It sees them as it sees any photograph.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saliency_jax import _constants as constants
from saliency_jax import ascent
from saliency_jax.models import Classifier

from .photographs import SCORES
from .recipes import keys

MAKER, JUDGE = "efficientnet-lite0", "efficientnet-lite2"
# Those of the paper's and the course's figures, and others that anyone can name.
CLASSES = (
    "corn",
    "dining table",
    "red wine",
    "pineapple",
    "magnetic compass",
    "analog clock",
    "digital clock",
    "goldfish",
    "monarch",
    "flamingo",
)
# From half the size to the whole: a step at half the size costs less than a quarter.
STEPS, SCALE = (64, 32), 2.0
RATE = 0.1
# Amplitudes fall faster than those of photographs, which keeps the finest patterns down.
DECAY = 1.5
# Weight of the squared distance from grey, which keeps pictures from clipping.
L2 = 3e-4
TOP = 5
# Pictures from this side on are made so, smaller ones on the pixels as they are.
LEAST_SIDE = 128
AUGMENT = ascent.compose(
    ascent.pad(12, 0.5),
    ascent.jitter(8),
    # Zooms as wide as this, against lucid's 0.9 to 1.1, are what another network recognizes by.
    ascent.scale(0.6, 1.3),
    ascent.rotate(15.0),
    ascent.jitter(4),
)


class Picture(NamedTuple):
    """What one ascent made: see `ascent.Ascent`."""

    image: Any
    values: Any
    failed_at: Any


def canvas(shape: tuple[int, int, int]) -> ascent.Canvas:
    """Fourier coefficients in the colours of photographs, lucid's canvas."""
    links = [ascent.fourier_canvas(shape, DECAY)]
    if shape[-1] == 3:
        links.append(ascent.color_canvas(ascent.TINY_IMAGENET_COLORS.covariance))
    return ascent.chain_canvases(*links, ascent.sigmoid_canvas())


def visualize(network: Any, *, label: Any, seed: int, shape: tuple, score: str) -> Picture:
    """A picture (h, w, c) of a class, from coarse to fine."""
    image_key, step_key = keys(seed, label)
    start = canvas(shape).decode(ascent.fourier_noise(image_key, shape))
    made = ascent.ascend_octaves(
        SCORES[score](network, label),
        start,
        optax.adam(RATE),
        STEPS,
        key=step_key,
        octaves=len(STEPS),
        scale=SCALE,
        make_canvas=canvas,
        augment=AUGMENT,
        prior=ascent.l2(L2, center=0.5),
    )
    return Picture(made.image, made.values, made.state.failed_at)


@functools.cache
def _wordnet_ids() -> dict[str, str]:
    """Class name -> WordNet id, of ImageNet's thousand classes and of Tiny-ImageNet's names."""
    tables = (constants.tiny_imagenet_classes(), constants.imagenet_classes())
    return {name: wnid for table in tables for wnid, name in table.items()}


def labels(names: Sequence[str], judge: Classifier) -> list[int | None]:
    """The judge's labels of classes, found by name or by WordNet id; none where it has none."""
    ids = _wordnet_ids()
    numbers = {ids[name]: label for label, name in enumerate(judge.class_names) if name in ids}
    own = {name: label for label, name in enumerate(judge.class_names)}
    return [own[name] if name in own else numbers.get(ids.get(name, "")) for name in names]


def ranks(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,), the place of each label in the order of probabilities (n, k), 1 for the likeliest."""
    asked = np.take_along_axis(answers, labels[:, None], axis=1)
    return 1 + (answers > asked).sum(axis=1)


def answers(judge: Classifier, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(n, k), the probabilities that a judge gives to pictures of any size."""
    seen = np.stack([judge.preprocess(np.asarray(image)) for image in images])
    return np.asarray(_probabilities(judge.network, seen))


@jax.jit
def _probabilities(network, images):
    return jax.nn.softmax(jax.lax.map(network, jnp.asarray(images)))
