"""What rules are given: a program's equations, merged into operations that a rule can be told of.

A convolution, its bias and the batch normalization behind it are one affine operation; a maximum
with 0, a `where` and a product of x with a function of x are activations, however they are written.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from ._program import Equation, Program, Source, evaluate, trace, trace_inside

Kind = Literal[
    "affine",
    "sum",
    "rearrangement",
    "activation",
    "elementwise",
    "maximum",
    "product",
    "quotient",
    "softmax",
    "unknown",
]

# Of one array: each value of the answer is one of its values.
_MOVES = frozenset(
    {
        "reshape",
        "broadcast_in_dim",
        "transpose",
        "squeeze",
        "expand_dims",
        "slice",
        "dynamic_slice",
        "gather",
        "rev",
        "split",
        "unstack",
        "tile",
        "convert_element_type",
        "reduce_precision",
        "copy",
        "copy_p",
        "optimization_barrier",
        "sharding_constraint",
        "reshard",
        "mesh_cast",
        "pvary",
        "pcast",
        "device_put",
        "real",
        "imag",
        "conj",
    }
)
# Of several arrays: each value of the answer is one of theirs.
_JOINS = frozenset({"concatenate", "stack", "pad", "select_n", "dynamic_update_slice", "complex"})
_ADDS = frozenset({"add", "add_any", "sub"})
_SCALES = frozenset({"mul", "div", "neg"})
_SUMS = frozenset({"reduce_sum", "cumsum", "reduce_window_sum", "fft"})
_WEIGHTS = frozenset({"dot_general", "conv_general_dilated"})
_SPREADS = ("broadcast_in_dim", "reshape", "convert_element_type")
_CUSTOM = frozenset({"custom_vjp_call", "custom_vjp_call_jaxpr"})
_CUSTOM_DERIVATIVES = _CUSTOM | {"custom_jvp_call"}
_MAXIMA = frozenset({"max", "reduce_max", "reduce_window_max"})
# By themselves: monotone, or 0 where the input is.
_ACTIVATIONS = frozenset(
    {
        "abs",
        "asinh",
        "atan",
        "cbrt",
        "ceil",
        "clamp",
        "erf",
        "expm1",
        "floor",
        "integer_pow",
        "log",
        "log1p",
        "logistic",
        "max",
        "min",
        "mul",
        "pow",
        "round",
        "select_n",
        "sign",
        "sinh",
        "sqrt",
        "square",
        "tanh",
    }
)
_NEVER_NEGATIVE = frozenset({"abs", "exp", "exp2", "logistic", "sqrt", "square"})
# What they make is at least 0 where all that they take is.
_KEEPS_SIGN = (
    _MOVES.difference({"real", "imag", "conj"})
    | _MAXIMA
    | {"add", "add_any", "clamp", "concatenate", "cumsum", "div", "min", "mul", "pad"}
    | {"reduce_sum", "reduce_window_sum", "select_n", "stack"}
)
# Of conditions side by side: which is the first that holds, as `jnp.select` asks.
_PICKS = frozenset({"argmax", "concatenate", "cumsum", "stack"})
_CONDITIONS = frozenset(
    {"and", "broadcast_in_dim", "clamp", "convert_element_type", "not", "or", "xor"}
)
_ELEMENTWISE = (
    _ACTIVATIONS
    | _ADDS
    | _SCALES
    | {
        "and",
        "asin",
        "atan2",
        "atanh",
        "acos",
        "acosh",
        "convert_element_type",
        "copy",
        "cos",
        "cosh",
        "digamma",
        "eq",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "ge",
        "gt",
        "is_finite",
        "le",
        "lgamma",
        "lt",
        "ne",
        "nextafter",
        "not",
        "or",
        "rem",
        "rsqrt",
        "sin",
        "stop_gradient",
        "tan",
        "xor",
    }
)


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """A part of a model that a rule hands relevance back through.

    What a composite may choose by, known when the model is traced:

    Attributes:
      kind: "affine", a linear function of one array plus a constant, with at most one layer of
        weights; "sum", of two arrays, such as a residual addition; "rearrangement", of which each
        value is one of the inputs'; "activation", of one array, value by value; "elementwise", the
        same of a function that is no activation, such as a sine; "maximum", of windows or
        of arrays; "product", of two arrays that depend on the input; "quotient", of two, where
        divisors are not held constant; "softmax"; "unknown".
      primitives: the names of JAX's primitives in it, in their order.
      depth: how many operations with weights come before it, at most.
      has_weights: whether it holds a convolution, a matrix product or the like.
      is_dense: whether it is a matrix product of the whole input, as a classifier's last layer.
      is_first: whether it takes the input itself.
      is_positive: whether its inputs are known to be at least 0, as behind a rectifier.
      source: where it stands in the model, with `scope` and `line`.
      inputs: the arrays that it takes, of those that relevance is for.
      output: the array that it makes.
    """

    kind: Kind
    primitives: tuple[str, ...]
    depth: int
    has_weights: bool
    is_dense: bool
    is_first: bool
    is_positive: bool
    source: Source
    inputs: tuple[Any, ...] = dataclasses.field(repr=False)
    output: Any = dataclasses.field(repr=False)
    _group: "Group" = dataclasses.field(repr=False)
    _values: Mapping[int, Any] = dataclasses.field(repr=False)

    def function(self, *inputs: Any) -> Any:
        """The output for other inputs."""
        values = self._with(inputs)
        evaluate(self._group.equations, values)
        return values[self._group.output]

    def reweighted(self, change: Callable[[Any], Any], *inputs: Any) -> Any:
        """An affine operation without its constant, its weights changed: sum_i change(w_i) x_i.

        Args:
          change: of the arrays that the inputs are multiplied with, `jnp.abs` for an example. Where
            an output depends on an input along one path, as through one layer of weights, it is
            change(w) of the product w of all of them for a `change` that keeps products.
          inputs: like `self.inputs`.
        """
        values = self._with(inputs)
        _reweight(self._group.equations, values, set(self._group.inputs), change)
        return values[self._group.output]

    def split(self, along: Sequence[Any], against: Sequence[Any] = ()) -> tuple[Any, Any]:
        """An affine operation without its constant, by the signs of its weights.

        W+ a + W- b and W+ b + W- a; of a = max(x, 0) and b = min(x, 0) what adds to the outputs for
        x and what takes from them, each sum of one sign. Where an output depends on an input along
        one path, see `reweighted`.

        Args:
          along, against: a and b, like `self.inputs`; without b it is 0.
        """
        others = against or [None] * len(along)
        pairs = dict(zip(self._group.inputs, zip(along, others, strict=True), strict=True))
        _split(self._group.equations, dict(self._values), pairs)
        zeros = jnp.zeros_like(self.output)
        made, other = (zeros if each is None else each for each in pairs[self._group.output])
        return made, other

    def constant(self) -> Any:
        """What an affine operation adds, an array that fits its output or 0."""
        values = {**self._values, **dict.fromkeys(self._group.inputs)}
        _evaluate_at_zero(self._group.equations, values)
        constant = values[self._group.output]
        return jnp.zeros((), self.output.dtype) if constant is None else constant

    def summed(self, *inputs: Any) -> Any:
        """A maximum's inputs added up in place of it."""
        values = self._with(inputs)
        _sum_maxima(self._group.equations, values, set(self._group.inputs))
        return values[self._group.output]

    @property
    def axes(self) -> tuple[int, ...]:
        """A softmax's axes."""
        sums = (found for found in self._group.equations if found.name == "reduce_sum")
        return _axes(next(sums))

    def _with(self, inputs: Sequence[Any]) -> dict[int, Any]:
        return {**self._values, **dict(zip(self._group.inputs, inputs, strict=True))}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """An operation's equations, from the values that it takes to the one that it makes."""

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    equations: tuple[Equation, ...]
    has_weights: bool = False
    is_dense: bool = False
    depth: int = 0
    is_first: bool = False
    is_positive: bool = False


