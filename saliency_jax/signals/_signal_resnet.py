"""A residual network over time, for signals: sound, or a radio's in-phase and quadrature."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..models._parts import Network, Part, normalization, spatial_mean
from ..models._resnet import batch_norm, stage_parts

_KERNEL = 5
_STEM_KERNEL = 16


def time_convolution(
    signals: Float[Array, "n 1 t i"], kernel: Float[Array, "k i o"], *, stride: int = 1
) -> Float[Array, "n 1 t2 o"]:
    """Cross-correlates signals with a kernel over time, with zeros beyond their ends.

    out[n, s, o] = sum_{a, i} signals[n, stride s + a - p, i] kernel[a, i, o]

    It is one matrix product of shifted signals: its derivatives are products too, which a CPU runs
    as fast inside a loop as outside, where convolutions are slow.

    Args:
      signals: (n, 1, t, i).
      kernel: (k, i, o).
      stride: from one output to the next, in samples, 1 to k.

    Returns:
      (n, 1, ceil(t / stride), o); p = (k - stride + 1) // 2 zeros stand before a signal whose
      length is a multiple of the stride, and after it as many as the last output asks for.

    Raises:
      ValueError: stride is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> signal = jnp.arange(4.0).reshape(1, 1, 4, 1)
      >>> print(time_convolution(signal, jnp.ones((3, 1, 1))).ravel())
      [1. 3. 6. 5.]
    """
    size, inputs, outputs = kernel.shape
    if not 1 <= stride <= size:
        raise ValueError(f"expected a stride in 1 .. {size}, got {stride}")
    length = signals.shape[2]
    count = -(-length // stride)
    reach = (count - 1) * stride + 1
    before = (size - stride + 1) // 2
    after = max(0, reach - 1 + size - before - length)
    padded = jnp.pad(signals, ((0, 0), (0, 0), (before, after), (0, 0)))
    taps = [padded[:, :, tap : tap + reach : stride] for tap in range(size)]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(size * inputs, outputs)


class TimeConvolution(nnx.Module):
    """A bias-free layer over `time_convolution`, He-initialized by its fan-in."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, rngs: nnx.Rngs):
        initialize = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
        self.kernel = nnx.Param(initialize(rngs.params(), (size, inputs, outputs)))
        self.stride = stride

    def __call__(self, signals):
        return time_convolution(signals, self.kernel[...], stride=self.stride)


class TimeBlock(nnx.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))), with a projection of x where its shape changes."""

    folds = (("bn1", "conv1"), ("bn2", "conv2"), ("bn3", "projection"))

    def __init__(self, inputs: int, width: int, *, stride: int, rngs: nnx.Rngs):
        convolution = functools.partial(TimeConvolution, rngs=rngs)
        self.conv1 = convolution(inputs, width, _KERNEL, stride=stride)
        self.bn1 = batch_norm(width, rngs)
        self.conv2 = convolution(width, width, _KERNEL)
        self.bn2 = batch_norm(width, rngs)
        changes = stride != 1 or inputs != width
        self.projection = convolution(inputs, width, stride, stride=stride) if changes else None
        self.bn3 = batch_norm(width, rngs) if changes else None
        self.relu = jax.nn.relu

    def __call__(self, signals):
        residual = self.relu(self.bn1(self.conv1(signals)))
        residual = self.bn2(self.conv2(residual))
        if self.projection is not None and self.bn3 is not None:
            signals = self.bn3(self.projection(signals))
        return self.relu(signals + residual)


class SignalResNet(Network):
    """A residual network from a signal to logits.

    A signal is an image of one row, (1, t, c), so that every method for images takes it. The stem
    is a convolution over 16 samples; each stage after the first halves the time again. Its parts
    are `normalization`, `stem`, `stage 1` to `stage n`, `pooling` and `logits`.

    Args:
      widths: the channels of each stage.
      blocks: the number of blocks of each stage.
      stem_stride: how many samples the stem goes on at a time, 1 to 16.
      num_classes, channels, mean, std, rngs: see `saliency_jax.models`.

    Raises:
      ValueError: for lists whose lengths do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> network = SignalResNet(9, widths=(4, 8), rngs=nnx.Rngs(0))
      >>> signal = jnp.zeros((1, 64, 2))
      >>> layer = network.layer("stage 2")
      >>> jax.eval_shape(network, signal).shape, jax.eval_shape(layer.map, signal).shape
      ((9,), (1, 8, 8))

    Reference: O'Shea, Roy, Clancy, Over the Air Deep Learning Based Radio Signal Classification,
    2018, arXiv:1712.04578; He, Zhang, Ren, Sun 2015, arXiv:1512.03385.
    """

    folds = (("bn1", "conv1"),)

    def __init__(
        self,
        num_classes: int,
        *,
        widths: tuple[int, ...] = (32, 48, 64),
        blocks: int = 1,
        stem_stride: int = 4,
        channels: int = 2,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        self.num_classes, self.widths = num_classes, tuple(widths)
        self.blocks, self.stem_stride = blocks, stem_stride

        self.normalization = normalization(channels, mean, std)
        self.conv1 = TimeConvolution(
            channels, widths[0], _STEM_KERNEL, stride=stem_stride, rngs=rngs
        )
        self.bn1 = batch_norm(widths[0], rngs)
        self.relu = jax.nn.relu
        stages, inputs = [], widths[0]
        for stage, width in enumerate(widths):
            strides = [2 if stage else 1, *(1,) * (blocks - 1)]
            inner = [inputs, *(width,) * (blocks - 1)]
            pairs = zip(inner, strides, strict=True)
            row = [TimeBlock(before, width, stride=stride, rngs=rngs) for before, stride in pairs]
            stages.append(nnx.List(row))
            inputs = width
        self.stages = nnx.List(stages)
        self.fc = nnx.Linear(inputs, num_classes, rngs=rngs)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "num_classes": self.num_classes,
            "widths": self.widths,
            "blocks": self.blocks,
            "stem_stride": self.stem_stride,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    def parts(self) -> dict[str, Part]:
        return {
            "normalization": (self.normalization,),
            "stem": (self.conv1, self.bn1, self.relu),
            **stage_parts(self.stages),
            "pooling": (spatial_mean,),
            "logits": (self.fc,),
        }
