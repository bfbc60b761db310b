"""HSIC attribution: how far the score depends on whether a segment is shown."""

import jax.numpy as jnp

from .._chunks import map_chunked, sum_chunked
from .._types import Baseline, Count, Image, Key, SaliencyMap, ScoreFunction
from .._validation import check_count, check_key
from ..baselines import zeros
from ..segments import Segments, paint
from ._parts import score_of_shown
from ._sobol import latin_hypercube


def hsic(
    score: ScoreFunction,
    image: Image,
    *,
    segments: Segments,
    key: Key,
    num_segments: Count | None = None,
    num_samples: Count = 1500,
    baseline: Baseline = zeros,
    batch_size: Count = 16,
) -> SaliencyMap:
    """HSIC attribution: the Hilbert-Schmidt independence criterion of a segment and the score.

    M_ij = tr(K H L H) / (N - 1)^2 = 2 / (N - 1)^2 sum_kl c_ks c_ls L_kl, s = segments_ij
    K_kl = 1 if m_ks = m_ls else 0, L_kl = exp(-(S_k - S_l)^2 / (2 sigma^2)), H = 1 - 1 / N

    m_ks says whether segment s is shown in the sample k, S_k = S(x(m_k)) where x is the image in
    the segments shown and the baseline elsewhere, and c_ks = m_ks - mean_l m_ls. Half of the
    samples show a segment (to within one), drawn for each segment independently. The bandwidth
    sigma is the standard deviation of the scores, so that a S + b has the map of S. (Where it is
    their median, as in the published code, a constant added to the score changes the map.)

    Args:
      score, image, segments, num_segments, key, baseline: see the room. In the paper segments
        are a grid: `segments.grid_segments`.
      num_samples: the number N of samples, at least 2.
      batch_size: see the room; after the images, so many rows of L are held at once.

    Returns:
      The saliency map (h, w): at least 0, without a unit. It says nothing of the sign. Where the
      score does not depend on the segment it is of the order of 1 / N, not 0; of a constant score
      it is 0.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image, segments = jnp.ones((1, 3, 1)), jnp.array([[0, 1, 2]])
      >>> def score(image):
      ...     return image[0, 0, 0] * image[0, 1, 0]
      >>> print(attribution.hsic(
      ...     score, image, segments=segments, key=jax.random.key(0)
      ... ).round(2))
      [[0.06 0.06 0.  ]]

    Reference:
      Novello, Fel, Vigouroux, Making Sense of Dependence: Efficient Black-box Explanations Using
      Dependence Measure, 2022, arXiv:2206.06219.
    """
    image, value, numbered, count = score_of_shown(score, image, segments, num_segments, baseline)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 2)
    shown = latin_hypercube(key, num_samples, count) < 0.5
    values = map_chunked(value, shown, batch_size)
    spread = values.std()
    values = values / jnp.where(spread == 0, 1, spread)
    inputs = shown.astype(values.dtype)
    centred = inputs - inputs.mean(0, keepdims=True)

    def dependence(sample):
        one_value, row = sample
        kernel = jnp.exp(-jnp.square(values - one_value) / 2)
        return row * jnp.matmul(kernel, centred, precision="highest")

    total = sum_chunked(dependence, (values, centred), batch_size)
    criterion = 2 * total / (num_samples - 1) ** 2
    return paint(criterion.astype(image.dtype), numbered)
