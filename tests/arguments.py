"""For every exported function a call that is right, and what is wrong in place of each argument.

An argument that means the same everywhere is one line of COMMON: what it usually is, and its kind.
OTHERWISE has those that are something else in one function. A new function whose arguments have the
usual names needs no line here; of a new method's others the table of methods knows what they are.
"""

import contextlib
import dataclasses
import functools
import inspect
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attribution_methods
import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
import small_photographs
from jax.tree_util import Partial
from PIL import Image as PILImage

from saliency_jax import (
    ascent,
    attacks,
    attribution,
    baselines,
    data,
    devices,
    filters,
    images,
    layers,
    localization,
    metrics,
    models,
    rules,
    runs,
    scale,
    scores,
    segments,
    training,
)
from saliency_jax.runs import plots
from saliency_jax.signals import radio, sound, spectrograms

ROOMS: Mapping[str, types.ModuleType] = {
    room.__name__.removeprefix("saliency_jax."): room
    for room in (
        *(ascent, attacks, attribution, baselines, data, devices, filters, images, layers),
        *(localization, metrics, models, rules, runs, plots, scale, scores, segments),
        *(radio, sound, spectrograms, training),
    )
}


def exported() -> dict[str, Callable]:
    """The functions of the rooms' export lists by room and name."""
    return {
        f"{room}.{name}": function
        for room, module in ROOMS.items()
        for name, function in sorted(vars(module).items())
        if inspect.isfunction(function) and not name.startswith("_")
        if _is_of(function, room) or hasattr(module, "__path__")
    }


def _is_of(function: Callable, room: str) -> bool:
    """Whether a room of one file has made the function, and not imported it for itself."""
    return function.__module__ == f"saliency_jax.{room}"


# What the calls are made of.

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 64, (4, 5, 2)) / 64
IMAGE = jnp.asarray(PIXELS, jnp.float32)
MAP = IMAGE[..., 0]
MASK = np.asarray(MAP > 0.5)
SHAPE = IMAGE.shape
SEGMENTS = np.add(*np.indices(SHAPE[:2])) % 4
BATCH = jnp.stack([IMAGE, 1 - IMAGE])
KEY = jax.random.key(0)
SGD = optax.sgd(0.1)
WEIGHTS = jnp.array([1.0, -2.0, 3.0])


def model(weights: Any, image: Any) -> Any:
    """Three logits of an image of any shape."""
    curved = image + jnp.tanh(image) / 2
    return weights.astype(image.dtype) * jnp.stack([curved.mean(), curved[0, 0, 0], curved.max()])


MODEL = Partial(model, WEIGHTS)
SCORE = scores.logit(MODEL, 1)
LAYER = attribution_methods.centred_layer(SCORE)
ATTENTION = attribution_methods.attention_to_pixels(SCORE)
SIGNAL = jnp.asarray(RNG.normal(size=64), jnp.float32)
COMPLEX = (RNG.normal(size=32) + 1j * RNG.normal(size=32)).astype(np.complex64)


def of_dense(image: Any) -> Any:
    weights = WEIGHTS[None, None, None].astype(image.dtype)
    return jax.nn.relu(jnp.sum(image[..., None] * weights, (0, 1, 2)) - 1).sum()


def _operations() -> dict[str, Any]:
    """Of a score of all kinds of operations one of each kind, by kind."""
    found: dict[str, Any] = {}

    def composite(operation):
        found.setdefault("weights" if operation.has_weights else operation.kind, operation)

    def score(image):
        features = image.reshape(-1, 2) @ jnp.array([[1.0, -2.0, 3.0], [2.0, 1.0, 1.0]])
        attended = jax.nn.softmax(features, axis=-1) * features
        return jnp.sum(jax.nn.relu(attended) + features)

    rules.lrp(score, IMAGE, composite=composite)
    return found


def _change() -> Any:
    """What an activation's rule is handed."""
    found = []

    def rule(change):
        found.append(change)
        return rules.rescale(change)

    rules.deep_lift(of_dense, IMAGE, rule=rule)
    return found[0]


def half_of(image: Any, key: Any) -> Any:
    return image / 2


def network() -> Any:
    from flax import nnx

    return models.ResNet(18, 3, width=2, stem=models.HALVING_STEM, rngs=nnx.Rngs(0))


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = 3


# What is wrong.

TEXT, NOTHING, OBJECT = "text", None, object()
HUGE = 10**30


class MustNot(list):
    """Values that are refused by name, always."""


class MayNot(list):
    """Values that are right for some functions, and refused by name by the others."""


def with_value(array: Any, value: float) -> np.ndarray:
    changed = np.array(array, copy=True)
    if changed.size:
        changed.flat[-1] = value
    return changed


def not_floats(good: Any) -> list[Any]:
    array = np.asarray(good)
    return [
        *(NOTHING, 3, 0.5, TEXT, OBJECT, [[[1.0]]], array.tolist()),
        *(array.astype(kind) for kind in (int, bool, complex, object, "U4", "M8[s]")),
        np.zeros(array.shape, [("real", "f4"), ("imaginary", "f4")]),
    ]


def wrong_shapes(good: Any) -> list[Any]:
    array = np.asarray(good)
    return [array[..., None], array[0], array[:0], array.ravel()[:1].reshape(()), array[None, None]]


def not_finite(good: Any) -> list[Any]:
    array = np.asarray(good)
    found = [with_value(array, value) for value in (np.nan, np.inf, -np.inf)]
    # Those of JAX's are asked of the device.
    return [*found, jnp.asarray(found[0])]


