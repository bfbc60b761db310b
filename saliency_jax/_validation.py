"""Checks at a function's entry, each failing with "expected X, got Y".

Shapes and types are static and always checked. Values are checked only when they are known: under
`jax.jit`, `jax.vmap` or `jax.grad` an argument is a tracer, which has a shape and no value.
"""

import difflib
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(value: Any) -> bool:
    """Whether the value can be read now, which a tracer's cannot."""
    return not isinstance(value, jax.core.Tracer)


def check_floats(name: str, array: Any) -> None:
    """Raises unless `array` is an array of floating-point numbers."""
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"expected {name} to be an array, got {type(array).__name__}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"expected {name} to hold floats, got {array.dtype}")


def check_array(name: str, array: Any, axes: tuple[str, ...]) -> None:
    """Raises unless `array` is a floating-point array with one nonempty axis for each of `axes`."""
    check_floats(name, array)
    if array.ndim != len(axes) or 0 in array.shape:
        layout = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
        raise ValueError(f"expected {name} to have shape {layout}, got {array.shape}")


def check_finite(name: str, array: Any) -> None:
    """Raises if the array's values are known and one of them is infinite or not a number."""
    if is_concrete(array) and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise ValueError(
            f"expected {name} to be finite, got {bad} infinite or nan among its {array.size} values"
        )


def check_image(image: Any, name: str = "image") -> None:
    """Raises unless `image` is one finite floating-point image (h, w, c)."""
    check_floats(name, image)
    if image.ndim == 4:
        raise ValueError(
            f"expected {name} to be one image (h, w, c), got a batch of shape {image.shape}; "
            "map over it with jax.vmap"
        )
    if image.ndim == 2:
        raise ValueError(
            f"expected {name} to have shape (h, w, c), got {image.shape}; "
            "a single channel is an axis of length 1: image[..., None]"
        )
    check_array(name, image, ("h", "w", "c"))
    check_finite(name, image)


def check_image_shape(shape: Any) -> None:
    """Raises unless `shape` is three positive integers (h, w, c)."""
    if not isinstance(shape, tuple) or len(shape) != 3:
        raise ValueError(f"expected shape to be (h, w, c), got {shape!r}")
    for axis, length in zip(("height", "width", "number of channels"), shape, strict=True):
        check_count(axis, length, 1)


def check_color(name: str, color: Any, shape: tuple[int, ...], *, or_image: bool = False) -> None:
    """Raises unless `color` is one value or one for each channel of an image of that shape."""
    layouts = ((), shape[-1:], shape)[: 3 if or_image else 2]
    if np.shape(color) not in layouts:
        expected = " or ".join(str(layout) for layout in layouts)
        raise ValueError(f"expected {name} to have shape {expected}, got {np.shape(color)}")


def check_count(name: str, value: Any, minimum: int) -> None:
    """Raises unless `value` is an integer known at compile time and at least `minimum`."""
    if not is_concrete(value):
        raise TypeError(f"expected {name} to be a Python integer (static), got a traced array")
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise TypeError(f"expected {name} to be an integer, got {value!r}")
    if count < minimum:
        raise ValueError(f"expected {name} to be at least {minimum}, got {count}")


def check_at_least(name: str, value: Any, minimum: Any) -> None:
    """Raises if both are known and the value is below `minimum`, or is not a number."""
    if is_concrete(value) and is_concrete(minimum) and not np.all(np.asarray(value) >= minimum):
        raise ValueError(f"expected {name} to be at least {minimum}, got {value}")


def check_label(label: Any, num_classes: int | None = None, name: str = "label") -> None:
    """Raises unless `label` is one integer that, if known, is in 0 .. num_classes - 1."""
    if np.shape(label) != ():
        raise ValueError(
            f"expected {name} to be one integer, got shape {np.shape(label)}; "
            f"map over {name}s with jax.vmap"
        )
    dtype = label.dtype if isinstance(label, jax.Array) else np.asarray(label).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"expected {name} to be an integer, got {label!r}")
    if num_classes is not None and is_concrete(label) and not 0 <= int(label) < num_classes:
        raise ValueError(f"expected {name} to be in 0 .. {num_classes - 1}, got {int(label)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message that suggests up to three known names close to `name`, or "".

    Names are compared without regard to case and with `_`, `-` and the space taken as equal.
    """

    def folded(text: str) -> str:
        return text.casefold().replace("_", " ").replace("-", " ")

    by_folded = {folded(candidate): candidate for candidate in known}
    matches = difflib.get_close_matches(folded(name), by_folded, n=3, cutoff=0.6)
    if not matches:
        return ""
    return "; did you mean " + " or ".join(repr(by_folded[match]) for match in matches) + "?"
