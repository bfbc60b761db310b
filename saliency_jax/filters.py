"""Filters of an image: Gaussian blurs, for baselines, paths and ascent's steps, and its edges.

As matrix products and shifts they need no convolution, which XLA runs slowly inside loops on a CPU,
and the blurs' standard deviation may be traced and differentiated.

What means the same everywhere here:

  image: (h, w, c) of floats, in any range.
  sigma: the standard deviation, at least 0, in pixels. A traced one is welcome.

Every function raises TypeError where the image does not hold floats, and ValueError where it is not
of shape (h, w, c), it is known and not finite, or sigma is known and negative.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._numerics import at_least_single, norm_along
from ._types import Image, Number, SaliencyMap
from ._validation import as_image, as_number

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
      image, sigma: see the module.

    Returns:
      The blurred image (h, w, c). With sigma 0 it is the image.

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
    image = as_image(image)
    return _mixed(image, *_kernels(image, sigma))


def blur(image: Image, sigma: Number) -> Image:
    """The image blurred with a Gaussian, each pixel a mean over the image's own pixels.

    B = (G_sigma * I) / (G_sigma * 1), G_sigma * being `gaussian_blur`

    Args:
      image, sigma: see the module.

    Returns:
      The blurred image (h, w, c), in the image's range. With sigma 0 it is the image; as sigma
      grows it goes to the image's mean colour. Constant images stay as they are.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import filters
      >>> print(filters.blur(jnp.array([[[0.0], [1.0]]]), 1.0).squeeze().round(2))
      [0.39 0.61]

    Reference:
      Fong, Vedaldi, Interpretable Explanations of Black Boxes by Meaningful Perturbation, 2017,
      arXiv:1704.03296.
    """
    image = as_image(image)
    kernels = _kernels(image, sigma)
    return _mixed(image, *(kernel / kernel.sum(1, keepdims=True) for kernel in kernels))


def sobel(image: Image) -> SaliencyMap:
    """The strength of an image's edges, by the Sobel operator, in all channels together.

    E = sqrt(sum_c (D * I_c)^2 + (D^T * I_c)^2), D = [1 2 1]^T [-1 0 1] / 8, with the image's
    outermost pixels repeated around it

    A map that looks at no model: what an attribution has in common with it, an image filter can do.

    Args:
      image: see the module.

    Returns:
      The strength (h, w), at least 0, in units of the image per pixel: of a ramp its slope, of a
      constant image 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax import filters
      >>> print(filters.sobel(jnp.array([[[0.0], [0.0], [1.0], [1.0]]])))
      [[0.  0.5 0.5 0. ]]

    Reference:
      Sobel, Feldman, An Isotropic 3x3 Image Gradient Operator, 1968 (not on arXiv); as a control of
      saliency maps Adebayo et al., Sanity Checks for Saliency Maps, 2018, arXiv:1810.03292.
    """
    image = as_image(image)
    padded = jnp.pad(at_least_single(image), ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = _smoothed(_slope(padded, axis=0), axis=1)
    along = _slope(_smoothed(padded, axis=0), axis=1)
    return norm_along(jnp.concatenate([down, along], axis=-1), -1).astype(image.dtype)


def _slope(values: Float[Array, "h w c"], axis: int) -> Float[Array, "h2 w2 c"]:
    before, _, after = _shifted(values, axis)
    return (after - before) / 2


def _smoothed(values: Float[Array, "h w c"], axis: int) -> Float[Array, "h2 w2 c"]:
    before, here, after = _shifted(values, axis)
    return (before + 2 * here + after) / 4


def _shifted(values: Float[Array, "h w c"], axis: int) -> list[Float[Array, "h2 w2 c"]]:
    inner = values.shape[axis] - 2
    return [jax.lax.slice_in_dim(values, start, start + inner, axis=axis) for start in range(3)]


def _mixed(
    image: Float[Array, "h w c"], rows: Float[Array, "h h"], columns: Float[Array, "w w"]
) -> Image:
    pixels = at_least_single(image)
    mixed = jnp.einsum("ia,jb,abc->ijc", rows, columns, pixels, precision="highest")
    return mixed.astype(image.dtype)


def _kernels(image: Float[Array, "h w c"], sigma: Number) -> list[Float[Array, "n n"]]:
    """Of each side of the image, in at least single precision."""
    sigma = jnp.asarray(as_number("sigma", sigma, 0), at_least_single(image).dtype)
    return [_kernel(length, sigma) for length in image.shape[:2]]


def _kernel(length: int, sigma: Float[Array, ""]) -> Float[Array, "n n"]:
    position = np.arange(length)
    distance = jnp.asarray(np.abs(position[:, None] - position[None, :]), sigma.dtype)
    scale = math.sqrt(2.0) * jnp.maximum(sigma, _SMALLEST_SIGMA)
    inner, outer = (distance - 0.5) / scale, (distance + 0.5) / scale
    # Each where it is small: next to 1 they are rounded, and their differences may be negative.
    middle = jax.scipy.special.erf(outer) - jax.scipy.special.erf(inner)
    tail = jax.scipy.special.erfc(inner) - jax.scipy.special.erfc(outer)
    return jnp.where(outer < 0.5, middle, tail) / 2
