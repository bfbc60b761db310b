"""What the metrics ask of a saliency map: that it fits its image, and the order of its pixels."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from .._numerics import at_least_single
from .._validation import as_array

Mask = Bool[Array, "h w"] | Bool[np.ndarray, "h w"]


def as_map(
    saliency_map: Any, sides: tuple[int, ...] | None = None, name: str = "saliency_map"
) -> Float[Array, "h w"]:
    """A finite map (h, w), of the image's `sides` if given, in at least single precision."""
    values = at_least_single(as_array(name, saliency_map, ("h", "w")))
    if sides is not None and values.shape != sides:
        raise ValueError(f"expected {name} to have the image's sides {sides}, got {values.shape}")
    return values


def as_mask(mask: Any, sides: tuple[int, ...], name: str = "mask") -> Bool[Array, "h w"]:
    """A map of booleans of the given sides."""
    dtype = getattr(mask, "dtype", None)
    if dtype != np.dtype(bool):
        raise TypeError(f"expected {name} to hold booleans, got {dtype or type(mask).__name__}")
    if mask.shape != sides:
        raise ValueError(f"expected {name} to have the map's sides {sides}, got {mask.shape}")
    return jnp.asarray(mask)


def check_fractions(fractions: tuple[float, ...]) -> None:
    """Raises unless `fractions` are one or more numbers from 0 to 1, in rising order."""
    try:
        array = np.asarray(fractions, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.ndim != 1 or array.size == 0 or not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"expected fractions to be numbers from 0 to 1, got {fractions}")
    if (np.diff(array) <= 0).any():
        raise ValueError(f"expected fractions in rising order, got {fractions}")


def nan_with(values: Float[Array, "..."], result: Float[Array, "..."]) -> Float[Array, "..."]:
    """The result, or nan where one of the values is, which an order or a rounding would hide."""
    return jnp.where(jnp.isnan(values).any(), jnp.nan, result)


def rank(saliency_map: Float[Array, "h w"]) -> Integer[Array, "h w"]:
    """Each pixel's place when the most salient comes first; equal ones are in reading order."""
    order = jnp.argsort(-saliency_map.ravel())
    return jnp.argsort(order).reshape(saliency_map.shape)
