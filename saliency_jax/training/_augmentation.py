"""Random changes of training images that keep their class."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import Image, Key
from .._validation import as_image, check_key

# What is seen of an image: padded by an eighth of its sides, a window of it never leaves it even
# where it is made the smallest.
_PADDED_SHARE = 8
_ZOOMS = (0.8, 1.4)
_LIGHTS = (0.8, 1.2)


def flip_crop_and_zoom(image: Image, key: Key) -> Float[Array, "h w c"]:
    """Mirrors, shifts, zooms and lights an image at random, with reflected edges.

    Mirrored half of the time; zoomed by 0.8 to 1.4 (uniform in the logarithm), bilinearly; the
    window uniform over the image padded by an eighth of its size on each side; contrast, then
    brightness, changed by up to 20 %; clipped to [0, 1].

    Args:
      image: (h, w, c) in [0, 1].
      key: random key.

    Returns:
      (h, w, c), in [0, 1].

    Raises:
      TypeError: the image does not hold floats.
      ValueError: it is not (h, w, c).

    Example:
      >>> import jax
      >>> flip_crop_and_zoom(jax.numpy.ones((16, 8, 3)), jax.random.key(0)).shape
      (16, 8, 3)
    """
    check_key(key)
    image = as_image(image)
    flip_key, *keys = jax.random.split(key, 4)
    flipped = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return _cropped_and_zoomed(flipped, *keys)


def crop_and_zoom(image: Image, key: Key) -> Float[Array, "h w c"]:
    """Shifts, zooms and lights an image like `flip_crop_and_zoom`, which also mirrors it.

    For images of characters, whose mirror images are others.

    Args:
      image: (h, w, c) in [0, 1].
      key: random key.

    Returns:
      (h, w, c), in [0, 1].

    Raises:
      TypeError: the image does not hold floats.
      ValueError: it is not (h, w, c).

    Example:
      >>> import jax
      >>> crop_and_zoom(jax.numpy.ones((16, 8, 1)), jax.random.key(0)).shape
      (16, 8, 1)
    """
    check_key(key)
    _, *keys = jax.random.split(key, 4)
    return _cropped_and_zoomed(as_image(image), *keys)


def unchanged(image: Float[Array, "h w c"], key: Key) -> Float[Array, "h w c"]:
    """The augmentation that does nothing, for images that a flip or a shift would falsify.

    Args:
      image: (h, w, c).
      key: not used.

    Returns:
      The image.

    Example:
      >>> import jax
      >>> image = jax.numpy.ones((2, 2, 3))
      >>> unchanged(image, jax.random.key(0)) is image
      True
    """
    del key
    return image


def _cropped_and_zoomed(
    image: Float[Array, "h w c"], zoom_key: Key, crop_key: Key, light_key: Key
) -> Float[Array, "h w c"]:
    dtype = image.dtype
    image = at_least_single(image)
    draw = functools.partial(jax.random.uniform, dtype=image.dtype)
    height, width = image.shape[:2]
    margin = (-(-height // _PADDED_SHARE), -(-width // _PADDED_SHARE))
    padded = jnp.pad(image, ((margin[0],) * 2, (margin[1],) * 2, (0, 0)), mode="reflect")
    low, high = (jnp.log(jnp.asarray(zoom, image.dtype)) for zoom in _ZOOMS)
    zoom = jnp.exp(draw(zoom_key, minval=low, maxval=high))
    # The padded image, zoomed, sticks out of the window by this much in each direction together.
    sides, window = (jnp.array(shape[:2], image.dtype) for shape in (padded.shape, image.shape))
    corner = draw(crop_key, (2,)) * (sides * zoom - window)
    image = jax.image.scale_and_translate(
        padded, image.shape, (0, 1), jnp.full(2, zoom), -corner, "linear", antialias=False
    )
    contrast, brightness = draw(light_key, (2,), minval=_LIGHTS[0], maxval=_LIGHTS[1])
    image = (image - image.mean()) * contrast + image.mean() * brightness
    return image.clip(0, 1).astype(dtype)
