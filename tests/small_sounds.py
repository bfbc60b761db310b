"""A miniature of the spoken digits: an archive in the original's layout, of one tone each."""

import io
import zipfile
from pathlib import Path

import numpy as np
import scipy.io.wavfile

from saliency_jax import data
from saliency_jax.signals import _spoken_digits as digits

SPEAKERS = ("ann", "bob")
INDICES = (0, 4, 5, 49)


def recording(digit, speaker, index):
    """A tone whose pitch is the digit's, as many samples as the index says, of 16 bits."""
    length = 2000 + 100 * index if digit else 9001
    phase = 2 * np.pi * (300 + 300 * digit) / 8000 * np.arange(length)
    return (8000 * np.sin(phase + SPEAKERS.index(speaker))).astype(np.int16)


def write_archive(path, prefix="recordings"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{prefix}/README.md", "recordings/0_ann_1.wav")
        archive.writestr("other/0_ann_7.wav", b"not a recording")
        for digit in range(10):
            for speaker in SPEAKERS:
                for index in INDICES:
                    buffer = io.BytesIO()
                    scipy.io.wavfile.write(buffer, 8000, recording(digit, speaker, index))
                    archive.writestr(f"{prefix}/{digit}_{speaker}_{index}.wav", buffer.getvalue())


def prepared_folder(root: Path) -> Path:
    (root / "manual").mkdir()
    name, _ = digits.ARCHIVE_NAMES
    write_archive(root / "manual" / name, "free-spoken-digit-dataset-master/recordings")
    data.prepare("spoken_digits", manual_dir=root / "manual", data_dir=root / "tfds")
    return root / "tfds"
