"""Scores: what about a model's answer is explained or maximized.

A `Score` is a readout of a model: it maps one image (h, w, c) to one number,
`readout(model(image))`. It is a PyTree whose leaves are the model's weights and the readout's
label: it crosses `jax.jit` and `jax.vmap` as an argument, its weights are never compiled in as
constants, and another label never compiles again. Scores are added, subtracted and scaled with
plain arithmetic, whose numbers are leaves as well: `logit(model, 3) - 0.1 * logit(model, 5)` is one
score of one model, which runs once.

What means the same everywhere here:

  model: callable PyTree from one image (h, w, c) to logits (k,); leaves that are functions are
    welcome, and so is a plain function.
  label: a class, an integer in 0 .. k - 1. A traced one is welcome, so that labels can be mapped
    over; as its value cannot be checked, out of range the score and its gradient are nan.
  layer: a `saliency_jax.layers.Layer`, such as `network.layer("stage 3")`, whose map (i, j, d) the
    score reads; or any callable PyTree from one image to an array (..., d).

Every function returns a `Score` and raises TypeError where a model or layer is not callable or a
label is no integer, and ValueError where a label is no scalar. When the score is called, it raises
TypeError where the answer does not hold floats, and ValueError where it has another shape than said
or a known label is out of range.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ._numerics import at_least_single, common_dtype
from ._pytrees import as_pytree, have_equal_leaves
from ._types import Image, Label, Logits, Model, Number, Scalar
from ._validation import (
    as_array,
    as_image,
    check_array,
    check_floats,
    check_label,
    check_pair,
    is_concrete,
    to_jax,
)
from .layers import Layer, identity

Features = Float[Array, "*positions d"]
LayerOrFunction = Layer | Callable[[Image], Features]


@jax.tree_util.register_pytree_with_keys_class
class Score:
    """A readout of a model: S(I) = readout(model(I)).

    (a + b)(I) = a(I) + b(I); (r a)(I) = r a(I)

    Arithmetic joins the readouts of scores of one model, known by the identity of its leaves, so
    that the model runs once; scores of different models are added up. A number may be added, and
    so may any callable PyTree from one image to a scalar; a factor is a number.

    Args:
      readout: callable PyTree from the model's answer to a scalar.
      model: callable PyTree from one image (h, w, c) to its answer, which may be any PyTree.

    Attributes:
      readout, model: as given, functions among their leaves having become structure.

    Raises:
      TypeError: readout or model is not callable; when the score is called, its value is not one
        real floating-point number.
      ValueError: when the score is called, its value is not a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> score = scores.Score(jnp.max, model) - 0.5 * scores.logit(model, 1)
      >>> print(score(jnp.ones((2, 2, 1))))
      6.0
    """

    readout: Callable[[Any], Scalar]
    model: Callable[[Image], Any]

    # NumPy numbers on the left would otherwise make an array of objects.
    __array_ufunc__ = None

    def __init__(self, readout: Callable[[Any], Scalar], model: Callable[[Image], Any]):
        self.readout = as_pytree(readout, "readout")
        self.model = as_pytree(model, "model")

    def __call__(self, image: Any) -> Scalar:
        # NumPy's arrays may be of another byte order, or of a precision that JAX does not have.
        given = to_jax(image) if isinstance(image, np.ndarray) else image
        return _checked(self.readout(self.model(given)))

    def on(self, model: Callable[[Any], Any]) -> "Score":
        """The same readout of another callable.

        Args:
          model: callable PyTree whose answers are like the model's: a `layer.head`, which takes
            what the layer's cut carries; a model with other weights.

        Returns:
          The score `readout(model(...))`.

        Raises:
          TypeError: model is not callable.
          ValueError: this score joins several models.

        Example:
          >>> import jax.numpy as jnp
          >>> from saliency_jax import scores
          >>> score = scores.logit(lambda image: image.mean((0, 1)), 1)
          >>> print(score.on(lambda image: image.sum((0, 1)))(jnp.ones((2, 2, 2))))
          4.0
        """
        if _joins_models(self):
            raise ValueError(
                f"expected a score of one model, got a sum of scores of {len(_terms(self))}"
            )
        return Score(self.readout, model)

    def __add__(self, other: Any) -> "Score":
        if _is_number(other):
            first, *rest = _terms(self)
            return _sum([Score(Partial(_shifted, other, first.readout), first.model), *rest])
        if callable(other):
            return _sum([*_terms(self), *_terms(as_score(other))])
        return NotImplemented

    __radd__ = __add__

    def __neg__(self) -> "Score":
        return self * -1.0

    def __sub__(self, other: Any) -> "Score":
        if not (_is_number(other) or callable(other)):
            return NotImplemented
        return self + (-other if _is_number(other) else -as_score(other))

    def __rsub__(self, other: Any) -> "Score":
        return -self + other

    def __mul__(self, factor: Any) -> "Score":
        if not _is_number(factor):
            return NotImplemented
        return _sum(
            [Score(Partial(_scaled, factor, term.readout), term.model) for term in _terms(self)]
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "Score":
        return self * (1 / divisor) if _is_number(divisor) else NotImplemented

    def tree_flatten_with_keys(self):
        names = ("readout", "model")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    @classmethod
    def tree_unflatten(cls, _, children):
        score = object.__new__(cls)
        score.readout, score.model = children
        return score


def as_score(score: Callable[[Any], Any], name: str = "score") -> Score:
    """A score of any callable from one image to a number; its value is checked when it is called.

    Args:
      score: a `Score`, which is returned as it is, or any other callable PyTree, or a function.
      name: what an error calls it.

    Returns:
      The score, whose model is the callable itself.

    Raises:
      TypeError: score is not callable.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> print(scores.as_score(jnp.sum)(jnp.ones((1, 2, 1))))
      2.0
    """
    if isinstance(score, Score):
        return score
    return Score(identity, as_pytree(score, name))


def logit(model: Model, label: Label) -> Score:
    """The model's logit of one class: the score before the softmax.

    S_c(I) = z_c(I), where z = model(I) and c = label.

    This is the score of Simonyan et al.: unlike a probability it cannot grow by lowering the
    logits of the other classes.

    Args:
      model, label: see the module.

    Returns:
      The score, in the units of the logits.

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
    return Score(Partial(_logit, _as_leaf(label)), model)


