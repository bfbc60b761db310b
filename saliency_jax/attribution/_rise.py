"""RISE: the mean of random smooth masks, each weighted by the score of what it lets through."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._chunks import mean_chunked
from .._numerics import at_least_single
from .._types import Baseline, Count, Image, Key, Number, SaliencyMap, ScoreFunction
from .._validation import as_image, as_number, check_count, check_key, check_pair, checked_together
from ..baselines import as_baseline, zeros
from ..scores import as_score
from ..segments import show


def rise(
    score: ScoreFunction,
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

    M_ij = 1 / (p N) sum_k S(m_k I + (1 - m_k) B) m_kij

    A mask m_k is a grid of independent cells, 1 with probability p and else 0, resized bilinearly
    to one cell more than the image on either axis, and cropped to the image at a random place.
    Every pixel's expected mask is p.

    Args:
      score, image, key, num_samples, baseline, batch_size: see the room. The paper's map has its
        meaning for a score that is not negative, such as a probability.
      cells: (rows, columns) of the grid, each at least 1; of more than pixels there are as many.
      probability: p, above 0 and at most 1, that a cell is seen.

    Returns:
      The saliency map (h, w), in units of the score. With probability 1 it is S(I) everywhere.

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
    with checked_together():
        image, score = as_image(image), as_score(score)
        hidden = as_baseline(baseline, image)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 1)
    check_pair("cells", cells, "(rows, columns)")
    for axis, count in zip(("rows", "columns"), cells, strict=True):
        check_count(f"the number of {axis}", count, 1)
    probability = as_number("probability", probability, jnp.finfo(image.dtype).tiny, 1)
    # Drawn in single precision whatever the image's: the same masks for every dtype.
    odds = jnp.asarray(probability, jnp.float32)

    def weighted_mask(key):
        mask = _mask(key, image.shape[:2], cells, odds)
        value = at_least_single(score(show(image, mask, hidden)))
        return value * mask.astype(value.dtype)

    mean = mean_chunked(weighted_mask, jax.random.split(key, num_samples), batch_size)
    return (mean / jnp.asarray(probability, mean.dtype)).astype(image.dtype)


def _mask(
    key: Key, shape: tuple[int, ...], cells: tuple[int, int], probability: Float[Array, ""]
) -> Float[Array, "h w"]:
    grid_key, corner_key = jax.random.split(key)
    # A cell that is smaller than a pixel would not be seen.
    cells = min(cells[0], shape[0]), min(cells[1], shape[1])
    grid = jax.random.bernoulli(grid_key, probability, cells).astype(probability.dtype)
    cell = tuple(-(-side // count) for side, count in zip(shape, cells, strict=True))
    sides = tuple((count + 1) * size for count, size in zip(cells, cell, strict=True))
    corner = jax.random.randint(corner_key, (2,), 0, jnp.array(cell, jnp.int32), jnp.int32)
    return jax.lax.dynamic_slice(jax.image.resize(grid, sides, "bilinear"), corner, shape)
