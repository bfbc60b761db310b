"""Residual networks with pre-activation (He et al. 2016, arXiv:1603.05027), wide ones among them.

The robust checkpoints of CIFAR-10 are mostly of this kind: the PreAct ResNet-18 and Wide ResNets.
"""

import functools

import jax
from flax import nnx
from jaxtyping import Array, Float

from .resnet import Convolution, ResNet, batch_norm, residual_stages


class PreActBlock(nnx.Module):
    """x + conv3x3(relu(bn(conv3x3(a)))) with a = relu(bn(x)); a new shape takes a 1x1 shortcut."""

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


class PreActResNet(ResNet):
    """A residual network whose blocks normalize and rectify before they convolve.

    For images of 32x32: its stem is one 3x3 convolution. Everything else is as in `ResNet`.

    Args:
      blocks: the number of blocks of each stage: (2, 2, 2, 2) is the PreAct ResNet-18, (n, n, n)
        the Wide ResNet of 6 n + 4 layers.
      num_classes: the number of logits k.
      width: channels of the first stage; each further stage has twice as many. 64, or 16 f for a
        Wide ResNet that is f times as wide.
      stem_width: channels of the stem, `width` if left out; 16 for Wide ResNets.
      raw_shortcut: whether 1x1 shortcuts take a block's input as it comes, not normalized and
        rectified, as in Wong et al. 2020, arXiv:2001.03994.
      final_norm: whether the last feature map is normalized and rectified; Wong et al. do without.
      channels: channels of the image.
      mean: per channel, subtracted from the image, in units of [0, 1].
      std: per channel, by which the difference is divided.
      input_size: the height and width trained for; any other size runs as well.
      resize_size: the height and width that `preprocess` fits an image to before it takes the
        centre of `input_size`; the same size if left out.
      class_names: a name for each logit, or none.
      rngs: where the initial weights come from.

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
        input_size: tuple[int, int] = (32, 32),
        resize_size: tuple[int, int] | None = None,
        class_names: tuple[str, ...] = (),
        rngs: nnx.Rngs,
    ):
        self._describe(num_classes, channels, mean, std, input_size, resize_size, class_names)
        self.blocks, self.width = tuple(blocks), width
        self.stem_width = width if stem_width is None else stem_width
        self.raw_shortcut, self.final_norm = raw_shortcut, final_norm

        self.conv1 = Convolution(channels, self.stem_width, 3, rngs=rngs)
        self.relu = jax.nn.relu
        block = functools.partial(PreActBlock, raw_shortcut=raw_shortcut, rngs=rngs)
        self.stages = residual_stages(block, self.blocks, self.stem_width, width, 1)
        last = width * 2 ** (len(self.blocks) - 1)
        self.bn = batch_norm(last, rngs) if final_norm else None
        self.fc = nnx.Linear(last, num_classes, rngs=rngs)

    def _after_stem(self, images):
        return self.conv1(images)

    def features(self, image: Float[Array, "*n h w c"]) -> Float[Array, "*n h2 w2 d"]:
        """The last feature map, normalized and rectified if so built, before the average pooling.

        Args:
          image: (h, w, c) or (n, h, w, c) in [0, 1].

        Returns:
          (h2, w2, d) or (n, h2, w2, d).

        Raises:
          ValueError: if the rank or the number of channels is another.
        """
        maps = super().features(image)
        return self.relu(self.bn(maps)) if self.bn else maps
