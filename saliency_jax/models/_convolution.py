"""Two-dimensional convolution whose input gradient is a plain convolution too.

XLA's CPU compiler brings convolutions into its fast form only outside loop bodies, and the input
gradient that JAX derives for a convolution is not in that form, so gradient ascent inside a
`lax.scan` is an order of magnitude slower than the same step called alone
(https://github.com/jax-ml/jax/issues/12868). Here the input gradient is written as one
channels-last convolution of the cotangent, which needs no rewriting, in a loop or out of it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolution(
    images: Float[Array, "n h w i"],
    kernel: Float[Array, "k k i o"],
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlates a batch of images with a square kernel.

    out[n, y, x, o] = sum_{a, b, i} images[n, s y + a - p, s x + b - p, i] kernel[a, b, i, o], with
    stride s, padding p and zeros outside the image. The value and both first derivatives are those
    of `jax.lax.conv_general_dilated`; reverse-mode derivatives of any order and `jax.vmap` work,
    forward mode (`jax.jvp`, `jax.jacfwd`) raises a TypeError, as for every `jax.custom_vjp`.

    Args:
      images: (n, h, w, i), floating point.
      kernel: (k, k, i, o), square, of the same dtype.
      stride: step between neighbouring outputs in pixels, at least 1.
      padding: rows and columns of zeros on each side, 0 to k - 1.

    Returns:
      (n, (h + 2 p - k) // s + 1, (w + 2 p - k) // s + 1, o).

    Raises:
      ValueError: if the kernel is not square, or stride or padding is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), padding=1).shape
      (1, 4, 4, 2)
    """
    size = kernel.shape[0]
    if kernel.shape[1] != size:
        raise ValueError(f"expected a square kernel, got {kernel.shape[:2]}")
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, got {stride}")
    if not 0 <= padding < size:
        raise ValueError(f"expected a padding in 0 .. {size - 1}, got {padding}")
    if size == 1:
        return images[:, ::stride, ::stride] @ kernel[0, 0]
    return _convolution(images, kernel, stride, padding)


def _correlate(images, kernel, stride, padding):
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=_LAYOUT
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(images, kernel, stride, padding):
    return _correlate(images, kernel, stride, padding)


def _forward(images, kernel, stride, padding):
    return _correlate(images, kernel, stride, padding), (images, kernel)


def _backward(stride, padding, residuals, cotangent):
    images, kernel = residuals
    before = kernel.shape[0] - 1 - padding
    edges = []
    for axis in (1, 2):
        reach = (cotangent.shape[axis] - 1) * stride
        edges.append((before, images.shape[axis] + kernel.shape[0] - 2 - before - reach))
    # The barrier keeps the compiler from folding the flip back into a reversed convolution, which
    # is the slow form.
    flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    image_gradient = lax.conv_general_dilated(
        cotangent,
        flipped,
        (1, 1),
        edges,
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return image_gradient, _kernel_gradient(images, kernel, cotangent, stride, padding)


_convolution.defvjp(_forward, _backward)


def _kernel_gradient(images, kernel, cotangent, stride, padding):
    """d[a, b] = sum_{n, y, x} images[n, s y + a - p, s x + b - p] outer cotangent[n, y, x]."""
    if stride > 1:
        (gradient,) = jax.linear_transpose(
            lambda kernel: _correlate(images, kernel, stride, padding), kernel
        )(cotangent)
        return gradient
    # One matrix product of images shifted along their rows with cotangents shifted along their
    # columns meets every (a, b): twice as fast on a CPU, where few channels starve a convolution.
    size, _, inputs, outputs = kernel.shape
    height, width = images.shape[1], cotangent.shape[2]
    images = jnp.pad(images, ((0, 0), (0, 0), (padding, padding), (0, 0)))
    images = jnp.concatenate([images[:, :, b : b + width] for b in range(size)], -1)
    rest = size - 1 - padding
    cotangent = jnp.pad(cotangent, ((0, 0), (rest, rest), (0, 0), (0, 0)))
    cotangent = jnp.concatenate([cotangent[:, a : a + height] for a in range(size - 1, -1, -1)], -1)
    gradient = images.reshape(-1, size * inputs).T @ cotangent.reshape(-1, size * outputs)
    return gradient.reshape(size, inputs, size, outputs).transpose(2, 0, 1, 3)
