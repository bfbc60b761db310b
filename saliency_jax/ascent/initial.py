"""Images to start gradient ascent from."""

import jax
import jax.numpy as jnp

from .._types import Color, Image, Key, Number
from .._validation import check_at_least, check_color, check_image_shape


def zeros(shape: tuple[int, int, int]) -> Image:
    """The zero image, the start of Simonyan et al., whose training images are zero-centred.

    I = 0

    Args:
      shape: (h, w, c).

    Returns:
      The image (h, w, c). For a model that takes images in [0, 1] it is black: the paper's start is
      then the mean colour, `constant(shape, mean)`.

    Raises:
      TypeError, ValueError: the shape is not three positive integers.

    Example:
      >>> from saliency_jax.ascent import zeros
      >>> print(zeros((1, 2, 1)).squeeze())
      [0. 0.]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    check_image_shape(shape)
    return jnp.zeros(shape)


def constant(shape: tuple[int, int, int], color: Color = 0.5) -> Image:
    """An image of one colour: grey, or the mean colour of a model's training images.

    I_ij = color

    Args:
      shape: (h, w, c).
      color: one value for every channel or one for each (c,), in the range of the model's images.

    Returns:
      The image (h, w, c).

    Raises:
      TypeError, ValueError: the shape is not three positive integers, or the colour does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import constant
      >>> print(constant((1, 2, 3), jnp.array([0.25, 0.5, 0.75])))
      [[[0.25 0.5  0.75]
        [0.25 0.5  0.75]]]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034: the
      zero image of zero-centred data is the mean image of data that are not centred.
    """
    check_image_shape(shape)
    check_color("color", color, shape)
    return jnp.broadcast_to(jnp.asarray(color, float), shape)


def normal(
    key: Key,
    shape: tuple[int, int, int],
    mean: Color = 0.5,
    std: Number = 0.05,
) -> Image:
    """An image of independent Gaussian noise about one colour.

    I_ijc = mean_c + std * e_ijc with e_ijc ~ N(0, 1)

    Args:
      key: a JAX random key.
      shape: (h, w, c).
      mean: one value for every channel or one for each (c,), in the range of the model's images.
      std: the standard deviation, at least 0, in the units of the image.

    Returns:
      The image (h, w, c), not clipped. With std 0 it is `constant(shape, mean)`.

    Raises:
      TypeError, ValueError: the shape is not three positive integers, the mean does not fit, or std
        is known and negative.

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import normal
      >>> normal(jax.random.key(0), (32, 48, 3)).shape
      (32, 48, 3)

    Reference:
      Erhan, Bengio, Courville, Vincent, Visualizing Higher-Layer Features of a Deep Network, 2009,
      University of Montreal technical report 1341 (not on arXiv).
    """
    check_image_shape(shape)
    check_color("mean", mean, shape)
    check_at_least("std", std, 0)
    return constant(shape, mean) + std * jax.random.normal(key, shape)
