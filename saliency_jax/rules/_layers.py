"""The layers of any traced function: the places at which it can be cut in two."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.tree_util import Partial

from .._pytrees import as_pytree
from .._types import Image
from .._validation import as_image
from ..layers import Layer
from ._program import Program, evaluate, trace


class Cut(NamedTuple):
    """A place that all of a model passes through.

    Attributes:
      layer: the model cut there, whose map (i, j, d) has the channels last: of a value (1, i, j, d)
        the only example's, of one that a convolution made channels first rearranged.
      shape: what the cut carries, an array of this shape.
      primitive: the name of JAX's primitive that makes it.
      scope: the named scopes around it, "stage 1/block 2"; "" where there are none.
      line: where it stands in the model, "model.py:12 (forward)"; "" where that is not known.
    """

    layer: Layer
    shape: tuple[int, ...]
    primitive: str
    scope: str
    line: str


def layers(model: Callable[[Image], Any], image: Image) -> list[Cut]:
    """The places at which a model can be cut: every later value passes through each of them.

    head(features(I)) = model(I) at each

    The model is any callable: a module of any library, a plain function. It needs no names and no
    hooks. A scan is cut between its steps.

    Args:
      model: callable PyTree from one image (h, w, c) to its answer.
      image: see the room; only its shape and dtype matter, and images of another shape cannot be
        given to the layers' `features`.

    Returns:
      The cuts in the order of the model, without image and answer.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, rules, scores
      >>> def model(image):
      ...     features = jax.nn.relu(image * 2.0)
      ...     return features.mean((0, 1))
      >>> image = jnp.ones((4, 4, 3))
      >>> cuts = rules.layers(model, image)
      >>> for cut in cuts:
      ...     print(cut.primitive, cut.shape)
      mul (4, 4, 3)
      max (4, 4, 3)
      reduce_sum (3,)
      >>> print(attribution.grad_cam(scores.logit(model, 0), image, layer=cuts[1].layer).shape)
      (4, 4)

    Reference:
      Selvaraju et al., Grad-CAM, 2016, arXiv:1610.02391, for what a layer is needed for.
    """
    image = as_image(image)
    whole = as_pytree(model, "model")
    program = trace(whole, image, _opens)
    place = _Place(image.shape, jnp.dtype(image.dtype), 0)
    cuts = []
    for index in _narrow(program):
        equation = program.equations[index]
        (value,) = equation.outputs
        shape = program.shapes[value].shape
        here = dataclasses.replace(place, index=index)
        layer = Layer(
            Partial(_Features(here), whole),
            Partial(_Head(here), whole),
            _ToMap(shape, _channel_axis(program, index)),
        )
        cuts.append(Cut(layer, shape, _made_by(equation.traced), *equation.source))
    return cuts


@dataclasses.dataclass(frozen=True)
class _Place:
    """An equation in the program of a model, for images of a shape."""

    shape: tuple[int, ...]
    dtype: Any
    index: int

    def program(self, model: Callable, dtype: Any) -> Program:
        return trace(model, jax.ShapeDtypeStruct(self.shape, dtype), _opens)


@dataclasses.dataclass(frozen=True)
class _Features:
    """The model up to a place. Its weights are an argument: they stay leaves of the layer."""

    place: _Place

    def __call__(self, model: Callable, image: Image) -> Any:
        if image.shape != self.place.shape:
            raise ValueError(
                f"expected an image of shape {self.place.shape}, for which the layers were found, "
                f"got {image.shape}"
            )
        program = self.place.program(model, image.dtype)
        values = {**program.known, program.inputs[0]: image}
        evaluate(program.equations[: self.place.index + 1], values)
        return values[program.equations[self.place.index].outputs[0]]


@dataclasses.dataclass(frozen=True)
class _Head:
    """The model from a place on."""

    place: _Place

    def __call__(self, model: Callable, carried: Any) -> Any:
        program = self.place.program(model, self.place.dtype)
        (cut,) = program.equations[self.place.index].outputs
        if program.shapes[cut].dtype != carried.dtype:
            program = self.place.program(model, carried.dtype)
            (cut,) = program.equations[self.place.index].outputs
        before, after = (
            program.equations[: self.place.index],
            program.equations[self.place.index + 1 :],
        )
        fixed = [each for each in before if program.dependent.isdisjoint(each.outputs)]
        values = {**program.known, cut: carried}
        evaluate((*fixed, *after), values)
        return jax.tree.unflatten(program.structure, [values[out] for out in program.outputs])


@dataclasses.dataclass(frozen=True)
class _ToMap:
    """What a cut carries as a map (i, j, d), where it is one."""

    shape: tuple[int, ...]
    channel_axis: int

    def __call__(self, carried: Any) -> Any:
        rearranged = jnp.moveaxis(carried, self.channel_axis, -1)
        is_batch = rearranged.ndim == 4 and rearranged.shape[0] == 1
        return rearranged[0] if is_batch else rearranged


def _made_by(traced: core.JaxprEqn) -> str:
    """The name of the primitive that makes an equation's output, which calls may hide."""
    for jaxpr in core.jaxprs_in_params(traced.params):
        for inner in reversed(jaxpr.eqns):
            if jaxpr.outvars[0] in inner.outvars:
                return _made_by(inner)
    return traced.primitive.name


def _opens(traced: core.JaxprEqn, dependent: Any) -> bool:
    """Custom derivatives stay as they are."""
    return not traced.primitive.name.startswith("custom_")


def _narrow(program: Program) -> list[int]:
    """The equations behind which a single value is needed of all that depends on the image."""
    last = {value: len(program.equations) for value in program.outputs}
    for index, equation in enumerate(program.equations):
        for value in equation.inputs:
            last[value] = max(index, last.get(value, 0))
    alive, found = set(program.inputs), []
    for index, equation in enumerate(program.equations):
        made = program.dependent.intersection(equation.outputs)
        alive = {value for value in alive | made if last.get(value, -1) > index}
        is_answer = not alive.isdisjoint(program.outputs)
        is_single = len(equation.outputs) == 1 and alive == made
        if made and is_single and not is_answer and all(map(program.is_float, made)):
            found.append(index)
    return found


def _channel_axis(program: Program, index: int) -> int:
    """The axis of channels of what an equation makes: the last convolution's, else the last."""
    (value,) = program.equations[index].outputs
    shape = program.shapes[value].shape
    for equation in reversed(program.equations[: index + 1]):
        if equation.name == "conv_general_dilated":
            made = program.shapes[equation.outputs[0]].shape
            axis = equation.params["dimension_numbers"].out_spec[1]
            fits = len(made) == len(shape) and made[axis] == shape[axis]
            # A convolution of one example, whose axis of examples is dropped behind it.
            dropped = len(made) == len(shape) + 1 and made[0] == 1 and axis > 0
            if fits:
                return axis - len(shape)
            if dropped and made[axis] == shape[axis - 1]:
                return axis - len(made)
            break
    return -1
