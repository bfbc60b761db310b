"""Gradient alignment: how much a gradient looks like the image that it was taken at."""

import jax
import jax.numpy as jnp

from .. import scores
from .._types import Attribution, Baseline, Image, Model, Scalar
from .._validation import check_array, check_image
from ..attribution.baselines import as_baseline, mean_color
from ..attribution.gradient import input_gradient


def gradient_alignment(
    gradient: Attribution, image: Image, *, baseline: Baseline = mean_color
) -> Scalar:
    """The cosine between a gradient and the centred image, whatever its sign.

    C = |<A, I - B>| / (|A| |I - B|)

    Higher is more alike. Adversarially trained models have larger values than standard ones.

    Traps: it is small for all models, about 1 / sqrt(number of values) for a random gradient, and
    gradients as well as images being smooth raises it without any likeness: compare with the same
    gradient and another image, paired per image. It says nothing of whether the gradient is right.

    Args:
      gradient: A (h, w, c), such as `attribution.input_gradient(score, image)`, of any unit.
      image: (h, w, c), in any range.
      baseline: what is subtracted from the image: an array (h, w, c), or a function of the image.
        The default is its own mean colour; `Partial(baselines.constant, color=mean)` takes the mean
        of a data set.

    Returns:
      The absolute cosine, in [0, 1]. For a gradient that is 0, or an image that is its baseline, it
      is undefined: nan.

    Raises:
      TypeError: an array does not hold floats.
      ValueError: the image is not of shape (h, w, c), gradient or baseline have another shape, or
        image or baseline is known and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, metrics
      >>> image = jnp.array([[[3.0], [4.0]]])
      >>> gradient = attribution.input_gradient(lambda image: image[0, 0, 0], image)
      >>> print(metrics.gradient_alignment(gradient, image, baseline=jnp.zeros((1, 2, 1))))
      0.6

    Reference:
      Etmann, Lunz, Maass, Schoenlieb, On the Connection Between Adversarial Robustness and Saliency
      Map Interpretability, 2019, arXiv:1905.04172, whose measure is `etmann_alignment`; centred and
      divided by the image's norm it depends on neither brightness nor contrast.
    """
    check_image(image)
    check_array("gradient", gradient, ("h", "w", "c"))
    if gradient.shape != image.shape:
        raise ValueError(
            f"expected gradient to have the image's shape {image.shape}, got {gradient.shape}"
        )
    return jnp.abs(jnp.sum(_unit(gradient) * _unit(image - as_baseline(baseline, image))))


def etmann_alignment(model: Model, image: Image) -> Scalar:
    """Etmann's alignment: the image along the direction of the predicted class's gradient.

    alpha(I) = |<I, g>| / |g|, g = dS_c/dI, where S_c is the logit of the predicted class
    c = argmax_j S_j(I)

    Higher is more alike. For a linear model without biases it is, but for the sign, the distance to
    where the logit is 0.

    Traps: it grows with the image's norm, so that it falls in proportion when an image is merely
    darkened: for images that are scaled use `gradient_alignment`, a cosine. It depends on where the
    range has its zero: subtracting a mean inside or outside the model gives other values.

    Args:
      model: callable PyTree from one image (h, w, c) to logits (k,).
      image: (h, w, c), in the range that the model takes.

    Returns:
      alpha, at least 0 and at most the image's norm, in its units. Where the gradient is 0 it is
      undefined: nan.

    Raises:
      TypeError: the image or the model's answer does not hold floats.
      ValueError: the image is not of shape (h, w, c) or known and not finite, or the model's answer
        is not of shape (k,).

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> def model(image):
      ...     return jnp.stack([image.sum(), image[0, 0, 0]])
      >>> print(metrics.etmann_alignment(model, jnp.full((2, 2, 1), 3.0)))
      6.0

    Reference:
      Etmann, Lunz, Maass, Schoenlieb, On the Connection Between Adversarial Robustness and Saliency
      Map Interpretability, 2019, arXiv:1905.04172.
    """
    check_image(image)
    predicted = jnp.argmax(model(image))
    gradient = input_gradient(scores.logit(model, predicted), image)
    return jnp.abs(jnp.sum(image * _unit(gradient)))


def _unit(values: jax.Array) -> jax.Array:
    # The squares of small gradients would vanish in float32.
    relative = values / jnp.max(jnp.abs(values))
    return relative / jnp.sqrt(jnp.sum(relative**2))
