"""Gradient ascent on an image: canvases, initial images, augmentations, priors and steps."""

from .ascend import Ascent as Ascent
from .ascend import AscentState as AscentState
from .ascend import ascend as ascend
from .ascend import ascent_step as ascent_step
from .ascend import initial_state as initial_state
from .augmentations import jitter as jitter
from .canvases import Canvas as Canvas
from .canvases import ColorStatistics as ColorStatistics
from .canvases import chain_canvases as chain_canvases
from .canvases import color_canvas as color_canvas
from .canvases import color_statistics as color_statistics
from .canvases import fourier_canvas as fourier_canvas
from .canvases import fourier_noise as fourier_noise
from .canvases import mean_magnitude as mean_magnitude
from .canvases import phase_canvas as phase_canvas
from .canvases import pixels as pixels
from .canvases import sigmoid_canvas as sigmoid_canvas
from .initial import constant as constant
from .initial import normal as normal
from .initial import smooth as smooth
from .initial import uniform as uniform
from .initial import zeros as zeros
from .priors import l2 as l2
from .transforms import keep_in_range as keep_in_range
from .transforms import normalize_by_l2 as normalize_by_l2
