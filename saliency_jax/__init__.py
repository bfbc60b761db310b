"""See what an image classifier has learnt: scores, attributions, gradient ascent.

`saliency_jax.models` and `saliency_jax.data` are imported by name: they bring in checkpoint and
dataset libraries that the methods do without.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from . import scores as scores
from . import attribution as attribution
from . import ascent as ascent
from . import filters as filters
from . import spectrograms as spectrograms
from . import sound as sound
from . import metrics as metrics
from .attribution.gradient import saliency as saliency
from .attribution.gradient import input_gradient as input_gradient
from .attribution.gradient import input_x_gradient as input_x_gradient
from .attribution.ten_crop import ten_crop as ten_crop
from .attribution.smoothgrad import smoothgrad as smoothgrad
from .attribution.smoothgrad import smoothgrad_squared as smoothgrad_squared
from .attribution.smoothgrad import vargrad as vargrad
from .attribution.integrated_gradients import integrated_gradients as integrated_gradients
from .attribution.integrated_gradients import completeness_gap as completeness_gap
from .attribution.expected_gradients import expected_gradients as expected_gradients
from .attribution.blur_integrated_gradients import (
    blur_integrated_gradients as blur_integrated_gradients,
)
from .attribution.guided_integrated_gradients import (
    guided_integrated_gradients as guided_integrated_gradients,
)
from .attribution.grad_cam import grad_cam as grad_cam
from .attribution.grad_cam import grad_cam_plus_plus as grad_cam_plus_plus
from .attribution.grad_cam import layer_cam as layer_cam
from .attribution.score_cam import score_cam as score_cam
from .attribution.grad_cam import fuse_layers as fuse_layers
from .attribution.occlusion import occlusion as occlusion
from .attribution.occlusion import feature_ablation as feature_ablation
from .attribution.rise import rise as rise
from .attribution.lime import lime as lime
from .attribution.shapley import sampled_shapley_values as sampled_shapley_values
from .attribution.sobol import total_sobol_indices as total_sobol_indices
from .attribution.hsic import hsic as hsic
from .attribution.xrai import xrai as xrai
from .attribution.kernel_shap import kernel_shap as kernel_shap
from .ascent.ascend import ascend as ascend
from .ascent.ascend import initial_state as initial_state
from .ascent.ascend import ascent_step as ascent_step
from .ascent.ascend import AscentState as AscentState
from .ascent.ascend import Ascent as Ascent
from .localization import Localization as Localization
from .localization import localize as localize
from .sweep import sweep as sweep
