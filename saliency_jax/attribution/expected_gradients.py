"""Expected gradients: integrated gradients averaged over a distribution of baselines."""

import jax
from jaxtyping import Array, Float

from .._types import Attribution, Count, Image, Key, Score
from .._validation import check_array, check_count, check_finite, check_image
from ._chunks import mean_chunked
from .gradient import input_gradient


def expected_gradients(
    score: Score,
    image: Image,
    *,
    baselines: Float[Array, "n h w c"],
    key: Key,
    num_samples: Count = 64,
    batch_size: Count = 16,
) -> Attribution:
    """Expected gradients (GradientSHAP): integrated gradients from random baselines, sampled.

    A = E_{B, a} [(I - B) dS/dI (B + a (I - B))], B ~ uniform over the baselines, a ~ uniform [0, 1]

    The expectation is the mean over num_samples independent pairs (B, a). It adds up to S(I) minus
    the baselines' mean score, up to sampling error. No noise is added to the image: for that, pass
    this method to `smoothgrad`.

    Args:
      score: callable PyTree from one image to a scalar, such as `scores.logit(model, label)`.
      image: (h, w, c), in the range that the score's model takes, usually [0, 1].
      baselines: (n, h, w, c) in the image's range, such as images of the training set.
      key: a JAX random key; equal keys give equal pairs.
      num_samples: the number of pairs, at least 1.
      batch_size: how many gradients are evaluated at once, at least 1: memory does not grow with
        num_samples, and the result changes by rounding alone.

    Returns:
      The attribution (h, w, c): signed, in units of the score.

    Raises:
      TypeError: the image or the baselines do not hold floats, or a count is no integer.
      ValueError: the image is not of shape (h, w, c), the baselines are not of shape (n, h, w, c)
        with the image's h, w and c, one of them is known and not finite, or a count is below 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image, baselines = jnp.ones((1, 2, 1)), jnp.full((5, 1, 2, 1), 0.25)
      >>> print(attribution.expected_gradients(
      ...     lambda x: 2 * x.sum(), image, baselines=baselines, key=jax.random.key(0)
      ... ).squeeze())
      [1.5 1.5]

    Reference:
      Erion, Janizek, Sturmfels, Lundberg, Lee, Improving Performance of Deep Learning Models with
      Axiomatic Attribution Priors and Expected Gradients, 2019, arXiv:1906.10670. Lundberg, Lee, A
      Unified Approach to Interpreting Model Predictions, 2017, arXiv:1705.07874.
    """
    check_image(image)
    check_array("baselines", baselines, ("n", "h", "w", "c"))
    check_finite("baselines", baselines)
    check_count("num_samples", num_samples, 1)
    if baselines.shape[1:] != image.shape:
        raise ValueError(
            f"expected baselines to have shape (n, {', '.join(map(str, image.shape))}), "
            f"got {baselines.shape}"
        )

    def of_pair(key):
        which, where = jax.random.split(key)
        start = baselines[jax.random.randint(which, (), 0, baselines.shape[0])]
        difference = image - start
        position = jax.random.uniform(where, (), image.dtype)
        return difference * input_gradient(score, start + position * difference)

    return mean_chunked(of_pair, jax.random.split(key, int(num_samples)), batch_size)
