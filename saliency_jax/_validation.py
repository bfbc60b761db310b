"""Checks at a function's entry, each failing with "expected X, got Y".

Shapes and types are static and always checked. Values are checked only when they are known: under
`jax.jit`, `jax.vmap` or `jax.grad` an argument is a tracer, which has a shape and no value.
"""

import contextlib
import difflib
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import check_callable as check_callable
from ._arguments import check_instance as check_instance
from ._arguments import check_path as check_path
from ._arguments import check_text as check_text
from ._numerics import at_least_single


def is_concrete(value: Any) -> bool:
    """Whether the value can be read now, which a tracer's cannot."""
    return not isinstance(value, jax.core.Tracer)


def check_optimizer(optimizer: Any) -> None:
    """Raises unless it has what Optax's optimizers have."""
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            "expected optimizer to be an optax.GradientTransformation, got "
            f"{type(optimizer).__name__}"
        )


def check_floats(name: str, array: Any) -> None:
    """Raises unless `array` is an array of floating-point numbers."""
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"expected {name} to be an array, got {type(array).__name__}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"expected {name} to hold floats, got {array.dtype}")


def check_array(name: str, array: Any, axes: tuple[str, ...]) -> None:
    """Raises unless `array` is a floating-point array with one nonempty axis for each of `axes`."""
    check_floats(name, array)
    _check_axes(name, array, axes)


def check_integers(name: str, array: Any, axes: tuple[str, ...]) -> None:
    """Raises unless `array` holds integers, with one nonempty axis for each of `axes`."""
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"expected {name} to be an array, got {type(array).__name__}")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"expected {name} to hold integers, got {array.dtype}")
    _check_axes(name, array, axes)


def _check_axes(name: str, array: Any, axes: tuple[str, ...]) -> None:
    if array.ndim != len(axes) or 0 in array.shape:
        layout = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
        raise ValueError(f"expected {name} to have shape {layout}, got {array.shape}")


class _Question(NamedTuple):
    """What is asked of the values of an array of JAX's.

    Attributes:
      holds: from NumPy, or JAX's twin of it, to whether all is well.
      complain: raises.
      finite: the array, if it is then known to be finite.
    """

    holds: Callable[[Any], Any]
    complain: Callable[[], None]
    finite: jax.Array | None = None


class _Asked(threading.local):
    """What a thread knows of JAX's arrays, which do not change, and has yet to ask.

    Attributes:
      finite: those that were found finite, by identity.
      waiting: the questions of an open `checked_together`, None outside of one.
    """

    def __init__(self) -> None:
        self.finite: weakref.WeakValueDictionary[int, jax.Array] = weakref.WeakValueDictionary()
        self.waiting: list[_Question] | None = None


_asked = _Asked()


@contextlib.contextmanager
def checked_together() -> Iterator[None]:
    """Joins the checks of values inside: the host waits for the device once, at the end.

    The first check that fails is told, also where another mistake was met after it.
    """
    if _asked.waiting is not None:
        yield
        return
    _asked.waiting = []
    try:
        yield
    finally:
        waiting, _asked.waiting = _asked.waiting, None
        _answer(waiting)


def _ask(question: _Question) -> None:
    if _asked.waiting is None:
        _answer([question])
    else:
        _asked.waiting.append(question)


def _answer(questions: list[_Question]) -> None:
    if not questions:
        return
    if jax.sharding.get_abstract_mesh().manual_axes:
        # Inside a `shard_map` nothing can be computed of an array that is known outside.
        answers = np.array([question.holds(np) for question in questions])
    else:
        with jax.ensure_compile_time_eval():
            answers = np.asarray(jnp.stack([question.holds(jnp) for question in questions]))
    for question, holds in zip(questions, answers, strict=True):
        if holds and question.finite is not None:
            _asked.finite[id(question.finite)] = question.finite
    for question, holds in zip(questions, answers, strict=True):
        if not holds:
            question.complain()


def check_finite(name: str, array: Any) -> None:
    """Raises if the array's values are known and one of them is infinite or not a number."""
    if not is_concrete(array):
        return

    def complain():
        bad = np.count_nonzero(~np.isfinite(array))
        raise ValueError(
            f"expected {name} to be finite, got {bad} infinite or nan among its {array.size} values"
        )

    if not isinstance(array, jax.Array):
        if not np.isfinite(array).all():
            complain()
        return
    is_asked = any(question.finite is array for question in _asked.waiting or ())
    if not is_asked and _asked.finite.get(id(array)) is not array:
        _ask(_Question(lambda numpy: numpy.isfinite(array).all(), complain, array))


