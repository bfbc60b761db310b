"""Which pixels a score depends on: `method(score, image) -> attribution`, and its reductions."""

from . import baselines as baselines
from .blur_integrated_gradients import blur_integrated_gradients as blur_integrated_gradients
from .expected_gradients import expected_gradients as expected_gradients
from .grad_cam import bilinear as bilinear
from .grad_cam import grad_cam as grad_cam
from .grad_cam import grad_cam_plus_plus as grad_cam_plus_plus
from .grad_cam import layer_cam as layer_cam
from .grad_cam import nearest as nearest
from .gradient import input_gradient as input_gradient
from .gradient import input_x_gradient as input_x_gradient
from .gradient import saliency as saliency
from .guided_integrated_gradients import guided_integrated_gradients as guided_integrated_gradients
from .integrated_gradients import completeness_gap as completeness_gap
from .integrated_gradients import gauss_legendre as gauss_legendre
from .integrated_gradients import integrated_gradients as integrated_gradients
from .integrated_gradients import midpoint as midpoint
from .integrated_gradients import trapezoid as trapezoid
from .occlusion import feature_ablation as feature_ablation
from .occlusion import occlusion as occlusion
from .reduce import l2_norm as l2_norm
from .reduce import max_abs as max_abs
from .reduce import sum_abs as sum_abs
from .reduce import sum_channels as sum_channels
from .smoothgrad import smoothgrad as smoothgrad
from .smoothgrad import smoothgrad_squared as smoothgrad_squared
from .smoothgrad import vargrad as vargrad
