"""Gradient ascent on an image: class model visualization."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from .._types import Augment, Count, Decode, Image, Key, Params, Prior, Scalar, Score
from .._validation import check_count, check_finite, check_floats, check_image, is_concrete
from .canvases import pixels

Snapshots = Integer[Array, "n"] | Integer[np.ndarray, "n"] | Sequence[Count]


class AscentState(NamedTuple):
    """Everything that evolves during gradient ascent, and all that is needed to go on with it.

    Attributes:
      params: what is moved: for the canvas of plain pixels, the image (h, w, c).
      opt_state: the optimizer's state.
      key: the random key of the steps to come.
      step: the number of steps made so far.
    """

    params: Params
    opt_state: optax.OptState
    key: Key
    step: Integer[Array, ""]


class Ascent(NamedTuple):
    """What `ascend` returns.

    Attributes:
      state: the state after the last step, from which another `ascend` goes on.
      image: the decoded image (h, w, c) after the last step.
      values: the objective (steps,) that each step saw before it moved.
      snapshots: the decoded images (n, h, w, c) at the steps that were asked for.
    """

    state: AscentState
    image: Image
    values: Float[Array, "steps"]
    snapshots: Float[Array, "n h w c"]


def initial_state(params: Params, optimizer: optax.GradientTransformation, key: Key) -> AscentState:
    """The state of gradient ascent before its first step.

    Args:
      params: where to start: for the canvas of plain pixels, an image (h, w, c).
      optimizer: any `optax.GradientTransformation`.
      key: a JAX random key, from which the key of every step is split.

    Returns:
      The state at step 0.

    Raises:
      TypeError: a parameter does not hold floats.
      ValueError: a parameter is known and not finite.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax import ascent
      >>> state = ascent.initial_state(jnp.zeros((8, 8, 3)), optax.adam(0.05), jax.random.key(0))
      >>> print(state.step)
      0

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    for leaf in jax.tree.leaves(params):
        check_floats("params", leaf)
        check_finite("params", leaf)
    return AscentState(params, optimizer.init(params), key, jnp.zeros((), jnp.int32))


