"""Optax transformations that gradient ascent on images needs beside optax's own.

Each is a link for `optax.chain`, which sees descent directions: ascent hands the optimizer the
gradient of minus its objective. Links that change the image, and not the direction of the step, go
after the learning rate; they raise ValueError when they are used without the parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

from .._numerics import at_least_single, direction, in_dtype
from .._types import Color, Count, Image, Number, Params, Pixels
from .._validation import as_color, as_image, as_integer, as_number, filled
from ..attacks import Ball
from ..filters import blur


class StepCount(NamedTuple):
    """The state of a link that does something every so many steps.

    Attributes:
      step: the number of steps made so far.
    """

    step: Integer[Array, ""]


def normalize_by_l2() -> optax.GradientTransformation:
    """Divides the gradient by its Euclidean norm, taken over the whole image at once.

    u = g / |g|_2, and u = 0 where g = 0

    Followed by `optax.sgd(learning_rate)`, every step has the length of the learning rate, however
    small or large the gradient is.

    Returns:
      An `optax.GradientTransformation` without state, over any PyTree of parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import normalize_by_l2
      >>> optimizer = optax.chain(normalize_by_l2(), optax.sgd(0.5))
      >>> x = jnp.zeros((1, 2, 1))
      >>> updates, _ = optimizer.update(jnp.array([[[3e-30], [4e-30]]]), optimizer.init(x), x)
      >>> print(f"{jnp.linalg.norm(updates):.4f}")
      0.5000

    Reference:
      Engstrom, Ilyas, Santurkar, Tsipras, Tran, Madry, Adversarial Robustness as a Prior for
      Learned Representations, 2019, arXiv:1906.00945.
    """

    return optax.stateless(lambda gradient, params: direction(gradient))


def keep_in_range(low: Number, high: Number) -> optax.GradientTransformation:
    """Shortens each update so that the parameters stay in a range: the last link of a chain.

    u' = clip(x + u, low, high) - x

    Args:
      low: the least value that a parameter may take, 0 for the pixels of images in [0, 1].
      high: the largest value, at least low.

    Returns:
      An `optax.GradientTransformation` without state. Parameters after the update are in
      [low, high]: exactly for [0, 1], to a rounding error for other ranges.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import keep_in_range
      >>> optimizer = optax.chain(optax.sgd(1.0), keep_in_range(0.0, 1.0))
      >>> x = jnp.full((1, 2, 1), 0.75)
      >>> updates, _ = optimizer.update(jnp.array([[[-2.0], [0.5]]]), optimizer.init(x), x)
      >>> print(optax.apply_updates(x, updates).squeeze())
      [1.   0.25]

    Reference:
      Madry, Makelov, Schmidt, Tsipras, Vladu, Towards Deep Learning Models Resistant to Adversarial
      Attacks, 2017, arXiv:1706.06083, on projected gradient steps.
    """
    low = as_number("low", low)
    high = as_number("high", high, low)

    def clipped(moved: Array) -> Array:
        return jnp.clip(moved, in_dtype(low, moved.dtype), in_dtype(high, moved.dtype))

    return _after_the_step(clipped)


def keep_in_ball(ball: Ball, center: Image, radius: Number) -> optax.GradientTransformation:
    """Shortens each update so that the image stays in a ball: the last link of a chain.

    u' = c + P(x + u - c) - x, P being the projection onto the ball of the radius about 0

    Args:
      ball: `attacks.L2` or `attacks.LINF`.
      center: c, an image of the parameters' shape (h, w, c).
      radius: the largest norm of x - c, in the image's units, at least 0.

    Returns:
      An `optax.GradientTransformation` without state, over one image. After the update, the
      parameters are in the ball, to a rounding error; where they were already, u' = u but for it.

    Raises:
      TypeError: the ball is none.
      ValueError: when the link is used, the centre has another shape than the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax import attacks
      >>> from saliency_jax.ascent import keep_in_ball
      >>> center = jnp.zeros((1, 2, 1))
      >>> optimizer = optax.chain(optax.sgd(1.0), keep_in_ball(attacks.L2, center, 5.0))
      >>> updates, _ = optimizer.update(
      ...     jnp.array([[[-6.0], [8.0]]]), optimizer.init(center), center
      ... )
      >>> print(optax.apply_updates(center, updates).squeeze())
      [ 3. -4.]

    Reference:
      Santurkar, Tsipras, Tran, Ilyas, Engstrom, Madry, Image Synthesis with a Single (Robust)
      Classifier, 2019, arXiv:1906.09453, on gradient ascent inside a ball.
    """
    if not isinstance(ball, Ball):
        raise TypeError(f"expected ball to be an attacks.Ball, got {type(ball).__name__}")
    middle = as_image(center, "center")
    radius = as_number("radius", radius, 0)

    def projected(moved: Pixels) -> Pixels:
        if moved.shape != middle.shape:
            raise ValueError(
                f"expected params of the centre's shape {middle.shape}, got {moved.shape}"
            )
        target = middle.astype(moved.dtype)
        return target + ball.project(moved - target, in_dtype(radius, moved.dtype))

    return _after_the_step(projected)


def decay_to(rate: Number, center: Color | Image = 0.0) -> optax.GradientTransformation:
    """Moves the image towards a centre after each step: the L2 decay of Yosinski et al.

    x + u' = c + (1 - rate) (x + u - c)

    Unlike the gradient of an `l2` prior, it is neither scaled nor smoothed by the optimizer.

    Args:
      rate: the share of the distance that is lost at each step, from 0, nothing, to 1, all.
      center: c, see the room.

    Returns:
      An `optax.GradientTransformation` without state, over one image.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import decay_to
      >>> optimizer = optax.chain(optax.sgd(1.0), decay_to(0.25))
      >>> x = jnp.ones((1, 1, 1))
      >>> updates, _ = optimizer.update(-x, optimizer.init(x), x)
      >>> print(optax.apply_updates(x, updates).squeeze())
      1.5

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, section 3.
    """
    rate, center = as_number("rate", rate, 0, 1), as_color("center", center)

    def decayed(moved: Pixels) -> Pixels:
        target = _centered_at(center, moved)
        return target + in_dtype(1 - rate, moved.dtype) * (moved - target)

    return _after_the_step(decayed)


def blur_every(steps: Count, std: Number) -> optax.GradientTransformation:
    """Blurs the image after every so many steps, against high frequencies.

    x + u' = B(x + u) at steps n, 2 n, 3 n, ... and x + u at others, B being `filters.blur`

    Args:
      steps: n, at least 1.
      std: the standard deviation of the blur in pixels, at least 0.

    Returns:
      An `optax.GradientTransformation` over one image, whose state is a `StepCount`.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import blur_every
      >>> optimizer = blur_every(2, std=0.5)
      >>> x = jnp.zeros((1, 5, 1)).at[0, 2].set(1.0)
      >>> state = optimizer.init(x)
      >>> for _ in range(2):
      ...     updates, state = optimizer.update(jnp.zeros_like(x), state, x)
      ...     print((100 * optax.apply_updates(x, updates)).ravel().astype(int))
      [  0   0 100   0   0]
      [ 0 15 68 15  0]

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, section 3.
    """
    interval, std = as_integer("steps", steps, 1), as_number("std", std, 0)

    def init(params: Params) -> StepCount:
        return StepCount(jnp.zeros((), jnp.int32))

    def update(updates: Pixels, state: StepCount, params: Pixels | None = None):
        step = state.step + 1
        moved = _moved(params, updates)
        is_due = step % in_dtype(interval, step.dtype) == 0
        blurred = jnp.where(is_due, blur(moved, std), moved)
        return optax.tree.sub(blurred, params), StepCount(step)

    return optax.GradientTransformation(init, update)


def clip_small_norms(fraction: Number, center: Color | Image = 0.0) -> optax.GradientTransformation:
    """Moves the pixels that differ least from a centre onto it, after each step.

    x + u' = c where |x + u - c|_2 over the channels is below its quantile, x + u at the others

    What the score hardly uses vanishes, and the main object is left.

    Args:
      fraction: the share of the pixels to clip, from 0, none, to 1.
      center: c, see the room.

    Returns:
      An `optax.GradientTransformation` without state, over one image.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import clip_small_norms
      >>> optimizer = optax.chain(optax.sgd(1.0), clip_small_norms(0.5))
      >>> x = jnp.array([[[1.0], [-2.0], [3.0], [-4.0]]])
      >>> updates, _ = optimizer.update(jnp.zeros_like(x), optimizer.init(x), x)
      >>> print(optax.apply_updates(x, updates).ravel())
      [ 0.  0.  3. -4.]

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, section 3.
    """
    fraction, center = as_number("fraction", fraction, 0, 1), as_color("center", center)

    def clipped(moved: Pixels) -> Pixels:
        target = _centered_at(center, moved)
        norms = jnp.linalg.norm(at_least_single(moved - target), axis=-1)
        return _replaced_below_quantile(norms, fraction, moved, target)

    return _after_the_step(clipped)


def clip_small_contributions(
    fraction: Number, center: Color | Image = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Moves the pixels that add least to the objective onto a centre, after each step.

    x + u' = c where |sum over channels of (x + u - c) g| is below its quantile, x + u at the others

    g is the gradient of the objective before the step: to first order, the sum is what moving the
    pixel to the centre would cost.

    Args:
      fraction: the share of the pixels to clip, from 0, none, to 1.
      center: c, see the room.

    Returns:
      An `optax.GradientTransformationExtraArgs` without state, over one image. It is handed the
      gradient by the keyword `grad`, as `ascent_step` does, since the links before it have changed
      theirs.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax.ascent import clip_small_contributions
      >>> optimizer = clip_small_contributions(0.5)
      >>> x, gradient = jnp.array([[[1.0], [2.0], [3.0]]]), jnp.array([[[-9.0], [1.0], [-1.0]]])
      >>> updates, _ = optimizer.update(0.0 * x, optimizer.init(x), x, grad=gradient)
      >>> print(optax.apply_updates(x, updates).ravel())
      [1. 0. 3.]

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, section 3.
    """
    fraction, center = as_number("fraction", fraction, 0, 1), as_color("center", center)

    def update(
        updates: Pixels,
        state: optax.EmptyState,
        params: Pixels | None = None,
        *,
        grad: Pixels,
        **_: object,
    ):
        moved = _moved(params, updates)
        target = _centered_at(center, moved)
        products = at_least_single(moved - target) * at_least_single(grad)
        contributions = jnp.abs(jnp.sum(products, axis=-1))
        clipped = _replaced_below_quantile(contributions, fraction, moved, target)
        return optax.tree.sub(clipped, params), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _after_the_step(change: Callable[[Array], Array]) -> optax.GradientTransformation:
    """The link that lets the update end at `change` of where it would have ended."""

    def changed(updates: Params, params: Params | None = None) -> Params:
        return jax.tree.map(lambda x, moved: change(moved) - x, params, _moved(params, updates))

    return optax.stateless(changed)


def _moved(params: Params | None, updates: Params) -> Params:
    if params is None:
        raise ValueError("expected params with the updates, got None")
    return jax.tree.map(jnp.add, params, updates)


def _centered_at(center: Color | Image, image: Pixels) -> Pixels:
    return filled("center", center, image.shape, image.dtype, or_image=True)


def _replaced_below_quantile(
    sizes: Float[Array, "h w"], fraction: Number, image: Pixels, replacement: Pixels
) -> Pixels:
    small = sizes < jnp.quantile(sizes, in_dtype(fraction, sizes.dtype))
    return jnp.where(small[:, :, None], replacement, image)
