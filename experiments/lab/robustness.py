"""Accuracy as it is and under attack, by two losses, and what the measures are called."""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
import tqdm

from saliency_jax import attacks, training

BALLS = {"l2": attacks.L2, "linf": attacks.LINF}
CLEAN = "top-1"
# By loss, as tables and cards say it.
LOSSES = {
    "log-probability": "by log-probability",
    "margin": "by margin",
    "both": "by either",
}


@dataclasses.dataclass(frozen=True)
class Attacks:
    """PGD from random starts, at several radii."""

    norm: Literal["l2", "linf"] = "l2"
    epsilons: tuple[float, ...] = (0.5, 1.0, 2.0)
    steps: int = 50
    restarts: int = 3

    def __post_init__(self):
        for epsilon in self.epsilons:
            if not 0 < epsilon < math.inf:
                raise ValueError(f"expected epsilons above 0 and finite, got {epsilon}")

    def name(self, epsilon: float) -> str:
        """What an attack is called, without its loss."""
        restarts = f"{self.restarts} restart{'s' if self.restarts > 1 else ''}"
        return f"PGD-{self.steps}, {restarts}, {self.norm.upper()} epsilon {epsilon:g}"


def accuracies(
    model: Callable[[Any], jax.Array],
    images: np.ndarray,
    labels: np.ndarray,
    asked: Attacks,
    *,
    batch_size: int,
) -> dict[str, dict[float, float]]:
    """`training.robust_accuracies` with a bar: {loss: {epsilon: accuracy}}, clean at 0."""
    with tqdm.tqdm(unit="image", desc="evaluation", file=sys.stdout) as bar:
        return training.robust_accuracies(
            model,
            images,
            labels,
            asked.epsilons,
            jax.random.key(2),
            ball=BALLS[asked.norm],
            steps=asked.steps,
            restarts=asked.restarts,
            batch_size=batch_size,
            progress=bar.update,
        )


def stated(measured: Mapping[str, Mapping[float, float]], asked: Attacks) -> dict[str, float]:
    """Percent by the name of the measure, as a classifier's `accuracies` hold them."""
    (clean,) = {by_radius[0.0] for by_radius in measured.values()}
    return {CLEAN: round(100 * clean, 1)} | {
        f"{asked.name(epsilon)}, {words}": round(100 * measured[loss][epsilon], 1)
        for epsilon in sorted(set(asked.epsilons))
        for loss, words in LOSSES.items()
    }
