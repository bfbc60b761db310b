"""Pictures of ImageNet's classes: who makes them, how, and who judges them.

The judge is a network that had no part in the pictures. It sees them as it sees any photograph.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from saliency_jax import _constants as constants
from saliency_jax import ascent
from saliency_jax._types import Augment, Image, Prior
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
# A step at half the size costs a quarter.
SCALE = 2.0
# Weight of the squared distance from grey, which keeps pictures from clipping: see
# `imagenet_visualization.py`.
L2 = 5e-4
# Amplitudes fall faster than those of photographs, which keeps the finest patterns down.
DECAY = 1.5
TOP = 5
# The abacus, first of ImageNet's classes that is no animal.
FIRST_THING = "n02666196"
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
GREY = 0.5

Shape = tuple[int, int, int]


class Picture(NamedTuple):
    """What one ascent made: see `ascent.Ascent`."""

    image: Any
    values: Any
    failed_at: Any


class Recipe(NamedTuple):
    """A way to make pictures of classes.

    Attributes:
      description: what it is, in words.
      make_canvas: from a shape (h, w, c) to the canvas of such images.
      start: from a key and a shape to the parameters of its canvas before the first step.
      optimizer: of its steps.
      steps: how many at each size, from the smallest, which are `SCALE` apart.
      augment: how the image is changed at random before each step.
      prior: what is subtracted from the score.
    """

    description: str
    make_canvas: Callable[[Shape], ascent.Canvas]
    start: Callable[[jax.Array, Shape], Any]
    optimizer: optax.GradientTransformation
    steps: tuple[int, ...]
    augment: Augment | None = None
    prior: Prior | None = None

    def at_heights(self, height: int) -> list[str]:
        """The number of steps at each height up to that of the picture."""
        heights = (round(height / SCALE**k) for k in reversed(range(len(self.steps))))
        return [f"{steps} at {side}" for steps, side in zip(self.steps, heights, strict=True)]


def canvas(
    shape: Shape,
    decay: float = DECAY,
    colors: ascent.ColorStatistics = ascent.TINY_IMAGENET_COLORS,
) -> ascent.Canvas:
    """Fourier coefficients in the colours of photographs, lucid's canvas."""
    return through_colors(ascent.fourier_canvas(shape, decay), shape, colors)


def through_colors(
    canvas: ascent.Canvas, shape: Shape, colors: ascent.ColorStatistics
) -> ascent.Canvas:
    links = [canvas]
    if shape[-1] == 3:
        links.append(ascent.color_canvas(colors.covariance))
    return ascent.chain_canvases(*links, ascent.sigmoid_canvas())


def phases(shape: Shape) -> ascent.Canvas:
    """The phases of ImageNet's spectrum, in its colours or as grey levels, their mean."""
    height, width, channels = shape
    magnitude, colors = ascent.imagenet_magnitude(height, width), ascent.IMAGENET_COLORS
    if channels != 3:
        # Of patterns that are independent but for the colours, each with its share of the mean.
        power = np.mean(magnitude**2, axis=-1, keepdims=True) * np.mean(colors.covariance)
        magnitude = np.repeat(np.sqrt(power), channels, axis=-1)
    return through_colors(ascent.phase_canvas(magnitude, width), shape, colors)


def mean_color(channels: int) -> np.ndarray:
    """ImageNet's mean colour, (3,), or for other images than of three channels its grey level."""
    color = np.asarray(ascent.IMAGENET_COLORS.mean)
    return color if channels == 3 else color.mean()


def papers_prior(image: Image) -> jax.Array:
    return ascent.l2(1e-3, center=mean_color(image.shape[-1]))(image)


