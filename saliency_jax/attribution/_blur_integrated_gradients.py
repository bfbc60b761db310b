"""Blur integrated gradients: the path from the image to its blurred self, with no baseline."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._chunks import sum_chunked
from .._numerics import at_least_single
from .._types import Attribution, Count, Image, Number, ScoreFunction
from .._validation import as_image, as_number, check_callable
from ..filters import gaussian_blur
from ..scores import as_score
from ._gradient import input_gradient
from ._integrated_gradients import Rule, gauss_legendre, nodes_and_weights


def blur_integrated_gradients(
    score: ScoreFunction,
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
      score, image, steps, rule, batch_size: see the room.
      max_sigma: the Gaussian's standard deviation at the path's blurred end, at least 0, in pixels.
      blur: (image, sigma) -> blurred image, differentiable in sigma. The paper's, and the default,
        goes to black, as outside the image all is zero; `filters.blur` goes to the mean colour.

    Returns:
      The attribution (h, w, c): signed, in units of the score. With max_sigma 0 it is 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.zeros((5, 5, 1)).at[1, 1].set(0.7)
      >>> def score(image):
      ...     return jnp.sin(image).sum()
      >>> shares = attribution.blur_integrated_gradients(score, image, max_sigma=10.0)
      >>> print(shares[1, 1].round(3))
      [0.643]

    Reference:
      Xu, Venugopalan, Sundararajan, Attribution in Scale and Space, 2020, arXiv:2004.03383.
    """
    image, score = as_image(image), as_score(score)
    check_callable("blur", blur)
    sharp = at_least_single(image)
    largest = jnp.asarray(as_number("max_sigma", max_sigma, 0), sharp.dtype)

    def at_scale(position):
        return as_image(blur(sharp, largest * position**2), "blur's result")

    def weighted_gradient(sample):
        node, weight = sample
        blurred, velocity = jax.jvp(at_scale, (node,), (jnp.ones_like(node),))
        gradient = at_least_single(input_gradient(score, blurred.astype(image.dtype)))
        return -weight * velocity * gradient

    samples = nodes_and_weights(rule, steps, sharp.dtype)
    return sum_chunked(weighted_gradient, samples, batch_size).astype(image.dtype)
