"""Standard and adversarial training of NNX classifiers: a step, and the state that it carries."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._numerics import OPTAX_PROMOTION
from .._types import Key
from .._validation import (
    as_array,
    check_instance,
    check_integers,
    check_key,
    check_optimizer,
)
from ._attacks import Attack


class Best(NamedTuple):
    """The weights with the highest held-out accuracy so far, that accuracy, and their step."""

    accuracy: Float[Array, ""]
    step: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree


class TrainState(NamedTuple):
    """Everything that training carries from step to step; what a checkpoint holds.

    `average` holds the running averages of the parameters and of the batch statistics over the
    steps, which is what is evaluated and kept. The position in the data is `step`: batches are
    addressed by their number (`data.load(start=)`).
    """

    params: PyTree
    batch_stats: PyTree
    average: tuple[PyTree, PyTree]
    opt_state: optax.OptState
    key: Key
    step: Int[Array, ""]
    best: Best


def batch_statistics(model: nnx.Module) -> nnx.Module:
    """A model that normalizes by the statistics of the batch, and learns its own from them.

    Args:
      model: in inference mode.

    Returns:
      The model in training mode.

    Example:
      >>> model = batch_statistics(nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0)))
      >>> model.use_running_average
      False
    """
    check_instance("model", model, nnx.Module, "a network of Flax NNX")
    return nnx.view(model, use_running_average=False)


def frozen_statistics(model: nnx.Module) -> nnx.Module:
    """A model that normalizes by the statistics that it has, which stay as they are.

    For fine-tuning, where batches are small, or unlike those that the model was trained on.

    Args:
      model: in inference mode.

    Returns:
      The model.

    Example:
      >>> model = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
      >>> frozen_statistics(model) is model
      True
    """
    return model


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What stays fixed while training: how a step is made.

    Attributes:
      graphdef: the model's structure, in inference mode; `split` gives it. A model is callable
        with one image, and its `on_batch` takes a batch (n, h, w, c), whose statistics its batch
        normalization sees while it trains, to logits (n, k).
      optimizer: any optax transformation that minimizes.
      augment: (image, key) -> image of the same shape.
      attack: (model, images, labels, key) -> adversarial images, or none for standard training.
      label_smoothing: share of the target spread over all classes, 0 to 1.
      average_decay: what the average of the weights keeps of itself each step, 0 (no average: the
        newest weights) to below 1. In the first steps it keeps less, (1 + step) / (10 + step).
        Averages generalize better under attack (Izmailov et al. 2018, arXiv:1803.05407; Rebuffi
        et al. 2021, arXiv:2103.01946).
      statistics: from the model to what the update sees of it: `batch_statistics`, or
        `frozen_statistics` for fine-tuning.
    """

    graphdef: Any
    optimizer: optax.GradientTransformation
    augment: Callable[..., Array]
    attack: Attack | None = None
    label_smoothing: float = 0.0
    average_decay: float = 0.0
    statistics: Callable[[Any], Any] = batch_statistics


def split(model: nnx.Module) -> tuple[Any, PyTree, PyTree]:
    """Takes a model apart into its structure, its parameters and its batch statistics.

    Args:
      model: an NNX module whose variables are `nnx.Param` and `nnx.BatchStat`.

    Returns:
      (graphdef, params, batch_stats), the last two plain nested dictionaries of arrays.

    Example:
      >>> from flax import nnx
      >>> graphdef, params, batch_stats = split(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
      >>> sorted(params), sorted(batch_stats)
      (['bias', 'scale'], ['mean', 'var'])
    """
    check_instance("model", model, nnx.Module, "a network of Flax NNX")
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    return nnx.graphdef(model), nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def initial_state(
    params: PyTree, batch_stats: PyTree, optimizer: optax.GradientTransformation, key: Key
) -> TrainState:
    """The state before the first step.

    Args:
      params, batch_stats: from `split`.
      optimizer: the one that the `Trainer` holds.
      key: the source of all randomness of training.

    Returns:
      A `TrainState` at step 0 that has no best weights yet (accuracy -1).

    Example:
      >>> import jax, optax
      >>> state = initial_state({'w': jax.numpy.ones(2)}, {}, optax.sgd(0.1), jax.random.key(0))
      >>> int(state.step), float(state.best.accuracy)
      (0, -1.0)
    """
    check_optimizer(optimizer)
    check_key(key)
    step = jnp.zeros((), jnp.int32)
    best = Best(jnp.float32(-1), step, params, batch_stats)
    average = (params, batch_stats)
    return TrainState(params, batch_stats, average, optimizer.init(params), key, step, best)


