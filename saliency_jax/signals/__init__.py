"""Sound and radio: signals, their spectrograms, their networks and their data sets.

The two builders of data sets are imported when they are asked for: they bring in TFDS, which the
networks do without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import radio as radio
from . import sound as sound
from . import spectrograms as spectrograms
from ._signal_resnet import SignalResNet as SignalResNet
from ._spectrogram_resnet import SpectrogramResNet as SpectrogramResNet

if TYPE_CHECKING:
    from ._radio_modulations import RadioModulations as RadioModulations
    from ._spoken_digits import SpokenDigits as SpokenDigits

_BUILDERS = {"RadioModulations": "_radio_modulations", "SpokenDigits": "_spoken_digits"}


def __getattr__(name: str) -> Any:
    if name not in _BUILDERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_BUILDERS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_BUILDERS])