def opens_all_but_affine(traced: core.JaxprEqn, dependent: Sequence[bool]) -> bool:
    """Whether to open a call: all but custom derivatives of what is affine, which may be faster."""
    closed = traced.primitive.name in _CUSTOM
    return not (closed and _is_affine_inside(traced, tuple(dependent)))


def opens_rectifiers(traced: core.JaxprEqn, dependent: Sequence[bool]) -> bool:
    """Whether to open a call: where it holds a rectifier and more; else its derivative stays."""
    if traced.primitive.name in ("jit", "pjit"):
        return True
    closed = traced.primitive.name in _CUSTOM_DERIVATIVES
    if closed and _elementwise_inside(traced, tuple(dependent)) is not None:
        return False
    return has_rectifier(traced, dependent)


def has_rectifier(traced: core.JaxprEqn, dependent: Sequence[bool]) -> bool:
    """Whether an equation holds equations of which one is a rectifier, at any depth."""
    if traced.primitive.name not in ("scan", "while", "cond"):
        return any(True for _ in rectifiers(trace_inside(traced, dependent, _opens_all)))
    for jaxpr in core.jaxprs_in_params(traced.params):
        function = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, [None] * len(jaxpr.constvars)))
        avals: list[Any] = [variable.aval for variable in jaxpr.invars]
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        program = trace(lambda arrays, run=function: run(*arrays), shapes, _opens_all)
        if any(True for _ in rectifiers(program)):
            return True
    return False


def _opens_all(traced: core.JaxprEqn, dependent: Sequence[bool]) -> bool:
    return True


