"""Backward rules on any traced function: rectifiers, relevance propagation, DeepLIFT, layers."""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._rectifiers import guided_backprop as guided_backprop
from ._rectifiers import deconvnet as deconvnet
from ._rectifiers import guided_grad_cam as guided_grad_cam
from ._rectifiers import with_rectifiers as with_rectifiers
from ._rectifiers import guided as guided
from ._rectifiers import deconvolved as deconvolved
from ._rectifiers import redirected as redirected
from ._lrp import lrp as lrp
from ._lrp import conservation as conservation
from ._lrp import Conservation as Conservation
from ._lrp import coverage as coverage
from ._lrp import Coverage as Coverage
from ._lrp import relevance_through as relevance_through
from ._lrp import channel_relevances as channel_relevances
from ._composites import epsilon_plus as epsilon_plus
from ._composites import epsilon_plus_flat as epsilon_plus_flat
from ._composites import epsilon_gamma_box as epsilon_gamma_box
from ._composites import epsilon_alpha_beta as epsilon_alpha_beta
from ._composites import epsilon_everywhere as epsilon_everywhere
from ._composites import deep_taylor as deep_taylor
from ._composites import excitation_backpropagation as excitation_backpropagation
from ._rules import epsilon as epsilon
from ._rules import gamma as gamma
from ._rules import alpha_beta as alpha_beta
from ._rules import z_plus as z_plus
from ._rules import flat as flat
from ._rules import w_squared as w_squared
from ._rules import z_box as z_box
from ._rules import pass_through as pass_through
from ._rules import gradient as gradient
from ._rules import proportional as proportional
from ._rules import uniform as uniform
from ._rules import softmax as softmax
from ._operations import Operation as Operation
from ._deep_lift import deep_lift as deep_lift
from ._deep_lift import deep_shap as deep_shap
from ._layers import layers as layers
from ._layers import Cut as Cut
