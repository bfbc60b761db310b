"""Datasets by name, and folders of photographs, in batches.

What means the same everywhere here:

  name: TFDS name, with the config after a slash: "mnist", "tiny_imagenet/paper20". Or a path that
    begins with `.`, `/` or `~`: a folder PATH/SPLIT/CLASS/* of pictures in any format that Pillow
    reads, known by their endings. Hidden files and folders in it are passed over; what else is no
    picture is counted in one logged warning and in `Description.left_out`.
  data_dir: TFDS data folder; TFDS's own default when None.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._preparation import prepare as prepare
from ._loading import Description as Description
from ._loading import describe as describe
from ._loading import Batches as Batches
from ._loading import load as load
from ._loading import joined as joined
from ._loading import channel_statistics as channel_statistics
from ._objects import Objects as Objects
from ._objects import load_objects as load_objects
from ._tiny_imagenet import TinyImagenet as TinyImagenet
