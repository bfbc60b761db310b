"""Baselines: the images without information that attributions are measured from.

Each is a function of the image, an array (h, w, c) of floats, in any range, and gives an array of
its shape, dtype and units. A method that takes a `baseline` takes such a function or an array of
the image's shape. An average over several baselines is the caller's `jax.vmap` and mean.

Every function raises TypeError where the image does not hold floats, and ValueError where it is not
of shape (h, w, c), it is known and not finite, or a known argument is out of range.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import filters
from ._numerics import at_least_single, single_or_wider
from ._types import Baseline, Color, Image, Key, Number
from ._validation import (
    as_color,
    as_image,
    as_number,
    check_color,
    check_key,
    checked_together,
    filled,
)


def as_baseline(baseline: Baseline, image: Image) -> Float[Array, "h w c"]:
    """The baseline as a JAX array: what a function makes of the image, or the array given.

    Args:
      baseline: an array (h, w, c), NumPy's or JAX's, or a function of the image.
      image: (h, w, c).

    Returns:
      The baseline (h, w, c), of the image's dtype.

    Raises:
      TypeError: the baseline, or what the function makes, is no array of floats.
      ValueError: it is not of the image's shape, or it is known and not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines
      >>> image = jnp.array([[[0.0], [1.0]]])
      >>> print(baselines.as_baseline(baselines.mean_color, image).squeeze())
      [0.5 0.5]

    Reference:
      Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, 2017, arXiv:1703.01365.
    """
    with checked_together():
        image = as_image(image)
        array = as_image(baseline(image) if callable(baseline) else baseline, "baseline")
        if array.shape != image.shape:
            raise ValueError(
                f"expected baseline to have the image's shape {image.shape}, got {array.shape}"
            )
        return as_image(array.astype(image.dtype), "baseline")


def zeros(image: Image) -> Image:
    """The zero image: black for images in [0, 1], the mean colour for zero-centred ones.

    B = 0

    Args:
      image: see the module.

    Returns:
      The baseline, 0 everywhere.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines
      >>> print(baselines.zeros(jnp.ones((1, 2, 1))).squeeze())
      [0. 0.]

    Reference:
      Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, 2017, arXiv:1703.01365.
    """
    return jnp.zeros_like(as_image(image))


def constant(image: Image, color: Color) -> Image:
    """An image of one colour, such as grey or the mean of a data set.

    B_ij = color

    Args:
      image: see the module.
      color: one value for every channel or one for each (c,), in the range of the image.

    Returns:
      The baseline, the same at every pixel.

    Example:
      As a function of the image alone, with its colour bound:

      >>> import jax.numpy as jnp
      >>> from jax.tree_util import Partial
      >>> from saliency_jax import baselines
      >>> grey = Partial(baselines.constant, color=0.5)
      >>> print(grey(jnp.ones((1, 2, 1))).squeeze())
      [0.5 0.5]

    Reference:
      Sturmfels, Lundberg, Lee, Visualizing the Impact of Feature Attribution Baselines, Distill,
      2020, doi:10.23915/distill.00022 (not on arXiv).
    """
    image = as_image(image)
    check_color("color", color, image.shape)
    return filled("color", as_color("color", color), image.shape, image.dtype)


def mean_color(image: Image) -> Image:
    """An image of the image's own mean colour.

    B_ijc = mean_ab I_abc

    Args:
      image: see the module.

    Returns:
      The baseline, the same at every pixel.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines
      >>> print(baselines.mean_color(jnp.array([[[0.0, 1.0], [0.5, 0.0]]])))
      [[[0.25 0.5 ]
        [0.25 0.5 ]]]

    Reference:
      Ribeiro, Singh, Guestrin, "Why Should I Trust You?", 2016, arXiv:1602.04938, whose code fills
      what it hides with the mean colour.
    """
    image = as_image(image)
    return filled("color", at_least_single(image).mean((0, 1)), image.shape, image.dtype)


def blurred(image: Image, sigma: Number) -> Image:
    """The image without its small patterns.

    B = filters.blur(I, sigma)

    Args:
      image: see the module.
      sigma: the Gaussian's standard deviation, at least 0, in pixels. A traced one is welcome.

    Returns:
      The baseline, each pixel a mean of the image's own.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import baselines
      >>> print(baselines.blurred(jnp.array([[[0.0], [1.0]]]), 1.0).squeeze().round(2))
      [0.39 0.61]

    Reference:
      Fong, Vedaldi, Interpretable Explanations of Black Boxes by Meaningful Perturbation, 2017,
      arXiv:1704.03296.
    """
    return filters.blur(image, sigma)


def uniform_noise(image: Image, key: Key, low: Number = 0.0, high: Number = 1.0) -> Image:
    """An image of independent uniform noise.

    B_ijc ~ uniform [low, high)

    Args:
      image: see the module.
      key: a JAX random key.
      low, high: the ends of the range, in the image's units.

    Returns:
      The baseline, each value drawn by itself.

    Example:
      The mean attribution over four baselines:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution, baselines
      >>> image = jnp.ones((2, 2, 1))
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> def from_noise(key):
      ...     baseline = baselines.uniform_noise(image, key)
      ...     return attribution.integrated_gradients(jnp.sum, image, baseline=baseline)
      >>> jax.vmap(from_noise)(keys).mean(0).shape
      (2, 2, 1)

    Reference:
      Sturmfels, Lundberg, Lee, Visualizing the Impact of Feature Attribution Baselines, Distill,
      2020, doi:10.23915/distill.00022 (not on arXiv).
    """
    image = as_image(image)
    check_key(key)
    low = as_number("low", low)
    high = as_number("high", high, low)
    drawn = jax.random.uniform(key, image.shape, single_or_wider(image.dtype), low, high)
    return drawn.astype(image.dtype)
