"""See what an image classifier has learnt: scores, attributions, gradient ascent, measurements.

A room is imported when it is asked for, `saliency_jax.scores` or `from saliency_jax import scores`.
Those of the methods need JAX, NumPy and optax alone; `models`, `data`, `signals`, `training`,
`scale` and `runs` bring in checkpoint, dataset and figure libraries that the methods do without.
"""

import importlib
from typing import TYPE_CHECKING, Any

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001
if TYPE_CHECKING:
    from . import scores as scores
    from . import layers as layers
    from . import attribution as attribution
    from . import rules as rules
    from . import ascent as ascent
    from . import attacks as attacks
    from . import localization as localization
    from . import metrics as metrics
    from . import images as images
    from . import filters as filters
    from . import baselines as baselines
    from . import segments as segments
    from . import devices as devices
    from . import models as models
    from . import data as data
    from . import signals as signals
    from . import training as training
    from . import scale as scale
    from . import runs as runs

_METHODS = (
    *("scores", "layers", "attribution", "rules", "ascent", "attacks", "localization", "metrics"),
    *("images", "filters", "baselines", "segments", "devices"),
)
_ROOMS = (*_METHODS, "models", "data", "signals", "training", "scale", "runs")


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f".{name}", __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
