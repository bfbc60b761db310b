"""Augmentations: random changes of the image that gradient ascent averages the score over."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .. import filters
from .._numerics import at_least_single, in_dtype, single_or_wider
from .._pytrees import as_pytree
from .._types import Augment, Color, Count, Image, Key, Number, Pixels
from .._validation import (
    as_color,
    as_image,
    as_integer,
    as_number,
    check_count,
    check_key,
    filled,
    is_concrete,
)

Resized = Float[Array, "h2 w2 c"]


def compose(*augmentations: Augment) -> Augment:
    """Augmentations one after the other, each with a key of its own.

    T(I, key) = T_n(... T_1(I, key_1) ..., key_n)

    Args:
      *augmentations: see `augment` in the room; the first comes first.

    Returns:
      The augmentation. Of none, it changes nothing.

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
    return Partial(_composed, tuple(as_pytree(each, "augmentations") for each in augmentations))


def jitter(pixels: Count) -> Augment:
    """A random shift of the whole image, which comes back in at the other side.

    T(I)_ij = I_{(i - u) mod h, (j - v) mod w} with u, v ~ uniform {-pixels, ..., pixels}

    Args:
      pixels: the largest shift along either axis, at least 0.

    Returns:
      The augmentation, which keeps the shape. With 0 it changes nothing.

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
    return Partial(_jitter, as_integer("pixels", pixels, 0))


def rotate(degrees: Number) -> Augment:
    """A random turn about the centre, counterclockwise if positive, by bilinear sampling.

    T(I)(p) = I(R_a p) with a ~ uniform [-degrees, degrees], p being measured from the centre

    Args:
      degrees: the largest angle, at least 0.

    Returns:
      The augmentation, which keeps the shape. Places that come from outside take the nearest value
      at the edge. With 0 it changes nothing.

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
    return Partial(_rotate, as_number("degrees", degrees, 0))


def scale(low: Number, high: Number) -> Augment:
    """A random magnification about the centre, the image keeping its size, by bilinear sampling.

    T(I)(p) = I(p / s) with s ~ uniform [low, high], p being measured from the centre

    Args:
      low: the least factor, above 0; below 1 the image shrinks.
      high: the largest factor, at least low.

    Returns:
      The augmentation, which keeps the shape. Places that come from outside take the nearest value
      at the edge. With 1 and 1 it changes nothing.

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
    low, high = _as_interval(low, high)
    if is_concrete(low) and np.asarray(low) == 0:
        raise ValueError("expected low to be above 0, got 0")
    return Partial(_scale, low, high)


def pad(pixels: int, color: Color = 0.5) -> Augment:
    """A frame of one colour around the image, so that what follows can shift and turn it.

    T(I) has I in its middle and the colour in the `pixels` rows and columns before and after.

    Args:
      pixels: the width of the frame on each side, at least 0.
      color: one value for every channel or one for each (c,), in the range of the image.

    Returns:
      The augmentation, which makes an image of h + 2 pixels by w + 2 pixels and does not use its
      key. With 0 it changes nothing.

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
    pixels = check_count("pixels", pixels, 0)
    return Partial(_Pad(int(pixels)), as_color("color", color))


def crop(height: int, width: int) -> Augment:
    """A random window of a given size.

    T(I)_ij = I_{i + u, j + v} with u ~ uniform {0, ..., h - height} and v ~ uniform {0, ..., w -
    width}

    Args:
      height: of the window, at least 1.
      width: of the window, at least 1.

    Returns:
      The augmentation, which makes an image (height, width, c). With the image's own height and
      width it changes nothing.

    Raises:
      ValueError: when the augmentation is used, a side is above the image's.

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
    height = check_count("height", height, 1)
    width = check_count("width", width, 1)
    return Partial(_Crop(int(height), int(width)))


def resized_crop(low: Number, high: Number) -> Augment:
    """A random window, magnified to the image's own size by bilinear sampling.

    T(I)_ij = I_{u + s i, v + s j} with s ~ uniform [low, high], and (u, v) uniform over the places
    at which the window lies within the image

    Args:
      low: the least side of the window as a share of the image's, above 0. MACO takes 0.2 to 0.25.
      high: the largest, at least low and at most 1.

    Returns:
      The augmentation, which keeps the shape. With 1 and 1 it changes nothing.

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
    low, high = _as_interval(low, high)
    is_none = is_concrete(low) and np.asarray(low) == 0
    if is_none or (is_concrete(high) and np.asarray(high) > 1):
        raise ValueError(f"expected 0 < low <= high <= 1, got {low} and {high}")
    return Partial(_resized_crop, low, high)


