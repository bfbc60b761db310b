"""Networks as sequences of named parts, so that any of them can be cut in two at a name."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .._types import Image, Logits
from .._validation import check_floats, nearest, to_jax
from ..layers import Layer, identity

Part = tuple[Callable[[Any], Any], ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sequence:
    """Functions of batches, one after the other, as a function of one example.

    An example is an array or, behind a cut that carries several, a PyTree of them. The weights are
    taken in the example's dtype, so that its precision is that of the answer.

    Attributes:
      functions: each from a batch (n, ...) to the next; their weights are the leaves.
      dtype: of the work, in place of the example's, if it is not None.
    """

    functions: Part
    dtype: Any = dataclasses.field(default=None, metadata={"static": True})

    def __call__(self, example: Any) -> Any:
        batch, functions = batched(example, self.functions)
        dtype = jax.tree.leaves(batch)[0].dtype
        batch, functions = with_dtype((batch, functions), self.dtype or dtype)
        for function in functions:
            batch = function(batch)
        return with_dtype(jax.tree.map(lambda leaf: leaf[0], batch), dtype)


def batched(example: Any, functions: Any) -> tuple[Any, Any]:
    """An example, an array or a tree of them, as a batch of one; functions in its dtype."""
    leaves = jax.tree.leaves(example) or [example]
    for leaf in leaves:
        check_floats("what a network takes", leaf)
    batch = jax.tree.map(lambda leaf: to_jax(leaf)[None], example)
    return batch, with_dtype(functions, jax.tree.leaves(batch)[0].dtype)


def with_dtype(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point arrays in this dtype."""

    def cast(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.astype(dtype)
        return leaf

    return jax.tree.map(cast, tree)


class Normalization(nnx.Module):
    """(images - mean) / std, for each channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, images):
        channels = len(self.mean)
        if images.ndim == 5:
            raise ValueError(
                f"expected an image (h, w, {channels}), got a batch of shape {images.shape[1:]}; "
                "map over it with jax.vmap"
            )
        if images.ndim != 4 or images.shape[-1] != channels:
            raise ValueError(f"expected an image (h, w, {channels}), got {images.shape[1:]}")
        mean, std = (jnp.asarray(each, images.dtype) for each in (self.mean, self.std))
        return (images - mean.reshape(1, 1, 1, -1)) / std.reshape(1, 1, 1, -1)


def normalization(
    channels: int, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Normalization:
    """The normalization of that many channels; none leaves them as they are.

    Raises:
      ValueError: mean or std has another length.
    """
    mean = (0.0,) * channels if mean is None else mean
    std = (1.0,) * channels if std is None else std
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"expected mean and std for {channels} channels, got {len(mean)} and {len(std)}"
        )
    return Normalization(mean, std)


def spatial_mean(maps: Float[Array, "n h w d"]) -> Float[Array, "n d"]:
    """Global average pooling."""
    return maps.mean((1, 2))


class Network(nnx.Module):
    """A network from one image to logits: named parts, one after the other.

    A PyTree and a callable, so it crosses `jax.jit` and `jax.vmap` as an argument. It is built for
    inference: batch normalization uses its running statistics. Weights are taken in the image's
    dtype, which is that of the logits.

    A network of your own becomes one by its `parts`, and is then cut by `layer` at each of them.
    """

    normalization: Normalization
    num_classes: int
    # Set by `for_inference`: the dtype of the work, where it is not the image's, and whether the
    # weights are those of `settings`.
    dtype: Any = None
    is_rewritten = False
    # From what a cut carries to its map (i, j, d), for cuts that carry more than a map.
    to_map = staticmethod(identity)

    @abc.abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """The parts by name, in their order: each of functions of batches (n, ...)."""

    @property
    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments that built the network, all but `rngs`."""

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return len(self.normalization.mean)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names that `layer` takes: those of the parts, from the image to the logits."""
        return tuple(self.parts())

    def layer(self, name: str) -> Layer:
        """The network cut in two behind one of its parts.

        Args:
          name: one of `layers`.

        Returns:
          A `Layer`: its features hold the weights of the parts up to `name`, its head those of
          the parts after it.

        Raises:
          ValueError: there is no such part.
        """
        parts = self.parts()
        if name not in parts:
            raise ValueError(
                f"expected a layer of {', '.join(parts)}, got {name!r}{nearest(str(name), parts)}"
            )
        end = list(parts).index(name) + 1
        before, after = list(parts.values())[:end], list(parts.values())[end:]
        features, head = (Sequence(sum(part, ()), self.dtype) for part in (before, after))
        return Layer(features, head, self.to_map)

    def on_batch(self, images: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        """The logits of a batch, whose statistics batch normalization takes while it trains.

        Args:
          images: (n, h, w, c), in the dtype of the weights.

        Returns:
          (n, k) logits.
        """
        for part in self.parts().values():
            for function in part:
                images = function(images)
        return images

    def __call__(self, image: Image) -> Logits:
        return Sequence(sum(self.parts().values(), ()), self.dtype)(image)