def check_within(name: str, array: jax.Array, low: Any, high: Any) -> None:
    """Raises if all three are known and one of the array's values is below low or above high."""
    if not all(map(is_concrete, (array, low, high))):
        return

    def holds(numpy):
        values = at_least_single(numpy.asarray(array))
        least, most = (numpy.asarray(bound, values.dtype) for bound in (low, high))
        return (values.min() >= least) & (values.max() <= most)

    def complain():
        values = np.asarray(array)
        raise ValueError(
            f"expected {name} to be within the bounds {low} and {high}, "
            f"got values from {values.min()} to {values.max()}"
        )

    _ask(_Question(holds, complain))


def check_image(image: Any, name: str = "image") -> None:
    """Raises unless `image` is one finite floating-point image (h, w, c)."""
    _check_is_image(image, name)
    check_finite(name, image)


def _check_is_image(image: Any, name: str) -> None:
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


def as_array(name: str, array: Any, axes: tuple[str, ...]) -> jax.Array:
    """`array` as a JAX array, raising as `check_array` does and unless it is finite where known.

    NumPy's arrays are welcome in any byte order, memory layout and precision: what JAX does not
    have becomes the nearest that it has.
    """
    check_array(name, array, axes)
    return _as_finite(name, array)


def as_unbounded(name: str, array: Any, axes: tuple[str, ...]) -> jax.Array:
    """`array` as a JAX array, raising as `check_array` does; nan and infinity are handed on."""
    check_array(name, array, axes)
    return to_jax(array)


def as_image(image: Any, name: str = "image") -> jax.Array:
    """`image` as a JAX array, raising as `check_image` does."""
    _check_is_image(image, name)
    return _as_finite(name, image)


def _as_finite(name: str, array: Any) -> jax.Array:
    native = _native(array)
    check_finite(name, native)
    converted = jnp.asarray(native)
    if isinstance(native, np.ndarray) and is_concrete(converted):
        _asked.finite[id(converted)] = converted
    return converted


def as_signal(name: str, array: Any) -> jax.Array:
    """One signal (t,), real or complex, as a JAX array of at least single precision.

    Raises TypeError or ValueError unless it is one of finite values.
    """
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"expected {name} to be an array, got {type(array).__name__}")
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(f"expected {name} to hold real or complex floats, got {array.dtype}")
    if array.ndim == 2 and array.shape[1] == 2:
        raise ValueError(
            f"expected {name} to have shape (t,), got {array.shape}; in-phase and quadrature "
            "become one signal by complex_baseband"
        )
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"expected {name} to have shape (t,), got {array.shape}")
    check_finite(name, array)
    signal = to_jax(array)
    return signal if jnp.iscomplexobj(signal) else at_least_single(signal)


def to_jax(array: Any) -> jax.Array:
    """The array in JAX: native, and in the widest precision that JAX has for it, without a word."""
    return jnp.asarray(_native(array))


def _native(array: Any) -> Any:
    """What is NumPy's in the byte order and the precision that JAX has for it."""
    if not isinstance(array, np.ndarray | np.generic):
        return array
    native = array.dtype.newbyteorder("=")
    if native in (np.longdouble, np.clongdouble):
        native = np.dtype(np.complex128 if native.kind == "c" else np.float64)
    with np.errstate(over="ignore"):
        return array.astype(jax.dtypes.canonicalize_dtype(native), copy=False)


def check_float_dtype(dtype: Any, expected: str = "dtype to be one of floats") -> None:
    """Raises unless `dtype` names one of floating-point numbers."""
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or not jnp.issubdtype(known, jnp.floating):
        raise TypeError(f"expected {expected}, got {known or repr(dtype)}")


def check_image_shape(shape: Any) -> None:
    """Raises unless `shape` is three positive integers (h, w, c)."""
    if not isinstance(shape, tuple) or len(shape) != 3:
        raise ValueError(f"expected shape to be (h, w, c), got {shape!r}")
    for axis, length in zip(("height", "width", "number of channels"), shape, strict=True):
        check_count(axis, length, 1)


def check_color(name: str, color: Any, shape: tuple[int, ...], *, or_image: bool = False) -> None:
    """Raises unless `color` is one value or one for each channel of an image of that shape."""
    array = color if isinstance(color, jax.Array) else np.asarray(color)
    if not _is_real(array.dtype):
        raise TypeError(f"expected {name} to be a number or an array of them, got {color!r}")
    layouts = ((), shape[-1:], shape)[: 3 if or_image else 2]
    if np.shape(color) not in layouts:
        expected = " or ".join(str(layout) for layout in layouts)
        raise ValueError(f"expected {name} to have shape {expected}, got {np.shape(color)}")


