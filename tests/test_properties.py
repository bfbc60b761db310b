"""Every exported function under arguments that hypothesis draws: right, or refused by name.

For each function one of its arguments at a time is what it must not be (of another type, rank,
dtype or range, not finite, empty, a huge count, no key, nothing that can be called) or what it need
not take (huge and denormal values, arrays of any shape and dtype). What it must not be is refused
by a TypeError or ValueError that says "expected ..." with the argument's name; of the rest the
function makes something, or it refuses it in the same way. And each array comes in other
precisions, byte orders and memory layouts, which change nothing but rounding.

Tried of each of the some 290 functions are 8 wrong arguments and 2 awkward arrays here, 160 and 40
in the nightly. Here what computes is traced and not compiled: the checks of an eager call are made
all the same. In the nightly it is computed, and no result of finite numbers is a nan, but for what
the function's docstring says to be undefined.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arguments
import hypothesis.extra.numpy as of_numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arguments import Call, MustNot, exported
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from saliency_jax._validation import to_jax

# Beside its database, which it is told to do without, it keeps what it knows of modules.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "saliency-jax-test-hypothesis")
FUNCTIONS = sorted(exported())
TIMES = 20
WRONG, AWKWARD = 8, 2
# What a message calls an argument that it does not name as it is.
ALIASES = {
    "axes": "axis",
    "bounds": "bound",
    "box": "a box",
    "cells": "rows|columns|sizes",
    "channels": "channel",
    "coefficients": "window's",
    "count": "number of devices",
    "delays": "gain",
    "failed_at": "finite steps",
    "first": "arrays of one shape|a box|second",
    "gains": "gain",
    "high": "low|bands",
    "image": "baselines|gradient|mask|missing|regions|saliency_map|window's",
    "image_size": "height|width",
    "images": "labels",
    "length": "bandwidth|sizes",
    "loss": "score",
    "low": "high",
    "mask": "a mask",
    "model": "network",
    "num_segments": "segments",
    "other": "another class",
    "saliency_map": "mask|regions",
    "sample_rate": "bands",
    "segments": "mask",
    "second": "arrays of one shape|a box",
    "shape": "height|width|number of channels",
    "sides": "height|width|frequencies|frames|window_size",
    "size": "height|width|side",
    "stride": "stride along",
    "window": "window's",
    "window_size": "window's|a window",
}
KINDS = ("f2", "f4", "f8", ">f4", ">f8", "g", "i4", "u1", "?", "c8", "U1", "O")

each_function = pytest.mark.parametrize("name", FUNCTIONS)
in_numbers = pytest.mark.parametrize(
    "times", [1, pytest.param(TIMES, marks=pytest.mark.nightly)], ids=["", "many"]
)


@pytest.fixture(autouse=True)
def own_checks(entry_checks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def tried(count: int) -> Callable:
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def traced(call: Call, **instead: Any) -> list[jax.ShapeDtypeStruct]:
    """The shapes and types of the arrays that a call makes, of which nothing is computed."""

    def arrays():
        return [leaf for leaf in jax.tree.leaves(call(**instead)) if isinstance(leaf, jax.Array)]

    return jax.eval_shape(arrays)


def computed(call: Call, **instead: Any) -> list[np.ndarray]:
    leaves = jax.tree.leaves(call(**instead))
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
    # Random keys are none of NumPy's.
    return [np.asarray(array) for array in arrays if isinstance(array.dtype, np.dtype)]


def way_of(call: Call, *, computes: bool) -> Callable[..., list]:
    """How a call is made here: traced, unless it is of the host or must be computed."""
    for argument in call.values:
        # Made now, as what is made while a program is traced is no value.
        call.good(argument)
    if computes or call.is_slow:
        return computed
    try:
        traced(call)
    # Of the host, or a mesh of its own: neither can be traced.
    except (jax.errors.JAXTypeError, ValueError):
        return computed
    return traced


@st.composite
def wrong_arguments(draw: Any, call: Call) -> tuple[str, Any, bool]:
    """An argument's name, what is in its place, and whether it must be refused."""
    argument = draw(st.sampled_from(breakable(call)))
    must, may = call.wrong(argument)
    drawn = of_numpy.arrays(st.sampled_from(KINDS), of_numpy.array_shapes(min_dims=0, min_side=0))
    choices = [(value, isinstance(values, MustNot)) for values in (must, may) for value in values]
    value, is_refused = draw(
        st.one_of(st.sampled_from(choices), st.tuples(drawn, st.just(False)))
        if is_array(call, argument)
        else st.sampled_from(choices)
    )
    return argument, value, is_refused


