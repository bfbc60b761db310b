"""Guided integrated gradients: a path that moves first where the score is least sensitive."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import Attribution, Baseline, Count, Image, Number, ScoreFunction
from .._validation import as_image, as_number, check_count, checked_together
from ..baselines import as_baseline, zeros
from ..scores import as_score
from ._gradient import input_gradient


def guided_integrated_gradients(
    score: ScoreFunction,
    image: Image,
    *,
    baseline: Baseline = zeros,
    steps: Count = 200,
    fraction: Number = 0.1,
    max_dist: Number = 0.02,
) -> Attribution:
    """Guided integrated gradients: integrated gradients on a path around what is noisy.

    A = sum_k (x_{k+1} - x_k) (g_k + g_{k+1}) / 2 with g_k = dS/dI (x_k), x_0 = B, x_n = I

    Write x_k = B + p_k (I - B) with one progress p in [0, 1] for each value of the image. Step k
    brings the path's whole L1 length sum |I - B| p to its share k / n. Progress below
    k / n - max_dist is raised to that; then the values move in order of rising |g|, in blocks that
    hold `fraction` of all values, as far as k / n + max_dist: block after block, and the last one
    needed by the part that is needed.

    The mean of the gradients at both ends of a step takes no evaluation more than the gradient at
    its start and is exact for quadratic scores: completeness improves as 1 / n^2 and not as 1 / n.

    Args:
      score, image, baseline: see the room.
      steps: the number of steps n, at least 1; each waits for the one before, and takes one
        gradient.
      fraction: the share of all values in a block, above 0 and at most 1. A Python number: it sets
        the shape of the blocks.
      max_dist: the largest distance of progress from the straight path's, in [0, 1].

    Returns:
      The attribution (h, w, c): signed, in units of the score. With max_dist 0 it is
      `integrated_gradients` by the trapezoid rule with n + 1 nodes.

    Example:
      The second value, where the score is less sensitive, moves first and gets less:

      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(image):
      ...     return (1 + 2 * image[0, 0, 0] + image[0, 1, 0]) ** 2
      >>> image = jnp.full((1, 2, 1), 3.0)
      >>> guided = attribution.guided_integrated_gradients(score, image, max_dist=1.0)
      >>> print(guided.squeeze().round(2))
      [84. 15.]

    Reference:
      Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi, Guided Integrated Gradients: An
      Adaptive Path Method for Removing Noise, 2021, arXiv:2106.09788.
    """
    with checked_together():
        image, score = as_image(image), as_score(score)
        start = at_least_single(as_baseline(baseline, image))
    steps = check_count("steps", steps, 1)
    max_dist = as_number("max_dist", max_dist, 0)
    if not isinstance(fraction, int | float):
        raise TypeError(f"expected fraction to be a Python number (static), got {fraction!r}")
    if not 0 < fraction <= 1:
        raise ValueError(f"expected fraction to be in (0, 1], got {fraction}")
    difference = at_least_single(image) - start
    reach = jnp.asarray(max_dist, start.dtype)
    length = jnp.abs(difference).ravel()
    block_size = max(1, int(fraction * image.size))

    def step(carry, share):
        progress, gradient, attribution = carry
        lowest = jnp.clip(share - reach, 0, 1)
        highest = jnp.clip(share + reach, 0, 1)
        raised = jnp.maximum(progress, lowest)
        capacity = length * (highest - raised)
        needed = share * length.sum() - (length * raised).sum()
        part = _fill(capacity, needed, jnp.abs(gradient).ravel(), block_size)
        # In the form that is exact where part is 1, so that the path ends in the image.
        moved = part * highest + (1 - part) * raised
        point = (start + moved.reshape(image.shape) * difference).astype(image.dtype)
        new_gradient = at_least_single(input_gradient(score, point))
        change = (moved - progress).reshape(image.shape) * difference
        new_attribution = attribution + change * (gradient + new_gradient) / 2
        return (moved, new_gradient, new_attribution), None

    # The first share, 0, moves nothing: it fetches the gradient at the baseline.
    shares = jnp.linspace(0, 1, steps + 1, dtype=start.dtype)
    nothing = jnp.zeros_like(start)
    _, _, total = jax.lax.scan(step, (nothing.ravel(), nothing, nothing), shares)[0]
    return total.astype(image.dtype)


def _fill(
    capacity: Float[Array, "n"],
    needed: Float[Array, ""],
    order_by: Float[Array, "n"],
    block_size: int,
) -> Float[Array, "n"]:
    """The part in [0, 1] of every capacity that is used when blocks in rising order are filled."""
    count = capacity.size
    order = jnp.argsort(jnp.where(capacity > 0, order_by, jnp.inf))
    padded = jnp.pad(capacity[order], (0, -count % block_size))
    block = padded.reshape(-1, block_size).sum(1)
    filled_before = jnp.cumsum(block) - block
    part = jnp.where(block > 0, (needed - filled_before) / jnp.where(block > 0, block, 1), 0)
    part = jnp.repeat(jnp.clip(part, 0, 1), block_size)[:count]
    return jnp.zeros_like(part).at[order].set(part)
