"""Datasets by name, and photographs from files."""

from .loading import Batches as Batches
from .loading import Description as Description
from .loading import describe as describe
from .loading import load as load