def ascent_step(
    score: Score,
    state: AscentState,
    optimizer: optax.GradientTransformation,
    *,
    decode: Decode = pixels,
    augment: Augment | None = None,
    prior: Prior | None = None,
    num_samples: int = 1,
) -> tuple[AscentState, Scalar]:
    """One step of gradient ascent, a pure function of its state.

    x <- x + update(d/dx [mean_n S(augment(I, key_n)) - R(I)]) with I = decode(x), R the prior

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      state: where the ascent is.
      optimizer: any `optax.GradientTransformation`, line searches included; it is handed the
        gradient of minus the objective, so that it descends as usual.
      decode: from the parameters to an image (h, w, c).
      augment: callable PyTree from an image and a key to an image, such as `jitter(4)`.
      prior: callable PyTree from an image to a penalty, such as `l2(1e-3)`.
      num_samples: how many draws of the augmentation each step averages the score over, at least 1.
        They are made at once, so memory grows with them.

    Returns:
      The next state, and the objective S(augment(I, key)) - R(I) at the state before it.

    Raises:
      TypeError: num_samples is not an integer, the decoded image does not hold floats, or the score
        is not one floating-point number.
      ValueError: num_samples < 1, or the decoded image is not of shape (h, w, c).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax import ascent
      >>> optimizer = optax.sgd(0.25)
      >>> state = ascent.initial_state(jnp.zeros((1, 1, 1)), optimizer, jax.random.key(0))
      >>> def score(image):
      ...     return 2.0 * image.sum()
      >>> state, value = ascent.ascent_step(score, state, optimizer)
      >>> print(state.params.item(), value)
      0.5 0.0

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    check_count("num_samples", num_samples, 1)
    key, augment_key = jax.random.split(state.key)

    def energy(params: Params) -> Scalar:
        image = decode(params)
        check_image(image, "the decoded image")
        if augment is None:
            value = score(image)
        elif num_samples == 1:
            value = score(augment(image, augment_key))
        else:
            keys = jax.random.split(augment_key, num_samples)
            value = jax.vmap(lambda key: score(augment(image, key)))(keys).mean()
        return -value if prior is None else prior(image) - value

    value, gradient = jax.value_and_grad(energy)(state.params)
    # Line searches need the energy itself; transformations that do not are not given it.
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient, state.opt_state, state.params, value=value, grad=gradient, value_fn=energy
    )
    params = optax.apply_updates(state.params, updates)
    return AscentState(params, opt_state, key, state.step + 1), -value


def ascend(
    score: Score,
    state: AscentState,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    decode: Decode = pixels,
    augment: Augment | None = None,
    prior: Prior | None = None,
    num_samples: int = 1,
    snapshots: Snapshots | None = None,
) -> Ascent:
    """Gradient ascent: the image that a score likes best, near where the ascent begins.

    I* = decode(argmax_x E_key[S(augment(decode(x), key))] - R(decode(x)))

    With the logit of a class and the L2 prior it is the class model visualization of Simonyan et
    al. It is one `lax.scan` over `ascent_step`. Calls that pass their state on make the same steps
    as one long call, so a script shows progress by calling it in segments.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      state: from `initial_state`, or the state of an earlier `Ascent`.
      optimizer: any `optax.GradientTransformation`. For numbers that are mapped over or changed
        without compiling again, `optax.inject_hyperparams` keeps them in the state.
      steps: how many steps to make, at least 1.
      decode: from the parameters to an image (h, w, c).
      augment: callable PyTree from an image and a key to an image, such as `jitter(4)`.
      prior: callable PyTree from an image to a penalty, such as `l2(1e-3)`.
      num_samples: how many draws of the augmentation each step averages the score over, at least 1.
        They are made at once, so memory grows with them.
      snapshots: at which numbers of steps within this call, 0 .. steps, to keep the image; 0 is the
        image before the first step. Other numbers of the same count do not compile again. A traced
        one cannot be checked: out of range, its image is nan.

    Returns:
      The `Ascent`: last state, its image, the objective at each step, and the snapshots.

    Raises:
      TypeError: steps, num_samples or snapshots are not integers, the decoded image does not hold
        floats, or the score is not one floating-point number.
      ValueError: steps < 1, num_samples < 1, a known snapshot is not in 0 .. steps, or the decoded
        image is not of shape (h, w, c).

    Example:
      The score -|I - 1|^2 is largest at 1. Under plain gradient steps of 0.25, the distance to it
      is halved each time:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import saliency_jax as sj
      >>> optimizer = optax.sgd(0.25)
      >>> state = sj.ascent.initial_state(jnp.zeros((1, 1, 1)), optimizer, jax.random.key(0))
      >>> def score(image):
      ...     return -((image - 1.0) ** 2).sum()
      >>> ascent = sj.ascend(score, state, optimizer, steps=3, snapshots=[0, 2])
      >>> print(ascent.image.item(), ascent.values, ascent.snapshots.ravel())
      0.875 [-1.     -0.25   -0.0625] [0.   0.75]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    check_count("steps", steps, 1)
    kept_steps = _kept_steps(snapshots, steps)

    def keep(kept: Float[Array, "n h w c"], params: Params, count: Integer[Array, ""]):
        return jnp.where((kept_steps == count)[:, None, None, None], decode(params)[None], kept)

    def step(carry, count: Integer[Array, ""]):
        state, kept = carry
        state, value = ascent_step(
            score,
            state,
            optimizer,
            decode=decode,
            augment=augment,
            prior=prior,
            num_samples=num_samples,
        )
        return (state, keep(kept, state.params, count)), value

    image = decode(state.params)
    check_image(image, "the decoded image")
    kept = jnp.full((kept_steps.size, *image.shape), jnp.nan, image.dtype)
    kept = keep(kept, state.params, jnp.asarray(0))
    (state, kept), values = jax.lax.scan(step, (state, kept), jnp.arange(1, steps + 1))
    return Ascent(state, decode(state.params), values, kept)


def _kept_steps(snapshots: Snapshots | None, steps: int) -> Integer[Array, "n"]:
    known = all(is_concrete(leaf) for leaf in jax.tree.leaves(snapshots))
    asked = () if snapshots is None else snapshots
    kept_steps = np.asarray(asked) if known else jnp.asarray(asked)
    if kept_steps.ndim != 1:
        raise ValueError(f"expected snapshots to have shape (n,), got {kept_steps.shape}")
    if kept_steps.size and not jnp.issubdtype(kept_steps.dtype, jnp.integer):
        raise TypeError(f"expected snapshots to be integers, got {kept_steps.dtype}")
    if known and not ((kept_steps >= 0) & (kept_steps <= steps)).all():
        raise ValueError(f"expected snapshots to be in 0 .. {steps}, got {snapshots}")
    return jnp.asarray(kept_steps, jnp.int32)
