"""Gradient ascent on an image: canvases, initial images, augmentations, priors and steps."""

from .ascend import Ascent as Ascent
from .ascend import AscentState as AscentState
from .ascend import ascend as ascend
from .ascend import ascent_step as ascent_step
from .ascend import initial_state as initial_state
from .augmentations import jitter as jitter
from .canvases import pixels as pixels
from .initial import constant as constant
from .initial import normal as normal
from .initial import zeros as zeros
from .priors import l2 as l2
from .transforms import keep_in_range as keep_in_range
from .transforms import normalize_by_l2 as normalize_by_l2
