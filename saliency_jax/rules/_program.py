"""A function of one example as a flat list of equations: JAX's trace of it, opened up."""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend import core

# Calls of a function that stands in the equation: their equations can take its place.
_CALLS = frozenset(
    {
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "checkpoint",
        "remat",
        "remat2",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
    }
)
_JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
# Whose lines are not those of the user's model.
_LIBRARIES = ("jax", "jaxlib", "flax", "equinox")
_HERE = Path(__file__).parent
_GROUND = tuple(str(_HERE.parent / name) for name in ("scores.py", "layers.py", "_pytrees.py"))


class Source(NamedTuple):
    """Where a user's model says what an equation does.

    Attributes:
      scope: the named scopes around it, "stage 1/block 2"; "" where there are none.
      line: "file.py:12 (function)"; "" where nothing is known.
    """

    scope: str
    line: str

    def __str__(self) -> str:
        where = ", ".join(text for text in (self.line, self.scope and f"in {self.scope}") if text)
        return where or "a line that is not known"


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One operation of a program: its values are numbers that stand for arrays.

    Attributes:
      traced: JAX's own equation.
      inputs, outputs: the numbers of the values that it takes and makes.
      source: where it comes from.
    """

    traced: core.JaxprEqn
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    source: Source

    @property
    def name(self) -> str:
        return self.traced.primitive.name

    @property
    def params(self) -> Mapping[str, Any]:
        return self.traced.params

    def __call__(self, *values: Any) -> list[Any]:
        """The arrays that it makes of arrays."""
        if _inner_jaxprs(self.traced):
            return _as_function(self.traced)(values)
        with self.traced.ctx.manager:
            made = self.traced.primitive.bind(*values, **self.params)
        return list(made) if self.traced.primitive.multiple_results else [made]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A function of a PyTree of arrays, as equations in the order in which they are worked out.

    Attributes:
      inputs, outputs: the numbers of the values that the function takes and answers with, the
        leaves of their PyTrees.
      structure: the answer's.
      equations: see `Equation`.
      known: values that do not depend on the inputs and stand in no equation: weights, numbers.
      shapes: of every value.
      dependent: values that depend on the inputs.
      producers: where in `equations` a value is made.
      uses: how many equations that depend on the inputs take a value; an answer is one more.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    structure: Any
    equations: tuple[Equation, ...]
    known: Mapping[int, Any]
    shapes: Mapping[int, jax.ShapeDtypeStruct]
    dependent: frozenset[int]
    producers: Mapping[int, int]
    uses: Mapping[int, int]

    def producer(self, value: int) -> Equation | None:
        """The equation that makes a value; None of what is given."""
        index = self.producers.get(value)
        return None if index is None else self.equations[index]

    def is_float(self, value: int) -> bool:
        return jax.dtypes.issubdtype(self.shapes[value].dtype, np.floating)

    def evaluate(self, *inputs: Any) -> dict[int, Any]:
        """The arrays of all values, for arrays in place of the inputs."""
        values = {**self.known, **dict(zip(self.inputs, inputs, strict=True))}
        evaluate(self.equations, values)
        return values


def evaluate(equations: Iterable[Equation], values: dict[int, Any]) -> None:
    """Adds what equations make to the arrays of the values that they take."""
    for equation in equations:
        made = equation(*(values[value] for value in equation.inputs))
        values.update(zip(equation.outputs, made, strict=True))


# Whether the equations of an equation take its place; which of its inputs depend on the program's.
Opens = Callable[[core.JaxprEqn, Sequence[bool]], bool]


def trace(
    function: Callable, example: Any, opens: Opens, *, skipped: frozenset[str] = frozenset()
) -> Program:
    """The program of a function, traced for arrays of an example's shapes.

    Args:
      function: of one PyTree of arrays.
      example: such a PyTree, of arrays or their shapes.
      opens: asked of calls, custom derivatives and scans that depend on the inputs.
      skipped: names of primitives that are left out, their outputs being their inputs.
    """
    closed, answer = jax.make_jaxpr(function, return_shape=True)(example)
    builder = _Builder(opens, skipped)
    inputs = [builder.new(leaf) for leaf in jax.tree.leaves(example)]
    builder.dependent.update(inputs)
    outputs = builder.inline(closed.jaxpr, builder.constants(closed), inputs, None)
    return _program(builder, inputs, outputs, jax.tree.structure(answer))


def trace_inside(traced: core.JaxprEqn, dependent: Sequence[bool], opens: Opens) -> Program:
    """The program of a call's function, of which only some inputs are what it depends on."""
    builder = _Builder(opens)
    inputs = [builder.new(atom.aval) for atom in traced.invars]
    builder.dependent.update(value for value, flag in zip(inputs, dependent, strict=True) if flag)
    outputs = builder.inline(*builder.open(_called(traced)), inputs, None)
    return _program(builder, inputs, outputs, None)