def breakable(call: Call) -> list[str]:
    return [argument for argument in sorted(call.values) if any(call.wrong(argument))]


def is_array(call: Call, argument: str) -> bool:
    good = call.good(argument)
    is_array = isinstance(good, jax.Array | np.ndarray) and good.ndim > 0
    return is_array and call.kinds[argument] is not arguments.free


def check_refusal(error: Exception, argument: str) -> None:
    said = str(error)
    names = "|".join([argument, argument.replace("_", " "), ALIASES.get(argument, argument)])
    assert said.startswith("expected ") or "expected " in said, error
    assert re.search(rf"\b({names})", said), error
    assert not isinstance(error, jax.errors.JAXTypeError), error


def is_finite(value: Any) -> bool:
    """Whether a value holds numbers alone, all of them finite in JAX's precision."""
    try:
        array = np.asarray(value)
    # A list of arrays of several shapes.
    except ValueError:
        return False
    with np.errstate(over="ignore"):
        return array.dtype.kind in "fiub" and bool(np.isfinite(to_jax(array)).all())


def is_undefined_at_times(call: Call) -> bool:
    return "nan" in (call.function.__doc__ or "")


# Of what is 0 but for rounding that which is not.
UNITS = {"rules.conservation": 1.0}


@each_function
@in_numbers
def test_a_wrong_argument_is_refused_by_name_or_is_none(name, times):
    call = arguments.call(name)
    way = way_of(call, computes=times > 1 and name not in arguments.TRACED)
    if not breakable(call):
        # It takes nothing, or anything.
        if not call.is_slow:
            way(call)
        return

    @tried(times * WRONG)
    @given(wrong_arguments(call))
    def check(wrong):
        check_wrong(call, way, *wrong)

    check()


def check_wrong(call: Call, way: Callable, argument: str, value: Any, is_refused: bool) -> None:
    """Refused by name, or, where it need not be, taken without making a nan."""
    try:
        made = way(call, **{argument: value})
    except (TypeError, ValueError) as error:
        check_refusal(error, argument)
    except OSError:
        # Of what there is no such file.
        assert call.kinds[argument] is arguments.path
    else:
        assert not is_refused, f"{argument} {value!r} was taken"
        if way is computed and is_finite(value) and not is_undefined_at_times(call):
            assert not any(np.isnan(leaf).any() for leaf in made if leaf.dtype.kind in "fc")


LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("name", "argument", "value", "is_refused"),
    [
        ("ascent.color_statistics", "images", np.full((2, 4, 5, 2), 1e299) * [1, -1], True),
        ("ascent.smooth_noise", "decay", 1e30, False),
        ("attribution.bilinear", "cam", np.full((1, 2), LARGEST), False),
        ("attribution.rise", "cells", (1, 10**6), False),
        ("metrics.structural_similarity", "data_range", 1e-30, False),
        ("rules.z_box", "high", [0.5, 0.5], False),
        ("segments.as_segments", "image", np.full((4, 5, 2), np.nan, np.float32), True),
        ("signals.radio.decision_mask", "distance", jnp.bfloat16(0.5), False),
        ("signals.radio.fading_gains", "powers", np.array([1e-300, 5e-301]), True),
        ("signals.radio.fading_gains", "powers", np.array([1.0, -2.0]), True),
        ("signals.radio.frequency_modulation", "message", np.full(64, LARGEST), True),
        ("signals.radio.gaussian_phase", "time", np.array(LARGEST), False),
        ("signals.radio.shift_frequency", "frequency", 1e38, True),
        ("signals.radio.multipath", "gains", np.full(2, 3e36, np.float32), False),
        ("signals.radio.multipath", "signal", np.full(64, 3e38, np.complex64), False),
        ("signals.radio.noise", "snr", -np.inf, True),
        ("signals.radio.receive", "snr", -np.inf, True),
        ("signals.radio.root_raised_cosine", "time", np.array(LARGEST), False),
        ("signals.spectrograms.decibels", "power", np.array([1.0, -1.0], np.float16), True),
        ("signals.spectrograms.log_mel", "sample_rate", 1e-30, False),
        ("signals.spectrograms.log_mel", "signal", np.full(64, 3e37, np.float32), True),
        ("signals.spectrograms.mel_filters", "high", 1e-320, True),
    ],
)
def test_what_the_nightly_found(name, argument, value, is_refused):
    check_wrong(arguments.call(name), computed, argument, value, is_refused)


