"""Kernel SHAP: Shapley values of an image's segments as the solution of one weighted regression."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import Baseline, Count, Image, Key, SaliencyMap, Score
from .._validation import check_count, check_image
from ._chunks import map_chunked
from .baselines import as_baseline, zeros
from .occlusion import Segments, check_segments, paint

# The samples vary about alike in every direction but that of equal values, where they do not vary
# at all: a singular value is near the largest, or it is rounding.
_RCOND = 1e-4


def kernel_shap(
    score: Score,
    image: Image,
    *,
    segments: Segments,
    key: Key,
    num_segments: Count | None = None,
    num_samples: Count = 2048,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """Kernel SHAP: the segments' Shapley values, by a regression on which of them are seen.

    M_ij = phi_s, s = segments_ij
    phi = argmin sum_z p(z) (S(x(z)) - S(B) - phi z)^2, so that sum_s phi_s = S(I) - S(B)
    p(z) = (d - 1) / (C(d, |z|) |z| (d - |z|)), 0 < |z| < d

    x(z) is the image in the segments where z is 1 and the baseline B where it is 0. Where there are
    samples enough for all 2^d z, each is taken once, and phi are the Shapley values themselves.
    Else z are drawn from p: first |z|, in proportion to 1 / (|z| (d - |z|)), then which; each is
    followed by its complement, which leaves no error where segments act alone or in twos. The
    constraint is kept exactly in either case. Where the samples do not determine phi, it is the one
    nearest to equal values.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      segments: (h, w) of integers in 0 .. num_segments - 1: any segmentation. A traced one is
        welcome.
      key: a JAX random key; equal keys give equal samples. Without effect where all z are taken.
      num_segments: their number d, at least 1; by default the largest plus 1, if segments are
        known.
      num_samples: the number of images evaluated at most, at least 4: the image and the baseline
        are two of them. The 2,048 take all z of up to 11 segments.
      baseline: what is shown in hidden segments: an array (h, w, c) in the image's range, or a
        function of the image.
      batch_size: how many images are evaluated at once, at least 1: beside them, only one score and
        one z are held for each sample, and the result changes by rounding alone.

    Returns:
      The signed map (h, w), in units of the score: each pixel has its whole segment's value. A
      traced segment out of range gives nan.

    Raises:
      TypeError: the image or the baseline does not hold floats, a count is no integer, or segments
        are traced and their number is not given.
      ValueError: the image is not of shape (h, w, c), segments are not of shape (h, w) or known and
        out of range, the baseline is not of the image's shape, image or baseline is known and not
        finite, or a count is below its least.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.array([[[1.0], [2.0], [4.0]]])
      >>> print(attribution.kernel_shap(
      ...     jnp.prod, image, segments=jnp.array([[0, 1, 1]]), key=jax.random.key(0)
      ... ).round(3))
      [[4. 4. 4.]]

    Reference:
      Lundberg, Lee, A Unified Approach to Interpreting Model Predictions, 2017, arXiv:1705.07874.
      Covert, Lee, Improving KernelSHAP, 2020, arXiv:2012.01536, on samples with their complements.
    """
    check_image(image)
    count = check_segments(segments, num_segments, image)
    check_count("num_samples", num_samples, 4)
    instead = as_baseline(baseline, image)

    def of_shown(shown):
        return score(jnp.where(shown[jnp.asarray(segments)][..., None], image, instead))

    if 2**count <= int(num_samples):
        shown, weights = _all(count)
    else:
        shown, weights = _drawn(key, count, int(num_samples))
    values = map_chunked(of_shown, shown, batch_size)
    gains = values - values[0]
    share = shown.mean(1, dtype=values.dtype)
    # In phi = (S(I) - S(B)) / d + psi, psi adds up to 0, so that it sees of z what is left when its
    # mean is taken off. The smallest solution of these equations has no sum.
    root = jnp.sqrt(weights)
    centred = shown - share[:, None]
    psi, *_ = jnp.linalg.lstsq(root[:, None] * centred, root * (gains - share * gains[-1]), _RCOND)
    return paint(gains[-1] / count + psi, segments)


def _all(count: int) -> tuple[Bool[Array, "n d"], Float[Array, "n"]]:
    """Every z and its p, from none of the segments to all; p is 0 at these two, which are exact."""
    between = range(1, count)
    kernel = [(count - 1) / (math.comb(count, z) * z * (count - z)) for z in between]
    shown = (jnp.arange(2**count)[:, None] >> jnp.arange(count)[None]) & 1 == 1
    return shown, jnp.array([0.0, *kernel, 0.0])[shown.sum(1)]


def _drawn(key: Key, count: int, num_samples: int) -> tuple[Bool[Array, "n d"], Float[Array, "n"]]:
    """As many z, drawn in pairs between the one of no segments and that of all; each counts 1."""
    size_key, order_key = jax.random.split(key)
    between = jnp.arange(1, count)
    odds = 1 / between / (count - between)
    pairs = -(-(num_samples - 2) // 2)
    sizes = jax.random.choice(size_key, between, (pairs, 1), p=odds / odds.sum())
    orders = jax.vmap(jax.random.permutation, in_axes=(0, None))(
        jax.random.split(order_key, pairs), count
    )
    first = orders < sizes
    drawn = jnp.stack([first, ~first], axis=1).reshape(-1, count)[: num_samples - 2]
    shown = jnp.concatenate([jnp.zeros((1, count), bool), drawn, jnp.ones((1, count), bool)])
    return shown, jnp.ones(num_samples)
