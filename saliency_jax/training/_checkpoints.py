"""What a run keeps: its best weights, and its newest states on disk."""

from pathlib import Path

import jax.numpy as jnp
import orbax.checkpoint as ocp

from .._interrupts import held_back
from .._validation import as_number, check_instance
from ._step import Best, TrainState


def keep_best(state: TrainState, accuracy: float) -> TrainState:
    """The state with its averaged weights as the best, if their held-out accuracy is higher.

    Of equal accuracies, in single precision, the first stays.

    Args:
      state: after some step.
      accuracy: held-out accuracy of its averaged weights, 0 to 1.

    Returns:
      The same state, or one whose `best` is its own average.

    Example:
      >>> import jax, optax
      >>> from saliency_jax.training import initial_state
      >>> state = initial_state({'w': jax.numpy.ones(2)}, {}, optax.sgd(0.1), jax.random.key(0))
      >>> float(keep_best(keep_best(state, 0.5), 0.25).best.accuracy)
      0.5
    """
    check_instance("state", state, TrainState, "a TrainState")
    as_number("accuracy", accuracy)
    rounded = jnp.float32(accuracy)
    if rounded <= state.best.accuracy:
        return state
    best = Best(rounded, state.step, *state.average)
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
        with held_back():
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
            with held_back():
                return self._manager.restore(step, args=ocp.args.StandardRestore(template))
        except Exception as error:
            raise ValueError(
                f"expected a training checkpoint of this model and optimizer at step {step} in "
                f"{self._manager.directory}, got one that cannot be read "
                f"({type(error).__name__}); remove the folder to start again"
            ) from error
