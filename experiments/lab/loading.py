"""The classifiers that a script was asked for."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from saliency_jax import models
from saliency_jax.models import Classifier

# Of ImageNet's classes, at 224 pixels.
FOR_PHOTOGRAPHS = ("efficientnet-lite0",)
BUNDLED_PAIR = ("tiny-imagenet-standard", "tiny-imagenet-robust")


def load(names: Sequence[str], kind: str = "image") -> list[Classifier]:
    """The models of these bundled names, or folders, as `models.for_inference` rewrites them.

    Raises:
      ValueError: as `as_trained` does.
    """
    return [models.for_inference(classifier) for classifier in as_trained(names, kind)]


def as_trained(names: Sequence[str], kind: str = "image") -> list[Classifier]:
    """The models of these bundled names, or folders, each with a short name of its own.

    For what trains them again, or takes their weights apart.

    Raises:
      ValueError: a name is unknown or given twice, a folder is not a whole model, or a model takes
        another kind of input, or images of other than 1 or 3 channels.
    """
    if not names:
        raise ValueError("expected at least one --model, got none")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"expected different models, got {name} twice")
    short = [name if name in models.available() else Path(name).name or name for name in names]
    if len(set(short)) < len(short):
        short = list(names)
    loaded = [named(models.load(path), name) for path, name in zip(names, short, strict=True)]
    for classifier in loaded:
        check_kind(classifier, kind)
    return loaded


def named(classifier: Classifier, name: str) -> Classifier:
    """The classifier under a name, its weights bound to no device."""
    # Restored weights are bound to their device, and a program compiles once for bound and once
    # for free arguments: with free weights, a first call and those on its results are the same.
    network = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), classifier.network)
    return dataclasses.replace(classifier, name=name, network=network)


def check_kind(classifier: Classifier, kind: str) -> None:
    """Says that a script cannot do with a model of this kind of input."""
    scripts = {"image": "saliency.py", "sound": "spoken_digits.py", "iq": "radio_signals.py"}
    found = classifier.input.kind
    if found != kind:
        raise ValueError(
            f"expected a model of kind {kind}, got {classifier.name}, of kind {found}: see "
            f"{scripts[found]}"
        )
    if kind == "image" and classifier.input.channels not in (1, 3):
        raise ValueError(
            f"expected a model of images with 1 or 3 channels, got {classifier.name} with "
            f"{classifier.input.channels}"
        )


def mean_image(classifier: Classifier, size: tuple[int, int] | None = None) -> np.ndarray:
    """(h, w, c), the mean colour of the images that a model was trained on, by default as large."""
    color = np.asarray(classifier.input.mean_color, np.float32)
    return np.broadcast_to(color, (*(size or classifier.input.size), classifier.input.channels))
