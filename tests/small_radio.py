"""A miniature of the radio signals: four symbols each, a signal of each modulation and ratio."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from saliency_jax import data
from saliency_jax.signals import _radio_modulations as radio_modulations
from saliency_jax.signals import radio

LENGTH = 32
COUNTS = {"train": 2, "validation": 1, "test": 1}
CELLS = len(radio.MODULATIONS) * len(radio.SNRS)


@contextlib.contextmanager
def prepared_radio(root: Path) -> Iterator[Path]:
    """A TFDS data folder with the miniature, which is the data set as long as this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radio, "LENGTH", LENGTH)
        patch.setattr(radio_modulations, "COUNTS", COUNTS)
        data.prepare("radio_modulations", data_dir=root)
        yield root
