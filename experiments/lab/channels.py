"""The channels of a network that matter for a class, and the pictures that excite them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saliency_jax import rules, scores

from . import imagenet, recipes
from .photographs import SCORES

COMPOSITE = rules.epsilon_gamma_box(0.0, 1.0)
# Of pictures of small images, as many as classes' pictures take.
STEPS = 64


class Channels(NamedTuple):
    """The channels that most of a photograph's relevance passes through.

    Attributes:
      numbers: (k,).
      shares: (k,), of all the channels' relevance that is positive.
      maps: (k, h, w), what of it passes through each.
    """

    numbers: np.ndarray
    shares: np.ndarray
    maps: np.ndarray


def rank(network, *, example, score, layer, count):
    """See `Channels`."""
    image = example["image"]
    cut, explained = network.layer(layer), SCORES[score](network, example["label"])
    relevances = rules.channel_relevances(explained, image, cut, composite=COMPOSITE)
    largest, numbers = jax.lax.top_k(relevances, count)

    def through(channel):
        relevance = rules.relevance_through(explained, image, cut, channel, composite=COMPOSITE)
        return relevance.sum(-1)

    return numbers, largest / jnp.maximum(relevances, 0).sum(), jax.lax.map(through, numbers)


def picture(network, *, channel, layer, seed, shape):
    """The picture (h, w, c) that excites a channel, by the recipe of classes' pictures."""
    score = scores.channel(network.layer(layer), channel)
    redirected = rules.with_rectifiers(score, rules.redirected)
    if min(shape[:2]) >= imagenet.LEAST_SIDE:
        options = {"seed": seed, "shape": shape, "recipe": imagenet.SHOWN}
        return imagenet.raise_score(redirected, channel, **options).image
    image, step_key = recipes.start(jnp.full(shape, imagenet.GREY), "normal", channel, seed)
    return recipes.ascend(redirected, image, step_key, STEPS).image