def log_prob(model: Model, label: Label) -> Score:
    """The logarithm of the probability that the model gives to one class.

    S_c(I) = log softmax(z(I))_c = z_c(I) - log sum_j exp z_j(I), where z = model(I) and c = label.

    Args:
      model, label: see the module.

    Returns:
      The score, at most 0, in nats.

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
    return Score(Partial(_log_prob, _as_leaf(label)), model)


def margin(model: Model, label: Label, other: Label | None = None) -> Score:
    """How far the logit of one class is above that of the runner-up, or of a given class.

    S_c(I) = z_c(I) - max_{j != c} z_j(I), or z_c(I) - z_other(I), where z = model(I)

    Above 0, the model answers c (or prefers it to the other class).

    Args:
      model, label: see the module; c is the label.
      other: the class to be above of, an integer in 0 .. k - 1 and not c; by default the runner-up,
        the best of all the others, which may change from one image to the next.

    Returns:
      The score, in the units of the logits.

    Raises:
      ValueError: both labels are known and equal; when the score is called, there is one class
        only.

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
        return Score(Partial(_margin, _as_leaf(label)), model)
    label, other = _as_leaf(label), _as_leaf(other, "other")
    if is_concrete(label) and is_concrete(other) and int(label) == int(other):
        raise ValueError(f"expected another class than label {int(label)}, got the same")
    return Score(Partial(_margin_to, label, other), model)


