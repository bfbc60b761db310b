"""How different the pictures of several runs are."""

import jax
import numpy as np
from jaxtyping import Array, Float

from .._numerics import at_least_single, norm
from .._types import Scalar
from .._validation import as_array


def mean_pairwise_distance(images: Float[Array | np.ndarray, "n h w c"]) -> Scalar:
    """The mean distance between two of the images: the diversity of several runs.

    D = 2 / (n (n - 1)) sum_{a < b} d(I_a, I_b), with d(I, J)^2 = mean_ijc (I_ijc - J_ijc)^2

    Args:
      images: (n, h, w, c) of any range, at least 2: those of one class from several seeds, say.

    Returns:
      The mean root-mean-square distance, at least 0, in the images' unit. It is 0 for copies, and
      0.41 for independent uniform noise in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import metrics
      >>> black, grey = jnp.zeros((4, 4, 3)), jnp.full((4, 4, 3), 0.5)
      >>> print(metrics.mean_pairwise_distance(jnp.stack([black, grey])))
      0.5

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on diversity.
    """
    images = at_least_single(as_array("images", images, ("n", "h", "w", "c")))
    if len(images) < 2:
        raise ValueError(f"expected at least 2 images, got {len(images)}")
    first, second = np.triu_indices(len(images), 1)
    distances = jax.vmap(norm)(images[first] - images[second])
    return distances.mean() / images[0].size ** 0.5
