"""A residual network over the log-mel spectrogram of a sound, which is the first part of it."""

import functools
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from ..models._parts import Network, Part, normalization
from ..models._resnet import (
    BasicBlock,
    Convolution,
    Shortcut,
    batch_norm,
    residual_stages,
    stage_parts,
)
from . import spectrograms

_STEM_KERNEL = 4


class FrontEnd(nnx.Module):
    """Sounds (n, 1, t, 1) to their log-mel spectrograms (n, frames, bands, 1), in decibels."""

    def __init__(self, sample_rate: int, window_size: int, hop: int, num_bands: int):
        self.sample_rate, self.window_size = sample_rate, window_size
        self.hop, self.num_bands = hop, num_bands

    def __call__(self, sounds):
        if sounds.shape[1] != 1:
            raise ValueError(f"expected a sound (1, t, 1), got {sounds.shape[1:]}")
        log_mel = functools.partial(
            spectrograms.log_mel,
            sample_rate=self.sample_rate,
            window_size=self.window_size,
            hop=self.hop,
            num_bands=self.num_bands,
        )
        return jax.vmap(log_mel)(sounds[:, 0, :, 0])[..., None]


def mean_over_time(maps: Float[Array, "n frames bands d"]) -> Float[Array, "n bandsxd"]:
    """The mean over time of each channel in each band, in one row."""
    return maps.mean(1).reshape(len(maps), -1)


class SpectrogramResNet(Network):
    """A residual network from a sound to logits, through its log-mel spectrogram in decibels.

    A sound is an image of one row, (1, t, 1), so that every method for images takes it. So is its
    spectrogram, of frames by bands: with `layer = network.layer("front end")`, `layer.head` is a
    model of `layer.features(sound)`, and maps for that one lie over time and frequency. The parts
    are `normalization`, `front end`, `stem`, `stage 1` to `stage n`, `pooling`, a mean over time
    alone that keeps frequencies apart, and `logits`.

    Args:
      sample_rate: of the sound, in hertz.
      window_size: of the short-time Fourier transform, in samples.
      hop: from one frame to the next, in samples.
      num_bands: bands of the mel scale, from 0 to half the sample rate.
      width: channels of the first stage; each later one has twice as many.
      blocks: how many blocks each stage has; the stem and each stage after the first halve time and
        frequency.
      channels: 1.
      num_classes, mean, std, rngs: see `saliency_jax.models`.

    Raises:
      ValueError: there is another number of channels than 1, or lists whose lengths do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> network = SpectrogramResNet(10, width=4, rngs=nnx.Rngs(0))
      >>> sound = jnp.zeros((1, 8000, 1))
      >>> layer = network.layer("front end")
      >>> jax.eval_shape(layer.map, sound).shape, jax.eval_shape(network, sound).shape
      ((97, 40, 1), (10,))

    Reference: He, Zhang, Ren, Sun 2015, arXiv:1512.03385; Davis, Mermelstein, 1980, on the log-mel
    spectrogram.
    """

    folds = (("bn1", "conv1"),)

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate: int = 8000,
        window_size: int = 256,
        hop: int = 80,
        num_bands: int = 40,
        width: int = 24,
        blocks: tuple[int, ...] = (1, 1, 1),
        channels: int = 1,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        if channels != 1:
            raise ValueError(f"expected a sound of 1 channel, got {channels}")
        self.num_classes, self.width, self.blocks = num_classes, width, tuple(blocks)

        self.normalization = normalization(channels, mean, std)
        self.front_end = FrontEnd(sample_rate, window_size, hop, num_bands)
        # The level's mean and spread are learnt, whatever the sounds' loudness.
        self.bn0 = batch_norm(1, rngs)
        self.conv1 = Convolution(1, width, _STEM_KERNEL, stride=2, rngs=rngs)
        self.bn1 = batch_norm(width, rngs)
        self.relu = jax.nn.relu
        block = functools.partial(BasicBlock, even=True, shortcut=Shortcut, rngs=rngs)
        self.stages = residual_stages(block, self.blocks, width, width, BasicBlock.expansion)
        bands = -(-num_bands // 2 ** len(self.blocks))
        self.fc = nnx.Linear(bands * width * 2 ** (len(self.blocks) - 1), num_classes, rngs=rngs)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "num_classes": self.num_classes,
            "sample_rate": self.front_end.sample_rate,
            "window_size": self.front_end.window_size,
            "hop": self.front_end.hop,
            "num_bands": self.front_end.num_bands,
            "width": self.width,
            "blocks": self.blocks,
            "channels": self.channels,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
        }

    def parts(self) -> dict[str, Part]:
        return {
            "normalization": (self.normalization,),
            "front end": (self.front_end,),
            "stem": (self.bn0, self.conv1, self.bn1, self.relu),
            **stage_parts(self.stages),
            "pooling": (mean_over_time,),
            "logits": (self.fc,),
        }