class Grouping:
    """Finds a program's operations.

    Args:
      program: traced with the calls open that may hold activations.
      holds: whether divisors, reciprocal roots and what only selects are held constant, and softmax
        is one operation.
    """

    def __init__(self, program: Program, *, holds: bool):
        self.program, self.holds = program, holds
        self.carrying = set(
            filter(self._is_inexact, program.dependent.intersection(program.inputs))
        )
        for equation in program.equations:
            if self.carriers(equation) and not self._stops(equation):
                self.carrying.update(filter(self._is_inexact, equation.outputs))

    def groups(self) -> list[Group]:
        """The operations between inputs and outputs, in order."""
        waiting = self.carrying.intersection(self.program.outputs)
        found: dict[int, Group] = {}
        while waiting:
            value = max(waiting, key=self._index)
            waiting.remove(value)
            if value not in self.program.inputs:
                found[value] = self.group(value)
                waiting.update(found[value].inputs)
        depths = dict.fromkeys(self.program.inputs, 0)
        positive = _at_least_zero(self.program)
        ordered = []
        for value in sorted(found, key=self._index):
            group = found[value]
            depth = max(depths[entry] for entry in group.inputs)
            depths[value] = depth + group.has_weights
            first = not set(group.inputs).isdisjoint(self.program.inputs)
            known = positive.issuperset(group.inputs)
            ordered.append(
                dataclasses.replace(group, depth=depth, is_first=first, is_positive=known)
            )
        return ordered

    def stop(self) -> Equation | None:
        """The last equation that hands nothing back, where no answer is handed anything from."""
        answers = self.program.dependent.intersection(self.program.outputs)
        if not answers or not answers.isdisjoint(self.carrying):
            return None
        return next(
            equation
            for equation in reversed(self.program.equations)
            if not self.carrying.isdisjoint(equation.inputs)
        )

    def group(self, value: int) -> Group:
        """The operation that makes a value. Complex numbers pass inside of operations alone."""
        group = self._group(value)
        if any(map(self._is_complex, (*group.inputs, value))):
            return dataclasses.replace(group, kind="unknown")
        return group

    def _is_inexact(self, value: int) -> bool:
        return jnp.issubdtype(self.program.shapes[value].dtype, jnp.inexact)

    def _is_complex(self, value: int) -> bool:
        return jnp.issubdtype(self.program.shapes[value].dtype, jnp.complexfloating)

    def _group(self, value: int) -> Group:
        equation = self.program.producer(value)
        assert equation is not None
        name, carriers = equation.name, self.carriers(equation)
        operands = self._dependent(equation)
        merged = self._merged(equation)
        if merged is not None:
            return merged
        entries = tuple(dict.fromkeys(equation.inputs[at] for at in carriers))
        if self.is_affine(equation):
            if self._selects_by_itself(equation):
                return Group("rearrangement", entries, value, (equation,))
            if len(entries) == 1 or name in _ADDS or self._sums_up(equation) is not None:
                return self._chain(value)
            return Group("rearrangement", entries, value, (equation,))
        if name in _MAXIMA and (name != "max" or len(entries) > 1):
            found = self._common_root(equation, self._carried, _pools)
            if found is not None:
                return Group("maximum", (found[0],), value, found[1])
            return Group("maximum", entries, value, (equation,))
        if (name == "mul" and len(entries) > 1) or name in _WEIGHTS:
            return Group("product", entries, value, (equation,))
        if name == "div" and len(entries) > 1:
            return Group("quotient", entries, value, (equation,))
        if name in _CUSTOM_DERIVATIVES and self._is_elementwise(equation):
            return Group("activation", entries, value, (equation,))
        if name in _ELEMENTWISE and len(operands) == 1:
            has_base = name != "pow" or equation.inputs[0] in operands
            kind: Kind = "activation" if name in _ACTIVATIONS and has_base else "elementwise"
            return Group(kind, entries, value, (equation,))
        return Group("unknown", entries, value, (equation,))

    def _merged(self, equation: Equation) -> Group | None:
        """The operation of which an equation is the last, where several are needed to tell."""
        if self._is_elementwise(equation) and len(self._dependent(equation)) > 1:
            found = self._common_root(equation, self._dependent, self._is_elementwise)
            if found is not None and len(set(map(_axis_of_conditions, found[1]))) <= 2:
                root, equations = found
                affine = all(map(self.is_affine, equations))
                kind: Kind = "affine" if affine else "activation"
                return Group(kind, (root,), equation.outputs[0], equations)
        if equation.name == "neg":
            return self._reflected(equation)
        return self._softmax(equation) if self.holds else None

    def _reflected(self, equation: Equation) -> Group | None:
        """-f(-x) of an activation f, as of a minimum in place of a maximum."""
        (taken,) = equation.inputs
        inside = self.program.producer(taken)
        if inside is None or inside.name == "neg" or self.program.uses[taken] > 1:
            return None
        if not self._is_elementwise(inside) or taken not in self.carrying:
            return None
        group = self._group(taken)
        first = self.program.producer(group.inputs[0])
        if group.kind != "activation" or first is None or first.name != "neg":
            return None
        inputs = [value for each in group.equations for value in each.inputs]
        if self.program.uses[group.inputs[0]] > inputs.count(group.inputs[0]):
            return None
        entry, output = first.inputs[0], equation.outputs[0]
        return Group("activation", (entry,), output, (first, *group.equations, equation))

    def carriers(self, equation: Equation) -> list[int]:
        """The positions of the inputs that relevance is handed back to."""
        held = {1} if self.holds and equation.name == "div" else set()
        return [
            at
            for at, value in enumerate(equation.inputs)
            if value in self.carrying and at not in held
        ]

    def is_affine(self, equation: Equation) -> bool:
        """Whether it is affine in what it carries, all else being held or constant."""
        carriers = self.carriers(equation)
        others = set(range(len(equation.inputs))).difference(carriers)
        selects = any(equation.inputs[at] in self.program.dependent for at in others)
        if not carriers or (selects and not self.holds):
            return False
        name = equation.name
        if name in _MOVES or name in _SUMS:
            return carriers == [0] or name == "optimization_barrier"
        if name in _JOINS or name in _ADDS or name == "neg":
            return True
        if name == "div":
            return carriers == [0]
        if name == "mul" or name in _WEIGHTS:
            return len(carriers) == 1
        flags = tuple(value in self.program.dependent for value in equation.inputs)
        return name in _CUSTOM and _is_affine_inside(equation.traced, flags)

    def _stops(self, equation: Equation) -> bool:
        if equation.name == "stop_gradient":
            return True
        if not self.holds:
            return False
        if equation.name == "integer_pow":
            return equation.params["y"] < 0
        if equation.name == "pow":
            power: Any = self.program.known.get(equation.inputs[1])
            return _is_number(power) and float(power) < 0
        return equation.name == "rsqrt"

    def _chain(self, value: int) -> Group:
        """The affine equations from a value back to where another operation begins."""
        equations: tuple[Equation, ...] = ()
        root, mixes, several, weights, dense = value, False, False, False, False
        while (equation := self.program.producer(root)) is not None:
            taken = sum(each.inputs.count(root) for each in equations)
            if equations and self.program.uses[root] > taken and not self._is_complex(root):
                break
            if not self.is_affine(equation):
                break
            if equations and (self._selects_by_itself(equation) or self._merged(equation)):
                break
            entries = self._carried(equation)
            link: tuple[Equation, ...] = (equation,)
            adds_up = len(entries) > 1
            if adds_up:
                found = None
                if equation.name in _ADDS or equation.name in _JOINS:
                    found = self._sums_up(equation)
                if found is None:
                    if equations:
                        break
                    return Group("sum", entries, value, link)
                (root_entry, link) = found
                entries = (root_entry,)
            mixing = any(not _is_one_to_one(each) or self._adds(each) for each in link)
            # Complex numbers pass inside of operations alone.
            if mixing and mixes and not self._is_complex(root):
                if equation.name in _SUMS:
                    equations = _without_scale(equations)
                    (root,) = self._carried(equations[0])
                break
            several, mixes = several or (mixing and mixes), mixes or mixing
            weights |= any(each.name in _WEIGHTS or each.name in _CUSTOM for each in link)
            weights |= adds_up and any(each.name == "mul" for each in link)
            weights |= any(map(_turns, link))
            dense |= self._is_dense(equation)
            equations, root = link + equations, entries[0]
        moved = all(each.name in _MOVES or each.name in _JOINS for each in equations)
        kind: Kind = "rearrangement" if moved else "affine"
        # No rule is for the weights of two layers at once.
        return Group(kind, (root,), value, equations, weights and not several, dense)

    def _selects_by_itself(self, equation: Equation) -> bool:
        return equation.name == "select_n" and equation.inputs[0] in self.program.dependent

    def _adds(self, equation: Equation) -> bool:
        return equation.name in _ADDS and len(self._carried(equation)) > 1

    def _sums_up(self, equation: Equation) -> tuple[int, tuple[Equation, ...]] | None:
        """What is added up or joined as paths from one value, with one layer of weights or none.

        The layers have to be of one array's parts, as those of a convolution by shifted products:
        two layers side by side are added up like any others.
        """
        found = self._common_root(equation, self._carried, self._is_path)
        if found is None:
            return None
        root, equations = found
        layers: dict[int, set[int]] = {root: {0}}
        arrays: set[int] = set()
        for each in equations:
            passed = set().union(*(layers[value] for value in self._carried(each)))
            more = each.name in _WEIGHTS or each.name in _CUSTOM
            if more:
                arrays.update(map(self._part_of, set(each.inputs).difference(self._carried(each))))
            for value in each.outputs:
                layers[value] = {count + more for count in passed}
        return found if layers[equation.outputs[0]] in ({0}, {1}) and len(arrays) < 2 else None

    def _part_of(self, value: int) -> int:
        """The array that another is a part of, or is made of alone."""
        while (made := self.program.producer(value)) is not None:
            arrays = [entry for entry in made.inputs if self.program.shapes[entry].shape]
            if len(arrays) != 1:
                break
            (value,) = arrays
        return value

    def _is_elementwise(self, equation: Equation) -> bool:
        if equation.name in _CUSTOM_DERIVATIVES:
            return _closed_elementwise(self.program, equation) is not None
        return equation.name in _ELEMENTWISE or self._picks(equation)

    def _picks(self, equation: Equation) -> bool:
        """Whether it tells of conditions side by side which is the first that holds."""
        shapes = [self.program.shapes[value] for value in (*equation.inputs, *equation.outputs)]
        if any(jnp.issubdtype(shape.dtype, jnp.inexact) for shape in shapes):
            return False
        if equation.name == "broadcast_in_dim":
            return shapes[1].size == shapes[0].size
        return equation.name in _PICKS

    def _is_path(self, equation: Equation) -> bool:
        name = equation.name
        is_sum = name in _SUMS or self._selects_by_itself(equation)
        return self.is_affine(equation) and not is_sum and not self._merged(equation)

    def _is_dense(self, equation: Equation) -> bool:
        if equation.name != "dot_general":
            return False
        (at,) = self.carriers(equation)
        contracted, batched = equation.params["dimension_numbers"]
        shape = self.program.shapes[equation.inputs[at]].shape
        free = set(range(len(shape))).difference(contracted[at], batched[at])
        return not batched[at] and math.prod(shape[axis] for axis in free) == 1

    def _common_root(
        self,
        equation: Equation,
        entries: Callable[[Equation], tuple[int, ...]],
        allowed: Callable[[Equation], bool],
    ) -> tuple[int, tuple[Equation, ...]] | None:
        """The last value that all of an equation's inputs are made of, by allowed equations."""
        frontier, passed = set(entries(equation)), [equation]
        while len(frontier) > 1:
            last = max(frontier, key=self._index)
            producer = self.program.producer(last)
            if producer is None or not allowed(producer):
                return None
            frontier.remove(last)
            frontier.update(entries(producer))
            passed.append(producer)
        (root,) = frontier
        if root not in self.carrying:
            return None
        return root, self._in_order(passed)

    def _softmax(self, equation: Equation) -> Group | None:
        """exp(x - m) over its sum, of x, where m is 0, a constant or the maximum of x."""
        found = self._over_its_sum(equation)
        if found is None:
            return None
        (entry, total), output = found, equation.outputs[0]
        equations = self._between(entry, output)
        shift = self.program.producer(entry)
        # What is the same along the axes changes nothing, whether it is the maximum or not.
        if shift is not None and shift.name == "sub":
            array, constant = shift.inputs
            if array in self.carrying and self._is_same_along(constant, _axes(total)):
                return Group("softmax", (array,), output, (shift, *equations))
        return Group("softmax", (entry,), output, equations)

    def _over_its_sum(self, equation: Equation) -> tuple[int, Equation] | None:
        """x and the sum of exp(x), where an equation makes exp(x) over it, or exp(x - log(it))."""
        if equation.name == "exp":
            shift = self.program.producer(equation.inputs[0])
            if shift is None or shift.name != "sub":
                return None
            entry, subtracted = shift.inputs
            logarithm = self._behind(subtracted, _SPREADS)
            if logarithm is None or logarithm.name != "log":
                return None
            taken: tuple[int, int | None] | None = (entry, None)
            total = self._behind(logarithm.inputs[0], _SPREADS)
        elif equation.name == "div":
            taken, total = (
                self._exponent(equation.inputs[0]),
                self._behind(equation.inputs[1], _SPREADS),
            )
        elif equation.name == "mul":
            one, other = equation.inputs
            if self._exponent(one) is None:
                one, other = other, one
            inverse = self._behind(other, _SPREADS)
            if inverse is None or not self._is_reciprocal(inverse):
                return None
            taken, total = self._exponent(one), self._behind(inverse.inputs[-1], _SPREADS)
        else:
            return None
        if taken is None or total is None or total.name != "reduce_sum":
            return None
        entry, mask = taken
        summed = self._exponent(total.inputs[0])
        if summed is None or summed[0] != entry:
            return None
        known = mask == summed[1] or (mask is None and self._is_left_out(entry, summed[1]))
        return (entry, total) if known else None

    def _exponent(self, value: int) -> tuple[int, int | None] | None:
        """x of exp(x), and the condition by which it is 0 in other places."""
        made = self._behind(value, ("convert_element_type",))
        mask = None
        if made is not None and made.name == "select_n" and self._is_filled(made.inputs[1], 0.0):
            mask, made = made.inputs[0], self._behind(made.inputs[2], ("convert_element_type",))
        return None if made is None or made.name != "exp" else (made.inputs[0], mask)

    def _is_left_out(self, entry: int, mask: int | None) -> bool:
        """Whether x, less a constant, is minus infinity where a condition does not hold."""
        made = self.program.producer(entry)
        if made is not None and made.name == "sub":
            made = self.program.producer(made.inputs[0])
        if made is None or made.name != "select_n" or mask is None:
            return False
        return self._is_filled(made.inputs[1], -np.inf) and self._is_same(made.inputs[0], mask)

    def _is_reciprocal(self, equation: Equation) -> bool:
        if equation.name == "integer_pow":
            return equation.params["y"] == -1
        return equation.name == "div" and self._is_filled(equation.inputs[0], 1.0)

    def _is_filled(self, value: int, number: float) -> bool:
        """Whether an array is known to hold one number."""
        made = self.program.producer(value)
        if made is not None:
            return made.name in _SPREADS and self._is_filled(made.inputs[0], number)
        known: Any = self.program.known.get(value)
        return _is_number(known) and float(known) == number

    def _is_same(self, one: int, other: int) -> bool:
        """Whether two values are the same, spread in the same way."""
        made, again = self.program.producer(one), self.program.producer(other)
        if made is None or again is None or made is again:
            return one == other
        return (
            made.name == again.name
            and made.name in _SPREADS
            and made.params == again.params
            and self._is_same(made.inputs[0], again.inputs[0])
        )

    def _is_same_along(self, value: int, axes: Sequence[int]) -> bool:
        shape = self.program.shapes[value].shape
        if not shape or all(shape[axis] == 1 for axis in axes):
            return True
        made = self.program.producer(value)
        if made is None or made.name != "broadcast_in_dim":
            return False
        before = self.program.shapes[made.inputs[0]].shape
        kept = dict(zip(made.params["broadcast_dimensions"], before, strict=True))
        return all(kept.get(axis, 1) == 1 for axis in axes)

    def _behind(self, value: int, moves: tuple[str, ...]) -> Equation | None:
        """What makes a value, behind equations of these names."""
        while (equation := self.program.producer(value)) is not None and equation.name in moves:
            entries = self._dependent(equation)
            if len(entries) != 1:
                break
            (value,) = entries
        return equation

    def _between(self, root: int, value: int) -> tuple[Equation, ...]:
        waiting, passed = {value}, []
        while waiting:
            equation = self.program.producer(waiting.pop())
            if equation is not None and equation not in passed:
                passed.append(equation)
                waiting.update(set(self._dependent(equation)).difference({root}))
        return self._in_order(passed)

    def _in_order(self, equations: list[Equation]) -> tuple[Equation, ...]:
        return tuple(sorted(set(equations), key=lambda each: self._index(each.outputs[0])))

    def _dependent(self, equation: Equation) -> tuple[int, ...]:
        return tuple(
            dict.fromkeys(value for value in equation.inputs if value in self.program.dependent)
        )

    def _carried(self, equation: Equation) -> tuple[int, ...]:
        return tuple(dict.fromkeys(equation.inputs[at] for at in self.carriers(equation)))

    def _index(self, value: int) -> int:
        return self.program.producers.get(value, -1)


