"""Augmentations: random changes of the image that gradient ascent averages the score over.

Each is a callable PyTree from an image and a key to an image, differentiable, and its numbers are
leaves: they may be traced. Only sizes are not: those of `pad` and `crop`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .. import filters
from .._types import Augment, Color, Count, Image, Key, Number
from .._validation import check_at_least, check_color, check_count, is_concrete

Resized = Float[Array, "h2 w2 c"]


def compose(*augmentations: Augment) -> Augment:
    """Augmentations one after the other, each with a key of its own.

    T(I, key) = T_n(... T_1(I, key_1) ..., key_n)

    Args:
      *augmentations: callables from an image and a key to an image, the first to come first.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image. Of none, it changes nothing.

    Raises:
      TypeError: an augmentation is not callable.

    Example:
      The augmentations of lucid:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax import ascent
      >>> augment = ascent.compose(
      ...     ascent.pad(12, 0.5), ascent.jitter(8), ascent.scale(0.9, 1.1), ascent.rotate(10.0),
      ...     ascent.jitter(4), ascent.crop(8, 8),
      ... )
      >>> print(augment(jnp.ones((8, 8, 3)), jax.random.key(0)).shape)
      (8, 8, 3)

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on transformation robustness.
    """
    for augmentation in augmentations:
        if not callable(augmentation):
            raise TypeError(
                f"expected augmentations to be callable, got {type(augmentation).__name__}"
            )
    return Partial(_composed, tuple(augmentations))


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


def rotate(degrees: Number) -> Augment:
    """A random turn about the centre, counterclockwise if positive, by bilinear sampling.

    T(I)(p) = I(R_a p) with a ~ uniform [-degrees, degrees], p being measured from the centre

    Args:
      degrees: the largest angle, at least 0.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape. Places that
      come from outside take the nearest value at the edge. With 0 it changes nothing.

    Raises:
      ValueError: the angle is known and negative.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import rotate
      >>> image = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
      >>> print(rotate(45.0)(image, jax.random.key(0))[1, 1])
      [1.]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on transformation robustness.
    """
    check_at_least("degrees", degrees, 0)
    return Partial(_rotate, degrees)


def scale(low: Number, high: Number) -> Augment:
    """A random magnification about the centre, the image keeping its size, by bilinear sampling.

    T(I)(p) = I(p / s) with s ~ uniform [low, high], p being measured from the centre

    Args:
      low: the least factor, above 0; below 1 the image shrinks.
      high: the largest factor, at least low.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape. Places that
      come from outside take the nearest value at the edge. With 1 and 1 it changes nothing.

    Raises:
      ValueError: the factors are known, and low is not above 0 or high is below low.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import scale
      >>> image = jnp.arange(5.0).reshape(1, 5, 1)
      >>> print(scale(2.0, 2.0)(image, jax.random.key(0)).ravel())
      [1.  1.5 2.  2.5 3. ]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, on transformation robustness.
    """
    _check_interval(low, high)
    if is_concrete(low) and low == 0:
        raise ValueError("expected low to be above 0, got 0")
    return Partial(_scale, low, high)


def pad(pixels: int, color: Color = 0.5) -> Augment:
    """A frame of one colour around the image, so that what follows can shift and turn it.

    T(I) has I in its middle and the colour in the `pixels` rows and columns before and after.

    Args:
      pixels: the width of the frame on each side, at least 0, a Python integer.
      color: one value for every channel or one for each (c,), in the range of the image.

    Returns:
      A callable PyTree from an image (h, w, c) and a key, which it does not use, to an image of
      h + 2 pixels by w + 2 pixels. With 0 it changes nothing.

    Raises:
      TypeError: the number of pixels is not an integer.
      ValueError: it is negative; when the augmentation is used, the colour does not fit.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import pad
      >>> print(pad(1, 0.5)(jnp.ones((1, 2, 1)), jax.random.key(0)).squeeze())
      [[0.5 0.5 0.5 0.5]
       [0.5 1.  1.  0.5]
       [0.5 0.5 0.5 0.5]]

    Reference:
      Olah, Mordvintsev, Schubert, Feature Visualization, Distill, 2017,
      doi:10.23915/distill.00007, and its code, lucid.
    """
    check_count("pixels", pixels, 0)
    return Partial(_Pad(int(pixels)), color)


def crop(height: int, width: int) -> Augment:
    """A random window of a given size.

    T(I)_ij = I_{i + u, j + v} with u ~ uniform {0, ..., h - height} and v ~ uniform {0, ..., w -
    width}

    Args:
      height: of the window, at least 1, a Python integer.
      width: of the window, at least 1, a Python integer.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image (height, width, c). With the
      image's own height and width it changes nothing.

    Raises:
      TypeError: a side is not an integer.
      ValueError: a side is below 1; when the augmentation is used, above the image's.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import crop
      >>> print(crop(2, 3)(jnp.ones((4, 4, 1)), jax.random.key(0)).shape)
      (2, 3, 1)

    Reference:
      Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
      Networks, 2012, NeurIPS, section 4.1.
    """
    check_count("height", height, 1)
    check_count("width", width, 1)
    return Partial(_Crop(int(height), int(width)))


def resized_crop(low: Number, high: Number) -> Augment:
    """A random window, magnified to the image's own size by bilinear sampling.

    T(I)_ij = I_{u + s i, v + s j} with s ~ uniform [low, high], and (u, v) uniform over the places
    at which the window lies within the image

    Args:
      low: the least side of the window as a share of the image's, above 0. MACO takes 0.2 to 0.25.
      high: the largest, at least low and at most 1.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape. With 1 and
      1 it changes nothing.

    Raises:
      ValueError: the shares are known, and not 0 < low <= high <= 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import resized_crop
      >>> image = jnp.arange(5.0).reshape(1, 5, 1)
      >>> window = resized_crop(0.5, 0.5)(image, jax.random.key(0)).ravel()
      >>> print(jnp.diff(window).round(3))
      [0.5 0.5 0.5 0.5]

    Reference:
      Fel et al., Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
      Optimization, 2023, arXiv:2306.06805.
    """
    _check_interval(low, high)
    if (is_concrete(low) and low == 0) or (is_concrete(high) and high > 1):
        raise ValueError(f"expected 0 < low <= high <= 1, got {low} and {high}")
    return Partial(_resized_crop, low, high)


def flip(probability: Number = 0.5) -> Augment:
    """The image, or at random its mirror image, left and right exchanged.

    T(I)_ij = I_{i, w - 1 - j} with the probability, else I_ij

    Args:
      probability: of the mirror image, from 0, never, to 1, always.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape.

    Raises:
      ValueError: the probability is known and not in [0, 1].

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import flip
      >>> print(flip(1.0)(jnp.arange(3.0).reshape(1, 3, 1), jax.random.key(0)).ravel())
      [2. 1. 0.]

    Reference:
      Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
      Networks, 2012, NeurIPS, section 4.1.
    """
    check_at_least("probability", probability, 0)
    if is_concrete(probability) and probability > 1:
        raise ValueError(f"expected probability to be at most 1, got {probability}")
    return Partial(_flip, probability)


def blur(low: Number, high: Number) -> Augment:
    """A Gaussian blur of random width.

    T(I) = filters.blur(I, s) with s ~ uniform [low, high]

    Args:
      low: the least standard deviation in pixels, at least 0.
      high: the largest, at least low.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape. With 0 and
      0 it changes nothing.

    Raises:
      ValueError: the widths are known, and low is negative or high is below low.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import blur
      >>> print(blur(0.5, 1.5)(jnp.ones((2, 3, 1)), jax.random.key(0)).shape)
      (2, 3, 1)

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, on blur against high frequencies.
    """
    _check_interval(low, high)
    return Partial(_blur, low, high)


def noise(std: Number) -> Augment:
    """Independent Gaussian noise on every value.

    T(I)_ijc = I_ijc + std * e_ijc with e_ijc ~ N(0, 1)

    Args:
      std: the standard deviation in the image's units, at least 0.

    Returns:
      A callable PyTree from an image (h, w, c) and a key to an image of the same shape, which may
      leave the range of the model's images. With 0 it changes nothing.

    Raises:
      ValueError: the standard deviation is known and negative.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import noise
      >>> print(noise(0.0)(jnp.ones((1, 2, 1)), jax.random.key(0)).ravel())
      [1. 1.]

    Reference:
      Smilkov, Thorat, Kim, Viegas, Wattenberg, SmoothGrad, 2017, arXiv:1706.03825.
    """
    check_at_least("std", std, 0)
    return Partial(_noise, std)


def brightness(amount: Number) -> Augment:
    """A random factor on all values of the image.

    T(I) = (1 + b) I with b ~ uniform [-amount, amount]

    Args:
      amount: the largest relative change, at least 0.

    Returns:
      A callable PyTree from an image (h, w, c), 0 being black, and a key to an image of the same
      shape, which may leave the range of the model's images. With 0 it changes nothing.

    Raises:
      ValueError: the amount is known and negative.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import brightness
      >>> bright = brightness(0.5)(jnp.ones((1, 1, 1)), jax.random.key(0))
      >>> print(0.5 <= bright.item() <= 1.5)
      True

    Reference:
      Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
      Networks, 2012, NeurIPS, section 4.1, on changes of the intensity.
    """
    check_at_least("amount", amount, 0)
    return Partial(_brightness, amount)


def _composed(augmentations: tuple[Augment, ...], image: Image, key: Key) -> Resized:
    keys = jax.random.split(key, len(augmentations))
    for augmentation, own_key in zip(augmentations, keys, strict=True):
        image = augmentation(image, own_key)
    return image


def _jitter(pixels: Count, image: Image, key: Key) -> Image:
    shift = jax.random.randint(key, (2,), -pixels, pixels + 1)
    return jnp.roll(image, shift, axis=(0, 1))


def _rotate(degrees: Number, image: Image, key: Key) -> Image:
    angle = jnp.deg2rad(_uniform(key, -degrees, degrees))
    height, width, _ = image.shape
    rows = (jnp.arange(height, dtype=float) - (height - 1) / 2)[:, None]
    columns = (jnp.arange(width, dtype=float) - (width - 1) / 2)[None, :]
    return _sampled(
        image,
        jnp.cos(angle) * rows + jnp.sin(angle) * columns + (height - 1) / 2,
        jnp.cos(angle) * columns - jnp.sin(angle) * rows + (width - 1) / 2,
    )


def _sampled(image: Image, rows: Float[Array, "h w"], columns: Float[Array, "h w"]) -> Image:
    """The image at places between its pixels, bilinearly, or at its edge if they are outside."""
    height, width, channels = image.shape
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    top, left = (jnp.floor(places).astype(int) for places in (rows, columns))
    down, right = rows - top, columns - left
    # Whole pixels are taken out of one list: four times fewer indices than by value.
    pixels = image.reshape(height * width, channels)
    result = jnp.zeros_like(image)
    for row, row_share in ((top, 1 - down), (jnp.minimum(top + 1, height - 1), down)):
        for column, share in ((left, 1 - right), (jnp.minimum(left + 1, width - 1), right)):
            result += pixels[row * width + column] * (row_share * share)[:, :, None]
    return result


def _scale(low: Number, high: Number, image: Image, key: Key) -> Image:
    factor = _uniform(key, low, high)
    places = [
        (jnp.arange(length, dtype=float) - (length - 1) / 2) / factor + (length - 1) / 2
        for length in image.shape[:2]
    ]
    return _sampled_on_grid(image, *places)


def _resized_crop(low: Number, high: Number, image: Image, key: Key) -> Image:
    side_key, place_key = jax.random.split(key)
    side = _uniform(side_key, low, high)
    starts = jax.random.uniform(place_key, (2,)) * (1 - side)
    places = [
        start * (length - 1) + side * jnp.arange(length, dtype=float)
        for start, length in zip(starts, image.shape[:2], strict=True)
    ]
    return _sampled_on_grid(image, *places)


def _sampled_on_grid(image: Image, rows: Float[Array, "h"], columns: Float[Array, "w"]) -> Image:
    # Bilinear sampling is a product of two matrices, whose gradient needs no scatter.
    by_row, by_column = (
        _hats(places, length)
        for places, length in zip((rows, columns), image.shape[:2], strict=True)
    )
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("ip,jq,pqc->ijc", by_row, by_column, image, precision=precision)


def _hats(places: Float[Array, "m"], length: int) -> Float[Array, "m n"]:
    """The weights of linear interpolation: of pixel j at place x, 1 - |x - j| where positive."""
    inside = jnp.clip(places, 0, length - 1)
    return jnp.maximum(1 - jnp.abs(inside[:, None] - jnp.arange(length, dtype=float)[None]), 0)


@dataclasses.dataclass(frozen=True)
class _Pad:
    """A frame. Its width is part of the function, and so is not traced."""

    pixels: int

    def __call__(self, color: Color, image: Image, key: Key) -> Resized:
        check_color("color", color, image.shape)
        height, width, channels = image.shape
        shape = (height + 2 * self.pixels, width + 2 * self.pixels, channels)
        frame = jnp.broadcast_to(jnp.asarray(color, image.dtype), shape)
        return jax.lax.dynamic_update_slice(frame, image, (self.pixels, self.pixels, 0))


@dataclasses.dataclass(frozen=True)
class _Crop:
    """A window. Its sides are part of the function, and so are not traced."""

    height: int
    width: int

    def __call__(self, image: Image, key: Key) -> Resized:
        height, width, channels = image.shape
        if self.height > height or self.width > width:
            raise ValueError(
                f"expected an image of at least {self.height} x {self.width}, "
                f"got {height} x {width}"
            )
        slack = jnp.array([height - self.height + 1, width - self.width + 1])
        row, column = jax.random.randint(key, (2,), 0, slack)
        window = (self.height, self.width, channels)
        return jax.lax.dynamic_slice(image, (row, column, 0), window)


def _flip(probability: Number, image: Image, key: Key) -> Image:
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def _blur(low: Number, high: Number, image: Image, key: Key) -> Image:
    return filters.blur(image, _uniform(key, low, high))


def _noise(std: Number, image: Image, key: Key) -> Image:
    return image + jax.random.normal(key, image.shape, image.dtype) * std


def _brightness(amount: Number, image: Image, key: Key) -> Image:
    return image * (1 + _uniform(key, -amount, amount))


def _uniform(key: Key, low: Number, high: Number) -> Float[Array, ""]:
    return jax.random.uniform(key) * (high - low) + low


def _check_interval(low: Number, high: Number) -> None:
    check_at_least("low", low, 0)
    check_at_least("high", high, low)
