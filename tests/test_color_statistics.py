"""The script that measures a data set's colours, on a miniature data set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from saliency_jax import data

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def color_statistics(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    import color_statistics

    yield color_statistics
    del sys.modules["color_statistics"]


def test_it_measures_all_images_of_the_split(
    color_statistics, tiny_imagenet_folder, tmp_path, capsys
):
    name = "tiny_imagenet/paper20"
    color_statistics.main(
        color_statistics.Settings(
            dataset=name, batch_size=25, data_dir=tiny_imagenet_folder, output=tmp_path / "run"
        )
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "color_statistics.npz",
        "config.json",
        "index.html",
    ]
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["split"] == "train"
    )
    (batch,) = data.load(name, "train", 60, data_dir=tiny_imagenet_folder)
    images = batch["image"].astype(np.float64)
    colors = images.reshape(-1, 3)
    covariance = np.cov(colors.T, ddof=0)
    values, vectors = np.linalg.eigh(covariance)
    with np.load(tmp_path / "run" / "color_statistics.npz") as stored:
        assert_allclose(stored["mean"], colors.mean(0), rtol=1e-5)
        assert_allclose(stored["covariance"], covariance, rtol=1e-5, atol=1e-9)
        magnitude = np.abs(np.fft.rfft2(images, axes=(1, 2))).mean(0)
        assert_allclose(stored["magnitude"], magnitude, rtol=1e-3, atol=0.01)
        inside = images.clip(1e-3, 1 - 1e-3)
        encoded = np.log(inside / (1 - inside)) @ (vectors * values**-0.5 @ vectors.T)
        magnitude = np.abs(np.fft.rfft2(encoded, axes=(1, 2))).mean(0)
        assert_allclose(stored["encoded_magnitude"], magnitude, rtol=1e-2, atol=1.0)
    printed = capsys.readouterr().out
    for channel in range(3):
        assert f"{channel}  {colors.mean(0)[channel]:.4f}" in printed
