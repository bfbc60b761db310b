"""Backward rules on any traced function: rectifiers, relevance propagation, DeepLIFT, layers.

JAX traces the score of an image to a list of equations. They are merged into operations that a rule
can be told of, and the rules hand the score back through them to the image. So any model will do,
of any library or none: there is nothing to register, no module to replace, no hook; a rectifier
that is used twice, a `where` in place of one, a residual addition and attention are what they are.
All of it works under `jax.jit` and `jax.vmap`.

What means the same everywhere here:

  score, image, baseline, baselines, batch_size: as in `saliency_jax.attribution`.
  composite: which rule for which operation: a function of an `Operation` that returns a rule, or
    None for the kind's default. `epsilon_plus()` by default.
  rule: `rule(operation, relevance) -> relevances`, a tuple with one array for each of
    `operation.inputs`.

Layers of weights are merged before a rule applies: a convolution with its bias, the inference batch
normalization behind it, the padding and the normalization of the image before it are one affine
operation. Activations hand on what they get; a residual addition shares by contribution; a maximum
gives to the winner; a product to both factors alike; softmax as AttnLRP has it; what a value is
divided by, as in layer normalization, is held constant. Calls are opened, scans unrolled.

A rule of one's own is a function. Here one for sine, which has none, by its Taylor expansion, and
the gamma rule for the first three layers of weights:

  >>> import functools, jax.numpy as jnp, numpy as np
  >>> from saliency_jax import rules
  >>> def taylor(operation, relevance):
  ...     (x,) = operation.inputs
  ...     return (relevance * x * jnp.cos(x) / operation.output,)
  >>> def composite(operation):
  ...     if operation.primitives == ("sin",):
  ...         return taylor
  ...     if operation.has_weights and operation.depth < 3:
  ...         return functools.partial(rules.gamma, gamma=0.5)
  >>> def score(image):
  ...     return jnp.sin(image.sum())
  >>> relevance = rules.lrp(score, jnp.full((1, 2, 1), 0.05), composite=composite)
  >>> print(np.asarray(relevance.ravel()).round(3))
  [0.05 0.05]

Without a rule an operation stops the work, with its name and its line in the model; nothing falls
back to the gradient in silence. `coverage` tells beforehand.

Methods of relevance propagation may be subject to patents in some countries, as the licences of
other libraries note.

Every function raises TypeError and ValueError as those of `saliency_jax.attribution` do.
"""

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
from ._composites import Rule as Rule
from ._composites import Composite as Composite
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
from ._deep_lift import rescale as rescale
from ._deep_lift import reveal_cancel as reveal_cancel
from ._deep_lift import Change as Change
from ._layers import layers as layers
from ._layers import Cut as Cut
