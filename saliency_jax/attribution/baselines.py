"""Baselines: the images without information that attributions are measured from.

Each is a function of the image. A method that takes a `baseline` takes such a function or an array
of the image's shape. An average over several baselines is the caller's `jax.vmap` and mean.
"""

import jax
import jax.numpy as jnp

from .._types import Baseline, Color, Image, Key, Number
from .._validation import check_at_least, check_color, check_image
from ..filters import blur as blur


def as_baseline(baseline: Baseline, image: Image) -> Image:
    """The baseline as an array: what a function makes of the image, or the array given."""
    array = baseline(image) if callable(baseline) else baseline
    check_image(array, "baseline")
    if array.shape != image.shape:
        raise ValueError(
            f"expected baseline to have the image's shape {image.shape}, got {array.shape}"
        )
    return jnp.asarray(array, image.dtype)


def zeros(image: Image) -> Image:
    """The zero image: black for images in [0, 1], the mean colour for zero-centred ones.

    B = 0

    Args:
      image: (h, w, c), in any range.

    Returns:
      The baseline (h, w, c).

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), or it is known and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import baselines
      >>> print(baselines.zeros(jnp.ones((1, 2, 1))).squeeze())
      [0. 0.]

    Reference:
      Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, 2017, arXiv:1703.01365.
    """
    check_image(image)
    return jnp.zeros_like(image)


def constant(image: Image, color: Color) -> Image:
    """An image of one colour, such as grey or the mean of a data set.

    B_ij = color

    Args:
      image: (h, w, c), whose shape the baseline takes.
      color: one value for every channel or one for each (c,), in the range of the image.

    Returns:
      The baseline (h, w, c).

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or the colour
        does not fit.

    Example:
      As a function of the image alone, with its colour bound:

      >>> import jax.numpy as jnp
      >>> from jax.tree_util import Partial
      >>> from saliency_jax.attribution import baselines
      >>> grey = Partial(baselines.constant, color=0.5)
      >>> print(grey(jnp.ones((1, 2, 1))).squeeze())
      [0.5 0.5]

    Reference:
      Sturmfels, Lundberg, Lee, Visualizing the Impact of Feature Attribution Baselines, Distill,
      2020, doi:10.23915/distill.00022 (not on arXiv).
    """
    check_image(image)
    check_color("color", color, image.shape)
    return jnp.broadcast_to(jnp.asarray(color, image.dtype), image.shape)


def mean_color(image: Image) -> Image:
    """An image of the image's own mean colour.

    B_ijc = mean_ab I_abc

    Args:
      image: (h, w, c), in any range.

    Returns:
      The baseline (h, w, c), in the image's range.

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), or it is known and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.attribution import baselines
      >>> print(baselines.mean_color(jnp.array([[[0.0, 1.0], [0.5, 0.0]]])))
      [[[0.25 0.5 ]
        [0.25 0.5 ]]]

    Reference:
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938, whose code fills
      what it hides with the mean colour.
    """
    check_image(image)
    return constant(image, image.mean((0, 1)))


def uniform_noise(image: Image, key: Key, low: Number = 0.0, high: Number = 1.0) -> Image:
    """An image of independent uniform noise.

    B_ijc ~ uniform [low, high)

    Args:
      image: (h, w, c), whose shape the baseline takes.
      key: a JAX random key.
      low, high: the ends of the range, in the image's units.

    Returns:
      The baseline (h, w, c).

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or both ends are
        known and high is below low.

    Example:
      The mean attribution over four baselines:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> image = jnp.ones((2, 2, 1))
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> def from_noise(key):
      ...     baseline = attribution.baselines.uniform_noise(image, key)
      ...     return attribution.integrated_gradients(jnp.sum, image, baseline=baseline)
      >>> jax.vmap(from_noise)(keys).mean(0).shape
      (2, 2, 1)

    Reference:
      Sturmfels, Lundberg, Lee, Visualizing the Impact of Feature Attribution Baselines, Distill,
      2020, doi:10.23915/distill.00022 (not on arXiv).
    """
    check_image(image)
    check_at_least("high", high, low)
    return jax.random.uniform(key, image.shape, image.dtype, low, high)
