"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): a convolutional network after the transformers."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from ._convolution import depthwise_convolution
from ._parts import Network, Part, normalization, spatial_mean
from ._vision_transformer import LayerNorm, Patches, Perceptron

# Hugging Face's has 1e-12 in the last norm; its variances are far above both.
_EPSILON = 1e-6
_KERNEL = 7
_PADDING = ((3, 3), (3, 3))
_SCALE = 1e-6


class DepthwiseConvolution(nnx.Module):
    """Every channel convolved with a kernel of its own, 7x7, stride 1, zeros outside."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        initialize = nnx.initializers.truncated_normal(0.02)
        self.kernel = nnx.Param(initialize(rngs.params(), (_KERNEL, _KERNEL, 1, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, images):
        convolved = depthwise_convolution(images, self.kernel[...], padding=_PADDING)
        return convolved + self.bias[...].reshape(1, 1, 1, -1)


class ConvNextBlock(nnx.Module):
    """x + gamma mlp(norm(conv_dw(x)))."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.conv_dw = DepthwiseConvolution(width, rngs=rngs)
        self.norm = LayerNorm(width, _EPSILON)
        self.mlp = Perceptron(width, rngs=rngs)
        self.gamma = nnx.Param(jnp.full(width, _SCALE))

    def __call__(self, images):
        residual = self.mlp(self.norm(self.conv_dw(images)))
        return images + self.gamma[...].reshape(1, 1, 1, -1) * residual


class ConvNextStage(nnx.Module):
    """Blocks; those of later stages after halving the sides by 2x2 patches."""

    def __init__(self, inputs: int, width: int, blocks: int, *, rngs: nnx.Rngs):
        halves = inputs != width
        self.downsample = nnx.List(
            [LayerNorm(inputs, _EPSILON), Patches(inputs, width, 2, rngs=rngs)] if halves else []
        )
        self.blocks = nnx.List([ConvNextBlock(width, rngs=rngs) for _ in range(blocks)])


class ConvNext(Network):
    """A ConvNeXt from an image in [0, 1] to logits.

    Its parts are `normalization`, `stem` (4x4 patches), `stage 1` to `stage 4`, `pooling` and
    `logits`. `gelu` is an attribute of each block's `mlp`.

    Args:
      blocks: the number of blocks of each stage: (3, 3, 9, 3) is ConvNeXt-T, (3, 3, 27, 3) S and B.
      width: channels of the first stage, 96 in T and S, 128 in B; each further stage has twice as
        many.
      num_classes, channels, mean, std, rngs: see the room.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> network = ConvNext((1, 1), 10, width=4, rngs=nnx.Rngs(0))
      >>> network(jnp.zeros((16, 16, 3))).shape, network.layers[1:4]
      ((10,), ('stem', 'stage 1', 'stage 2'))

    Reference: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie 2022, arXiv:2201.03545.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        num_classes: int,
        *,
        width: int,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        self.blocks, self.num_classes, self.width = tuple(blocks), num_classes, width

        # The names are timm's.
        self.normalization = normalization(channels, mean, std)
        self.stem = nnx.List([Patches(channels, width, 4, rngs=rngs), LayerNorm(width, _EPSILON)])
        stages, inputs = [], width
        for stage, count in enumerate(self.blocks):
            stages.append(ConvNextStage(inputs, width * 2**stage, count, rngs=rngs))
            inputs = width * 2**stage
        self.stages = nnx.List(stages)
        last = nnx.Linear(
            inputs, num_classes, kernel_init=nnx.initializers.truncated_normal(0.02), rngs=rngs
        )
        self.head = nnx.Dict(norm=LayerNorm(inputs, _EPSILON), fc=last)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "blocks": self.blocks,
            "num_classes": self.num_classes,
            "width": self.width,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    def parts(self) -> dict[str, Part]:
        return {
            "normalization": (self.normalization,),
            "stem": tuple(self.stem),
            **{
                f"stage {number}": (*stage.downsample, *stage.blocks)
                for number, stage in enumerate(self.stages, 1)
            },
            "pooling": (spatial_mean, self.head.norm),
            "logits": (self.head.fc,),
        }
