"""A whole training from given weights, which continues where an interruption left it."""

import csv
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from .._files import whole
from .._types import Count, Key
from .._validation import check_callable, check_count, check_instance, check_key, check_path
from ._checkpoints import Checkpoints, keep_best
from ._step import Trainer, TrainState, initial_state, split, train_step

# A number in the log.
_WRITTEN = "{:.6g}"
# A fall this deep in held-out robust accuracy is catastrophic overfitting (Wong et al. 2020).
_COLLAPSE = 0.2
# Trainers of equal settings share a program.
_step = jax.jit(train_step, static_argnums=0)


class LogRow(NamedTuple):
    """Means over the steps since the last row; held-out accuracy is nan where not measured."""

    step: float
    epoch: float
    loss: float
    accuracy: float
    holdout_accuracy: float
    seconds: float


def fit(
    trainer: Trainer,
    network: nnx.Module,
    batches: Callable[[int], Iterable[Mapping[str, np.ndarray]]],
    folder: str | os.PathLike,
    *,
    key: Key,
    epochs: Count,
    steps_per_epoch: Count,
    holdout: Callable[[Any], float] | None = None,
    evaluate_every: Count = 1,
    checkpoint_every: Count | None = None,
    progress: Callable[[int, Sequence[LogRow]], Any] = lambda steps, log: None,
) -> tuple[TrainState, list[LogRow]]:
    """Trains a network from its weights, or goes on with the training that a folder holds.

    Newly initialized weights are trained, those of a trained network fine-tuned. A training that
    was interrupted ends to the bit like one that was not, if its arguments are the same. It ends
    early where the held-out accuracy has collapsed, and stays ended.

    Args:
      trainer: how a step is made; its `graphdef` is the network's.
      network: in inference mode, with the weights to begin with.
      batches: from a step's number to the batches from that step to the last, as
        `lambda start: data.load(..., epochs=epochs, start=start)`: image, label and mask.
      folder: where `log.csv` is, and `checkpoints/` with the newest states; made if missing.
      key: the source of all randomness of training.
      epochs: passes over the data.
      steps_per_epoch: how many batches each has.
      holdout: from a network with the averaged weights to its accuracy on held-out images, by
        which the state's `best` weights are chosen; none are if not given.
      evaluate_every: epochs between its calls; there is one at the end, too.
      checkpoint_every: steps between checkpoints, of which each writes a row of the log; those of
        an epoch if none. An evaluation and the end write one, too.
      progress: called with a number of steps and the log so far: at first with the steps that the
        folder holds, then with 1 after each.

    Returns:
      (the state at the end, the rows of the log).

    Raises:
      ValueError: the folder's newest checkpoint cannot be read, or is of another model or
        optimizer; a count is below 1.

    Example:
      >>> import jax, optax
      >>> from flax import nnx
      >>> from saliency_jax import models, training
      >>> network = models.PreActResNet((1,), 2, width=2, rngs=nnx.Rngs(0))
      >>> trainer = Trainer(split(network)[0], optax.sgd(0.1), training.unchanged)
      >>> images, labels = np.zeros((2, 8, 8, 3), np.float32), np.array([0, 1])
      >>> batch = {"image": images, "label": labels, "mask": np.ones(2, bool)}
      >>> state, log = fit(
      ...     trainer, network, lambda start: [batch] * (3 - start), "run",
      ...     key=jax.random.key(0), epochs=3, steps_per_epoch=1,
      ... )
      >>> int(state.step), [row.step for row in log]
      (3, [1.0, 2.0, 3.0])
    """
    check_instance("trainer", trainer, Trainer, "a Trainer")
    check_callable("batches", batches)
    check_path("folder", folder)
    check_key(key)
    if holdout is not None:
        check_callable("holdout", holdout)
    check_callable("progress", progress)
    epochs = check_count("epochs", epochs, 1)
    steps_per_epoch = check_count("steps_per_epoch", steps_per_epoch, 1)
    evaluate_every = check_count("evaluate_every", evaluate_every, 1)
    checkpoint_every = check_count(
        "checkpoint_every", steps_per_epoch if checkpoint_every is None else checkpoint_every, 1
    )
    path = Path(folder) / "log.csv"
    checkpoints = Checkpoints(Path(folder) / "checkpoints")
    _, params, batch_stats = split(network)
    state = checkpoints.restore(initial_state(params, batch_stats, trainer.optimizer, key))
    step, num_steps = int(state.step), epochs * steps_per_epoch
    log = _read_log(path, step)
    progress(step, log)
    if has_collapsed(log):
        return state, log
    history = []
    start = time.perf_counter()
    for batch in batches(step):
        state, metrics = _step(trainer, state, batch["image"], batch["label"], batch["mask"])
        step += 1
        history.append(metrics)
        epoch, within = divmod(step, steps_per_epoch)
        accuracy = math.nan
        ends = within == 0 and (epoch % evaluate_every == 0 or step == num_steps)
        if evaluates := ends and holdout is not None:
            accuracy = holdout(nnx.merge(trainer.graphdef, *state.average))
            state = keep_best(state, accuracy)
        if evaluates or step % checkpoint_every == 0 or step == num_steps:
            means = [
                np.mean([float(row[name]) for row in history]) for name in ("loss", "accuracy")
            ]
            history, now = [], time.perf_counter()
            row = (step, step / steps_per_epoch, *means, accuracy, now - start)
            start = now
            # As the file holds it, so that a run that continues from there says the same.
            log.append(LogRow(*(float(_WRITTEN.format(value)) for value in row)))
            _write_log(path, log)
            checkpoints.save(state)
        progress(1, log)
        if evaluates and has_collapsed(log):
            break
    return state, log


def has_collapsed(log: Iterable[LogRow]) -> bool:
    """Whether the newest held-out accuracy is far below the best one before it.

    By more than 0.2: adversarial training by few steps can overfit to its own attack within an
    epoch, and does not recover.

    Args:
      log: the rows of `fit`.

    Returns:
      Whether it is.

    Example:
      >>> has_collapsed([LogRow(epoch, epoch, 1.0, 0.9, 0.5 / epoch, 1.0) for epoch in (1, 2)])
      True

    Reference: Wong, Rice, Kolter 2020, arXiv:2001.03994.
    """
    check_instance("log", log, Iterable, "rows of a log")
    held_out = [row.holdout_accuracy for row in log if not math.isnan(row.holdout_accuracy)]
    return bool(held_out) and held_out[-1] < max(held_out) - _COLLAPSE


def _read_log(path: Path, step: int) -> list[LogRow]:
    """The rows up to a step; later ones are of work that the last checkpoint does not hold."""
    if not path.exists():
        return []
    with path.open() as file:
        table = list(csv.DictReader(file))
    rows = [LogRow(*(float(row[name] or "nan") for name in LogRow._fields)) for row in table]
    return [row for row in rows if row.step <= step]


def _write_log(path: Path, rows: Iterable[LogRow]) -> None:
    lines = [",".join(map(_WRITTEN.format, row)) for row in rows]
    with whole(path) as partial:
        partial.write_text("\n".join([",".join(LogRow._fields), *lines]) + "\n", "utf-8")
