"""Residual networks (He et al. 2015, arXiv:1512.03385) in Flax NNX, made to be looked into."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ._convolution import Padding, convolution
from ._parts import Network, Part, normalization, spatial_mean

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    # Section 4.2, for CIFAR-10: 6 n + 2 layers, in three stages of n blocks.
    20: (3, 3, 3),
    32: (5, 5, 5),
    44: (7, 7, 7),
    56: (9, 9, 9),
    110: (18, 18, 18),
}
_BOTTLENECK_DEPTHS = (50, 101, 152)
_BATCH_NORM_MOMENTUM = 0.9
_BATCH_NORM_EPSILON = 1e-5


class Stem(NamedTuple):
    """The first convolution: its kernel size and stride, and whether a 3x3/2 max-pool follows."""

    kernel_size: int
    stride: int
    max_pool: bool


IMAGENET_STEM = Stem(kernel_size=7, stride=2, max_pool=True)
SMALL_IMAGE_STEM = Stem(kernel_size=3, stride=1, max_pool=False)
HALVING_STEM = Stem(kernel_size=3, stride=2, max_pool=False)
_EVEN_KERNEL = 4


def average_pool(images: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Mean over 2x2 windows with stride 2; an odd last row or column is averaged with itself.

    Args:
      images: (n, h, w, c).

    Returns:
      (n, ceil(h / 2), ceil(w / 2), c).

    Example:
      >>> import jax.numpy as jnp
      >>> average_pool(jnp.arange(6.0).reshape(1, 2, 3, 1))[0, :, :, 0].tolist()
      [[2.0, 3.5]]
    """
    n, h, w, c = images.shape
    if h % 2 or w % 2:
        images = jnp.pad(images, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    return images.reshape(n, (h + 1) // 2, 2, (w + 1) // 2, 2, c).mean((2, 4))


def max_pool(images: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Maximum over 3x3 windows with stride 2 and a border of one, as shifted maxima.

    The gradient of shifted maxima is four times as fast on a CPU as that of a window reduction.

    Args:
      images: (n, h, w, c).

    Returns:
      (n, ceil(h / 2), ceil(w / 2), c).

    Example:
      >>> import jax.numpy as jnp
      >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
    """
    for axis in (1, 2):
        size = images.shape[axis]
        margin = [(0, 0)] * 4
        margin[axis] = (1, 1 + size % 2)
        padded = jnp.pad(images, margin, constant_values=-jnp.inf)
        taps = [
            jax.lax.slice_in_dim(padded, start, start + 2 * ((size - 1) // 2) + 1, 2, axis)
            for start in range(3)
        ]
        images = functools.reduce(jnp.maximum, taps)
    return images


class Convolution(nnx.Module):
    """A bias-free convolution layer over `convolution`, He-initialized by its fan-out."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, rngs: nnx.Rngs):
        initialize = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
        self.kernel = nnx.Param(initialize(rngs.params(), (size, size, inputs, outputs)))
        self.stride = stride

    @staticmethod
    def edges(size: tuple[int, int], kernel_size: int, stride: int) -> Padding:
        """The rows and columns of zeros around an image."""
        margin = (kernel_size - 1) // 2
        even = stride == 2 and kernel_size == _EVEN_KERNEL
        # As many outputs as a 3x3 kernel or a pool has on an odd side.
        bottom, right = (margin + (side % 2 if even else 0) for side in size)
        return (margin, bottom), (margin, right)

    def __call__(self, images):
        size = self.kernel.shape[0]
        (top, bottom), (left, right) = self.edges(images.shape[1:3], size, self.stride)
        if (bottom, right) != (top, left):
            images = jnp.pad(images, ((0, 0), (0, bottom - top), (0, right - left), (0, 0)))
        return convolution(images, self.kernel[...], stride=self.stride, padding=top)


def batch_norm(
    features: int,
    rngs: nnx.Rngs,
    *,
    epsilon: float = _BATCH_NORM_EPSILON,
    momentum: float = _BATCH_NORM_MOMENTUM,
) -> nnx.BatchNorm:
    # Flax's default is the statistics of the batch, even after merging; inference is ours.
    return nnx.BatchNorm(
        features, use_running_average=True, momentum=momentum, epsilon=epsilon, rngs=rngs
    )


class Shortcut(nnx.Module):
    """The 1x1 projection of a residual whose shape changes, with 2x2 means first if `even`."""

    folds = (("bn", "conv"),)

    def __init__(self, inputs: int, outputs: int, *, stride: int, even: bool, rngs: nnx.Rngs):
        self.pool = average_pool if even and stride == 2 else None
        self.conv = Convolution(inputs, outputs, 1, stride=1 if self.pool else stride, rngs=rngs)
        self.bn = batch_norm(outputs, rngs)

    def __call__(self, images):
        return self.bn(self.conv(self.pool(images) if self.pool else images))


class PaddedShortcut(nnx.Module):
    """Every second pixel, or 2x2 means if `even`, with channels of zeros on both sides."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, even: bool, rngs: nnx.Rngs):
        self.pool = average_pool if even and stride == 2 else None
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def __call__(self, images):
        maps = self.pool(images) if self.pool else images[:, :: self.stride, :: self.stride]
        return jnp.pad(maps, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


def _strided_size(stride: int, even: bool) -> int:
    return _EVEN_KERNEL if even and stride == 2 else 3


class BasicBlock(nnx.Module):
    """relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))), of depths 18 and 34 and those for CIFAR-10."""

    expansion = 1
    folds = (("bn1", "conv1"), ("bn2", "conv2"))

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int,
        even: bool,
        shortcut: type[Shortcut] | type[PaddedShortcut],
        rngs: nnx.Rngs,
    ):
        size = _strided_size(stride, even)
        self.conv1 = Convolution(inputs, width, size, stride=stride, rngs=rngs)
        self.bn1 = batch_norm(width, rngs)
        self.conv2 = Convolution(width, width, 3, rngs=rngs)
        self.bn2 = batch_norm(width, rngs)
        changes = stride != 1 or inputs != width
        self.shortcut = (
            shortcut(inputs, width, stride=stride, even=even, rngs=rngs) if changes else None
        )
        self.relu = jax.nn.relu

    def __call__(self, images):
        residual = self.relu(self.bn1(self.conv1(images)))
        residual = self.bn2(self.conv2(residual))
        return self.relu((self.shortcut(images) if self.shortcut else images) + residual)


class BottleneckBlock(nnx.Module):
    """relu(x + 1x1, 3x3, 1x1 convolutions of x), of depths 50, 101, 152; the 3x3 has the stride."""

    expansion = 4
    folds = (("bn1", "conv1"), ("bn2", "conv2"), ("bn3", "conv3"))

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int,
        even: bool,
        widening: int,
        rngs: nnx.Rngs,
    ):
        outputs, inner = width * self.expansion, width * widening
        self.conv1 = Convolution(inputs, inner, 1, rngs=rngs)
        self.bn1 = batch_norm(inner, rngs)
        size = _strided_size(stride, even)
        self.conv2 = Convolution(inner, inner, size, stride=stride, rngs=rngs)
        self.bn2 = batch_norm(inner, rngs)
        self.conv3 = Convolution(inner, outputs, 1, rngs=rngs)
        self.bn3 = batch_norm(outputs, rngs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = (
            Shortcut(inputs, outputs, stride=stride, even=even, rngs=rngs) if changes else None
        )
        self.relu = jax.nn.relu

    def __call__(self, images):
        residual = self.relu(self.bn1(self.conv1(images)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu((self.shortcut(images) if self.shortcut else images) + residual)


def residual_stages(
    block: Callable[..., nnx.Module],
    counts: Sequence[int],
    inputs: int,
    width: int,
    expansion: int,
):
    """Stages of `counts` blocks, each after the first with stride 2 and twice as wide."""
    stages = []
    for stage, count in enumerate(counts):
        blocks = []
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            blocks.append(block(inputs, width * 2**stage, stride=stride))
            inputs = width * 2**stage * expansion
        stages.append(nnx.List(blocks))
    return nnx.List(stages)


def stage_parts(stages: Sequence[Sequence[Callable]]) -> dict[str, Part]:
    """The blocks of each stage as the parts `stage 1` to `stage n`."""
    return {f"stage {number}": tuple(blocks) for number, blocks in enumerate(stages, 1)}


class ResNet(Network):
    """A residual network from an image in [0, 1] to logits.

    Its parts are `normalization`, `stem`, `stage 1` to `stage 4` (3 for the networks of section
    4.2), `pooling` and `logits`. `relu` is an attribute of the network and of every block:
    `flax.nnx.with_attributes(network, relu=other)` is the same network with another rectifier,
    sharing the weights.

    Args:
      depth: 18, 34, 50, 101 or 152; or 20, 32, 44, 56 or 110, the networks of section 4.2 of the
        paper, with three stages and shortcuts without weights.
      width: channels of the first stage, 64 in the paper (16 in section 4.2); stages have 1, 2, 4,
        8 times as many.
      stem: `IMAGENET_STEM` (7x7 stride 2, max-pool), `SMALL_IMAGE_STEM` (3x3 stride 1),
        `HALVING_STEM` (3x3 stride 2), or any other `Stem`.
      even: whether what has stride 2 reaches every pixel equally often, which keeps
        checkerboards out of gradients and visualizations: 4x4 kernels in place of 3x3 (Odena et
        al. 2016, "Deconvolution and checkerboard artifacts") and means over 2x2 ahead of the 1x1
        shortcut (ResNet-D of He et al. 2018, arXiv:1812.01187).
      widening: how many times as many channels are inside the blocks of depths 50, 101 and 152:
        2 for the Wide ResNet-50-2.
      num_classes, channels, mean, std, rngs: see the room.

    Raises:
      ValueError: for an unknown depth, or lists whose lengths do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> network = ResNet(18, 10, width=4, stem=HALVING_STEM, rngs=nnx.Rngs(0))
      >>> network(jnp.zeros((16, 16, 3))).shape, network.layers[:3]
      ((10,), ('normalization', 'stem', 'stage 1'))
      >>> jax.vmap(network)(jnp.zeros((2, 16, 16, 3))).shape
      (2, 10)
      >>> network.layer("stage 2").map(jnp.zeros((16, 16, 3))).shape
      (4, 4, 8)

    Reference: He, Zhang, Ren, Sun 2015, arXiv:1512.03385; the stride on the 3x3 convolution as in
    Goyal et al. 2017, arXiv:1706.02677; wider blocks, Zagoruyko, Komodakis 2016, arXiv:1605.07146.
    """

    folds = (("bn1", "conv1"),)

    def __init__(
        self,
        depth: int,
        num_classes: int,
        *,
        width: int = 64,
        stem: Stem | tuple[int, int, bool] = IMAGENET_STEM,
        even: bool = False,
        widening: int = 1,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        if depth not in STAGES:
            raise ValueError(
                f"expected a depth of {', '.join(map(str, sorted(STAGES)))}, got {depth}"
            )
        if widening != 1 and depth not in _BOTTLENECK_DEPTHS:
            raise ValueError(f"expected a widening of 1 at depth {depth}, got {widening}")
        stem = Stem(*stem)  # From a config it is any sequence.
        self.depth, self.num_classes, self.width, self.stem = depth, num_classes, width, stem
        self.even, self.widening = even, widening

        self.normalization = normalization(channels, mean, std)
        size = _strided_size(stem.stride, even) if stem.kernel_size == 3 else stem.kernel_size
        self.conv1: Callable = Convolution(channels, width, size, stride=stem.stride, rngs=rngs)
        self.bn1 = batch_norm(width, rngs)
        self.relu = jax.nn.relu
        block: Callable[..., nnx.Module]
        if depth in _BOTTLENECK_DEPTHS:
            expansion = BottleneckBlock.expansion
            block = functools.partial(BottleneckBlock, even=even, widening=widening, rngs=rngs)
        else:
            expansion = BasicBlock.expansion
            shortcut = Shortcut if len(STAGES[depth]) == 4 else PaddedShortcut
            block = functools.partial(BasicBlock, even=even, shortcut=shortcut, rngs=rngs)
        self.stages = residual_stages(block, STAGES[depth], width, width, expansion)
        last = width * 2 ** (len(STAGES[depth]) - 1) * expansion
        self.fc = nnx.Linear(last, num_classes, rngs=rngs)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "depth": self.depth,
            "num_classes": self.num_classes,
            "width": self.width,
            "stem": self.stem,
            "even": self.even,
            "widening": self.widening,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    def parts(self) -> dict[str, Part]:
        pool = (max_pool,) if self.stem.max_pool else ()
        return {
            "normalization": (self.normalization,),
            "stem": (self.conv1, self.bn1, self.relu, *pool),
            **stage_parts(self.stages),
            "pooling": (spatial_mean,),
            "logits": (self.fc,),
        }
