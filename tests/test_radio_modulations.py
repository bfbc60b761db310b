"""The builder of radio signals: its examples are those of their keys, and are read as images."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_radio import CELLS, COUNTS, LENGTH, prepared_radio

from saliency_jax import data
from saliency_jax.signals import _radio_modulations as radio_modulations
from saliency_jax.signals import radio


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with prepared_radio(tmp_path_factory.mktemp("radio")) as path:
        yield path


@pytest.fixture(scope="module")
def test_split(folder):
    (batch,) = data.load(
        "radio_modulations", "test", CELLS, fields=("snr", "band", "timing"), data_dir=folder
    )
    return batch


def test_description(folder):
    described = data.describe("radio_modulations", data_dir=folder)
    assert (described.kind, described.sample_rate) == ("iq", None)
    assert described.class_names == tuple(radio.MODULATIONS)
    assert described.image_shape == (1, LENGTH, 2)
    assert described.num_examples == {name: CELLS * count for name, count in COUNTS.items()}


def test_every_example_is_that_of_its_key_alone(test_split):
    cells = set()
    for label, snr in zip(test_split["label"], test_split["snr"], strict=True):
        cells.add((int(label), int(snr)))
    assert cells == {(label, snr) for label in range(9) for snr in radio.SNRS}
    for label, modulation in ((1, "QPSK"), (7, "AM")):
        place = radio.SNRS.index(20)
        key = radio_modulations.keys("test", label, 0)[place]
        expected = radio.receive(modulation, 20.0, key, length=LENGTH)
        (found,) = np.flatnonzero((test_split["label"] == label) & (test_split["snr"] == 20))
        assert_allclose(test_split["image"][found, 0], expected.iq, atol=1e-5)
        assert_allclose(test_split["band"][found], expected.band)
        assert_allclose(test_split["timing"][found], expected.timing, rtol=1e-5)


def test_signals_are_images_of_one_row_and_of_unit_power(test_split):
    assert test_split["image"].shape == (CELLS, 1, LENGTH, 2)
    assert test_split["image"].dtype == np.float32
    assert_allclose((test_split["image"] ** 2).sum(-1).mean((1, 2)), 1, rtol=1e-5)


def test_no_example_comes_twice(folder, test_split):
    (train,) = data.load("radio_modulations", "train", 2 * CELLS, data_dir=folder)
    first = np.concatenate([train["image"][:, 0, 0], test_split["image"][:, 0, 0]])
    assert len({tuple(row) for row in first.tolist()}) == len(first)


def test_preparing_again_elsewhere_gives_the_same(folder, tmp_path, test_split):
    data.prepare("radio_modulations", data_dir=tmp_path)
    (again,) = data.load("radio_modulations", "test", CELLS, data_dir=tmp_path)
    assert_array_equal(again["image"], test_split["image"])
    assert_array_equal(again["label"], test_split["label"])


def test_keys_of_different_examples_differ():
    keys = [
        radio_modulations.keys(split, label, number)
        for split in ("train", "test")
        for label in (0, 1)
        for number in (0, 1)
    ]
    numbers = {tuple(row.tolist()) for key in keys for row in jax.random.key_data(key)}
    assert len(numbers) == 8 * len(radio.SNRS)


@pytest.mark.parametrize("asked", [{"image_size": 16}, {"dtype": np.uint8}])
def test_signals_are_neither_resized_nor_bytes(asked, folder):
    with pytest.raises(ValueError, match=r"expected image_size None and dtype float32 .* signals"):
        data.load("radio_modulations", "test", 8, data_dir=folder, **asked)
