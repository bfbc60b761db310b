"""Layer-wise relevance propagation through any traced function, and through channels of a layer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Attribution, Image, Label, Scalar
from .._validation import as_image, check_callable, check_label, is_concrete
from ..attribution._grad_cam import check_layer, check_reads_a_model
from ..layers import Layer
from ..scores import Score, as_score
from ._composites import DEFAULTS, Composite, Rule, epsilon_plus
from ._operations import Group, Grouping, Operation, opens_all_but_affine, operation
from ._program import Equation, Program, trace

_DEFAULT = epsilon_plus()


def lrp(
    score: Callable[[Image], Scalar], image: Image, *, composite: Composite = _DEFAULT
) -> Attribution:
    """Layer-wise relevance propagation: the score, handed back operation by operation.

    R = S(I) at the score, and R_i = sum_j R_{i <- j} by the rule of each operation, down to the
    image

    Args:
      score, image, composite: see the room.

    Returns:
      The relevance (h, w, c), in units of the score. It adds up to the score but for what
      `conservation` tells of.

    Raises:
      ValueError: an operation has no rule; the message has its name and its line in the model. So
        it is of the logarithm of a probability: explain the logit.

    Example:
      Case 6 of Captum's tests, with weights 2 and then 3:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     hidden = jax.nn.relu(image.reshape(3) @ jnp.full((3, 3), 2.0))
      ...     return jnp.sum(hidden * 3.0)
      >>> image = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
      >>> print(np.asarray(rules.lrp(score, image).ravel()).round(3))
      [18. 36. 54.]

    Reference:
      Bach, Binder, Montavon, Klauschen, Mueller, Samek, On Pixel-Wise Explanations for Non-Linear
      Classifier Decisions by Layer-Wise Relevance Propagation, PLoS ONE 10(7), 2015.
    """
    image = as_image(image)
    passed = _forward(as_score(score), image)
    (relevance,) = passed.back(passed.answers, composite)
    return relevance


class Conservation(NamedTuple):
    """Where a score's relevance went.

    Attributes:
      score: S(I).
      image: the sum of the image's relevance.
      lost: rule -> relevance that came to operations by this rule and was not handed on: to the
        constants, biases above all, to epsilon, and to what the rule itself leaves out. With
        `image` it adds up to the score.
    """

    score: Scalar
    image: Scalar
    lost: Mapping[str, Scalar]


def conservation(
    score: Callable[[Image], Scalar], image: Image, *, composite: Composite = _DEFAULT
) -> Conservation:
    """What of a score arrives at the image, and what stays with biases on the way.

    S = sum_i R_i + sum_rules lost

    Args:
      score, image, composite: see the room.

    Returns:
      See `Conservation`.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return jnp.sum(2.0 * image) + 1.0
      >>> found = rules.conservation(score, jnp.ones((1, 2, 1)))
      >>> print(found.score, *(f"{part:.3f}" for part in (found.image, found.lost["epsilon"])))
      5.0 4.000 1.000
    """
    image = as_image(image)
    passed = _forward(as_score(score), image)
    lost: dict[str, Scalar] = {}

    def watch(operation, rule, relevance, shares):
        gone = relevance.sum() - sum(share.sum() for share in shares)
        name = rule_name(rule)
        lost[name] = lost[name] + gone if name in lost else gone

    (relevance,) = passed.back(passed.answers, composite, watch)
    (value,) = passed.answers
    return Conservation(value, relevance.sum(), lost)


def relevance_through(
    score: Score,
    image: Image,
    layer: Layer,
    channels: Label | Sequence[int],
    *,
    composite: Composite = _DEFAULT,
) -> Attribution:
    """Concept relevance propagation: the relevance that passes through channels of a layer.

    R' = R at the layer in these channels and 0 in the others, handed on to the image

    Args:
      score: of the layer's model, a `scores.Score`.
      image, composite: see the room.
      layer: where the score's model is cut; its last axis is that of the channels.
      channels: one channel or several, integers in 0 .. d - 1, none twice; an array of them may be
        traced.

    Returns:
      The relevance (h, w, c), in units of the score. Those of all channels add up to that of all of
      them.

    Raises:
      ValueError: a channel that is known is out of range; an operation has no rule.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules, scores
      >>> from saliency_jax.layers import Layer
      >>> def double(image):
      ...     return 2.0 * image
      >>> def top(feature_map):
      ...     return feature_map.sum((0, 1)) @ jnp.array([[1.0], [3.0]])
      >>> layer = Layer(double, top)
      >>> score = scores.logit(lambda image: top(double(image)), 0)
      >>> relevance = rules.relevance_through(score, jnp.ones((1, 1, 2)), layer, 1)
      >>> print(np.asarray(relevance.ravel()).round(3))
      [0. 6.]

    Reference:
      Achtibat, Dreyer, Eisenbraun, Bosse, Wiegand, Samek, Lapuschkin, From attribution maps to
      human-understandable explanations through Concept Relevance Propagation, Nature Machine
      Intelligence 5, 2023, arXiv:2206.03208.
    """
    image = as_image(image)
    passed, relevances = _at_layer(score, image, layer, composite)
    relevance_map, back = jax.vjp(layer.to_map, relevances)
    count = relevance_map.shape[-1]
    chosen = jnp.atleast_1d(_as_channels(channels, count))
    mask = (jnp.arange(count, dtype=jnp.int32)[None, :] == chosen[:, None]).any(0)
    (kept,) = back(jnp.where(mask[None, None, :], relevance_map, 0))
    (relevance,) = passed.back(jax.tree.leaves(kept), composite)
    return relevance


def channel_relevances(
    score: Score, image: Image, layer: Layer, *, composite: Composite = _DEFAULT
) -> Float[Array, "d"]:
    """How much of a score's relevance passes through each channel of a layer.

    R_k = sum_ij R_ijk at the layer. Ranked, `jnp.argsort(-relevances)`, they say which channels to
    look at, by `relevance_through` and by the picture of `scores.channel(layer, k)`.

    Args:
      score: of the layer's model, a `scores.Score`.
      image, composite: see the room.
      layer: where the score's model is cut.

    Returns:
      (d,), in units of the score.

    Raises:
      ValueError: an operation has no rule.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from saliency_jax import rules, scores
      >>> from saliency_jax.layers import Layer, identity
      >>> def top(feature_map):
      ...     return feature_map.sum((0, 1)) @ jnp.array([[1.0], [3.0]])
      >>> layer = Layer(identity, top)
      >>> score = scores.logit(top, 0)
      >>> print(np.asarray(rules.channel_relevances(score, jnp.ones((2, 1, 2)), layer)).round(3))
      [2. 6.]

    Reference:
      Achtibat et al., 2023, arXiv:2206.03208, see `relevance_through`.
    """
    image = as_image(image)
    _, relevances = _at_layer(score, image, layer, composite)
    relevance_map = layer.as_map(relevances)
    return relevance_map.sum((0, 1))


class Coverage(NamedTuple):
    """What became of a score's equations.

    Attributes:
      rules: rule -> how many equations belong to operations that it handles.
      held: how many depend on the image but are held constant: the statistics that a normalization
        divides by, what a `where` selects by.
      missing: the operations that no rule handles, "sin at model.py:12 (f)".
    """

    rules: Mapping[str, int]
    held: int
    missing: tuple[str, ...]


def coverage(
    score: Callable[[Image], Scalar], image: Image, *, composite: Composite = _DEFAULT
) -> Coverage:
    """Which rules handle a score's equations, and which equations have none.

    Args:
      score, image, composite: see the room; of the image only shape and dtype matter.

    Returns:
      See `Coverage`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> found = rules.coverage(lambda image: jnp.sum(jnp.sin(image)), jnp.ones((1, 1, 1)))
      >>> print(dict(found.rules), [name.partition(" ")[0] for name in found.missing])
      {'epsilon': 1} ['sin']
    """
    image = as_image(image)
    counts: dict[str, int] = {}
    missing: list[str] = []
    numbers = {"held": 0}

    def count(image):
        passed = _forward(as_score(score), image)
        touched: set[Any] = set()
        for group in passed.groups:
            found = operation(group, passed.values)
            touched.update(group.equations)
            rule = _rule_of(found, composite)
            if rule is None:
                missing.append(_name(found))
            else:
                name = rule_name(rule)
                counts[name] = counts.get(name, 0) + len(group.equations)
        if passed.stop is not None:
            missing.append(f"{passed.stop.name} at {passed.stop.source}")
        dependent = (
            equation
            for equation in passed.program.equations
            if not passed.program.dependent.isdisjoint(equation.outputs)
        )
        numbers["held"] = len(set(dependent).difference(touched))
        return passed.answers

    jax.eval_shape(count, image)
    return Coverage(counts, numbers["held"], tuple(missing))


class _Forward(NamedTuple):
    """A function's program, worked out for its input."""

    program: Program
    groups: list[Group]
    values: Mapping[int, Any]
    # Where all that the answers owe to the input is held constant, if it is.
    stop: Equation | None

    @property
    def depth(self) -> int:
        """How many operations with weights are one behind the other, at most."""
        return max((group.depth + group.has_weights for group in self.groups), default=0)

    def behind(self, before: "_Forward") -> "_Forward":
        """The same as a part of a model, behind another part."""
        if not before.groups:
            return self
        groups = [
            dataclasses.replace(group, depth=group.depth + before.depth, is_first=False)
            for group in self.groups
        ]
        return self._replace(groups=groups)

    @property
    def answers(self) -> list[Any]:
        return [self.values[value] for value in self.program.outputs]

    def back(
        self,
        relevances: Sequence[Any],
        composite: Composite,
        watch: Callable[[Operation, Rule, Any, Sequence[Any]], None] | None = None,
    ) -> list[Any]:
        """The relevance of the leaves of the input, for that of the leaves of the answer."""
        if self.stop is not None:
            raise ValueError(
                "expected something that relevance can be handed back through, got nothing behind "
                f"{self.stop.name} at {self.stop.source}"
            )
        found = propagate(
            self.program,
            self.groups,
            relevances,
            lambda group: self._step(group, composite, watch),
        )
        shapes = [self.program.shapes[value] for value in self.program.inputs]
        return [
            jnp.zeros(shape.shape, shape.dtype) if relevance is None else relevance
            for relevance, shape in zip(found, shapes, strict=True)
        ]

    def _step(self, group, composite, watch):
        found = operation(group, self.values)
        rule = _rule_of(found, composite)
        if rule is None:
            raise ValueError(
                f"expected a rule for every operation, got {_name(found)}, a kind of "
                f"{found.kind!r} without one; give a composite that returns a rule for it, as "
                "`help(saliency_jax.rules)` shows"
            )

        def share(relevance):
            shares = rule(found, relevance)
            _check_shares(found, rule, shares)
            if watch is not None:
                watch(found, rule, relevance, shares)
            return shares

        return share


