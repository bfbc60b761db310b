"""Composites: which rule for which operation."""

import functools
from collections.abc import Callable
from typing import Any

from .._types import Number
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

Rule = Callable[[Operation, Any], Relevances]
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

    Reference:
      Achtibat et al., AttnLRP, 2024, arXiv:2402.05602.
    """
    return functools.partial(_with_weights, functools.partial(_EPSILON, epsilon=epsilon))


def epsilon_plus(epsilon: Number = EPSILON) -> Composite:
    """The z+ rule for convolutions, the epsilon rule for dense layers.

    Args:
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Reference:
      Kohlbrenner, Bauer, Nakajima, Binder, Samek, Lapuschkin, Towards Best Practice in Explaining
      Neural Network Decisions with LRP, 2019, arXiv:1910.09840.
    """
    return functools.partial(
        _by_density, z_plus, functools.partial(_EPSILON, epsilon=epsilon), None
    )


def epsilon_plus_flat(epsilon: Number = EPSILON) -> Composite:
    """`epsilon_plus` with the flat rule for the first operation.

    Args:
      epsilon: in units of the outputs, at least 0.

    Returns:
      The composite.

    Reference:
      Kohlbrenner et al., 2019, arXiv:1910.09840.
    """
    return functools.partial(
        _by_density, z_plus, functools.partial(_EPSILON, epsilon=epsilon), flat
    )


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

    Reference:
      Montavon et al., Layer-Wise Relevance Propagation: An Overview, 2019, section 10.3.
    """
    return functools.partial(
        _by_density,
        functools.partial(_GAMMA, gamma=gamma),
        functools.partial(_EPSILON, epsilon=epsilon),
        functools.partial(z_box, low=low, high=high),
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

    Reference:
      Kohlbrenner et al., 2019, arXiv:1910.09840.
    """
    return functools.partial(
        _by_density,
        functools.partial(alpha_beta, alpha=alpha, beta=beta),
        functools.partial(_EPSILON, epsilon=epsilon),
        None,
    )


def deep_taylor(low: Any = 0.0, high: Any = 1.0) -> Composite:
    """Deep Taylor decomposition: the z^B rule first, the z+ rule for all other weights.

    Args:
      low, high: the image's bounds, numbers or arrays that fit its shape.

    Returns:
      The composite.

    Reference:
      Montavon et al., 2015, arXiv:1512.02479.
    """
    return functools.partial(_by_density, z_plus, z_plus, functools.partial(z_box, low=low, high=high))


def excitation_backpropagation(operation: Operation) -> Rule | None:
    """Excitation backpropagation: the z+ rule for all weights.

    Reference:
      Zhang, Lin, Brandt, Shen, Sclaroff, Top-down Neural Attention by Excitation Backprop, 2016,
      arXiv:1608.00507.
    """
    return z_plus if operation.has_weights else None


# The builders' arguments have the rules' names.
_EPSILON, _GAMMA = epsilon, gamma


def _with_weights(rule: Rule, operation: Operation) -> Rule | None:
    return rule if operation.has_weights else None


def _by_density(
    convolution: Rule, dense: Rule, first: Rule | None, operation: Operation
) -> Rule | None:
    if not operation.has_weights:
        return None
    if operation.is_first and first is not None:
        return first
    return dense if operation.is_dense else convolution
