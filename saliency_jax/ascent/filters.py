"""Filters of an image, for augmentations and for regularized steps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Image, Number
from .._validation import check_at_least, check_image

# A blur of standard deviation 0 is the limit of small ones, and this one is there in float32.
_NO_BLUR = 1e-3


def gaussian_blur(image: Image, std: Number) -> Image:
    """The image under a Gaussian window, which is cut off and rescaled at the image's edges.

    B(I) = W_h I W_w^T for each channel, (W_n)_ij = g(i - j) / sum_k g(i - k), g(t) = exp(-t^2 / (2
    std^2))

    As two matrix products it needs no convolution, which XLA runs slowly inside loops on a CPU, and
    the standard deviation may be traced.

    Args:
      image: (h, w, c), of any range.
      std: the standard deviation of the window in pixels, at least 0.

    Returns:
      The image (h, w, c). Constant images stay as they are, and so does every image at std 0.

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), or std is known and negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import gaussian_blur
      >>> image = jnp.zeros((1, 5, 1)).at[0, 2].set(1.0)
      >>> print((100 * gaussian_blur(image, 0.5)).ravel().astype(int))
      [ 0 10 78 10  0]

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, which blurs the image between steps.
    """
    check_image(image)
    check_at_least("std", std, 0)
    rows, columns = (_windows(length, std) for length in image.shape[:2])
    return jnp.einsum("ip,jq,pqc->ijc", rows, columns, image, precision=jax.lax.Precision.HIGHEST)


def _windows(length: int, std: Number) -> Float[Array, "n n"]:
    places = jnp.arange(length, dtype=float)
    distance = (places[:, None] - places[None, :]) / jnp.maximum(std, _NO_BLUR)
    windows = jnp.exp(-(distance**2) / 2)
    return windows / windows.sum(1, keepdims=True)
