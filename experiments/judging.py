"""What the experiments that judge attribution methods share: cheaper settings, and controls.

A control is called like a method and does not look at the model. What is no better than it, an
image filter or a die could do.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import classifiers
import jax
import jax.numpy as jnp
import methods
import numpy as np
from methods import Method

from saliency_jax import filters, plots, scores

# Those of `methods` suit one photograph; over a split they would take a day.
CHEAPER: Mapping[str, Mapping[str, int]] = {
    "smoothgrad": {"num_samples": 16},
    "smoothgrad_squared": {"num_samples": 16},
    "vargrad": {"num_samples": 16},
    "integrated_gradients": {"steps": 32},
    "blur_integrated_gradients": {"steps": 32},
    "guided_integrated_gradients": {"steps": 32},
    "expected_gradients": {"num_samples": 32},
    "rise": {"num_samples": 256},
    "lime": {"num_samples": 256},
    "kernel_shap": {"num_samples": 256},
    "hsic": {"num_samples": 256},
    "sampled_shapley_values": {"num_samples": 4},
    "total_sobol_indices": {"num_samples": 4},
}


def random_map(score: Any, image: jax.Array, *, key: jax.Array) -> jax.Array:
    """(h, w) random numbers in [0, 1), others for every other image."""
    image_number = jax.lax.bitcast_convert_type(jnp.sum(image), jnp.uint32)
    return jax.random.uniform(jax.random.fold_in(key, image_number), image.shape[:2])


def edge_map(score: Any, image: jax.Array) -> jax.Array:
    """(h, w), the strength of the image's edges."""
    return filters.sobel(image)


CONTROLS: Mapping[str, Method] = {"random": Method(random_map), "edges": Method(edge_map)}


def method(name: str) -> Method:
    """A method with its cheaper settings, or a control."""
    chosen = {**methods.METHODS, **CONTROLS}[name]

    def options(image: jax.Array) -> dict[str, Any]:
        return {**chosen.options(image), **CHEAPER.get(name, {})}

    return dataclasses.replace(chosen, options=options)


def explain(name: str, score: Any, image: jax.Array) -> jax.Array:
    """A method's map of one image; of many images at once it takes one copy of each at a time.

    Args:
      name: of a method or a control.
      score: a `scores.logit`, whose model is what is explained.
      image: (h, w, c) in [0, 1].

    Returns:
      (h, w).
    """
    model, label = score.args
    chosen = method(name)
    return chosen.reduce(chosen.attribute(scores.logit, model, label, image, batch_size=1))


def check(names: Iterable[str], loaded: Iterable[classifiers.Classifier]) -> None:
    """Says which method cannot be judged over many images, or not of one of these models."""
    names = list(names)
    if not names:
        raise ValueError("expected at least one --method, got none")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"expected different methods, got {name} twice")
        if method(name).takes("regions"):
            raise ValueError(
                f"expected methods that need no regions, which take long to find, got {name}"
            )
        for classifier in loaded:
            methods.check(name, classifier)


def draw(name: str, saliency_map: np.ndarray, title: str = "") -> plots.Picture:
    """A cell that shows a method's or a control's map in the colours that suit it."""
    show = plots.signed_map if method(name).signed else plots.saliency_map
    return show(saliency_map, title)