def operation(group: Group, values: Mapping[int, Any]) -> Operation:
    """A group with the arrays that passed through it."""
    return Operation(
        kind=group.kind,
        primitives=tuple(equation.name for equation in group.equations),
        depth=group.depth,
        has_weights=group.has_weights,
        is_dense=group.is_dense,
        is_first=group.is_first,
        is_positive=group.is_positive,
        source=group.equations[-1].source,
        inputs=tuple(values[value] for value in group.inputs),
        output=values[group.output],
        _group=group,
        _values=values,
    )


def rectifiers(program: Program) -> Iterator[Group]:
    """The activations with a kink, or that multiply by a gate, however they are written.

    A maximum, a minimum or a clip against a constant; a `where` by a condition on the same array; a
    product of an array with a function of it, as of GELU and SiLU; a sum with its absolute value.
    """
    grouping = Grouping(program, holds=False)
    taken: set[int] = set()
    for equation in reversed(program.equations):
        for value in equation.outputs:
            if value in taken or value not in grouping.carrying:
                continue
            group = grouping.group(value)
            if group.kind != "activation":
                continue
            rectifies = _rectifies(program, group)
            if rectifies or _guards(program, group.equations[-1]):
                taken.update(out for each in group.equations for out in each.outputs)
            if rectifies:
                yield group