def probability(model: Model, label: Label) -> Score:
    """The probability that the model gives to one class.

    S_c(I) = softmax(z(I))_c, where z = model(I) and c = label

    The score of insertion and deletion as published, and of softmax information curves. To be
    explained itself it is a poor choice: near 1 its gradient vanishes.

    Args:
      model, label: see the module.

    Returns:
      The score, in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> print(scores.probability(model, 1)(jnp.zeros((2, 2, 1))))
      0.5

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    return Score(Partial(_probability, _as_leaf(label)), model)


def accuracy(model: Model, label: Label) -> Score:
    """Whether the model answers with one class.

    S_c(I) = 1 if z_c(I) > max_{j != c} z_j(I) else 0, where z = model(I) and c = label

    Its mean over images is the accuracy. A tie is no answer, so that a model that has lost all
    information is not counted as right.

    Args:
      model, label: see the module; there are at least two classes.

    Returns:
      The score, 0.0 or 1.0. Its gradient is 0: it is for measuring, not for explaining.

    Raises:
      ValueError: when the score is called, there is one class only.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> print(scores.accuracy(model, 0)(jnp.ones((2, 2, 1))))
      1.0

    Reference:
      Kapishnikov, Bolukbasi, Viegas, Terry, XRAI: Better Attributions Through Regions, 2019,
      arXiv:1906.02825, on accuracy information curves.
    """
    return Score(Partial(_accuracy, _as_leaf(label)), model)


def neuron(
    layer: LayerOrFunction, channel: Label, position: tuple[Label, Label] | None = None
) -> Score:
    """One unit of a layer: one channel at one place.

    S(I) = F_{ij,d}(I), where F is the layer

    Args:
      layer: see the module; its map is (h2, w2, d).
      channel: an integer in 0 .. d - 1, which may be traced.
      position: the row i in 0 .. h2 - 1 and the column j in 0 .. w2 - 1, which may be traced; by
        default the centre, (h2 // 2, w2 // 2).

    Returns:
      The score, in the units of the layer; nan where a traced index is out of range.

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
    if position is not None:
        check_pair("position", position, "(row, column)")
    leaves = tuple(_as_leaf(index, "position") for index in position or ())
    return Score(Partial(_neuron, _as_leaf(channel, "channel"), leaves), _map_of(layer))


def channel(layer: LayerOrFunction, channel: Label) -> Score:
    """One channel of a layer, averaged over all places.

    S(I) = mean_p F_{p,d}(I), where F is the layer

    Args:
      layer: see the module.
      channel: an integer in 0 .. d - 1, which may be traced.

    Returns:
      The score, in the units of the layer; nan where a traced channel is out of range.

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
    return Score(Partial(_channel, _as_leaf(channel, "channel")), _map_of(layer))


def direction(layer: LayerOrFunction, vector: Float[Array, "d"] | Float[np.ndarray, "d"]) -> Score:
    """A direction in the space of a layer's channels, averaged over all places.

    S(I) = mean_p <F_p(I), v>, where F is the layer

    The unit vector of a channel gives `channel`; a row of the last linear layer gives, but for the
    bias, the class's logit in a network that averages its last layer.

    Args:
      layer: see the module.
      vector: v (d,), of any length: scaling it scales the score.

    Returns:
      The score, in the units of the layer.

    Raises:
      TypeError: the vector does not hold floats.
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
    return Score(Partial(_direction, as_array("vector", vector, ("d",))), _map_of(layer))


def deep_dream(layer: LayerOrFunction) -> Score:
    """The mean squared activation of a whole layer: more of whatever it already sees.

    S(I) = |F(I)|_2^2 / n, where F is the layer and has n values

    Args:
      layer: see the module.

    Returns:
      The score, at least 0, in squared units of the layer.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import scores
      >>> print(scores.deep_dream(lambda image: 2.0 * image)(jnp.ones((3, 3, 1))))
      4.0

    Reference:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, Google Research
      blog, 2015 (not on arXiv), whose code follows the gradient of |F|^2 / 2.
    """
    return Score(_deep_dream, _map_of(layer))


def feature_inversion(layer: LayerOrFunction, target: Image) -> Score:
    """How near an image's features come to those of a target image.

    S(I) = -|F(I) - F(T)|_2^2 / |F(T)|_2^2, where F is the layer

    Maximized, it shows what of the target the layer has kept.

    Args:
      layer: see the module; its answer may have any shape.
      target: the image T (h', w', c), in the range of the model's images. It is looked at once,
        when the score is made.

    Returns:
      The score, at most 0, which is the target's own; -1 is that of an image all of whose features
      are 0.

    Raises:
      TypeError: the target does not hold floats.
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
    features = _map_of(layer)
    wanted = at_least_single(_checked_features(features(as_image(target, "target"))))
    energy = jnp.sum(wanted**2)
    if is_concrete(energy) and energy == 0:
        raise ValueError("expected the target's features not to be all 0, got 0 everywhere")
    return Score(Partial(_feature_inversion, wanted, energy), features)


def diversity(layer: LayerOrFunction, axis_name: str = "batch") -> Score:
    """How unlike the other images of its batch an image is, in how a layer's channels go together.

    S(I_a) = -mean_{b != a} <G_a, G_b> / (|G_a| |G_b|) with G_a = sum_p F_p(I_a) F_p(I_a)^T, where
    F is the layer and p a place

    The batch is what `jax.vmap(..., axis_name="batch")` maps over, around whatever calls the score.
    The gradient of an image's score then is that of the sum over the batch, so that ascent mapped
    in this way climbs on the sum: the images draw apart together.

    Args:
      layer: see the module.
      axis_name: the name that the mapped axis was given.

    Returns:
      The score, in [-1, 0]: 0 where no two channels of an image go together as in another image, -1
      where all images have one pattern. It may be added to other scores, but called only under such
      a `jax.vmap`.

    Raises:
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
    return Score(Partial(_Diversity(axis_name)), _map_of(layer))


def _logit(label: Label, logits: Logits) -> Scalar:
    return _select(_checked_logits(logits), label)


def _log_prob(label: Label, logits: Logits) -> Scalar:
    # The label's own logit stays out of the sum: in a log-softmax its slope, 1 - p, is rounded to 0
    # from a gap of 17 on, and with it goes half of the gradient.
    selected = _select(_checked_logits(logits), label)
    return -jax.nn.softplus(jax.nn.logsumexp(_others(label, logits)) - selected)


def _probability(label: Label, logits: Logits) -> Scalar:
    return jnp.exp(_log_prob(label, logits))


def _accuracy(label: Label, logits: Logits) -> Scalar:
    # Unlike a comparison, it hands on the nan of a label out of range.
    return jnp.maximum(jnp.sign(_margin(label, logits)), 0)


def _margin(label: Label, logits: Logits) -> Scalar:
    if _checked_logits(logits).size < 2:
        raise ValueError(f"expected at least 2 classes to have a runner-up, got {logits.size}")
    return _select(logits, label) - _others(label, logits).max()


def _others(label: Label, logits: Logits) -> Logits:
    # The labels are 32 bits wide, whatever the default is.
    return jnp.where(jnp.arange(logits.size, dtype=jnp.int32) == label, -jnp.inf, logits)


def _margin_to(label: Label, other: Label, logits: Logits) -> Scalar:
    return _select(_checked_logits(logits), label) - _select(logits, other)


def _neuron(channel: Label, position: tuple, features: Features) -> Scalar:
    check_array("the features of one image", features, ("h", "w", "d"))
    row, column = position or (features.shape[0] // 2, features.shape[1] // 2)
    at_row = _select(features, row, "position's row")
    return _select(_select(at_row, column, "position's column"), channel, "channel")


def _channel(channel: Label, features: Features) -> Scalar:
    return _select(_mean_over_positions(features), channel, "channel")


def _direction(vector: Float[Array, "d"], features: Features) -> Scalar:
    mean = _mean_over_positions(features)
    if mean.shape != vector.shape:
        raise ValueError(f"expected vector to have shape {mean.shape}, got {vector.shape}")
    return jnp.sum(mean * jnp.asarray(vector, mean.dtype))


def _mean_over_positions(features: Features) -> Float[Array, "d"]:
    return _checked_features(features).mean(tuple(range(features.ndim - 1)))


def _deep_dream(features: Features) -> Scalar:
    return jnp.mean(at_least_single(_checked_features(features)) ** 2)


def _feature_inversion(wanted: Features, energy: Scalar, features: Features) -> Scalar:
    if _checked_features(features).shape != wanted.shape:
        raise ValueError(
            f"expected features of the target's shape {wanted.shape}, got {features.shape}"
        )
    found = at_least_single(features)
    return -jnp.sum((found - wanted.astype(found.dtype)) ** 2) / energy.astype(found.dtype)


@dataclasses.dataclass(frozen=True)
class _Diversity:
    """The readout among a batch. The axis's name is part of the function, and so is not traced."""

    axis_name: str

    def __call__(self, features: Features) -> Scalar:
        try:
            count = jax.lax.axis_size(self.axis_name)
        except NameError:
            count = 0
        if count < 2:
            raise ValueError(
                "expected a batch of at least 2 images under "
                f"jax.vmap(..., axis_name={self.axis_name!r}), got {count or 'no such axis'}"
            )
        places = at_least_single(_checked_features(features)).reshape(-1, features.shape[-1])
        gram = jnp.matmul(places.T, places, precision=jax.lax.Precision.HIGHEST)
        squared = jnp.sum(gram**2)
        unit = gram / jnp.sqrt(jnp.where(squared == 0, 1, squared))
        others = jax.lax.psum(unit, self.axis_name) - unit
        return -jnp.sum(unit * others) / (count - 1)


def _checked(value: Any) -> Scalar:
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
        kind = value.dtype if hasattr(value, "dtype") else type(value).__name__
        raise TypeError(f"expected score to return one real floating-point number, got {kind}")
    if value.shape != ():
        raise ValueError(
            f"expected score to return one real number, got shape {value.shape}"
            + ("; scores.logit(model, label) reads one logit" if value.ndim == 1 else "")
        )
    return jnp.asarray(value)


def _checked_logits(logits: Logits) -> Logits:
    check_array("the model's answer to one image", logits, ("k",))
    return logits


def _checked_features(features: Features) -> Features:
    check_floats("the features of one image", features)
    if features.size == 0 or features.ndim == 0:
        raise ValueError(
            f"expected the features of one image to have shape (..., d), got {features.shape}"
        )
    return features


def _select(values: Array, index: Label, name: str = "label") -> Array:
    length = values.shape[0]
    check_label(index, length, name)
    in_range = (index >= 0) & (index < length)
    # A factor, and not a `where` over the result, so that the gradient is nan as well: indexing
    # alone would answer for the nearest class, or count a negative label from the end.
    return values[index] * jnp.where(in_range, 1.0, jnp.nan).astype(values.dtype)


def _shifted(number: Number, readout: Callable[[Any], Scalar], answer: Any) -> Scalar:
    value = readout(answer)
    return value + jnp.asarray(number, value.dtype)


def _scaled(factor: Number, readout: Callable[[Any], Scalar], answer: Any) -> Scalar:
    value = readout(answer)
    return value * jnp.asarray(factor, value.dtype)


def _total(readouts: tuple[Callable[[Any], Scalar], ...], answer: Any) -> Scalar:
    return _added([readout(answer) for readout in readouts])


def _total_of_each(readouts: tuple[Callable[[Any], Scalar], ...], answers: tuple) -> Scalar:
    return _added([readout(answer) for readout, answer in zip(readouts, answers, strict=True)])


def _added(values: Sequence[Scalar]) -> Scalar:
    dtype = common_dtype(*(value.dtype for value in values))
    return functools.reduce(jnp.add, (value.astype(dtype) for value in values))


def _answers(models: tuple[Callable, ...], image: Any) -> tuple:
    return tuple(model(image) for model in models)


def _terms(score: Score) -> list[Score]:
    """The scores of one model each that a score is the sum of."""
    if not _joins_models(score):
        return [score]
    readout, model = cast(Partial, score.readout), cast(Partial, score.model)
    (readouts,), (models,) = readout.args, model.args
    return [Score(*term) for term in zip(readouts, models, strict=True)]


def _sum(terms: Sequence[Score]) -> Score:
    """The sum as one score, in which every model stands once."""
    by_model: list[list[Score]] = []
    for term in terms:
        same = (row for row in by_model if have_equal_leaves(row[0].model, term.model))
        row = next(same, None)
        if row is None:
            by_model.append([term])
        else:
            row.append(term)
    joined = [
        row[0]
        if len(row) == 1
        else Score(Partial(_total, tuple(term.readout for term in row)), row[0].model)
        for row in by_model
    ]
    if len(joined) == 1:
        return joined[0]
    readouts, models = zip(*((score.readout, score.model) for score in joined), strict=True)
    return Score(Partial(_total_of_each, readouts), Partial(_answers, models))


def _joins_models(score: Score) -> bool:
    return isinstance(score.model, Partial) and score.model.func is _answers


def _map_of(layer: LayerOrFunction) -> Callable[[Image], Features]:
    if isinstance(layer, Layer):
        return Partial(_mapped, layer)
    return as_pytree(layer, "layer")


def _mapped(layer: Layer, image: Image) -> Features:
    return layer.map(image)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.ndarray | jax.Array) and (
        np.shape(value) == ()
    )


def _as_leaf(label: Any, name: str = "label") -> jax.Array | np.ndarray:
    check_label(label, name=name)
    # One dtype, so that a Python integer and an array element share one compiled program. On the
    # host where it is known, as every call of the score checks that it is in range.
    return np.asarray(label, np.int32) if is_concrete(label) else label.astype(jnp.int32)
