"""Layers: a model cut in two, or its attention laid open, to look at what passes there."""

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

    Args:
      cut: any PyTree.

    Returns:
      The very same.

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


@jax.tree_util.register_pytree_with_keys_class
class Attention:
    """A transformer's attention laid open: its maps can be read, and be moved.

    The vision transformers of `saliency_jax.models` do it themselves, `network.attention`; in a
    network of your own every block adds its offset, if there is one, to its softmax and hands the
    sum on:

      def attend(network, image, offsets):
          tokens, maps = network.embed(image), []
          for index, block in enumerate(network.blocks):
              tokens, attention = block(tokens, None if offsets is None else offsets[index])
              maps.append(attention)
          return network.head(tokens), jnp.stack(maps)

      attention = Attention(Partial(attend, network), class_row)

    In Flax Linen that is `self.perturb` and `self.sow`. As a `Layer` it is a PyTree.

    Args:
      attend: callable PyTree from one image (h, w, c) and offsets to the model's answer and its
        attention maps (b, m, n, n): of b blocks in their order and m heads, how much of each of n
        tokens (last axis) goes to each. The offsets, of the maps' shape or None for zero, are added
        to the maps; attend(image, None)[0] == model(image).
      to_map: callable PyTree from relevances (n, n), of the last axis's tokens for the other's, and
        the image to the map (i, j) of those that are patches, for the tokens that the answer is
        read from: the class token's row without its own entry, on the patches' grid; or the mean of
        all rows.

    Attributes:
      attend, to_map: as given.

    Raises:
      TypeError: one of them is not callable.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from saliency_jax.layers import Attention
      >>> def attend(image, offsets):
      ...     tokens = image.reshape(-1, image.shape[-1])
      ...     maps = jax.nn.softmax(tokens @ tokens.T)[None, None]
      ...     maps = maps if offsets is None else maps + offsets
      ...     return (maps[0, 0] @ tokens).mean(0), maps
      >>> def mean_row(relevance, image):
      ...     return relevance.mean(0).reshape(image.shape[:2])
      >>> attention = Attention(attend, mean_row)
      >>> image = jnp.zeros((2, 3, 1))
      >>> maps = attention.maps(image)
      >>> print(maps.shape, attention.map(maps[0, 0], image).shape)
      (1, 1, 6, 6) (2, 3)
    """

    attend: Callable[[Image, Any], tuple[Any, Any]]
    to_map: Callable[[Any, Image], Any]

    def __init__(
        self,
        attend: Callable[[Image, Any], tuple[Any, Any]],
        to_map: Callable[[Any, Image], Any],
    ):
        self.attend = as_pytree(attend, "attend")
        self.to_map = as_pytree(to_map, "to_map")

    def maps(self, image: Image) -> Float[Array, "b m n n"]:
        """The image's attention maps: attend(image, None)[1].

        Args:
          image: (h, w, c), in the range that the model takes.

        Returns:
          (b, m, n, n), of which every row adds up to 1.

        Raises:
          TypeError: the maps do not hold floats.
          ValueError: the maps are not of shape (b, m, n, n).
        """
        _, maps = self.attend(image, None)
        check_array("the attention maps of one image", maps, ("b", "m", "n", "n"))
        if maps.shape[2] != maps.shape[3]:
            raise ValueError(
                f"expected the attention maps of one image to have shape (b, m, n, n), got "
                f"{maps.shape}"
            )
        return maps

    def map(self, relevance: Float[Array, "n n"], image: Image) -> Float[Array, "i j"]:
        """Relevances of tokens as a map of the patches: to_map(relevance, image).

        Args:
          relevance: (n, n), of the last axis's tokens for the other's.
          image: (h, w, c), whose tokens they are.

        Returns:
          (i, j), in the units of the relevances.

        Raises:
          TypeError: the map does not hold floats.
          ValueError: the map is not of shape (i, j).
        """
        patches = self.to_map(relevance, image)
        check_array("the map of the tokens' relevances", patches, ("i", "j"))
        return patches

    def tree_flatten_with_keys(self):
        names = ("attend", "to_map")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    @classmethod
    def tree_unflatten(cls, _, children):
        attention = object.__new__(cls)
        attention.attend, attention.to_map = children
        return attention