def train_step(
    trainer: Trainer,
    state: TrainState,
    images: Float[Array, "n h w c"],
    labels: Int[Array, "n"],
    mask: Bool[Array, "n"],
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One step of empirical, or adversarial, risk minimization.

    min_w E max_{|d| <= epsilon} cross_entropy(f_w(augment(x) + d), y). The attack sees the model in
    inference mode, so that each image is attacked on its own; the update sees the statistics of
    the attacked batch, unless the trainer has frozen them.

    Args:
      trainer: what stays fixed.
      state: before the step.
      images, labels: see the room.
      mask: False where a ragged batch was padded; those places are filled by the batch's own
        images again, since padding would enter the batch statistics.

    Returns:
      (the state after the step, {"loss", "accuracy"} on the images trained on).

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from flax import nnx
      >>> from saliency_jax.training import unchanged
      >>> class Linear(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.norm = nnx.BatchNorm(12, use_running_average=True, rngs=rngs)
      ...         self.dense = nnx.Linear(12, 2, rngs=rngs)
      ...
      ...     def on_batch(self, images):
      ...         return self.dense(self.norm(images.reshape(-1, 12)))
      >>> graphdef, params, batch_stats = split(Linear(nnx.Rngs(0)))
      >>> trainer = Trainer(graphdef, optax.sgd(0.1), unchanged)
      >>> state = initial_state(params, batch_stats, trainer.optimizer, jax.random.key(0))
      >>> images = jax.random.uniform(jax.random.key(1), (4, 2, 2, 3))
      >>> state, metrics = jax.jit(train_step, static_argnums=0)(
      ...     trainer, state, images, jnp.array([0, 1, 0, 1]), jnp.ones(4, bool)
      ... )
      >>> int(state.step), sorted(metrics)
      (1, ['accuracy', 'loss'])

    Reference: Madry et al. 2018, arXiv:1706.06083.
    """
    check_instance("trainer", trainer, Trainer, "a Trainer")
    check_instance("state", state, TrainState, "a TrainState")
    images = as_array("images", images, ("n", "h", "w", "c"))
    check_integers("labels", labels, ("n",))
    check_instance("mask", mask, (jax.Array, np.ndarray), "an array")
    if mask.dtype != bool:
        raise TypeError(f"expected mask to hold booleans, got {mask.dtype}")
    if not images.shape[:1] == labels.shape == mask.shape:
        raise ValueError(
            f"expected labels and mask for {len(images)} images, got shapes {labels.shape} and "
            f"{mask.shape}"
        )
    count = len(images)
    source = jnp.arange(count) % jnp.maximum(mask.sum(), 1)
    images, labels = images[source], labels[source]
    augment_key, attack_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    images = jax.vmap(trainer.augment)(images, jax.random.split(augment_key, count))
    if trainer.attack is not None:
        model = nnx.merge(trainer.graphdef, state.params, state.batch_stats)
        images = trainer.attack(model, images, labels, attack_key)

    def loss(params):
        # A copy, since batch normalization writes into the module that it runs in.
        model = nnx.merge(trainer.graphdef, params, state.batch_stats, copy=True)
        model = trainer.statistics(model)
        logits = model.on_batch(images)
        targets = optax.smooth_labels(
            jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), trainer.label_smoothing
        )
        losses = optax.softmax_cross_entropy(logits, targets)
        return losses.mean(), (logits, split(model)[2])

    (value, (logits, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    with jax.numpy_dtype_promotion(OPTAX_PROMOTION):
        updates, opt_state = trainer.optimizer.update(gradient, state.opt_state, state.params)
    accuracy = (logits.argmax(-1) == labels).mean()
    params = optax.apply_updates(state.params, updates)
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(trainer.average_decay, (1 + step) / (10 + step))
    state = state._replace(
        params=params,
        batch_stats=batch_stats,
        average=jax.tree.map(
            # So written, no decay gives the newest, and equal ones stay, to the bit.
            lambda old, new: new + decay.astype(new.dtype) * (old - new),
            state.average,
            (params, batch_stats),
        ),
        opt_state=opt_state,
        step=state.step + 1,
    )
    return state, {"loss": value, "accuracy": accuracy}
