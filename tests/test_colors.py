"""The colours of figures and pages, as those see them who are colour-blind."""

import itertools

import matplotlib
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from saliency_jax.runs import plots

# Machado, Oliveira and Fernandes 2009, table 1, severity 1: of linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
# Of two colours beside each other people see a difference of 1 or 2.
TOLD_APART = 10


@pytest.fixture(params=SIGHTS)
def seen(request):
    """From colours (n, 3) in [0, 1] to what is seen of them, in CIELAB."""

    def convert(colors) -> np.ndarray:
        colors = np.asarray(colors, float)
        linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
        linear = np.clip(linear @ SIGHTS[request.param].T, 0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return rgb2lab(encoded[None])[0]

    return convert


def test_the_colors_of_lines_are_told_apart_from_each_other_and_from_the_paper(seen):
    colors = seen([*map(matplotlib.colors.to_rgb, plots.COLORS), (1, 1, 1)])
    for first, second in itertools.combinations(colors, 2):
        assert deltaE_ciede2000(first, second) > TOLD_APART


def test_the_usual_colors_would_not_be():
    """What the simulation must find: orange and green are one for some of the colour-blind."""
    usual = np.array(matplotlib.color_sequences["tab10"])
    linear = ((usual + 0.055) / 1.055) ** 2.4 @ SIGHTS["protanopia"].T
    encoded = 1.055 * np.clip(linear, 0, 1) ** (1 / 2.4) - 0.055
    orange, green = rgb2lab(encoded[None])[0][1:3]
    assert deltaE_ciede2000(orange, green) < 2


def test_an_unsigned_map_grows_lighter_with_its_values(seen):
    cell = plots.saliency_map(np.linspace(0, 1, 33)[None], percentile=100)
    lightness = seen(cell.pixels[0])[:, 0]
    assert np.diff(lightness).min() > 0.5


def test_a_signed_map_tells_its_signs_apart_and_grows_darker_from_zero(seen):
    cell = plots.signed_map(np.linspace(-1, 1, 17)[None], percentile=100)
    colors = seen(cell.pixels[0])
    lightness = colors[:, 0]
    assert np.diff(lightness[:9]).min() > 2
    assert np.diff(lightness[8:]).max() < -2
    # From an eighth of the largest value on.
    for step in range(1, 9):
        assert deltaE_ciede2000(colors[8 - step], colors[8 + step]) > TOLD_APART


def test_an_overlay_grows_lighter_where_the_image_is_grey(seen):
    image, saliency_map = np.full((1, 33, 3), 0.5), np.linspace(0, 1, 33)[None]
    cell = plots.overlay(image, saliency_map, percentile=100)
    lightness = seen(cell.pixels[0])[:, 0]
    assert lightness[-1] - lightness[0] > 50
    assert np.diff(lightness[16:]).min() > 0


def test_a_box_is_seen_on_black_and_on_white(seen):
    for shade in (0.0, 1.0):
        image = np.full((3, 3, 3), shade)
        marked = plots.outlined(image, np.array([0, 0, 3, 3]))
        box, inside = seen([marked[0, 0], marked[1, 1]])
        assert deltaE_ciede2000(box, inside) > 2 * TOLD_APART
