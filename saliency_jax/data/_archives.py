"""Archives that a TFDS builder need not download."""

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds


def local_archive(dl_manager: tfds.download.DownloadManager, names: Sequence[str]) -> Path | None:
    """The first file of these names in the folder of manually downloaded ones, if there is any."""
    try:
        folder = Path(os.fspath(dl_manager.manual_dir))
    except AssertionError:  # TFDS's way to say that the folder is absent or empty.
        return None
    return next((folder / name for name in names if (folder / name).is_file()), None)
