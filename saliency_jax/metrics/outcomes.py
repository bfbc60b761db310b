"""Scores that evaluations count: the probability of a class, and whether it is the answer."""

import jax.numpy as jnp

from .. import scores
from .._types import Image, Label, Model, Scalar, Score
from ..scores import Objective


def probability(model: Model, label: Label) -> Objective:
    """The probability that the model gives to one class.

    S_c(I) = softmax(z(I))_c, where z = model(I) and c = label

    The score of insertion and deletion as published, and of softmax information curves. To be
    explained itself it is a poor choice: near 1 its gradient vanishes.

    Args:
      model: callable PyTree from one image (h, w, c) to logits (k,).
      label: the class, an integer in 0 .. k - 1; a traced one is welcome.

    Returns:
      A callable PyTree from one image (h, w, c) to a scalar in [0, 1]. When a label is traced and
      out of range, it is nan.

    Raises:
      TypeError: the model is not callable, the label is not an integer, or the model's answer is
        not floating point.
      ValueError: the label is not a scalar; when the score is called, the label is not in
        0 .. k - 1 or the model's answer is not of shape (k,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> print(metrics.probability(model, 1)(jnp.zeros((2, 2, 1))))
      0.5

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    return Objective(_exp, scores.log_prob(model, label))


def accuracy(model: Model, label: Label) -> Objective:
    """Whether the model answers with one class.

    S_c(I) = 1 if z_c(I) > max_{j != c} z_j(I) else 0, where z = model(I) and c = label

    Its mean over images is the accuracy. A tie is no answer, so that a model that has lost all
    information is not counted as right.

    Args:
      model: callable PyTree from one image (h, w, c) to logits (k,), of at least two classes.
      label: the class, an integer in 0 .. k - 1; a traced one is welcome.

    Returns:
      A callable PyTree from one image (h, w, c) to 0.0 or 1.0. When a label is traced and out of
      range, it is nan. Its gradient is 0: it is for measuring, not for explaining.

    Raises:
      TypeError: the model is not callable, the label is not an integer, or the model's answer is
        not floating point.
      ValueError: the label is not a scalar; when the score is called, the label is not in
        0 .. k - 1, there is one class only, or the model's answer is not of shape (k,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> def model(image):
      ...     return jnp.stack([image.sum(), -image.sum()])
      >>> print(metrics.accuracy(model, 0)(jnp.ones((2, 2, 1))))
      1.0

    Reference:
      Kapishnikov, Bolukbasi, Viegas, Terry, XRAI: Better Attributions Through Regions, 2019,
      arXiv:1906.02825, on accuracy information curves.
    """
    return Objective(_is_positive, scores.margin(model, label))


def _exp(log_prob: Score, image: Image) -> Scalar:
    return jnp.exp(log_prob(image))


def _is_positive(margin: Score, image: Image) -> Scalar:
    # Unlike a comparison, it hands on the nan of a label out of range.
    return jnp.maximum(jnp.sign(margin(image)), 0)
