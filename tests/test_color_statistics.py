"""The script that measures a data set's colours, on a miniature data set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from saliency_jax import ascent, data

pytestmark = pytest.mark.usefixtures("pages_are_sound")
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


@pytest.mark.parametrize("shape", [(9, 14), (12, 7)])
def test_the_power_law_of_a_power_law_is_itself(color_statistics, shape):
    """The magnitude of cycles k over the shorter side is h w a k^-b, and that of 0 its own."""
    (height, width), shorter = shape, min(shape)
    magnitude = np.empty((height, width // 2 + 1, 2))
    for row in range(height):
        for column in range(width // 2 + 1):
            down = min(row, height - row) / height
            k = shorter * (down**2 + (column / width) ** 2) ** 0.5
            law = [2 * k**-1.5, 3 * k**-1.0] if k else [5, 7]
            magnitude[row, column] = np.multiply(height * width, law)
    found = color_statistics.power_law(magnitude, width)
    assert_allclose(found, [[5, 7], [2, 3], [1.5, 1.0]], rtol=1e-6)


def test_magnitudes_of_imagenet_are_its_power_law(color_statistics):
    # As the script printed them of the photographs.
    law = [[2.849, 2.723, 3.897], [1.182, 1.038, 1.151], [1.285, 1.219, 1.256]]
    for height, width in ((20, 31), (16, 8)):
        magnitude = ascent.imagenet_magnitude(height, width)
        assert magnitude.shape == (height, width // 2 + 1, 3)
        assert_allclose(color_statistics.power_law(magnitude, width), law, rtol=1e-5)
