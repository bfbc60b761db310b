"""DeepLIFT: what an output's change from a baseline owes to the change of each pixel."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._chunks import mean_chunked
from .._types import Attribution, Baseline, Count, Image, Scalar
from .._validation import as_array, as_image, check_callable, checked_together
from ..baselines import as_baseline, zeros
from ..scores import as_score
from ._lrp import propagate
from ._operations import Group, Grouping, Operation, opens_all_but_affine, operation
from ._program import trace
from ._rules import waiting

# Changes below this share of the values are of rounding: their ratio would be too.
_SMALL = 1e-5


@dataclasses.dataclass(frozen=True)
class Change:
    """What an activation's input goes through from the baseline to the image.

    Attributes:
      function: f, the activation, of its input.
      start, end: x0 and x, its input for the baseline and for the image.
      parts: () -> (dx+, dx-), of x - x0 what raised it and what lowered it: of an affine
        operation's output the sums of what its inputs add and take away by their own changes, of an
        activation's its own parts, of the image max(I - B, 0) and min(I - B, 0).
    """

    function: Callable[[Any], Any]
    start: Any
    end: Any
    parts: Callable[[], tuple[Any, Any]]


# (what an activation goes through) -> its multipliers, of what raises and of what lowers its input
ActivationRule = Callable[[Change], tuple[Any, Any]]


def rescale(change: Change) -> tuple[Any, Any]:
    """DeepLIFT's rescale rule: the same for what raises an activation and for what lowers it.

    m+ = m- = (f(x) - f(x0)) / (x - x0)

    Args:
      change: see `Change`.

    Returns:
      m+ and m-, of the input's shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def smaller(image):
      ...     a, b = image.ravel()
      ...     return a - jax.nn.relu(a - b)
      >>> image = jnp.array([[[3.0], [1.0]]])
      >>> found = rules.deep_lift(smaller, image, rule=rules.rescale)
      >>> print(np.asarray(found.ravel()).round(3))
      [0. 1.]

    Reference:
      Shrikumar et al., 2017, arXiv:1704.02685, section 3.5.2.
    """
    _check_change(change)
    multiplier = _ratio(change.function, change.start, change.end)
    return multiplier, multiplier


def reveal_cancel(change: Change) -> tuple[Any, Any]:
    """DeepLIFT's RevealCancel rule: what raises an activation and what lowers it, apart.

    m+ = ((f(x0 + dx+) - f(x0)) + (f(x) - f(x0 + dx-))) / (2 dx+), and m- with dx+ and dx- exchanged

    So what cancels out is seen: of the smaller of two numbers either has half.

    Args:
      change: see `Change`.

    Returns:
      m+ and m-, of the input's shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def smaller(image):
      ...     a, b = image.ravel()
      ...     return a - jax.nn.relu(a - b)
      >>> image = jnp.array([[[3.0], [1.0]]])
      >>> found = rules.deep_lift(smaller, image, rule=rules.reveal_cancel)
      >>> print(np.asarray(found.ravel()).round(3))
      [0.5 0.5]

    Reference:
      Shrikumar et al., 2017, arXiv:1704.02685, section 3.5.3.
    """
    _check_change(change)
    rise, fall = (change.start + part for part in change.parts())

    def mean_ratio(alone, other):
        first = _ratio(change.function, change.start, alone)
        return (first + _ratio(change.function, other, change.end)) / 2

    return mean_ratio(rise, fall), mean_ratio(fall, rise)


def deep_lift(
    score: Callable[[Image], Scalar],
    image: Image,
    *,
    baseline: Baseline = zeros,
    rule: ActivationRule = rescale,
) -> Attribution:
    """DeepLIFT: changes from the baseline, handed back in proportion.

    A = m (I - B), with m_i = sum_j m_j dz_j / dx_i at affine operations and the rule's multipliers
    at activations

    Where a rule tells what raises an activation from what lowers it, an affine operation's input
    that rises has m_i = sum_j w+_ij m+_j + w-_ij m-_j, one that falls m+ and m- exchanged, and one
    that does not change their mean.

    A product is handed back by the mean of the other factor, a quotient alike, a maximum to the
    winner of the larger side: all of them exactly, so that the attributions add up to S(I) - S(B),
    through attention and normalizations too. `attribution.completeness_gap` says how well: digits
    are lost where a normalization divides by almost nothing, as one of a black image's may.

    Args:
      score, image, baseline: see the room.
      rule: of activations, `rescale`, `reveal_cancel` or a function like them.

    Returns:
      The attribution (h, w, c), in units of the score.

    Raises:
      ValueError: an operation has no such rule, or the rule needs parts of what a product, a
        quotient or a maximum makes, which no one has defined; the message has its name and its line
        in the model.

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
    check_callable("rule", rule)
    with checked_together():
        image, score = as_image(image), as_score(score)
        start = as_baseline(baseline, image)
    # Gradients are stopped where they add nothing, as in a softmax; changes are not.
    program = trace(score, image, opens_all_but_affine, skipped=frozenset({"stop_gradient"}))
    values, reference = program.evaluate(image), program.evaluate(start)

    grouping = Grouping(program, holds=False)
    groups, stop = grouping.groups(), grouping.stop()
    if stop is not None:
        raise ValueError(
            f"expected operations that DeepLIFT has a rule for, got {stop.name} at {stop.source}"
        )
    walk = _Walk(groups, values, reference, rule)
    same = jnp.ones_like(values[program.outputs[0]])
    (multipliers,) = propagate(program, groups, [_Multipliers(same, same)], walk.step)
    if multipliers is None:
        return jnp.zeros_like(image)
    rise, fall = multipliers
    return jnp.where(image >= start, rise, fall) * (image - start)