def _at_least_zero(program: Program) -> set[int]:
    """The values that are known to be at least 0, by what makes them."""
    found = {
        value
        for value, known in program.known.items()
        if program.is_float(value) and _is_number(known) and float(known) >= 0
    }
    for equation in program.equations:
        name, taken = equation.name, equation.inputs
        if name == "select_n":
            taken = taken[1:]
        elif name in ("dynamic_slice", "gather"):
            taken = taken[:1]
        elif name == "clamp":
            taken = taken[::2]
        known = [value in found for value in taken]
        kept = name in _KEEPS_SIGN and all(known)
        if kept or name in _NEVER_NEGATIVE or (name == "max" and any(known)):
            found.update(equation.outputs)
    return found


def _guards(program: Program, equation: Equation) -> bool:
    """Whether it selects by what differs from itself, which is not a number and no kink."""
    condition = program.producer(equation.inputs[0]) if equation.name == "select_n" else None
    return condition is not None and condition.name == "ne" and len(set(condition.inputs)) == 1


def _rectifies(program: Program, group: Group) -> bool:
    last = group.equations[-1]
    if last.name in _CUSTOM_DERIVATIVES:
        inside = _closed_elementwise(program, last)
        return inside is not None and any(True for _ in rectifiers(inside))
    dependent = [value in program.dependent for value in last.inputs]
    if last.name in ("max", "min", "clamp"):
        # The maximum of nothing but what is compared with begins at an infinity.
        bounds: list[Any] = [program.known.get(value) for value in last.inputs]
        return not any(_is_number(bound) and np.isinf(bound) for bound in bounds)
    if last.name == "select_n":
        return dependent[0] and _compares(program, last.inputs[0])
    if last.name == "neg":
        return _rectifies(program, dataclasses.replace(group, equations=group.equations[1:-1]))
    names = {equation.name for equation in group.equations}
    if last.name in _ADDS and "abs" in names:
        return names <= _SCALES | _ADDS | {"abs", "convert_element_type"}
    if last.name in ("mul", "div"):
        return len({value for value in last.inputs if value in program.dependent}) > 1
    return False