def flip(probability: Number = 0.5) -> Augment:
    """The image, or at random its mirror image, left and right exchanged.

    T(I)_ij = I_{i, w - 1 - j} with the probability, else I_ij

    Args:
      probability: of the mirror image, from 0, never, to 1, always.

    Returns:
      The augmentation, which keeps the shape.

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
    return Partial(_flip, as_number("probability", probability, 0, 1))


def random_blur(low: Number, high: Number) -> Augment:
    """A Gaussian blur of random width.

    T(I) = filters.blur(I, s) with s ~ uniform [low, high]

    Args:
      low: the least standard deviation in pixels, at least 0.
      high: the largest, at least low.

    Returns:
      The augmentation, which keeps the shape. With 0 and 0 it changes nothing.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import random_blur
      >>> print(random_blur(0.5, 1.5)(jnp.ones((2, 3, 1)), jax.random.key(0)).shape)
      (2, 3, 1)

    Reference:
      Yosinski, Clune, Nguyen, Fuchs, Lipson, Understanding Neural Networks Through Deep
      Visualization, 2015, arXiv:1506.06579, on blur against high frequencies.
    """
    return Partial(_blur, *_as_interval(low, high))


def noise(std: Number) -> Augment:
    """Independent Gaussian noise on every value.

    T(I)_ijc = I_ijc + std * e_ijc with e_ijc ~ N(0, 1)

    Args:
      std: the standard deviation in the image's units, at least 0.

    Returns:
      The augmentation, which keeps the shape and may leave the range of the model's images. With 0
      it changes nothing.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from saliency_jax.ascent import noise
      >>> print(noise(0.0)(jnp.ones((1, 2, 1)), jax.random.key(0)).ravel())
      [1. 1.]

    Reference:
      Smilkov, Thorat, Kim, Viegas, Wattenberg, SmoothGrad, 2017, arXiv:1706.03825.
    """
    return Partial(_noise, as_number("std", std, 0))


def brightness(amount: Number) -> Augment:
    """A random factor on all values of the image.

    T(I) = (1 + b) I with b ~ uniform [-amount, amount]

    Args:
      amount: the largest relative change, at least 0.

    Returns:
      The augmentation, which keeps the shape, takes 0 for black, and may leave the range of the
      model's images. With 0 it changes nothing.

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
    return Partial(_brightness, as_number("amount", amount, 0))


def _composed(augmentations: tuple[Augment, ...], image: Any, key: Key) -> Resized:
    keys = jax.random.split(key, len(augmentations))
    for augmentation, each_key in zip(augmentations, keys, strict=True):
        image = augmentation(image, each_key)
    return image


def _on_image(change: Callable) -> Callable:
    """The change of an image (..., image, key) with checks, computed in at least single precision.

    Half precision has too few digits for angles, factors and places between pixels.
    """

    @functools.wraps(change)
    def changed(*arguments: Any) -> Any:
        *numbers, image, key = arguments
        check_key(key)
        image = as_image(image)
        return change(*numbers, at_least_single(image), key).astype(image.dtype)

    return changed


@_on_image
def _jitter(pixels: Count, image: Pixels, key: Key) -> Pixels:
    shift = jax.random.randint(key, (2,), -pixels, pixels + 1, jnp.int32)
    return jnp.roll(image, shift, axis=(0, 1))


@_on_image
def _rotate(degrees: Number, image: Pixels, key: Key) -> Pixels:
    degrees = in_dtype(degrees, image.dtype)
    angle = jnp.deg2rad(_uniform(key, -degrees, degrees, image.dtype))
    height, width, _ = image.shape
    rows = (jnp.arange(height, dtype=image.dtype) - (height - 1) / 2)[:, None]
    columns = (jnp.arange(width, dtype=image.dtype) - (width - 1) / 2)[None, :]
    return _sampled(
        image,
        jnp.cos(angle) * rows + jnp.sin(angle) * columns + (height - 1) / 2,
        jnp.cos(angle) * columns - jnp.sin(angle) * rows + (width - 1) / 2,
    )


