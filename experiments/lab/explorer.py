"""What the explorer computes: maps of a photograph, pictures that grow, and the Python of both.

Photographs, labels, scales and channels are arguments of compiled programs: a program belongs to a
model, a method and its settings, and others never compile again. The lines of Python that come with
a picture make the same one.
"""

import dataclasses
import functools
import json
import math
import re
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data

from saliency_jax import ascent, models, rules, scores
from saliency_jax.models import Classifier
from saliency_jax.runs import plots
from saliency_jax.scores import Score

from . import imagenet, loading, methods, recipes
from .imagenet import Recipe, Shape
from .methods import METHODS, Case

# Copies of an image that a method looks at at once.
BATCH_SIZE = 8
# Beyond them the ones that were used longest ago are let go.
MOST_PROGRAMS, MOST_MODELS = 48, 4
# Of the number of steps or samples that a method takes over whole splits.
FACTORS = (1 / 4, 1 / 2, 1, 2, 4)
# Seconds of a computation that others do not wait for.
LONG = 2.0
# Of pictures that grow: so many are made between two looks, two thirds of all at half the size.
STEPS_AT_ONCE = 4
STEPS = (48, 96, 192, 384)
TOP = 5
# For images below `imagenet.LEAST_SIDE`: the default recipe of classes' pictures.
PIXELS = Recipe(
    "normalized steps on the pixels, each seeing the image shifted",
    lambda shape: ascent.chain_canvases(),
    lambda key, shape: ascent.normal_noise(key, shape, 0.5, recipes.INITIAL_NOISE),
    recipes.DEFAULT_OPTIMIZER,
    (1,),
    recipes.DEFAULT_AUGMENT,
)


@dataclasses.dataclass
class Photograph:
    """A photograph, how Python reads it, and what each model takes of it, once it was asked for."""

    source: bytes | np.ndarray
    written: str
    _fitted: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def seen_by(self, classifier: Classifier) -> np.ndarray:
        """(h, w, c), as the classifier takes it."""
        if classifier.name not in self._fitted:
            self._fitted[classifier.name] = classifier.preprocess(self.source)
        return self._fitted[classifier.name]

    @property
    def num_bytes(self) -> int:
        arrays = [np.frombuffer(self.source, np.uint8), *self._fitted.values()]
        return sum(array.nbytes for array in arrays)


