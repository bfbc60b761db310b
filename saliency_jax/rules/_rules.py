"""Rules: how an operation's relevance is shared out among what it takes.

What means the same everywhere here:

  operation: see `Operation`; x_i are its inputs, z_j = sum_i w_ij x_i + b_j its outputs.
  relevance: R_j, of the output's shape, in units of the score.
  epsilon: added to the denominator, away from 0, in units of z; at least 0.

Every rule returns a tuple with the relevance of each input, of the input's shape.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._numerics import in_dtype
from .._types import Number
from .._validation import as_color, as_number, to_jax
from ._operations import Operation

Relevances = tuple[Any, ...]

# Zennit's default; in single precision a sum's own rounding is of this size.
EPSILON = 1e-6


def epsilon(operation: Operation, relevance: Any, epsilon: Number = EPSILON) -> Relevances:
    """The epsilon rule: in proportion to what each input contributes.

    R_i = x_i sum_j w_ij R_j / (z_j + epsilon sign(z_j))

    The constant's share, b_j R_j / z_j, is nobody's. At epsilon = 0 in a network of rectifiers and
    affine operations it is input x gradient.

    Args:
      operation, relevance, epsilon: see the module.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: rules.epsilon)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [ 6. -1.]

    Reference:
      Bach, Binder, Montavon, Klauschen, Mueller, Samek, On Pixel-Wise Explanations for Non-Linear
      Classifier Decisions by Layer-Wise Relevance Propagation, PLoS ONE 10(7), 2015, equation 58.
    """
    relevance = as_handed(operation, relevance)
    epsilon = as_number("epsilon", epsilon, 0)
    _, back = jax.vjp(operation.function, *operation.inputs)
    shares = back(relevance / _away_from_zero(operation.output, epsilon))
    return tuple(array * share for array, share in zip(operation.inputs, shares, strict=True))


def gamma(
    operation: Operation, relevance: Any, gamma: Number = 0.25, epsilon: Number = EPSILON
) -> Relevances:
    """The gamma rule: what contributes in the output's direction counts more.

    R_i = sum_j (c_ij + gamma c+_ij) R_j / (z_j + gamma z+_j), c_ij = w_ij x_i, z+_j = sum_i c+_ij +
    b+_j, where z_j > 0; with c-, z- and b- in their place where z_j < 0

    For inputs of at least 0 and positive outputs, as between rectifiers, it is Montavon's, with w +
    gamma w+ in place of w. At gamma = 0 it is the epsilon rule, at a large gamma the alpha-beta
    rule with alpha 1.

    Args:
      operation, relevance, epsilon: see the module.
      gamma: at least 0, without unit.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: rules.gamma)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [ 5.769 -0.769]

    Reference:
      Montavon, Binder, Lapuschkin, Samek, Mueller, Layer-Wise Relevance Propagation: An Overview,
      2019, section 10.2.2; for both signs Andeol, Kawakami, Wada, Kanamori, Mueller, Montavon,
      Learning Domain Invariant Representations by Joint Wasserstein Distance Minimization, 2021.
    """
    relevance = as_handed(operation, relevance)
    gamma = in_dtype(as_number("gamma", gamma, 0), operation.output.dtype)
    epsilon = as_number("epsilon", epsilon, 0)
    size, back, back_size = _with_magnitudes(operation, relevance)
    sign = jnp.where(operation.output >= 0, 1, -1).astype(relevance.dtype)
    half = gamma / 2
    total = (1 + half) * operation.output + half * sign * (size + abs(operation.constant()))
    quotient = relevance / _away_from_zero(total, epsilon)
    return _shares(operation, back((1 + half) * quotient), back_size(half * sign * quotient))


def alpha_beta(
    operation: Operation,
    relevance: Any,
    alpha: Number = 2.0,
    beta: Number = 1.0,
    epsilon: Number = EPSILON,
) -> Relevances:
    """The alpha-beta rule: what speaks for an output and what speaks against it, apart.

    R_i = sum_j (alpha c+_ij / z+_j - beta c-_ij / z-_j) R_j, c_ij = w_ij x_i, z+-_j = sum_i c+-_ij
    + b+-_j

    Args:
      operation, relevance, epsilon: see the module.
      alpha, beta: without unit; what comes in goes out where alpha - beta is 1 and both parts are
        there.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: rules.alpha_beta)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [10. -5.]

    Reference:
      Bach et al., 2015, equation 60, see `epsilon`.
    """
    relevance = as_handed(operation, relevance)
    alpha = in_dtype(as_number("alpha", alpha), operation.output.dtype)
    beta = in_dtype(as_number("beta", beta), operation.output.dtype)
    epsilon = as_number("epsilon", epsilon, 0)
    (along, against), back = _by_sign(operation, relevance, lambda *parts: parts)
    constant = operation.constant()
    supported = along + jnp.maximum(constant, 0)
    opposed = against + jnp.minimum(constant, 0)
    favour = alpha * _over(relevance, supported, epsilon)
    return back((favour, -beta * _over(relevance, opposed, epsilon)))


def z_plus(operation: Operation, relevance: Any, epsilon: Number = EPSILON) -> Relevances:
    """The z+ rule: in proportion to what speaks for an output, and nothing to the constant.

    R_i = sum_j c+_ij R_j / sum_i c+_ij, c_ij = w_ij x_i

    Args:
      operation, relevance, epsilon: see the module.

    Returns:
      The relevances of the inputs, at least 0 for relevance of at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: rules.z_plus)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [5. 0.]

    Reference:
      Montavon, Lapuschkin, Binder, Samek, Mueller, Explaining NonLinear Classification Decisions
      with Deep Taylor Decomposition, 2015, arXiv:1512.02479; of inputs of at least 0 it is the
      excitation backpropagation of Zhang, Lin, Brandt, Shen, Sclaroff, 2016, arXiv:1608.00507.
    """
    relevance = as_handed(operation, relevance)
    epsilon = as_number("epsilon", epsilon, 0)
    along, back = _by_sign(operation, relevance, lambda along, against: along)
    return back(_over(relevance, along, epsilon))


def flat(operation: Operation, relevance: Any, epsilon: Number = EPSILON) -> Relevances:
    """The flat rule: the same to every input that an output depends on.

    R_i = sum_j R_j / n_j over the outputs j that depend on i, n_j the number of j's inputs

    Args:
      operation, relevance, epsilon: see the module.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: rules.flat)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [2.5 2.5]

    Reference:
      Lapuschkin, Waeldchen, Binder, Montavon, Samek, Mueller, Unmasking Clever Hans Predictors and
      Assessing What Machines Really Learn, Nature Communications 10, 2019, arXiv:1902.10178.
    """
    relevance = as_handed(operation, relevance)
    epsilon = as_number("epsilon", epsilon, 0)
    return _by_weights(operation, relevance, jnp.ones_like, epsilon)


def w_squared(operation: Operation, relevance: Any, epsilon: Number = EPSILON) -> Relevances:
    """The w^2 rule: in proportion to the squared weight, whatever the input.

    R_i = sum_j w_ij^2 R_j / sum_i w_ij^2

    Args:
      operation, relevance, epsilon: see the module.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: rules.w_squared)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [4. 1.]

    Reference:
      Montavon et al., 2015, arXiv:1512.02479, section 4.1, for inputs without bounds.
    """
    relevance = as_handed(operation, relevance)
    epsilon = as_number("epsilon", epsilon, 0)
    return _by_weights(operation, relevance, jnp.square, epsilon)


def z_box(
    operation: Operation, relevance: Any, low: Any, high: Any, epsilon: Number = EPSILON
) -> Relevances:
    """The z^B rule, for the first operation, whose inputs lie between bounds.

    R_i = sum_j (x_i w_ij - l_i w+_ij - h_i w-_ij) R_j / sum_i (x_i w_ij - l_i w+_ij - h_i w-_ij)

    A normalization is part of the first operation, so that the bounds are those of the image.

    Args:
      operation, relevance, epsilon: see the module.
      low, high: l and h, the input's bounds, numbers or arrays that fit its shape.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import functools
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.ravel() @ jnp.array([2.0, -1.0])
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> box = functools.partial(rules.z_box, low=0.0, high=10.0)
      >>> relevance = rules.lrp(score, image, composite=lambda operation: box)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [2. 3.]

    Reference:
      Montavon et al., 2015, arXiv:1512.02479, section 4.2.
    """
    relevance = as_handed(operation, relevance)
    low, high = as_color("low", low), as_color("high", high)
    epsilon = as_number("epsilon", epsilon, 0)
    (array,) = operation.inputs
    for name, bound in (("low", low), ("high", high)):
        try:
            fits = np.broadcast_shapes(np.shape(bound), array.shape) == array.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"expected {name} to be one number or of shape {array.shape}, got {np.shape(bound)}"
            )
    low, high = (
        jnp.broadcast_to(jnp.asarray(bound, array.dtype), array.shape) for bound in (low, high)
    )
    middle, reach = (low + high) / 2, (high - low) / 2
    size, back_size = jax.vjp(lambda each: operation.reweighted(jnp.abs, each), reach)
    plain, back = jax.vjp(lambda each: operation.reweighted(_unchanged, each), array - middle)
    quotient = relevance / _away_from_zero(plain + size, epsilon)
    (share,), (share_of_size,) = back(quotient), back_size(quotient)
    return ((array - middle) * share + reach * share_of_size,)


def pass_through(operation: Operation, relevance: Any) -> Relevances:
    """The identity rule: an activation's relevance is that of its input.

    R_i = R_i

    Args:
      operation, relevance: see the module.

    Returns:
      The relevance of the input.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return jnp.tanh(image.sum())
      >>> def composite(operation):
      ...     return rules.pass_through if operation.kind == "activation" else None
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=composite)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [0.749 0.25 ]

    Reference:
      Bach et al., 2015, see `epsilon`.
    """
    relevance = as_handed(operation, relevance)
    (array,) = operation.inputs
    return (jnp.broadcast_to(relevance, array.shape),)


def gradient(operation: Operation, relevance: Any) -> Relevances:
    """The ordinary chain rule, on what is handed back.

    R_i = sum_j dz_j / dx_i R_j

    For a rearrangement it hands every value to the input that it is, and for a maximum to the
    winner, in equal parts where several win.

    Args:
      operation, relevance: see the module.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.max()
      >>> def composite(operation):
      ...     return rules.gradient if operation.kind == "maximum" else None
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=composite)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [3. 0.]
    """
    relevance = as_handed(operation, relevance)
    _, back = jax.vjp(operation.function, *operation.inputs)
    return back(relevance)


def proportional(operation: Operation, relevance: Any, epsilon: Number = EPSILON) -> Relevances:
    """Of a maximum: to all that are compared, in proportion to their size.

    R_i = sum_j x_i R_j / sum_i x_i over the windows j that hold i

    Args:
      operation, relevance, epsilon: see the module; inputs of at least 0, as behind a rectifier.

    Returns:
      The relevances of the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image.max()
      >>> def composite(operation):
      ...     return rules.proportional if operation.kind == "maximum" else None
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=composite)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [2.25 0.75]

    Reference:
      Montavon et al., 2015, arXiv:1512.02479, section 5.1, on pooling.
    """
    relevance = as_handed(operation, relevance)
    epsilon = as_number("epsilon", epsilon, 0)
    total, back = jax.vjp(operation.summed, *operation.inputs)
    shares = back(relevance / _away_from_zero(total, epsilon))
    return tuple(array * share for array, share in zip(operation.inputs, shares, strict=True))


def uniform(operation: Operation, relevance: Any, epsilon: Number = EPSILON) -> Relevances:
    """Of a product: half to either factor, and there in proportion to what is added up.

    R_a = a sum_j dz_j / da R_j / (2 z_j + epsilon), and the same of b, for z = a b or a matrix
    product of a and b

    Args:
      operation, relevance, epsilon: see the module.

    Returns:
      The relevances of the factors.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return image[0, 0, 0] * image[0, 1, 0]
      >>> def composite(operation):
      ...     return rules.uniform if operation.kind == "product" else None
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=composite)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [1.5 1.5]

    Reference:
      Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek, AttnLRP, 2024, arXiv:2402.05602,
      propositions 3.2 and 3.3.
    """
    relevance = as_handed(operation, relevance)
    epsilon = as_number("epsilon", epsilon, 0)
    _, back = jax.vjp(operation.function, *operation.inputs)
    shares = back(relevance / _away_from_zero(2 * operation.output, epsilon))
    return tuple(array * share for array, share in zip(operation.inputs, shares, strict=True))


def softmax(operation: Operation, relevance: Any) -> Relevances:
    """Of a softmax: its first-order Taylor expansion at the input.

    R_i = x_i (R_i - s_i sum_j R_j), s the softmax of x

    Its constant, what the softmax would be at 0, gets the rest.

    Args:
      operation, relevance: see the module.

    Returns:
      The relevance of the input; 0 where it is minus infinity.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return jax.nn.softmax(image.ravel())[0]
      >>> def composite(operation):
      ...     return rules.softmax if operation.kind == "softmax" else None
      >>> image = jnp.array([3.0, 1.0]).reshape(1, 2, 1)
      >>> relevance = rules.lrp(score, image, composite=composite)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [ 0.315 -0.105]

    Reference:
      Achtibat et al., 2024, arXiv:2402.05602, proposition 3.1.
    """
    relevance = as_handed(operation, relevance)
    (array,) = operation.inputs
    total = relevance.sum(operation.axes, keepdims=True)
    share = relevance - operation.output * total
    return (jnp.where(jnp.isfinite(array), array, 0) * share.astype(array.dtype),)


def as_handed(operation: Any, relevance: Any) -> Any:
    """The relevance of an operation's output; raises unless they are that."""
    if not isinstance(operation, Operation):
        raise TypeError(f"expected operation to be an Operation, got {type(operation).__name__}")
    if not isinstance(relevance, jax.Array | np.ndarray):
        raise TypeError(f"expected relevance to be an array, got {type(relevance).__name__}")
    is_complex = jnp.iscomplexobj(relevance) and not jnp.iscomplexobj(operation.output)
    if is_complex or not jnp.issubdtype(relevance.dtype, jnp.inexact):
        raise TypeError(f"expected relevance to hold floats, got {relevance.dtype}")
    if relevance.shape != operation.output.shape:
        raise ValueError(
            f"expected relevance to have the output's shape {operation.output.shape}, got "
            f"{relevance.shape}"
        )
    return to_jax(relevance).astype(operation.output.dtype)


