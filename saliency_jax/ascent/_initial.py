"""Images to start gradient ascent from: of one colour, and noise.

Black is `zeros`, white `constant(shape, 1.0)`, grey `constant(shape)`, and the mean colour of a
data set `constant(shape, mean)`. Any other image serves as well, a photograph or what another
ascent came to; `canvas.encode` makes parameters of it where they are no pixels:

  >>> import jax
  >>> import optax
  >>> import skimage.data
  >>> from saliency_jax import ascent, images
  >>> photograph = images.fit(np.float32(skimage.data.coffee()) / 255, 8)
  >>> canvas, optimizer = ascent.sigmoid_canvas(), optax.adam(0.05)
  >>> state = ascent.initial_state(canvas.encode(photograph), optimizer, jax.random.key(0))
  >>> darker = ascent.ascend(lambda image: -image.sum(), state, optimizer, 9, decode=canvas.decode)
  >>> state = ascent.initial_state(canvas.encode(darker.image), optimizer, jax.random.key(1))
  >>> print(canvas.decode(state.params).mean() < photograph.mean())
  True
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._numerics import in_dtype, single_or_wider
from .._types import Color, Image, Key, Number
from .._validation import (
    as_color,
    as_number,
    check_float_dtype,
    check_image_shape,
    check_key,
    filled,
)

DTypeLike = jax.typing.DTypeLike
Shape = tuple[int, int, int]


def zeros(shape: Shape, dtype: DTypeLike = jnp.float32) -> Image:
    """The zero image, the start of Simonyan et al., whose training images are zero-centred.

    I = 0

    Args:
      shape, dtype: see the room.

    Returns:
      The image (h, w, c). For a model that takes images in [0, 1] it is black: the paper's start is
      then the mean colour, `constant(shape, mean)`.

    Example:
      >>> from saliency_jax.ascent import zeros
      >>> print(zeros((1, 2, 1)).squeeze())
      [0. 0.]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    return jnp.zeros(*_checked(shape, dtype))


def constant(shape: Shape, color: Color = 0.5, dtype: DTypeLike = jnp.float32) -> Image:
    """An image of one colour: grey, or the mean colour of a model's training images.

    I_ij = color

    Args:
      shape, dtype: see the room.
      color: one value for every channel or one for each (c,), in the range of the model's images.

    Returns:
      The image (h, w, c).

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
    return filled("color", as_color("color", color), *_checked(shape, dtype))


def normal_noise(
    key: Key,
    shape: Shape,
    mean: Color = 0.5,
    std: Number = 0.05,
    dtype: DTypeLike = jnp.float32,
) -> Image:
    """An image of independent Gaussian noise about one colour.

    I_ijc = mean_c + std * e_ijc with e_ijc ~ N(0, 1)

    Args:
      key, shape, dtype: see the room.
      mean: one value for every channel or one for each (c,), in the range of the model's images.
      std: the standard deviation, at least 0, in the units of the image.

    Returns:
      The image (h, w, c), not clipped. With std 0 it is `constant(shape, mean)`.

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import normal_noise
      >>> normal_noise(jax.random.key(0), (32, 48, 3)).shape
      (32, 48, 3)

    Reference:
      Erhan, Bengio, Courville, Vincent, Visualizing Higher-Layer Features of a Deep Network, 2009,
      University of Montreal technical report 1341 (not on arXiv).
    """
    check_key(key)
    shape, dtype = _checked(shape, dtype)
    return _about(mean, std, jax.random.normal(key, shape, single_or_wider(dtype)), dtype)


def uniform_noise(
    key: Key,
    shape: Shape,
    low: Number = 0.0,
    high: Number = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> Image:
    """An image of independent uniform noise.

    I_ijc ~ uniform [low, high)

    Args:
      key, shape, dtype: see the room.
      low: the least value, in the range of the model's images.
      high: the upper end, at least low.

    Returns:
      The image (h, w, c).

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import uniform_noise
      >>> image = uniform_noise(jax.random.key(0), (8, 8, 3), 0.25, 0.75)
      >>> print(0.25 <= image.min() < image.max() < 0.75)
      True

    Reference:
      Erhan, Bengio, Courville, Vincent, Visualizing Higher-Layer Features of a Deep Network, 2009,
      technical report 1341, University of Montreal, which starts from uniform noise.
    """
    check_key(key)
    shape, dtype = _checked(shape, dtype)
    low = as_number("low", low)
    high = as_number("high", high, low)
    draws = jax.random.uniform(key, shape, single_or_wider(dtype))
    low, high = in_dtype(low, draws.dtype), in_dtype(high, draws.dtype)
    return (draws * (high - low) + low).astype(dtype)


def smooth_noise(
    key: Key,
    shape: Shape,
    mean: Color = 0.5,
    std: Number = 0.05,
    decay: Number = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> Image:
    """An image of smooth noise: large patterns stronger than small ones, as in natural images.

    I_c = mean_c + std * F^-1[s F(e_c)] with e_ijc ~ N(0, 1) and s proportional to 1 / f^decay

    F is the two-dimensional Fourier transform and f the frequency in cycles a pixel. s is 0 at f =
    0, so that each channel's mean over the image is `mean`, and scaled so that std is the expected
    standard deviation of a pixel. With decay 0 it is `normal_noise` less its own mean.

    Args:
      key, shape, dtype: see the room.
      mean: one value for every channel or one for each (c,), in the range of the model's images.
      std: standard deviation of each value, in the same units, at least 0.
      decay: the power by which the amplitude falls with the frequency; about 1 in natural images.

    Returns:
      The image (h, w, c), which may leave the range of the model's images. One of a single pixel is
      its mean.

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import smooth_noise
      >>> print(f"{smooth_noise(jax.random.key(0), (8, 6, 3)).mean():.4f}")
      0.5000

    Reference:
      Field, Relations between the statistics of natural images and the response properties of
      cortical cells, Journal of the Optical Society of America A, 1987, on 1 / f amplitudes.
    """
    check_key(key)
    shape, dtype = _checked(shape, dtype)
    noise = jax.random.normal(key, shape, single_or_wider(dtype))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    varying = frequency > 0
    waves = jnp.asarray(np.where(varying, frequency, 1.0), noise.dtype)
    # Of the largest, so that no power is infinite.
    logarithms = -in_dtype(as_number("decay", decay), noise.dtype) * jnp.log(waves)
    largest = jnp.max(logarithms, where=varying, initial=jnp.finfo(noise.dtype).min)
    amplitudes = jnp.where(varying, jnp.exp(jnp.where(varying, logarithms - largest, 0.0)), 0.0)
    power = jnp.mean(amplitudes**2)
    filter_ = (amplitudes / jnp.sqrt(jnp.where(power == 0, 1.0, power)))[:, :, None]
    spectrum = jnp.fft.fft2(noise, axes=(0, 1))
    smoothed = jnp.fft.ifft2(filter_.astype(spectrum.dtype) * spectrum, axes=(0, 1)).real
    return _about(mean, std, smoothed, dtype)


def _about(mean: Color, std: Number, noise: Array, dtype: DTypeLike) -> Image:
    std = in_dtype(as_number("std", std, 0), noise.dtype)
    center = filled("mean", as_color("mean", mean), noise.shape, noise.dtype)
    return (center + std * noise).astype(dtype)


def _checked(shape: Shape, dtype: DTypeLike) -> tuple[Shape, Any]:
    check_image_shape(shape)
    check_float_dtype(dtype)
    return shape, jax.dtypes.canonicalize_dtype(dtype)
