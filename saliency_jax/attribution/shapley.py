"""Shapley values of an image's segments, sampled by the order in which they are shown."""

import jax
import jax.numpy as jnp

from .._types import Baseline, Count, Image, Key, SaliencyMap, Score
from .._validation import check_count, check_image
from ._chunks import map_chunked
from .baselines import as_baseline, zeros
from .occlusion import Segments, check_segments, paint


def sampled_shapley_values(
    score: Score,
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
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      segments: (h, w) of integers in 0 .. num_segments - 1: any segmentation. A traced one is
        welcome.
      key: a JAX random key; equal keys give equal orders.
      num_segments: their number, at least 1; by default the largest plus 1, if segments are known.
      num_samples: the number of orders, at least 1.
      baseline: what is shown in hidden segments: an array (h, w, c) in the image's range, or a
        function of the image.
      batch_size: how many images are evaluated at once, at least 1: beside them, only one score for
        each order and segment is held, and the result changes by rounding alone.

    Returns:
      The signed map (h, w), in units of the score: each pixel has its whole segment's value. A
      traced segment out of range gives nan. Of a linear score it is exact, whatever the orders.

    Raises:
      TypeError: the image or the baseline does not hold floats, a count is no integer, or segments
        are traced and their number is not given.
      ValueError: the image is not of shape (h, w, c), segments are not of shape (h, w) or known and
        out of range, the baseline is not of the image's shape, image or baseline is known and not
        finite, or a count is below 1.

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
    check_image(image)
    count = check_segments(segments, num_segments, image)
    check_count("num_samples", num_samples, 1)
    instead = as_baseline(baseline, image)
    orders = jax.vmap(jax.random.permutation, in_axes=(0, None))(
        jax.random.split(key, int(num_samples)), count
    )

    def of_first(sample):
        which, shown = sample
        is_shown = (orders[which] < shown)[jnp.asarray(segments)]
        return score(jnp.where(is_shown[..., None], image, instead))

    which, shown = jnp.indices((int(num_samples), count + 1))
    values = map_chunked(of_first, (which.ravel(), shown.ravel()), batch_size)
    gains = jnp.diff(values.reshape(which.shape), axis=1)
    # orders[k, s] is the place of segment s, whose gain is that of the place.
    return paint(jnp.take_along_axis(gains, orders, axis=1).mean(0), segments)