PRECISIONS = {
    "f": (np.float16, jnp.bfloat16, "<f4", ">f4", "<f8", ">f8", np.longdouble),
    "c": ("<c8", ">c8", "<c16", ">c16"),
    "i": ("<i4", ">i4", "<i8", ">i8", "i1", "u1"),
    "b": ("?",),
}
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows first": np.ascontiguousarray,
    "columns first": np.asfortranarray,
    "backwards": lambda array: array[::-1].copy()[::-1],
    "every second": lambda array: array.repeat(2, -1)[..., ::2],
}


@st.composite
def awkward_arrays(draw: Any, array: np.ndarray) -> np.ndarray:
    """The same values in another precision, byte order and layout, which may not be written to."""
    kinds = PRECISIONS["f" if array.dtype == jnp.bfloat16 else array.dtype.kind.replace("u", "i")]
    other = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](
        array.astype(draw(st.sampled_from(kinds)))
    )
    other.flags.writeable = draw(st.booleans())
    return other


WITH_ARRAYS = [
    name
    for name in FUNCTIONS
    if name not in arguments.SLOW + arguments.OF_ONE_DTYPE
    if any(is_array(arguments.call(name), argument) for argument in arguments.call(name).values)
]


@pytest.mark.parametrize("name", WITH_ARRAYS)
@in_numbers
def test_awkward_arrays_change_nothing_but_rounding(name, times):
    call = arguments.call(name)
    way = way_of(call, computes=times > 1 and name not in arguments.TRACED)
    plain = way(call)
    arrays = [argument for argument in call.values if is_array(call, argument)]

    @tried(times * AWKWARD)
    @given(st.data())
    def check(data):
        argument = data.draw(st.sampled_from(arrays))
        array = data.draw(awkward_arrays(np.asarray(call.good(argument))))
        made = way(call, **{argument: array})
        assert [leaf.shape for leaf in made] == [leaf.shape for leaf in plain]
        if way is computed and name not in arguments.RANDOM:
            rounding = 0.1 if array.dtype.itemsize == 2 else 1e-3
            for leaf, expected in zip(made, plain, strict=True):
                scale = np.abs(expected.astype(np.complex128)).max(initial=UNITS.get(name, 0))
                np.testing.assert_allclose(
                    leaf.astype(np.complex128), expected, rtol=rounding, atol=rounding * scale
                )

    check()


def arrays_of_metrics() -> list:
    return [
        pytest.param(name, argument, id=f"{name}-{argument}")
        for name in FUNCTIONS
        if name.startswith("metrics.") and name not in arguments.NO_MEASURES
        for argument in arguments.call(name).values
        if is_array(arguments.call(name), argument)
        and np.asarray(arguments.call(name).good(argument)).dtype.kind == "f"
    ]


@pytest.mark.parametrize(("name", "argument"), arrays_of_metrics())
def test_what_no_check_can_see_makes_a_metric_nan(name, argument):
    """Under `jax.jit` an array has no values yet; an order, a mask or a rounding would hide it."""
    call = arguments.call(name)
    good = np.array(call.good(argument))
    # A part of the image may be hidden whatever it is.
    good.flat[: good.size if argument in ("image", "baseline") else 1] = np.nan
    program = jax.jit(lambda array: jax.tree.leaves(call(**{argument: array})))
    assert any(np.isnan(leaf).any() for leaf in program(good))
