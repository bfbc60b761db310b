"""Canvases: what gradient ascent moves, and how it is decoded into an image.

A canvas other than plain pixels is a pair of functions, which `chain_canvases` joins. All the
numbers in it are leaves of the functions, which are PyTrees. What a function returns has the dtype
of what it was given.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._numerics import at_least_single, common_dtype, in_dtype
from .._types import Color, Decode, Image, Key, Number, Params, Pixels
from .._validation import (
    as_array,
    as_color,
    as_number,
    check_array,
    check_at_least,
    check_color,
    check_count,
    check_finite,
    check_floats,
    check_image_shape,
    filled,
    is_concrete,
    to_jax,
)
from ._initial import normal_noise

Matrix = Float[Array, "c c"] | Float[np.ndarray, "c c"]
Images = Float[Array, "n h w c"] | Float[np.ndarray, "n h w c"]
Coefficients = Float[Array, "2 h w2 c"]
Magnitude = Float[Array, "h w2 c"] | Float[np.ndarray, "h w2 c"]
Phase = Float[Array, "h w2 c"]

# The factor that lucid divides its Fourier images by, so that its settings serve here: standard
# deviation 0.01 at the start and Adam's learning rate 0.05.
_LUCID_SCALE = 4.0
# The sigmoid is flat at the ends of its range: pixels that start there would never move.
_SIGMOID_MARGIN = 1e-3


class Canvas(NamedTuple):
    """Another way to write images, and back.

    Attributes:
      decode: parameters -> image (h, w, c), a callable PyTree, for `ascend`.
      encode: image (h, w, c) -> the parameters that are decoded into it, for `initial_state`.
    """

    decode: Decode
    encode: Callable[[Image], Params]


class ColorStatistics(NamedTuple):
    """The colours of images.

    Attributes:
      mean: (c,), in the images' units.
      covariance: (c, c), in the images' units squared.
    """

    mean: Float[Array, "c"] | Float[np.ndarray, "c"]
    covariance: Matrix


# Of images in [0, 1]: the data set of the bundled models, 10,000 training images of twenty classes,
# as printed by `experiments/color_statistics.py --dataset tiny_imagenet/paper20 --split train`.
TINY_IMAGENET_COLORS = ColorStatistics(
    mean=np.array([0.5071, 0.4546, 0.3663], np.float32),
    covariance=np.array(
        [
            [0.08091, 0.06701, 0.05407],
            [0.06701, 0.07464, 0.06692],
            [0.05407, 0.06692, 0.08349],
        ],
        np.float32,
    ),
)
# Of 203 photographs of ImageNet, each of another class, their largest centred squares at 224
# pixels, as printed by `experiments/color_statistics.py --dataset FOLDER --image-size 224`.
IMAGENET_COLORS = ColorStatistics(
    mean=np.array([0.4925, 0.4604, 0.4067], np.float32),
    covariance=np.array(
        [
            [0.07584, 0.06649, 0.05886],
            [0.06649, 0.07350, 0.06744],
            [0.05886, 0.06744, 0.07626],
        ],
        np.float32,
    ),
)
# Of the same, encoded by `color_canvas` and `sigmoid_canvas`, for each channel: the magnitudes of
# frequency 0 and of one cycle a picture, over the number of pixels, and the power of their fall.
_IMAGENET_MEAN = np.array([2.849, 2.723, 3.897])
_IMAGENET_AMPLITUDE = np.array([1.182, 1.038, 1.151])
_IMAGENET_DECAY = np.array([1.285, 1.219, 1.256])


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


def sigmoid_canvas(low: Number = 0.0, high: Number = 1.0) -> Canvas:
    """Pixels through a sigmoid, which keeps them inside a range without clipping.

    decode(x) = low + (high - low) / (1 + exp(-x))

    Args:
      low: the lower end of the range, which is never reached.
      high: the upper end, above low.

    Returns:
      The `Canvas`, whose parameters have the image's shape (h, w, c) and any range. Pixels within
      0.001 (high - low) of an end, or beyond it, are encoded as if they were that far inside, since
      the sigmoid is too flat there for them to move.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import sigmoid_canvas
      >>> canvas = sigmoid_canvas()
      >>> print(canvas.decode(jnp.zeros((1, 1, 1))), canvas.encode(jnp.full((1, 1, 1), 0.5)))
      [[[0.5]]] [[[0.]]]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, and its code, lucid.
    """
    low = as_number("low", low)
    high = as_number("high", high, low)
    return Canvas(Partial(_sigmoid, low, high), Partial(_logit, low, high))


def fourier_canvas(shape: tuple[int, int, int], decay: Number = 1.0) -> Canvas:
    """Fourier coefficients, scaled so that steps change all the sizes of pattern alike.

    decode(z) = F^-1[s (z_0 + i z_1)] / 4, with s = (h w)^(1/2) / max(f, 1 / max(h, w))^decay

    F^-1 is the inverse of the real two-dimensional Fourier transform, each channel by itself, and f
    the frequency in cycles a pixel. Natural images have amplitudes that fall as 1 / f, decay 1.
    The image has no bounds: follow it by a `sigmoid_canvas`.

    Args:
      shape: see the room.
      decay: the power of the frequency; 0 scales all coefficients alike.

    Returns:
      The `Canvas`, whose parameters are (2, h, w // 2 + 1, c): the real and the imaginary parts,
      without units. Encoding is exact but for rounding.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import fourier_canvas
      >>> canvas = fourier_canvas((3, 5, 1))
      >>> image = jnp.arange(15.0).reshape(3, 5, 1)
      >>> print(canvas.encode(image).shape, canvas.decode(canvas.encode(image)).shape)
      (2, 3, 3, 1) (3, 5, 1)

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on preconditioning, and its code, lucid.
    """
    check_image_shape(shape)
    height, width, _ = shape
    amplitudes = _amplitudes(height, width, as_number("decay", decay))
    scale = amplitudes * (float(np.sqrt(height * width)) / _LUCID_SCALE)
    return Canvas(Partial(_ToPixels(height, width), scale), Partial(_to_coefficients, scale))


def fourier_noise(
    key: Key,
    shape: tuple[int, int, int],
    std: Number = 0.01,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Coefficients:
    """Random parameters to start a `fourier_canvas` from: noise of independent coefficients.

    z = std * e with e ~ N(0, 1)

    Args:
      key, shape, dtype: see the room.
      std: the standard deviation of each coefficient, at least 0; 0.01 is lucid's.

    Returns:
      The parameters (2, h, w // 2 + 1, c).

    Example:
      >>> import jax
      >>> from saliency_jax.ascent import fourier_noise
      >>> print(fourier_noise(jax.random.key(0), (4, 6, 3)).shape)
      (2, 4, 4, 3)

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, and its code, lucid.
    """
    check_image_shape(shape)
    height, width, channels = shape
    of_image = (2 * height, width // 2 + 1, channels)
    noise = normal_noise(key, of_image, 0.0, std, dtype)
    return jnp.reshape(noise, (2, height, width // 2 + 1, channels))


def phase_canvas(magnitude: Magnitude, width: int) -> Canvas:
    """The phases of a spectrum whose magnitudes are fixed (MACO).

    decode(p) = F^-1[m exp(i p)]

    F^-1 is the inverse of the real two-dimensional Fourier transform, each channel by itself. The
    magnitude says how much there is of each frequency, as in natural images, and ascent only where
    the patterns go: the image cannot fill with high frequencies.

    Args:
      magnitude: m (h, w // 2 + 1, c), at least 0, in units of the image: `mean_magnitude(images)`.
      width: w of the image, even or odd, which the magnitude's shape does not tell.

    Returns:
      The `Canvas`, whose parameters are the phases (h, w // 2 + 1, c), in radians. An image is
      encoded as its phases alone, so it is decoded as itself only if m is its own magnitude. In the
      first column, and in the last one for an even width, a real image has phases in pairs, p and
      -p; of phases that are not so, the real image takes the half that is, which is smaller than m.

    Raises:
      ValueError: the magnitude is not of shape (h, w // 2 + 1, c), or is known and negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import mean_magnitude, phase_canvas
      >>> image = jnp.arange(6.0).reshape(2, 3, 1)
      >>> canvas = phase_canvas(mean_magnitude(image[None]), width=3)
      >>> print(jnp.allclose(canvas.decode(canvas.encode(image)), image, atol=1e-5))
      True

    Reference:
      Fel, Boissin, Boutin, Picard, Novello, Colin, Linsley, Rousseau, Cadene, Gardes, Serre,
      Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization,
      2023, arXiv:2306.06805.
    """
    width = check_count("width", width, 1)
    spectrum = as_array("magnitude", magnitude, ("h", "w // 2 + 1", "c"))
    check_at_least("magnitude", spectrum, 0)
    height, columns, _ = spectrum.shape
    if columns != width // 2 + 1:
        raise ValueError(
            f"expected magnitude to have {width // 2 + 1} columns for a width of {width}, "
            f"got {columns}"
        )
    return Canvas(Partial(_FromPhases(height, width), spectrum), Partial(_to_phases))


def color_canvas(covariance: Matrix, mean: Color = 0.0) -> Canvas:
    """Decorrelated colours: a step along one parameter changes colours as they change together.

    decode(x)_ij = mean + C^(1/2) x_ij, C^(1/2) being the symmetric square root of the covariance

    Independent noise of variance 1 is decoded into noise with the colours' covariance. With the
    identity and mean 0 it changes nothing.

    Args:
      covariance: C (c, c) of the colours, positive definite: `color_statistics(images).covariance`.
      mean: one value for every channel or one for each (c,); 0 where a `sigmoid_canvas` follows,
        which makes grey of it.

    Returns:
      The `Canvas`, whose parameters have the image's shape (h, w, c), in standard deviations.

    Raises:
      ValueError: the covariance is not of shape (c, c), or is known and not symmetric or not
        positive definite; when the canvas is used, the image has another number of channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import color_canvas
      >>> canvas = color_canvas(jnp.array([[0.25]]), mean=0.5)
      >>> print(canvas.decode(jnp.array([[[-1.0], [0.0], [1.0]]])).squeeze())
      [0.  0.5 1. ]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on preconditioning, and its code, lucid.
    """
    check_array("covariance", covariance, ("c", "c"))
    check_finite("covariance", covariance)
    if covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"expected covariance to have shape (c, c), got {covariance.shape}")
    check_color("mean", mean, (1, 1, covariance.shape[0]))
    mean = as_color("mean", mean)
    root, inverse_root = _square_roots(covariance)
    return Canvas(Partial(_recolored, root, mean), Partial(_decolored, inverse_root, mean))


def chain_canvases(*canvases: Canvas) -> Canvas:
    """Canvases one after the other: the first has the parameters, the last decodes to the image.

    decode = decode_n o ... o decode_1, encode = encode_1 o ... o encode_n

    Args:
      *canvases: for lucid's canvas `fourier_canvas(shape)`, `color_canvas(covariance)` and
        `sigmoid_canvas()`, in this order. Of none at all, the canvas of plain pixels is made.

    Returns:
      The `Canvas`.

    Raises:
      TypeError: one of them is no `Canvas`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import ascent
      >>> shape, covariance = (4, 4, 3), 0.1 * jnp.eye(3)
      >>> canvas = ascent.chain_canvases(
      ...     ascent.fourier_canvas(shape), ascent.color_canvas(covariance), ascent.sigmoid_canvas()
      ... )
      >>> print(canvas.decode(jnp.zeros((2, 4, 3, 3))).mean())
      0.5

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, and its code, lucid.
    """
    for canvas in canvases:
        if not isinstance(canvas, Canvas):
            raise TypeError(f"expected canvases to be of type Canvas, got {type(canvas).__name__}")
    return Canvas(
        Partial(_in_turn, tuple(canvas.decode for canvas in canvases)),
        Partial(_in_turn, tuple(canvas.encode for canvas in reversed(canvases))),
    )


def color_statistics(images: Images | Iterable[Images]) -> ColorStatistics:
    """The mean and the covariance of the colours of all pixels of some images.

    mean = E[x], covariance = E[(x - mean)(x - mean)^T], x one pixel's colour

    Args:
      images: (n, h, w, c), of any range, or any number of such batches, of which one at a time is
        held. The images of one batch may differ in number and size from those of another. They are
        added up in double precision, on the host.

    Returns:
      The `ColorStatistics`: mean (c,) and covariance (c, c), in at least single precision.

    Raises:
      TypeError: the images do not hold floats, or are traced.
      ValueError: the images are not of shape (n, h, w, c), there is no batch, one is not finite, or
        the squares of their values are no numbers of this precision.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import color_statistics
      >>> statistics = color_statistics(jnp.array([[[[0.0, 0.5], [1.0, 0.0]]]]))
      >>> print(statistics.mean, statistics.covariance)
      [0.5  0.25] [[ 0.25   -0.125 ]
       [-0.125   0.0625]]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on preconditioning.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        moments = [
            (batch[..., 0].size, *_moments(batch), batch.dtype) for batch in _batches(images)
        ]
        counts, means, within, dtypes = zip(*moments, strict=True)
        shares = np.array(counts) / sum(counts)
        mean = np.einsum("b,bc->c", shares, means)
        # The law of total covariance: that within batches, and that of their means.
        apart = np.stack(means) - mean
        covariance = np.einsum("b,bcd->cd", shares, within)
        covariance += np.einsum("b,bc,bd->cd", shares, apart, apart)
        dtype = common_dtype(np.dtype(np.float32), *dtypes)
        statistics = ColorStatistics(mean.astype(dtype), covariance.astype(dtype))
    if not np.isfinite(statistics.covariance).all():
        raise ValueError(f"expected images whose colours have a covariance in {dtype}, got larger")
    return statistics


def mean_magnitude(images: Images | Iterable[Images]) -> Magnitude:
    """The magnitude of each frequency, averaged over some images.

    m = E[|F(I)|], F being the real two-dimensional Fourier transform of each channel

    Args:
      images: (n, h, w, c), of any range, or any number of such batches, of images of one size, of
        which one batch at a time is held. For a `phase_canvas` that others follow, images that they
        have encoded. They are added up in double precision, on the host.

    Returns:
      The magnitude (h, w // 2 + 1, c), at least 0, in the images' units, in at least single
      precision.

    Raises:
      TypeError: the images do not hold floats, or are traced.
      ValueError: the images are not of shape (n, h, w, c) and of one size, there is no batch, or
        one is not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import mean_magnitude
      >>> print(mean_magnitude(jnp.ones((5, 2, 2, 1))).squeeze())
      [[4. 0.]
       [0. 0.]]

    Reference:
      Fel et al., Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
      Optimization, 2023, arXiv:2306.06805.
    """
    total, count, dtype = np.zeros(()), 0, np.dtype(np.float32)
    for batch in _batches(images):
        magnitudes = np.abs(np.fft.rfft2(np.asarray(batch, np.float64), axes=(1, 2))).sum(0)
        if count and magnitudes.shape != total.shape:
            raise ValueError(f"expected images of one size, got another of {batch.shape[1:]}")
        total, count = total + magnitudes, count + len(batch)
        dtype = common_dtype(dtype, batch.dtype)
    return (total / count).astype(dtype)


def tiny_imagenet_magnitude() -> Float[np.ndarray, "64 33 3"]:
    """The mean magnitude of the bundled models' training images, for a `phase_canvas` (MACO).

    m = E[|F(encode(I))|], encode being that of the two canvases in the example

    Returns:
      The magnitude (64, 33, 3), for images of 64 x 64: `encoded_magnitude` of what
      `experiments/color_statistics.py --dataset tiny_imagenet/paper20 --split train` writes.

    Example:
      >>> import jax
      >>> from saliency_jax import ascent
      >>> colors = ascent.TINY_IMAGENET_COLORS
      >>> canvas = ascent.chain_canvases(
      ...     ascent.phase_canvas(ascent.tiny_imagenet_magnitude(), width=64),
      ...     ascent.color_canvas(colors.covariance),
      ...     ascent.sigmoid_canvas(),
      ... )
      >>> noise = ascent.uniform_noise(jax.random.key(0), (64, 33, 3), -3.14, 3.14)
      >>> print(canvas.decode(noise).shape)
      (64, 64, 3)

    Reference:
      Fel et al., Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
      Optimization, 2023, arXiv:2306.06805.
    """
    return np.load(Path(__file__).with_name("tiny_imagenet_magnitude.npy")).astype(np.float32)


def imagenet_magnitude(height: int, width: int) -> Float[np.ndarray, "h w2 3"]:
    """The mean magnitude of ImageNet's photographs at any size, for a `phase_canvas` (MACO).

    m = h w a k^-b, k being the frequency in cycles over the shorter side

    The power law that is nearest, for each channel, to the magnitudes of 203 photographs that are
    encoded by the two canvases in the example, each octave counting alike. Photographs show things
    at all distances, so it is the law of pictures of other sizes too. It is alike in all
    directions; photographs have a little more upright and level ones. The mean, of frequency 0, is
    theirs.

    Args:
      height, width: of the images.

    Returns:
      The magnitude (h, w // 2 + 1, 3), of a and b as `experiments/color_statistics.py` prints them.

    Raises:
      TypeError: the height or width is no integer.
      ValueError: it is below 1.

    Example:
      >>> import jax
      >>> from saliency_jax import ascent
      >>> canvas = ascent.chain_canvases(
      ...     ascent.phase_canvas(ascent.imagenet_magnitude(30, 40), width=40),
      ...     ascent.color_canvas(ascent.IMAGENET_COLORS.covariance),
      ...     ascent.sigmoid_canvas(),
      ... )
      >>> noise = ascent.uniform_noise(jax.random.key(0), (30, 21, 3), -3.14, 3.14)
      >>> print(canvas.decode(noise).shape)
      (30, 40, 3)

    Reference:
      Fel et al., Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
      Optimization, 2023, arXiv:2306.06805. On the power law: Field, Relations between the
      statistics of natural images and the response properties of cortical cells, Journal of the
      Optical Society of America A, 1987.
    """
    height = check_count("height", height, 1)
    width = check_count("width", width, 1)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    # The mean's place has no power of its own.
    cycles = np.where(frequency == 0, 1.0, frequency * min(height, width))[:, :, None]
    magnitude = _IMAGENET_AMPLITUDE * cycles**-_IMAGENET_DECAY
    magnitude[0, 0] = _IMAGENET_MEAN
    return (height * width * magnitude).astype(np.float32)


def _batches(images: Images | Iterable[Images]) -> Iterator[Images]:
    if not isinstance(images, jax.Array | np.ndarray | Iterable):
        raise TypeError(
            f"expected images to be an array or batches of them, got {type(images).__name__}"
        )
    empty = True
    for batch in [images] if isinstance(images, jax.Array | np.ndarray) else images:
        check_array("images", batch, ("n", "h", "w", "c"))
        if not is_concrete(batch):
            raise TypeError("expected images to be known, got a traced array")
        check_finite("images", batch)
        empty = False
        yield batch
    if empty:
        raise ValueError("expected at least one batch of images, got none")


def _moments(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the covariance of the colours of one batch, in double precision."""
    colors = np.asarray(images, np.float64).reshape(-1, images.shape[-1])
    mean = colors.mean(0)
    centered = colors - mean
    return mean, centered.T @ centered / len(colors)


def _in_own_dtype(function: Callable) -> Callable:
    """The function of arrays (..., values), computed in at least single precision.

    Fourier transforms have no half precision, and it has too few digits for what they add up.
    """

    @functools.wraps(function)
    def computed(*arguments: Any) -> Any:
        *numbers, values = arguments
        check_floats("params or image", values)
        values = to_jax(values)
        return function(*numbers, at_least_single(values)).astype(values.dtype)

    return computed


@_in_own_dtype
def _sigmoid(low: Number, high: Number, params: Pixels) -> Pixels:
    low, high = in_dtype(low, params.dtype), in_dtype(high, params.dtype)
    return jax.nn.sigmoid(params) * (high - low) + low


@_in_own_dtype
def _logit(low: Number, high: Number, image: Pixels) -> Pixels:
    low, high = in_dtype(low, image.dtype), in_dtype(high, image.dtype)
    share = (image - low) / (high - low)
    return jax.scipy.special.logit(jnp.clip(share, _SIGMOID_MARGIN, 1 - _SIGMOID_MARGIN))


def _amplitudes(height: int, width: int, decay: Number) -> Float[Array, "h w2 1"]:
    vertical, horizontal = np.fft.fftfreq(height), np.fft.rfftfreq(width)
    frequency = np.hypot(vertical[:, None], horizontal[None, :])
    # The mean, of frequency 0, is treated as the longest wave that fits.
    nearest = to_jax(np.maximum(frequency, 1 / max(height, width))[:, :, None])
    return 1 / nearest ** in_dtype(decay, nearest.dtype)


@dataclasses.dataclass(frozen=True)
class _ToPixels:
    """Fourier coefficients to pixels. The sides are part of the function, and so are not traced."""

    height: int
    width: int

    @_in_own_dtype
    def __call__(self, scale: Float[Array, "h w2 1"], params: Coefficients) -> Pixels:
        _check_spectrum(params, (2, *scale.shape[:2]))
        spectrum = jax.lax.complex(params[0], params[1])
        spectrum *= scale.astype(spectrum.dtype)
        return jnp.fft.irfft2(spectrum, (self.height, self.width), axes=(0, 1))


@_in_own_dtype
def _to_coefficients(scale: Float[Array, "h w2 1"], image: Pixels) -> Coefficients:
    spectrum = jnp.fft.rfft2(image, axes=(0, 1))
    spectrum /= scale.astype(spectrum.dtype)
    return jnp.stack([spectrum.real, spectrum.imag])


@dataclasses.dataclass(frozen=True)
class _FromPhases:
    """Phases to pixels. The sides are part of the function, and so are not traced."""

    height: int
    width: int

    @_in_own_dtype
    def __call__(self, magnitude: Magnitude, phase: Phase) -> Pixels:
        _check_spectrum(phase, magnitude.shape)
        known = magnitude.astype(phase.dtype)
        spectrum = jax.lax.complex(known * jnp.cos(phase), known * jnp.sin(phase))
        return jnp.fft.irfft2(spectrum, (self.height, self.width), axes=(0, 1))


@_in_own_dtype
def _to_phases(image: Pixels) -> Phase:
    return jnp.angle(jnp.fft.rfft2(image, axes=(0, 1)))


def _check_spectrum(params: Array, shape: tuple[int, ...]) -> None:
    if params.shape[: len(shape)] != shape:
        raise ValueError(f"expected params to have shape {shape}, got {params.shape}")


def _square_roots(covariance: Matrix) -> tuple[Float[Array, "c c"], Float[Array, "c c"]]:
    if not is_concrete(covariance):
        values, vectors = jnp.linalg.eigh(at_least_single(to_jax(covariance)))
        scaled = (vectors * jnp.sqrt(values)[None], vectors / jnp.sqrt(values)[None])
        return scaled[0] @ vectors.T, scaled[1] @ vectors.T
    known = np.asarray(covariance, np.float64)
    values, vectors = np.linalg.eigh(known)
    if not np.allclose(known, known.T):
        raise ValueError(f"expected covariance to be symmetric, got {known.tolist()}")
    if values[0] <= 0:
        raise ValueError(
            "expected covariance to be positive definite, got eigenvalues "
            f"{', '.join(f'{value:.3g}' for value in values)}"
        )
    root, inverse_root = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    return to_jax(root), to_jax(inverse_root)


@_in_own_dtype
def _recolored(root: Matrix, mean: Color, params: Pixels) -> Pixels:
    return _mixed(root, params) + filled("mean", mean, params.shape, params.dtype)


@_in_own_dtype
def _decolored(inverse_root: Matrix, mean: Color, image: Pixels) -> Pixels:
    return _mixed(inverse_root, image - filled("mean", mean, image.shape, image.dtype))


def _mixed(matrix: Matrix, image: Pixels) -> Pixels:
    if matrix.shape[0] != image.shape[-1]:
        raise ValueError(
            f"expected an image of {matrix.shape[0]} channels, got one of {image.shape[-1]}"
        )
    return jnp.matmul(image, matrix.astype(image.dtype), precision=jax.lax.Precision.HIGHEST)


def _in_turn(functions: tuple[Callable, ...], params: Params) -> Params:
    for function in functions:
        params = function(params)
    return params