def beyond(good: Any) -> list[Any]:
    array = np.asarray(good)
    return [
        np.asarray(array, np.float64) * size for size in (1e300, 1e-300, 1e30, 1e-40, -1.0, 0.0)
    ]


def floats(good: Any) -> tuple[MustNot, MayNot]:
    must = [*not_floats(good), *wrong_shapes(good), *not_finite(good)]
    return MustNot(must), MayNot([np.asarray(good)[:1], *beyond(good)])


def open_floats(good: Any) -> tuple[MustNot, MayNot]:
    """Of which a nan is handed on."""
    return MustNot([*not_floats(good), *wrong_shapes(good)]), MayNot(not_finite(good))


def any_floats(good: Any) -> tuple[MustNot, MayNot]:
    """Of any shape but an empty one."""
    must = [*not_floats(good), np.asarray(good)[:0], *not_finite(good)]
    return MustNot(must), MayNot([*wrong_shapes(good), *beyond(good)])


def pytree(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([3, TEXT, OBJECT, np.asarray(good).astype(int), *not_finite(good)]), MayNot(
        [NOTHING, wrong_shapes(good)]
    )


def signal(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    wrong = [NOTHING, 3, TEXT, OBJECT, array.tolist(), array.real.astype(int), array.astype(object)]
    must = [*wrong, array[:0], array[:, None], array[0], *not_finite(array)]
    return MustNot(must), MayNot([array[:1], array.real])


def complexes(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    return MustNot([NOTHING, 3, TEXT, OBJECT, array.tolist(), array.real]), MayNot(
        [*not_finite(good), array[:0]]
    )


def integers(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    must = [NOTHING, TEXT, OBJECT, array.astype(float), array.astype(bool), array.astype(object)]
    return MustNot([*must, array[:0]]), MayNot(
        [array - 100, array + 100, array.tolist(), 3, *wrong_shapes(good)[:2]]
    )


def booleans(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    kinds = [array.astype(kind) for kind in (int, float, complex, object)]
    must = [NOTHING, TEXT, OBJECT, 3, *kinds, array[..., None], array[0], array[:0]]
    return MustNot(must), MayNot([array & False, array | True, array.tolist()])


def count(good: Any) -> tuple[MustNot, MayNot]:
    array, wrong = np.array([1, 2]), [1.5, True, "2", [1], OBJECT, 1j, np.nan]
    must = [NOTHING, -1, *wrong, array, np.float32(1)]
    return MustNot(must), MayNot([0, HUGE, 2**63, np.int8(2), jnp.int32(2), np.array(2)])


def count_or_none(good: Any) -> tuple[MustNot, MayNot]:
    must, may = count(good)
    return MustNot(must[1:]), may


def natural(good: Any) -> tuple[MustNot, MayNot]:
    return count(good)


def number(good: Any) -> tuple[MustNot, MayNot]:
    must = [NOTHING, TEXT, OBJECT, 1j, np.nan, jnp.array(np.nan), np.ones(3), [0.5], jnp.ones(3)]
    wide = [np.inf, -np.inf, -1, 0, 1e30, HUGE, 1e-30, True]
    return MustNot(must), MayNot([*wide, np.float16(0.5), jnp.bfloat16(0.5), jnp.array(0.5)])


def color(good: Any) -> tuple[MustNot, MayNot]:
    must = [NOTHING, TEXT, OBJECT, 1j, np.nan, np.array([np.nan, 1.0])]
    return MustNot(must), MayNot([np.ones(7), [0.5, 0.5], np.inf, np.ones(2, int)])


def key(good: Any) -> tuple[MustNot, MayNot]:
    must = [NOTHING, 0, 1.5, TEXT, OBJECT, np.zeros(2), np.zeros((3, 2), np.uint32)]
    old = jax.random.PRNGKey(0)
    return MustNot([*must, jax.random.split(KEY, 2)]), MayNot([old, np.asarray(old)])


def function(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([NOTHING, 7, TEXT, OBJECT, [print]]), MayNot([])


def one_number(good: Any) -> tuple[MustNot, MayNot]:
    """A score, a loss: from an image to a number."""

    def two(image):
        return jnp.stack([image.sum(), image.sum()])

    def integer(image):
        return jnp.sum(image).astype(int)

    must = [
        *function(good)[0],
        two,
        integer,
        lambda image: None,
        lambda image: image.sum().astype(complex),
    ]
    return MustNot(must), MayNot([lambda image: image.sum() * jnp.nan])


def shown_instead(good: Any) -> tuple[MustNot, MayNot]:
    """A baseline."""
    array = np.asarray(IMAGE)
    made = [
        lambda image, other=other: other for other in (None, 3, TEXT, array[:1], array * np.nan)
    ]
    return MustNot([*floats(array)[0], *made]), MayNot([baselines.mean_color])


def pair(good: Any) -> tuple[MustNot, MayNot]:
    wrong = [NOTHING, 3, TEXT, OBJECT, (), (1,), (1, 2, 3), (0, 1), (1, -1), (1.5, 1), ("a", "b")]
    return MustNot([*wrong, (None, 1), (True, 1), {1: 2}]), MayNot([[1, 1], (HUGE, 1), (1, 10**6)])


def shape(good: Any) -> tuple[MustNot, MayNot]:
    wrong = [NOTHING, 3, TEXT, OBJECT, (), (2, 2), (2, 2, 1, 1), (0, 2, 1), (2, -1, 1), (2.0, 2, 1)]
    return MustNot([*wrong, (True, 2, 1), ("2", 2, 1)]), MayNot([[2, 2, 1]])


def dtype(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([TEXT, 3, OBJECT, "int32", bool, complex, "U4"]), MayNot(
        [NOTHING, "float16", np.float64, jnp.bfloat16]
    )


def cut(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([NOTHING, 7, TEXT, OBJECT]), MayNot([])


def label(good: Any) -> tuple[MustNot, MayNot]:
    must = [TEXT, OBJECT, 1.5, True, 1j, np.nan, [1], np.array([0, 1]), jnp.float32(1)]
    return MustNot([NOTHING, *must]), MayNot([-1, 3, HUGE, np.int8(1), jnp.int32(1), np.array(1)])


def fractions(good: Any) -> tuple[MustNot, MayNot]:
    wrong = [NOTHING, 0.5, TEXT, OBJECT, (), (2.0,), (-0.1, 0.5), ("a",), (np.nan,), (0.5, 0.2)]
    return MustNot([*wrong, (None,), ((0.1, 0.2),), (1j,)]), MayNot([(0, 1), np.array([0.5])])


def text(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([NOTHING, 7, OBJECT, b"bytes", ["a"]]), MayNot(["", "\0", "$\\frac", "\ud800"])


def path(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([7, OBJECT, ["a"], 1.5]), MayNot(["", "\0", "nowhere/at/all"])


def anything(good: Any) -> tuple[MustNot, MayNot]:
    """What has no type of its own, such as a flag."""
    return MustNot([]), MayNot([NOTHING, 7, TEXT])


def box(good: Any) -> tuple[MustNot, MayNot]:
    wrong = [NOTHING, 3, TEXT, OBJECT, (), (1, 2, 3), (1, 2, 3, 4, 5), (0, 0, np.nan, 1)]
    return MustNot([*wrong, ("a", 0, 1, 1), (1j, 0, 1, 1)]), MayNot([[0, 0, 1, 1], (3, 0, 1, 1)])


def names(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([7, OBJECT, ["nothing"], (7,), (None,)]), MayNot([TEXT, ()])


def reals(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    kinds = [array.astype(kind) for kind in (bool, complex, object, "U4")]
    must = [*not_floats(array)[:6], *kinds, *wrong_shapes(array), *not_finite(array)]
    return MustNot(must), MayNot([array.astype(int)])


def channels(good: Any) -> tuple[MustNot, MayNot]:
    must = [TEXT, OBJECT, 1.5, True, 1j, np.nan, [], [0, 9], NOTHING, jnp.float32(1), -1]
    return MustNot(must), MayNot([[0, 1], np.array([1]), np.int8(1), jnp.int32(1), HUGE])


def steps(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    return MustNot([NOTHING, TEXT, OBJECT, 1.5, array.astype(float), array.astype(bool)]), MayNot(
        [3, array + 1, array[:0]]
    )


def free(good: Any) -> tuple[MustNot, MayNot]:
    """Whatever one likes: nothing is wrong."""
    return MustNot([]), MayNot([])


def instance(good: Any) -> tuple[MustNot, MayNot]:
    """Of one class."""
    return MustNot([NOTHING, 7, TEXT, OBJECT, (1, 2)]), MayNot([])


def undefined(good: Any) -> tuple[MustNot, MayNot]:
    """Floats of any shape, of which a nan makes the result nan."""
    _, may = any_floats(good)
    return MustNot([*not_floats(good), np.asarray(good)[:0]]), MayNot([*not_finite(good), *may])


def any_parameters(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot(not_floats(good)), MayNot([*not_finite(good), *wrong_shapes(good)])


def place(good: Any) -> tuple[MustNot, MayNot]:
    wrong = [3, TEXT, OBJECT, (1,), (1, 2, 3), (1.5, 1), ("a", "b"), (None, 1), (True, 1)]
    return MustNot(wrong), MayNot([(0, 1), (-1, 0), (HUGE, 1), [1, 1]])


def shares(good: Any) -> tuple[MustNot, MayNot]:
    array = np.asarray(good)
    must = [NOTHING, TEXT, OBJECT, 3, array.astype(complex), array.astype(object), array[:0]]
    return MustNot([*must, array[..., None]]), MayNot([array.astype(int), array.astype(bool)])


def functions(good: Any) -> tuple[MustNot, MayNot]:
    return MustNot([(7,), (None,), (TEXT,)]), MayNot([])


def series(good: Any) -> tuple[MustNot, MayNot]:
    """What is gone through."""
    return MustNot([NOTHING, 7, OBJECT]), MayNot([])


def scalars(good: Any) -> tuple[MustNot, MayNot]:
    wrong = [NOTHING, 0.5, TEXT, OBJECT, (), ("a",), (np.nan,), (None,), (1j,), (-1.0,)]
    return MustNot(wrong), MayNot([(1, 2), np.array([0.5])])


def tolerant(good: Any) -> tuple[MustNot, MayNot]:
    """A number that may be nan."""
    _, may = number(good)
    return MustNot([NOTHING, TEXT, OBJECT, 1j, np.ones(3), [0.5]]), MayNot([*may, np.nan])


Kind = Callable[[Any], tuple[MustNot, MayNot]]
# The function's own default.
USUAL = inspect.Parameter.empty


class Made:
    """A value that is made when it is first asked for."""

    def __init__(self, make: Callable[[], Any]):
        self._make = functools.cache(make)

    @property
    def value(self) -> Any:
        return self._make()


# By name: what it usually is, USUAL for the function's own default, and its kind.
COMMON: dict[str, tuple[Any, Kind]] = {
    "alpha": (2.0, number),
    "amount": (0.1, number),
    "attention": (ATTENTION, instance),
    "attribution": (IMAGE - 0.5, floats),
    "augment": (USUAL, function),
    "axis_name": (USUAL, anything),
    "background": (USUAL, number),
    "ball": (attacks.LINF, instance),
    "baseline": (0.1 * IMAGE, shown_instead),
    "baselines": (BATCH, floats),
    "batch_size": (2, count),
    "beta": (1.0, number),
    "blur": (USUAL, function),
    "bounds": (USUAL, anything),
    "box": ((0, 0, 2, 2), box),
    "cam": (MAP[:2, :2], open_floats),
    "cells": ((2, 2), pair),
    "center": (USUAL, color),
    "channel": (1, label),
    "color": (0.5, color),
    "composite": (USUAL, function),
    "confidence": (USUAL, number),
    "count": (1, count),
    "data_dir": (USUAL, path),
    "decay": (USUAL, number),
    "decode": (USUAL, function),
    "degrees": (5.0, number),
    "delays": (np.array([0.0, 1.5]), floats),
    "devices": (USUAL, anything),
    "dtype": (USUAL, dtype),
    "epsilon": (0.1, number),
    "excite": (USUAL, function),
    "file": (b"", path),
    "first": (MAP, any_floats),
    "foreground": (USUAL, number),
    "fraction": (0.5, number),
    "fractions": ((0.2, 0.5), fractions),
    "function": (half_of, function),
    "gamma": (0.25, number),
    "gradient": (IMAGE - 0.5, floats),
    "height": (2, count),
    "high": (1.0, number),
    "hop": (4, count),
    "image": (IMAGE, floats),
    "images": (BATCH, floats),
    "information": (USUAL, function),
    "iterations": (USUAL, count),
    "k": (2, count),
    "kernel_width": (0.25, number),
    "key": (KEY, key),
    "label": (1, label),
    "layer": (LAYER, cut),
    "layers": (USUAL, names),
    "length": (64, count),
    "loss": (SCORE, one_number),
    "low": (0.0, number),
    "make_canvas": (USUAL, function),
    "make_score": (USUAL, function),
    "maps": ([MAP, MAP], anything),
    "mask": (MASK, booleans),
    "max_dist": (0.1, number),
    "max_sigma": (2.0, number),
    "mean": (0.5, color),
    "message": (SIGNAL, floats),
    "method": (attribution.input_gradient, function),
    "missing": (MASK, booleans),
    "model": (MODEL, function),
    "noise_scale": (0.1, number),
    "num_bands": (2, count),
    "num_points": (3, count),
    "num_samples": (4, count),
    "num_segments": (4, count),
    "octaves": (2, count),
    "optimizer": (SGD, instance),
    "order": (4, count),
    "other": (2, label),
    "parameter": (MAP, any_parameters),
    "perturbation": (half_of, function),
    "pixels": (1, count),
    "position": ((1, 2), place),
    "prior": (USUAL, function),
    "probability": (0.5, number),
    "radius": (0.1, number),
    "random_start": (USUAL, anything),
    "rate": (0.1, number),
    "redraw": (USUAL, function),
    "reduce": (USUAL, function),
    "regions": (np.stack([MASK, ~MASK]), booleans),
    "resize": (USUAL, function),
    "ridge": (1.0, number),
    "rolloff": (0.5, number),
    "rule": (attribution.midpoint, function),
    "saliency_map": (MAP, floats),
    "sample_rate": (8000, number),
    "samples_per_symbol": (USUAL, count),
    "score": (SCORE, one_number),
    "second": (MAP[::-1], any_floats),
    "segments": (SEGMENTS, integers),
    "shape": (SHAPE, shape),
    "side": (2, count),
    "sigma": (1.0, number),
    "signal": (SIGNAL, signal),
    "similarity": (USUAL, function),
    "size": (2, count),
    "sizes": (np.array([1, 3]), integers),
    "snr": (10.0, number),
    "state": (USUAL, instance),
    "std": (0.1, number),
    "step_size": (0.1, number),
    "steps": (2, count),
    "stride": ((1, 1), pair),
    "timing": (USUAL, number),
    "title": ("A title", text),
    "tolerance": (USUAL, number),
    "upsample": (attribution.bilinear, function),
    "vector": (np.array([0.5, 1.0]), floats),
    "weight": (0.1, number),
    "width": (2, count),
    "window": ((1, 2), pair),
    "window_size": (8, count),
}

OPERATIONS = Made(_operations)


def of_kind(name: str) -> tuple[Made, Kind]:
    return Made(lambda: OPERATIONS.value[name]), instance


def relevance(name: str) -> tuple[Made, Kind]:
    return Made(lambda: jnp.ones_like(OPERATIONS.value[name].output)), open_floats


WITH_WEIGHTS = {"operation": of_kind("weights"), "relevance": relevance("weights")}
ACTIVATION = {
    "array": (IMAGE, open_floats),
    "cotangent": (IMAGE, open_floats),
    "function": (jax.nn.relu, function),
}
POSITIVE = {"first": ((0, 0, 2, 2), box), "second": ((1, 1, 3, 3), box)}
WIDE = jnp.asarray(RNG.random((12, 12)), jnp.float32)
NETWORK = Made(network)
IQ = jnp.stack([SIGNAL, SIGNAL], -1)[None]
PHOTOGRAPH = PILImage.new("RGB", (4, 3), "red")
COEFFICIENTS = np.ones((3, 8), np.complex64)
BATCHES = [{"image": np.asarray(BATCH), "label": np.array([0, 1]), "mask": np.array([True, True])}]
POINTS = {"image": np.asarray(BATCH)}
CLASSIFIER = Made(small_photographs.classifier)
STATE = Made(lambda: ascent.initial_state(IMAGE, SGD, KEY))
PARTS = Made(lambda: training.split(NETWORK.value))
TRAINER = Made(lambda: training.Trainer(PARTS.value[0], SGD, training.unchanged))
TRAINED = Made(lambda: training.initial_state(*PARTS.value[1:], SGD, KEY))
LABELS = np.array([0, 1], np.int32)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="saliency-jax-test-"))


def sound_file() -> str:
    path = _folder() / "sound.wav"
    path.write_bytes(sound.encode_wav(np.asarray(SIGNAL) / 9, 8000))
    return str(path)


def weights_file() -> str:
    path = _folder() / "weights"
    safetensors.numpy.save_file({"weight": np.ones(3, np.float32)}, path)
    return str(path)


def stored() -> str:
    output = str(_folder() / "stored")
    scale.compute(lambda shared, image: {"sum": image.sum()}, POINTS, output, batch_size=2)
    return output


def write_whole(path: Any, *, new: Any = False, final: Any = None) -> None:
    with runs.whole(path, new=new, final=final) as partial:
        partial.write_text("whole")


DATA_SET = Made(lambda: small_photographs.folder(_folder(), 6))
WEIGHTS_BY_NAME = Made(lambda: models.to_state_dict(NETWORK.value))
FIGURES = Made(lambda: [plots.grid([[plots.image(IMAGE[..., :1])]])])
SMALL = Made(
    lambda: models.Classifier(
        "small", NETWORK.value, models.Input("image", (8, 8)), ("a", "b", "c")
    )
)


def attacked(model, images, labels, key, epsilon):
    return np.ones(len(images), bool)


# By room and name: the arguments that are something else than what is common.
OTHERWISE: dict[str, dict[str, tuple[Any, Kind]]] = {
    "ascent.alpha_norm": {"alpha": (6.0, number)},
    "ascent.ascend": {"state": (STATE, instance), "snapshots": ([0, 1], anything)},
    "ascent.ascend_octaves": {"scale": (1.4, number)},
    "ascent.ascent_step": {"state": (STATE, instance), "num_samples": (1, count)},
    "ascent.blur_every": {"steps": (2, count)},
    "ascent.chain_canvases": {"canvases": ((), functions)},
    "ascent.check_finite_steps": {
        "failed_at": (np.zeros(2, int), steps), "settings": ({}, free),
    },
    "ascent.color_canvas": {"covariance": (np.eye(2), floats)},
    "ascent.color_statistics": {"images": (BATCH, floats)},
    "ascent.compose": {"augmentations": ((), functions)},
    "ascent.fourier_canvas": {},
    "ascent.initial_state": {"params": (IMAGE, pytree)},
    "ascent.jitter": {},
    "ascent.keep_in_ball": {"center": (IMAGE, floats)},
    "ascent.mean_magnitude": {"images": (BATCH, floats)},
    "ascent.phase_canvas": {"magnitude": (np.ones((4, 3, 2)), floats), "width": (5, count)},
    "ascent.pixels": {"params": (IMAGE, free)},
    "ascent.resized_crop": {"low": (0.5, number)},
    "ascent.scale": {"low": (0.5, number)},
    "attribution.rank_regions": {"saliency_map": (MAP, open_floats)},
    "attribution.bilinear": {"shape": ((4, 5), pair)},
    "attribution.nearest": {"shape": ((4, 5), pair)},
    "attribution.ten_crop": {"size": ((3, 4), pair), "method": (attribution.saliency, function)},
    "attribution.xrai": {"baselines": ((baselines.zeros,), anything)},
    "attribution.max_abs": {"attribution": (IMAGE, open_floats)},
    "attribution.sum_abs": {"attribution": (IMAGE, open_floats)},
    "attribution.sum_channels": {"attribution": (IMAGE, open_floats)},
    "attribution.l2_norm": {"attribution": (IMAGE, open_floats)},
    "data.channel_statistics": {"batches": (BATCHES, series)},
    "data.describe": {"name": (DATA_SET, text)},
    "data.joined": {"batches": (BATCHES, series)},
    "data.load": {
        "name": (DATA_SET, text), "split": ("test", text), "seed": (0, natural),
        "epochs": (1, count), "start": (0, natural), "workers": (0, natural),
        "image_size": (8, count), "fields": ((), names), "strict": (True, anything),
    },
    "data.load_objects": {"name": (DATA_SET, text), "split": ("test", text)},
    "data.prepare": {"name": (DATA_SET, text), "manual_dir": (USUAL, path)},
    "images.decode": {"file": (PHOTOGRAPH, path), "channels": (3, count), "size": (2, count)},
    "images.fit": {"size": (2, count)},
    "images.in_unit_range": {"pixels": (np.zeros(3, np.uint8), anything)},
    "images.read_image": {"file": (PHOTOGRAPH, path)},
    "layers.identity": {"cut": (IMAGE, free)},
    "localization.bounding_box": {},
    "localization.localize": {"image": (IMAGE[..., :1], floats)},
    "metrics.best_box_iou": {"boxes": (np.array([[0.0, 0, 1, 1]]), reals)},
    "metrics.bootstrap_interval": {"values": (MAP, any_floats)},
    "metrics.box_iou": POSITIVE,
    "metrics.box_mask": {"sides": ((4, 5), pair)},
    "metrics.entropy": {"attribution": (IMAGE, any_floats)},
    "metrics.gini_sparsity": {"attribution": (IMAGE, any_floats)},
    "metrics.pearson_correlation": {
        "first": (MAP, undefined), "second": (MAP[::-1], undefined),
    },
    "metrics.spearman_correlation": {
        "first": (MAP, undefined), "second": (MAP[::-1], undefined),
    },
    "metrics.spectrum_slope": {"image": (IMAGE[:4, :4], floats)},
    "metrics.structural_similarity": {
        "first": (WIDE, floats), "second": (WIDE.T, floats), "data_range": (1.0, number),
    },
    "models.available": {},
    "models.card": {"classifier": (SMALL, instance)},
    "models.checksums": {
        "folder": (str(Path(models.__file__).parent / "bundled" / "radio-modulations"), path)
    },
    "models.convolution": {
        "images": (BATCH, open_floats),
        "kernel": (np.ones((3, 3, 2, 1), np.float32), open_floats), "stride": (1, count),
        "padding": (1, natural),
    },
    "models.depthwise_convolution": {
        "images": (BATCH, open_floats),
        "kernel": (np.ones((3, 3, 1, 2), np.float32), open_floats), "stride": (1, count),
        "padding": (((1, 1), (1, 1)), anything),
    },
    "models.for_inference": {"model": (NETWORK, instance)},
    "models.from_state_dict": {"model": (NETWORK, instance), "state": (WEIGHTS_BY_NAME, instance)},
    "models.load": {
        "name": ("tiny-imagenet-robust", path), "weights": (USUAL, text), "path": (USUAL, path),
    },
    "models.read_state_dict": {"path": (Made(weights_file), path)},
    "models.same_padding": {
        "size": ((4, 5), pair), "kernel_size": (3, count), "stride": (1, count),
    },
    "models.save": {"classifier": (SMALL, instance), "folder": ("nowhere", path)},
    "models.to_state_dict": {"model": (NETWORK, instance)},
    "rules.alpha_beta": WITH_WEIGHTS,
    "rules.channel_relevances": {},
    "rules.deep_lift": {"rule": (rules.rescale, function), "score": (of_dense, one_number)},
    "rules.deep_shap": {"rule": (rules.rescale, function), "score": (of_dense, one_number)},
    "rules.deconvolved": ACTIVATION,
    "rules.deep_taylor": {"low": (0.0, color), "high": (1.0, color)},
    "rules.epsilon_gamma_box": {"low": (0.0, color), "high": (1.0, color)},
    "rules.epsilon": WITH_WEIGHTS,
    "rules.excitation_backpropagation": {"operation": of_kind("weights")},
    "rules.flat": WITH_WEIGHTS,
    "rules.gamma": WITH_WEIGHTS,
    "rules.gradient": WITH_WEIGHTS,
    "rules.guided": ACTIVATION,
    "rules.pass_through": {
        "operation": of_kind("activation"), "relevance": relevance("activation"),
    },
    "rules.proportional": {"operation": of_kind("sum"), "relevance": relevance("sum")},
    "rules.redirected": ACTIVATION,
    "rules.relevance_through": {"channels": (0, channels)},
    "rules.rescale": {"change": (Made(_change), instance)},
    "rules.reveal_cancel": {"change": (Made(_change), instance)},
    "rules.softmax": {"operation": of_kind("softmax"), "relevance": relevance("softmax")},
    "rules.uniform": {"operation": of_kind("product"), "relevance": relevance("product")},
    "rules.w_squared": WITH_WEIGHTS,
    "rules.with_rectifiers": {"rule": (rules.guided, function), "score": (SCORE, function)},
    "rules.z_box": WITH_WEIGHTS | {"low": (0.0, color), "high": (1.0, color)},
    "rules.z_plus": WITH_WEIGHTS,
    "runs.claim": {
        "folder": ("claimed", path), "settings": ({}, anything), "kind": (USUAL, text),
        "file": (USUAL, text),
    },
    "runs.command": {"script": ("script.py", text), "settings": (Settings(), instance)},
    "runs.file_name": {"text": ("a text", text)},
    "runs.from_command_line": {
        "main": (print, function), "settings": (Settings, instance), "description": ("", text),
        "arguments": ([], series),
    },
    "runs.sweep": {
        "function": (lambda shared, x: x + 1, function), "axes": ({"x": np.arange(3)}, anything),
        "shared": (USUAL, free), "folder": (USUAL, path), "progress": (USUAL, function),
    },
    "runs.whole": {
        "path": ("whole", path), "new": (False, free), "final": (USUAL, function),
    },
    "runs.plots.curves": {
        "panels": ({"panel": [plots.Curve("a", *[np.arange(3.0)] * 4)]}, anything),
        "x_label": ("x", text), "log_base": (USUAL, count),
    },
    "runs.plots.explore": {
        "frames": ([[plots.image(IMAGE[..., :1])]], anything), "slider": ("", text),
        "row_titles": ((), anything), "column_titles": ((), anything), "caption": ("", text),
        "cell_width": (64, count), "start": (USUAL, text),
    },
    "runs.plots.gif": {"figures": (FIGURES, series), "milliseconds": (500, count)},
    "runs.plots.grid": {
        "rows": ([[plots.image(IMAGE[..., :1])]], anything), "row_titles": ((), anything),
        "column_titles": ((), anything), "caption": ("", text), "cell_width": (64, count),
    },
    "runs.plots.image": {"image": (IMAGE[..., :1], floats), "note": ("", text)},
    "runs.plots.intervals": {
        "panels": ({"panel": [plots.Curve("a", *[np.arange(3.0)] * 4)]}, anything),
        "names": (("a", "b", "c"), anything), "ruled_off": (0, natural),
    },
    "runs.plots.layers": {
        "image": (IMAGE[..., :1], floats), "draw": (plots.saliency_map, function),
    },
    "runs.plots.outlined": {
        "image": (IMAGE[..., :1], floats), "box": (np.array([0, 0, 2, 2]), box),
        "color": (plots.RED, series),
    },
    "runs.plots.overlay": {"image": (IMAGE[..., :1], floats), "percentile": (99.0, number)},
    "runs.plots.percent": {"share": (0.5, number)},
    "runs.plots.saliency_map": {"percentile": (99.0, number)},
    "runs.plots.signed_map": {"signed_map": (MAP, floats), "percentile": (99.0, number)},
    "scale.activations": {"layer": ("stage 1", text)},
    "scale.attribute": {
        "classifier": (CLASSIFIER, instance), "dataset": (DATA_SET, text),
        "output": ("maps", path),
        "split": (USUAL, text), "labels": (USUAL, anything), "score": (scores.logit, function),
        "size": (8, count), "class_labels": (USUAL, anything), "strict": (False, anything),
        "progress": (USUAL, function), "dtype": ("float32", dtype),
    },
    "scale.compute": {
        "function": (lambda shared, image: {"sum": image.sum()}, function),
        "points": (POINTS, anything), "output": ("columns", path), "shared": (USUAL, free),
        "progress": (USUAL, function),
    },
    "scale.open": {"output": (Made(stored), path)},
    "scale.predicted_label": {"logits": (WEIGHTS, open_floats), "label": (jnp.int32(1), free)},
    "scale.receptive_field": {"function": (attribution_methods.centred, function)},
    "scale.relevances": {"layer": ("stage 1", text), "options": ({}, free)},
    "scale.report": {
        "unit": ("image", text), "file": (USUAL, instance), "seconds": (60, number),
    },
    "scale.top_examples": {
        "excite": (scale.activations("stage 1"), function), "classifier": (CLASSIFIER, instance),
        "dataset": (DATA_SET, text), "output": ("maps", path), "split": (USUAL, text),
        "size": (8, count), "class_labels": (USUAL, anything), "strict": (False, anything),
        "progress": (USUAL, function),
    },
    "scale.true_label": {"logits": (WEIGHTS, free), "label": (jnp.int32(1), free)},
    "scores.as_score": {"name": ("score", anything), "score": (SCORE, function)},
    "scores.feature_inversion": {"target": (IMAGE, floats)},
    "segments.as_segments": {"num_segments": (4, count_or_none)},
    "segments.felzenszwalb_regions": {
        "scales": ((500,), scalars), "min_size": (150, count), "dilation": (0, number),
    },
    "segments.paint": {"values": (np.arange(4.0), open_floats)},
    "segments.show": {"mask": (MASK, shares)},
    "segments.show_segments": {
        "shares": (jnp.arange(4.0), shares), "segments": (SEGMENTS, integers),
    },
    "signals.radio.amplitude_modulation": {"index": (0.5, number)},
    "signals.radio.band_limited_noise": {"bandwidth": (0.25, number)},
    "signals.radio.band_mask": {"band": (np.array([-0.1, 0.1]), floats), "sides": ((8, 5), pair)},
    "signals.radio.decision_mask": {"timing": (0.5, tolerant), "distance": (1.0, number)},
    "signals.radio.fading_gains": {
        "powers": (np.array([1.0, 0.5]), floats), "k_factor": (USUAL, number),
    },
    "signals.radio.frequency_modulation": {"deviation": (0.1, number)},
    "signals.radio.frequency_shift_keying": {
        "symbols": (SIGNAL[:8], floats), "index": (0.5, number),
        "phase_response": (USUAL, function),
    },
    "signals.radio.from_time_frequency": {"image": (jnp.ones((8, 5, 2)), floats)},
    "signals.radio.gaussian_phase": {"time": (SIGNAL, any_parameters), "bandwidth": (0.3, number)},
    "signals.radio.linear_modulation": {"symbols": (COMPLEX[:8], signal)},
    "signals.radio.mean_power": {},
    "signals.radio.multipath": {"gains": (np.array([1.0, 0.5]), signal)},
    "signals.radio.occupied_band": {"signal": (COMPLEX, signal), "share": (USUAL, number)},
    "signals.radio.over_time_frequency": {"score": (SCORE, function)},
    "signals.radio.receive": {"modulation": ("BPSK", text)},
    "signals.radio.rectangular_phase": {"time": (SIGNAL, any_parameters)},
    "signals.radio.root_raised_cosine": {"time": (SIGNAL, any_parameters)},
    "signals.radio.rotate_phase": {"image": (IQ, floats)},
    "signals.radio.shift_frequency": {"frequency": (0.1, number), "phase": (USUAL, number)},
    "signals.radio.time_frequency": {"image": (IQ, floats)},
    "signals.sound.centre": {"samples": (SIGNAL, open_floats)},
    "signals.sound.encode_wav": {"samples": (SIGNAL, floats), "sample_rate": (8000, count)},
    "signals.sound.read": {"file": (Made(sound_file), path), "sample_rate": (8000, count)},
    "signals.sound.shift_gain_and_noise": {"signal": (IQ, floats)},
    "signals.spectrograms.complex_baseband": {"samples": (IQ[0], floats)},
    "signals.spectrograms.decibels": {"power": (MAP, any_parameters), "floor": (USUAL, number)},
    "signals.spectrograms.frequencies": {"two_sided": (USUAL, anything)},
    "signals.spectrograms.hann_window": {"size": (8, count)},
    "signals.spectrograms.inverse_stft": {"coefficients": (COEFFICIENTS, complexes)},
    "signals.spectrograms.log_mel": {"floor": (USUAL, number), "signal": (SIGNAL, floats)},
    "signals.spectrograms.mel_filters": {"low": (USUAL, number), "high": (USUAL, number)},
    "signals.spectrograms.power": {"values": (COEFFICIENTS, complexes)},
    "training.accuracy": {
        "correct_batch": (lambda *_: np.ones(2, bool), function), "batches": (BATCHES, series),
    },
    "training.batch_statistics": {"model": (NETWORK, instance)},
    "training.correct": {"labels": (LABELS, integers), "attack": (USUAL, function)},
    "training.crop_and_zoom": {},
    "training.fit": {
        "trainer": (TRAINER, instance), "network": (NETWORK, instance),
        "batches": (lambda start: [], function),
        "folder": ("training", path), "epochs": (1, count), "steps_per_epoch": (1, count),
        "holdout": (USUAL, function), "evaluate_every": (USUAL, count),
        "checkpoint_every": (USUAL, count), "progress": (USUAL, function),
    },
    "training.frozen_statistics": {"model": (NETWORK, free)},
    "training.has_collapsed": {"log": ([], series)},
    "training.initial_state": {"params": ({}, anything), "batch_stats": ({}, anything)},
    "training.keep_best": {"accuracy": (0.5, number), "state": (TRAINED, instance)},
    "training.one_cycle_sgd": {
        "num_steps": (10, count), "learning_rate": (0.1, number), "momentum": (USUAL, number),
        "weight_decay": (USUAL, number),
    },
    "training.pgd_attack": {"score": (USUAL, function)},
    "training.robust_accuracies": {
        "labels": (LABELS, integers), "epsilons": ((0.1,), series), "restarts": (1, count),
        "progress": (USUAL, function), "images": (np.asarray(BATCH), floats),
    },
    "training.robustly_correct": {
        "attacked": (attacked, function), "labels": (LABELS, integers),
        "epsilons": ((0.1,), series), "restarts": (1, count), "progress": (USUAL, function),
        "images": (np.asarray(BATCH), floats),
    },
    "training.split": {"model": (NETWORK, instance)},
    "training.train_step": {
        "trainer": (TRAINER, instance), "labels": (LABELS, integers),
        "mask": (LABELS > 0, booleans),
        "state": (TRAINED, instance), "images": (jnp.zeros((2, 8, 8, 3)), floats),
    },
    "training.unchanged": {"image": (IMAGE, free), "key": (KEY, free)},
}  # fmt: skip

# Of a function that returns a context manager what enters and uses it.
STAND_INS = {"runs.whole": write_whole}
# Of these only what they must refuse is tried: they compile, read or write for a while.
SLOW = (
    *("data.load", "data.load_objects", "data.prepare", "models.card", "models.for_inference"),
    *(
        "runs.keep_programs",
        "models.load",
        "models.save",
        "scale.attribute",
        "scale.compute",
        "scale.top_examples",
    ),
    *("runs.claim", "training.fit", "training.robust_accuracies", "training.train_step"),
)
# What is computed takes seconds.
TRACED: tuple[str, ...] = ()
# Their arrays are of one precision, which is the caller's.
OF_ONE_DTYPE = ("models.convolution", "models.depthwise_convolution")
# Their draws differ with the precision.
RANDOM: tuple[str, ...] = ()
# Of the metrics those that measure nothing.
NO_MEASURES = (
    *("metrics.layer_names", "metrics.gaussian_perturbation", "metrics.square_removal"),
    *("metrics.noisy_linear_imputation", "metrics.permuted", "metrics.box_mask"),
)


@dataclasses.dataclass(frozen=True)
class Call:
    """A function and what it is called with, by the names of its arguments, and their kinds."""

    function: Callable
    values: Mapping[str, Any]
    kinds: Mapping[str, Kind]
    is_slow: bool = False

    def __call__(self, **instead: Any) -> Any:
        named, spread = {}, ()
        for name, parameter in inspect.signature(self.function).parameters.items():
            value = instead.get(name, self.values.get(name, USUAL))
            value = value.value if isinstance(value, Made) else value
            if parameter.kind is parameter.VAR_POSITIONAL:
                spread = value
            elif parameter.kind is parameter.VAR_KEYWORD:
                named |= value
            elif value is not USUAL:
                named[name] = value
        made = self.function(*spread, **named)
        if isinstance(made, contextlib._GeneratorContextManager):
            with made:
                pass
        return made

    def good(self, argument: str) -> Any:
        value = self.values[argument]
        return value.value if isinstance(value, Made) else value

    def wrong(self, argument: str) -> tuple[MustNot, MayNot]:
        """What is wrong in place of an argument."""
        must, may = self.kinds[argument](self.good(argument))
        may = MayNot() if self.is_slow else may
        default = inspect.signature(self.function).parameters[argument].default
        if default is None:
            must = MustNot(value for value in must if value is not None)
        return must, may


def _by_name(argument: str, parameter: inspect.Parameter) -> tuple[Any, Kind] | None:
    """What an argument is that has no line of its own: what the methods' own table makes of it."""
    if argument in COMMON:
        return COMMON[argument]
    if parameter.default is not USUAL:
        return USUAL, anything
    if argument in attribution_methods.SMALL:
        return attribution_methods.SMALL[argument](SCORE, IMAGE), anything
    return None


def call(name: str) -> Call:
    """The right call of an exported function."""
    function = STAND_INS.get(name, exported()[name])
    found = {}
    for argument, parameter in inspect.signature(function).parameters.items():
        found[argument] = OTHERWISE.get(name, {}).get(argument) or _by_name(argument, parameter)
        if found[argument] is None:
            raise KeyError(f"{name} has {argument}, which no line of arguments.py knows")
    return Call(
        function,
        {argument: good for argument, (good, _) in found.items()},
        {argument: kind for argument, (_, kind) in found.items()},
        name in SLOW,
    )
