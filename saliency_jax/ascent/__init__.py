"""Gradient ascent on an image: the picture that a score likes best.

A step is a pure function of a state; what it moves is a canvas, what else it does to the image is
passed in as functions: initial images, priors, augmentations, links of the optimizer, canvases.

What means the same everywhere here:

  score: callable PyTree from one image (h, w, c) to one number, `scores.logit(model, label)`.
  image: one image (h, w, c), in the range that the score's model takes. What is made of an image
    has its dtype; draws, places, spectra and the optimizer's steps of half-precision ones are
    computed in single and then rounded.
  state: an `AscentState`, all that evolves: from `initial_state`, or of an earlier `Ascent`.
  optimizer: any `optax.GradientTransformation`, line searches included. It is handed the gradient
    of minus the objective, so that it descends as usual. `optax.inject_hyperparams` keeps its
    numbers in its state, where they can be mapped over, or changed without compiling again.
  decode: callable PyTree from the parameters that are moved to an image; a `Canvas` holds one and
    its inverse. By default `pixels`: the parameters are the image.
  augment: callable PyTree from an image and a key to an image, of any size, `jitter(4)`. The score
    is averaged over its draws, the prior is not.
  num_samples: how many draws of `augment` each step averages over, at least 1. They are made at
    once, so memory grows with them.
  prior: callable PyTree from an image to a penalty, a number that is subtracted from the score,
    `l2(1e-3)`. Ours are scores of the image itself: plain arithmetic adds and scales them.
  weight: of a prior, at least 0, in units of the score per unit of what the prior adds up.
  center: where a penalty is 0, or what pixels are moved to: one value, one for each channel (c,),
    or an image (h, w, c). 0 for zero-centred images, the training images' mean colour for those in
    [0, 1].
  key: a JAX random key.
  shape: (h, w, c), a tuple of three positive Python integers.
  dtype: of an image that is made of nothing but a shape. float32, as published weights, also where
    JAX's own default is float64.

Weights, widths, rates and other numbers may be traced, and are leaves of the PyTree that a function
returns: other numbers never compile again. Sizes and numbers of steps are Python integers. Every
function raises TypeError where an argument is not of the kind said here, and ValueError where it
has another shape, or is known and out of its range; colours and centres are held against the image
when there is one.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._ascend import ascend as ascend
from ._ascend import initial_state as initial_state
from ._ascend import ascent_step as ascent_step
from ._ascend import Ascent as Ascent
from ._ascend import AscentState as AscentState
from ._ascend import check_finite_steps as check_finite_steps
from ._initial import zeros as zeros
from ._initial import constant as constant
from ._initial import normal_noise as normal_noise
from ._initial import uniform_noise as uniform_noise
from ._initial import smooth_noise as smooth_noise
from ._priors import l2 as l2
from ._priors import alpha_norm as alpha_norm
from ._priors import total_variation as total_variation
from ._augmentations import jitter as jitter
from ._augmentations import rotate as rotate
from ._augmentations import scale as scale
from ._augmentations import flip as flip
from ._augmentations import pad as pad
from ._augmentations import crop as crop
from ._augmentations import resized_crop as resized_crop
from ._augmentations import random_blur as random_blur
from ._augmentations import noise as noise
from ._augmentations import brightness as brightness
from ._augmentations import compose as compose
from ._transforms import normalize_by_l2 as normalize_by_l2
from ._transforms import keep_in_range as keep_in_range
from ._transforms import keep_in_ball as keep_in_ball
from ._transforms import decay_to as decay_to
from ._transforms import blur_every as blur_every
from ._transforms import clip_small_norms as clip_small_norms
from ._transforms import clip_small_contributions as clip_small_contributions
from ._transforms import StepCount as StepCount
from ._canvases import Canvas as Canvas
from ._canvases import pixels as pixels
from ._canvases import sigmoid_canvas as sigmoid_canvas
from ._canvases import fourier_canvas as fourier_canvas
from ._canvases import fourier_noise as fourier_noise
from ._canvases import color_canvas as color_canvas
from ._canvases import phase_canvas as phase_canvas
from ._canvases import chain_canvases as chain_canvases
from ._canvases import ColorStatistics as ColorStatistics
from ._canvases import color_statistics as color_statistics
from ._canvases import mean_magnitude as mean_magnitude
from ._canvases import TINY_IMAGENET_COLORS as TINY_IMAGENET_COLORS
from ._canvases import tiny_imagenet_magnitude as tiny_imagenet_magnitude
from ._canvases import IMAGENET_COLORS as IMAGENET_COLORS
from ._canvases import imagenet_magnitude as imagenet_magnitude
from ._octaves import ascend_octaves as ascend_octaves
