"""Images to start gradient ascent from: of one colour, and noise.

Black is `zeros`, white `constant(shape, 1.0)`, grey `constant(shape)`, and the mean colour of a
data set `constant(shape, mean)`. Any other image serves as well, a photograph or what another
ascent came to; `canvas.encode` makes parameters of it where they are no pixels:

  >>> import jax
  >>> import optax
  >>> import skimage.data
  >>> from saliency_jax import ascent, data
  >>> photograph = jnp.asarray(data.fit(np.float32(skimage.data.coffee()) / 255, 8))
  >>> canvas, optimizer = ascent.sigmoid_canvas(), optax.adam(0.05)
  >>> state = ascent.initial_state(canvas.encode(photograph), optimizer, jax.random.key(0))
  >>> darker = ascent.ascend(lambda image: -image.sum(), state, optimizer, 9, decode=canvas.decode)
  >>> state = ascent.initial_state(canvas.encode(darker.image), optimizer, jax.random.key(1))
  >>> print(canvas.decode(state.params).mean() < photograph.mean())
  True
"""

import jax
import jax.numpy as jnp
import numpy as np

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


def uniform(key: Key, shape: tuple[int, int, int], low: Number = 0.0, high: Number = 1.0) -> Image:
    """An image of independent uniform noise.

    I_ijc ~ uniform [low, high)

    Args:
      key: a JAX random key.
      shape: (h, w, c).
      low: the least value, in the range of the model's images.
      high: the upper end, at least low.

    Returns:
      The image (h, w, c).

    Raises:
      TypeError, ValueError: the shape is not three positive integers, or high is below low, both
        being known.

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import uniform
      >>> image = uniform(jax.random.key(0), (8, 8, 3), 0.25, 0.75)
      >>> print(0.25 <= image.min() < image.max() < 0.75)
      True

    Reference:
      Erhan, Bengio, Courville, Vincent, Visualizing Higher-Layer Features of a Deep Network, 2009,
      technical report 1341, University of Montreal, which starts from uniform noise.
    """
    check_image_shape(shape)
    check_at_least("high", high, low)
    return jax.random.uniform(key, shape) * (high - low) + low


def smooth(
    key: Key,
    shape: tuple[int, int, int],
    mean: Color = 0.5,
    std: Number = 0.05,
    decay: Number = 1.0,
) -> Image:
    """An image of smooth noise: large patterns stronger than small ones, as in natural images.

    I_c = mean_c + std * F^-1[s F(e_c)] with e_ijc ~ N(0, 1) and s proportional to 1 / f^decay

    F is the two-dimensional Fourier transform and f the frequency in cycles a pixel. s is 0 at f =
    0, so that each channel's mean over the image is `mean`, and scaled so that std is the expected
    standard deviation of a pixel. With decay 0 it is `normal` noise less its own mean.

    Args:
      key: a JAX random key.
      shape: (h, w, c).
      mean: one value for every channel or one for each (c,), in the range of the model's images.
      std: standard deviation of each value, in the same units, at least 0.
      decay: the power by which the amplitude falls with the frequency; about 1 in natural images.

    Returns:
      The image (h, w, c), which may leave the range of the model's images. One of a single pixel is
      its mean.

    Raises:
      TypeError, ValueError: the shape is not three positive integers, the colour does not fit, or
        std is known and negative.

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import smooth
      >>> print(f"{smooth(jax.random.key(0), (8, 6, 3)).mean():.4f}")
      0.5000

    Reference:
      Field, Relations between the statistics of natural images and the response properties of
      cortical cells, Journal of the Optical Society of America A, 1987, on 1 / f amplitudes.
    """
    check_image_shape(shape)
    check_color("mean", mean, shape)
    check_at_least("std", std, 0)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    varying = frequency > 0
    amplitudes = jnp.where(varying, 1 / jnp.where(varying, frequency, 1.0) ** decay, 0.0)
    power = jnp.mean(amplitudes**2)
    filter_ = (amplitudes / jnp.sqrt(jnp.where(power == 0, 1.0, power)))[:, :, None]
    noise = jax.random.normal(key, shape)
    smoothed = jnp.fft.ifft2(filter_ * jnp.fft.fft2(noise, axes=(0, 1)), axes=(0, 1)).real
    return constant(shape, mean) + std * smoothed