def deep_shap(
    score: Callable[[Image], Scalar],
    image: Image,
    *,
    baselines: Float[Array, "n h w c"] | Float[np.ndarray, "n h w c"],
    rule: ActivationRule = rescale,
    batch_size: Count = 8,
) -> Attribution:
    """DeepSHAP: DeepLIFT averaged over baselines.

    A = mean_B deep_lift(S, I, baseline=B)

    Args:
      score, image, batch_size: see the room.
      baselines: (n, h, w, c) in the image's range, such as images of the training set.
      rule: see `deep_lift`.

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
    with checked_together():
        image = as_image(image)
        starts = as_array("baselines", baselines, ("n", "h", "w", "c")).astype(image.dtype)
    if starts.shape[1:] != image.shape:
        raise ValueError(
            f"expected baselines to have shape (n, {', '.join(map(str, image.shape))}), "
            f"got {starts.shape}"
        )
    explain = functools.partial(deep_lift, score, image, rule=rule)
    return mean_chunked(lambda start: explain(baseline=start), starts, batch_size)


def _check_change(change: Any) -> None:
    if not isinstance(change, Change):
        raise TypeError(f"expected change to be a Change, got {type(change).__name__}")


class _Multipliers(NamedTuple):
    """Of what raises a value and of what lowers it: one object where no rule told them apart."""

    rise: Any
    fall: Any

    @property
    def are_same(self) -> bool:
        return self.rise is self.fall

    def __add__(self, other):
        rise = self.rise + other.rise
        same = self.are_same and other.are_same
        return _Multipliers(rise, rise if same else self.fall + other.fall)


class _Walk:
    """Back through operations that were worked out for the image and for the baseline."""

    def __init__(self, groups, values, reference, rule):
        self.makers = {group.output: group for group in groups}
        self.values, self.reference, self.rule = values, reference, rule
        # What is handed back, which the parts of changes wait for.
        self.handed: Any = None

    def step(self, group: Group) -> Callable[[_Multipliers], Sequence[_Multipliers]]:
        """From the multipliers of an operation's output to those of its inputs."""
        found, before = operation(group, self.values), operation(group, self.reference)
        if found.kind in _ELEMENTWISE:
            return lambda handed: [_times(handed, self.behind(handed).ratios(group))]
        if found.kind in _LINEAR:
            return lambda handed: self.behind(handed).linear(group, handed)
        if found.kind not in _RULES:
            raise ValueError(
                f"expected operations that DeepLIFT has a rule for, got {_name(found)}"
            )

        def share(multipliers):
            if not multipliers.are_same:
                raise _without_parts(found)
            shares = _RULES[found.kind](found, before, multipliers.rise)
            return [_Multipliers(each, each) for each in shares]

        return share

    def behind(self, multipliers: _Multipliers) -> "_Walk":
        walk = copy.copy(self)
        walk.handed = multipliers.rise
        return walk

    def ratios(self, group: Group) -> _Multipliers:
        """The rule's, of an activation."""
        (value,) = group.inputs
        found = operation(group, self.values)
        start, end = self.reference[value], self.values[value]
        change = Change(found.function, start, end, lambda: self.parts(value))
        return _Multipliers(*self.rule(change))

    def linear(self, group: Group, multipliers: _Multipliers) -> Sequence[_Multipliers]:
        found = operation(group, self.values)
        if multipliers.are_same:
            _, back = jax.vjp(found.function, *found.inputs)
            return [_Multipliers(each, each) for each in back(multipliers.rise)]
        rises, falls = zip(*map(self.parts_taken(group), group.inputs), strict=True)
        _, back = jax.vjp(found.split, rises, falls)
        shares = [_Multipliers(*each) for each in zip(*back(tuple(multipliers)), strict=True)]
        if group.kind == "rearrangement":
            return shares
        return [
            _of_change(share, self.change(value))
            for share, value in zip(shares, group.inputs, strict=True)
        ]

    def change(self, value: int) -> Any:
        return _difference(self.values[value], self.reference[value])

    def signs(self, value: int) -> tuple[Any, Any]:
        """A value's change where it rises and where it falls."""
        (change,) = waiting([self.change(value)], self.handed)
        return jnp.maximum(change, 0), jnp.minimum(change, 0)

    def parts_taken(self, group: Group) -> Callable[[int], tuple[Any, Any]]:
        """What is split of an operation's inputs: a rearrangement hands on their own parts."""
        return self.parts if group.kind == "rearrangement" else self.signs

    def parts(self, value: int) -> tuple[Any, Any]:
        """See `Change`."""
        group = self.makers.get(value)
        if group is None:
            return self.signs(value)
        if group.kind in _ELEMENTWISE:
            (rise, fall), (along, against) = self.ratios(group), self.parts(group.inputs[0])
            return rise * along, fall * against
        found = operation(group, self.values)
        if group.kind not in _LINEAR:
            raise _without_parts(found)
        rises, falls = zip(*map(self.parts_taken(group), group.inputs), strict=True)
        return found.split(rises, falls)


