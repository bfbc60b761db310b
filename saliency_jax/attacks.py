"""Adversarial images: ascent on a loss inside a ball around the image (FGSM, PGD).

What means the same in both attacks:

  loss: callable PyTree from one image to the number to raise, such as minus `scores.log_prob` or
    minus `scores.margin` of the true label, or either of another label for a targeted attack. A
    confident model's probabilities saturate: where the gap between the logits is above about 100,
    the gradient of `log_prob` is 0 in single precision, while that of the margin is not.
  image: (h, w, c), within the bounds. All is computed in its precision, or in single for half.
  ball: `L2` or `LINF`.
  epsilon: the ball's radius, in the image's units, at least 0.
  step_size: the norm of one step, in the image's units, at least 0.
  key: a JAX random key for a random start in the ball; none starts at the image.
  bounds: the least and the largest value that an image may have. For images without them,
    (-inf, inf).

Both return the adversarial image (h, w, c), of the image's dtype, within the bounds and at most
epsilon away from the image, to a rounding error. They raise TypeError where the image does not hold
floats, the loss is not callable or not one real number, or the ball is none, and ValueError where
the image is not of shape (h, w, c), epsilon or step_size are known and negative, the bounds are not
in order, or the image is known and not within them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ._numerics import at_least_single, direction, in_dtype, norm, single_or_wider
from ._types import Image, Key, Number, ScoreFunction
from ._validation import (
    as_image,
    as_number,
    check_count,
    check_key,
    check_within,
    checked_together,
)
from .scores import as_score


class Ball(NamedTuple):
    """A norm's unit ball, as the three maps that ascent inside it needs.

    Attributes:
      direction: gradient -> the unit-norm step of steepest ascent; 0 for a gradient of 0.
      project: (perturbation, epsilon) -> the nearest perturbation of norm at most epsilon.
      sample: (key, shape, dtype) -> a random perturbation inside the unit ball, uniformly.
    """

    direction: Callable[[Array], Array]
    project: Callable[[Array, Number], Array]
    sample: Callable[..., Array]


def _project_l2(perturbation: Array, epsilon: Number) -> Array:
    # Optax's projection divides 0 by 0 for a ball of radius 0, or where all squares vanish.
    length = norm(perturbation)
    radius = in_dtype(epsilon, length.dtype)
    on_sphere = (radius * at_least_single(direction(perturbation))).astype(perturbation.dtype)
    return jnp.where(length <= radius, perturbation, on_sphere)


def _sample_l2(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    direction_key, radius_key = jax.random.split(key)
    normal = jax.random.normal(direction_key, shape, single_or_wider(dtype))
    radius = jax.random.uniform(radius_key, (), normal.dtype) ** (1 / normal.size)
    return (radius * direction(normal)).astype(dtype)


def _sample_linf(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    return jax.random.uniform(key, shape, single_or_wider(dtype), -1.0, 1.0).astype(dtype)


L2 = Ball(direction, _project_l2, _sample_l2)
LINF = Ball(jnp.sign, optax.projections.projection_linf_ball, _sample_linf)


def pgd(
    loss: ScoreFunction,
    image: Image,
    *,
    ball: Ball,
    epsilon: Number,
    step_size: Number,
    steps: int,
    key: Key | None = None,
    bounds: tuple[Number, Number] = (0.0, 1.0),
) -> Image:
    """Projected gradient ascent on a loss inside a ball around the image.

    x_{t+1} = clip(x_0 + P_epsilon(x_t + a direction(grad L(x_t)) - x_0), bounds), from a random x
    in the ball, or from the image itself. The direction has norm 1 for any gradient but 0.

    Args:
      loss, image, ball, epsilon, key, bounds: see the module.
      step_size: a; 2.5 epsilon / steps is Madry's.
      steps: number of gradient steps, at least 1.

    Returns:
      The adversarial image (h, w, c).

    Raises:
      TypeError, ValueError: see the module; steps is not an integer, or below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.full((1, 2, 1), 0.5)
      >>> print(pgd(jnp.sum, image, ball=LINF, epsilon=0.1, step_size=0.1, steps=3).ravel())
      [0.6 0.6]

    Reference:
      Madry, Makelov, Schmidt, Tsipras, Vladu, Towards Deep Learning Models Resistant to Adversarial
      Attacks, 2017, arXiv:1706.06083.
    """
    with checked_together():
        original, score = as_image(image), as_score(loss, "loss")
        steps = check_count("steps", steps, 1)
        if not isinstance(ball, Ball):
            raise TypeError(
                f"expected ball to be L2, LINF or another Ball, got {type(ball).__name__}"
            )
        radius, length = as_number("epsilon", epsilon, 0), as_number("step_size", step_size, 0)
        low, high = _checked_bounds(bounds, original)
    center = at_least_single(original)
    radius, length, low, high = (in_dtype(x, center.dtype) for x in (radius, length, low, high))

    def kept(perturbation: Array) -> Array:
        return jnp.clip(center + perturbation, low, high)

    def slope(adversarial: Array) -> Array:
        return at_least_single(jax.grad(score)(adversarial.astype(original.dtype)))

    def step(adversarial: Array, _: None) -> tuple[Array, None]:
        moved = adversarial + length * ball.direction(slope(adversarial))
        return kept(ball.project(moved - center, radius)), None

    start = center
    if key is not None:
        check_key(key)
        start = kept(radius * ball.sample(key, center.shape, center.dtype))
    return jax.lax.scan(step, start, length=steps)[0].astype(original.dtype)


def fgsm(
    loss: ScoreFunction,
    image: Image,
    *,
    epsilon: Number,
    step_size: Number | None = None,
    ball: Ball = LINF,
    key: Key | None = None,
    bounds: tuple[Number, Number] = (0.0, 1.0),
) -> Image:
    """One gradient step inside a ball: the fast gradient sign method and its random-start variant.

    x = clip(image + epsilon sign(grad L(image)), bounds) for `LINF` and no key.

    Args:
      loss, image, epsilon, ball, key, bounds: see the module.
      step_size: epsilon if none. Wong et al. use 1.25 epsilon with a key.

    Returns:
      The adversarial image (h, w, c).

    Raises:
      TypeError, ValueError: see the module.

    Example:
      >>> import jax.numpy as jnp
      >>> print(fgsm(lambda image: -image.sum(), jnp.full((1, 2, 1), 0.05), epsilon=0.1).ravel())
      [0. 0.]

    Reference:
      Goodfellow, Shlens, Szegedy, Explaining and Harnessing Adversarial Examples, 2014,
      arXiv:1412.6572; the random start: Wong, Rice, Kolter, Fast is Better than Free, 2020,
      arXiv:2001.03994.
    """
    length = epsilon if step_size is None else step_size
    return pgd(
        loss,
        image,
        ball=ball,
        epsilon=epsilon,
        step_size=length,
        steps=1,
        key=key,
        bounds=bounds,
    )


def _checked_bounds(bounds: tuple[Number, Number], image: Array) -> tuple[Number, Number]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"expected bounds to be (low, high), got {bounds!r}")
    low = as_number("the lower bound", bounds[0])
    high = as_number("the upper bound", bounds[1], low)
    check_within("image", image, low, high)
    return low, high
