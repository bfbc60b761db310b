"""RISE: the mean of random smooth masks, each weighted by the score of what it lets through."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Baseline, Count, Image, Key, Number, SaliencyMap, Score
from .._validation import check_at_least, check_count, check_image
from ._chunks import mean_chunked
from .baselines import as_baseline, zeros


def rise(
    score: Score,
    image: Image,
    *,
    key: Key,
    num_samples: Count = 4000,
    cells: tuple[int, int] = (7, 7),
    probability: Number = 0.5,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """RISE: how high the score is on average when a pixel is seen.

    M_ij = 1 / (p N) sum_k S(B + m_k (I - B)) m_kij

    A mask m_k is a grid of independent cells, 1 with probability p and else 0, resized bilinearly
    to one cell more than the image on either axis, and cropped to the image at a random place.
    Every pixel's expected mask is p.

    Args:
      score: callable PyTree from one image to a scalar, such as a probability: the paper's map has
        its meaning for a score that is not negative.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      key: a JAX random key; equal keys give equal masks.
      num_samples: the number N of masks, at least 1.
      cells: (rows, columns) of the grid, each at least 1.
      probability: p, above 0 and at most 1, that a cell is seen. A traced one is welcome.
      baseline: what is shown where nothing is seen: an array (h, w, c) in the image's range, or a
        function of the image.
      batch_size: how many masks are evaluated at once, at least 1: memory does not grow with
        num_samples, and the result changes by rounding alone.

    Returns:
      The saliency map (h, w), in units of the score. With probability 1 it is S(I) everywhere.

    Raises:
      TypeError: the image or the baseline does not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), the baseline is not of the image's shape, one
        of them is known and not finite, a count is below 1, or the probability is known and not in
        (0, 1].

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.ones((4, 4, 1))
      >>> def corner(image):
      ...     return image[0, 0, 0]
      >>> saliency_map = attribution.rise(corner, image, key=jax.random.key(0), num_samples=100)
      >>> print(saliency_map[0, 0] > saliency_map[3, 3])
      True

    Reference:
      Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models,
      2018, arXiv:1806.07421.
    """
    check_image(image)
    check_count("num_samples", num_samples, 1)
    for axis, count in zip(("rows", "columns"), cells, strict=True):
        check_count(f"the number of {axis}", count, 1)
    check_at_least("1 - probability", 1 - probability, 0)
    check_at_least("probability", probability, jnp.finfo(image.dtype).tiny)
    instead = as_baseline(baseline, image)

    def of_mask(key):
        mask = _mask(key, image.shape[:2], cells, probability)
        seen = instead + mask[..., None] * (image - instead)
        return score(seen) * mask

    keys = jax.random.split(key, int(num_samples))
    return mean_chunked(of_mask, keys, batch_size) / probability


def _mask(
    key: Key, shape: tuple[int, ...], cells: tuple[int, int], probability: Number
) -> Float[Array, "h w"]:
    grid_key, place_key = jax.random.split(key)
    grid = jax.random.bernoulli(grid_key, probability, cells).astype(float)
    cell = tuple(-(-side // count) for side, count in zip(shape, cells, strict=True))
    sides = tuple((count + 1) * size for count, size in zip(cells, cell, strict=True))
    place = jax.random.randint(place_key, (2,), 0, jnp.array(cell))
    return jax.lax.dynamic_slice(jax.image.resize(grid, sides, "bilinear"), place, shape)