def _called(traced: core.JaxprEqn) -> core.Jaxpr | core.ClosedJaxpr:
    return next(traced.params[key] for key in _JAXPRS if key in traced.params)


def _program(
    builder: "_Builder", inputs: Sequence[int], outputs: Sequence[int], structure: Any
) -> Program:
    needed: set[int] = set(outputs)
    equations: list[Equation] = []
    for equation in reversed(builder.equations):
        if not needed.isdisjoint(equation.outputs):
            needed.update(equation.inputs)
            equations.insert(0, equation)
    uses = dict.fromkeys(range(builder.count), 0)
    for equation in equations:
        if not builder.dependent.isdisjoint(equation.outputs):
            for value in equation.inputs:
                uses[value] += 1
    for value in outputs:
        uses[value] += 1
    return Program(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        structure=structure,
        equations=tuple(equations),
        known=builder.known,
        shapes=builder.shapes,
        dependent=frozenset(builder.dependent),
        producers={
            value: index for index, equation in enumerate(equations) for value in equation.outputs
        },
        uses=uses,
    )


class _Builder:
    """A program while it grows."""

    def __init__(self, opens: Opens, skipped: frozenset[str] = frozenset()):
        self.opens, self.skipped = opens, skipped
        self.equations: list[Equation] = []
        self.known: dict[int, Any] = {}
        self.shapes: dict[int, jax.ShapeDtypeStruct] = {}
        self.dependent: set[int] = set()
        self.count = 0

    def new(self, shape: Any) -> int:
        value, self.count = self.count, self.count + 1
        self.shapes[value] = jax.ShapeDtypeStruct(shape.shape, shape.dtype)
        return value

    def constants(self, closed: core.ClosedJaxpr) -> list[int]:
        numbers = []
        for variable, constant in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            numbers.append(self.new(variable.aval))
            self.known[numbers[-1]] = constant
        return numbers

    def inline(
        self,
        jaxpr: core.Jaxpr,
        constants: list[int],
        arguments: list[int],
        caller: Source | None,
    ) -> list[int]:
        """Appends a jaxpr's equations, applied to values; the values that it returns."""
        numbers = dict(zip(jaxpr.constvars, constants, strict=True))
        numbers.update(zip(jaxpr.invars, arguments, strict=True))
        # A library's function may have been traced for another caller, whose line stands in it.
        outside = caller if _is_library(_defined_in(jaxpr)) else None

        def number(atom):
            if isinstance(atom, core.Literal):
                value = self.new(atom.aval)
                self.known[value] = np.asarray(atom.val, self.shapes[value].dtype)
                return value
            return numbers[atom]

        for traced in jaxpr.eqns:
            inputs = [number(atom) for atom in traced.invars]
            source = outside or _source(traced, caller)
            outputs = self.add(traced, inputs, source)
            numbers.update(zip(traced.outvars, outputs, strict=True))
        return [number(atom) for atom in jaxpr.outvars]

    def add(self, traced: core.JaxprEqn, inputs: list[int], source: Source) -> list[int]:
        flags = [value in self.dependent for value in inputs]
        depends, name = any(flags), traced.primitive.name
        if name in self.skipped:
            return inputs
        if depends and (name in _CALLS or name == "scan") and self.opens(traced, flags):
            if name == "scan":
                return self.unroll(traced, inputs, source)
            return self.inline(*self.open(_called(traced)), inputs, source)
        outputs = [self.new(variable.aval) for variable in traced.outvars]
        number = self.known.get(inputs[0]) if name == "convert_element_type" else None
        if isinstance(number, np.ndarray) and not number.ndim:
            # It stays a number that can be asked for under `jax.jit`.
            self.known[outputs[0]] = number.astype(self.shapes[outputs[0]].dtype)
            return outputs
        self.equations.append(Equation(traced, tuple(inputs), tuple(outputs), source))
        if depends:
            self.dependent.update(outputs)
        return outputs

    def open(self, jaxpr: core.Jaxpr | core.ClosedJaxpr) -> tuple[core.Jaxpr, list[int]]:
        if isinstance(jaxpr, core.ClosedJaxpr):
            return jaxpr.jaxpr, self.constants(jaxpr)
        return jaxpr, []

    def unroll(self, traced: core.JaxprEqn, inputs: list[int], source: Source) -> list[int]:
        """The steps of a scan one after the other."""
        closed, length = traced.params["jaxpr"], traced.params["length"]
        body, constants = self.open(closed)
        # What is carried has the same shape inside and outside, what is scanned one axis more.
        scanned = sum(
            len(_shape(outer)) > len(_shape(inner))
            for outer, inner in zip(traced.invars, body.invars, strict=True)
        )
        carried = sum(
            len(_shape(outer)) == len(_shape(inner))
            for outer, inner in zip(traced.outvars, body.outvars, strict=True)
        )
        fixed = len(inputs) - carried - scanned
        carry, rows = inputs[fixed : fixed + carried], inputs[fixed + carried :]
        steps = range(length)
        stacks: list[list[int]] = [[] for _ in traced.outvars[carried:]]
        for step in reversed(steps) if traced.params["reverse"] else steps:
            row = [self.call(lambda array, i=step: array[i], [value], source) for value in rows]
            made = self.inline(body, constants, [*inputs[:fixed], *carry, *row], source)
            carry = made[:carried]
            for stack, value in zip(stacks, made[carried:], strict=True):
                stack.append(value)
        if traced.params["reverse"]:
            stacks = [stack[::-1] for stack in stacks]
        return [*carry, *(self.call(_stack, stack, source) for stack in stacks)]

    def call(self, function: Callable, inputs: list[int], source: Source) -> int:
        """Appends a function of ours, applied to values."""
        closed = jax.make_jaxpr(function)(*(self.shapes[value] for value in inputs))
        (output,) = self.inline(closed.jaxpr, self.constants(closed), inputs, source)
        return output


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape


