"""Augmentations: random changes of the image that gradient ascent averages the score over."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from .._types import Augment, Count, Image, Key
from .._validation import check_at_least


def jitter(pixels: Count) -> Augment:
    """A random shift of the whole image, which comes back in at the other side.

    T(I)_ij = I_{(i - u) mod h, (j - v) mod w} with u, v ~ uniform {-pixels, ..., pixels}

    Args:
      pixels: the largest shift along either axis, at least 0. A traced one is welcome.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape. With 0 it
      changes nothing.

    Raises:
      ValueError: the number of pixels is known and negative.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import jitter
      >>> image = jnp.arange(12.0).reshape(3, 4, 1)
      >>> shifted = jitter(2)(image, jax.random.key(0))
      >>> print(jnp.array_equal(jnp.sort(shifted.ravel()), image.ravel()))
      True

    Reference:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, Google Research
      blog, 2015 (the published code; not on arXiv).
    """
    check_at_least("pixels", pixels, 0)
    return Partial(_jitter, pixels)


def _jitter(pixels: Count, image: Image, key: Key) -> Image:
    shift = jax.random.randint(key, (2,), -pixels, pixels + 1)
    return jnp.roll(image, shift, axis=(0, 1))