def propagate(
    program: Program,
    groups: Sequence[Group],
    answers: Sequence[Any],
    rule_of: Callable[[Group], Callable[[Any], Sequence[Any]]],
) -> list[Any]:
    """Hands what belongs to a program's answers back to its inputs, group by group.

    Args:
      program, groups: the groups in the order of the program.
      answers: what belongs to each of the program's outputs.
      rule_of: of a group, the function from what belongs to its output to what belongs to each of
        its inputs. What several groups hand to a value is added up.

    Returns:
      What belongs to each of the program's inputs; None where nothing was handed back.
    """
    held: dict[int, Any] = {}

    def hand(value, share):
        held[value] = held[value] + share if value in held else share

    for value, answer in zip(program.outputs, answers, strict=True):
        hand(value, answer)
    for group in reversed(groups):
        shares = rule_of(group)(held.pop(group.output))
        for value, share in zip(group.inputs, shares, strict=True):
            hand(value, share)
    return [held.get(value) for value in program.inputs]


def _forward(function: Callable, example: Any) -> _Forward:
    program = trace(function, example, opens_all_but_affine)
    grouping = Grouping(program, holds=True)
    values = program.evaluate(*jax.tree.leaves(example))
    return _Forward(program, grouping.groups(), values, grouping.stop())


