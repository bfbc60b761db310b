"""How class visualizations are made: initial images, optimizers, the default recipe."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro

from saliency_jax import ascent
from saliency_jax._types import Augment

# Of the bundled models' classes those whose pictures are easily named.
FAMILIAR_CLASSES = (
    "lemon",
    "banana",
    "bell pepper",
    "school bus",
    "king penguin",
    "monarch",
    "ladybug",
    "goldfish",
    "espresso",
    "pizza",
)
# Each with a learning rate at which a robust model's pictures are good.
OPTIMIZERS: dict[str, tuple[Callable[[Any], optax.GradientTransformation], float]] = {
    "normalized": (lambda rate: optax.chain(ascent.normalize_by_l2(), optax.sgd(rate)), 0.5),
    "sgd": (optax.sgd, 0.5),
    "momentum": (lambda rate: optax.sgd(rate, momentum=0.9), 0.05),
    "adam": (optax.adam, 0.01),
    "nadam": (optax.nadam, 0.01),
    "rmsprop": (optax.rmsprop, 0.01),
    "sign": (lambda rate: optax.chain(optax.scale_by_sign(), optax.sgd(rate)), 0.01),
    # Here the rate is that of the longest step, which the line search shortens.
    "lbfgs": (
        lambda rate: optax.lbfgs(
            rate, linesearch=optax.scale_by_backtracking_linesearch(8, decrease_factor=0.5)
        ),
        1.0,
    ),
}
OptimizerName = tyro.extras.literal_type_from_choices(OPTIMIZERS)
INITIAL_NOISE = 0.05
# The standard deviation of photographs, as in `ascent.TINY_IMAGENET_COLORS`.
SMOOTH_NOISE = 0.28
INITIAL: dict[str, Callable] = {
    "zeros": lambda key, shape, mean: ascent.zeros(shape),
    "ones": lambda key, shape, mean: ascent.constant(shape, 1.0),
    "grey": lambda key, shape, mean: ascent.constant(shape, 0.5),
    "mean": lambda key, shape, mean: ascent.constant(shape, mean),
    "uniform": lambda key, shape, mean: ascent.uniform_noise(key, shape),
    "normal": lambda key, shape, mean: ascent.normal_noise(key, shape, 0.5, INITIAL_NOISE),
    "smooth": lambda key, shape, mean: jnp.clip(
        ascent.smooth_noise(key, shape, mean, SMOOTH_NOISE), 0.0, 1.0
    ),
}
InitialName = tyro.extras.literal_type_from_choices(INITIAL)
# The default recipe: normalized steps of this length from normal noise, each under a shift.
LEARNING_RATE = OPTIMIZERS["normalized"][1]
JITTER = 4


def make_optimizer(name: str, learning_rate: Any) -> optax.GradientTransformation:
    """The optimizer of this name, kept in [0, 1]."""
    make, _ = OPTIMIZERS[name]
    return optax.chain(make(learning_rate), ascent.keep_in_range(0.0, 1.0))


def keys(seed: Any, label: Any) -> jax.Array:
    """The keys of the initial image and of the steps.

    They are of seed and class alone, so that a picture does not depend on which others are made.
    """
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), label))


def start(mean: Any, name: str, label: Any, seed: Any) -> tuple[jax.Array, jax.Array]:
    """The initial image of this name, and the key of the steps.

    Args:
      mean: (h, w, c), an image of the mean colour of the model's training images.
      name: a key of `INITIAL`.
      label: the class.
      seed: an integer.

    Returns:
      The image (h, w, c) in [0, 1], and a key.
    """
    image_key, step_key = keys(seed, label)
    return INITIAL[name](image_key, mean.shape, mean[0, 0]), step_key


DEFAULT_OPTIMIZER = make_optimizer("normalized", LEARNING_RATE)
DEFAULT_AUGMENT = ascent.jitter(JITTER)


def ascend(
    score: Any,
    start: Any,
    key: jax.Array,
    steps: int,
    *,
    optimizer: optax.GradientTransformation = DEFAULT_OPTIMIZER,
    augment: Augment | None = DEFAULT_AUGMENT,
    **options: Any,
) -> ascent.Ascent:
    """`ascent.ascend` from a start, by the default recipe where nothing else is said."""
    state = ascent.initial_state(start, optimizer, key)
    return ascent.ascend(score, state, optimizer, steps, augment=augment, **options)
