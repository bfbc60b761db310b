"""Residual networks with pre-activation (He et al. 2016, arXiv:1603.05027), wide ones among them.

The robust checkpoints of CIFAR-10 are mostly of this kind: the PreAct ResNet-18 and Wide ResNets.
"""

import functools
from typing import Any

import jax
from flax import nnx

from ._parts import Network, Part, normalization, spatial_mean
from ._resnet import Convolution, batch_norm, residual_stages, stage_parts


class PreActBlock(nnx.Module):
    """x + conv3x3(relu(bn(conv3x3(a)))) with a = relu(bn(x)); a new shape takes a 1x1 shortcut."""

    folds = (("bn2", "conv1"),)

    def __init__(self, inputs: int, width: int, *, stride: int, raw_shortcut: bool, rngs: nnx.Rngs):
        self.bn1 = batch_norm(inputs, rngs)
        self.conv1 = Convolution(inputs, width, 3, stride=stride, rngs=rngs)
        self.bn2 = batch_norm(width, rngs)
        self.conv2 = Convolution(width, width, 3, rngs=rngs)
        changes = stride != 1 or inputs != width
        self.shortcut = Convolution(inputs, width, 1, stride=stride, rngs=rngs) if changes else None
        self.raw_shortcut = raw_shortcut
        self.relu = jax.nn.relu

    def __call__(self, images):
        active = self.relu(self.bn1(images))
        residual = self.conv2(self.relu(self.bn2(self.conv1(active))))
        if self.shortcut:
            images = self.shortcut(images if self.raw_shortcut else active)
        return images + residual


class PreActResNet(Network):
    """A residual network whose blocks normalize and rectify before they convolve.

    For images of 32x32: its stem is one 3x3 convolution. Its parts are `normalization`, `stem`,
    `stage 1` to `stage n`, with `final_norm` also `rectification`, then `pooling` and `logits`;
    `relu` is an attribute as in `ResNet`.

    Args:
      blocks: the number of blocks of each stage: (2, 2, 2, 2) is the PreAct ResNet-18, (n, n, n)
        the Wide ResNet of 6 n + 4 layers.
      width: channels of the first stage; each further stage has twice as many. 64, or 16 f for a
        Wide ResNet that is f times as wide.
      stem_width: channels of the stem, `width` if left out; 16 for Wide ResNets.
      raw_shortcut: whether 1x1 shortcuts take a block's input as it comes, not normalized and
        rectified, as in Wong et al. 2020, arXiv:2001.03994.
      final_norm: whether the last feature map is normalized and rectified; Wong et al. do without.
      num_classes, channels, mean, std, rngs: see the room.

    Raises:
      ValueError: for lists whose lengths do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> model = PreActResNet((1, 1, 1), 10, width=8, stem_width=4, rngs=nnx.Rngs(0))
      >>> model(jnp.zeros((32, 32, 3))).shape
      (10,)

    Reference: He, Zhang, Ren, Sun 2016, arXiv:1603.05027; Zagoruyko, Komodakis 2016,
    arXiv:1605.07146.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        num_classes: int,
        *,
        width: int = 64,
        stem_width: int | None = None,
        raw_shortcut: bool = False,
        final_norm: bool = True,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        self.blocks, self.num_classes, self.width = tuple(blocks), num_classes, width
        self.stem_width = width if stem_width is None else stem_width
        self.raw_shortcut, self.final_norm = raw_shortcut, final_norm

        self.normalization = normalization(channels, mean, std)
        self.conv1 = Convolution(channels, self.stem_width, 3, rngs=rngs)
        self.relu = jax.nn.relu
        block = functools.partial(PreActBlock, raw_shortcut=raw_shortcut, rngs=rngs)
        self.stages = residual_stages(block, self.blocks, self.stem_width, width, 1)
        last = width * 2 ** (len(self.blocks) - 1)
        self.bn = batch_norm(last, rngs) if final_norm else None
        self.fc = nnx.Linear(last, num_classes, rngs=rngs)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "blocks": self.blocks,
            "num_classes": self.num_classes,
            "width": self.width,
            "stem_width": self.stem_width,
            "raw_shortcut": self.raw_shortcut,
            "final_norm": self.final_norm,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    def parts(self) -> dict[str, Part]:
        rectification: dict[str, Part] = {"rectification": (self.bn, self.relu)} if self.bn else {}
        return {
            "normalization": (self.normalization,),
            "stem": (self.conv1,),
            **stage_parts(self.stages),
            **rectification,
            "pooling": (spatial_mean,),
            "logits": (self.fc,),
        }