def _at_layer(
    score: Score, image: Image, layer: Layer, composite: Composite
) -> tuple[_Forward, Any]:
    """The layer's forward pass, and the relevance of what its cut carries."""
    check_layer(layer)
    check_reads_a_model(score)
    passed = _forward(layer.features, image)
    carried = jax.tree.unflatten(passed.program.structure, passed.answers)
    head = _forward(score.on(layer.head), carried).behind(passed)
    relevances = head.back(head.answers, composite)
    return passed, jax.tree.unflatten(passed.program.structure, relevances)


def _as_channels(channels: Any, count: int) -> Any:
    """One channel or several, in range where they are known."""
    if not is_concrete(channels):
        if not jnp.issubdtype(channels.dtype, jnp.integer):
            raise TypeError(f"expected channels to be integers, got {channels.dtype}")
        return channels.astype(jnp.int32)
    chosen = np.asarray(channels)
    if chosen.ndim > 1 or not chosen.size:
        raise ValueError(f"expected one or more channels, got shape {chosen.shape}")
    for channel in chosen.ravel().tolist():
        check_label(channel, count, "channel")
    return chosen.astype(np.int32)


def _rule_of(found: Operation, composite: Composite) -> Rule | None:
    check_callable("composite", composite)
    rule = composite(found)
    if rule is None:
        return DEFAULTS.get(found.kind)
    if not callable(rule):
        raise TypeError(f"expected composite to return a rule or None, got {rule!r}")
    return rule


def _check_shares(found: Operation, rule: Rule, shares: Any) -> None:
    expected = [array.shape for array in found.inputs]
    given = [*map(jnp.shape, shares)] if isinstance(shares, tuple | list) else type(shares).__name__
    if given != expected:
        raise ValueError(
            f"expected the rule {rule_name(rule)!r} to return a tuple of arrays of the shapes "
            f"{expected}, as are the inputs of {_name(found)}, got {given}"
        )


def rule_name(rule: Rule) -> str:
    """The name of a rule, whose arguments may be bound."""
    while isinstance(rule, functools.partial):
        rule = rule.func
    return getattr(rule, "__name__", type(rule).__name__)


def _name(found: Operation) -> str:
    return f"{found.primitives[-1]} at {found.source}"