def _compares(program: Program, condition: int) -> bool:
    """Whether a condition, or one that it is made of, is greater or less than something."""
    made = program.producer(condition)
    if made is None:
        return False
    if made.name in _CONDITIONS | _PICKS:
        return any(_compares(program, value) for value in made.inputs)
    return made.name in ("gt", "ge", "lt", "le")


def _is_number(value: Any) -> bool:
    """Whether it is one number that is known now."""
    return value is not None and not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0


def _closed_elementwise(program: Program, equation: Equation) -> Program | None:
    flags = tuple(value in program.dependent for value in equation.inputs)
    return _elementwise_inside(equation.traced, flags)


def _axis_of_conditions(equation: Equation) -> int | None:
    """The axis along which conditions stand side by side."""
    if equation.name not in _PICKS:
        return None
    given = (equation.params.get(name) for name in ("axis", "dimension", "axes"))
    (axis,) = (axis for axis in given if axis is not None)
    return int(axis[0] if isinstance(axis, tuple) else axis)


def _axes(equation: Equation) -> tuple[int, ...]:
    return tuple(map(int, equation.params["axes"]))


@functools.lru_cache(maxsize=256)
def _is_affine_inside(traced: core.JaxprEqn, dependent: tuple[bool, ...]) -> bool:
    inside = trace_inside(traced, dependent, _opens_all)
    grouping = Grouping(inside, holds=False)
    return len(inside.outputs) == 1 and all(
        grouping.is_affine(equation)
        for equation in inside.equations
        if not inside.dependent.isdisjoint(equation.outputs)
    )


@functools.lru_cache(maxsize=256)
def _is_product_inside(traced: core.JaxprEqn, dependent: tuple[bool, ...]) -> bool:
    """Whether weights are multiplied with an array and nothing else: other weights may be given."""
    inside = trace_inside(traced, dependent, _opens_all)
    given = set(inside.inputs)
    for equation in inside.equations:
        others = set(equation.inputs) - inside.dependent
        if inside.dependent.isdisjoint(equation.outputs):
            # Parts of the weights, rearranged.
            multiplies = equation.name in _MOVES and given.issuperset(others)
            given.update(equation.outputs)
        elif equation.name == "mul" or equation.name in _WEIGHTS:
            multiplies = given.issuperset(others)
        else:
            adds_nothing = all(_is_zero(inside.known.get(value)) for value in others)
            multiplies = adds_nothing and equation.name in _MOVES | {"add", "add_any", "pad"}
        if not multiplies:
            return False
    return sum(dependent) == 1 and len(dependent) == 2