def _away_from_zero(values: Any, epsilon: Number) -> Any:
    added = jnp.asarray(epsilon, values.dtype)
    moved = values + jnp.where(values >= 0, added, -added)
    # Nothing is shared out where there is nothing; at epsilon = 0 it would be nan.
    return jnp.where(moved == 0, jnp.inf, moved)


def _over(relevance: Any, part: Any, epsilon: Number) -> Any:
    """The quotient with a sum of one sign, of which nothing is left to share out where it is 0."""
    return jnp.where(part == 0, 0, relevance / _away_from_zero(part, epsilon))


def _unchanged(weights: Any) -> Any:
    return weights


def waiting(arrays: Iterable[Any], handed: Any) -> Relevances:
    """Arrays of the forward pass, as if they were there no sooner than what is handed back.

    What a rule makes of them besides, a scheduler that is after concurrency would else work out at
    once for all operations, and keep.
    """
    # The compiler, which drops a barrier before it schedules, cannot tell that this is 0.
    zero = jnp.minimum(abs(handed.ravel()[0]), 0)
    return tuple(array + zero.astype(array.dtype) for array in arrays)


def _with_magnitudes(operation: Operation, relevance: Any) -> tuple[Any, Any, Any]:
    """sum_i |w_ij| |x_i|, and the transposes of the weights and of their magnitudes."""
    _, back = jax.vjp(operation.function, *operation.inputs)
    magnitudes = map(abs, waiting(operation.inputs, relevance))
    size, back_size = jax.vjp(lambda *arrays: operation.reweighted(jnp.abs, *arrays), *magnitudes)
    return size, back, back_size


