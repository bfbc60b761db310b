"""Vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929; DeiT, Touvron et al. 2020)."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .._numerics import at_least_single
from ..layers import Attention
from ._parts import Network, Part, batched, normalization

MLP_RATIO = 4
# Of PyTorch's bicubic interpolation; the usual -1/2 is that of Keys 1981 and of JAX.
_CUBIC = -0.75
_INITIAL = nnx.initializers.truncated_normal(0.02)


class Tokens(NamedTuple):
    """What a vision transformer hands from block to block.

    Attributes:
      prefix: (n, t, d), the tokens that the answer is read from: the class token and, after
        distillation, that of the teacher.
      patches: (n, i, j, d), the patches' tokens on their grid.
    """

    prefix: Float[Array, "*n t d"]
    patches: Float[Array, "*n i j d"]


def patch_map(cut: Any) -> Any:
    """Of tokens, or of a gradient in them, the patches'; whatever else a cut carries, as it is."""
    return cut.patches if isinstance(cut, Tokens) else cut


def gelu(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """x Phi(x), with the normal distribution itself and not the approximation by a tanh."""
    return jax.nn.gelu(values, approximate=False)


class LayerNorm(nnx.Module):
    """(x - mean x) / sqrt(var x + epsilon) over the channels, scaled and shifted."""

    def __init__(self, width: int, epsilon: float):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, values):
        wide = at_least_single(values)
        centred = wide - wide.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        normal = (centred * jax.lax.rsqrt(variance + self.epsilon)).astype(values.dtype)
        along_channels = (1,) * (values.ndim - 1) + (-1,)
        scale, bias = (each[...].reshape(along_channels) for each in (self.scale, self.bias))
        return normal * scale + bias


