"""Every attribution method of the library by name, with settings that suit any photograph.

What a method takes is read off its signature: the library calls the same thing by the same name
everywhere.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from classifiers import Classifier

from saliency_jax import attribution, metrics, plots

Name = Literal[
    "saliency",
    "gradient",
    "input_x_gradient",
    "ten_crop",
    "smoothgrad",
    "smoothgrad_squared",
    "vargrad",
    "integrated_gradients",
    "expected_gradients",
    "blur_integrated_gradients",
    "guided_integrated_gradients",
    "xrai",
    "grad_cam",
    "grad_cam_plus_plus",
    "layer_cam",
    "score_cam",
    "occlusion",
    "feature_ablation",
    "rise",
    "lime",
    "kernel_shap",
    "sampled_shapley_values",
    "total_sobol_indices",
    "hsic",
]

# Names that are more than their words.
_TITLES = {
    "smoothgrad": "SmoothGrad",
    "smoothgrad_squared": "squared SmoothGrad",
    "vargrad": "VarGrad",
    "xrai": "XRAI",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "score_cam": "Score-CAM",
    "rise": "RISE",
    "lime": "LIME",
    "kernel_shap": "Kernel SHAP",
    "sampled_shapley_values": "Shapley values",
    "total_sobol_indices": "Sobol indices",
    "hsic": "HSIC",
}

# Copies of the image, with parts hidden, that a method looks at.
COPIES = 1000
NOISE_IMAGES = 16
# The sides of a grid of cells that are hidden, and of windows that slide by half of theirs.
CELLS = 8
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


def _nothing(image: jax.Array) -> dict[str, Any]:
    return {}


def _same(values: jax.Array) -> jax.Array:
    return values


def _above_lowest(saliency_map: jax.Array) -> jax.Array:
    """Of it what is above its smallest value."""
    return saliency_map - saliency_map.min()


@dataclasses.dataclass(frozen=True)
class Method:
    """An attribution method as the scripts call it.

    Attributes:
      function: the library's.
      reduce: from its attribution (h, w, c), or (h, w), to a map (h, w).
      signed: whether the map says what lowers the score too.
      options: from the image to arguments that suit it.
      make_score: from model and label to the score that the method needs; the script's if None.
    """

    function: Callable
    reduce: Callable[[jax.Array], jax.Array] = _same
    signed: bool = False
    options: Callable[[jax.Array], dict[str, Any]] = _nothing
    make_score: Callable | None = None

    def takes(self, argument: str) -> bool:
        """Whether the library's function has an argument of this name."""
        return argument in inspect.signature(self.function).parameters

    @property
    def colors(self) -> str:
        """What the map's colours mean."""
        return SIGNED_COLORS if self.signed else UNSIGNED_COLORS

    def attribute(
        self,
        make_score: Callable,
        model: Any,
        label: Any,
        image: jax.Array,
        *,
        regions: Any = None,
        batch_size: int,
    ) -> jax.Array:
        """The attribution of one image.

        Args:
          make_score: from model and label to a score, such as `scores.logit`.
          model: what is explained; for class activation maps, with `features` and `head`.
          label: the class.
          image: (h, w, c) in [0, 1].
          regions: (n, h, w), of `regions`, where the method ranks them.
          batch_size: how many copies of the image are evaluated at once.

        Returns:
          (h, w, c), or (h, w) of a method that knows no channels.
        """
        height, width, _ = image.shape
        cells = (min(CELLS, height), min(CELLS, width))
        offered = {
            "key": jax.random.key(0),
            "batch_size": batch_size,
            # What is hidden takes the image's mean colour, and paths begin there.
            "baseline": attribution.baselines.mean_color,
            "segments": attribution.grid_segments(image, cells),
            "features": getattr(model, "features", None),
            "regions": regions,
        }
        taken = {name: value for name, value in offered.items() if self.takes(name)}
        explained = model.head if self.takes("features") else model
        score = (self.make_score or make_score)(explained, label)
        return self.function(score, image, **taken, **self.options(image))


def _crops(image: jax.Array) -> dict[str, Any]:
    return {"size": tuple(round(CROP * side) for side in image.shape[:2])}