def _shares(operation: Operation, shares: Relevances, shares_of_size: Relevances) -> Relevances:
    return tuple(
        array * share + abs(array) * share_of_size
        for array, share, share_of_size in zip(
            operation.inputs, shares, shares_of_size, strict=True
        )
    )


def _halves(operation: Operation, arrays: Relevances) -> list[list[Any]]:
    """max(x, 0) and min(x, 0) of the inputs, the latter where it is not known to be 0."""
    signs = [jnp.maximum] if operation.is_positive else [jnp.maximum, jnp.minimum]
    return [[sign(array, 0) for array in arrays] for sign in signs]


def _by_sign(
    operation: Operation, relevance: Any, chosen: Callable
) -> tuple[Any, Callable[[Any], Relevances]]:
    """What is chosen of z+ and z-, each a sum of one sign, and c+ q+ + c- q- as a function of q."""
    halves = _halves(operation, operation.inputs)
    waited = _halves(operation, waiting(operation.inputs, relevance))
    parts, back = jax.vjp(lambda *halves: chosen(*operation.split(*halves)), *waited)

    def hand(quotients):
        shares = zip(*halves, *back(quotients), strict=True)
        middle = len(halves)
        return tuple(
            sum(array * share for array, share in zip(each[:middle], each[middle:], strict=True))
            for each in shares
        )

    return parts, hand


def _by_weights(operation, relevance, change, epsilon):
    ones = [jnp.ones_like(array) for array in operation.inputs]
    total, back = jax.vjp(lambda *arrays: operation.reweighted(change, *arrays), *ones)
    return back(relevance / _away_from_zero(total, epsilon))
