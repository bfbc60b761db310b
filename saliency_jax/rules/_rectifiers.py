"""Other gradients of rectifiers, however they are written: as a score, and as methods."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from .._types import Attribution, Image, Scalar
from .._validation import check_callable, check_floats, to_jax
from ..attribution import bilinear, grad_cam, input_gradient
from ..layers import Layer
from ..scores import Score, as_score
from ._operations import Group, has_rectifier, opens_rectifiers, rectifiers
from ._program import Program, evaluate, trace

# (cotangent of the output, input, function) -> cotangent of the input
RectifierRule = Callable[[Any, Any, Callable[[Any], Any]], Any]


def guided(cotangent: Any, array: Any, function: Callable[[Any], Any]) -> Any:
    """Guided backpropagation's rule: what is positive, where the rectifier lets it through.

    g = f'(x) max(c, 0)

    Args:
      cotangent: c, of the rectifier's output.
      array: x, its input.
      function: f, the rectifier.

    Returns:
      g, of the input's shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> cotangent, values = jnp.array([1.0, 1.0, -1.0]), jnp.array([2.0, -2.0, 2.0])
      >>> print(rules.guided(cotangent, values, jax.nn.relu))
      [1. 0. 0.]

    Reference:
      Springenberg, Dosovitskiy, Brox, Riedmiller, Striving for Simplicity, 2014, arXiv:1412.6806.
    """
    cotangent, array = _checked(cotangent, array, function)
    _, back = jax.vjp(function, array)
    return back(jnp.maximum(cotangent, 0))[0]


def deconvolved(cotangent: Any, array: Any, function: Callable[[Any], Any]) -> Any:
    """DeconvNet's rule: what is positive, whatever the input was.

    g = max(c, 0)

    Args:
      cotangent: c, of the rectifier's output.
      array, function: the rectifier's input, and the rectifier.

    Returns:
      g, of the input's shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> cotangent, values = jnp.array([1.0, 1.0, -1.0]), jnp.array([2.0, -2.0, 2.0])
      >>> print(rules.deconvolved(cotangent, values, jax.nn.relu))
      [1. 1. 0.]

    Reference:
      Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901.
    """
    cotangent, array = _checked(cotangent, array, function)
    return jnp.maximum(cotangent, 0)


def redirected(cotangent: Any, array: Any, function: Callable[[Any], Any]) -> Any:
    """Lucid's rule for ascent: where nothing gets through, what leads back into the range.

    g = f'(x) c, or if that is 0 everywhere, c where it does not push x further out: not where x < 0
    and c < 0, nor where f'(x) = 0, x > 0 and c > 0

    Args:
      cotangent: c, of the rectifier's output.
      array: x, its input.
      function: f, the rectifier.

    Returns:
      g, of the input's shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> cotangent, values = jnp.array([1.0, -1.0]), jnp.array([-2.0, -2.0])
      >>> print(rules.redirected(cotangent, values, jax.nn.relu))
      [1. 0.]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007; lucid's `redirected_relu_grad`, which uses it in the first 16
      steps.
    """
    cotangent, array = _checked(cotangent, array, function)
    _, back = jax.vjp(function, array)
    (passed,) = back(cotangent)
    (slope,) = back(jnp.ones_like(cotangent))
    outward = ((array < 0) & (cotangent < 0)) | ((array > 0) & (slope == 0) & (cotangent > 0))
    return jnp.where((passed == 0).all(), jnp.where(outward, 0, cotangent), passed)


def _checked(cotangent: Any, array: Any, function: Any) -> tuple[Any, Any]:
    check_floats("cotangent", cotangent)
    check_floats("array", array)
    if cotangent.shape != array.shape:
        raise ValueError(
            f"expected cotangent to have the array's shape {array.shape}, got {cotangent.shape}"
        )
    check_callable("function", function)
    return to_jax(cotangent).astype(to_jax(array).dtype), to_jax(array)


def with_rectifiers(score: Callable[[Image], Scalar], rule: RectifierRule) -> Score:
    """The same score whose rectifiers have another gradient.

    S'(I) = S(I), and dS'/dI by the rule wherever the chain rule meets a rectifier: ReLU, ReLU6, a
    clip, a leaky one, GELU, SiLU, however they are written.

    A rectifier is an operation value by value with a kink or a gate: a maximum, a minimum or a clip
    against a constant; a `where` or a `select` by conditions on the same array; a product of an
    array with a function of it, or its sum with its absolute value. All else keeps its gradient,
    custom derivatives included that hold no rectifier.

    Args:
      score: callable PyTree from one image to a real number. For `layer` methods a `scores.Score`
        whose model is rewritten; its readout stays.
      rule: `guided`, `deconvolved`, `redirected` or a function like them.

    Returns:
      The score, for every method and for ascent; only its first reverse-mode derivative is by the
      rule.

    Raises:
      ValueError: when it is called, a rectifier stands in a loop or a branch that cannot be
        unrolled, a `while` or a `cond`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return -jnp.maximum(image, 0.0).sum()
      >>> image = jnp.ones((1, 2, 1))
      >>> guided = rules.with_rectifiers(score, rules.guided)
      >>> print(guided(image), jax.grad(score)(image).ravel(), jax.grad(guided)(image).ravel())
      -2.0 [-1. -1.] [0. 0.]

    Reference:
      Springenberg et al., 2014, arXiv:1412.6806, which compares three such rules.
    """
    check_callable("rule", rule)
    checked = as_score(score)
    return Score(checked.readout, Partial(_Ruled(rule), checked.model))


def guided_backprop(score: Callable[[Image], Scalar], image: Image) -> Attribution:
    """Guided backpropagation: the gradient, of which rectifiers hand back what is positive alone.

    A = dS/dI with g = f'(x) max(c, 0) at every rectifier f

    It shows edges that the network responds to and depends little on the class: of the bundled
    networks another label keeps the order of its pixels, by a rank correlation of 0.94 and more.

    Args:
      score, image: see the room.

    Returns:
      The attribution (h, w, c), in units of the score over those of the image.

    Raises:
      ValueError: a rectifier stands in a `while` or a `cond`.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     kept = jnp.maximum(image, 0.0)
      ...     return kept[0, 0, 0] - kept[0, 1, 0]
      >>> print(rules.guided_backprop(score, jnp.ones((1, 2, 1))).ravel())
      [1. 0.]

    Reference:
      Springenberg, Dosovitskiy, Brox, Riedmiller, Striving for Simplicity, 2014, arXiv:1412.6806.
    """
    return input_gradient(with_rectifiers(score, guided), image)


def deconvnet(score: Callable[[Image], Scalar], image: Image) -> Attribution:
    """DeconvNet: the gradient, with rectifiers on the way back in place of their derivatives.

    A = dS/dI with g = max(c, 0) at every rectifier

    Args:
      score, image: see the room.

    Returns:
      The attribution (h, w, c), in units of the score over those of the image.

    Raises:
      ValueError: a rectifier stands in a `while` or a `cond`.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules
      >>> def score(image):
      ...     return jnp.maximum(image, 0.0).sum()
      >>> print(rules.deconvnet(score, jnp.array([-1.0, 1.0]).reshape(1, 2, 1)).ravel())
      [1. 1.]

    Reference:
      Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901.
    """
    return input_gradient(with_rectifiers(score, deconvolved), image)


def guided_grad_cam(
    score: Score,
    image: Image,
    *,
    layer: Layer,
    upsample: Callable[[Any, tuple[int, int]], Any] = bilinear,
) -> Attribution:
    """Guided Grad-CAM: guided backpropagation where Grad-CAM finds the class.

    A = M * G, M the map (h, w) of Grad-CAM, G guided backpropagation (h, w, c)

    Args:
      score: of the layer's model, a `scores.Score`.
      image: see the room.
      layer, upsample: see `attribution.grad_cam`.

    Returns:
      The attribution (h, w, c).

    Raises:
      ValueError: a rectifier stands in a `while` or a `cond`.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import rules, scores
      >>> from saliency_jax.layers import Layer, identity
      >>> def top(feature_map):
      ...     return jnp.maximum(feature_map, 0.0).sum((0, 1))
      >>> image = jnp.array([2.0, -1.0]).reshape(1, 2, 1)
      >>> print(rules.guided_grad_cam(
      ...     scores.logit(top, 0), image, layer=Layer(identity, top)
      ... ).ravel())
      [1. 0.]

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, Grad-CAM, 2016, arXiv:1610.02391, section
      3.2.
    """
    cam = grad_cam(score, image, layer=layer, upsample=upsample)
    return guided_backprop(score, image) * cam[:, :, None]


class _Ruled:
    """A model called with other gradients of its rectifiers. Equal rules are equal to `jax.jit`."""

    def __init__(self, rule: RectifierRule):
        self.rule = rule

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ruled) and self.rule == other.rule

    def __hash__(self) -> int:
        return hash((_Ruled, self.rule))

    def __call__(self, model: Callable, image: Any) -> Any:
        program = trace(model, image, opens_rectifiers)
        _refuse_hidden(program)
        by_output = {group.output: group for group in rectifiers(program)}
        values = {**program.known, **dict(zip(program.inputs, jax.tree.leaves(image), strict=True))}
        for equation in program.equations:
            evaluate((equation,), values)
            for value in equation.outputs:
                if value in by_output:
                    values[value] = _ruled(by_output[value], values, self.rule)
        return jax.tree.unflatten(program.structure, [values[out] for out in program.outputs])


def _ruled(group: Group, values: dict[int, Any], rule: RectifierRule) -> Any:
    """What a rectifier makes of its input, differentiable by the rule."""
    (entry,) = group.inputs
    made = {value for equation in group.equations for value in equation.outputs}
    taken = {value for equation in group.equations for value in equation.inputs}
    others = sorted(taken - made - {entry})

    def function(constants, array):
        found = {entry: array, **dict(zip(others, constants, strict=True))}
        evaluate(group.equations, found)
        return found[group.output]

    ruled = jax.custom_vjp(function)

    def forward(constants, array):
        return function(constants, array), (constants, array)

    def backward(kept, cotangent):
        constants, array = kept
        handed = rule(cotangent, array, functools.partial(function, constants))
        return None, handed.astype(array.dtype)

    ruled.defvjp(forward, backward)
    return ruled([values[value] for value in others], values[entry])


def _refuse_hidden(program: Program) -> None:
    for equation in program.equations:
        if equation.name not in ("while", "cond") or program.dependent.isdisjoint(equation.outputs):
            continue
        if has_rectifier(equation.traced, []):
            raise ValueError(
                f"expected rectifiers outside of loops and branches, got one in a "
                f"{equation.name!r} at {equation.source}; a scan of constant length, or "
                "jnp.where in place of lax.cond, can be followed"
            )