def examples() -> dict[str, Photograph]:
    """The photographs that scikit-image carries, by name."""
    return {
        "cat": Photograph(skimage.data.chelsea(), "skimage.data.chelsea()"),
        "coffee": Photograph(skimage.data.coffee(), "skimage.data.coffee()"),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """A classifier that is loaded, by what name, and of each layer with a map its channels."""

    path: str
    classifier: Classifier
    channels: Mapping[str, int]

    @property
    def network(self) -> Any:
        return self.classifier.network

    @property
    def shape(self) -> Shape:
        """Of the images that it was trained on."""
        return (*self.classifier.input.size, self.classifier.input.channels)

    @property
    def recipe(self) -> Recipe:
        """Of its pictures."""
        large = min(self.classifier.input.size) >= imagenet.LEAST_SIDE
        return imagenet.RECIPES[imagenet.SHOWN] if large else PIXELS

    def label(self, text: str) -> int:
        """The label of a class by name, also by another model's name for it, or by number."""
        (known,) = imagenet.labels([text], self.classifier)
        return self.classifier.label(text) if known is None else known

    def likeliest(self, probabilities: np.ndarray) -> list[tuple[str, float]]:
        """The first classes by name, with their probabilities."""
        labels = np.argsort(-probabilities)[:TOP]
        return [(self.classifier.class_names[one], float(probabilities[one])) for one in labels]

    def written_label(self, label: int) -> str:
        name = self.classifier.class_names[label]
        alone = self.classifier.class_names.count(name) == 1
        return f"classifier.label({name!r})" if alone else str(label)

    def check_layer(self, layer: str) -> None:
        if layer not in self.channels:
            raise ValueError(
                f"expected a layer of {self.classifier.name} with a map, "
                f"{', '.join(self.channels)}, got {layer!r}"
            )


class Asked(NamedTuple):
    """How a map is made: what a program is compiled for.

    Attributes:
      method: a key of `METHODS`.
      layer: for methods that need one; the model's deepest if "".
      steps: or samples, where the method takes any; as usual if 0.
    """

    method: str
    layer: str = ""
    steps: int = 0


class Aim(NamedTuple):
    """What a picture is made for: a class, by its number, or a channel of the layer, if not ""."""

    number: int
    layer: str = ""


class Explained(NamedTuple):
    """A map, and what the model says of what it saw."""

    cell: plots.Layers
    label: int
    probabilities: np.ndarray
    code: str


class Grown(NamedTuple):
    """A picture after some steps, its score and what the model takes it for."""

    image: np.ndarray
    score: float
    probabilities: np.ndarray


# By the name of a model's files and its layer, of some channels what excites them most.
Exciting = Mapping[tuple[str, str], Mapping[int, Sequence[plots.Picture]]]


def exciting(folders: Sequence[Path]) -> Exciting:
    """The crops of photographs that runs of `unit_examples.py` found for channels.

    Raises:
      ValueError: a folder holds none.
    """
    found: dict[tuple[str, str], dict[int, list[plots.Picture]]] = {}
    for folder in folders:
        files = sorted(folder.glob("units-*.npz"))
        if not files:
            raise ValueError(f"expected --units with a run of unit_examples.py, got {folder}")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for path in files:
            key = path.stem.removeprefix("units-"), config["settings"]["layer"]
            with np.load(path) as stored:
                # An earlier version's has none.
                if "crops" not in stored:
                    continue
                peaks = stored["peaks"][stored["channels"]]
                columns = (stored[name] for name in ("crops", "crop_sides", "crop_classes"))
                for channel, *examples in zip(stored["channels"], *columns, peaks, strict=True):
                    found.setdefault(key, {})[int(channel)] = [
                        plots.image(crop[:height, :width] / np.float32(255), name, f"{peak:.2f}")
                        for crop, (height, width), name, peak in zip(*examples, strict=True)
                    ]
    return found


class Program:
    """A function that is compiled when it is first called."""

    def __init__(self, function: Callable):
        self._function = jax.jit(function)
        self._seconds = math.inf

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        result = jax.block_until_ready(self._function(*arguments, **options))
        # Of the first call most is compilation.
        self._seconds = 0.0 if self._seconds == math.inf else time.perf_counter() - begun
        return result

    @property
    def is_quick(self) -> bool:
        """Whether it is compiled, and did not take long when it was last called."""
        return self._seconds < LONG


class Explorer:
    """Models on offer, and what they show. It may be used from several threads.

    Args:
      names: of models that are loaded at once, and kept.

    Raises:
      ValueError: as `loading.load` does.
    """

    def __init__(self, names: Sequence[str]):
        self._lock = threading.Lock()
        self._known = {
            classifier.name: _known(path, classifier)
            for path, classifier in zip(names, loading.load(names), strict=True)
        }
        self.first = tuple(self._known)
        others = [name for name in models.available() if _is_within_reach(name)]
        self.offered = tuple(dict.fromkeys([*self.first, *others]))
        self._explaining = functools.lru_cache(MOST_PROGRAMS)(self._explaining_by)
        self._growing = functools.lru_cache(MOST_PROGRAMS)(self._growing_by)

    def known(self, name: str) -> Known:
        """A model on offer, which is loaded if it is not.

        Raises:
          ValueError: it is not on offer, or cannot be loaded.
        """
        if name not in self.offered:
            raise ValueError(f"expected a model of {', '.join(self.offered)}, got {name!r}")
        found = self._known.get(name) or _known(name, *loading.load([name]))
        with self._lock:
            self._known.pop(name, None)
            self._known[name] = found
            for other in [other for other in self._known if other not in self.first][:-MOST_MODELS]:
                del self._known[other]
        return found

    def is_loaded(self, name: str) -> bool:
        return name in self._known

    def is_quick(self, name: str, asked: Asked) -> bool:
        """Whether a map is there soon: nothing has to be loaded or compiled for it."""
        known = self._known.get(name)
        return known is not None and self._explaining(name, _checked(known, asked)).is_quick

    def explain(
        self, name: str, photograph: Photograph, asked: Asked, label: str = "", scale: float = 1.0
    ) -> Explained:
        """The map of a photograph, multiplied by a scale, for a class, or for the likeliest of "".

        Raises:
          ValueError: the model does not have what is asked for, or the map is not finite.
        """
        known = self.known(name)
        asked = _checked(known, asked)
        if not 0 < scale <= 1:
            raise ValueError(f"expected a scale above 0 and at most 1, got {scale:g}")
        image = photograph.seen_by(known.classifier)
        number = known.label(label) if label else -1
        found = None
        if "regions" in METHODS[asked.method].needs:
            (found,) = methods.regions(np.float32(scale) * image[None])
        seen, explained, probabilities, saliency_map = map(
            np.asarray,
            self._explaining(name, asked)(
                known.network, image, np.int32(number), np.float32(scale), found
            ),
        )
        cell = plots.layers(seen, saliency_map, draw=METHODS[asked.method].draw)
        code = lines_of_map(known, photograph, asked, int(explained), scale)
        return Explained(cell, int(explained), probabilities, code)

    def excited(self, name: str, photograph: Photograph, layer: str) -> list[int]:
        """The channels of a layer that a photograph excites most, by their means over the map."""
        known = self.known(name)
        known.check_layer(layer)
        feature_map = _feature_map(known.network.layer(layer), photograph.seen_by(known.classifier))
        return np.argsort(-np.asarray(feature_map).mean((0, 1)))[:TOP].tolist()

    def grow(self, name: str, aim: Aim, steps: int, seed: int) -> "Growth":
        """A picture of a class or a channel, before its first step.

        Raises:
          ValueError: the model does not have what is asked for.
        """
        known = self.known(name)
        if aim.layer:
            known.check_layer(aim.layer)
        count = known.channels[aim.layer] if aim.layer else known.classifier.num_classes
        what = f"channel of {aim.layer}" if aim.layer else "label"
        if not 0 <= aim.number < count:
            raise ValueError(f"expected a {what} in 0 .. {count - 1}, got {aim.number}")
        if steps not in STEPS:
            raise ValueError(f"expected steps of {', '.join(map(str, STEPS))}, got {steps}")
        if not 0 <= seed < 2**32:
            raise ValueError(f"expected a seed in 0 .. 2**32 - 1, got {seed}")
        return Growth(known, aim, steps, seed, functools.partial(self._growing, name, aim.layer))

    def _explaining_by(self, name: str, asked: Asked) -> Program:
        return Program(functools.partial(_explain, asked=asked))

    def _growing_by(self, name: str, layer: str, shape: Shape) -> Program:
        recipe = self._known[name].recipe
        return Program(
            functools.partial(
                ascent.ascend,
                optimizer=recipe.optimizer,
                steps=STEPS_AT_ONCE,
                augment=recipe.augment,
                prior=recipe.prior,
            )
        )


class Growth:
    """A picture that grows by a few steps at a time, a large one first at half its size.

    Attributes:
      step: how many steps were made.
      steps: how many will be.
      code: the lines of Python that make the whole picture.
    """

    def __init__(
        self,
        known: Known,
        aim: Aim,
        steps: int,
        seed: int,
        program_for: Callable[[Shape], Program],
    ):
        self._known, self._recipe = known, known.recipe
        plan = sizes(known, steps)
        self._ahead = deque(
            (shape, program_for(shape))
            for shape, count in plan
            for _ in range(count // STEPS_AT_ONCE)
        )
        self._score = score(known.network, aim)
        image_key, self._key = recipes.keys(seed, aim.number)
        start = self._recipe.start(image_key, plan[0][0])
        self._canvas = self._recipe.make_canvas(plan[0][0])
        self._image = self._canvas.decode(start)
        self._state: ascent.AscentState | None = None
        self.step, self.steps = 0, steps
        self.code = lines_of_growth(known, aim, plan, seed)

    @property
    def is_done(self) -> bool:
        return not self._ahead

    @property
    def is_quick(self) -> bool:
        """Whether the next steps are made soon: nothing has to be compiled for them."""
        return self._ahead[0][1].is_quick

    def advance(self) -> Grown:
        """Makes the next steps.

        Raises:
          ValueError: one was not finite.
        """
        shape, program = self._ahead.popleft()
        if self._state is None or shape != self._image.shape:
            self._canvas = self._recipe.make_canvas(shape)
            params = self._canvas.encode(jax.image.resize(self._image, shape, "linear"))
            self._state = ascent.initial_state(params, self._recipe.optimizer, self._key)
        made = program(self._score, self._state, decode=self._canvas.decode)
        self._state, self._key, self._image = made.state, made.state.key, made.image
        ascent.check_finite_steps(self._state.failed_at)
        self.step += STEPS_AT_ONCE
        (probabilities,) = imagenet.probabilities(self._known.network, self._image[None])
        image = np.asarray(self._image)
        return Grown(image, float(made.values[-1]), np.asarray(probabilities))


def setting(method: str) -> tuple[str, tuple[int, ...]]:
    """What a method's number of steps or samples is called, and which may be asked for.

    The second one is the usual one, for an answer that is soon there. "" and none where a method
    takes none.
    """
    for name in ("steps", "num_samples"):
        long = METHODS[method].uses.long.get(name)
        if long is not None:
            return name, tuple(dict.fromkeys(max(2, int(long * factor)) for factor in FACTORS))
    return "", ()


def score(network: Any, aim: Aim) -> Score:
    """What a picture of the aim raises."""
    if not aim.layer:
        return scores.logit(network, aim.number)
    channel = scores.channel(network.layer(aim.layer), aim.number)
    # Where the channel is silent at the start it has a slope by this rule alone.
    return rules.with_rectifiers(channel, rules.redirected)


def sizes(known: Known, steps: int) -> list[tuple[Shape, int]]:
    """The shapes of a picture on its way, each with the number of steps made there."""
    height, width, channels = known.shape
    if len(known.recipe.steps) == 1:
        return [(known.shape, steps)]
    small = round(height / imagenet.SCALE), round(width / imagenet.SCALE), channels
    return [(small, 2 * steps // 3), (known.shape, steps // 3)]


def lines_of_map(
    known: Known, photograph: Photograph, asked: Asked, label: int, scale: float
) -> str:
    """The lines of Python that make a map."""
    row = METHODS[asked.method]
    case = Case(jnp.asarray(photograph.seen_by(known.classifier)), known.network, BATCH_SIZE)
    settings = {name: repr(value) for name, value in _settings(asked).items()}
    if asked.layer:
        settings["layer"] = f"score.model.layer({asked.layer!r})"
    call = row.written(case, settings)
    if len(call) > 80:
        start, _, rest = call.partition("(")
        inside = textwrap.fill(rest[:-1], 92, break_long_words=False, break_on_hyphens=False)
        call = f"{start}(\n{textwrap.indent(inside, ' ' * 8)}\n    )"
    factor = "" if scale == 1 else f"{scale!r} * "
    kind = row.make_score.__name__ if row.make_score else "logit"
    found = "regions = segments.felzenszwalb_regions(jnp.asarray(image))\n"
    return _with_imports(
        f"""{_loaded(known)}
image = {factor}classifier.preprocess({photograph.written})
score = scores.{kind}(classifier.network, {known.written_label(label)})
{found if "regions" in row.needs else ""}

@jax.jit
def explain(score, image):
    attributed = {call}
    return {methods.REDUCED.get(row.reduce, f"attribution.{row.reduce.__name__}(attributed)")}


picture = plots.{"signed_map" if row.signed else "saliency_map"}(explain(score, image))
Image.fromarray(np.uint8(np.rint(255 * picture.pixels))).save("picture.png")
"""
    )


def lines_of_growth(known: Known, aim: Aim, plan: Sequence[tuple[Shape, int]], seed: int) -> str:
    """The lines of Python that make a whole picture."""
    if not aim.layer:
        what = f"scores.logit(classifier.network, {known.written_label(aim.number)})"
    else:
        channel = f"scores.channel(classifier.network.layer({aim.layer!r}), {aim.number})"
        what = f"rules.with_rectifiers(\n    {channel}, rules.redirected\n)"
    parts = [(shape, count // STEPS_AT_ONCE) for shape, count in plan]
    numbers = {"first": plan[0][0], "parts": parts, "segments": parts[0][1], "seed": seed}
    colored = known.shape[-1] == 3
    made = (_LARGE if len(plan) > 1 else _SMALL).format(
        **numbers, number=aim.number, steps=STEPS_AT_ONCE, colors=_COLORS if colored else ""
    )
    return _with_imports(
        f"""{_loaded(known)}
score = {what}
{made}
pixels = np.rint(255 * np.asarray(made.image)).astype(np.uint8)
Image.fromarray({"pixels" if colored else "pixels[..., 0]"}).save("picture.png")
"""
    )


# What `PIXELS` and `imagenet.RECIPES[imagenet.SHOWN]` are.
_KEYS = "image_key, key = jax.random.split(jax.random.fold_in(jax.random.key({seed}), {number}))"
_COLORS = """
        ascent.color_canvas(ascent.TINY_IMAGENET_COLORS.covariance),"""
_SMALL = f"""optimizer = optax.chain(
    ascent.normalize_by_l2(), optax.sgd({recipes.LEARNING_RATE}), ascent.keep_in_range(0.0, 1.0)
)
grow = jax.jit(
    functools.partial(
        ascent.ascend, optimizer=optimizer, steps={{steps}}, augment=ascent.jitter({recipes.JITTER})
    )
)
{_KEYS}
start = ascent.normal_noise(image_key, {{first}}, 0.5, {recipes.INITIAL_NOISE})
state = ascent.initial_state(start, optimizer, key)
for _ in range({{segments}}):
    made = grow(score, state)
    state = made.state"""
_LARGE = f"""optimizer = optax.chain(ascent.normalize_by_l2(), optax.sgd(1.58))
augment = ascent.compose(
    ascent.pad(12, 0.5), ascent.jitter(8), ascent.scale(0.6, 1.3), ascent.rotate(15.0),
    ascent.jitter(4),
)
grow = jax.jit(
    functools.partial(ascent.ascend, optimizer=optimizer, steps={{steps}}, augment=augment)
)


def make_canvas(shape):
    return ascent.chain_canvases(
        ascent.fourier_canvas(shape, {imagenet.DECAY}),{{colors}}
        ascent.sigmoid_canvas(),
    )


{_KEYS}
image = make_canvas({{first}}).decode(ascent.fourier_noise(image_key, {{first}}))
for shape, segments in {{parts}}:
    canvas = make_canvas(shape)
    params = canvas.encode(jax.image.resize(image, shape, "linear"))
    state = ascent.initial_state(params, optimizer, key)
    for _ in range(segments):
        made = grow(score, state, decode=canvas.decode)
        state, key, image = made.state, made.state.key, made.image"""


def _loaded(known: Known) -> str:
    return f"classifier = models.for_inference(models.load({known.path!r}))"


def _with_imports(lines: str) -> str:
    """Lines with the imports of what they name."""

    def named(names: str) -> list[str]:
        return [name for name in names.split() if re.search(rf"(?<![\w.]){name}\.", lines)]

    rooms = named("ascent attribution baselines models rules scores segments")
    short = {"jnp": "jax.numpy as jnp", "np": "numpy as np", "skimage": "skimage.data"}
    outer = [f"import {short.get(name, name)}" for name in named("jax jnp np optax skimage")]
    parts = [
        "\n".join(f"import {name}" for name in named("functools")),
        "\n".join([*outer, "from PIL import Image"]),
        f"from saliency_jax import {', '.join(rooms)}"
        + ("\nfrom saliency_jax.runs import plots" if named("plots") else ""),
        lines,
    ]
    return "\n\n".join(filter(None, parts))


def _is_within_reach(name: str) -> bool:
    """Whether a model of images comes with the package, or can be downloaded."""
    weights = next(iter(models.available()[name].weights.values()))
    return weights.input.kind == "image" and (name in models.bundled() or bool(weights.file))


def _known(path: str, classifier: Classifier) -> Known:
    image = jax.ShapeDtypeStruct(
        (*classifier.input.size, classifier.input.channels), np.dtype(np.float32)
    )
    found = [*methods.maps(classifier.network, image)]
    # What only normalizes the image shows no more than it.
    channels = {name: shape[-1] for name, shape in reversed(found) if shape != image.shape}
    return Known(path, classifier, channels)


def _checked(known: Known, asked: Asked) -> Asked:
    """What is asked for, with the layer that a method needs by name and no setting too many."""
    if asked.method not in METHODS:
        raise ValueError(f"expected a method of {', '.join(METHODS)}, got {asked.method!r}")
    methods.check([asked.method], [known.classifier])
    needed = METHODS[asked.method].needs
    layer = (asked.layer or list(known.channels)[-1]) if "layer" in needed else ""
    if layer:
        known.check_layer(layer)
    name, choices = setting(asked.method)
    if not name:
        return Asked(asked.method, layer)
    steps = asked.steps or choices[1]
    if steps not in choices:
        raise ValueError(f"expected {name} of {', '.join(map(str, choices))}, got {steps}")
    return Asked(asked.method, layer, steps)


def _settings(asked: Asked) -> dict[str, int]:
    name, _ = setting(asked.method)
    return {name: asked.steps} if name else {}


def _explain(network, image, label, scale, regions, *, asked):
    row, seen = METHODS[asked.method], scale * jnp.asarray(image)
    logits = network(seen)
    label = jnp.where(label < 0, jnp.argmax(logits).astype(label.dtype), label)
    settings: dict[str, Any] = dict(_settings(asked))
    if asked.layer:
        settings["layer"] = network.layer(asked.layer)
    attributed = row(row.score(network, label), Case(seen, network, BATCH_SIZE, regions), settings)
    return seen, label, jax.nn.softmax(logits), row.reduce(attributed)


@jax.jit
def _feature_map(layer, image):
    return layer.map(image)
