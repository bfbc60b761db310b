"""Expected gradients: integrated gradients averaged over a distribution of baselines."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._chunks import mean_chunked
from .._numerics import at_least_single
from .._types import Attribution, Count, Image, Key, ScoreFunction
from .._validation import as_array, as_image, check_count, check_key, checked_together
from ..scores import as_score
from ._gradient import input_gradient


def expected_gradients(
    score: ScoreFunction,
    image: Image,
    *,
    baselines: Float[Array, "n h w c"] | Float[np.ndarray, "n h w c"],
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
      score, image, key, num_samples, batch_size: see the room.
      baselines: (n, h, w, c) in the image's range, such as images of the training set; NumPy's or
        JAX's.

    Returns:
      The attribution (h, w, c): signed, in units of the score.

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
    with checked_together():
        image, score = as_image(image), as_score(score)
        starts = as_array("baselines", baselines, ("n", "h", "w", "c")).astype(image.dtype)
    check_key(key)
    num_samples = check_count("num_samples", num_samples, 1)
    if starts.shape[1:] != image.shape:
        raise ValueError(
            f"expected baselines to have shape (n, {', '.join(map(str, image.shape))}), "
            f"got {starts.shape}"
        )

    def sample(key):
        # Drawn in single precision whatever the image's: the same pairs for every dtype.
        which_key, where_key = jax.random.split(key)
        which = jax.random.randint(which_key, (), 0, len(starts), jnp.int32)
        start = at_least_single(starts[which])
        difference = at_least_single(image) - start
        position = jax.random.uniform(where_key, (), jnp.float32).astype(start.dtype)
        point = (start + position * difference).astype(image.dtype)
        return difference * at_least_single(input_gradient(score, point))

    mean = mean_chunked(sample, jax.random.split(key, num_samples), batch_size)
    return mean.astype(image.dtype)
