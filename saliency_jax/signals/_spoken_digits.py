"""The TFDS builder of the Free Spoken Digit Dataset, prepared without TensorFlow."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ..data._archives import local_archive
from . import sound

HOMEPAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
URL = f"{HOMEPAGE}/archive/refs/heads/master.zip"
ARCHIVE_NAMES = ("free-spoken-digit-dataset-master.zip", "free-spoken-digit-recordings.zip")
SAMPLE_RATE = 8000
# One second: 99 of 100 recordings are shorter.
LENGTH = 8000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Of each speaker and digit, as the authors have it.
TEST_INDICES = range(5)
_RECORDING = re.compile(r"(?:.*/)?recordings/(\d)_([^_/]+)_(\d+)\.wav")


class SpokenDigits(tfds.core.GeneratorBasedBuilder):
    """Free Spoken Digit Dataset: English digits, each spoken fifty times by each of six speakers.

    2,700 training recordings and 300 test recordings, those of index 0 to 4. The archive comes from
    TFDS's manual folder, as the repository's zip or as one of its folder `recordings`, and is
    downloaded otherwise. An example holds `audio` (8000, 1), one second at 8 kHz in [-1, 1) with
    the recording in its middle, silence around it, what is longer cut off; `label`, the digit;
    `speaker` and `index`, the recording's number.

    Reference: Jackson et al., Free Spoken Digit Dataset, 2016, doi:10.5281/zenodo.1342401.
    """

    VERSION = tfds.core.Version("1.0.0")
    KIND = "sound"
    SAMPLE_RATE = SAMPLE_RATE
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Optional: put {' or '.join(ARCHIVE_NAMES)} into the manual folder; "
        f"otherwise {URL} is downloaded."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(
                        shape=(LENGTH, 1), dtype=np.float32, encoding="bytes"
                    ),
                    "label": tfds.features.ClassLabel(names=list(DIGITS)),
                    "speaker": tfds.features.Text(),
                    "index": tfds.features.Scalar(np.int32),
                }
            ),
            supervised_keys=("audio", "label"),
            homepage=HOMEPAGE,
            description=type(self).__doc__,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        archive = local_archive(dl_manager, ARCHIVE_NAMES) or Path(dl_manager.download(URL))
        return {
            "train": self._generate_examples(archive, is_test=False),
            "test": self._generate_examples(archive, is_test=True),
        }

    def _generate_examples(
        self, archive: Path, is_test: bool
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with zipfile.ZipFile(archive) as zipped:
                matches = [
                    match for name in zipped.namelist() if (match := _RECORDING.fullmatch(name))
                ]
                if not matches:
                    raise ValueError(
                        f"expected recordings/DIGIT_SPEAKER_INDEX.wav in {archive}, got none"
                    )
                for match in matches:
                    digit, speaker, index = match.groups()
                    if (int(index) in TEST_INDICES) != is_test:
                        continue
                    samples = sound.read(io.BytesIO(zipped.read(match.string)), SAMPLE_RATE)
                    yield (
                        f"{digit}_{speaker}_{index}",
                        {
                            "audio": sound.centre(samples, LENGTH)[:, None],
                            "label": int(digit),
                            "speaker": speaker,
                            "index": int(index),
                        },
                    )
        except zipfile.BadZipFile as error:
            raise ValueError(f"expected a zip, got {archive} ({error})") from error
