"""Gradient alignment: how much a gradient looks like the image that it was taken at."""

import jax.numpy as jnp

from .. import scores
from .._numerics import at_least_single, cosine, direction, norm
from .._pytrees import as_pytree
from .._types import AnyAttribution, Baseline, Image, Model, Scalar
from .._validation import as_array, as_image, checked_together
from ..attribution._gradient import input_gradient
from ..baselines import as_baseline, mean_color


def gradient_alignment(
    gradient: AnyAttribution, image: Image, *, baseline: Baseline = mean_color
) -> Scalar:
    """The cosine between a gradient and the centred image, whatever its sign.

    C = |<A, I - B>| / (|A| |I - B|)

    Higher is more alike. Adversarially trained models have larger values than standard ones.

    Traps: it is small for all models, about 1 / sqrt(number of values) for a random gradient, and
    gradients as well as images being smooth raises it without any likeness: compare with the same
    gradient and another image, paired per image. It says nothing of whether the gradient is right.

    Args:
      gradient: A (h, w, c), such as `attribution.input_gradient(score, image)`, of any unit.
      image: see the room; in any range.
      baseline: what is subtracted from the image. The default is its own mean colour;
        `Partial(baselines.constant, color=mean)` takes the mean of a data set.

    Returns:
      The absolute cosine, in [0, 1]. For a gradient that is 0, or an image that is its baseline, it
      is undefined: nan.

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
    with checked_together():
        image = as_image(image)
        gradient = as_array("gradient", gradient, ("h", "w", "c"))
        start = as_baseline(baseline, image)
    if gradient.shape != image.shape:
        raise ValueError(
            f"expected gradient to have the image's shape {image.shape}, got {gradient.shape}"
        )
    return jnp.abs(cosine(gradient, at_least_single(image) - at_least_single(start)))


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
      model, image: see the room.

    Returns:
      alpha, at least 0 and at most the image's norm, in its units. Where the gradient is 0 it is
      undefined: nan.

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
    image, model = as_image(image), as_pytree(model, "model")
    predicted = jnp.argmax(model(image))
    gradient = jnp.asarray(input_gradient(scores.logit(model, predicted), image))
    along = direction(at_least_single(gradient))
    # The direction's length is 1, or 0 where there is none.
    return jnp.abs(jnp.sum(at_least_single(image) * along)) / norm(along)
