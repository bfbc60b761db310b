"""Scores: what about the model's answer is explained or maximized.

A score maps one image to one number and is a PyTree: the model's weights and the label are its
leaves. So it crosses `jax.jit` and `jax.vmap` as an argument, its weights are never compiled in as
constants, and another label never compiles again.

Scores are added, subtracted and scaled with plain arithmetic, `logit(model, 3) - 0.1 *
logit(model, 5)`, and the numbers are leaves as well.

Scores of a layer take a function from an image to the layer's output. A bound method of a model
that is a PyTree, such as `model.features`, keeps its weights as leaves; of several layers one is
picked by `jax.tree_util.Partial(lambda model, image: model.stage_outputs(image)[2], model)`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ._types import Image, Label, Logits, Model, Number, Scalar, Score
from ._validation import (
    check_array,
    check_finite,
    check_floats,
    check_image,
    check_label,
    is_concrete,
)

Layer = Float[Array, "*positions d"]
Features = Callable[[Image], Layer]


class Objective(Partial):
    """A score or a penalty that plain arithmetic joins to others: a + b, a - b, -a, 2 * a, a / 2.

    (a + b)(I) = a(I) + b(I); (r a)(I) = r a(I)

    It is a `jax.tree_util.Partial`: callable, and a PyTree whose leaves are the model's weights,
    the labels and the numbers of the arithmetic, so that none of them is compiled in. Any callable
    PyTree from one image to a scalar may be added, and so may a number; a factor is a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> score = scores.logit(model, 0) - 0.5 * scores.logit(model, 1)
      >>> print(score(jnp.ones((2, 2, 1))))
      6.0
    """

    # NumPy numbers on the left would otherwise make an array of objects.
    __array_ufunc__ = None

    def __add__(self, other):
        term = _as_term(other)
        return NotImplemented if term is None else Objective(_sum, self, term)

    __radd__ = __add__

    def __neg__(self):
        return Objective(_scaled, -1.0, self)

    def __sub__(self, other):
        term = _as_term(other)
        return NotImplemented if term is None else self + Objective(_scaled, -1.0, term)

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, factor):
        return Objective(_scaled, factor, self) if _is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor):
        return Objective(_scaled, 1 / divisor, self) if _is_number(divisor) else NotImplemented


jax.tree_util.register_pytree_node(
    Objective,
    lambda objective: ((objective.args, objective.keywords), objective.func),
    lambda func, children: Objective(func, *children[0], **children[1]),
)


def logit(model: Model, label: Label) -> Objective:
    """The model's logit of one class: the score before the softmax.

    S_c(I) = z_c(I), where z = model(I) and c = label.

    This is the score of Simonyan et al.: unlike a probability it cannot grow by lowering the
    logits of the other classes.

    Args:
      model: callable PyTree from one image (h, w, c) to logits (k,). Leaves that are functions are
        welcome, and so is a plain function.
      label: the class, an integer in 0 .. k - 1; a traced one is welcome, so labels can be
        mapped over with `jax.vmap`.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, in the units of the logits. When a
      label is traced its value cannot be checked: out of range, the score and its gradient are nan.

    Raises:
      TypeError: the model is not callable, the label is not an integer, or the model's answer is
        not floating point.
      ValueError: the label is not a scalar; when the score is called, the label is not in
        0 .. k - 1 or the model's answer is not of shape (k,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> score = scores.logit(model, 1)
      >>> print(score(jnp.ones((2, 2, 3))))
      -12.0

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    return Objective(_logit, _as_pytree(model), _as_leaf(label))


