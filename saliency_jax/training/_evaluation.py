"""The share of images that a classifier gets right, also under attack."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import attacks, devices, scores
from .._types import Key
from .._validation import (
    as_array,
    as_number,
    check_array,
    check_callable,
    check_count,
    check_finite,
    check_instance,
    check_integers,
    check_key,
    to_jax,
)
from ._attacks import STEP_SIZE_FACTOR, Attack, pgd_attack

# By which an attack is steered, each by the score that it lowers.
LOSSES = {"log-probability": scores.log_prob, "margin": scores.margin}


def correct(
    model: Callable,
    images: Float[Array, "n h w c"],
    labels: Int[Array, "n"],
    key: Key,
    attack: Attack | None = None,
) -> Bool[Array, "n"]:
    """Whether each image is classified right, after the attack if there is one.

    Args:
      model, images, labels, attack: see the room.
      key: for the attack.

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
    check_callable("model", model)
    images = as_array("images", images, ("n", "h", "w", "c"))
    _check_labels(labels, len(images))
    check_key(key)
    if attack is not None:
        check_callable("attack", attack)
        images = attack(model, images, labels, key)
    answers = devices.vmap(model)(images).argmax(-1)
    return answers == to_jax(labels).astype(answers.dtype)


def accuracy(
    correct_batch: Callable,
    model: Callable,
    batches: Iterable[dict[str, np.ndarray]],
    key: Key,
) -> float:
    """The share of a data set that is classified right.

    Args:
      correct_batch: a jitted (model, images, labels, key) -> (n,) booleans, such as `correct`.
      model: see the room.
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
    check_callable("correct_batch", correct_batch)
    check_callable("model", model)
    check_key(key)
    check_instance("batches", batches, Iterable, "an iterable of batches")
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


def robustly_correct(
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
) -> dict[float, Bool[np.ndarray, "n"]]:
    """Whether each image stays right under every restart of an attack, for growing radii.

    An image found at one radius is in every larger ball too, so it stays found; only survivors are
    attacked again.

    Args:
      attacked: a jitted (model, images, labels, key, epsilon) -> (n,) booleans: right after it.
      model, images, labels: see the room; images and labels are NumPy arrays.
      epsilons: the radii.
      key: random key; each restart gets its own.
      restarts: attacks on each surviving image at each radius, at least 1.
      batch_size: images at once; the last batch is filled up, so that only one shape is compiled.
      progress: called with the number of images after every batch.

    Returns:
      {epsilon: (n,) booleans}, with 0.0 for the images as they are.

    Example:
      >>> import jax
      >>> images, labels = np.full((3, 1, 1, 1), 0.5), np.zeros(3, int)
      >>> falls_at_1 = lambda model, images, labels, key, epsilon: np.full(len(images), epsilon < 1)
      >>> key = jax.random.key(0)
      >>> right = robustly_correct(
      ...     falls_at_1, len, images, labels, [2.0, 0.5], key, restarts=2, batch_size=2
      ... )
      >>> {epsilon: float(values.mean()) for epsilon, values in right.items()}
      {0.0: 1.0, 0.5: 1.0, 2.0: 0.0}
    """
    check_callable("attacked", attacked)
    check_callable("model", model)
    check_array("images", images, ("n", "h", "w", "c"))
    check_finite("images", images)
    _check_labels(labels, len(images))
    check_instance("epsilons", epsilons, Iterable, "an iterable of numbers")
    epsilons = [as_number("epsilons", epsilon, 0) for epsilon in epsilons]
    check_key(key)
    check_callable("progress", progress)
    restarts = check_count("restarts", restarts, 1)
    batch_size = check_count("batch_size", batch_size, 1)
    survives = np.ones(len(images), bool)
    result = {}
    for radius, epsilon in enumerate(sorted({0.0, *epsilons})):
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
        result[epsilon] = survives.copy()
    return result


def robust_accuracies(
    model: Callable,
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: Iterable[float],
    key: Key,
    *,
    ball: attacks.Ball,
    steps: int,
    restarts: int,
    batch_size: int,
    progress: Callable[[int], Any] = lambda count: None,
) -> dict[str, dict[float, float]]:
    """The share of images that PGD does not change, by two losses, for growing radii.

    Ascent on the cross-entropy stands still where the softmax saturates, and a model whose logits
    are merely large then seems robust; ascent on minus the margin goes on. Each is an upper bound
    of the accuracy under the best attack, a looser one than AutoAttack's; the lowest is that under
    both.

    Args:
      model, images, labels: see the room; images and labels are NumPy arrays.
      epsilons: the radii, in units of [0, 1].
      key: random key; each restart gets its own.
      ball: `attacks.L2` or `attacks.LINF`.
      steps: of PGD, each of `STEP_SIZE_FACTOR` epsilon / steps.
      restarts, batch_size, progress: as of `robustly_correct`.

    Returns:
      {"log-probability": {epsilon: accuracy}, "margin": {...}, "both": {...}}, in each of which 0.0
      has the clean accuracy; "both" counts the images that neither changes.

    Example:
      A softmax so sure of itself that its gradient is 0:

      >>> import jax, jax.numpy as jnp
      >>> from saliency_jax import attacks
      >>> def model(image):
      ...     return 1e4 * jnp.stack([image.sum() - 2, 2 - image.sum()])
      >>> accuracies = robust_accuracies(
      ...     jax.tree_util.Partial(model), np.full((1, 2, 2, 1), 0.6, np.float32), np.array([0]),
      ...     [0.3], jax.random.key(0), ball=attacks.L2, steps=5, restarts=1, batch_size=1,
      ... )
      >>> {loss: of_loss[0.3] for loss, of_loss in accuracies.items()}
      {'log-probability': 1.0, 'margin': 0.0, 'both': 0.0}

    Reference: Madry et al. 2018, arXiv:1706.06083; Carlini, Wagner 2017, arXiv:1608.04644, on the
    margin as the loss; Athalye, Carlini, Wagner 2018, arXiv:1802.00420, on what masks gradients.
    """
    check_instance("ball", ball, attacks.Ball, "an attacks.Ball")
    steps = check_count("steps", steps, 1)
    clean = jax.jit(correct)
    right = {}
    for loss, score in LOSSES.items():
        robust = jax.jit(functools.partial(_attacked, score, ball, steps))

        def attacked(model, images, labels, key, epsilon, robust=robust):
            if not epsilon:
                return clean(model, images, labels, key)
            return robust(model, images, labels, key, jnp.asarray(epsilon, images.dtype))

        right[loss] = robustly_correct(
            attacked,
            model,
            images,
            labels,
            epsilons,
            key,
            restarts=restarts,
            batch_size=batch_size,
            progress=progress,
        )
    radii = next(iter(right.values()))
    right["both"] = {
        epsilon: np.all([of_loss[epsilon] for of_loss in right.values()], axis=0)
        for epsilon in radii
    }
    return {
        loss: {epsilon: float(values.mean()) for epsilon, values in of_loss.items()}
        for loss, of_loss in right.items()
    }


def _check_labels(labels: Any, count: int) -> None:
    check_integers("labels", labels, ("n",))
    if len(labels) != count:
        raise ValueError(f"expected labels of {count} images, got {len(labels)}")


def _attacked(score, ball, steps, model, images, labels, key, epsilon):
    step_size = STEP_SIZE_FACTOR * epsilon / steps
    attack = pgd_attack(ball, epsilon, step_size=step_size, steps=steps, score=score)
    return correct(model, images, labels, key, attack)
