"""`config.json`, all that is known of a classifier but its weights, and the card made of it."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from .._validation import check_instance, nearest
from ._classifier import Classifier, Input

FORMAT = 2
# Of the settings of a network, which a file tells: the largest number, and how deep it may be. Each
# stage is twice as wide as the one before.
_LARGEST, _MOST_BLOCKS, _MOST_STAGES = 2**20, 1000, 20
_BLOCKS = ("blocks", "depth")
# Where a config may find its network: import name -> package and name. A package is imported when
# a config names it.
NETWORKS = (
    "saliency_jax.models.ResNet",
    "saliency_jax.models.PreActResNet",
    "saliency_jax.models.EfficientNetLite",
    "saliency_jax.models.VisionTransformer",
    "saliency_jax.models.ConvNext",
    "saliency_jax.signals.SignalResNet",
    "saliency_jax.signals.SpectrogramResNet",
)
# The first format held the settings of network and input in one, under these names and kinds.
_FORMER = {
    "saliency_jax.ResNet": ("saliency_jax.models.ResNet", "image", (224, 224)),
    "saliency_jax.PreActResNet": ("saliency_jax.models.PreActResNet", "image", (32, 32)),
    "saliency_jax.SignalResNet": ("saliency_jax.signals.SignalResNet", "iq", (1, 1024)),
    "saliency_jax.SpectrogramResNet": (
        "saliency_jax.signals.SpectrogramResNet",
        *("sound", (1, 8000)),
    ),
}


def to_config(classifier: Classifier) -> dict[str, Any]:
    """What `config.json` says of a classifier.

    Raises:
      TypeError: its network is none of this library.
      ValueError: its network was rewritten.
    """
    network = classifier.network
    name = f"{type(network).__module__.rpartition('.')[0]}.{type(network).__name__}"
    if name not in NETWORKS:
        raise TypeError(f"expected a network of {', '.join(NETWORKS)}, got {name}")
    if network.is_rewritten:
        raise ValueError(f"expected a network before for_inference, got {name} after it")
    return {
        "format": FORMAT,
        "network": name,
        "settings": network.settings,  # type: ignore[attr-defined]
        "input": dataclasses.asdict(classifier.input),
        "class_names": list(classifier.class_names),
        "parameters": num_parameters(network),
        "accuracies": dict(classifier.accuracies),
        "training": dict(classifier.training),
    }


def num_parameters(network: Any) -> int:
    """How many numbers were trained: batch statistics do not count."""
    params = nnx.state(network, nnx.Param)
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config in today's format, whichever it is written in.

    Raises:
      ValueError, KeyError, TypeError: it is no config.
    """
    config = dict(config)
    form = config["format"]
    if form == FORMAT:
        return config
    if form not in _FORMER:
        known = [FORMAT, *_FORMER]
        raise ValueError(
            f"expected a format of {', '.join(map(str, known))}, got {form!r}"
            f"{nearest(str(form), _FORMER)}"
        )
    network, kind, usual_size = _FORMER[config.pop("format")]
    size = tuple(config.pop("input_size", usual_size))
    resize = tuple(config.pop("resize_size", None) or ())
    class_names = config.pop("class_names", [])
    if "stem" in config:
        stem = config["stem"]
        config["stem"] = (stem["kernel_size"], stem["stride"], stem["max_pool"])
    taken = Input(
        kind,  # type: ignore[arg-type]
        size,
        resize,
        channels=config.get("channels", {"sound": 1, "iq": 2}.get(kind, 3)),
        sample_rate=config.get("sample_rate", 8000) if kind == "sound" else None,
        mean=tuple(config.get("mean") or ()),
        std=tuple(config.get("std") or ()),
    )
    return {
        "format": FORMAT,
        "network": network,
        "settings": config,
        "input": dataclasses.asdict(taken),
        "class_names": class_names,
        "accuracies": {},
        "training": {},
    }