def log_prob(model: Model, label: Label) -> Objective:
    """The logarithm of the probability that the model gives to one class.

    S_c(I) = log softmax(z(I))_c = z_c(I) - log sum_j exp z_j(I), where z = model(I) and c = label.

    Args:
      model: callable PyTree from one image (h, w, c) to logits (k,). Leaves that are functions are
        welcome, and so is a plain function.
      label: the class, an integer in 0 .. k - 1; a traced one is welcome, so labels can be
        mapped over with `jax.vmap`.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, at most 0, in nats. When a label is
      traced its value cannot be checked: out of range, the score and its gradient are nan.

    Raises:
      TypeError: the model is not callable, the label is not an integer, or the model's answer is
        not floating point.
      ValueError: the label is not a scalar; when the score is called, the label is not in
        0 .. k - 1 or the model's answer is not of shape (k,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.stack([image.sum(), image.sum()])
      >>> score = scores.log_prob(model, 0)
      >>> print(jnp.exp(score(jnp.ones((2, 2, 3)))).round(3))
      0.5

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034,
      section 2, on maximizing the soft-max posterior in place of the logit.
    """
    return Objective(_log_prob, _as_pytree(model), _as_leaf(label))


def margin(model: Model, label: Label, other: Label | None = None) -> Objective:
    """How far the logit of one class is above that of the runner-up, or of a given class.

    S_c(I) = z_c(I) - max_{j != c} z_j(I), or z_c(I) - z_other(I), where z = model(I)

    Above 0, the model answers c (or prefers it to the other class).

    Args:
      model: callable PyTree from one image (h, w, c) to logits (k,), or a plain function.
      label: the class c, an integer in 0 .. k - 1, which may be traced.
      other: the class to be above of, in 0 .. k - 1 and not c; by default the runner-up, the best
        of all the others, which may change from one image to the next.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, in the units of the logits. A traced
      label out of range makes it nan.

    Raises:
      TypeError: the model is not callable, or a label is not an integer.
      ValueError: a label is not a scalar, or both are known and equal; when the score is called, a
        label is not in 0 .. k - 1, or there is only one class.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.array([3.0, 1.0, 0.5]) * image.sum()
      >>> image = jnp.ones((1, 1, 1))
      >>> print(scores.margin(model, 0)(image), scores.margin(model, 0, 2)(image))
      2.0 2.5

    Reference:
      Carlini, Wagner, Towards Evaluating the Robustness of Neural Networks, 2016, arXiv:1608.04644,
      section V, objective f6.
    """
    if other is None:
        return Objective(_margin, _as_pytree(model), _as_leaf(label))
    label, other = _as_leaf(label), _as_leaf(other)
    if is_concrete(label) and is_concrete(other) and int(label) == int(other):
        raise ValueError(f"expected another class than label {int(label)}, got the same")
    return Objective(_margin_to, _as_pytree(model), label, other)


def neuron(
    features: Features, channel: Label, position: tuple[Label, Label] | None = None
) -> Objective:
    """One unit of a layer: one channel at one place.

    S(I) = F_{ij,d}(I), where F = features(I)

    Args:
      features: callable PyTree from one image (h, w, c) to a layer (h2, w2, d), such as
        `model.features`.
      channel: an integer in 0 .. d - 1, which may be traced.
      position: the row i in 0 .. h2 - 1 and the column j in 0 .. w2 - 1, which may be traced; by
        default the centre, (h2 // 2, w2 // 2).

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, in the units of the layer. A traced
      index out of range makes it nan.

    Raises:
      TypeError: features is not callable, an index is not an integer, or the layer does not hold
        floats.
      ValueError: an index is not a scalar; when the score is called, one is out of range or the
        layer is not of shape (h2, w2, d).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def features(image):
      ...     return jnp.concatenate([image, -image], axis=-1)
      >>> image = jnp.arange(9.0).reshape(3, 3, 1)
      >>> print(scores.neuron(features, 1)(image), scores.neuron(features, 0, (0, 2))(image))
      -4.0 2.0

    Reference:
      Erhan, Bengio, Courville, Vincent, Visualizing Higher-Layer Features of a Deep Network, 2009,
      technical report 1341, University of Montreal; the unit at the centre as in Olah, Mordvintsev,
      Schubert, Feature Visualization, Distill, 2017, doi:10.23915/distill.00007.
    """
    leaves = () if position is None else tuple(_as_leaf(index, "position") for index in position)
    return Objective(
        _neuron, _as_pytree(features, "features"), _as_leaf(channel, "channel"), leaves
    )


