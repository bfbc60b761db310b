"""Which pixels a score depends on: `method(score, image) -> attribution`, and its reductions."""

from .gradient import input_gradient as input_gradient
from .gradient import saliency as saliency
from .reduce import l2_norm as l2_norm
from .reduce import max_abs as max_abs
from .reduce import sum_abs as sum_abs
from .reduce import sum_channels as sum_channels