def builder(config: Mapping[str, Any]) -> Callable[[nnx.Rngs], Any]:
    """What builds the network of a config from random keys.

    Raises:
      ValueError: the network is none of this library.
    """
    name = config["network"]
    if name not in NETWORKS:
        raise ValueError(f"expected a network of {', '.join(NETWORKS)}, got {name!r}")
    package, _, attribute = name.rpartition(".")
    network = getattr(importlib.import_module(package), attribute)
    settings = {name: _tuples(value) for name, value in config["settings"].items()}
    _check_sizes(settings)
    return lambda rngs: network(**settings, rngs=rngs)


def _check_sizes(settings: Mapping[str, Any]) -> None:
    """Raises where a damaged number would ask for more than there is memory or time."""
    for name, value in settings.items():
        numbers = [
            number
            for number in (value if isinstance(value, tuple) else (value,))
            if isinstance(number, int | float)
        ]
        if any(abs(number) > _LARGEST for number in numbers):
            raise ValueError(f"expected {name} of at most {_LARGEST}, got {value}")
        if name in _BLOCKS and sum(numbers) > _MOST_BLOCKS:
            raise ValueError(f"expected at most {_MOST_BLOCKS} {name}, got {value}")
        if name in _BLOCKS and len(numbers) > _MOST_STAGES:
            raise ValueError(f"expected {name} of at most {_MOST_STAGES} stages, got {value}")


def input_of(config: Mapping[str, Any]) -> Input:
    """The input record of a config."""
    return Input(**{name: _tuples(value) for name, value in config["input"].items()})


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def card(classifier: Classifier | Mapping[str, Any]) -> str:
    """A page in Markdown that says what a classifier is, how it was trained and how good it is.

    Args:
      classifier: the classifier, or what its `config.json` holds. Of `training` these names are
        written: dataset, method, architecture, command, train_split, holdout_split, test_split,
        epochs, best_epoch, chosen_by, holdout_accuracy (percent), test_examples, dtype, minutes,
        cores, device, date and notes, a list of paragraphs; what is not there is left out.

    Returns:
      The text.

    Example:
      >>> from saliency_jax import models
      >>> text = models.card(models.load("tiny-imagenet-robust"))
      >>> print(text.splitlines()[0])
      # tiny_imagenet/paper20, adversarial training, L2 epsilon 1
    """
    check_instance("classifier", classifier, (Classifier, Mapping), "a Classifier or its config")
    config = to_config(classifier) if isinstance(classifier, Classifier) else classifier
    known = config["training"]
    title = ", ".join(known[name] for name in ("dataset", "method") if name in known)
    network = known.get("architecture", config["network"].rpartition(".")[2])
    paragraphs = [
        f"# {title or 'A classifier of saliency_jax'}",
        f"{network}, {config['parameters']:,} parameters;\n{_input_line(config['input'])}, "
        "normalization inside.",
    ]
    if "command" in known:
        paragraphs.append(f"    {known['command']}")
    if "train_split" in known:
        paragraphs.append(_data_lines(known))
    if config["accuracies"]:
        rows = [f"| {measure} | {value:g}% |" for measure, value in config["accuracies"].items()]
        paragraphs.append("\n".join(["| evaluation | accuracy |", "|---|---|", *rows]))
    paragraphs.extend(known.get("notes", ()))
    paragraphs.append(f"Classes: {', '.join(config['class_names'])}.")
    if "minutes" in known:
        paragraphs.append(
            f"Training took {known['minutes']:.0f} minutes on {known['cores']} cores\n"
            f"({known['device']}), {known['date']}."
        )
    return "\n\n".join(paragraphs) + "\n"


def _input_line(taken: Mapping[str, Any]) -> str:
    units = {"image": " in [0, 1]", "sound": " in [-1, 1]", "iq": ""}[taken["kind"]]
    height, width = taken["size"]
    return f"input {height}x{width}x{taken['channels']}{units}"


def _data_lines(known: Mapping[str, Any]) -> str:
    return (
        f"Data: `{known['dataset']}`, trained on `{known['train_split']}`;\n"
        f"epoch {known['best_epoch']:g} of {known['epochs']} chosen by {known['chosen_by']} "
        f"accuracy on\n`{known['holdout_split']}` ({known['holdout_accuracy']:g}%).\n"
        f"Reported on all {known['test_examples']} examples of `{known['test_split']}`, the "
        f"weights as stored\n({known['dtype']}):"
    )