def any_phases(key: jax.Array, shape: Shape) -> Any:
    height, width, channels = shape
    return ascent.uniform_noise(key, (height, width // 2 + 1, channels), -math.pi, math.pi)


# The other network names most of its pictures, and people most of the other's.
BEST, SHOWN = "coarse-to-fine", "smooth"
RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(
        "Simonyan et al. 2013: the pixels, from the mean colour, by plain gradients, with an L2 "
        "norm",
        lambda shape: ascent.chain_canvases(),
        # Of grey, which it takes for 0, Lite0 has hardly a gradient.
        lambda key, shape: ascent.constant(shape, mean_color(shape[-1])),
        optax.chain(optax.sgd(0.1), ascent.keep_in_range(0.0, 1.0)),
        (64,),
        prior=papers_prior,
    ),
    "lucid": Recipe(
        "Olah et al. 2017: Fourier coefficients scaled by 1 / f, by Adam, under shifts, zooms of "
        "0.9 to 1.1 and turns",
        lambda shape: canvas(shape, 1.0, ascent.IMAGENET_COLORS),
        ascent.fourier_noise,
        optax.adam(0.05),
        (64,),
        ascent.compose(
            ascent.pad(12, GREY),
            ascent.jitter(8),
            ascent.scale(0.9, 1.1),
            ascent.rotate(10.0),
            ascent.jitter(4),
        ),
    ),
    BEST: Recipe(
        "Fourier coefficients scaled by f^-1.5, by Adam, first at half the size, under shifts, "
        "zooms of 0.6 to 1.3 and turns, with an L2 norm",
        canvas,
        ascent.fourier_noise,
        optax.adam(0.1),
        (64, 32),
        AUGMENT,
        ascent.l2(L2, center=GREY),
    ),
    SHOWN: Recipe(
        "as coarse-to-fine, by steps of one length along the gradient, without a norm",
        canvas,
        ascent.fourier_noise,
        # The best length that `optimizers.py` finds, on whose trials this recipe was chosen.
        optax.chain(ascent.normalize_by_l2(), optax.sgd(1.58)),
        (64, 32),
        AUGMENT,
    ),
    "maco": Recipe(
        "Fel et al. 2023: the phases of photographs' mean spectrum, by Nadam, under the shifts, "
        "zooms and turns of coarse-to-fine",
        phases,
        any_phases,
        optax.nadam(0.3),
        (64,),
        AUGMENT,
    ),
}
RecipeName = tyro.extras.literal_type_from_choices(RECIPES)


def visualize(
    network: Any, *, label: Any, seed: int, shape: Shape, score: str, recipe: str = BEST
) -> Picture:
    """A picture (h, w, c) of a class, by the recipe of a name."""
    return raise_score(SCORES[score](network, label), label, seed=seed, shape=shape, recipe=recipe)


def raise_score(
    function: Callable, number: Any, *, seed: int, shape: Shape, recipe: str
) -> Picture:
    """A picture (h, w, c) of what the score is of, with a number and a seed for what is drawn."""
    image_key, step_key = keys(seed, number)
    chosen = RECIPES[recipe]
    canvas = chosen.make_canvas(shape)
    options: dict[str, Any] = {"augment": chosen.augment, "prior": chosen.prior}
    if len(chosen.steps) == 1:
        state = ascent.initial_state(chosen.start(image_key, shape), chosen.optimizer, step_key)
        made = ascent.ascend(
            function, state, chosen.optimizer, *chosen.steps, decode=canvas.decode, **options
        )
    else:
        made = ascent.ascend_octaves(
            function,
            canvas.decode(chosen.start(image_key, shape)),
            chosen.optimizer,
            chosen.steps,
            key=step_key,
            octaves=len(chosen.steps),
            scale=SCALE,
            make_canvas=chosen.make_canvas,
            **options,
        )
    return Picture(made.image, made.values, made.state.failed_at)


def is_animal(name: str) -> bool:
    """Whether a name is that of one of ImageNet's 398 animals, whose WordNet ids come first."""
    return _wordnet_ids().get(name, FIRST_THING) < FIRST_THING


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
    return np.asarray(probabilities(judge.network, seen))


@jax.jit
def probabilities(network, images):
    """(n, k), those that a network gives to images (n, h, w, c) of its size, as they are."""
    return jax.nn.softmax(jax.lax.map(network, jnp.asarray(images)))
