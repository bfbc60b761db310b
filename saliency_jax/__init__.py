"""See what an image classifier has learnt: scores, attributions, gradient ascent.

`saliency_jax.models` and `saliency_jax.data` are imported by name: they bring in checkpoint and
dataset libraries that the methods do without.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from . import scores as scores
from . import attribution as attribution
from . import ascent as ascent
from .attribution.gradient import saliency as saliency
from .attribution.gradient import input_gradient as input_gradient
from .ascent.ascend import ascend as ascend
from .ascent.ascend import initial_state as initial_state
from .ascent.ascend import ascent_step as ascent_step
from .ascent.ascend import AscentState as AscentState
from .ascent.ascend import Ascent as Ascent
