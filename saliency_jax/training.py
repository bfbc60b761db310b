"""Standard and adversarial training of NNX classifiers, resumable to the bit."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree

from . import attacks, scores
from ._types import Image, Key, Number

Attack = Callable[[Callable, Float[Array, "n h w c"], Int[Array, "n"], Key], Array]


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


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What stays fixed while training: how a step is made.

    Attributes:
      graphdef: the model's structure, in inference mode; `split` gives it.
      optimizer: any optax transformation that minimizes.
      augment: (image, key) -> image of the same shape.
      attack: (model, images, labels, key) -> adversarial images, or none for standard training.
      label_smoothing: share of the target spread over all classes, 0 to 1.
      average_decay: what the average of the weights keeps of itself each step, 0 (no average: the
        newest weights) to below 1. In the first steps it keeps less, (1 + step) / (10 + step).
        Averages generalize better under attack (Izmailov et al. 2018, arXiv:1803.05407; Rebuffi
        et al. 2021, arXiv:2103.01946).
    """

    graphdef: Any
    optimizer: optax.GradientTransformation
    augment: Callable[[Image, Key], Image]
    attack: Attack | None = None
    label_smoothing: float = 0.0
    average_decay: float = 0.0


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
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    return nnx.graphdef(model), nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def initial_state(
    params: PyTree, batch_stats: PyTree, optimizer: optax.GradientTransformation, key: Key
) -> TrainState:
    """The state before the first step.

    Args:
      params: from `split`.
      batch_stats: from `split`.
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
    step = jnp.zeros((), jnp.int32)
    best = Best(jnp.full((), -1.0), step, params, batch_stats)
    average = (params, batch_stats)
    return TrainState(params, batch_stats, average, optimizer.init(params), key, step, best)


def flip_crop_and_zoom(image: Image, key: Key) -> Image:
    """Mirrors, shifts, zooms and lights an image at random, with reflected edges.

    Mirrored half of the time; zoomed by 0.8 to 1.4 (uniform in the logarithm), bilinearly; the
    window uniform over the image padded by an eighth of its size on each side; contrast, then
    brightness, changed by up to 20 %; clipped to [0, 1].

    Args:
      image: (h, w, c) in [0, 1].
      key: random key.

    Returns:
      (h, w, c).

    Example:
      >>> import jax
      >>> flip_crop_and_zoom(jax.numpy.ones((16, 8, 3)), jax.random.key(0)).shape
      (16, 8, 3)
    """
    flip_key, _, _, _ = jax.random.split(key, 4)
    flipped = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return crop_and_zoom(flipped, key)


def crop_and_zoom(image: Image, key: Key) -> Image:
    """Shifts, zooms and lights an image like `flip_crop_and_zoom`, which also mirrors it.

    For images of characters, whose mirror images are others.

    Args:
      image: (h, w, c) in [0, 1].
      key: random key.

    Returns:
      (h, w, c).

    Example:
      >>> import jax
      >>> crop_and_zoom(jax.numpy.ones((16, 8, 1)), jax.random.key(0)).shape
      (16, 8, 1)
    """
    _, zoom_key, crop_key, light_key = jax.random.split(key, 4)
    height, width = image.shape[:2]
    margin = (height // 8, width // 8)
    padded = jnp.pad(image, ((margin[0],) * 2, (margin[1],) * 2, (0, 0)), mode="reflect")
    zoom = jnp.exp(jax.random.uniform(zoom_key, minval=jnp.log(0.8), maxval=jnp.log(1.4)))
    # The padded image, zoomed, sticks out of the window by this much in each direction together.
    room = jnp.array(padded.shape[:2]) * zoom - jnp.array([height, width])
    corner = jax.random.uniform(crop_key, (2,)) * room
    image = jax.image.scale_and_translate(
        padded, image.shape, (0, 1), jnp.full(2, zoom), -corner, "linear", antialias=False
    )
    contrast, brightness = jax.random.uniform(light_key, (2,), minval=0.8, maxval=1.2)
    image = (image - image.mean()) * contrast + image.mean() * brightness
    return image.clip(0, 1)


def unchanged(image: Image, key: Key) -> Image:
    """The augmentation that does nothing, for images that a flip or a shift would falsify.

    Args:
      image: (h, w, c).
      key: not used.

    Returns:
      The image.

    Example:
      >>> import jax
      >>> image = jax.numpy.ones((2, 2, 3))
      >>> unchanged(image, jax.random.key(0)) is image
      True
    """
    del key
    return image


def pgd_attack(
    ball: attacks.Ball,
    epsilon: Number,
    *,
    step_size: Number,
    steps: int,
    random_start: bool = True,
) -> Attack:
    """An attack on a batch for training or evaluation: `attacks.pgd` on each image's own loss.

    Args:
      ball: `attacks.L2` or `attacks.LINF`.
      epsilon: the ball's radius, in units of [0, 1].
      step_size: the norm of one step; 2.5 epsilon / steps is Madry's, 1.25 epsilon with one step
        is FGSM with a random start (Wong et al. 2020).
      steps: gradient steps, at least 1.
      random_start: whether to start at a random place in the ball.

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

    def attack(model, images, labels, key):
        def one(image, label, key):
            score = scores.log_prob(model, label)
            return attacks.pgd(
                lambda image: -score(image),
                image,
                ball=ball,
                epsilon=epsilon,
                step_size=step_size,
                steps=steps,
                key=key if random_start else None,
            )

        return jax.vmap(one)(images, labels, jax.random.split(key, len(images)))

    return attack


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
    the attacked batch.

    Args:
      trainer: what stays fixed.
      state: before the step.
      images: in [0, 1].
      labels: the classes.
      mask: False where a ragged batch was padded; those places are filled by the batch's own
        images again, since padding would enter the batch statistics.

    Returns:
      (the state after the step, {"loss", "accuracy"} on the images trained on).

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from flax import nnx
      >>> class Linear(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.norm = nnx.BatchNorm(12, use_running_average=True, rngs=rngs)
      ...         self.dense = nnx.Linear(12, 2, rngs=rngs)
      ...
      ...     def __call__(self, images):
      ...         return self.dense(self.norm(images.reshape(*images.shape[:-3], 12)))
      >>> graphdef, params, batch_stats = split(Linear(nnx.Rngs(0)))
      >>> trainer = Trainer(graphdef, optax.sgd(0.1), unchanged)
      >>> state = initial_state(params, batch_stats, trainer.optimizer, jax.random.key(0))
      >>> images = jax.random.uniform(jax.random.key(1), (4, 2, 2, 3))
      >>> state, metrics = train_step(
      ...     trainer, state, images, jnp.array([0, 1, 0, 1]), jnp.ones(4, bool)
      ... )
      >>> int(state.step), sorted(metrics)
      (1, ['accuracy', 'loss'])

    Reference: Madry et al. 2018, arXiv:1706.06083.
    """
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
        model = nnx.view(model, use_running_average=False)
        logits = model(images)
        targets = optax.smooth_labels(
            jax.nn.one_hot(labels, logits.shape[-1]), trainer.label_smoothing
        )
        losses = optax.softmax_cross_entropy(logits, targets)
        return losses.mean(), (logits, split(model)[2])

    (value, (logits, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, opt_state = trainer.optimizer.update(gradient, state.opt_state, state.params)
    accuracy = (logits.argmax(-1) == labels).mean()
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(trainer.average_decay, (1 + state.step) / (10 + state.step))
    state = state._replace(
        params=params,
        batch_stats=batch_stats,
        average=optax.incremental_update((params, batch_stats), state.average, 1 - decay),
        opt_state=opt_state,
        step=state.step + 1,
    )
    return state, {"loss": value, "accuracy": accuracy}


def correct(
    model: Callable,
    images: Float[Array, "n h w c"],
    labels: Int[Array, "n"],
    key: Key,
    attack: Attack | None = None,
) -> Bool[Array, "n"]:
    """Whether each image is classified right, after the attack if there is one.

    Args:
      model: in inference mode.
      images: in [0, 1].
      labels: the classes.
      key: for the attack.
      attack: (model, images, labels, key) -> adversarial images, or none.

    Returns:
      (n,) booleans.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def model(image):
      ...     return jnp.stack([image.sum(), 6 - image.sum()])
      >>> images, labels = jnp.full((1, 2, 2, 3), 0.6), jnp.array([0])
      >>> correct(model, images, labels, jax.random.key(0)).tolist()
      [True]
    """
    if attack is not None:
        images = attack(model, images, labels, key)
    return jax.vmap(model)(images).argmax(-1) == labels


def accuracy(
    correct_batch: Callable,
    model: Callable,
    batches: Iterable[dict[str, np.ndarray]],
    key: Key,
) -> float:
    """The share of a data set that is classified right.

    Args:
      correct_batch: a jitted (model, images, labels, key) -> (n,) booleans, such as `correct`.
      model: in inference mode.
      batches: of `data.load`, with image, label and mask.
      key: folded with the batch's number.

    Returns:
      0 to 1.

    Raises:
      ValueError: there is no image.

    Example:
      >>> import jax
      >>> images, labels = np.ones((2, 1, 1, 2)), np.array([0, 1])
      >>> model = lambda image: image[0, 0] * np.array([1.0, 2.0])
      >>> batches = [{'image': images, 'label': labels, 'mask': np.ones(2, bool)}]
      >>> accuracy(jax.jit(correct, static_argnums=0), model, batches, jax.random.key(0))
      0.5
    """
    right = total = 0
    for index, batch in enumerate(batches):
        answer = correct_batch(
            model, batch["image"], batch["label"], jax.random.fold_in(key, index)
        )
        right += int(np.sum(np.asarray(answer) & batch["mask"]))
        total += int(batch["mask"].sum())
    if not total:
        raise ValueError("expected at least one image to measure accuracy on, got none")
    return right / total


def robust_accuracies(
    attacked: Callable,
    model: Callable,
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: Iterable[float],
    key: Key,
    *,
    restarts: int,
    batch_size: int,
    progress: Callable[[int], Any] = lambda count: None,
) -> dict[float, float]:
    """The share of images that no restart of an attack changes, for growing radii.

    An image found at one radius is in every larger ball too, so it stays found; only survivors are
    attacked again. This is an upper bound of the accuracy under the best attack, and a looser one
    than AutoAttack's.

    Args:
      attacked: a jitted (model, images, labels, key, epsilon) -> (n,) booleans: right after it.
      model: in inference mode.
      images: (n, h, w, c) in [0, 1].
      labels: (n,).
      epsilons: the radii.
      key: random key; each restart gets its own.
      restarts: attacks on each surviving image at each radius, at least 1.
      batch_size: images at once; the last batch is filled up, so that only one shape is compiled.
      progress: called with the number of images after every batch.

    Returns:
      {epsilon: accuracy}, with 0.0 for the clean accuracy.

    Example:
      >>> import jax
      >>> images, labels = np.full((3, 1, 1, 1), 0.5), np.zeros(3, int)
      >>> falls_at_1 = lambda model, images, labels, key, epsilon: np.full(len(images), epsilon < 1)
      >>> key = jax.random.key(0)
      >>> robust_accuracies(
      ...     falls_at_1, len, images, labels, [2.0, 0.5], key, restarts=2, batch_size=2
      ... )
      {0.0: 1.0, 0.5: 1.0, 2.0: 0.0}
    """
    epsilons = sorted({0.0, *epsilons})
    survives = np.ones(len(images), bool)
    result = {}
    for radius, epsilon in enumerate(epsilons):
        for restart in range(restarts if epsilon else 1):
            survivors = np.flatnonzero(survives)
            round_key = jax.random.fold_in(jax.random.fold_in(key, radius), restart)
            for start in range(0, len(survivors), batch_size):
                chosen = survivors[start : start + batch_size]
                filled = np.resize(chosen, batch_size)
                batch_key = jax.random.fold_in(round_key, start)
                right = attacked(model, images[filled], labels[filled], batch_key, epsilon)
                survives[chosen] = np.asarray(right)[: len(chosen)]
                progress(len(chosen))
        result[epsilon] = float(survives.mean())
    return result


def keep_best(state: TrainState, accuracy: float) -> TrainState:
    """The state with its averaged weights as the best, if their held-out accuracy is higher.

    Args:
      state: after some step.
      accuracy: held-out accuracy of its averaged weights, 0 to 1.

    Returns:
      The same state, or one whose `best` is its own average.

    Example:
      >>> import jax, optax
      >>> state = initial_state({'w': jax.numpy.ones(2)}, {}, optax.sgd(0.1), jax.random.key(0))
      >>> float(keep_best(keep_best(state, 0.5), 0.25).best.accuracy)
      0.5
    """
    if accuracy <= float(state.best.accuracy):
        return state
    best = Best(jnp.float32(accuracy), state.step, *state.average)
    return state._replace(best=best)


class Checkpoints:
    """The newest states of a run on disk, each written whole or not at all, by Orbax.

    Args:
      folder: where they are kept; made if missing.
      keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(Path(folder).resolve(), options=options)

    def save(self, state: TrainState) -> None:
        """Writes the state under its step; returns when it is on disk."""
        self._manager.save(int(state.step), args=ocp.args.StandardSave(state))
        self._manager.wait_until_finished()

    def restore(self, template: TrainState) -> TrainState:
        """The newest state, or the template if there is none.

        Args:
          template: a state of the same structure, shapes and placement.

        Returns:
          The state.

        Raises:
          ValueError: the newest checkpoint cannot be read, or is of another model or optimizer.
        """
        step = self._manager.latest_step()
        if step is None:
            return template
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(template))
        except Exception as error:
            raise ValueError(
                f"expected a training checkpoint of this model and optimizer at step {step} in "
                f"{self._manager.directory}, got one that cannot be read "
                f"({type(error).__name__}); remove the folder to start again"
            ) from error
