"""See what an image classifier has learnt: scores, attributions, gradient ascent, measurements.

The rooms below need JAX, NumPy and optax alone. `saliency_jax.models`, `data`, `signals`,
`training` and `runs` are imported by name: they bring in checkpoint, dataset and figure libraries
that the methods do without.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from . import scores as scores
from . import layers as layers
from . import attribution as attribution
from . import ascent as ascent
from . import attacks as attacks
from . import localization as localization
from . import metrics as metrics
from . import images as images
from . import filters as filters
from . import baselines as baselines
from . import segments as segments
from . import devices as devices
