"""Signals of one row, such as sounds and radio's: what hides them best, and figures over maps."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from saliency_jax import data, metrics
from saliency_jax.models import Classifier

from .frame import Count, Output


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    split: str = "test"
    """Part of the data set whose signals are explained."""
    batch_size: Count = 32
    """Signals, or ascents, at once; those finished are kept when the run is interrupted."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


def read(
    settings: Settings, dataset: str, classifier: Classifier, fields: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """All signals of the split, in memory, with what is known of them.

    Raises:
      ValueError: the data set has other classes than the classifier.
    """
    described = data.describe(dataset, data_dir=settings.data_dir)
    if described.class_names != classifier.class_names:
        raise ValueError(
            f"expected {dataset} to have the classes of {classifier.name}, got "
            f"{', '.join(described.class_names)}"
        )
    size, folder = settings.batch_size, settings.data_dir
    return data.joined(data.load(dataset, settings.split, size, fields=fields, data_dir=folder))


def areas(score: Any, image: Any, orders: Any, baseline: Any, steps: int) -> jax.Array:
    """(2, m), the areas under the curves of deletion and of insertion by m orders (m, h, w)."""

    def area(curve, order):
        return curve(score, image, order, baseline=baseline, steps=steps).area

    # One after the other: each is a batch of its own.
    curves = (metrics.deletion, metrics.insertion)
    return jnp.stack([jax.vmap(functools.partial(area, curve))(orders) for curve in curves])


def joined(each: Sequence[jax.Array]) -> dict[str, jax.Array]:
    """The areas (n, m) under the curves of n inputs, by the curve's name."""
    return dict(zip(("deletion", "insertion"), jnp.stack(each, axis=1), strict=True))


def draw(
    signals: np.ndarray,
    maps: np.ndarray,
    titles: Sequence[str],
    x_label: str,
    *,
    names: Sequence[str] = ("",),
    sample_rate: int = 1,
    instants: Sequence[np.ndarray] = (),
) -> Figure:
    """A row for each of n signals, over the colours of its map.

    Args:
      signals: (n, t, c).
      maps: (n, m), at least 0, or with values below 0, which are blue.
      titles: of the rows.
      x_label: what time is in.
      names: of the c channels, for a legend if there are several.
      sample_rate: samples in a unit of time.
      instants: of each signal, in that unit, where dotted lines stand.
    """
    signed = maps.min() < 0
    seconds = np.arange(signals.shape[1]) / sample_rate
    ends = -0.5 / sample_rate, seconds[-1] + 0.5 / sample_rate
    figure = Figure(figsize=(9, 1.1 * len(titles) + 0.4), dpi=100, layout="constrained")
    all_axes = figure.subplots(len(titles), 1, sharex=True, squeeze=False)[:, 0]
    for row, axes in enumerate(all_axes):
        limit = np.abs(maps[row]).max() or 1
        height = 1.1 * (np.abs(signals[row]).max() or 1)
        axes.imshow(
            maps[row][None],
            cmap="RdBu_r" if signed else "Oranges",
            vmin=-limit if signed else 0,
            vmax=limit,
            aspect="auto",
            extent=(*ends, -height, height),
        )
        for channel, name in zip(signals[row].T, names, strict=True):
            color, width = (None, 1) if len(names) > 1 else ("black", 0.4)
            axes.plot(seconds, channel, color=color, linewidth=width, label=name)
        for instant in instants[row] if instants else ():
            axes.axvline(instant, color="grey", linestyle="dotted", linewidth=0.8)
        axes.set(yticks=[], ylabel=titles[row], xlim=ends)
    all_axes[-1].set_xlabel(x_label)
    if len(names) > 1:
        handles = all_axes[-1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper right", ncols=len(names))
    return figure
