"""EfficientNet-Lite: EfficientNets (Tan, Le 2019) without squeeze-and-excitation, with ReLU6."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ._convolution import convolution, depthwise_convolution, same_padding
from ._parts import Network, Part, normalization, spatial_mean
from ._resnet import Convolution, batch_norm

_EPSILON = 1e-3
_MOMENTUM = 0.99
_STEM_WIDTH = 32
_HEAD_WIDTH = 1280
# Channels are multiples of this.
_DIVISOR = 8


class _Stage(NamedTuple):
    blocks: int
    kernel_size: int
    stride: int
    expansion: int
    width: int


# Table 1 of the paper.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def _scaled_width(channels: int, width: float) -> int:
    scaled = channels * width
    rounded = max(_DIVISOR, int(scaled + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return rounded + _DIVISOR if rounded < 0.9 * scaled else rounded


def _norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return batch_norm(features, rngs, epsilon=_EPSILON, momentum=_MOMENTUM)


class SameConvolution(Convolution):
    """A bias-free convolution layer with TensorFlow's padding SAME."""

    edges = staticmethod(same_padding)

    def __call__(self, images):
        edges = self.edges(images.shape[1:3], self.kernel.shape[0], self.stride)
        padded = jnp.pad(images, ((0, 0), *edges, (0, 0)))
        return convolution(padded, self.kernel[...], stride=self.stride)


class DepthwiseConvolution(nnx.Module):
    """A bias-free depthwise convolution layer with TensorFlow's padding SAME."""

    def __init__(self, channels: int, size: int, *, stride: int, rngs: nnx.Rngs):
        initialize = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
        self.kernel = nnx.Param(initialize(rngs.params(), (size, size, 1, channels)))
        self.stride = stride

    def __call__(self, images):
        padding = same_padding(images.shape[1:3], self.kernel.shape[0], self.stride)
        return depthwise_convolution(images, self.kernel[...], stride=self.stride, padding=padding)


class InvertedBottleneck(nnx.Module):
    """x + project(relu6(depthwise(relu6(expand(x))))), without x where the shape changes."""

    folds = (("bn0", "expand_conv"), ("bn1", "depthwise_conv"), ("bn2", "project_conv"))

    def __init__(self, inputs: int, outputs: int, stage: _Stage, *, stride: int, rngs: nnx.Rngs):
        inner = inputs * stage.expansion
        expands = stage.expansion > 1
        self.expand_conv = Convolution(inputs, inner, 1, rngs=rngs) if expands else None
        self.bn0 = _norm(inner, rngs) if expands else None
        self.depthwise_conv = DepthwiseConvolution(
            inner, stage.kernel_size, stride=stride, rngs=rngs
        )
        self.bn1 = _norm(inner, rngs)
        self.project_conv = Convolution(inner, outputs, 1, rngs=rngs)
        self.bn2 = _norm(outputs, rngs)
        self.residual = stride == 1 and inputs == outputs
        self.relu6 = jax.nn.relu6

    def __call__(self, images):
        maps = images
        if self.expand_conv and self.bn0:
            maps = self.relu6(self.bn0(self.expand_conv(maps)))
        maps = self.relu6(self.bn1(self.depthwise_conv(maps)))
        maps = self.bn2(self.project_conv(maps))
        return images + maps if self.residual else maps


class EfficientNetLite(Network):
    """An EfficientNet-Lite from an image in [0, 1] to logits.

    Its parts are `normalization`, `stem`, `stage 1` to `stage 7`, `head`, `pooling` and `logits`.
    `relu6` is an attribute of the network and of every block:
    `flax.nnx.with_attributes(network, relu6=other)` is the same network with another rectifier,
    sharing the weights. Stem, head and the numbers of blocks of the first and the last stage are
    the same for every size.

    Args:
      num_classes: see the room.
      width: by which the channels of the stages are multiplied, then rounded to multiples of 8.
      depth: by which the numbers of blocks of stages 2 to 6 are multiplied, then rounded up.
        Lite0 has width 1.0 and depth 1.0, Lite1 1.0 and 1.1, Lite2 1.1 and 1.2, Lite3 1.2 and 1.4,
        Lite4 1.4 and 1.8.
      channels, mean, std, rngs: see the room.

    Raises:
      ValueError: width or depth is not above 0, or lists have lengths that do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> network = nnx.eval_shape(lambda: EfficientNetLite(10, rngs=nnx.Rngs(0)))
      >>> image = jnp.zeros((33, 32, 3))
      >>> jax.eval_shape(lambda network: network(image), network).shape, network.layers[-3:]
      ((10,), ('head', 'pooling', 'logits'))
      >>> jax.eval_shape(lambda network: network.layer("stage 7").map(image), network).shape
      (2, 1, 320)

    Reference: Tan, Le 2019, arXiv:1905.11946; the Lite variants,
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
    """

    folds = (("bn0", "conv_stem"), ("bn1", "conv_head"))

    def __init__(
        self,
        num_classes: int,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        if not (width > 0 and depth > 0):
            raise ValueError(f"expected width and depth above 0, got {width} and {depth}")
        self.num_classes, self.width, self.depth = num_classes, width, depth
        self.normalization = normalization(channels, mean, std)
        self.conv_stem = SameConvolution(channels, _STEM_WIDTH, 3, stride=2, rngs=rngs)
        self.bn0 = _norm(_STEM_WIDTH, rngs)
        self.relu6: Callable = jax.nn.relu6
        fixed = (_STAGES[0], _STAGES[-1])
        self.counts = tuple(
            stage.blocks if stage in fixed else math.ceil(depth * stage.blocks) for stage in _STAGES
        )
        blocks, inputs = [], _STEM_WIDTH
        for stage, count in zip(_STAGES, self.counts, strict=True):
            outputs = _scaled_width(stage.width, width)
            for index in range(count):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedBottleneck(inputs, outputs, stage, stride=stride, rngs=rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.conv_head = Convolution(inputs, _HEAD_WIDTH, 1, rngs=rngs)
        self.bn1 = _norm(_HEAD_WIDTH, rngs)
        self.fc = nnx.Linear(_HEAD_WIDTH, num_classes, rngs=rngs)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "num_classes": self.num_classes,
            "width": self.width,
            "depth": self.depth,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    def parts(self) -> dict[str, Part]:
        ends = itertools.accumulate(self.counts)
        stages = {
            f"stage {number}": tuple(self.blocks[end - count : end])
            for number, (count, end) in enumerate(zip(self.counts, ends, strict=True), 1)
        }
        return {
            "normalization": (self.normalization,),
            "stem": (self.conv_stem, self.bn0, self.relu6),
            **stages,
            "head": (self.conv_head, self.bn1, self.relu6),
            "pooling": (spatial_mean,),
            "logits": (self.fc,),
        }
