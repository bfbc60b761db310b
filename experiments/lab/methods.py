"""The one table of attribution methods: function, title, sign, reduction, needs and settings.

Scripts, benchmarks and the tests of invariants read it. A new method is a row here, beside its
file, its test and its line among the exports of `saliency_jax.attribution`.

A control is called like a method and does not look at the model. What is no better than it, an
image filter or a die could do.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from saliency_jax import attribution, baselines, filters, rules, scores
from saliency_jax.layers import Layer, identity
from saliency_jax.models import Classifier
from saliency_jax.runs import plots
from saliency_jax.scores import Score
from saliency_jax.segments import felzenszwalb_regions, grid_segments

# The sides of a grid of cells that are hidden, and of windows that slide by half of theirs.
CELLS = 8
NOISE_IMAGES = 16
# Cells a side of a map that says where.
FINE = 7
# The papers' settings are for images of this side.
PAPER_SIDE = 224
MAX_SIGMA = 50.0
# Crops of 224 out of 256, as in the paper.
CROP = 7 / 8
# Regions are filled up to a multiple of this, so that photographs share compiled programs.
REGIONS = 64

UNSIGNED_COLORS = (
    "Black is 0; the brightest colour is the value that 99 % of the map's pixels do not exceed."
)
SIGNED_COLORS = (
    "Red raises the score, blue lowers it, white is 0; the last colours are the value that 99 % of "
    "the map's pixels do not exceed, with either sign."
)
# Of a figure with maps of both kinds, and the value below each.
COLORS = (
    "From black at 0 to bright the maps are never negative; in those with white at 0 red raises "
    "the score and blue lowers it."
)
LAST_COLOR = "Below: the value of the last colour, which 99 % of a map's pixels do not exceed."


@dataclasses.dataclass(frozen=True)
class Case:
    """What a method's arguments are made of: an image in [0, 1], and the model, cut at `layers`.

    `regions` (n, h, w) are for methods that rank them.
    """

    image: jax.Array
    model: Any
    batch_size: int
    regions: Any = None

    @property
    def cells(self) -> tuple[int, int]:
        """The grid of cells that are hidden, at most one for each pixel."""
        height, width, _ = self.image.shape
        return min(CELLS, height), min(CELLS, width)


def _crop(case: Case) -> tuple[int, ...]:
    return tuple(round(CROP * side) for side in case.image.shape[:2])


def _window(case: Case) -> tuple[int, ...]:
    return tuple(-(-side // CELLS) for side in case.image.shape[:2])


def _stride(case: Case) -> tuple[int, ...]:
    return tuple(-(-side // 2) for side in _window(case))


def _noise_images(case: Case) -> jax.Array:
    # Of a signal, which is an image of one row, the samples have either sign.
    lowest = -1.0 if len(case.image) == 1 else 0.0
    shape = (NOISE_IMAGES, *case.image.shape)
    return jax.random.uniform(jax.random.key(1), shape, case.image.dtype, lowest)


def deepest_map(network: Any, image: jax.Array) -> Layer:
    """The deepest of a network's layers that makes a map (i, j, d) of the image."""
    return network.layer(next(maps(network, image))[0])


def finer_map(network: Any, image: jax.Array) -> Layer:
    """The deepest layer with a map of at least 7x7 cells, as the last of ImageNet's networks have.

    Of a smaller image no map may have as many; then it is the deepest one.
    """
    return network.layer(finer_map_name(network, image))


def finer_map_name(network: Any, image: Any) -> str:
    """The name of that layer, for an image or its shape."""
    found = [*maps(network, image)]
    fine = (name for name, (*sides, _) in found if min(sides) >= FINE)
    return next(fine, found[0][0])


