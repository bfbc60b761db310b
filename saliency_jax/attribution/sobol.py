"""Sobol indices: the share of the score's variance that a segment has a part in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Baseline, Count, Image, Key, SaliencyMap, Score
from .._validation import check_count, check_image
from ._chunks import map_chunked
from .baselines import as_baseline, zeros
from .occlusion import Segments, check_segments, paint


def total_sobol_indices(
    score: Score,
    image: Image,
    *,
    segments: Segments,
    key: Key,
    num_segments: Count | None = None,
    num_samples: Count = 32,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Total Sobol indices: the share of the score's variance that is lost with a segment's.

    M_ij = E[Var(S(x(m)) | m without m_s)] / Var(S(x(m))), s = segments_ij
         ~ 1 / (2 N) sum_k (S(x(a_k)) - S(x(a_k with b_ks for a_ks)))^2 / Var

    x(m) = B + m (I - B), each segment blended with the baseline by a number m_s of its own, uniform
    in [0, 1]. The points (a_k, b_k) are a Latin hypercube; Var is the variance of all scores that
    are evaluated, of which there is one more for each sample than there are segments. A segment's
    interactions count with each of their partners, so that the indices add up to 1 or more.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      segments: (h, w) of integers in 0 .. num_segments - 1: any segmentation, in the paper a grid:
        see `grid_segments`. A traced one is welcome.
      key: a JAX random key; equal keys give equal points.
      num_segments: their number, at least 1; by default the largest plus 1, if segments are known.
      num_samples: the number N of samples, at least 1.
      baseline: what a segment is blended with: an array (h, w, c) in the image's range, or a
        function of the image.
      batch_size: how many images are evaluated at once, at least 1: beside them, only a few numbers
        for each sample and segment are held, and the result changes by rounding alone.

    Returns:
      The saliency map (h, w): at least 0, a share of the variance, and each pixel has its whole
      segment's value. Of a constant score it is 0, of a linear one d_s^2 / sum_t d_t^2, up to
      sampling error, where d_s is the segment's part of S(I) - S(B). A traced segment out of range
      gives nan everywhere.

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
      >>> image, segments = jnp.ones((1, 3, 1)), jnp.array([[0, 1, 2]])
      >>> def score(image):
      ...     return 4 * image[0, 0, 0] + 3 * image[0, 1, 0]
      >>> print(attribution.total_sobol_indices(
      ...     score, image, segments=segments, key=jax.random.key(0), num_samples=10_000
      ... ).round(1))
      [[0.6 0.4 0. ]]

    Reference:
      Fel, Cadene, Chalvidal, Cord, Vigouroux, Serre, Look at the Variance! Efficient Black-box
      Explanations with Sobol-based Sensitivity Analysis, 2021, arXiv:2111.04138. Jansen, Analysis
      of Variance Designs for Model Output, Computer Physics Communications 117, 1999, on the
      estimator (not on arXiv).
    """
    check_image(image)
    count = check_segments(segments, num_segments, image)
    check_count("num_samples", num_samples, 1)
    instead = as_baseline(baseline, image)
    points = latin_hypercube(key, int(num_samples), 2 * count)
    first, second = points[:, :count], points[:, count:]

    def of_blend(sample):
        which, replaced = sample
        blend = jnp.where(jnp.arange(count) == replaced, second[which], first[which])
        return score(instead + paint(blend, segments)[..., None] * (image - instead))

    # The last column replaces nothing.
    which, replaced = jnp.indices((int(num_samples), count + 1))
    values = map_chunked(of_blend, (which.ravel(), replaced.ravel()), batch_size)
    values = values.reshape(which.shape)
    lost = jnp.square(values[:, :count] - values[:, count:]).mean(0) / 2
    variance = values.var()
    return paint(lost / jnp.where(variance == 0, 1, variance), segments)


def latin_hypercube(key: Key, num_samples: int, dimensions: int) -> Float[Array, "n d"]:
    """Random points in the unit cube: along any axis, one in each of num_samples equal slices.

    With the tens of segments and samples that are usual here, they estimate total indices as well
    as a shifted or scrambled Sobol sequence does, whose points are even in few dimensions only.
    """
    order_key, place_key = jax.random.split(key)
    shape = (num_samples, dimensions)
    slices = jnp.broadcast_to(jnp.arange(num_samples)[:, None], shape)
    slices = jax.random.permutation(order_key, slices, independent=True)
    return (slices + jax.random.uniform(place_key, shape)) / num_samples