def _sampled(image: Pixels, rows: Float[Array, "h w"], columns: Float[Array, "h w"]) -> Pixels:
    """The image at places between its pixels, bilinearly, or at its edge if they are outside."""
    height, width, channels = image.shape
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    above, before = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - above, columns - before
    top, left = above.astype(jnp.int32), before.astype(jnp.int32)
    # Whole pixels are taken out of one list: four times fewer indices than by value.
    pixels = image.reshape(height * width, channels)
    result = jnp.zeros_like(image)
    for row, row_share in ((top, 1 - down), (jnp.minimum(top + 1, height - 1), down)):
        for column, share in ((left, 1 - right), (jnp.minimum(left + 1, width - 1), right)):
            result += pixels[row * width + column] * (row_share * share)[:, :, None]
    return result


@_on_image
def _scale(low: Number, high: Number, image: Pixels, key: Key) -> Pixels:
    factor = _uniform(key, low, high, image.dtype)
    places = [
        (jnp.arange(length, dtype=image.dtype) - (length - 1) / 2) / factor + (length - 1) / 2
        for length in image.shape[:2]
    ]
    return _sampled_on_grid(image, *places)


@_on_image
def _resized_crop(low: Number, high: Number, image: Pixels, key: Key) -> Pixels:
    side_key, place_key = jax.random.split(key)
    side = _uniform(side_key, low, high, image.dtype)
    drawn = jax.random.uniform(place_key, (2,), single_or_wider(image.dtype))
    starts = drawn.astype(image.dtype) * (1 - side)
    places = [
        start * (length - 1) + side * jnp.arange(length, dtype=image.dtype)
        for start, length in zip(starts, image.shape[:2], strict=True)
    ]
    return _sampled_on_grid(image, *places)


def _sampled_on_grid(image: Pixels, rows: Float[Array, "h"], columns: Float[Array, "w"]) -> Pixels:
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
    return jnp.maximum(
        1 - jnp.abs(inside[:, None] - jnp.arange(length, dtype=places.dtype)[None]), 0
    )


@dataclasses.dataclass(frozen=True)
class _Pad:
    """A frame. Its width is part of the function, and so is not traced."""

    pixels: int

    @_on_image
    def __call__(self, color: Color, image: Pixels, key: Key) -> Resized:
        height, width, channels = image.shape
        shape = (height + 2 * self.pixels, width + 2 * self.pixels, channels)
        frame = filled("color", color, shape, image.dtype)
        return jax.lax.dynamic_update_slice(frame, image, (self.pixels, self.pixels, 0))


@dataclasses.dataclass(frozen=True)
class _Crop:
    """A window. Its sides are part of the function, and so are not traced."""

    height: int
    width: int

    @_on_image
    def __call__(self, image: Pixels, key: Key) -> Resized:
        height, width, channels = image.shape
        if self.height > height or self.width > width:
            raise ValueError(
                f"expected an image of at least {self.height} x {self.width}, "
                f"got {height} x {width}"
            )
        slack = jnp.array([height - self.height + 1, width - self.width + 1])
        start = jnp.append(jax.random.randint(key, (2,), 0, slack, jnp.int32), 0)
        return jax.lax.dynamic_slice(image, start, (self.height, self.width, channels))


@_on_image
def _flip(probability: Number, image: Pixels, key: Key) -> Pixels:
    is_mirrored = jax.random.bernoulli(key, jnp.asarray(probability, image.dtype))
    return jnp.where(is_mirrored, image[:, ::-1], image)


@_on_image
def _blur(low: Number, high: Number, image: Pixels, key: Key) -> Image:
    return filters.blur(image, _uniform(key, low, high, image.dtype))


@_on_image
def _noise(std: Number, image: Pixels, key: Key) -> Pixels:
    drawn = jax.random.normal(key, image.shape, single_or_wider(image.dtype)).astype(image.dtype)
    return image + drawn * in_dtype(std, image.dtype)


@_on_image
def _brightness(amount: Number, image: Pixels, key: Key) -> Pixels:
    amount = in_dtype(amount, image.dtype)
    return image * (1 + _uniform(key, -amount, amount, image.dtype))


def _uniform(key: Key, low: Number, high: Number, dtype: Any) -> Float[Array, ""]:
    low, high = in_dtype(low, dtype), in_dtype(high, dtype)
    return jax.random.uniform(key, (), single_or_wider(dtype)).astype(dtype) * (high - low) + low


def _as_interval(low: Number, high: Number) -> tuple[Number, Number]:
    low = as_number("low", low, 0)
    return low, as_number("high", high, low)
