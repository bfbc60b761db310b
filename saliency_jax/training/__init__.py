"""Training of standard and adversarially robust classifiers: steps, whole runs, evaluation.

What means the same everywhere here:

  model: callable PyTree in inference mode, from one image (h, w, c) to logits (k,).
  images: (n, h, w, c) in [0, 1].
  labels: (n,), the classes.
  attack: (model, images, labels, key) -> adversarial images, such as of `pgd_attack`; or none.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._step import split as split
from ._step import Trainer as Trainer
from ._step import TrainState as TrainState
from ._step import Best as Best
from ._step import batch_statistics as batch_statistics
from ._step import frozen_statistics as frozen_statistics
from ._step import initial_state as initial_state
from ._step import train_step as train_step
from ._optimizers import one_cycle_sgd as one_cycle_sgd
from ._augmentation import flip_crop_and_zoom as flip_crop_and_zoom
from ._augmentation import crop_and_zoom as crop_and_zoom
from ._augmentation import unchanged as unchanged
from ._attacks import STEP_SIZE_FACTOR as STEP_SIZE_FACTOR
from ._attacks import Attack as Attack
from ._attacks import pgd_attack as pgd_attack
from ._evaluation import correct as correct
from ._evaluation import accuracy as accuracy
from ._evaluation import robustly_correct as robustly_correct
from ._evaluation import robust_accuracies as robust_accuracies
from ._checkpoints import keep_best as keep_best
from ._checkpoints import Checkpoints as Checkpoints
from ._fit import fit as fit
from ._fit import LogRow as LogRow
from ._fit import has_collapsed as has_collapsed
