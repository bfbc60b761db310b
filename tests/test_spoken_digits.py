"""Spoken digits: the builder, on a miniature archive."""

import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from small_sounds import SPEAKERS, prepared_folder, recording

from saliency_jax import data
from saliency_jax.signals import _spoken_digits as digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepared_folder(tmp_path_factory.mktemp("spoken_digits"))


@pytest.mark.parametrize(("split", "indices"), [("train", (5, 49)), ("test", (0, 4))])
def test_every_recording_is_in_its_split(folder, split, indices):
    fields = ("speaker", "index")
    (batch,) = data.load("spoken_digits", split, 40, fields=fields, data_dir=folder)
    assert batch["mask"].all()
    assert batch["image"].shape == (40, 1, 8000, 1)
    seen = set()
    for image, label, speaker, index in zip(
        batch["image"], batch["label"], batch["speaker"], batch["index"], strict=True
    ):
        samples = recording(int(label), str(speaker), int(index)) / np.float32(2**15)
        clip = np.zeros(8000, np.float32)
        if label:
            before = (8000 - len(samples)) // 2
            clip[before : before + len(samples)] = samples
        else:
            clip[:] = samples[500:8500]
        assert_array_equal(image[0, :, 0], clip)
        seen.add((int(label), str(speaker), int(index)))
    assert seen == {(d, s, i) for d in range(10) for s in SPEAKERS for i in indices}


def test_description(folder):
    described = data.describe("spoken_digits", data_dir=folder)
    assert (described.kind, described.sample_rate) == ("sound", 8000)
    assert described.class_names == digits.DIGITS
    assert described.image_shape == (1, 8000, 1)
    assert described.num_examples == {"train": 40, "test": 40}


@pytest.mark.parametrize("content", ["text", "empty"])
def test_an_archive_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / digits.ARCHIVE_NAMES[1]
    if content == "text":
        path.write_text("no zip")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("0_ann_0.wav", b"")
    message = {"text": "expected a zip, got", "empty": "recordings/DIGIT_SPEAKER_INDEX.wav"}
    with pytest.raises(ValueError, match=message[content]):
        data.prepare("spoken_digits", manual_dir=tmp_path, data_dir=tmp_path / "tfds")
