"""Spoken digits: a network trained on a miniature, and the experiment that looks into it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from browser import pictures_in
from numpy.testing import assert_allclose, assert_array_equal
from small_sounds import prepared_folder

from saliency_jax import models, signals
from saliency_jax.runs import plots
from saliency_jax.signals import _spoken_digits as digits

pytestmark = pytest.mark.usefixtures("pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepared_folder(tmp_path_factory.mktemp("spoken_digits"))


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import spoken_digits
        import train

        yield train, spoken_digits
    finally:
        sys.path.remove(str(EXPERIMENTS))


def test_a_network_is_trained_and_looked_into(scripts, folder, tmp_path, capsys):
    train, experiment = scripts
    train.main(
        train.Settings(
            output=tmp_path / "run",
            dataset="spoken_digits",
            train_split="train",
            holdout_split="test",
            width=2,
            epochs=2,
            batch_size=20,
            test_epsilons=(),
            data_dir=folder,
        )
    )
    model = models.load(tmp_path / "run" / "model")
    assert isinstance(model.network, signals.SpectrogramResNet)
    assert model.class_names == digits.DIGITS
    card = (tmp_path / "run" / "card.md").read_text()
    assert "Residual network over 40 mel bands every 10 ms, width 2" in card

    output = tmp_path / "looked"
    experiment.main(
        experiment.Settings(
            model=str(tmp_path / "run" / "model"),
            split="test[:4]",
            steps=2,
            batch_size=4,
            data_dir=folder,
            output=output,
        )
    )
    page = (output / "index.html").read_text()
    assert page.count("data:audio/wav;base64,") == 10
    with np.load(output / "measurements.npz") as stored:
        measured = dict(stored)
    assert measured["spectrogram_map"].shape == (4, 97, 40)
    assert measured["waveform_map"].shape == (4, 8000)
    assert measured["deletion"].shape == measured["insertion"].shape == (4, 2, 3)
    rate, samples = scipy.io.wavfile.read(output / "seven.wav")
    assert (rate, samples.shape) == (8000, (8000,))
    shown = pictures_in(output / "index.html")
    seen = [pixels for alt, pixels in shown if alt.endswith(": map")]
    found = [np.rint(255 * plots.signed_map(m.T[::-1]).pixels) for m in measured["spectrogram_map"]]
    # Of each digit and speaker one of the recordings.
    said = set(zip(measured["label"].tolist(), measured["speaker"].tolist(), strict=True))
    assert len(seen) == len(said)
    assert all(any(np.array_equal(pixels, one) for one in found) for pixels in seen)
    with np.load(output / "visualizations.npz") as stored:
        made = stored["spectrograms"]
    pictures = [pixels for alt, pixels in shown if "ascent on the" in alt]
    for pixels, picture in zip(pictures, made.reshape(-1, *made.shape[2:]), strict=True):
        scaled = (picture - picture.min()) / max(np.ptp(picture), 1e-6)
        assert_allclose(pixels, 255 * np.repeat(scaled.T[::-1, :, None], 3, -1), atol=0.6)
    assert "advantage, deletion" in capsys.readouterr().out
    assert json.loads((output / "config.json").read_text())["settings"]["steps"] == 2


def test_windows_share_their_sum(scripts):
    _, experiment = scripts
    summed = experiment.in_windows(np.arange(5.0, dtype=np.float32)[None], size=2)
    assert_array_equal(summed, [[1, 1, 5, 5, 4]])
