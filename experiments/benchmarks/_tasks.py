"""What every library of `peers.py` is given; without JAX and without PyTorch."""

from typing import Any, NamedTuple

import numpy as np

# Of images and of pictures that the tasks have at most.
IMAGES, PICTURES = 64, 10
# The cells along each side that Kernel SHAP values, and those of RISE's masks.
CELLS, RISE_CELLS = 4, 7
NOISE_SCALE = 0.15
LEARNING_RATE = 0.05
ATTACK_STEPS, EPSILON = 10, 1.0
STEP_SIZE = 2.5 * EPSILON / ATTACK_STEPS
CURVE_STEPS = 32


class Inputs(NamedTuple):
    """What all libraries are given.

    Attributes:
      images: (n, h, w, 3) in [0, 1], windows of photographs.
      labels: (n,), the network's answers.
      starts: (p, h, w, 3), where visualizations begin.
      maps: (n, h, w), random ones, in which no two pixels are equal.
      segments: (h, w), the number of each pixel's cell.
      weights: a ResNet's, by the names of `_torch_networks`.
      settings: the network's.
    """

    images: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    maps: np.ndarray
    segments: np.ndarray
    weights: dict[str, np.ndarray]
    settings: dict[str, Any]


def windows(side: int, count: int) -> tuple[int, int]:
    """The side and the stride of an occluding window, of which `count` reach the far side."""
    stride = side // count
    return stride + stride // 2, stride


def curve_counts(pixels: int) -> np.ndarray:
    """(steps + 1,), how many pixels are inserted or deleted at each step."""
    return np.arange(CURVE_STEPS + 1) * pixels // CURVE_STEPS
