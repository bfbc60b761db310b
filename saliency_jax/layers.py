"""Layers: a model cut in two, so that one can look at what passes through the cut."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from ._pytrees import as_pytree
from ._types import FeatureMap, Image
from ._validation import check_array


def identity(cut: Any) -> Any:
    """What a cut carries, as it is.

    identity(x) = x

    Example:
      At the image itself the head is the whole model:

      >>> import jax.numpy as jnp
      >>> from saliency_jax.layers import Layer, identity
      >>> layer = Layer(identity, jnp.sum)
      >>> print(layer.map(jnp.ones((1, 2, 1))).shape)
      (1, 2, 1)
    """
    return cut


@jax.tree_util.register_pytree_with_keys_class
class Layer:
    """A model cut in two: head(features(image)) == model(image).

    The networks of `saliency_jax.models` cut themselves, `network.layer("stage 3")`; of a network
    of your own the two functions make a layer:

      layer = Layer(Partial(MyNetwork.trunk, network), Partial(MyNetwork.top, network))

    It is a PyTree: both parts' weights are its leaves, so it crosses `jax.jit` and `jax.vmap` as an
    argument. Bound methods of modules and plain functions are welcome.

    Args:
      features: callable PyTree from one image (h, w, c) to what the cut carries: a map (i, j, d),
        tokens (n, d), or any PyTree of floats.
      head: callable PyTree from that to the model's answer, usually logits (k,).
      to_map: callable PyTree from what the cut carries to a map (i, j, d): it picks and rearranges
        values, such as all tokens but the class token on their grid, and is applied to activations
        and to gradients alike. The identity by default.

    Attributes:
      features, head, to_map: as given.

    Raises:
      TypeError: one of them is not callable.

    Example:
      >>> import jax.numpy as jnp
      >>> from saliency_jax.layers import Layer
      >>> def halved(image):
      ...     return image[::2, ::2]
      >>> def top(feature_map):
      ...     return feature_map.mean((0, 1))
      >>> layer = Layer(halved, top)
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> print(layer.head(layer.features(image)), layer.map(image).shape)
      [5.] (2, 2, 1)
    """

    features: Callable[[Image], Any]
    head: Callable[[Any], Any]
    to_map: Callable[[Any], FeatureMap]

    def __init__(
        self,
        features: Callable[[Image], Any],
        head: Callable[[Any], Any],
        to_map: Callable[[Any], FeatureMap] = identity,
    ):
        self.features = as_pytree(features, "features")
        self.head = as_pytree(head, "head")
        self.to_map = as_pytree(to_map, "to_map")

    def map(self, image: Image) -> Float[Array, "i j d"]:
        """The image's feature map at the cut: to_map(features(image)).

        Args:
          image: (h, w, c), in the range that the model takes.

        Returns:
          (i, j, d), in the units of the layer.

        Raises:
          TypeError: the map does not hold floats.
          ValueError: the map is not of shape (i, j, d).
        """
        return self.as_map(self.features(image))

    def as_map(self, carried: Any) -> Float[Array, "i j d"]:
        """What the cut carries, or a gradient in it, as a map: to_map(carried).

        Args:
          carried: what `features` makes of one image, or a PyTree built alike.

        Returns:
          (i, j, d), in the units of what is carried.

        Raises:
          TypeError: the map does not hold floats.
          ValueError: the map is not of shape (i, j, d).
        """
        feature_map = self.to_map(carried)
        check_array("the map of what the layer makes of one image", feature_map, ("i", "j", "d"))
        return feature_map

    def tree_flatten_with_keys(self):
        names = ("features", "head", "to_map")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    @classmethod
    def tree_unflatten(cls, _, children):
        layer = object.__new__(cls)
        layer.features, layer.head, layer.to_map = children
        return layer
