"""Small classifiers for the tests of scripts: networks that have learnt nothing."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import small_models
from flax import nnx

from saliency_jax import models
from saliency_jax.data import _tiny_imagenet as tiny_imagenet
from saliency_jax.models import Classifier, Input, Network, PreActResNet

CLASS_NAMES = tuple(tiny_imagenet.PAPER20.values())
SIDE = 16


def classifier(
    seed: int = 0,
    class_names: tuple[str, ...] = CLASS_NAMES,
    *,
    name: str = "small",
    side: int = SIDE,
    channels: int = 3,
    mean: tuple[float, ...] = (0.4, 0.5, 0.6),
    std: tuple[float, ...] = (0.25, 0.25, 0.25),
    **settings: Any,
) -> Classifier:
    """A residual network of four blocks on images of `side`, with random weights and biases."""
    mean, std = mean[:channels], std[:channels]
    options = {"width": 4, "channels": channels, "mean": mean, "std": std, **settings}
    network = small_models.drawn(
        lambda: PreActResNet((1, 1, 1, 1), len(class_names), **options, rngs=nnx.Rngs(0)), seed
    )
    give_biases(network, seed)
    record = Input("image", (side, side), channels=channels, mean=mean, std=std)
    return Classifier(name, network, record, class_names)


def give_biases(network: Network, seed: int) -> None:
    """Without, an image of the mean colour would be 0 in all layers, and have no gradient."""
    draws = np.random.default_rng(seed)
    for _, module in nnx.iter_graph(network):
        if isinstance(module, nnx.BatchNorm):
            module.bias[...] = jnp.asarray(draws.normal(0, 0.3, module.bias.shape), jnp.float32)


def saved(folder: Path, *classifiers: Classifier) -> tuple[str, ...]:
    """The folders of saved classifiers, as `--model` takes them: each called by its name."""
    for one in classifiers:
        models.save(one, folder / one.name)
    return tuple(str(folder / one.name) for one in classifiers)