def channel(features: Features, channel: Label) -> Objective:
    """One channel of a layer, averaged over all places.

    S(I) = mean_p F_{p,d}(I), where F = features(I)

    Args:
      features: callable PyTree from one image (h, w, c) to a layer (..., d), such as
        `model.features`.
      channel: an integer in 0 .. d - 1, which may be traced.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, in the units of the layer. A traced
      channel out of range makes it nan.

    Raises:
      TypeError: features is not callable, the channel is not an integer, or the layer does not hold
        floats.
      ValueError: the channel is not a scalar; when the score is called, it is out of range or the
        layer has no axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def features(image):
      ...     return jnp.concatenate([image, -image], axis=-1)
      >>> print(scores.channel(features, 1)(jnp.arange(9.0).reshape(3, 3, 1)))
      -4.0

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007.
    """
    return Objective(_channel, _as_pytree(features, "features"), _as_leaf(channel, "channel"))


def direction(features: Features, vector: Float[Array, "d"] | Float[np.ndarray, "d"]) -> Objective:
    """A direction in the space of a layer's channels, averaged over all places.

    S(I) = mean_p <F_p(I), v>, where F = features(I)

    The unit vector of a channel gives `channel`; a row of the last linear layer gives, but for the
    bias, the class's logit in a network that averages its last layer.

    Args:
      features: callable PyTree from one image (h, w, c) to a layer (..., d).
      vector: v (d,), of any length: scaling it scales the score.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, in the units of the layer.

    Raises:
      TypeError: features is not callable, or the vector or the layer do not hold floats.
      ValueError: the vector is not of shape (d,) or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def features(image):
      ...     return jnp.concatenate([image, -image], axis=-1)
      >>> score = scores.direction(features, jnp.array([0.5, -1.0]))
      >>> print(score(jnp.arange(9.0).reshape(3, 3, 1)))
      6.0

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on interactions between neurons.
    """
    check_array("vector", vector, ("d",))
    check_finite("vector", vector)
    return Objective(_direction, _as_pytree(features, "features"), vector)


def deep_dream(features: Features) -> Objective:
    """The mean squared activation of a whole layer: more of whatever it already sees.

    S(I) = |F(I)|_2^2 / n, where F = features(I) has n values

    Args:
      features: callable PyTree from one image (h, w, c) to a layer (..., d).

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar, at least 0, in squared units of the
      layer.

    Raises:
      TypeError: features is not callable, or the layer does not hold floats.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> print(scores.deep_dream(lambda image: 2.0 * image)(jnp.ones((3, 3, 1))))
      4.0

    Reference:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, Google Research
      blog, 2015 (not on arXiv), whose code follows the gradient of |F|^2 / 2.
    """
    return Objective(_deep_dream, _as_pytree(features, "features"))


def feature_inversion(features: Features, target: Image) -> Objective:
    """How near an image's features come to those of a target image.

    S(I) = -|F(I) - F(T)|_2^2 / |F(T)|_2^2, where F = features

    Maximized, it shows what of the target the layer has kept.

    Args:
      features: callable PyTree from one image (h, w, c) to a layer of any shape.
      target: the image T (h', w', c), in the range of the model's images. It is looked at once,
        when the score is made.

    Returns:
      A callable PyTree from one image to a scalar, at most 0, which is the target's own score; -1
      is that of an image all of whose features are 0.

    Raises:
      TypeError: features is not callable, or the target or the layer do not hold floats.
      ValueError: the target is not of shape (h', w', c) or its features are all 0; when the score
        is called, the image's features have another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> target = jnp.array([[[3.0], [4.0]]])
      >>> score = scores.feature_inversion(lambda image: 2.0 * image, target)
      >>> print(score(0.5 * target), score(0.0 * target))
      -0.25 -1.0

    Reference:
      Mahendran, Vedaldi, Understanding Deep Image Representations by Inverting Them, 2014,
      arXiv:1412.0035, equation 2 and section 3.3.
    """
    check_image(target, "target")
    features = _as_pytree(features, "features")
    wanted = _layer(features, target)
    energy = jnp.sum(wanted**2)
    if is_concrete(energy) and energy == 0:
        raise ValueError("expected the target's features not to be all 0, got 0 everywhere")
    return Objective(_feature_inversion, features, wanted, energy)


