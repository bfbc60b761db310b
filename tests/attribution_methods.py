"""What the invariants are crossed with: a row for every exported function of two rooms.

The methods are those of the one table, `experiments/lab/methods.py`, with its settings for
benchmarks and small arguments in place of those that suit photographs: samples and steps are
evaluated three at a time, so that the last chunk is not full.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from saliency_jax import attribution, rules, scores
from saliency_jax.layers import Attention, Layer, identity

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
from lab.methods import METHODS as TABLE
from lab.methods import Method

Row = Callable[..., jax.Array]


def centred(image):
    return image - 0.5


def decentred(model, feature_map):
    return model(feature_map + 0.5)


def centred_layer(score):
    """The image less 1/2 is the feature map and the model the head: any model will do."""
    return Layer(centred, Partial(decentred, score.model))


def attend_to_pixels(model, image, offsets):
    """Two blocks of two heads mix the pixels before the model sees them: any model will do."""
    tokens, maps = image.reshape(-1, image.shape[-1]), []
    for block in range(2):
        # Of huge pixels the softmax would be of infinities.
        bounded = jnp.tanh(tokens)
        similarity = bounded @ bounded.T
        heads = jnp.stack([jax.nn.softmax(sharpness * similarity) for sharpness in (1, 4)])
        heads = heads if offsets is None else heads + offsets[block]
        tokens = (tokens + heads.mean(0) @ tokens) / 2
        maps.append(heads)
    return model(tokens.reshape(image.shape)), jnp.stack(maps)


def mean_row(relevance, image):
    return relevance.mean(0).reshape(image.shape[:2])


def attention_to_pixels(score):
    return Attention(Partial(attend_to_pixels, score.model), mean_row)


def checkerboard(score, image):
    row, column = jnp.mgrid[: image.shape[0], : image.shape[1]]
    return (row + column) % 4


def overlapping_regions(score, image):
    row, column = jnp.mgrid[: image.shape[0], : image.shape[1]]
    return jnp.stack([row < 2, row > 0, column < 3, column > 1])


def two_baselines(score, image):
    # NumPy's arrays stay such, of whatever byte order.
    stack = np.stack if isinstance(image, np.ndarray) else jnp.stack
    return stack([0.1 * image, 0.7 - image])


# By the name of an argument that a method needs, what it is here.
SMALL: dict[str, Callable] = {
    # Of its own at every call, as one that is used twice is refused where asked for.
    "key": lambda score, image: jax.random.key(0),
    "batch_size": lambda score, image: 3,
    "baseline": lambda score, image: centred,
    "baselines": two_baselines,
    "segments": checkerboard,
    "regions": overlapping_regions,
    "layer": lambda score, image: centred_layer(score),
    "attention": lambda score, image: attention_to_pixels(score),
    "size": lambda score, image: (max(1, image.shape[0] - 1), image.shape[1] - 2),
    "window": lambda score, image: (min(3, image.shape[0]), 2),
    "stride": lambda score, image: (min(2, image.shape[0]), 2),
    "composite": lambda score, image: rules.epsilon_gamma_box(-1.0, 2.0),
    "max_sigma": lambda score, image: 3.0,
}


def small(method: Method) -> Row:
    """A method of the table with small arguments; others may be given in their place."""

    def with_arguments(score, image, **others):
        if {"layer", "attention"} & set(method.needs):
            score = scores.as_score(score)
        arguments = {name: SMALL[name](score, image) for name in method.needs if name not in others}
        if "segments" in method.needs:
            arguments["num_segments"] = 4
        return method.function(score, image, **arguments, **method.uses.benchmark, **others)

    return with_arguments


def fused_layer_cam(score, image):
    score = scores.as_score(score)
    layers = (centred_layer(score), Layer(identity, score.model))
    return attribution.fuse_layers(
        [attribution.layer_cam(score, image, layer=layer) for layer in layers]
    )


def ranked_saliency(score, image):
    saliency_map = attribution.saliency(score, image)
    return attribution.rank_regions(saliency_map, overlapping_regions(score, image))


def of_gradient(function: Row) -> Row:
    return lambda score, image: function(attribution.input_gradient(score, image))


def resized(upsample: Row) -> Row:
    return lambda score, image: upsample(attribution.saliency(score, image)[:2, :2], (4, 6))


def gap(score, image):
    return attribution.completeness_gap(score, image, 0.25 * image)


def through_a_channel(score, image):
    score = scores.as_score(score)
    return rules.relevance_through(score, image, centred_layer(score), 0)


def of_each_channel(score, image):
    score = scores.as_score(score)
    return rules.channel_relevances(score, image, centred_layer(score))


METHODS: dict[str, Row] = {method.function.__name__: small(method) for method in TABLE.values()} | {
    "saliency": attribution.saliency,
    "fuse_layers": fused_layer_cam,
}
# Of the methods those that look at the model and not at what is read of its answer.
OF_ANY_SCORE = ("attention_rollout",)
bind = functools.partial
# Exported beside the methods: they take a map, an attribution or a number of steps.
FUNCTIONS: dict[str, Row] = {
    "max_abs": of_gradient(attribution.max_abs),
    "sum_abs": of_gradient(attribution.sum_abs),
    "sum_channels": of_gradient(attribution.sum_channels),
    "l2_norm": of_gradient(attribution.l2_norm),
    "bilinear": resized(attribution.bilinear),
    "nearest": resized(attribution.nearest),
    "rank_regions": ranked_saliency,
    "completeness_gap": gap,
    "relevance_through": through_a_channel,
    "channel_relevances": of_each_channel,
    "gauss_legendre": bind(attribution.integrated_gradients, rule=attribution.gauss_legendre),
    "midpoint": bind(attribution.integrated_gradients, rule=attribution.midpoint),
    "trapezoid": bind(attribution.integrated_gradients, rule=attribution.trapezoid),
}
CHUNKED = {
    method.function.__name__: METHODS[method.function.__name__]
    for method in TABLE.values()
    if "batch_size" in method.needs
}
