"""Gradient ascent on an image: class model visualization."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Integer, PyTree

from .._numerics import OPTAX_PROMOTION, at_least_single
from .._types import Augment, Count, Decode, Image, Key, Params, Prior, Scalar, ScoreFunction
from .._validation import (
    as_image,
    as_number,
    check_callable,
    check_count,
    check_finite,
    check_floats,
    check_key,
    check_optimizer,
    checked_together,
    is_concrete,
    to_jax,
)
from ..scores import as_score
from ._canvases import pixels

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
        was none. That step is not made and none is after it: the rest stays as it was before, but
        for the keys, which are used up.
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
      values: the objective (steps,) that each step saw before it moved, in at least single
        precision; nan after a failed step.
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
      optimizer, key: see the room. The keys of all steps are split from this one.

    Returns:
      The state at step 0.

    Raises:
      TypeError: a parameter does not hold floats, or there is no optimizer or key.
      ValueError: there is no parameter, or one is known and not finite.

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
    check_optimizer(optimizer)
    check_key(key)
    if not jax.tree.leaves(params):
        raise ValueError(f"expected params to hold at least one array, got {params!r}")
    with checked_together():
        for leaf in jax.tree.leaves(params):
            check_floats("params", leaf)
            check_finite("params", leaf)
    params = jax.tree.map(to_jax, params)
    with jax.numpy_dtype_promotion(OPTAX_PROMOTION):
        opt_state = optimizer.init(jax.tree.map(at_least_single, params))
    # Two arrays, as one that is there twice could not be donated.
    step, failed_at = (jnp.zeros((), jnp.int32) for _ in range(2))
    return AscentState(params, opt_state, key, step, failed_at)


def ascent_step(
    score: ScoreFunction,
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
      score, state, optimizer, decode, augment, prior, num_samples: see the room.

    Returns:
      The next state, and the objective mean_n S(augment(I, key_n)) - R(I) at the state before it,
      in at least single precision. Where the objective, the next parameters or their image are not
      finite, the state stays, but for its keys, and tells the step by `failed_at`; where it had
      failed before, the objective is nan.

    Raises:
      TypeError, ValueError: see the room; what is decoded is no image (h, w, c).

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
    score = as_score(score)
    _check_setting(state, optimizer, decode, augment, prior, num_samples)
    key, augment_key = jax.random.split(state.key)

    def scored(image: Image, key: Key) -> Scalar:
        seen = image if augment is None else as_image(augment(image, key), "the augmented image")
        return at_least_single(score(seen))

    def objective(precise: Params) -> Scalar:
        image = as_image(decode(_in_dtypes_of(state.params, precise)), "the decoded image")
        if augment is None or num_samples == 1:
            value = scored(image, augment_key)
        else:
            keys = jax.random.split(augment_key, num_samples)
            value = jax.vmap(scored, in_axes=(None, 0))(image, keys).mean()
        if prior is None:
            return value
        penalty = as_number("what prior returns", prior(image))
        return value - jnp.asarray(penalty, value.dtype)

    def energy(precise: Params) -> Scalar:
        return -objective(precise)

    # Squares of gradients, and so Adam's moments, vanish in half precision.
    precise = jax.tree.map(at_least_single, state.params)
    # Of the objective, not of the energy: a score's own rules for its gradient may have a sign.
    value, slope = jax.value_and_grad(objective)(precise)
    gradient = jax.tree.map(jnp.negative, slope)
    with jax.numpy_dtype_promotion(OPTAX_PROMOTION):
        # Line searches need the energy itself; transformations that do not are not given it.
        updates, opt_state = optax.with_extra_args_support(optimizer).update(
            gradient, state.opt_state, precise, value=-value, grad=gradient, value_fn=energy
        )
        params = _in_dtypes_of(state.params, optax.apply_updates(precise, updates))
    going = state.failed_at == 0
    moved = AscentState(params, opt_state, key, state.step + 1, state.failed_at)
    stopped = state._replace(failed_at=jnp.where(going, state.step + 1, state.failed_at))
    succeeds = going & _is_finite((value, params, decode(params)))
    state = jax.tree.map(lambda new, old: _new_or_old(succeeds, new, old), moved, stopped)
    return state, jnp.where(going, value, jnp.nan)


def ascend(
    score: ScoreFunction,
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
    as one long call, so a script shows progress by calling it in segments; `jax.jit` with
    `donate_argnames="state"` has each work in the memory of the one before. At the first step that
    is not finite it stays where it is: see `check_finite_steps`.

    Args:
      score, state, optimizer, decode, augment, prior, num_samples: see the room.
      steps: how many steps to make, at least 1.
      snapshots: at which numbers of steps within this call, 0 .. steps, to keep the image; 0 is the
        image before the first step. Other numbers of the same count do not compile again. A traced
        one cannot be checked: out of range, its image is nan.

    Returns:
      The `Ascent`: last state, its image, the objective at each step, and the snapshots.

    Raises:
      TypeError, ValueError: see the room; what is decoded is no image (h, w, c), steps is not an
        integer or below 1, or the snapshots are not integers or known and not in 0 .. steps.

    Example:
      The score -|I - 1|^2 is largest at 1. Under plain gradient steps of 0.25, the distance to it
      is halved each time:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from saliency_jax import ascent
      >>> optimizer = optax.sgd(0.25)
      >>> state = ascent.initial_state(jnp.zeros((1, 1, 1)), optimizer, jax.random.key(0))
      >>> def score(image):
      ...     return -((image - 1.0) ** 2).sum()
      >>> made = ascent.ascend(score, state, optimizer, steps=3, snapshots=[0, 2])
      >>> print(made.image.item(), made.values, made.snapshots.ravel())
      0.875 [-1.     -0.25   -0.0625] [0.   0.75]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    score = as_score(score)
    _check_setting(state, optimizer, decode, augment, prior, num_samples)
    steps = check_count("steps", steps, 1)
    kept_steps, are_known = _kept_steps(snapshots, steps)

    def step(carry: tuple, count: Integer[Array, ""]):
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
        is_now = (kept_steps == count)[:, None, None, None]
        return (state, jnp.where(is_now, decode(state.params)[None], kept)), value

    # Until its step has come, a snapshot shows the start.
    image = as_image(decode(state.params), "the decoded image")
    kept = jnp.broadcast_to(image, (kept_steps.size, *image.shape))
    counts = jnp.arange(1, steps + 1, dtype=kept_steps.dtype)
    (state, kept), values = jax.lax.scan(step, (state, kept), counts)
    if not are_known:
        is_in_range = (kept_steps >= 0) & (kept_steps <= steps)
        kept = jnp.where(is_in_range[:, None, None, None], kept, jnp.nan)
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
    if not np.issubdtype(np.asarray(failed_at).dtype, np.integer):
        raise TypeError(f"expected failed_at to hold integers, got {failed_at!r}")
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


def _check_setting(
    state: AscentState,
    optimizer: optax.GradientTransformation,
    decode: Decode,
    augment: Augment | None,
    prior: Prior | None,
    num_samples: int,
) -> None:
    if not isinstance(state, AscentState):
        raise TypeError(
            f"expected state to be an AscentState, got {type(state).__name__}; "
            "one is made by initial_state(params, optimizer, key)"
        )
    check_optimizer(optimizer)
    check_callable("decode", decode)
    for name, function in (("augment", augment), ("prior", prior)):
        if function is not None:
            check_callable(name, function)
    num_samples = check_count("num_samples", num_samples, 1)


def _in_dtypes_of(params: Params, precise: Params) -> Params:
    return jax.tree.map(lambda leaf, value: value.astype(leaf.dtype), params, precise)


def _is_finite(tree: PyTree[Float[Array, "..."]]) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def _new_or_old(is_new: Bool[Array, ""], new: Any, old: Any) -> Array:
    """One leaf of a state, which keeps its type whatever the optimizer makes of it."""
    if isinstance(new, jax.Array) and jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
        # Of a step that is not made either: no key is used twice.
        return new
    return jnp.where(is_new, jnp.asarray(new, jnp.result_type(old)), old)


def _kept_steps(snapshots: Snapshots | None, steps: int) -> tuple[Integer[Array, "n"], bool]:
    """The steps whose images are kept, and whether they are known and so have been checked."""
    known = all(is_concrete(leaf) for leaf in jax.tree.leaves(snapshots))
    asked = () if snapshots is None else snapshots
    kept_steps = np.asarray(asked) if known else jnp.asarray(asked)
    if kept_steps.ndim != 1:
        raise ValueError(f"expected snapshots to have shape (n,), got {kept_steps.shape}")
    if kept_steps.size and not jnp.issubdtype(kept_steps.dtype, jnp.integer):
        raise TypeError(f"expected snapshots to be integers, got {kept_steps.dtype}")
    if known and not ((kept_steps >= 0) & (kept_steps <= steps)).all():
        raise ValueError(f"expected snapshots to be in 0 .. {steps}, got {snapshots}")
    return jnp.asarray(kept_steps, jnp.int32), known