def _stack(*arrays: Any) -> Any:
    return lax.concatenate([array[None] for array in arrays], 0)


def _inner_jaxprs(traced: core.JaxprEqn) -> list[core.Jaxpr]:
    return list(core.jaxprs_in_params(traced.params))


def _as_function(traced: core.JaxprEqn) -> Callable[[Sequence[Any]], list[Any]]:
    """An equation that holds other equations, as a function of the arrays that it takes."""
    variables = list(dict.fromkeys(atom for atom in traced.invars if isinstance(atom, core.Var)))
    kept = [out for out in traced.outvars if not isinstance(out, core.DropVar)]
    inner = _inner_jaxprs(traced)[0]
    function = core.jaxpr_as_fun(
        core.ClosedJaxpr(
            inner.replace(
                constvars=[],
                invars=variables,
                outvars=kept,
                eqns=[traced],
                debug_info=inner.debug_info._replace(arg_names=None, result_paths=None),
            ),
            [],
        )
    )

    def call(values):
        arrays = {
            atom: value
            for atom, value in zip(traced.invars, values, strict=True)
            if isinstance(atom, core.Var)
        }
        answers = iter(function(*(arrays[variable] for variable in variables)))
        return [None if isinstance(out, core.DropVar) else next(answers) for out in traced.outvars]

    return call


def _defined_in(jaxpr: core.Jaxpr) -> str:
    """The file of the function that was traced; "" where it is not known."""
    _, _, where = jaxpr.debug_info.func_src_info.rpartition(" at ")
    return where.rpartition(":")[0]


def _source(traced: core.JaxprEqn, caller: Source | None) -> Source:
    """The innermost line of an equation that is no library's."""
    info = traced.source_info
    inside = str(info.name_stack)
    scope = "/".join(text for text in (caller.scope if caller else "", inside) if text)
    frames: list[Any] = info.traceback.frames if info.traceback else []
    for frame in frames:
        if not _is_library(frame.file_name):
            name = Path(frame.file_name).name
            return Source(scope, f"{name}:{frame.line_num} ({frame.function_name})")
    return Source(scope, caller.line if caller else "")


def _is_library(file: str) -> bool:
    return file.startswith(_folders())


@functools.cache
def _folders() -> tuple[str, ...]:
    specifications = map(importlib.util.find_spec, _LIBRARIES)
    folders = (Path(found.origin).parent for found in specifications if found and found.origin)
    return (*(f"{folder}{os.sep}" for folder in folders), *_GROUND, str(_HERE))
