"""Scores: what about the model's answer is explained or maximized.

A score maps one image to one number and is a PyTree: the model's weights and the label are its
leaves. So it crosses `jax.jit` and `jax.vmap` as an argument, its weights are never compiled in as
constants, and another label never compiles again.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from ._types import Image, Label, Logits, Model, Scalar, Score
from ._validation import check_array, check_label


def logit(model: Model, label: Label) -> Score:
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
    return Partial(_logit, _as_pytree(model), _as_leaf(label))


def log_prob(model: Model, label: Label) -> Score:
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
    return Partial(_log_prob, _as_pytree(model), _as_leaf(label))


def _logit(model: Model, label: Label, image: Image) -> Scalar:
    return _select(_logits(model, image), label)


def _log_prob(model: Model, label: Label, image: Image) -> Scalar:
    return _select(jax.nn.log_softmax(_logits(model, image)), label)


def _logits(model: Model, image: Image) -> Logits:
    logits = model(image)
    check_array("the model's answer to one image", logits, ("k",))
    return logits


def _select(per_class: Logits, label: Label) -> Scalar:
    num_classes = per_class.shape[0]
    check_label(label, num_classes)
    in_range = (label >= 0) & (label < num_classes)
    # A factor, and not a `where` over the result, so that the gradient is nan as well: indexing
    # alone would answer for the nearest class, or count a negative label from the end.
    return per_class[label] * jnp.where(in_range, 1.0, jnp.nan).astype(per_class.dtype)


def _as_pytree(model: Model) -> Model:
    if not callable(model):
        raise TypeError(f"expected model to be callable, got {type(model).__name__}")
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

    def __call__(self, numbers: list, image: Image) -> Logits:
        leaves = [
            number if function is None else function
            for number, function in zip(numbers, self.functions, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)(image)


def _as_leaf(label: Any) -> jax.Array | np.ndarray:
    check_label(label)
    # One dtype, so that a Python integer and an array element share one compiled program.
    return label.astype(jnp.int32) if isinstance(label, jax.Array) else np.asarray(label, np.int32)