def maps(network: Any, image: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The layers that make a map of the image, from the logits to the image, with its shape."""
    found = False
    for name in reversed(network.layers):
        layer = network.layer(name)
        try:
            shape = jax.eval_shape(layer.map, image).shape
        except ValueError:
            continue
        found = True
        yield name, shape
    if not found:
        raise ValueError(f"expected a network with a layer that is a map, got {network.layers}")


# By name, how an argument is made that a method may need.
ARGUMENTS: Mapping[str, Callable[[Case], Any]] = {
    "key": lambda case: jax.random.key(0),
    "batch_size": lambda case: case.batch_size,
    # What is hidden takes the image's mean colour, and paths begin there.
    "baseline": lambda case: baselines.mean_color,
    "baselines": _noise_images,
    "segments": lambda case: grid_segments(case.image, case.cells),
    "regions": lambda case: case.regions,
    "layer": lambda case: deepest_map(case.model, case.image),
    "attention": lambda case: case.model.attention,
    "size": _crop,
    "window": _window,
    "stride": _stride,
    "composite": lambda case: rules.epsilon_gamma_box(0.0, 1.0),
    "max_sigma": lambda case: MAX_SIGMA * max(case.image.shape[:2]) / PAPER_SIDE,
}

# How they are written in Python, beside a `score` and an `image`; the others are numbers.
WRITTEN: Mapping[str, Callable[[Case], str]] = {
    "key": lambda case: "jax.random.key(0)",
    "baseline": lambda case: "baselines.mean_color",
    "baselines": lambda case: (
        f"jax.random.uniform(jax.random.key(1), ({NOISE_IMAGES}, *image.shape))"
    ),
    "segments": lambda case: f"segments.grid_segments(image, {case.cells})",
    "regions": lambda case: "regions",
    "attention": lambda case: "score.model.attention",
    "composite": lambda case: "rules.epsilon_gamma_box(0.0, 1.0)",
}


# Of these, what a network makes itself under the same name, and what one is that does.
OF_THE_NETWORK = {
    "layer": "can be cut at a layer",
    "attention": "lays its attention open",
}


def _above_lowest(saliency_map: jax.Array) -> jax.Array:
    """Of it what is above its smallest value."""
    return saliency_map - saliency_map.min()


# How reductions are written that are not the library's.
REDUCED: Mapping[Callable, str] = {
    identity: "attributed",
    _above_lowest: "attributed - attributed.min()",
}


class Uses(NamedTuple):
    """A method's settings for a few photographs, for a whole split, and for timings and tests."""

    figure: Mapping[str, int] = {}
    long: Mapping[str, int] = {}
    benchmark: Mapping[str, int] = {}


_THE_LIBRARYS = Uses()


@dataclasses.dataclass(frozen=True)
class Method:
    """An attribution method as the scripts call it.

    Attributes:
      function: the library's.
      title: as figures write it.
      needs: the names of arguments that suit the image, of `ARGUMENTS`.
      uses: its settings where they are not the library's.
      reduce: from its attribution (h, w, c), or (h, w), to a map (h, w).
      signed: whether the map says what lowers the score too.
      make_score: of the score that the method needs, from network and label; any if None.
    """

    function: Callable
    title: str
    needs: tuple[str, ...] = ()
    uses: Uses = _THE_LIBRARYS
    reduce: Callable[[jax.Array], jax.Array] = identity
    signed: bool = False
    make_score: Callable | None = None

    def lacks(self, network: Any) -> tuple[str, ...]:
        """What the method needs of a network and this one does not have."""
        return tuple(
            name for name in OF_THE_NETWORK if name in self.needs and not hasattr(network, name)
        )

    @property
    def colors(self) -> str:
        """What the map's colours mean."""
        return SIGNED_COLORS if self.signed else UNSIGNED_COLORS

    @property
    def meaning(self) -> str:
        """What the map is, by the first lines of the docstrings, which may repeat the title."""
        what = _summary(self.function)
        name, colon, rest = what.partition(": ")
        if colon and "." not in name and not name.startswith("The "):
            what = rest
        how = "" if self.reduce is identity else f" {_summary(self.reduce)}"
        return f"{self.title[0].upper()}{self.title[1:]}: {what[0].lower()}{what[1:]}{how}"

    def score(self, network: Any, label: Any, make_score: Callable = scores.logit) -> Score:
        """The score that it explains: the one asked for, unless the method needs another."""
        return (self.make_score or make_score)(network, label)

    def __call__(self, score: Score, case: Case, settings: Mapping[str, Any]) -> jax.Array:
        """The attribution, by settings that may also take the place of what suits the image."""
        suited = {name: ARGUMENTS[name](case) for name in self.needs if name not in settings}
        return self.function(score, case.image, **suited, **settings)

    def written(self, case: Case, settings: Mapping[str, str]) -> str:
        """The same in Python, with what is to be written for its settings."""
        suited = {
            name: WRITTEN[name](case) if name in WRITTEN else repr(ARGUMENTS[name](case))
            for name in self.needs
            if name not in settings
        }
        given = ", ".join(f"{name}={text}" for name, text in {**suited, **settings}.items())
        name = self.function.__name__
        room = "rules" if getattr(rules, name, None) is self.function else "attribution"
        return f"{room}.{name}(score, image{', ' if given else ''}{given})"

    def draw(self, saliency_map: np.ndarray, title: str = "") -> plots.Picture:
        """A cell that shows a map in the colours that suit it."""
        show = plots.signed_map if self.signed else plots.saliency_map
        return show(saliency_map, title)


def _summary(function: Callable) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


_SAMPLED = ("key", "batch_size")
_PATH = ("baseline", "batch_size")
_HIDDEN = ("segments", *_PATH)
_MASKED = (*_HIDDEN, "key")

# Copies of the image, with parts hidden, that a method looks at.
_COPIES = Uses({"num_samples": 1000}, {"num_samples": 256}, {"num_samples": 8})
# Of these methods each sample takes a copy for every cell.
_FEW_COPIES = Uses({"num_samples": 1000 // CELLS**2}, {"num_samples": 4}, {"num_samples": 2})
_NOISY = Uses(long={"num_samples": 16}, benchmark={"num_samples": 8})
_DRAWN = Uses(long={"num_samples": 32}, benchmark={"num_samples": 8})
_STEPS = Uses(long={"steps": 32}, benchmark={"steps": 8})

_signed = functools.partial(Method, signed=True)
# The channels' shares add up to the pixel's, with its sign; or their strengths do.
_summed = functools.partial(_signed, reduce=attribution.sum_channels)
_strength = functools.partial(Method, needs=_SAMPLED, uses=_NOISY, reduce=attribution.sum_abs)

METHODS: Mapping[str, Method] = {
    "saliency": Method(attribution.input_gradient, "saliency", reduce=attribution.max_abs),
    "gradient": _summed(attribution.input_gradient, "gradient"),
    "input_x_gradient": _summed(attribution.input_x_gradient, "input x gradient"),
    "ten_crop": Method(attribution.ten_crop, "ten crop", ("size", "batch_size")),
    "smoothgrad": _strength(attribution.smoothgrad, "SmoothGrad", reduce=attribution.max_abs),
    "smoothgrad_squared": _strength(attribution.smoothgrad_squared, "squared SmoothGrad"),
    "vargrad": _strength(attribution.vargrad, "VarGrad"),
    "integrated_gradients": _summed(
        attribution.integrated_gradients, "integrated gradients", _PATH, _STEPS
    ),
    "expected_gradients": _summed(
        attribution.expected_gradients, "expected gradients", ("baselines", *_SAMPLED), _DRAWN
    ),
    "blur_integrated_gradients": _summed(
        attribution.blur_integrated_gradients,
        "blur integrated gradients",
        ("max_sigma", "batch_size"),
        _STEPS,
    ),
    "guided_integrated_gradients": _summed(
        attribution.guided_integrated_gradients,
        "guided integrated gradients",
        ("baseline",),
        _STEPS,
    ),
    "guided_backprop": Method(
        rules.guided_backprop, "guided backpropagation", reduce=attribution.max_abs
    ),
    "deconvnet": Method(rules.deconvnet, "DeconvNet", reduce=attribution.max_abs),
    "guided_grad_cam": Method(
        rules.guided_grad_cam, "guided Grad-CAM", ("layer",), reduce=attribution.max_abs
    ),
    "lrp": _summed(rules.lrp, "LRP"),
    "lrp_epsilon_gamma_box": _summed(rules.lrp, "LRP, gamma", ("composite",)),
    "deep_lift": _summed(rules.deep_lift, "DeepLIFT", ("baseline",)),
    "deep_shap": _summed(rules.deep_shap, "DeepSHAP", ("baselines", "batch_size")),
    "xrai": _signed(attribution.xrai, "XRAI", ("regions", "batch_size")),
    "grad_cam": Method(attribution.grad_cam, "Grad-CAM", ("layer",)),
    "grad_cam_plus_plus": Method(attribution.grad_cam_plus_plus, "Grad-CAM++", ("layer",)),
    "layer_cam": Method(attribution.layer_cam, "LayerCAM", ("layer",)),
    "score_cam": Method(attribution.score_cam, "Score-CAM", ("layer", *_PATH)),
    "attention_rollout": Method(attribution.attention_rollout, "attention rollout", ("attention",)),
    "attention_relevance": Method(
        attribution.attention_relevance, "gradient-weighted attention", ("attention",)
    ),
    "occlusion": _signed(attribution.occlusion, "occlusion", ("window", "stride", *_PATH)),
    "feature_ablation": _signed(attribution.feature_ablation, "feature ablation", _HIDDEN),
    # Its map has a meaning for a score that is not negative.
    "rise": Method(
        attribution.rise,
        "RISE",
        ("baseline", *_SAMPLED),
        _COPIES,
        _above_lowest,
        make_score=scores.probability,
    ),
    "lime": _signed(attribution.lime, "LIME", _MASKED, _COPIES),
    "kernel_shap": _signed(attribution.kernel_shap, "Kernel SHAP", _MASKED, _COPIES),
    "sampled_shapley_values": _signed(
        attribution.sampled_shapley_values, "Shapley values", _MASKED, _FEW_COPIES
    ),
    "total_sobol_indices": Method(
        attribution.total_sobol_indices, "Sobol indices", _MASKED, _FEW_COPIES
    ),
    "hsic": Method(attribution.hsic, "HSIC", _MASKED, _COPIES),
}
Name = tyro.extras.literal_type_from_choices(METHODS)
# What is judged where nothing else is asked for.
COMMON = (
    "saliency",
    "gradient",
    "input_x_gradient",
    "smoothgrad",
    "integrated_gradients",
    "grad_cam",
    "layer_cam",
)


def random_map(score: Any, image: jax.Array, *, key: jax.Array) -> jax.Array:
    """(h, w) random numbers in [0, 1), others for every other image."""
    image_number = jax.lax.bitcast_convert_type(jnp.sum(image), jnp.uint32)
    return jax.random.uniform(jax.random.fold_in(key, image_number), image.shape[:2])


def edge_map(score: Any, image: jax.Array) -> jax.Array:
    """(h, w), the strength of the image's edges."""
    return filters.sobel(image)


CONTROLS: Mapping[str, Method] = {
    "random": Method(random_map, "random", ("key",)),
    "edges": Method(edge_map, "edges"),
}


def row(name: str) -> Method:
    """A method, or a control."""
    return METHODS[name] if name in METHODS else CONTROLS[name]


def title(name: str) -> str:
    """A method's or a control's name as figures write it, and any other name as it is."""
    return row(name).title if name in METHODS or name in CONTROLS else name


def explain(name: str, score: Score, image: jax.Array) -> jax.Array:
    """A method's or a control's map (h, w) by its long settings, one copy of the image at a time.

    The score is of one network: `row(name).score(network, label)`.
    """
    method = row(name)
    case = Case(image, score.model, batch_size=1)
    return method.reduce(method(score, case, method.uses.long))


def suiting(classifiers: Iterable[Classifier]) -> tuple[str, ...]:
    """The names of all methods that can explain each of the classifiers."""
    networks = [classifier.network for classifier in classifiers]
    return tuple(name for name, row in METHODS.items() if not any(map(row.lacks, networks)))


def check(names: Iterable[str], classifiers: Iterable[Classifier], *, many: bool = False) -> None:
    """Says which method cannot explain a classifier, or not over many images.

    Raises:
      ValueError: no method is named, one is named twice, one cannot be used.
    """
    names = list(names)
    if not names:
        raise ValueError("expected at least one --method, got none")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"expected different methods, got {name} twice")
        if many and "regions" in METHODS[name].needs:
            raise ValueError(
                f"expected methods that need no regions, which take long to find, got {name}"
            )
        for classifier in classifiers:
            for lacking in METHODS[name].lacks(classifier.network):
                raise ValueError(
                    f"expected a model that {OF_THE_NETWORK[lacking]} for {name}, got "
                    f"{classifier.name}"
                )
            if classifier.input.kind != "image":
                check_signals(name, classifier)


def check_signals(name: str, classifier: Classifier) -> None:
    """Says which method cannot explain signals, images of one row whose values have no bounds."""
    if "composite" in METHODS[name].needs:
        raise ValueError(f"expected a method that knows no bounds for signals, got {name}: see lrp")
    signal = jax.ShapeDtypeStruct((*classifier.input.size, classifier.input.channels), np.float32)
    if "layer" in METHODS[name].needs and next(maps(classifier.network, signal))[1][0] > 1:
        raise ValueError(
            f"expected a method that needs no layer for {classifier.name}, whose layers lie over "
            f"time and frequency, got {name}"
        )


def regions(images: np.ndarray) -> np.ndarray:
    """(n, r, h, w), XRAI's regions of n images, filled up with empty ones to the same number."""
    found = [felzenszwalb_regions(jnp.asarray(image)) for image in images]
    count = -(-max(map(len, found)) // REGIONS) * REGIONS
    return np.stack([np.pad(each, ((0, count - len(each)), (0, 0), (0, 0))) for each in found])