@functools.lru_cache(maxsize=256)
def _elementwise_inside(traced: core.JaxprEqn, dependent: tuple[bool, ...]) -> Program | None:
    """What a function with a derivative of its own does, if it is one of one array by values."""
    inside = trace_inside(traced, dependent, _opens_all)
    entries = inside.dependent.intersection(inside.inputs)
    shapes = {inside.shapes[value].shape for value in (*entries, *inside.outputs)}
    if len(entries) != 1 or len(inside.outputs) != 1 or len(shapes) != 1:
        return None
    names = {
        equation.name
        for equation in inside.equations
        if not inside.dependent.isdisjoint(equation.outputs)
    }
    return inside if names <= _ELEMENTWISE else None


def _pools(equation: Equation) -> bool:
    return equation.name in _MAXIMA or equation.name in _MOVES or equation.name == "pad"


def _without_scale(equations: tuple[Equation, ...]) -> tuple[Equation, ...]:
    """What comes behind the scale of a sum, which makes a mean of it."""
    for index, equation in enumerate(equations):
        if equation.name in ("mul", "div") and index + 1 < len(equations):
            return equations[index + 1 :]
        if equation.name not in _MOVES:
            break
    return equations


def _is_one_to_one(equation: Equation) -> bool:
    mixes = equation.name in _SUMS or equation.name in _WEIGHTS or equation.name in _CUSTOM
    return not (mixes or _turns(equation))


def _turns(equation: Equation) -> bool:
    """Whether it is a product of complex numbers, whose real and imaginary parts are added up."""
    made: Any = equation.traced.outvars[0].aval
    is_complex = jnp.issubdtype(made.dtype, jnp.complexfloating)
    return is_complex and equation.name in ("mul", "div")


def _reweight(
    equations: Sequence[Equation],
    values: dict[int, Any],
    carrying: set[int],
    change: Callable[[Any], Any],
) -> None:
    for equation in equations:
        carriers = [at for at, value in enumerate(equation.inputs) if value in carrying]
        arrays = [values[value] for value in equation.inputs]
        made = _reweighted(equation, arrays, carriers, change) if carriers else equation(*arrays)
        values.update(zip(equation.outputs, made, strict=True))
        if carriers:
            carrying.update(equation.outputs)


def _reweighted(
    equation: Equation, arrays: list[Any], carriers: list[int], change: Callable[[Any], Any]
) -> list[Any]:
    name = equation.name
    is_complex = any(map(jnp.iscomplexobj, arrays))
    if name == "fft" or (is_complex and name in _WEIGHTS):
        raise ValueError(
            "expected a rule that needs no weights for a Fourier transform or a complex matrix, "
            f"got {name} at {equation.source}"
        )
    if name in _CUSTOM:
        flags = tuple(at in carriers for at in range(len(arrays)))
        if _is_product_inside(equation.traced, flags):
            return equation(
                *(
                    array if flag else change(array)
                    for array, flag in zip(arrays, flags, strict=True)
                )
            )
        inside = trace_inside(equation.traced, flags, _opens_all)
        values = {**inside.known, **dict(zip(inside.inputs, arrays, strict=True))}
        dependent = set(inside.dependent.intersection(inside.inputs))
        _reweight(inside.equations, values, dependent, change)
        return [values[value] for value in inside.outputs]
    if name == "mul" and is_complex:
        (at,) = {0, 1}.difference(carriers)
        return [_turned(arrays[1 - at], arrays[at], change)]
    if name == "mul" or name in _WEIGHTS:
        (at,) = {0, 1}.difference(carriers)
        arrays[at] = change(arrays[at])
        return equation(*arrays)
    if name == "div" and is_complex:
        return [_turned(arrays[0], 1 / arrays[1], change)]
    if name == "div":
        return [arrays[0] * change(1 / arrays[1])]
    if name == "conj":
        one = change(jnp.ones((), arrays[0].real.dtype))
        return [lax.complex(arrays[0].real * one, arrays[0].imag * _minus(arrays[0].imag, change))]
    if name == "neg":
        return [arrays[0] * _minus(arrays[0], change)]
    if name == "sub" and 1 in carriers:
        subtracted = arrays[1] * _minus(arrays[1], change)
        return [_fill(arrays[0] + subtracted if 0 in carriers else subtracted, equation)]
    if name in _ADDS:
        first, *rest = (arrays[at] for at in carriers)
        # What is added may have repeated it.
        return [_fill(first + rest[0] if rest else first, equation)]
    if name in _JOINS:
        for at, array in enumerate(arrays):
            if at not in carriers and jnp.issubdtype(array.dtype, jnp.floating):
                arrays[at] = jnp.zeros_like(array)
    return equation(*arrays)


# Of a value what is split as `along` and as `against`, see `Operation.split`; None is 0.
_Pair = tuple[Any, Any]


def _split(equations: Sequence[Equation], values: dict[int, Any], pairs: dict[int, _Pair]) -> None:
    for equation in equations:
        arrays = [values.get(value) for value in equation.inputs]
        taken = [pairs.get(value) for value in equation.inputs]
        if any(taken):
            pairs.update(zip(equation.outputs, _split_by(equation, arrays, taken), strict=True))
        else:
            values.update(zip(equation.outputs, equation(*arrays), strict=True))