def _windows(image: jax.Array) -> dict[str, Any]:
    window = tuple(-(-side // CELLS) for side in image.shape[:2])
    return {"window": window, "stride": tuple(-(-side // 2) for side in window)}


def _noise_images(image: jax.Array) -> dict[str, Any]:
    return {"baselines": jax.random.uniform(jax.random.key(1), (NOISE_IMAGES, *image.shape))}


def _blurs(image: jax.Array) -> dict[str, Any]:
    return {"max_sigma": MAX_SIGMA * max(image.shape[:2]) / PAPER_SIDE}


def _copies(image: jax.Array) -> dict[str, Any]:
    return {"num_samples": COPIES}


def _few_samples(image: jax.Array) -> dict[str, Any]:
    # Each takes a copy for every cell.
    return {"num_samples": COPIES // CELLS**2}


METHODS: Mapping[str, Method] = {
    "saliency": Method(attribution.input_gradient, attribution.max_abs),
    "gradient": Method(attribution.input_gradient, attribution.sum_channels, signed=True),
    "input_x_gradient": Method(attribution.input_x_gradient, attribution.sum_channels, signed=True),
    "ten_crop": Method(attribution.ten_crop, options=_crops),
    "smoothgrad": Method(attribution.smoothgrad, attribution.max_abs),
    "smoothgrad_squared": Method(attribution.smoothgrad_squared, attribution.sum_abs),
    "vargrad": Method(attribution.vargrad, attribution.sum_abs),
    "integrated_gradients": Method(
        attribution.integrated_gradients, attribution.sum_channels, signed=True
    ),
    "expected_gradients": Method(
        attribution.expected_gradients, attribution.sum_channels, signed=True, options=_noise_images
    ),
    "blur_integrated_gradients": Method(
        attribution.blur_integrated_gradients, attribution.sum_channels, signed=True, options=_blurs
    ),
    "guided_integrated_gradients": Method(
        attribution.guided_integrated_gradients, attribution.sum_channels, signed=True
    ),
    "xrai": Method(attribution.xrai, signed=True),
    "grad_cam": Method(attribution.grad_cam),
    "grad_cam_plus_plus": Method(attribution.grad_cam_plus_plus),
    "layer_cam": Method(attribution.layer_cam),
    "score_cam": Method(attribution.score_cam),
    "occlusion": Method(attribution.occlusion, signed=True, options=_windows),
    "feature_ablation": Method(attribution.feature_ablation, signed=True),
    # Its map has a meaning for a score that is not negative.
    "rise": Method(
        attribution.rise, _above_lowest, options=_copies, make_score=metrics.probability
    ),
    "lime": Method(attribution.lime, signed=True, options=_copies),
    "kernel_shap": Method(attribution.kernel_shap, signed=True, options=_copies),
    "sampled_shapley_values": Method(
        attribution.sampled_shapley_values, signed=True, options=_few_samples
    ),
    "total_sobol_indices": Method(attribution.total_sobol_indices, options=_few_samples),
    "hsic": Method(attribution.hsic, options=_copies),
}


def title(name: str) -> str:
    """A method's name as figures write it."""
    return _TITLES.get(name, name.replace("_", " "))


def meaning(name: str) -> str:
    """What a method's map is, by the first line of its docstring, which may repeat the name."""
    method = METHODS[name]
    what = re.sub("^(?!The )[^:.]+: ", "", _summary(method.function))
    how = [_summary(method.reduce)] * (method.reduce is not _same)
    return " ".join([f"{title(name)}: {what[0].lower()}{what[1:]}", *how])


def _summary(function: Callable) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def check(name: str, classifier: Classifier) -> None:
    """Says that a method cannot explain this classifier."""
    missing = [part for part in ("features", "head") if not hasattr(classifier.model, part)]
    if METHODS[name].takes("features") and missing:
        raise ValueError(
            f"expected a model with features (image -> feature map) and head (feature map -> "
            f"logits) for {name}, got {classifier.name} without {' and '.join(missing)}"
        )


def regions(images: np.ndarray) -> np.ndarray:
    """(n, r, h, w), XRAI's regions of n images, filled up with empty ones to the same number."""
    found = [attribution.felzenszwalb_regions(jnp.asarray(image)) for image in images]
    count = -(-max(map(len, found)) // REGIONS) * REGIONS
    return np.stack([np.pad(of, ((0, count - len(of)), (0, 0), (0, 0))) for of in found])


def draw(name: str, saliency_map: np.ndarray, title: str = "") -> plots.Picture:
    """A cell that shows a method's map in the colours that suit it."""
    show = plots.signed_map if METHODS[name].signed else plots.saliency_map
    return show(saliency_map, title)
