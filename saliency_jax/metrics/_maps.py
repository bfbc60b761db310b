"""What the metrics ask of a saliency map: that it fits its image, and the order of its pixels."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from .._types import SaliencyMap
from .._validation import check_array, check_finite

Mask = Bool[Array, "h w"] | Bool[np.ndarray, "h w"]


def check_map(saliency_map: Any, sides: tuple[int, ...] | None = None) -> None:
    """Raises unless `saliency_map` is a finite map (h, w), of the image's `sides` if given."""
    check_array("saliency_map", saliency_map, ("h", "w"))
    check_finite("saliency_map", saliency_map)
    if sides is not None and saliency_map.shape != sides:
        raise ValueError(
            f"expected saliency_map to have the image's sides {sides}, got {saliency_map.shape}"
        )


def check_mask(mask: Any, sides: tuple[int, ...]) -> None:
    """Raises unless `mask` is a map of booleans of the given sides."""
    if not hasattr(mask, "dtype"):
        raise TypeError(f"expected mask to hold booleans, got {type(mask).__name__}")
    if mask.dtype != bool:
        raise TypeError(f"expected mask to hold booleans, got {mask.dtype}")
    if mask.shape != sides:
        raise ValueError(f"expected mask to have the map's sides {sides}, got {mask.shape}")


def check_fractions(fractions: tuple[float, ...]) -> None:
    """Raises unless `fractions` are one or more numbers from 0 to 1, in rising order."""
    array = np.asarray(fractions)
    if array.ndim != 1 or array.size == 0 or array.min() < 0 or array.max() > 1:
        raise ValueError(f"expected fractions to be numbers from 0 to 1, got {fractions}")
    if (np.diff(array) <= 0).any():
        raise ValueError(f"expected fractions in rising order, got {fractions}")


def at_least_single(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The same values in float32 if they are in half precision, where sums overflow or round."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def rank(saliency_map: SaliencyMap) -> Integer[Array, "h w"]:
    """Each pixel's place when the most salient comes first; equal ones are in reading order."""
    order = jnp.argsort(-saliency_map.ravel())
    return jnp.argsort(order).reshape(saliency_map.shape)