def _split_by(
    equation: Equation, arrays: list[Any], taken: Sequence[_Pair | None]
) -> Sequence[_Pair]:
    name, carriers = equation.name, [at for at, pair in enumerate(taken) if pair]
    flags = tuple(map(bool, taken))
    if name in _CUSTOM and not _is_product_inside(equation.traced, flags):
        inside = trace_inside(equation.traced, flags, _opens_all)
        values = {**inside.known, **dict(zip(inside.inputs, arrays, strict=True))}
        pairs = {value: pair for value, pair in zip(inside.inputs, taken, strict=True) if pair}
        _split(inside.equations, values, pairs)
        return [pairs[value] for value in inside.outputs]
    if name == "neg" or name in _ADDS:
        subtracted = {"neg": 0, "sub": 1}.get(name)
        terms = [
            _negated(pair) if at == subtracted else pair for at, pair in enumerate(taken) if pair
        ]
        along, against = _added(terms)
        return [(_fill(along, equation), _fill(against, equation))]

    def by(change: Callable[[Any], Any], side: int) -> list[Any]:
        sides = [pair and pair[side] for pair in taken]
        if all(array is None for array in sides):
            return [None] * len(equation.outputs)
        given = list(arrays)
        for at in carriers:
            shape: Any = equation.traced.invars[at].aval
            given[at] = jnp.zeros(shape.shape, shape.dtype) if sides[at] is None else sides[at]
        return _reweighted(equation, given, carriers, change)

    kept = list(zip(by(_positive, 0), by(_positive, 1), strict=True))
    if not (name in ("mul", "div", "conj") or name in _WEIGHTS or name in _CUSTOM):
        return kept
    turned = zip(by(_negative, 1), by(_negative, 0), strict=True)
    return [_added(pairs) for pairs in zip(kept, turned, strict=True)]


def _fill(array: Any, equation: Equation) -> Any:
    """An array, if it is one, repeated to the shape of what an equation makes."""
    made: Any = equation.traced.outvars[0].aval
    return None if array is None else jnp.broadcast_to(array, made.shape)


def _positive(weights: Any) -> Any:
    return jnp.maximum(weights, 0)


def _negative(weights: Any) -> Any:
    return jnp.minimum(weights, 0)


def _negated(pair: _Pair) -> _Pair:
    along, against = pair
    return None if against is None else -against, None if along is None else -along


def _added(pairs: Sequence[_Pair]) -> _Pair:
    sums = []
    for side in zip(*pairs, strict=True):
        given = [array for array in side if array is not None]
        sums.append(functools.reduce(operator.add, given) if given else None)
    return sums[0], sums[1]


def _minus(array: Any, change: Callable[[Any], Any]) -> Any:
    return change(jnp.full((), -1, array.real.dtype)).astype(array.dtype)


def _turned(array: Any, weights: Any, change: Callable[[Any], Any]) -> Any:
    """A product with complex weights, which are matrices of four real ones."""
    cosine, sine, minus = (change(each) for each in (weights.real, weights.imag, -weights.imag))
    return lax.complex(
        cosine * array.real + minus * array.imag, sine * array.real + cosine * array.imag
    )


def _evaluate_at_zero(equations: Sequence[Equation], values: dict[int, Any]) -> None:
    """Evaluates affine equations at 0, which is None as far as it goes: nothing is worked out."""
    for equation in equations:
        arrays = [values[value] for value in equation.inputs]
        if all(array is not None for array in arrays):
            made = equation(*arrays)
        elif equation.name in _CUSTOM:
            inside = trace_inside(equation.traced, [array is None for array in arrays], _opens_all)
            found = {**inside.known, **dict(zip(inside.inputs, arrays, strict=True))}
            _evaluate_at_zero(inside.equations, found)
            made = [found[value] for value in inside.outputs]
        elif equation.name in _ADDS or equation.name in _JOINS:
            made = _added_to_zero(equation, arrays)
        else:
            made = [None] * len(equation.outputs)
        values.update(zip(equation.outputs, made, strict=True))


def _added_to_zero(equation: Equation, arrays: list[Any]) -> list[Any]:
    given = [array for array in arrays if array is not None]
    floats = [array for array in given if jnp.issubdtype(array.dtype, jnp.floating)]
    if all(map(_is_zero, floats)):
        return [None]
    for at, atom in enumerate(equation.traced.invars):
        if arrays[at] is None:
            shape: Any = atom.aval
            arrays[at] = jnp.zeros(shape.shape, shape.dtype)
    return equation(*arrays)


def _is_zero(array: Any) -> bool:
    return _is_number(array) and float(array) == 0


def _sum_maxima(equations: Sequence[Equation], values: dict[int, Any], carrying: set[int]) -> None:
    for equation in equations:
        arrays = [values[value] for value in equation.inputs]
        params = equation.params
        if equation.name == "max":
            made = [arrays[0] + arrays[1]]
        elif equation.name == "reduce_max":
            made = [arrays[0].sum(params["axes"])]
        elif equation.name == "reduce_window_max":
            made = [
                lax.reduce_window(
                    arrays[0],
                    np.zeros((), arrays[0].dtype),
                    lax.add,
                    params["window_dimensions"],
                    params["window_strides"],
                    params["padding"],
                    params["base_dilation"],
                    params["window_dilation"],
                )
            ]
        elif equation.name == "pad":
            made = equation(arrays[0], jnp.zeros_like(arrays[1]))
        else:
            made = equation(*arrays)
        values.update(zip(equation.outputs, made, strict=True))
