"""The TFDS builder of synthesized radio signals, prepared without TensorFlow or a download."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds

from . import radio

SEED = 0
# Examples of each modulation at each signal-to-noise ratio. The order gives each split its key.
COUNTS = {"train": 400, "validation": 25, "test": 50}


class RadioModulations(tfds.core.GeneratorBasedBuilder):
    """Radio signals of nine modulations, each at signal-to-noise ratios from -10 to 20 dB.

    Every example is `radio.receive` of its own key, which depends on the split, the modulation, the
    ratio and a number alone. It holds `iq` (1024, 2), in-phase and quadrature samples of unit
    power; `label`, the modulation; `snr` in dB; `band`, the lowest and the highest frequency that
    the signal occupies, in cycles per sample; and `timing`, the first decision instant in samples,
    one following every 8, nan for AM and FM.

    Reference: O'Shea, Roy, Clancy, Over the Air Deep Learning Based Radio Signal Classification,
    2018, arXiv:1712.04578, whose data set this follows.
    """

    VERSION = tfds.core.Version("1.0.0")
    KIND = "iq"
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "First release."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "iq": tfds.features.Tensor(
                        shape=(radio.LENGTH, 2), dtype=np.float32, encoding="bytes"
                    ),
                    "label": tfds.features.ClassLabel(names=list(radio.MODULATIONS)),
                    "snr": tfds.features.Scalar(np.float32),
                    "band": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                    "timing": tfds.features.Scalar(np.float32),
                }
            ),
            supervised_keys=("iq", "label"),
            homepage="https://arxiv.org/abs/1712.04578",
            description=type(self).__doc__,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        snrs = jnp.array(radio.SNRS, jnp.float32)
        for label, modulation in enumerate(radio.MODULATIONS):
            receive = _receiver(modulation, radio.LENGTH)
            for number in range(COUNTS[split]):
                received = receive(snrs, keys(split, label, number))
                columns = (received.iq, received.band, received.timing, snrs)
                for iq, band, timing, snr in zip(*map(np.asarray, columns), strict=True):
                    yield (
                        f"{modulation}_{snr:g}_{number}",
                        {"iq": iq, "label": label, "snr": snr, "band": band, "timing": timing},
                    )


@functools.cache
def _receiver(modulation: str, length: int) -> Callable[..., radio.Reception]:
    """From ratios and as many keys to receptions; one for all splits, so that it compiles once."""
    return jax.jit(jax.vmap(functools.partial(radio.receive, modulation, length=length)))


def keys(split: str, label: int, number: int) -> jax.Array:
    """The keys of a modulation's examples of this number, one for each signal-to-noise ratio.

    Args:
      split: one of `COUNTS`.
      label: the modulation's place in `radio.MODULATIONS`.
      number: from 0 to `COUNTS[split]` - 1.

    Returns:
      (16,) keys.
    """
    # By name: the data are the same whatever JAX's default generator is.
    key = jax.random.key(SEED, impl="threefry2x32")
    for part in (list(COUNTS).index(split), label, number):
        key = jax.random.fold_in(key, part)
    return jax.random.split(key, len(radio.SNRS))
