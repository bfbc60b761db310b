"""Gradient ascent on an image: class model visualization."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Integer, PyTree

from .._types import Augment, Count, Decode, Image, Key, Params, Prior, Scalar, Score
from .._validation import check_count, check_finite, check_floats, check_image, is_concrete
from .canvases import pixels

Failures = Integer[Array, "..."] | Integer[np.ndarray, "..."]
Snapshots = Integer[Array, "n"] | Integer[np.ndarray, "n"] | Sequence[Count]


class AscentState(NamedTuple):
    """Everything that evolves during gradient ascent, and all that is needed to go on with it.

    Attributes:
      params: what is moved: for the canvas of plain pixels, the image (h, w, c).
      opt_state: the optimizer's state.
      key: the random key of the steps to come.
      step: the number of steps made so far.
      failed_at: the number, from 1, of the first step that met or made infinity or nan; 0 if there
        was none. That step is not made and none is after it: the rest stays as it was before.
    """

    params: Params
    opt_state: optax.OptState
    key: Key
    step: Integer[Array, ""]
    failed_at: Integer[Array, ""]


class Ascent(NamedTuple):
    """What `ascend` returns.

    Attributes:
      state: the state after the last step, from which another `ascend` goes on.
      image: the decoded image (h, w, c) after the last step, or the last finite one.
      values: the objective (steps,) that each step saw before it moved; nan after a failed step.
      snapshots: the decoded images (n, h, w, c) at the steps that were asked for. Scores and
        probabilities of them are `jax.vmap(score)(snapshots)` and
        `jax.nn.softmax(jax.vmap(model)(snapshots))`.
    """

    state: AscentState
    image: Image
    values: Float[Array, "steps"]
    snapshots: Float[Array, "n h w c"]


def initial_state(params: Params, optimizer: optax.GradientTransformation, key: Key) -> AscentState:
    """The state of gradient ascent before its first step.

    Args:
      params: where to start: for the canvas of plain pixels, an image (h, w, c), such as a
        photograph or another ascent's result; for other canvases, `canvas.encode(image)`.
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
    zero = jnp.zeros((), jnp.int32)
    return AscentState(params, optimizer.init(params), key, step=zero, failed_at=zero)


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
      The next state, and the objective S(augment(I, key)) - R(I) at the state before it. Where the
      objective, the next parameters or their image are not finite, the state stays and tells the
      step by `failed_at`; where it had failed before, the objective is nan.

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
    going = state.failed_at == 0
    moved = AscentState(params, opt_state, key, state.step + 1, state.failed_at)
    stopped = state._replace(failed_at=jnp.where(going, state.step + 1, state.failed_at))
    succeeds = going & _is_finite((value, params, decode(params)))
    state = jax.tree.map(functools.partial(jnp.where, succeeds), moved, stopped)
    return state, jnp.where(going, -value, jnp.nan)


def _is_finite(tree: PyTree[Float[Array, "..."]]) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


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
    as one long call, so a script shows progress by calling it in segments. At the first step that
    is not finite it stays where it is: see `check_finite_steps`.

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


def check_finite_steps(failed_at: Failures, **settings: object) -> None:
    """Raises if a step of an ascent, or of a batch of them, met or made infinity or nan.

    The message names the earliest such step with the settings of its ascent.

    Args:
      failed_at: `state.failed_at`, of any shape: that of one ascent, of a batch, of a grid.
      **settings: by name what the ascent was asked for, such as the learning rate: one value, or an
        array that is broadcast to the shape of `failed_at`.

    Raises:
      ValueError: a step was not finite. Every ascent's image is the last one that was.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax import ascent
      >>> def score(image):
      ...     return (image**2).sum()
      >>> def ascended(learning_rate):
      ...     optimizer = optax.sgd(learning_rate)
      ...     state = ascent.initial_state(jnp.ones((1, 1, 1)), optimizer, jax.random.key(0))
      ...     return ascent.ascend(score, state, optimizer, 3)
      >>> rates = jnp.array([0.5, 1e30])
      >>> ascents = jax.vmap(ascended)(rates)
      >>> ascent.check_finite_steps(ascents.state.failed_at, learning_rate=rates)
      Traceback (most recent call last):
      ...
      ValueError: expected finite steps, got infinity or nan at step 2 with learning_rate 1e+30
      >>> print(ascents.image.ravel())
      [8.e+00 2.e+30]
    """
    steps = np.asarray(failed_at)
    if not steps.any():
        return
    first = np.unravel_index(np.where(steps == 0, np.inf, steps).argmin(), steps.shape)
    named = [
        f"{name} {np.broadcast_to(np.asarray(value), steps.shape)[first]!s}"
        for name, value in settings.items()
    ]
    raise ValueError(
        f"expected finite steps, got infinity or nan at step {steps[first]}"
        + (f" with {', '.join(named)}" if named else "")
    )


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
