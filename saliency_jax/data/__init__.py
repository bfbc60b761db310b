"""Datasets by name, and photographs from files."""

from .images import fit as fit
from .images import read_image as read_image
from .loading import Batches as Batches
from .loading import Description as Description
from .loading import describe as describe
from .loading import load as load
from .preparation import prepare as prepare
from .radio_modulations import RadioModulations as RadioModulations
from .spoken_digits import SpokenDigits as SpokenDigits
from .tiny_imagenet import TinyImagenet as TinyImagenet
