"""Residual networks (He et al. 2015, arXiv:1512.03385) in Flax NNX, made to be looked into."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ..data.images import fit, read_image
from .convolution import convolution

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


@dataclasses.dataclass(frozen=True)
class Stem:
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
        self.padding = (size - 1) // 2

    def __call__(self, images):
        if self.stride == 2 and self.kernel.shape[0] == _EVEN_KERNEL:
            # As many outputs as a 3x3 kernel or a pool has on an odd side.
            odd = [(0, side % 2) for side in images.shape[1:3]]
            images = jnp.pad(images, ((0, 0), *odd, (0, 0)))
        return convolution(images, self.kernel[...], stride=self.stride, padding=self.padding)


def batch_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    # Flax's default is the statistics of the batch, even after merging; inference is ours.
    return nnx.BatchNorm(
        features,
        use_running_average=True,
        momentum=_BATCH_NORM_MOMENTUM,
        epsilon=_BATCH_NORM_EPSILON,
        rngs=rngs,
    )


class Shortcut(nnx.Module):
    """The 1x1 projection of a residual whose shape changes, with 2x2 means first if `even`."""

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


class ResNet(nnx.Module):
    """A residual network from an image in [0, 1] to logits: head(features(image)).

    A PyTree and a callable, so it crosses `jax.jit` and `jax.vmap` as an argument. It is built for
    inference: batch normalization uses its running statistics, so a batch equals its singles.
    `relu` is an attribute of the network and of every block:
    `flax.nnx.with_attributes(model, relu=other)` is the same network with another rectifier,
    sharing the weights.

    Args:
      depth: 18, 34, 50, 101 or 152; or 20, 32, 44, 56 or 110, the networks of section 4.2 of the
        paper, with three stages and shortcuts without weights.
      num_classes: the number of logits k.
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
      channels: channels of the image.
      mean: per channel, subtracted from the image, in units of [0, 1].
      std: per channel, by which the difference is divided.
      input_size: the height and width trained for; any other size runs as well.
      resize_size: the height and width that `preprocess` fits an image to before it takes the
        centre of `input_size`; the same size if left out.
      class_names: a name for each logit, or none.
      rngs: where the initial weights come from.

    Raises:
      ValueError: for an unknown depth, or lists whose lengths do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> model = ResNet(18, 10, width=4, stem=HALVING_STEM, rngs=nnx.Rngs(0))
      >>> model(jnp.zeros((16, 16, 3))).shape, model(jnp.zeros((2, 16, 16, 3))).shape
      ((10,), (2, 10))

    Reference: He, Zhang, Ren, Sun 2015, arXiv:1512.03385; the stride on the 3x3 convolution as in
    Goyal et al. 2017, arXiv:1706.02677; wider blocks, Zagoruyko, Komodakis 2016, arXiv:1605.07146.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        *,
        width: int = 64,
        stem: Stem = IMAGENET_STEM,
        even: bool = False,
        widening: int = 1,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        input_size: tuple[int, int] = (224, 224),
        resize_size: tuple[int, int] | None = None,
        class_names: tuple[str, ...] = (),
        rngs: nnx.Rngs,
    ):
        if depth not in STAGES:
            raise ValueError(
                f"expected a depth of {', '.join(map(str, sorted(STAGES)))}, got {depth}"
            )
        if widening != 1 and depth not in _BOTTLENECK_DEPTHS:
            raise ValueError(f"expected a widening of 1 at depth {depth}, got {widening}")
        self._describe(num_classes, channels, mean, std, input_size, resize_size, class_names)
        self.depth, self.width, self.stem = depth, width, stem
        self.even, self.widening = even, widening

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

    def _describe(
        self,
        num_classes: int,
        channels: int,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        input_size: tuple[int, int],
        resize_size: tuple[int, int] | None,
        class_names: tuple[str, ...],
    ) -> None:
        """Keeps what is not a layer, checked."""
        mean = (0.0,) * channels if mean is None else tuple(mean)
        std = (1.0,) * channels if std is None else tuple(std)
        if len(mean) != channels or len(std) != channels:
            raise ValueError(
                f"expected mean and std for {channels} channels, got {len(mean)} and {len(std)}"
            )
        if class_names and len(class_names) != num_classes:
            raise ValueError(f"expected {num_classes} class names, got {len(class_names)}")
        height, width = input_size
        whole_height, whole_width = input_size if resize_size is None else resize_size
        if whole_height < height or whole_width < width:
            raise ValueError(
                f"expected a resize_size of at least the input_size {(height, width)}, "
                f"got {(whole_height, whole_width)}"
            )
        self.num_classes, self.channels, self.mean, self.std = num_classes, channels, mean, std
        self.input_size, self.resize_size = (height, width), (whole_height, whole_width)
        self.class_names = tuple(class_names)

    def preprocess(
        self, image: str | os.PathLike | Float[np.ndarray, "h w c"] | Float[Array, "h w c"]
    ) -> Float[np.ndarray, "height width c"]:
        """An image as the model takes it: fitted to `resize_size`, its centre of `input_size` kept.

        Args:
          image: the path of a file in any format that `data.read_image` reads, or an image
            (h, w, c) in [0, 1].

        Returns:
          (height, width, c) of `input_size` in [0, 1]; a model of one channel gets the mean of
          the colours, normalization is inside the model.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is no image.

        Example:
          >>> import numpy as np
          >>> model = ResNet(18, 10, width=4, resize_size=(256, 256), rngs=nnx.Rngs(0))
          >>> model.preprocess(np.zeros((300, 400, 3), np.float32)).shape
          (224, 224, 3)
        """
        if isinstance(image, str | os.PathLike):
            colored = read_image(image)
            array = colored.mean(-1, keepdims=True) if self.channels == 1 else colored
        else:
            array = image
        fitted = fit(array, self.resize_size)
        top, left = (
            round((whole - part) / 2)
            for whole, part in zip(self.resize_size, self.input_size, strict=True)
        )
        return fitted[top : top + self.input_size[0], left : left + self.input_size[1]]

    def stage_outputs(
        self, image: Float[Array, "*n h w c"]
    ) -> tuple[Float[Array, "*n h2 w2 d"], ...]:
        """The feature maps after the stem and after each stage.

        Args:
          image: (h, w, c) or (n, h, w, c) in [0, 1].

        Returns:
          One array for the stem and one for each stage, with the batch axis of the image if it
          had one.

        Raises:
          ValueError: if the rank or the number of channels is another.
        """
        if image.ndim not in (3, 4) or image.shape[-1] != self.channels:
            raise ValueError(
                f"expected an image (h, w, {self.channels}) or a batch of them, got {image.shape}"
            )
        if image.ndim == 3:
            return tuple(maps[0] for maps in self.stage_outputs(image[None]))
        mean, std = (
            jnp.asarray(constant, image.dtype).reshape(1, 1, 1, -1)
            for constant in (self.mean, self.std)
        )
        maps = self._after_stem((image - mean) / std)
        outputs = [maps]
        for blocks in self.stages:
            for block in blocks:
                maps = block(maps)
            outputs.append(maps)
        return tuple(outputs)

    def _after_stem(self, images):
        maps = self.relu(self.bn1(self.conv1(images)))
        return max_pool(maps) if self.stem.max_pool else maps

    def features(self, image: Float[Array, "*n h w c"]) -> Float[Array, "*n h2 w2 d"]:
        """The last feature map, before global average pooling.

        Args:
          image: (h, w, c) or (n, h, w, c) in [0, 1].

        Returns:
          (h2, w2, d) or (n, h2, w2, d); rectified, so at least 0.

        Raises:
          ValueError: if the rank or the number of channels is another.
        """
        return self.stage_outputs(image)[-1]

    def head(self, feature_map: Float[Array, "*n h2 w2 d"]) -> Float[Array, "*n k"]:
        """Logits from the last feature map: a linear layer on its spatial mean.

        Args:
          feature_map: (h2, w2, d) or (n, h2, w2, d).

        Returns:
          (k,) or (n, k) logits.
        """
        return self.fc(feature_map.mean((-3, -2)))

    def __call__(self, image: Float[Array, "*n h w c"]) -> Float[Array, "*n k"]:
        return self.head(self.features(image))
