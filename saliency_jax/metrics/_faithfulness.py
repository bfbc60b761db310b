"""Faithfulness: whether attributions add up to the fall of the score when pixels are hidden."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from .._chunks import Samples, map_chunked
from .._numerics import at_least_single
from .._types import AnyMap, Baseline, Count, Image, Key, Scalar, ScoreFunction
from .._validation import (
    as_image,
    check_count,
    check_key,
    check_pair,
    checked_together,
    is_concrete,
    to_jax,
)
from ..baselines import as_baseline, zeros
from ..scores import as_score
from ._correlation import pearson_correlation, spearman_correlation
from ._maps import as_map

Sizes = Integer[Array, "m"] | Integer[np.ndarray, "m"]


def sensitivity_n(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    sizes: Sizes,
    key: Key,
    num_samples: Count = 100,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> Float[Array, "m"]:
    """Sensitivity-n: the correlation of attributions' sums and the score's falls, by subset size.

    r_n = r_k(sum_{i in K_k} M_i, S(I) - S(I with B in K_k)), K_k random subsets of n pixels

    r is Pearson's correlation over the subsets. Higher is better, for every n: an attribution that
    satisfies sensitivity-n has 1. All channels of a pixel are hidden together.

    Traps: the sign counts: a map of absolute values fails on what lowers the score, however right.
    For small n the falls are small beside the score's curvature, for large n the images are far
    from any that the model knows. It asks about the same baseline that the attribution measures
    from. It is undefined for n that is all pixels, as there is one such subset. (Quantus's function
    of this name hides ever more of the most salient pixels and correlates over images.)

    Args:
      score, image, key, baseline, batch_size: see the room.
      saliency_map: a signed map.
      sizes: (m,) the numbers n of pixels hidden, each from 1 to one less than there are. Traced
        ones are welcome.
      num_samples: how many subsets are drawn for each size, at least 2.

    Returns:
      The correlation (m,) for each size, in [-1, 1]; nan where it is undefined, as for a constant
      map. For a linear score and its gradient times (image - baseline) it is 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image = jnp.arange(1.0, 7.0).reshape(2, 3, 1)
      >>> print(metrics.sensitivity_n(
      ...     jnp.sum, image, image[..., 0], sizes=jnp.array([1, 3]), key=jax.random.key(0)
      ... ).round(4))
      [1. 1.]

    Reference:
      Ancona, Ceolini, Oeztireli, Gross, Towards better understanding of gradient-based attribution
      methods for Deep Neural Networks, 2017, arXiv:1711.06104.
    """
    with checked_together():
        image = as_image(image)
        saliency_map = as_map(saliency_map, image.shape[:2])
        instead = as_baseline(baseline, image)
    sizes = _as_sizes(sizes, saliency_map.size - 1)
    check_key(key)
    count = check_count("num_samples", num_samples, 2)
    keys = jax.random.split(key, len(sizes) * count)

    def hidden(sample):
        size, key = sample
        return jax.random.permutation(key, saliency_map.size).reshape(saliency_map.shape) < size

    samples = jnp.repeat(sizes, count), keys
    sums_and_falls = _sums_and_falls(
        score, image, saliency_map, hidden, samples, instead, batch_size
    )
    by_size = (values.reshape(len(sizes), -1) for values in sums_and_falls)
    return jax.vmap(pearson_correlation)(*by_size)


def faithfulness_correlation(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    size: Count,
    key: Key,
    num_samples: Count = 100,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> Scalar:
    """Faithfulness correlation: of attributions' sums and the score's falls, for one subset size.

    F = r_k(sum_{i in K_k} M_i, S(I) - S(I with B in K_k)), K_k random subsets of `size` pixels

    It is `sensitivity_n` at one size. Higher is better; the traps are the same. The published
    values depend on size, baseline and number of subsets: state them.

    Args:
      score, image, key, baseline, batch_size: see the room.
      saliency_map: a signed map.
      size: how many pixels are hidden, from 1 to one less than there are. A traced one is welcome.
      num_samples: how many subsets are drawn, at least 2.

    Returns:
      The correlation, in [-1, 1]; nan where it is undefined, as for a constant map.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image = jnp.arange(1.0, 7.0).reshape(2, 3, 1)
      >>> print(metrics.faithfulness_correlation(
      ...     jnp.sum, image, -image[..., 0], size=3, key=jax.random.key(0)
      ... ).round(4))
      -1.0

    Reference:
      Bhatt, Weller, Moura, Evaluating and Aggregating Feature-based Model Explanations, 2020,
      arXiv:2005.00631, definition 3.
    """
    return sensitivity_n(
        score,
        image,
        saliency_map,
        sizes=_in_a_row(size),
        key=key,
        num_samples=num_samples,
        baseline=baseline,
        batch_size=batch_size,
    )[0]


def mu_fidelity(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    *,
    key: Key,
    cells: tuple[int, int] = (8, 8),
    size: Count = 13,
    num_samples: Count = 200,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> Scalar:
    """Mu-fidelity: the rank correlation of attributions' sums and the score's falls, over cells.

    F = r_s,k(sum_{i in K_k} M_i, S(I) - S(I with B in K_k)), K_k random sets of `size` cells

    r_s is Spearman's correlation over the sets; the cells are those of a grid laid over the image.
    Single pixels hidden at random places hardly change an image, whole cells do. Higher is better;
    the traps are those of `sensitivity_n`.

    (Xplique hides each cell independently, so that the sets differ in size. Whatever falls with the
    number of hidden pixels then correlates with a map that is only positive: here all sets have one
    size, as in the paper, if the numbers of cells divide the image's sides. Otherwise some cells
    are a row or a column larger, and the same happens in small: 9 x 9 cells, Xplique's, of 64 x 64
    pixels give a constant map of `jnp.sum` 0.8. The default is its 20 % of 8 x 8 cells.)

    Args:
      score, image, key, baseline, batch_size: see the room.
      saliency_map: a signed map.
      cells: (rows, columns) of the grid, from 1 to the image's sides.
      size: how many cells are hidden, from 1 to one less than there are. A traced one is welcome.
      num_samples: how many sets are drawn, at least 2.

    Returns:
      The rank correlation, in [-1, 1]; nan where it is undefined, as for a constant map if
      all cells have one size.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> print(metrics.mu_fidelity(
      ...     jnp.sum, image, image[..., 0], cells=(2, 4), size=3, key=jax.random.key(0)
      ... ).round(4))
      1.0

    Reference:
      Bhatt, Weller, Moura, Evaluating and Aggregating Feature-based Model Explanations, 2020,
      arXiv:2005.00631, definition 3. Fel et al., Xplique: A Deep Learning Explainability Toolbox,
      2022, arXiv:2206.04394, on cells and ranks.
    """
    with checked_together():
        image = as_image(image)
        saliency_map = as_map(saliency_map, image.shape[:2])
        instead = as_baseline(baseline, image)
    check_pair("cells", cells, "(rows, columns)")
    for axis, count, side in zip(("rows", "columns"), cells, saliency_map.shape, strict=True):
        check_count(f"the number of {axis}", count, 1)
        if count > side:
            raise ValueError(
                f"expected the number of {axis} to be at most the image's {side}, got {count}"
            )
    (size,) = _as_sizes(_in_a_row(size), cells[0] * cells[1] - 1)
    check_key(key)
    count = check_count("num_samples", num_samples, 2)
    rows, columns = (
        jnp.arange(side) * count // side
        for side, count in zip(saliency_map.shape, cells, strict=True)
    )

    def hidden(key):
        place = jax.random.permutation(key, cells[0] * cells[1]).reshape(cells)
        return (place < size)[rows[:, None], columns[None, :]]

    keys = jax.random.split(key, count)
    return spearman_correlation(
        *_sums_and_falls(score, image, saliency_map, hidden, keys, instead, batch_size)
    )


def _sums_and_falls(
    score: ScoreFunction,
    image: Image,
    saliency_map: AnyMap,
    hidden: Callable[..., Bool[Array, "h w"]],
    samples: Samples,
    instead: Image,
    batch_size: Count,
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    score = as_score(score)
    whole = at_least_single(score(image))

    def of_sample(sample):
        mask = hidden(sample)
        fall = whole - at_least_single(score(jnp.where(mask[..., None], instead, image)))
        return jnp.sum(jnp.where(mask, saliency_map, 0)), fall

    return map_chunked(of_sample, samples, batch_size)


def _in_a_row(size: Count) -> Sizes:
    # What the host knows stays there: it need not be asked of the device.
    if isinstance(size, jax.Array):
        return jnp.atleast_1d(size)
    return np.array([check_count("size", size, 1)], np.int32)


def _as_sizes(sizes: Sizes, largest: int) -> Integer[Array, "m"]:
    dtype = getattr(sizes, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"expected sizes of subsets to be integers, got {dtype or type(sizes).__name__}"
        )
    if sizes.ndim != 1 or not sizes.size:
        raise ValueError(
            f"expected one or more sizes of subsets in one row, got the shape {sizes.shape}"
        )
    if is_concrete(sizes) and not (sizes.min() >= 1 and sizes.max() <= largest):
        raise ValueError(f"expected sizes of subsets to be in 1 .. {largest}, got {sizes}")
    return to_jax(sizes).astype(int)
