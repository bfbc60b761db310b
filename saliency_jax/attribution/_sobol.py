"""Sobol indices: the share of the score's variance that a segment has a part in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import map_chunked
from .._types import Baseline, Count, Image, Key, SaliencyMap, ScoreFunction
from .._validation import check_count, check_key
from ..baselines import zeros
from ..segments import Segments, paint
from ._parts import score_of_shown


def total_sobol_indices(
    score: ScoreFunction,
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

    x(m) = m I + (1 - m) B, each segment blended with the baseline by a number m_s of its own,
    uniform in [0, 1]. The points (a_k, b_k) are a Latin hypercube; Var is the variance of all
    scores that are evaluated, of which there is one more for each sample than there are segments. A
    segment's interactions count with each of their partners, so that the indices add up to 1 or
    more.

    Args:
      score, image, segments, num_segments, key, num_samples, baseline, batch_size: see the
        room. A segment is blended with the baseline; in the paper segments are a grid:
        `segments.grid_segments`.

    Returns:
      The saliency map (h, w): at least 0, a share of the variance. Of a constant score it is 0, of
      a linear one d_s^2 / sum_t d_t^2, up to sampling error, where d_s is the segment's part of
      S(I) - S(B).

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
    image, value, numbered, count = score_of_shown(score, image, segments, num_segments, baseline)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 1)
    points = latin_hypercube(key, num_samples, 2 * count)
    first, second = points[:, :count], points[:, count:]

    def value_of_blend(sample):
        which, replaced = sample
        return value(jnp.where(jnp.arange(count) == replaced, second[which], first[which]))

    # The last column replaces nothing.
    which, replaced = jnp.indices((num_samples, count + 1))
    values = map_chunked(value_of_blend, (which.ravel(), replaced.ravel()), batch_size)
    values = values.reshape(which.shape)
    lost = jnp.square(values[:, :count] - values[:, count:]).mean(0) / 2
    variance = values.var()
    indices = lost / jnp.where(variance == 0, 1, variance)
    return paint(indices.astype(image.dtype), numbered)


def latin_hypercube(key: Key, num_samples: int, dimensions: int) -> Float[Array, "n d"]:
    """Random points in the unit cube: along any axis, one in each of num_samples equal slices.

    With the tens of segments and samples that are usual here, they estimate total indices as well
    as a shifted or scrambled Sobol sequence does, whose points are even in few dimensions only.
    """
    # In single precision whatever the image's: the same points for every dtype.
    order_key, place_key = jax.random.split(key)
    shape = (num_samples, dimensions)
    slices = jnp.broadcast_to(jnp.arange(num_samples)[:, None], shape)
    slices = jax.random.permutation(order_key, slices, independent=True)
    places = jax.random.uniform(place_key, shape, jnp.float32)
    return (slices.astype(places.dtype) + places) / num_samples
