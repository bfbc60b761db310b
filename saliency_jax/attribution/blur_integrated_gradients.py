"""Blur integrated gradients: the path from the image to its blurred self, with no baseline."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._types import Attribution, Count, Image, Number, Score
from .._validation import check_at_least, check_count, check_image
from ..filters import gaussian_blur
from ._chunks import sum_chunked
from .gradient import input_gradient
from .integrated_gradients import Rule, gauss_legendre


def blur_integrated_gradients(
    score: Score,
    image: Image,
    *,
    max_sigma: Number = 50.0,
    steps: Count = 64,
    blur: Callable[[Image, Number], Image] = gaussian_blur,
    rule: Rule = gauss_legendre,
    batch_size: Count = 16,
) -> Attribution:
    """Blur integrated gradients: the score's change along the path of ever less blurred images.

    A = - int_0^1 dS/dI (L(a)) dL/da (a) da with L(a) = blur(I, max_sigma a^2)

    The path's speed is its exact derivative, not a difference of two blurs. The integral does not
    depend on how fast sigma grows along the path; a^2 puts most steps where the image changes most.
    The attributions add up to S(I) - S(blur(I, max_sigma)), up to the error of the quadrature.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      max_sigma: the Gaussian's standard deviation at the path's blurred end, at least 0, in pixels.
        A traced one is welcome.
      steps: the number of gradients, at least 1.
      blur: (image, sigma) -> blurred image, differentiable in sigma. The paper's, and the default,
        goes to black, as outside the image all is zero; `baselines.blur` goes to the mean colour.
      rule: the quadrature: n -> nodes (n,) in [0, 1] and weights (n,), as for
        `integrated_gradients`.
      batch_size: how many gradients are evaluated at once, at least 1: memory does not grow with
        steps, and the result changes by rounding alone.

    Returns:
      The attribution (h, w, c): signed, in units of the score. With max_sigma 0 it is 0.

    Raises:
      TypeError: the image does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, a count is below
        1, or max_sigma is known and negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.zeros((5, 5, 1)).at[1, 1].set(0.7)
      >>> def score(image):
      ...     return jnp.sin(image).sum()
      >>> of_blur = attribution.blur_integrated_gradients(score, image, max_sigma=10.0)
      >>> print(of_blur[1, 1].round(3))
      [0.643]

    Reference:
      Xu, Venugopalan, Sundararajan, Attribution in Scale and Space, 2020, arXiv:2004.03383.
    """
    check_image(image)
    check_at_least("max_sigma", max_sigma, 0)
    check_count("steps", steps, 1)
    nodes, weights = (jnp.asarray(values, image.dtype) for values in rule(int(steps)))

    def at_scale(position):
        return blur(image, max_sigma * position**2)

    def weighted_gradient(sample):
        node, weight = sample
        blurred, velocity = jax.jvp(at_scale, (node,), (jnp.ones_like(node),))
        return -weight * velocity * input_gradient(score, blurred)

    return sum_chunked(weighted_gradient, (nodes, weights), batch_size)
