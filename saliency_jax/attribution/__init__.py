"""Which pixels a score depends on: `method(score, image) -> attribution`, and its reductions.

A method is a pure function of one image. A batch, several labels or seeds are the caller's
`jax.vmap`; nothing is compiled inside. An attribution has the image's shape (h, w, c), a saliency
map its sides (h, w), and both its dtype; sums are taken in at least single precision.

What means the same everywhere here:

  score: callable PyTree from one image to a real number, such as `scores.logit(model, label)`, or
    a plain function. Where its readout is taken of a layer's head it is a `scores.Score`.
  image: (h, w, c) of floats, NumPy's or JAX's, in the range that the score's model takes, usually
    [0, 1].
  baseline: what is shown where the image is hidden, or where a path begins: an array (h, w, c) in
    the image's range, or a function of the image: see `saliency_jax.baselines`. By default zero,
    which is black for images in [0, 1].
  key: a JAX random key: equal keys give equal samples, whatever the dtype.
  num_samples: how many samples are drawn, an integer of at least 1 that is known when the program
    is compiled, as are all counts.
  batch_size: how many images, or gradients, are evaluated at once, at least 1, on all devices of a
    mesh together: memory does not grow with their number, and the result changes by rounding alone.
  segments, num_segments: see `saliency_jax.segments`. The parts of the image that are hidden
    together; each pixel has its whole segment's value. Beside the images of a batch, a few numbers
    are held for each sample and segment.
  layer: where the score's model is cut, a `layers.Layer`, such as `model.layer("stage 4")`.
  attention: the attention maps of the score's model, a `layers.Attention`: `model.attention`.
  upsample: (map (i, j), (h, w)) -> map (h, w): `bilinear` or `nearest`.
  steps, rule: a path's number of gradients n, at least 1, and its quadrature, n -> nodes (n,) in
    [0, 1] and weights (n,): `gauss_legendre`, `midpoint` or `trapezoid`.
  method: any `method(score, image)` of this room, its other arguments bound.

Other numbers may be traced where nothing else is said. Every function raises TypeError where an
argument is of another type than said (an array without floats, a score without a number), and
ValueError where a shape does not fit, a number that is known is out of its range, or an image or
a baseline that is known is not finite.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._gradient import saliency as saliency
from ._gradient import input_gradient as input_gradient
from ._gradient import input_x_gradient as input_x_gradient
from ._ten_crop import ten_crop as ten_crop
from ._smoothgrad import smoothgrad as smoothgrad
from ._smoothgrad import smoothgrad_squared as smoothgrad_squared
from ._smoothgrad import vargrad as vargrad
from ._integrated_gradients import integrated_gradients as integrated_gradients
from ._integrated_gradients import gauss_legendre as gauss_legendre
from ._integrated_gradients import midpoint as midpoint
from ._integrated_gradients import trapezoid as trapezoid
from ._integrated_gradients import completeness_gap as completeness_gap
from ._expected_gradients import expected_gradients as expected_gradients
from ._blur_integrated_gradients import blur_integrated_gradients as blur_integrated_gradients
from ._guided_integrated_gradients import guided_integrated_gradients as guided_integrated_gradients
from ._xrai import xrai as xrai
from ._xrai import rank_regions as rank_regions
from ._grad_cam import grad_cam as grad_cam
from ._grad_cam import grad_cam_plus_plus as grad_cam_plus_plus
from ._grad_cam import layer_cam as layer_cam
from ._score_cam import score_cam as score_cam
from ._grad_cam import fuse_layers as fuse_layers
from ._grad_cam import bilinear as bilinear
from ._grad_cam import nearest as nearest
from ._attention import attention_rollout as attention_rollout
from ._attention import attention_relevance as attention_relevance
from ._occlusion import occlusion as occlusion
from ._occlusion import feature_ablation as feature_ablation
from ._rise import rise as rise
from ._lime import lime as lime
from ._kernel_shap import kernel_shap as kernel_shap
from ._shapley import sampled_shapley_values as sampled_shapley_values
from ._sobol import total_sobol_indices as total_sobol_indices
from ._hsic import hsic as hsic
from ._reduce import max_abs as max_abs
from ._reduce import l2_norm as l2_norm
from ._reduce import sum_abs as sum_abs
from ._reduce import sum_channels as sum_channels