def filled(
    name: str, color: Any, shape: tuple[int, ...], dtype: Any, *, or_image: bool = False
) -> jax.Array:
    """An image of that shape and dtype filled with a colour, raising as `check_color` does."""
    check_color(name, color, shape, or_image=or_image)
    return jnp.broadcast_to(to_jax(color).astype(dtype), shape)


def check_pair(name: str, value: Any, meaning: str) -> None:
    """Raises unless `value` is two things, such as "(height, width)"."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"expected {name} to be {meaning}, got {value!r}")


# No array that JAX computes with has an axis that 32 bits do not count.
_MOST = 2**31 - 1


def check_count(name: str, value: Any, minimum: int, maximum: int | None = _MOST) -> int:
    """`value` as an `int`; raises unless it is an integer known at compile time, and in range."""
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
    if maximum is not None and count > maximum:
        raise ValueError(f"expected {name} to be at most {maximum}, got {count}")
    return count


def check_key(key: Any, name: str = "key") -> None:
    """Raises unless `key` is one JAX random key, of the new kind or of the old (2,) integers."""
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"expected {name} to be a JAX random key, got {type(key).__name__}")
    is_new = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_new and key.dtype != np.uint32:
        raise TypeError(f"expected {name} to be a JAX random key, got an array of {key.dtype}")
    if key.ndim != (0 if is_new else 1):
        raise ValueError(
            f"expected {name} to be one key, got shape {key.shape}; map over keys with jax.vmap"
        )


def as_number(name: str, value: Any, low: Any = None, high: Any = None) -> Any:
    """One real number for arithmetic with arrays of any precision: Python's, or JAX's as it is.

    Raises if it is anything else, or is known and below `low`, above `high` or not a number.
    """
    number = as_any_number(name, value)
    if low is not None:
        check_at_least(name, number, low)
    elif is_concrete(number):
        _check_is_number(name, number)
    if high is not None and is_concrete(number) and not np.asarray(number) <= high:
        raise ValueError(f"expected {name} to be at most {high}, got {number}")
    return number


def as_any_number(name: str, value: Any) -> Any:
    """One real number as `as_number` has it, which may be nan."""
    if not isinstance(value, jax.Array):
        array = np.asarray(value)
        if not (_is_real(array.dtype) and array.ndim == 0):
            kind = f"shape {array.shape}" if _is_real(array.dtype) else repr(value)
            error = ValueError if _is_real(array.dtype) else TypeError
            raise error(f"expected {name} to be one number, got {kind}")
        is_integer = np.issubdtype(array.dtype, np.integer)
        return int(array) if is_integer else float(array)
    if not _is_real(value.dtype):
        raise TypeError(f"expected {name} to be one number, got {value.dtype}")
    if value.ndim:
        raise ValueError(
            f"expected {name} to be one number, got shape {value.shape}; "
            "map over them with jax.vmap"
        )
    return value


def _check_is_number(name: str, number: Any) -> None:
    def complain():
        raise ValueError(f"expected {name} to be one number, got nan")

    if isinstance(number, jax.Array):
        _ask(_Question(lambda numpy: ~numpy.isnan(number), complain))
    elif number != number:
        complain()


def as_integer(name: str, value: Any, low: Any = None) -> Any:
    """One integer, Python's or JAX's as it is, raising as `as_number` does."""
    number = as_number(name, value, low)
    if not jnp.issubdtype(jnp.result_type(number), jnp.integer):
        raise TypeError(f"expected {name} to be an integer, got {value!r}")
    return number


def as_color(name: str, color: Any) -> Any:
    """One number, Python's or JAX's as it is, or an array of colours in JAX.

    Raises if it holds no real numbers, or is known and not finite.
    """
    array = color if isinstance(color, jax.Array) else np.asarray(color)
    if not _is_real(array.dtype):
        raise TypeError(f"expected {name} to hold numbers, got {array.dtype}")
    check_finite(name, array)
    return as_number(name, color) if array.ndim == 0 else to_jax(array)


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def check_at_least(name: str, value: Any, minimum: Any) -> None:
    """Raises if both are known and the value is below `minimum`, or is not a number."""
    if not (is_concrete(value) and is_concrete(minimum)):
        return
    known = np.asarray(value)
    if not _is_real(known.dtype):
        raise TypeError(f"expected {name} to be a number, got {value!r}")
    # On the host: while a program is traced, JAX's own comparison of known numbers is traced too.
    # In the value's own precision, to which the minimum may have been rounded.
    is_integer = np.issubdtype(known.dtype, np.integer)
    if not np.all(known >= np.asarray(minimum).astype(np.float64 if is_integer else known.dtype)):
        found = known if known.ndim == 0 else f"{known.min()} among its {known.size} values"
        raise ValueError(f"expected {name} to be at least {minimum}, got {found}")


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
