"""DeepLIFT: what an output's change from a baseline owes to the change of each pixel."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._chunks import mean_chunked
from .._types import Attribution, Baseline, Count, Image, Scalar
from .._validation import as_array, as_image
from ..baselines import as_baseline, zeros
from ..scores import as_score
from ._lrp import propagate
from ._operations import Grouping, Operation, opens_all_but_affine, operation
from ._program import trace

# Changes below this share of the values are of rounding: their ratio would be too.
_SMALL = 1e-5


def deep_lift(
    score: Callable[[Image], Scalar], image: Image, *, baseline: Baseline = zeros
) -> Attribution:
    """DeepLIFT by the rescale rule: changes from the baseline, handed back in proportion.

    A = m (I - B), with m_i = sum_j m_j dz_j / dx_i at affine operations, m_i = m_j (f(x) - f(x0)) /
    (x - x0) at activations f, x0 their value for the baseline

    A product is handed back by the mean of the other factor, a quotient alike, a maximum to the
    winner of the larger side: all of them exactly, so that the attributions add up to S(I) - S(B),
    through attention and normalizations too. `attribution.completeness_gap` says how well: digits
    are lost where a normalization divides by almost nothing, as one of a black image's may.

    Args:
      score, image, baseline: see the room.

    Returns:
      The attribution (h, w, c), in units of the score.

    Raises:
      ValueError: an operation has no such rule; the message has its name and its line in the model.

    Example:
      Case 8 of the published ones:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     a, b = image.ravel()
      ...     return 2 * jax.nn.relu(a) + 2 * jax.nn.relu(b - 1.5)
      >>> print(rules.deep_lift(score, jnp.array([[[1.0], [2.0]]])).ravel())
      [2. 1.]

    Reference:
      Shrikumar, Greenside, Kundaje, Learning Important Features Through Propagating Activation
      Differences, 2017, arXiv:1704.02685, sections 3.2 and 3.5.1; of products and maxima Lundberg,
      Lee, A Unified Approach to Interpreting Model Predictions, 2017, arXiv:1705.07874.
    """
    image, score = as_image(image), as_score(score)
    start = as_baseline(baseline, image)
    # Gradients are stopped where they add nothing, as in a softmax; changes are not.
    program = trace(score, image, opens_all_but_affine, skipped=frozenset({"stop_gradient"}))
    values, reference = program.evaluate(image), program.evaluate(start)

    def rule_of(group):
        found, before = operation(group, values), operation(group, reference)
        if found.kind not in _RULES:
            raise ValueError(
                f"expected operations that DeepLIFT has a rule for, got {found.primitives[-1]} at "
                f"{found.source}, of kind {found.kind!r}"
            )
        return lambda multiplier: _RULES[found.kind](found, before, multiplier)

    groups = Grouping(program, holds=False).groups()
    answers = [jnp.ones_like(values[value]) for value in program.outputs]
    (multiplier,) = propagate(program, groups, answers, rule_of)
    return multiplier * (image - start)


def deep_shap(
    score: Callable[[Image], Scalar],
    image: Image,
    *,
    baselines: Float[Array, "n h w c"] | Float[np.ndarray, "n h w c"],
    batch_size: Count = 8,
) -> Attribution:
    """DeepSHAP: DeepLIFT averaged over baselines.

    A = mean_B deep_lift(S, I, baseline=B)

    Args:
      score, image, batch_size: see the room.
      baselines: (n, h, w, c) in the image's range, such as images of the training set.

    Returns:
      The attribution (h, w, c), in units of the score: it adds up to S(I) minus the baselines' mean
      score.

    Raises:
      ValueError: the baselines' shape does not fit; an operation has no rule.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return 3 * image.sum()
      >>> baselines = jnp.stack([jnp.zeros((1, 2, 1)), jnp.ones((1, 2, 1))])
      >>> print(rules.deep_shap(score, jnp.ones((1, 2, 1)), baselines=baselines).ravel())
      [1.5 1.5]

    Reference:
      Lundberg, Lee, A Unified Approach to Interpreting Model Predictions, 2017, arXiv:1705.07874.
    """
    image = as_image(image)
    starts = as_array("baselines", baselines, ("n", "h", "w", "c")).astype(image.dtype)
    if starts.shape[1:] != image.shape:
        raise ValueError(
            f"expected baselines to have shape (n, {', '.join(map(str, image.shape))}), "
            f"got {starts.shape}"
        )
    return mean_chunked(lambda start: deep_lift(score, image, baseline=start), starts, batch_size)


def _linear(found: Operation, before: Operation, multiplier: Any) -> Any:
    _, back = jax.vjp(found.function, *found.inputs)
    return back(multiplier)


def _rescaled(found: Operation, before: Operation, multiplier: Any) -> Any:
    (array,), (start,) = found.inputs, before.inputs
    change = jnp.where(array == start, 0, array - start)
    # There the ratio is the slope, which halfway is right to third order.
    _, back = jax.vjp(found.function, (array + start) / 2)
    (by_slope,) = back(multiplier)
    small = abs(change) <= _SMALL * jnp.maximum(abs(array), abs(start))
    ratio = (found.output - before.output) / jnp.where(small, 1, change)
    return (jnp.where(small, by_slope, multiplier * ratio),)


def _between(found: Operation, before: Operation, multiplier: Any) -> Any:
    """A bilinear function's exact multipliers: each factor's at the mean of the other."""
    means = [(array + start) / 2 for array, start in zip(found.inputs, before.inputs, strict=True)]
    _, back = jax.vjp(found.function, *means)
    return back(multiplier)


def _divided(found: Operation, before: Operation, multiplier: Any) -> Any:
    """a / b as a times 1 / b, of which the latter's own ratio is -1 / (b b0)."""
    (top, bottom), (top_start, bottom_start) = found.inputs, before.inputs
    to_top = multiplier * (1 / bottom + 1 / bottom_start) / 2
    to_bottom = -multiplier * (top + top_start) / 2 / (bottom * bottom_start)
    return _fit(to_top, top), _fit(to_bottom, bottom)


def _largest(found: Operation, before: Operation, multiplier: Any) -> Any:
    """A rise to what wins now, a fall to what won before, which changed by no less."""
    change = multiplier * (found.output - before.output)
    rises = found.output >= before.output
    _, back_now = jax.vjp(found.function, *found.inputs)
    _, back_before = jax.vjp(before.function, *before.inputs)
    shares = zip(
        back_now(jnp.where(rises, change, 0)),
        back_before(jnp.where(rises, 0, change)),
        found.inputs,
        before.inputs,
        strict=True,
    )
    multipliers = []
    for now, then, array, start in shares:
        moved = array - start
        multipliers.append(jnp.where(moved == 0, 0, (now + then) / jnp.where(moved == 0, 1, moved)))
    return tuple(multipliers)


def _fit(array: Any, like: Any) -> Any:
    """Summed over the axes along which the other was repeated, all of them if it is a number."""
    if not like.ndim:
        return array.sum()
    axes = [axis for axis in range(array.ndim) if array.shape[axis] != like.shape[axis]]
    return array.sum(tuple(axes), keepdims=True)


_RULES: dict[str, Callable[[Operation, Operation, Any], Any]] = {
    "affine": _linear,
    "sum": _linear,
    "rearrangement": _linear,
    "activation": _rescaled,
    "elementwise": _rescaled,
    "maximum": _largest,
    "product": _between,
    "quotient": _divided,
}
