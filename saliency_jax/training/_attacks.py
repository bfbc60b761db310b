"""Attacks on batches, for training and evaluation."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, Int

from .. import attacks, devices, scores
from .._types import Key, Label, Model, Number, ScoreFunction
from .._validation import as_number, check_callable, check_count, check_instance

Attack = Callable[[Callable, Float[Array, "n h w c"], Int[Array, "n"], Key], Array]

# Madry et al. 2018: radii that the steps reach together, so that they get from anywhere in the ball
# to its edge.
STEP_SIZE_FACTOR = 2.5


def pgd_attack(
    ball: attacks.Ball,
    epsilon: Number,
    *,
    step_size: Number,
    steps: int,
    random_start: bool = True,
    score: Callable[[Model, Label], ScoreFunction] = scores.log_prob,
) -> Attack:
    """An attack on a batch for training or evaluation: `attacks.pgd` on each image by itself.

    Args:
      ball: `attacks.L2` or `attacks.LINF`.
      epsilon: the ball's radius, in units of [0, 1].
      step_size: the norm of one step; `STEP_SIZE_FACTOR` epsilon / steps is Madry's, 1.25 epsilon
        with one step is FGSM with a random start (Wong et al. 2020).
      steps: gradient steps, at least 1.
      random_start: whether to start at a random place in the ball.
      score: (model, label) -> the score that the attack lowers: `scores.log_prob`, which is the
        cross-entropy, or `scores.margin`, whose gradient does not vanish where a softmax saturates
        (Carlini, Wagner 2017, arXiv:1608.04644).

    Returns:
      (model, images, labels, key) -> adversarial images.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def model(image):
      ...     return jnp.stack([image.sum(), 6 - image.sum()])
      >>> images, labels = jnp.full((1, 2, 2, 3), 0.6), jnp.array([0])
      >>> attack = pgd_attack(attacks.LINF, 0.2, step_size=0.2, steps=1, random_start=False)
      >>> print(f'{attack(model, images, labels, jax.random.key(0)).max():.2f}')
      0.40
    """
    check_instance("ball", ball, attacks.Ball, "an attacks.Ball")
    as_number("epsilon", epsilon, 0)
    as_number("step_size", step_size, 0)
    steps = check_count("steps", steps, 1)
    check_callable("score", score)

    def attack(model, images, labels, key):
        def one(image, label, key):
            lowered = score(model, label)
            return attacks.pgd(
                lambda image: -lowered(image),
                image,
                ball=ball,
                epsilon=epsilon,
                step_size=step_size,
                steps=steps,
                key=key if random_start else None,
            )

        return devices.vmap(one)(images, labels, jax.random.split(key, len(images)))

    return attack
