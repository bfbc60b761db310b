"""Canvases: what gradient ascent moves, and how it is decoded into an image."""

from .._types import Image


def pixels(params: Image) -> Image:
    """The canvas of plain pixels: the parameters are the image.

    decode(x) = x

    Args:
      params: the image (h, w, c), in the range that the score's model takes.

    Returns:
      The same image.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import pixels
      >>> print(pixels(jnp.full((1, 2, 1), 0.5)).squeeze())
      [0.5 0.5]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034.
    """
    return params
