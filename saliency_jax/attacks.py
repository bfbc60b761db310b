"""Adversarial images: ascent on a loss inside a ball around the image (FGSM, PGD)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._types import Image, Key, Number, Score
from ._validation import check_count, check_image

# Keeps the direction of a zero gradient finite; far below any gradient of a float32 network.
_TINY = 1e-20


class Ball(NamedTuple):
    """A norm's unit ball, as the three maps that ascent inside it needs.

    Attributes:
      direction: gradient -> the unit-norm step of steepest ascent.
      project: (perturbation, epsilon) -> the nearest perturbation of norm at most epsilon.
      sample: (key, shape) -> a random perturbation inside the unit ball, uniformly.
    """

    direction: Callable[[Array], Array]
    project: Callable[[Array, Number], Array]
    sample: Callable[[Key, tuple[int, ...]], Array]


def _norm(perturbation):
    return jnp.sqrt(jnp.sum(perturbation**2))


def _sample_l2(key, shape):
    direction_key, radius_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, shape)
    radius = jax.random.uniform(radius_key) ** (1 / direction.size)
    return radius * direction / _norm(direction)


L2 = Ball(
    direction=lambda gradient: gradient / jnp.maximum(_norm(gradient), _TINY),
    project=lambda perturbation, epsilon: (
        perturbation * jnp.minimum(1.0, epsilon / jnp.maximum(_norm(perturbation), _TINY))
    ),
    sample=_sample_l2,
)

LINF = Ball(
    direction=jnp.sign,
    project=lambda perturbation, epsilon: jnp.clip(perturbation, -epsilon, epsilon),
    sample=lambda key, shape: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0),
)


def pgd(
    loss: Score,
    image: Image,
    *,
    ball: Ball,
    epsilon: Number,
    step_size: Number,
    steps: int,
    key: Key | None = None,
) -> Image:
    """Projected gradient ascent on a loss inside a ball around the image, within [0, 1].

    x_{t+1} = clip(x_0 + P_epsilon(x_t + a direction(grad L(x_t)) - x_0), 0, 1), from a random x in
    the ball, or from the image itself.

    Args:
      loss: one image -> the scalar to raise, such as minus `scores.log_prob` of the true label; or
        `scores.log_prob` of another label for a targeted attack.
      image: (h, w, c) in [0, 1].
      ball: `L2` or `LINF`.
      epsilon: the ball's radius, in the image's units.
      step_size: the norm of one step, in the image's units; 2.5 epsilon / steps is Madry's.
      steps: number of gradient steps, at least 1.
      key: for the random start; none starts at the image.

    Returns:
      The adversarial image (h, w, c) in [0, 1], at most epsilon away from the image.

    Raises:
      TypeError: image is not floating point.
      ValueError: image is not (h, w, c) or steps < 1.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.full((1, 2, 1), 0.5)
      >>> pgd(jnp.sum, image, ball=LINF, epsilon=0.1, step_size=0.1, steps=3).shape
      (1, 2, 1)
      >>> print(f"{pgd(jnp.sum, image, ball=LINF, epsilon=0.1, step_size=0.1, steps=3).min():.2f}")
      0.60

    Reference: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv:1706.06083.
    """
    check_image(image)
    check_count("steps", steps, 1)
    start = image
    if key is not None:
        start = jnp.clip(image + epsilon * ball.sample(key, image.shape), 0.0, 1.0)

    def step(adversarial, _):
        moved = adversarial + step_size * ball.direction(jax.grad(loss)(adversarial))
        return jnp.clip(image + ball.project(moved - image, epsilon), 0.0, 1.0), None

    return jax.lax.scan(step, start, length=steps)[0]


def fgsm(
    loss: Score,
    image: Image,
    *,
    epsilon: Number,
    step_size: Number | None = None,
    ball: Ball = LINF,
    key: Key | None = None,
) -> Image:
    """One gradient step inside a ball: the fast gradient sign method and its random-start variant.

    x = clip(image + epsilon sign(grad L(image)), 0, 1) for `LINF` and no key.

    Args:
      loss: one image -> the scalar to raise.
      image: (h, w, c) in [0, 1].
      epsilon: the ball's radius, in the image's units.
      step_size: the norm of the step; epsilon if none. Wong et al. use 1.25 epsilon with a key.
      ball: `LINF` or `L2`.
      key: for the random start; none starts at the image.

    Returns:
      The adversarial image (h, w, c) in [0, 1], at most epsilon away from the image.

    Raises:
      TypeError: image is not floating point.
      ValueError: image is not (h, w, c).

    Example:
      >>> import jax.numpy as jnp
      >>> print(fgsm(lambda image: -image.sum(), jnp.full((1, 2, 1), 0.05), epsilon=0.1).ravel())
      [0. 0.]

    Reference: Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572; random start: Wong, Rice, Kolter
    2020, arXiv:2001.03994.
    """
    step_size = epsilon if step_size is None else step_size
    return pgd(loss, image, ball=ball, epsilon=epsilon, step_size=step_size, steps=1, key=key)
