"""See what an image classifier has learnt: scores, attributions, gradient ascent.

`saliency_jax.models` and `saliency_jax.data` are imported by name: they bring in checkpoint and
dataset libraries that the methods do without.
"""

from . import ascent as ascent
from . import attribution as attribution
from . import scores as scores
from .ascent.ascend import Ascent as Ascent
from .ascent.ascend import AscentState as AscentState
from .ascent.ascend import ascend as ascend
from .ascent.ascend import ascent_step as ascent_step
from .ascent.ascend import initial_state as initial_state
from .attribution.gradient import input_gradient as input_gradient
from .attribution.gradient import saliency as saliency
