"""Shapley values of an image's segments, sampled by the order in which they are shown."""

import jax
import jax.numpy as jnp

from .._chunks import map_chunked
from .._types import Baseline, Count, Image, Key, SaliencyMap, ScoreFunction
from .._validation import check_count, check_key
from ..baselines import zeros
from ..segments import Segments, paint
from ._parts import score_of_shown


def sampled_shapley_values(
    score: ScoreFunction,
    image: Image,
    *,
    segments: Segments,
    key: Key,
    num_segments: Count | None = None,
    num_samples: Count = 100,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Shapley values: what a segment adds to the score, on average over all orders of showing them.

    M_ij = E_pi [S(x(P u {s})) - S(x(P))], s = segments_ij, P the segments before s in the order pi

    x(P) is the image in the segments P and the baseline elsewhere. The expectation is the mean over
    num_samples random orders, each of which takes one score more than there are segments. For every
    order the segments' values add up to S(I) - S(B), so that they do so exactly.

    Args:
      score, image, segments, num_segments, key, baseline, batch_size: see the room.
      num_samples: the number of orders, at least 1.

    Returns:
      The signed map (h, w), in units of the score: each segment's value. Of a linear score it is
      exact, whatever the orders.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(attribution.sampled_shapley_values(
      ...     jnp.sum, image, segments=jnp.array([[0, 1, 1]]), key=jax.random.key(0)
      ... ))
      [[1. 6. 6.]]

    Reference:
      Strumbelj, Kononenko, An Efficient Explanation of Individual Classifications Using Game
      Theory, Journal of Machine Learning Research 11, 2010 (not on arXiv). Lundberg, Lee, A Unified
      Approach to Interpreting Model Predictions, 2017, arXiv:1705.07874.
    """
    image, value, numbered, count = score_of_shown(score, image, segments, num_segments, baseline)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 1)
    orders = jax.vmap(jax.random.permutation, in_axes=(0, None))(
        jax.random.split(key, num_samples), count
    )

    def value_of_first(sample):
        which, length = sample
        return value(orders[which] < length)

    which, length = jnp.indices((num_samples, count + 1))
    values = map_chunked(value_of_first, (which.ravel(), length.ravel()), batch_size)
    gains = jnp.diff(values.reshape(which.shape), axis=1)
    # orders[k, s] is the place of segment s, whose gain is that of the place.
    mean = jnp.take_along_axis(gains, orders, axis=1).mean(0)
    return paint(mean.astype(image.dtype), numbered)
