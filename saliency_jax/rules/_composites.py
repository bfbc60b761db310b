"""Composites: which rule for which operation."""

import functools
from collections.abc import Callable
from typing import Any

from .._types import Number
from .._validation import as_color, as_number
from ._operations import Operation
from ._rules import (
    EPSILON,
    Relevances,
    alpha_beta,
    epsilon,
    flat,
    gamma,
    gradient,
    pass_through,
    softmax,
    uniform,
    z_box,
    z_plus,
)

Rule = Callable[..., Relevances]
Composite = Callable[[Operation], Rule | None]

# Of operations that hold no weights to choose by: what conserves relevance, or the source's.
DEFAULTS: dict[str, Rule] = {
    "affine": epsilon,
    "sum": epsilon,
    "rearrangement": gradient,
    "activation": pass_through,
    "maximum": gradient,
    "product": uniform,
    "softmax": softmax,
}


def epsilon_everywhere(epsilon: Number = EPSILON) -> Composite:
    """The epsilon rule for every operation with weights, as AttnLRP has it for transformers.

    Args:
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.epsilon_everywhere())
      >>> print(np.asarray(relevance.ravel()).round(3))
      [ 6. -1.]

    Reference:
      Achtibat et al., AttnLRP, 2024, arXiv:2402.05602.
    """
    return _choosing(_EPSILON, _EPSILON, None, epsilon)


def epsilon_plus(epsilon: Number = EPSILON) -> Composite:
    """The z+ rule for convolutions, the epsilon rule for dense layers.

    Args:
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.epsilon_plus())
      >>> print(np.asarray(relevance.ravel()).round(3))
      [ 6. -1.]

    Reference:
      Kohlbrenner, Bauer, Nakajima, Binder, Samek, Lapuschkin, Towards Best Practice in Explaining
      Neural Network Decisions with LRP, 2019, arXiv:1910.09840.
    """
    return _choosing(z_plus, _EPSILON, None, epsilon)


def epsilon_plus_flat(epsilon: Number = EPSILON) -> Composite:
    """`epsilon_plus` with the flat rule for the first operation.

    Args:
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.epsilon_plus_flat())
      >>> print(np.asarray(relevance.ravel()).round(3))
      [2.5 2.5]

    Reference:
      Kohlbrenner et al., 2019, arXiv:1910.09840.
    """
    return _choosing(z_plus, _EPSILON, flat, epsilon)


def epsilon_gamma_box(
    low: Any = 0.0, high: Any = 1.0, gamma: Number = 0.25, epsilon: Number = EPSILON
) -> Composite:
    """The z^B rule first, the gamma rule for convolutions, the epsilon rule for dense layers.

    Args:
      low, high: the image's bounds, numbers or arrays that fit its shape.
      gamma: at least 0.
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.epsilon_gamma_box(0.0, 10.0))
      >>> print(np.asarray(relevance.ravel()).round(3))
      [2. 3.]

    Reference:
      Montavon et al., Layer-Wise Relevance Propagation: An Overview, 2019, section 10.3.
    """
    return _choosing(
        functools.partial(_GAMMA, gamma=as_number("gamma", gamma, 0.0)),
        _EPSILON,
        functools.partial(z_box, low=as_color("low", low), high=as_color("high", high)),
        epsilon,
    )


def epsilon_alpha_beta(
    alpha: Number = 2.0, beta: Number = 1.0, epsilon: Number = EPSILON
) -> Composite:
    """The alpha-beta rule for convolutions, the epsilon rule for dense layers.

    Args:
      alpha, beta: without unit, alpha - beta = 1.
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.epsilon_alpha_beta())
      >>> print(np.asarray(relevance.ravel()).round(3))
      [ 6. -1.]

    Reference:
      Kohlbrenner et al., 2019, arXiv:1910.09840.
    """
    alpha, beta = as_number("alpha", alpha), as_number("beta", beta)
    bound = functools.partial(alpha_beta, alpha=alpha, beta=beta)
    return _choosing(bound, _EPSILON, None, epsilon)


def deep_taylor(low: Any = 0.0, high: Any = 1.0) -> Composite:
    """Deep Taylor decomposition: the z^B rule first, the z+ rule for all other weights.

    Args:
      low, high: the image's bounds, numbers or arrays that fit its shape.

    Returns:
      The composite.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.deep_taylor(0.0, 10.0))
      >>> print(np.asarray(relevance.ravel()).round(3))
      [2. 3.]

    Reference:
      Montavon et al., 2015, arXiv:1512.02479.
    """
    box = functools.partial(z_box, low=as_color("low", low), high=as_color("high", high))
    return _choosing(z_plus, z_plus, box, EPSILON)


def excitation_backpropagation(operation: Operation) -> Rule | None:
    """Excitation backpropagation: the z+ rule for all weights.

    Args:
      operation: see `Operation`.

    Returns:
      The z+ rule for an operation with weights, None for others.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=rules.excitation_backpropagation)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [5. 0.]

    Reference:
      Zhang, Lin, Brandt, Shen, Sclaroff, Top-down Neural Attention by Excitation Backprop, 2016,
      arXiv:1608.00507.
    """
    if not isinstance(operation, Operation):
        raise TypeError(f"expected operation to be an Operation, got {type(operation).__name__}")
    return z_plus if operation.has_weights else None


# The builders' arguments have the rules' names.
_EPSILON, _GAMMA = epsilon, gamma


def _choosing(convolution: Rule, dense: Rule, first: Rule | None, epsilon: Any) -> Composite:
    number = as_number("epsilon", epsilon, 0.0)
    return functools.partial(_by_density, convolution, dense, first, number)


def _by_density(
    convolution: Rule, dense: Rule, first: Rule | None, epsilon: Number, operation: Operation
) -> Rule | None:
    if operation.kind in ("affine", "sum", "product"):
        return functools.partial(_by_place(convolution, dense, first, operation), epsilon=epsilon)
    return None


def _by_place(convolution: Rule, dense: Rule, first: Rule | None, operation: Operation) -> Rule:
    if not operation.has_weights:
        return DEFAULTS[operation.kind]
    if operation.is_first and first is not None:
        return first
    return dense if operation.is_dense else convolution