class Patches(nnx.Module):
    """A convolution whose stride is its kernel's size: one product of matrices.

    Rows and columns that do not fill a patch are left out, as by PyTorch's convolution.
    """

    def __init__(self, inputs: int, width: int, size: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_INITIAL(rngs.params(), (size, size, inputs, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, images):
        size, _, inputs, width = self.kernel.shape
        n, height, width_in_pixels, _ = images.shape
        rows, columns = height // size, width_in_pixels // size
        if not rows * columns:
            raise ValueError(
                f"expected an image of at least {size}x{size}, got {height}x{width_in_pixels}"
            )
        images = images[:, : rows * size, : columns * size]
        patches = images.reshape(n, rows, size, columns, size, inputs).transpose(0, 1, 3, 2, 4, 5)
        products = patches.reshape(n, rows, columns, -1) @ self.kernel[...].reshape(-1, width)
        return products + self.bias[...].reshape(1, 1, 1, -1)


class Perceptron(nnx.Module):
    """fc2(gelu(fc1(x))), four times as wide inside."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, kernel_init=_INITIAL, rngs=rngs)
        self.fc1 = linear(width, MLP_RATIO * width)
        self.gelu = gelu
        self.fc2 = linear(MLP_RATIO * width, width)

    def __call__(self, values):
        return self.fc2(self.gelu(self.fc1(values)))


class SelfAttention(nnx.Module):
    """proj(A v) with A = softmax(q k / sqrt(d)), for every head by itself."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, kernel_init=_INITIAL, rngs=rngs)
        self.qkv = linear(width, 3 * width)
        self.proj = linear(width, width)
        self.heads = heads

    def __call__(self, tokens, offset=None):
        """The tokens' sums and the attention maps (n, m, t, t), to which the offset is added."""
        n, count, width = tokens.shape
        split = self.qkv(tokens).reshape(n, count, 3, self.heads, width // self.heads)
        queries, keys, values = jnp.moveaxis(split, 2, 0)
        queries = queries * (width // self.heads) ** -0.5
        similarity = jnp.einsum("nqmd,nkmd->nmqk", queries, keys)
        attention = jax.nn.softmax(at_least_single(similarity)).astype(tokens.dtype)
        if offset is not None:
            attention = attention + offset
        sums = jnp.einsum("nmqk,nkmd->nqmd", attention, values)
        return self.proj(sums.reshape(n, count, width)), attention


class TransformerBlock(nnx.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, width: int, heads: int, epsilon: float, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, epsilon)
        self.attn = SelfAttention(width, heads, rngs=rngs)
        self.norm2 = LayerNorm(width, epsilon)
        self.mlp = Perceptron(width, rngs=rngs)

    def __call__(self, tokens: Tokens) -> Tokens:
        return self.attended(tokens)[0]

    def attended(
        self, tokens: Tokens, offset: Float[Array, "n m t t"] | None = None
    ) -> tuple[Tokens, Float[Array, "n m t t"]]:
        """The block's answer and its attention maps, to which the offset is added."""
        n, prefixes, width = tokens.prefix.shape
        values = jnp.concatenate([tokens.prefix, tokens.patches.reshape(n, -1, width)], 1)
        sums, attention = self.attn(self.norm1(values), offset)
        values = values + sums
        values = values + self.mlp(self.norm2(values))
        patches = values[:, prefixes:].reshape(tokens.patches.shape)
        return Tokens(values[:, :prefixes], patches), attention


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("projection", "prefix", "positions"),
    meta_fields=("grid",),
)
@dataclasses.dataclass(frozen=True)
class Embedding:
    """From images (n, h, w, c) to tokens: projected patches and prefix, each with its position.

    Attributes:
      projection: of patches.
      prefix: tokens (1, 1, d) that stand before the patches.
      positions: (1, t, d), of the prefix and of the patches of the grid.
      grid: patches in height and width that the positions are for; those of another grid are
        interpolated, as Hugging Face does it.
    """

    projection: Patches
    prefix: tuple[nnx.Param, ...]
    positions: nnx.Param
    grid: tuple[int, int]

    def __call__(self, images):
        patches = self.projection(images)
        n, rows, columns, width = patches.shape
        prefix, count = jnp.concatenate([token[...] for token in self.prefix], 1), len(self.prefix)
        positions = self.positions[...]
        prefix = jnp.broadcast_to(prefix + positions[:, :count], (n, count, width))
        at_patches = positions[:, count:].reshape(*self.grid, width)
        if (rows, columns) != self.grid:
            down, along = (
                jnp.asarray(_bicubic(old, new), patches.dtype)
                for old, new in zip(self.grid, (rows, columns), strict=True)
            )
            at_patches = jnp.einsum("ri,cj,ijd->rcd", down, along, at_patches)
        return Tokens(prefix, patches + at_patches[None])


def _bicubic(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The weights of PyTorch's bicubic interpolation, without antialiasing, along one axis."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centres).astype(int) - 1
    weights = np.zeros((new, old))
    for tap in range(4):
        distance = np.abs(centres - (first + tap))
        near = (_CUBIC + 2) * distance**3 - (_CUBIC + 3) * distance**2 + 1
        far = _CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        # Beyond an edge its own value is repeated.
        np.add.at(
            weights,
            (np.arange(new), np.clip(first + tap, 0, old - 1)),
            np.where(distance <= 1, near, far),
        )
    return weights


def read_prefix(tokens: Tokens) -> Float[Array, "n t d"]:
    """The tokens that the answer is read from."""
    return tokens.prefix


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heads:
    """The mean of the logits that each token of the prefix gives by its own head."""

    heads: tuple[nnx.Linear, ...]

    def __call__(self, prefix):
        logits = [head(prefix[:, index]) for index, head in enumerate(self.heads)]
        return sum(logits[1:], logits[0]) / len(logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Attend:
    """A transformer's logits and attention maps, which offsets are added to.

    Attributes:
      before, blocks, after: its parts, of which the blocks attend.
    """

    before: Part
    blocks: tuple[TransformerBlock, ...]
    after: Part

    def __call__(self, image, offsets):
        batch, (before, blocks, after) = batched(image, (self.before, self.blocks, self.after))
        for function in before:
            batch = function(batch)
        maps = []
        for index, block in enumerate(blocks):
            offset = None if offsets is None else offsets[index][None]
            batch, attention = block.attended(batch, offset)
            maps.append(attention[0])
        for function in after:
            batch = function(batch)
        return batch[0], jnp.stack(maps)


@dataclasses.dataclass(frozen=True)
class PrefixRows:
    """The mean relevance of the patches for the tokens that the answer is read from.

    Attributes:
      count: of those tokens.
      patch: the side of a patch.
    """

    count: int
    patch: int

    def __call__(self, relevance, image):
        height, width, _ = image.shape
        grid = (height // self.patch, width // self.patch)
        return relevance[: self.count, self.count :].mean(0).reshape(grid)


class VisionTransformer(Network):
    """A vision transformer from an image in [0, 1] to logits.

    Its parts are `normalization`, `patches`, `block 1` to `block n`, `norm` and `logits`. From
    `patches` to the last block but one a cut carries `Tokens`, and its map (i, j, d) is that of
    the patches. Behind the last block nothing but the class token is read, so that its part hands
    on no patches: the deepest layer with a map is `block n-1`. `attention` lays the maps of all
    blocks open. `gelu` is an attribute of each block's `mlp`.

    An image of another size has another grid of patches, for which the positions are interpolated;
    what does not fill a patch at its right and lower edges is not seen.

    Args:
      depth: the number of blocks.
      width: channels of a token; DeiT-Ti has 192, S 384, B 768.
      heads: of the attention, which divide the width: 3, 6, 12.
      size: height and width of the image that the positions are for.
      patch: the side of a patch.
      distilled: whether there is a second token and head, which learnt from a teacher; the logits
        are the mean of both.
      epsilon: added to variances: 1e-6 in timm, 1e-12 in Hugging Face's networks.
      num_classes, channels, mean, std, rngs: see the room.

    Raises:
      ValueError: the width is no multiple of the heads, or a patch is larger than the size.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> network = VisionTransformer(
      ...     2, 10, width=12, heads=3, size=(16, 16), patch=4, rngs=nnx.Rngs(0)
      ... )
      >>> network(jnp.zeros((16, 16, 3))).shape, network.layer("block 1").map(
      ...     jnp.zeros((8, 20, 3))
      ... ).shape
      ((10,), (2, 5, 12))

    Reference: Dosovitskiy et al. 2020, arXiv:2010.11929; distillation, Touvron, Cord, Douze, Massa,
    Sablayrolles, Jegou 2020, arXiv:2012.12877.
    """

    to_map = staticmethod(patch_map)

    def __init__(
        self,
        depth: int,
        num_classes: int,
        *,
        width: int,
        heads: int,
        size: tuple[int, int] = (224, 224),
        patch: int = 16,
        distilled: bool = False,
        epsilon: float = 1e-6,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"expected a width that {heads} heads divide, got {width}")
        if min(size) < patch:
            raise ValueError(f"expected a size of at least {patch}x{patch}, got {tuple(size)}")
        self.depth, self.num_classes, self.width, self.heads = depth, num_classes, width, heads
        self.size, self.patch = tuple(size), patch
        self.distilled, self.epsilon = distilled, epsilon

        # The names are timm's.
        self.normalization = normalization(channels, mean, std)
        self.patch_embed = nnx.Dict(proj=Patches(channels, width, patch, rngs=rngs))
        self.cls_token = nnx.Param(_INITIAL(rngs.params(), (1, 1, width)))
        self.dist_token = nnx.Param(_INITIAL(rngs.params(), (1, 1, width))) if distilled else None
        rows, columns = self.grid
        count = 1 + distilled + rows * columns
        self.pos_embed = nnx.Param(_INITIAL(rngs.params(), (1, count, width)))
        self.blocks = nnx.List(
            [TransformerBlock(width, heads, epsilon, rngs=rngs) for _ in range(depth)]
        )
        self.norm = LayerNorm(width, epsilon)
        self.head = nnx.Linear(width, num_classes, kernel_init=_INITIAL, rngs=rngs)
        self.head_dist = (
            nnx.Linear(width, num_classes, kernel_init=_INITIAL, rngs=rngs) if distilled else None
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches in height and width of an image of the size."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "depth": self.depth,
            "num_classes": self.num_classes,
            "width": self.width,
            "heads": self.heads,
            "size": self.size,
            "patch": self.patch,
            "distilled": self.distilled,
            "epsilon": self.epsilon,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    @property
    def attention(self) -> Attention:
        """The attention of all blocks laid open."""
        parts = self.parts()
        before = (*parts["normalization"], *parts["patches"])
        after = (read_prefix, *parts["norm"], *parts["logits"])
        attend = Attend(before, tuple(self.blocks), after)
        return Attention(attend, PrefixRows(1 + self.distilled, self.patch))

    def parts(self) -> dict[str, Part]:
        prefix = tuple(token for token in (self.cls_token, self.dist_token) if token is not None)
        heads = tuple(head for head in (self.head, self.head_dist) if head is not None)
        *blocks, last = self.blocks
        return {
            "normalization": (self.normalization,),
            "patches": (Embedding(self.patch_embed.proj, prefix, self.pos_embed, self.grid),),
            **{f"block {number}": (block,) for number, block in enumerate(blocks, 1)},
            f"block {self.depth}": (last, read_prefix),
            "norm": (self.norm,),
            "logits": (Heads(heads),),
        }
