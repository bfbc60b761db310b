"""Two-dimensional convolutions whose input gradients are plain ones too.

XLA's CPU compiler brings convolutions into its fast form only outside loop bodies, and the input
gradient that JAX derives for a convolution is not in that form, so gradient ascent inside a
`lax.scan` is an order of magnitude slower than the same step called alone
(https://github.com/jax-ml/jax/issues/12868). Here the input gradient is written as one
channels-last convolution of the cotangent, which needs no rewriting, in a loop or out of it. Where
a kernel is larger than its map, to turn it over takes longer than to convolve with it: there the
input gradient is one product with the kernel as it is, and shifted sums of its parts.

A depthwise convolution has no fast form there at all. Here it is a sum of shifted multiples, and
so is its input gradient: `experiments/benchmarks/depthwise_convolution.py` times both beside lax's.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._numerics import at_least_single, common_dtype
from .._validation import as_unbounded, check_count, check_pair

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# By how much a kernel exceeds the map that it makes, where turning it over is most of the work.
_LARGER = 8


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
    images = as_unbounded("images", images, ("n", "h", "w", "i"))
    kernel = as_unbounded("kernel", kernel, ("k", "k", "i", "o"))
    if kernel.dtype != images.dtype:
        raise TypeError(f"expected kernel to hold {images.dtype} as images, got {kernel.dtype}")
    stride, padding = check_count("stride", stride, 1), check_count("padding", padding, 0)
    size = kernel.shape[0]
    if kernel.shape[1] != size:
        raise ValueError(f"expected a square kernel, got {kernel.shape[:2]}")
    if not 0 <= padding < size:
        raise ValueError(f"expected a padding in 0 .. {size - 1}, got {padding}")
    if size == 1:
        pixels = images[:, ::stride, ::stride]
        # As one matrix: a product that is contracted over three axes is slow on a CPU, and so the
        # kernel's gradient would be.
        products = pixels.reshape(-1, pixels.shape[-1]) @ kernel[0, 0]
        return products.reshape(*pixels.shape[:-1], -1)
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
    kernel_gradient = _kernel_gradient(images, kernel, cotangent, stride, padding)
    if kernel.shape[0] ** 2 * kernel.shape[2] > _LARGER * cotangent.shape[1] * cotangent.shape[2]:
        return _by_products(images.shape, kernel, cotangent, stride, padding), kernel_gradient
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
    return image_gradient, kernel_gradient


_convolution.defvjp(_forward, _backward)


def _by_products(shape, kernel, cotangent, stride, padding):
    """The input gradient as one matrix product, whose k^2 shifted parts are added up."""
    size, _, inputs, outputs = kernel.shape
    _, height, width, _ = cotangent.shape
    products = lax.dot_general(
        cotangent.reshape(-1, outputs),
        kernel.reshape(-1, outputs),
        (((1,), (1,)), ((), ())),
        preferred_element_type=common_dtype(cotangent.dtype, jnp.dtype(jnp.float32)),
    ).reshape(*cotangent.shape[:3], size, size, inputs)

    def spread(start, count, side):
        reach = (count - 1) * stride + 1
        return start - padding, side - reach - start + padding, stride - 1

    nothing = jnp.zeros((), products.dtype)
    parts = (
        lax.pad(
            products[:, :, :, a, b],
            nothing,
            ((0, 0, 0), spread(a, height, shape[1]), spread(b, width, shape[2]), (0, 0, 0)),
        )
        for a in range(size)
        for b in range(size)
    )
    return functools.reduce(jnp.add, parts).astype(cotangent.dtype)


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


Padding = tuple[tuple[int, int], tuple[int, int]]


def same_padding(size: tuple[int, int], kernel_size: int, stride: int) -> Padding:
    """The rows and columns of zeros of TensorFlow's padding SAME.

    An image of side s gets ceil(s / stride) outputs; an odd number of zeros has the more of them
    after the image.

    Args:
      size: height and width of the image.
      kernel_size: side k of the kernel, at least 1.
      stride: at least 1.

    Returns:
      ((top, bottom), (left, right)).

    Example:
      >>> same_padding((224, 225), 3, 2)
      ((0, 1), (1, 1))
    """
    check_pair("size", size, "(height, width)")
    for side in size:
        check_count("size", side, 1)
    kernel_size = check_count("kernel_size", kernel_size, 1)
    stride = check_count("stride", stride, 1)
    edges = []
    for side in size:
        missing = max((-(-side // stride) - 1) * stride + kernel_size - side, 0)
        edges.append((missing // 2, missing - missing // 2))
    return edges[0], edges[1]


def depthwise_convolution(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "k k 1 c"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "n h2 w2 c"]:
    """Cross-correlates each channel of a batch of images with a square kernel of its own.

    out[n, y, x, c] = sum_{a, b} images[n, s y + a - top, s x + b - left, c] kernel[a, b, 0, c],
    with stride s and zeros outside the image. The value and all derivatives are those of
    `jax.lax.conv_general_dilated` with `feature_group_count=c`; forward mode raises a TypeError, as
    for every `jax.custom_vjp`.

    Args:
      images: (n, h, w, c), floating point.
      kernel: (k, k, 1, c), square, of the same dtype.
      stride: step between neighbouring outputs in pixels, at least 1.
      padding: rows of zeros above and below, columns at the left and right, none negative;
        `same_padding` gives TensorFlow's.

    Returns:
      (n, (h + top + bottom - k) // s + 1, (w + left + right - k) // s + 1, c).

    Raises:
      ValueError: the kernel is not square, is not of as many channels, or exceeds the padded
        image; or stride or padding is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> images, kernel = jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 1, 2))
      >>> padding = same_padding((5, 5), 3, 2)
      >>> depthwise_convolution(images, kernel, stride=2, padding=padding)[0, :, :, 0].tolist()
      [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    images = as_unbounded("images", images, ("n", "h", "w", "c"))
    kernel = as_unbounded("kernel", kernel, ("k", "k", "1", "c"))
    if kernel.dtype != images.dtype:
        raise TypeError(f"expected kernel to hold {images.dtype} as images, got {kernel.dtype}")
    stride = check_count("stride", stride, 0)
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, got {stride}")
    size, other, _, channels = kernel.shape
    if other != size:
        raise ValueError(f"expected a square kernel, got {kernel.shape[:2]}")
    if channels != images.shape[-1]:
        raise ValueError(f"expected a kernel for {images.shape[-1]} channels, got {channels}")
    for edges in padding if isinstance(padding, tuple | list) else (padding,):
        check_pair("padding", edges, "((top, bottom), (left, right))")
    if min(min(edges) for edges in padding) < 0:
        raise ValueError(f"expected paddings of at least 0, got {padding}")
    sides = [side + sum(edges) for side, edges in zip(images.shape[1:3], padding, strict=True)]
    if min(sides) < size:
        raise ValueError(
            f"expected a kernel of at most the padded image, {tuple(sides)}, got {(size, size)}"
        )
    return _depthwise(images, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(images, kernel, stride, padding):
    return _shifted_sum(images, kernel, stride, padding)


def _depthwise_forward(images, kernel, stride, padding):
    return _shifted_sum(images, kernel, stride, padding), (images, kernel)


def _shifted_sum(images, kernel, stride, padding):
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    taps = _taps(padded, kernel.shape[0], stride)
    return functools.reduce(
        jnp.add, (kernel[None, None, None, a, b, 0] * tap for a, b, tap in taps)
    )


def _taps(padded, size, stride):
    """(a, b, the pixels that the kernel's [a, b] meets) for all of the kernel."""
    height, width = ((side - size) // stride + 1 for side in padded.shape[1:3])
    for a in range(size):
        for b in range(size):
            rows = slice(a, a + (height - 1) * stride + 1, stride)
            columns = slice(b, b + (width - 1) * stride + 1, stride)
            yield a, b, padded[:, rows, columns]


def _depthwise_backward(stride, padding, residuals, cotangent):
    images, kernel = residuals
    size = kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    kernel_gradient = _depthwise_kernel_gradient(padded, kernel, cotangent, stride)
    # A pixel of the padded image met the entries of the kernel that are of its row and its column
    # modulo the stride. Each such phase is a sum of shifted cotangents, and the phases interleave.
    reach = -(-size // stride) - 1
    margin = (reach, reach)
    spread = jnp.pad(cotangent, ((0, 0), margin, margin, (0, 0)))
    phases = [
        jnp.stack([_phase(spread, kernel[a::stride, b::stride], reach) for b in range(stride)], 3)
        for a in range(stride)
    ]
    interleaved = jnp.stack(phases, 2)
    n, rows, _, columns, _, channels = interleaved.shape
    gradient = interleaved.reshape(n, rows * stride, columns * stride, channels)
    (top, _), (left, _) = padding
    height, width = images.shape[1:3]
    # Of the last rows and columns there may be some that no kernel met.
    below = max(top + height - rows * stride, 0)
    right = max(left + width - columns * stride, 0)
    gradient = jnp.pad(gradient, ((0, 0), (0, below), (0, right), (0, 0)))
    return gradient[:, top : top + height, left : left + width], kernel_gradient


def _depthwise_kernel_gradient(padded, kernel, cotangent, stride):
    """d[a, b, 0, c] = sum_{n, y, x} padded[n, s y + a, s x + b, c] cotangent[n, y, x, c].

    Row by row: sums of whole rows are loops that a CPU vectorizes, which a reduction to the few
    channels is not, and seven times as fast.
    """
    size = kernel.shape[0]

    def add_row(sums, y):
        rows = lax.dynamic_slice_in_dim(padded, y * stride, size, 1)
        row = lax.dynamic_index_in_dim(cotangent, y, 1, keepdims=False)
        products = (tap[:, 0] * row for _, _, tap in _taps(rows, size, stride))
        pairs = zip(sums, products, strict=True)
        return tuple(total + product.astype(total.dtype) for total, product in pairs), None

    # Summed in single precision at least, as a reduction of half precision is.
    nothing = jnp.zeros_like(at_least_single(cotangent[:, 0]))
    sums, _ = lax.scan(add_row, (nothing,) * size**2, jnp.arange(cotangent.shape[1]))
    gradient = jnp.stack([total.sum((0, 1)) for total in sums])
    return gradient.reshape(kernel.shape).astype(kernel.dtype)


def _phase(spread, kernel, reach):
    """sum_{i, j} kernel[i, j] times the cotangent shifted down by i and to the right by j."""
    rows, columns = (side - reach for side in spread.shape[1:3])
    shifted = (
        kernel[None, None, None, i, j, 0] * spread[:, reach - i :, reach - j :][:, :rows, :columns]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )
    nothing = jnp.zeros((len(spread), rows, columns, spread.shape[-1]), spread.dtype)
    return functools.reduce(jnp.add, shifted, nothing)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