def diversity(features: Features, axis_name: str = "batch") -> Objective:
    """How unlike the other images of its batch an image is, in how a layer's channels go together.

    S(I_a) = -mean_{b != a} <G_a, G_b> / (|G_a| |G_b|) with G_a = sum_p F_p(I_a) F_p(I_a)^T, where
    F = features and p is a place

    The batch is what `jax.vmap(..., axis_name="batch")` maps over, around whatever calls the score.
    The gradient of an image's score then is that of the sum over the batch, so that ascent mapped
    in this way climbs on the sum: the images draw apart together.

    Args:
      features: callable PyTree from one image (h, w, c) to a layer (..., d).
      axis_name: the name that the mapped axis was given.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar in [-1, 0]: 0 where no two channels of
      it go together as in another image, -1 where all images have one pattern. It may be added to
      other scores, but called only under such a `jax.vmap`.

    Raises:
      TypeError: features is not callable, or the layer does not hold floats.
      ValueError: when the score is called, no axis of this name is mapped over, or only one image
        is along it.

    Example:
      Two images of like colours, and one unlike them:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> colors = jnp.array([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
      >>> score = scores.diversity(lambda image: image)
      >>> print(jax.vmap(score, axis_name="batch")(colors[:, None, None, :]))
      [-0.5 -0.5 -0. ]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on diversity.
    """
    return Objective(_Diversity(axis_name), _as_pytree(features, "features"))


def _logit(model: Model, label: Label, image: Image) -> Scalar:
    return _select(_logits(model, image), label)


def _log_prob(model: Model, label: Label, image: Image) -> Scalar:
    return _select(jax.nn.log_softmax(_logits(model, image)), label)


def _logits(model: Model, image: Image) -> Logits:
    logits = model(image)
    check_array("the model's answer to one image", logits, ("k",))
    return logits


def _margin(model: Model, label: Label, image: Image) -> Scalar:
    logits = _logits(model, image)
    if logits.size < 2:
        raise ValueError(f"expected at least 2 classes to have a runner-up, got {logits.size}")
    others = jnp.where(jnp.arange(logits.size) == label, -jnp.inf, logits)
    return _select(logits, label) - others.max()


def _margin_to(model: Model, label: Label, other: Label, image: Image) -> Scalar:
    logits = _logits(model, image)
    return _select(logits, label) - _select(logits, other)


def _layer(features: Features, image: Image) -> Layer:
    layer = features(image)
    check_floats("the features of one image", layer)
    if layer.size == 0 or layer.ndim == 0:
        raise ValueError(
            f"expected the features of one image to have shape (..., d), got {layer.shape}"
        )
    return layer


