"""HSIC attribution: how far the score depends on whether a segment is shown."""

import jax.numpy as jnp

from .._types import Baseline, Count, Image, Key, SaliencyMap, Score
from .._validation import check_count, check_image
from ._chunks import map_chunked, sum_chunked
from .baselines import as_baseline, zeros
from .occlusion import Segments, check_segments, paint
from .sobol import latin_hypercube


def hsic(
    score: Score,
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
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      segments: (h, w) of integers in 0 .. num_segments - 1: any segmentation, in the paper a grid:
        see `grid_segments`. A traced one is welcome.
      key: a JAX random key; equal keys give equal samples.
      num_segments: their number, at least 1; by default the largest plus 1, if segments are known.
      num_samples: the number N of samples, at least 2.
      baseline: what is shown in hidden segments: an array (h, w, c) in the image's range, or a
        function of the image.
      batch_size: how many images, and then rows of L, are evaluated at once, at least 1: beside
        them, only one number for each sample and segment is held, and the result changes by
        rounding alone.

    Returns:
      The saliency map (h, w): at least 0, without a unit, and each pixel has its whole segment's
      value. It says nothing of the sign. Where the score does not depend on the segment it is of
      the order of 1 / N, not 0; of a constant score it is 0. A traced segment out of range
      gives nan.

    Raises:
      TypeError: the image or the baseline does not hold floats, a count is no integer, or segments
        are traced and their number is not given.
      ValueError: the image is not of shape (h, w, c), segments are not of shape (h, w) or known and
        out of range, the baseline is not of the image's shape, image or baseline is known and not
        finite, or a count is below its minimum.

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
    check_image(image)
    count = check_segments(segments, num_segments, image)
    check_count("num_samples", num_samples, 2)
    instead = as_baseline(baseline, image)
    shown = latin_hypercube(key, int(num_samples), count) < 0.5

    def of_shown(shown):
        is_shown = shown[jnp.asarray(segments)]
        return score(jnp.where(is_shown[..., None], image, instead))

    values = map_chunked(of_shown, shown, batch_size)
    spread = values.std()
    values = values / jnp.where(spread == 0, 1, spread)
    centred = shown - shown.mean(0, dtype=values.dtype, keepdims=True)

    def of_row(sample):
        value, row = sample
        kernel = jnp.exp(-jnp.square(values - value) / 2)
        return row * jnp.matmul(kernel, centred, precision="highest")

    total = sum_chunked(of_row, (values, centred), batch_size)
    return paint(2 * total / (num_samples - 1) ** 2, segments)
