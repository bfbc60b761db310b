"""Kernel SHAP: Shapley values of an image's segments as the solution of one weighted regression."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._chunks import map_chunked
from .._types import Baseline, Count, Image, Key, SaliencyMap, ScoreFunction
from .._validation import check_count, check_key
from ..baselines import zeros
from ..segments import Segments, paint
from ._parts import score_of_shown

# The samples vary about alike in every direction but that of equal values, where they do not vary
# at all: a singular value is near the largest, or it is rounding.
_RCOND = 1e-4


def kernel_shap(
    score: ScoreFunction,
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
      score, image, segments, num_segments, key, baseline, batch_size: see the room. Where all
        z are taken the key has no effect.
      num_samples: the number of images evaluated at most, at least 4: the image and the baseline
        are two of them. The 2,048 take all z of up to 11 segments.

    Returns:
      The signed map (h, w), in units of the score: each segment's value.

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
    image, value, numbered, count = score_of_shown(score, image, segments, num_segments, baseline)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 4)
    if 2**count <= num_samples:
        shown, weight_of_size = _all(count)
    else:
        shown, weight_of_size = _drawn(key, count, num_samples)
    values = map_chunked(value, shown, batch_size)
    gains = values - values[0]
    inputs = shown.astype(values.dtype)
    share = inputs.mean(1)
    # In phi = (S(I) - S(B)) / d + psi, psi adds up to 0, so that it sees of z what is left when its
    # mean is taken off. The smallest solution of these equations has no sum.
    root = jnp.sqrt(jnp.asarray(weight_of_size, values.dtype))[shown.sum(1)]
    centred = inputs - share[:, None]
    psi, *_ = jnp.linalg.lstsq(root[:, None] * centred, root * (gains - share * gains[-1]), _RCOND)
    return paint((gains[-1] / count + psi).astype(image.dtype), numbered)


def _all(count: int) -> tuple[Bool[Array, "n d"], Float[np.ndarray, "sizes"]]:
    """Every z, from none of the segments to all, and p by |z|; these two are exact without it."""
    between = range(1, count)
    kernel = [(count - 1) / (math.comb(count, z) * z * (count - z)) for z in between]
    shown = (jnp.arange(2**count)[:, None] >> jnp.arange(count)[None]) & 1 == 1
    return shown, np.array([0.0, *kernel, 0.0])


def _drawn(
    key: Key, count: int, num_samples: int
) -> tuple[Bool[Array, "n d"], Float[np.ndarray, "sizes"]]:
    """As many z, drawn in pairs between the one of no segments and that of all; each counts 1."""
    size_key, order_key = jax.random.split(key)
    between = np.arange(1, count)
    odds = 1 / between / (count - between)
    pairs = -(-(num_samples - 2) // 2)
    # Drawn in single precision whatever the image's: the same samples for every dtype.
    sizes = jax.random.choice(
        size_key, jnp.asarray(between), (pairs, 1), p=jnp.float32(odds / odds.sum())
    )
    orders = jax.vmap(jax.random.permutation, in_axes=(0, None))(
        jax.random.split(order_key, pairs), count
    )
    first = orders < sizes
    drawn = jnp.stack([first, ~first], axis=1).reshape(-1, count)[: num_samples - 2]
    shown = jnp.concatenate([jnp.zeros((1, count), bool), drawn, jnp.ones((1, count), bool)])
    return shown, np.ones(count + 1)
