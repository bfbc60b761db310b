"""Gaussian blurs of an image: for baselines and paths of attributions, and between ascent's steps.

As two matrix products they need no convolution, which XLA runs slowly inside loops on a CPU, and
the standard deviation may be traced and differentiated.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._types import Image, Number
from ._validation import check_at_least, check_image

# Below it the Gaussian's share in its own pixel is 1 in float32, and its derivative 0.
_SMALLEST_SIGMA = 0.01


def gaussian_blur(image: Image, sigma: Number) -> Image:
    """The image convolved with a Gaussian, on a plane that is zero outside the image.

    L = G_sigma * I, where G_sigma(d) is the Gaussian's share in the pixel at distance d:
    G_sigma(d) = Phi((d + 1/2) / sigma) - Phi((d - 1/2) / sigma) along each axis

    Shares of whole pixels, and not samples at their centres, add up to 1 for every sigma, need no
    truncation, and go over smoothly into the image itself as sigma goes to 0. Next to the border
    the zeros outside shine in: `blur` divides by the kernel's weight inside the image.

    Args:
      image: (h, w, c), in any range.
      sigma: the standard deviation, at least 0, in pixels. A traced one is welcome.

    Returns:
      The blurred image (h, w, c). With sigma 0 it is the image.

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or sigma is known
        and negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import filters
      >>> image = jnp.zeros((5, 5, 1)).at[2, 2].set(1.0)
      >>> print(filters.gaussian_blur(image, 0.5)[1:4, 1:4].squeeze().round(2))
      [[0.02 0.11 0.02]
       [0.11 0.47 0.11]
       [0.02 0.11 0.02]]

    Reference:
      Xu, Venugopalan, Sundararajan, Attribution in Scale and Space, 2020, arXiv:2004.03383.
    """
    check_image(image)
    check_at_least("sigma", sigma, 0)
    return _mixed(image, *(_kernel(length, sigma) for length in image.shape[:2]))


def blur(image: Image, sigma: Number) -> Image:
    """The image blurred with a Gaussian, each pixel a mean over the image's own pixels.

    B = (G_sigma * I) / (G_sigma * 1), G_sigma * being `gaussian_blur`

    Args:
      image: (h, w, c), in any range.
      sigma: the standard deviation, at least 0, in pixels. A traced one is welcome.

    Returns:
      The blurred image (h, w, c), in the image's range. With sigma 0 it is the image; as sigma
      grows it goes to the image's mean colour. Constant images stay as they are.

    Raises:
      TypeError: the image does not hold floats.
      ValueError: the image is not of shape (h, w, c), it is known and not finite, or sigma is known
        and negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import filters
      >>> print(filters.blur(jnp.array([[[0.0], [1.0]]]), 1.0).squeeze().round(2))
      [0.39 0.61]

    Reference:
      Fong, Vedaldi, Interpretable Explanations of Black Boxes by Meaningful Perturbation, 2017,
      arXiv:1704.03296.
    """
    check_image(image)
    check_at_least("sigma", sigma, 0)
    kernels = (_kernel(length, sigma) for length in image.shape[:2])
    return _mixed(image, *(kernel / kernel.sum(1, keepdims=True) for kernel in kernels))


def _mixed(image: Image, rows: Float[Array, "h h"], columns: Float[Array, "w w"]) -> Image:
    rows, columns = (kernel.astype(image.dtype) for kernel in (rows, columns))
    return jnp.einsum("ia,jb,abc->ijc", rows, columns, image, precision="highest")


def _kernel(length: int, sigma: Number) -> Float[Array, "n n"]:
    position = jnp.arange(length, dtype=float)
    distance = position[:, None] - position[None, :]
    scale = jnp.sqrt(2.0) * jnp.maximum(sigma, _SMALLEST_SIGMA)
    erf = jax.scipy.special.erf
    return (erf((distance + 0.5) / scale) - erf((distance - 0.5) / scale)) / 2
