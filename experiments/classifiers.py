"""The classifiers that a script was asked for: how they are called, and which classes they know."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from saliency_jax import models
from saliency_jax._validation import nearest

BUNDLED_PAIR = ("tiny-imagenet-standard", "tiny-imagenet-robust")


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model with the name that figures and files give it."""

    name: str
    model: models.ResNet

    @property
    def file_name(self) -> str:
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-")

    @property
    def input_size(self) -> tuple[int, int]:
        """The height and width that the model was trained for."""
        height, width = self.model.input_size
        return height, width

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers if the model knows no names."""
        return self.model.class_names or tuple(map(str, range(self.model.num_classes)))

    def label(self, text: str) -> int:
        """The class of a name, or of a number.

        Args:
          text: a class name, without regard to case and with `_` and `-` for spaces, or a number.

        Returns:
          The label, in 0 .. num_classes - 1.

        Raises:
          ValueError: there is no such class, or several have the name.
        """
        labels = [i for i, name in enumerate(self.class_names) if _folded(name) == _folded(text)]
        if len(labels) > 1:
            raise ValueError(
                f"expected the name of one class, got {text!r}, the name of "
                f"{' and '.join(map(str, labels))}; give the number"
            )
        if labels:
            return labels[0]
        if re.fullmatch(r"-?\d+", text):
            label = int(text)
            if not 0 <= label < self.model.num_classes:
                raise ValueError(
                    f"expected a label in 0 .. {self.model.num_classes - 1} or a class name of "
                    f"{self.name}, got {label}"
                )
            return label
        raise ValueError(
            f"expected a class of {self.name}, got {text!r}"
            f"{nearest(text, self.class_names) or _some(self.class_names)}"
        )


def load(names: Sequence[str]) -> list[Classifier]:
    """The models of these names or folders, each with a short name of its own.

    Args:
      names: bundled names, or folders of saved models.

    Returns:
      The classifiers, in the same order.

    Raises:
      ValueError: a name is unknown or given twice, a folder is not a whole model, or
        its inputs are no images of 1 or 3 channels.
    """
    if not names:
        raise ValueError("expected at least one --model, got none")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"expected different models, got {name} twice")
    short = [name if name in models.available() else Path(name).name or name for name in names]
    if len(set(short)) < len(short):
        short = list(names)
    loaded = [Classifier(name, _read(path)) for name, path in zip(short, names, strict=True)]
    for classifier in loaded:
        if isinstance(classifier.model, models.SpectrogramResNet | models.SignalResNet):
            raise ValueError(
                f"expected a model of images, got {classifier.name}, a "
                f"{type(classifier.model).__name__}: see spoken_digits.py and radio_signals.py"
            )
        if classifier.model.channels not in (1, 3):
            raise ValueError(
                f"expected a model of images with 1 or 3 channels, got {classifier.name} with "
                f"{classifier.model.channels}"
            )
    return loaded


def _read(name: str) -> models.ResNet:
    model = models.load(name)
    # Restored weights are bound to their device, and a program compiles once for bound and once
    # for free arguments: with free weights, a first call and those on its results are the same.
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), model)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _some(names: Sequence[str]) -> str:
    return f"; its classes are {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}"