def _without_parts(found: Operation) -> ValueError:
    return ValueError(
        "expected what an activation takes to be made by affine operations and activations, of "
        f"which the parts are known, got {_name(found)}; `rules.rescale` needs no parts"
    )


def _name(found: Operation) -> str:
    return f"{found.primitives[-1]} at {found.source}, of kind {found.kind!r}"


def _times(one: _Multipliers, other: _Multipliers) -> _Multipliers:
    rise = one.rise * other.rise
    same = one.are_same and other.are_same
    return _Multipliers(rise, rise if same else one.fall * other.fall)


def _of_change(shares: _Multipliers, change: Any) -> _Multipliers:
    """What a value rises by adds where its weight is positive, and takes away where not."""
    rise, fall = shares
    one = jnp.where(change > 0, rise, jnp.where(change < 0, fall, (rise + fall) / 2))
    return _Multipliers(one, one)


def _difference(end: Any, start: Any) -> Any:
    # Infinities that stay what they are do not change.
    return jnp.where(end == start, 0, end - start)


def _ratio(function: Callable[[Any], Any], start: Any, end: Any) -> Any:
    """(f(end) - f(start)) / (end - start), of a function value by value."""
    change = _difference(end, start)
    # There the ratio is the slope, which halfway is right to third order.
    middle, back = jax.vjp(function, (end + start) / 2)
    (slope,) = back(jnp.ones_like(middle))
    small = abs(change) <= _SMALL * jnp.maximum(abs(end), abs(start))
    return jnp.where(small, slope, (function(end) - function(start)) / jnp.where(small, 1, change))


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


_ELEMENTWISE = ("activation", "elementwise")
_LINEAR = ("affine", "sum", "rearrangement")
_RULES: dict[str, Callable[[Operation, Operation, Any], Any]] = {
    "maximum": _largest,
    "product": _between,
    "quotient": _divided,
}
