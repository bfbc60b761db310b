"""A residual network over the log-mel spectrogram of a sound, which is the first part of it."""

import functools
import os

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .. import sound, spectrograms
from .resnet import (
    BasicBlock,
    Convolution,
    ResNet,
    Shortcut,
    batch_norm,
    residual_stages,
)

_STEM_KERNEL = 4


class SpectrogramResNet(ResNet):
    """A residual network from a sound to logits: from_spectrogram(front_end(sound)).

    A sound is an image of one row, (1, t, 1), so that every method for images takes it. So is its
    spectrogram, of frames by bands: `jax.tree_util.Partial(SpectrogramResNet.from_spectrogram,
    model)` is a model of it, and maps for that one lie over time and frequency. All else is as in
    `ResNet`, but that the head keeps frequencies apart: its mean is over time alone.

    Args:
      num_classes: the number of logits k.
      sample_rate: of the sound, in hertz.
      window_size: of the short-time Fourier transform, in samples.
      hop: from one frame to the next, in samples.
      num_bands: bands of the mel scale, from 0 to half the sample rate.
      width: channels of the first stage; each later one has twice as many.
      blocks: how many blocks each stage has; the stem and each stage after the first halve time and
        frequency.
      channels: 1.
      mean: subtracted from the sound, in a tuple of one.
      std: by which the difference is divided, in a tuple of one.
      input_size: (1, t), the length trained for; any other that holds a window runs as well.
      class_names: a name for each logit, or none.
      rngs: where the initial weights come from.

    Raises:
      ValueError: there is another number of channels than 1, or lists whose lengths do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> model = SpectrogramResNet(10, width=4, rngs=nnx.Rngs(0))
      >>> model.front_end(jnp.zeros((1, 8000, 1))).shape, model(jnp.zeros((1, 8000, 1))).shape
      ((97, 40, 1), (10,))

    Reference: He, Zhang, Ren, Sun 2015, arXiv:1512.03385; Davis, Mermelstein, 1980, on the log-mel
    spectrogram.
    """

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
        input_size: tuple[int, int] = (1, 8000),
        class_names: tuple[str, ...] = (),
        rngs: nnx.Rngs,
    ):
        if channels != 1:
            raise ValueError(f"expected a sound of 1 channel, got {channels}")
        self._describe(num_classes, channels, mean, std, input_size, None, class_names)
        self.sample_rate, self.window_size, self.hop = sample_rate, window_size, hop
        self.num_bands, self.width, self.blocks = num_bands, width, tuple(blocks)

        # The level's mean and spread are learnt, whatever the sounds' loudness.
        self.bn0 = batch_norm(1, rngs)
        self.conv1 = Convolution(1, width, _STEM_KERNEL, stride=2, rngs=rngs)
        self.bn1 = batch_norm(width, rngs)
        self.relu = jax.nn.relu
        block = functools.partial(BasicBlock, even=True, shortcut=Shortcut, rngs=rngs)
        self.stages = residual_stages(block, self.blocks, width, width, BasicBlock.expansion)
        bands = -(-num_bands // 2 ** len(self.blocks))
        self.fc = nnx.Linear(bands * width * 2 ** (len(self.blocks) - 1), num_classes, rngs=rngs)

    def preprocess(
        self, image: str | os.PathLike | Float[np.ndarray, "t"] | Float[Array, "t"]
    ) -> Float[np.ndarray, "1 length 1"]:
        """A sound as the model takes it: at its sample rate, in the middle of a clip.

        Args:
          image: the path of a WAV file, or a sound (t,) in [-1, 1] at the model's sample rate.

        Returns:
          (1, t, 1) of `input_size`.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is no WAV file.

        Example:
          >>> import numpy as np
          >>> model = SpectrogramResNet(10, width=4, rngs=nnx.Rngs(0))
          >>> model.preprocess(np.zeros(5000, np.float32)).shape
          (1, 8000, 1)
        """
        if isinstance(image, str | os.PathLike):
            samples = sound.read(image, self.sample_rate)
        else:
            samples = np.asarray(image, np.float32)
        return sound.centre(samples, self.input_size[1])[None, :, None]

    def front_end(self, signal: Float[Array, "*n 1 t 1"]) -> Float[Array, "*n frames bands 1"]:
        """The log-mel spectrogram of a sound, `spectrograms.log_mel`, after its normalization.

        Args:
          signal: (1, t, 1) or (n, 1, t, 1), usually in [-1, 1].

        Returns:
          (frames, bands, 1) or (n, frames, bands, 1), in decibels.

        Raises:
          ValueError: the signal has another shape.
        """
        if signal.ndim not in (3, 4) or (signal.shape[-3], signal.shape[-1]) != (1, 1):
            raise ValueError(f"expected a sound (1, t, 1) or a batch of them, got {signal.shape}")
        if signal.ndim == 4:
            return jax.vmap(self.front_end)(signal)
        level = spectrograms.log_mel(
            (signal[0, :, 0] - self.mean[0]) / self.std[0],
            sample_rate=self.sample_rate,
            window_size=self.window_size,
            hop=self.hop,
            num_bands=self.num_bands,
        )
        return level[..., None]

    def from_spectrogram(
        self, spectrogram: Float[Array, "*n frames bands 1"]
    ) -> Float[Array, "*n k"]:
        """Logits from what `front_end` returns.

        Args:
          spectrogram: (frames, bands, 1) or (n, frames, bands, 1), in decibels.

        Returns:
          (k,) or (n, k) logits.
        """
        return self.head(self._outputs(spectrogram)[-1])

    def stage_outputs(
        self, image: Float[Array, "*n 1 t 1"]
    ) -> tuple[Float[Array, "*n h2 w2 d"], ...]:
        """The feature maps after the stem and after each stage, over time and frequency.

        Args:
          image: a sound (1, t, 1) or a batch of them (n, 1, t, 1).

        Returns:
          One array for the stem and one for each stage, with the batch axis of the sound if it
          had one.

        Raises:
          ValueError: the sound has another shape.
        """
        return self._outputs(self.front_end(image))

    def head(self, feature_map: Float[Array, "*n h2 w2 d"]) -> Float[Array, "*n k"]:
        """Logits from the last feature map: a linear layer on its mean over time.

        Args:
          feature_map: (h2, w2, d) or (n, h2, w2, d), of time, frequency and channels.

        Returns:
          (k,) or (n, k) logits.
        """
        over_time = feature_map.mean(-3)
        return self.fc(over_time.reshape(*over_time.shape[:-2], -1))

    def _outputs(self, spectrogram):
        if spectrogram.ndim == 3:
            return tuple(maps[0] for maps in self._outputs(spectrogram[None]))
        maps = self.relu(self.bn1(self.conv1(self.bn0(spectrogram))))
        outputs = [maps]
        for blocks in self.stages:
            for block in blocks:
                maps = block(maps)
            outputs.append(maps)
        return tuple(outputs)