def _neuron(features: Features, channel: Label, position: tuple, image: Image) -> Scalar:
    layer = _layer(features, image)
    check_array("the features of one image", layer, ("h", "w", "d"))
    row, column = position or (layer.shape[0] // 2, layer.shape[1] // 2)
    return _select(
        _select(_select(layer, row, "position's row"), column, "position's column"),
        channel,
        "channel",
    )


def _channel(features: Features, channel: Label, image: Image) -> Scalar:
    return _select(_mean_over_positions(_layer(features, image)), channel, "channel")


def _direction(features: Features, vector: Float[Array, "d"], image: Image) -> Scalar:
    mean = _mean_over_positions(_layer(features, image))
    if mean.shape != vector.shape:
        raise ValueError(f"expected vector to have shape {mean.shape}, got {vector.shape}")
    return jnp.sum(mean * vector)


def _mean_over_positions(layer: Layer) -> Float[Array, "d"]:
    return layer.mean(tuple(range(layer.ndim - 1)))


def _deep_dream(features: Features, image: Image) -> Scalar:
    return jnp.mean(_layer(features, image) ** 2)


def _feature_inversion(features: Features, wanted: Layer, energy: Scalar, image: Image) -> Scalar:
    layer = _layer(features, image)
    if layer.shape != wanted.shape:
        raise ValueError(
            f"expected features of the target's shape {wanted.shape}, got {layer.shape}"
        )
    return -jnp.sum((layer - wanted) ** 2) / energy


@dataclasses.dataclass(frozen=True)
class _Diversity:
    """The score among a batch. The axis's name is part of the function, and so is not traced."""

    axis_name: str

    def __call__(self, features: Features, image: Image) -> Scalar:
        try:
            count = jax.lax.axis_size(self.axis_name)
        except NameError:
            count = 0
        if count < 2:
            raise ValueError(
                "expected a batch of at least 2 images under "
                f"jax.vmap(..., axis_name={self.axis_name!r}), got {count or 'no such axis'}"
            )
        layer = _layer(features, image)
        places = layer.reshape(-1, layer.shape[-1])
        gram = jnp.matmul(places.T, places, precision=jax.lax.Precision.HIGHEST)
        squared = jnp.sum(gram**2)
        unit = gram / jnp.sqrt(jnp.where(squared == 0, 1, squared))
        others = jax.lax.psum(unit, self.axis_name) - unit
        return -jnp.sum(unit * others) / (count - 1)


def _select(values: Array, index: Label, name: str = "label") -> Array:
    length = values.shape[0]
    check_label(index, length, name)
    in_range = (index >= 0) & (index < length)
    # A factor, and not a `where` over the result, so that the gradient is nan as well: indexing
    # alone would answer for the nearest class, or count a negative label from the end.
    return values[index] * jnp.where(in_range, 1.0, jnp.nan).astype(values.dtype)


def _sum(left: Score, right: Score, image: Image) -> Scalar:
    return left(image) + right(image)


def _scaled(factor: Number, score: Score, image: Image) -> Scalar:
    return score(image) * factor


def _constant(value: Number, image: Image) -> Scalar:
    return jnp.asarray(value, image.dtype)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.ndarray | jax.Array) and (
        np.shape(value) == ()
    )


def _as_term(value: Any) -> Score | None:
    if callable(value):
        return _as_pytree(value)
    return Objective(_constant, value) if _is_number(value) else None


def _as_pytree(model: Callable, name: str = "model") -> Callable:
    if not callable(model):
        raise TypeError(f"expected {name} to be callable, got {type(model).__name__}")
    if inspect.ismethod(model) and not jax.tree_util.all_leaves([model.__self__]):
        # A bound method hides its module's weights, which would become constants.
        model = Partial(model.__func__, model.__self__)
    leaves, structure = jax.tree.flatten(model)
    functions = tuple(leaf if callable(leaf) else None for leaf in leaves)
    if all(function is None for function in functions):
        return model
    numbers = [None if callable(leaf) else leaf for leaf in leaves]
    return Partial(_FunctionsInStructure(structure, functions), numbers)


@dataclasses.dataclass(frozen=True)
class _FunctionsInStructure:
    """A model whose leaves that are functions have become part of its structure.

    A plain function is such a leaf, and so is an activation in an Equinox module; `jax.jit` takes
    no function among an argument's leaves.
    """

    structure: jax.tree_util.PyTreeDef
    functions: tuple[Callable | None, ...]

    def __call__(self, numbers: list, image: Image) -> Array:
        leaves = [
            number if function is None else function
            for number, function in zip(numbers, self.functions, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)(image)


def _as_leaf(label: Any, name: str = "label") -> jax.Array | np.ndarray:
    check_label(label, name=name)
    # One dtype, so that a Python integer and an array element share one compiled program.
    return label.astype(jnp.int32) if isinstance(label, jax.Array) else np.asarray(label, np.int32)
