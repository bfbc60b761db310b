"""Ten-crop: a method's mean over crops of the image and their mirror images, each in its place."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._chunks import sum_chunked
from .._numerics import at_least_single
from .._types import Count, Image, Method, ScoreFunction
from .._validation import as_image, check_callable, check_count, check_floats, check_pair
from ..scores import as_score
from ._gradient import saliency

Resize = Callable[[Float[Array, "h w c"]], Float[Array, "h2 w2 c"]]


def _unchanged(crop: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    return crop


def ten_crop(
    score: ScoreFunction,
    image: Image,
    *,
    size: tuple[int, int],
    method: Method = saliency,
    resize: Resize = _unchanged,
    batch_size: Count = 10,
) -> Float[Array, "..."]:
    """Ten-crop: a method's mean over the crops of the corners and the centre, and their mirrors.

    A_ij = mean over crops k that contain ij of (T_k^-1 M(S o R, T_k I))_ij

    T_k cuts out a crop and, for five of the ten, reflects it left to right; T_k^-1 puts the crop's
    map back to where its pixels come from. R is the resizing, a part of the score: the method sees
    the crop's own pixels, and a gradient is carried back to them by the chain rule.

    Args:
      score, image, method, batch_size: see the room. At most ten crops are evaluated at once.
      size: (height, width) of the crops in pixels, each at least half of the image's, so that every
        pixel is in a crop, and at most the image's.
      resize: makes a crop into what the score takes. By default a crop keeps its size, as suits a
        model that takes images of any.

    Returns:
      What the method returns for the image, usually the map (h, w), in the method's units. With
      crops of the image's size it is the mean of the map and of the mirror image's, mirrored.

    Example:
      The gradient of a sum of squares is twice the pixel in every crop:

      >>> import jax.numpy as jnp
      >>> from saliency_jax import attribution
      >>> def score(image):
      ...     return (image**2).sum()
      >>> image = jnp.arange(6.0).reshape(2, 3, 1)
      >>> print(attribution.ten_crop(score, image, size=(1, 2)))
      [[ 0.  2.  4.]
       [ 6.  8. 10.]]

    Reference:
      Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, arXiv:1312.6034,
      section 3.1.
    """
    image, score = as_image(image), as_score(score)
    check_pair("size", size, "(height, width)")
    check_callable("method", method)
    check_callable("resize", resize)
    sides, channels = image.shape[:2], image.shape[2]
    for axis, side, length in zip(("height", "width"), sides, size, strict=True):
        check_count(f"the crop's {axis}", length, 1)
        if not side <= 2 * length <= 2 * side:
            raise ValueError(
                f"expected the crop's {axis} to be from half of the image's {side} to all of it, "
                f"got {length}"
            )

    def score_of_crop(crop):
        return score(resize(crop))

    def attribution_of_crop(corner):
        top, left, mirrored = corner
        crop = jax.lax.dynamic_slice(image, (top, left, 0), (*size, channels))
        part = method(score_of_crop, _mirror(crop, mirrored))
        check_floats("the method's result", part)
        part = at_least_single(_mirror(part, mirrored))
        if part.shape[:2] != tuple(size):
            raise ValueError(
                f"expected the method's result to have the crop's sides {tuple(size)}, "
                f"got {part.shape}"
            )

        def placed(values):
            canvas = jnp.zeros(sides + part.shape[2:], part.dtype)
            corner = (top, left, *[0] * (part.ndim - 2))
            return jax.lax.dynamic_update_slice(canvas, values, corner)

        return placed(part), placed(jnp.ones_like(part))

    bottom, right = (side - length for side, length in zip(sides, size, strict=True))
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    top, left = jnp.array(2 * corners).T
    places = (top, left, jnp.arange(10) >= 5)
    total, covered = sum_chunked(attribution_of_crop, places, batch_size)
    return (total / covered).astype(image.dtype)


def _mirror(values: Float[Array, "h w ..."], mirrored: Bool[Array, ""]) -> Float[Array, "h w ..."]:
    return jnp.where(mirrored, values[:, ::-1], values)
