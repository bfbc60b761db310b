"""Means with their 95 % bootstrap intervals, as tables and curves show them."""

import math
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
import scipy.stats

from saliency_jax import metrics
from saliency_jax.runs import Table, plots

# Of groups drawn anew for the interval of a median.
SAMPLES = 1000
_interval = jax.jit(metrics.bootstrap_interval)


def interval(values: np.ndarray) -> metrics.Interval:
    """The mean over (n, ...) values and its interval, the n being resampled."""
    return metrics.Interval(*map(float, _interval(values, key=jax.random.key(0))))


def defined(values: np.ndarray) -> np.ndarray:
    """Of values (n, ...) the finite ones, as a measure that is undefined for an image is nan there.

    Of several values of each, (n, m), those of which all are finite.
    """
    values = np.asarray(values, np.float32)
    return values[np.isfinite(values).all(tuple(range(1, values.ndim)))]


def cell(values: np.ndarray) -> str:
    """The mean over values (n, ...) where they are defined, with its interval."""
    kept = defined(values)
    return written(interval(kept)) if len(kept) else "undefined"


def written(mean: metrics.Interval) -> str:
    """A mean and its interval as tables write them, 0 without a sign."""
    return f"{mean.mean:z.3f} [{mean.low:z.3f}, {mean.high:z.3f}]"


def share(count: int, total: int) -> str:
    """Percent, with the 95 % interval of a binomial share (Wilson 1927)."""
    interval = scipy.stats.binomtest(count, total).proportion_ci(method="wilson")
    return f"{100 * count / total:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def median(values: Sequence[np.ndarray]) -> str:
    """The median of n groups of values, and its interval, the groups being resampled."""
    draws = np.random.default_rng(0).integers(len(values), size=(SAMPLES, len(values)))
    medians = [np.median(np.concatenate([values[group] for group in drawn])) for drawn in draws]
    ends = np.quantile(medians, (0.025, 0.975))
    middle, low, high = np.round([np.median(np.concatenate(list(values))), *ends], 1)
    return f"{middle:zg} [{low:zg}, {high:zg}]"


def seconds(taken: float) -> str:
    """Wall time as tables write it, unless an interruption lost it."""
    return "" if math.isnan(taken) else f"{taken:.2f}"


def paired(names: Sequence[str], values: Iterable[Mapping[str, np.ndarray]]) -> Table:
    """A row for each measure, with the models' means and, of two, their paired difference.

    The values of each model are (n,) by the name of the measure; nan where it is undefined.
    """
    models = list(values)
    rows = []
    for measure in models[0]:
        columns = np.stack([each[measure] for each in models]).astype(np.float32)
        columns = columns[:, np.isfinite(columns).all(axis=0)]
        difference = [columns[1] - columns[0]] if len(models) == 2 else []
        rows.append([measure, *map(cell, (*columns, *difference)), str(columns.shape[1])])
    compared = ["difference"] if len(models) == 2 else []
    return Table(["", *names, *compared, "images"], rows)


def curve(name: str, x: np.ndarray, columns: Sequence[np.ndarray]) -> plots.Curve:
    """A curve of means, with their intervals, of values (n, ...) at each x.

    Values that are undefined are nan; where none is defined the curve has a gap.
    """
    kept = map(defined, columns)
    ends = [interval(values) if len(values) else (np.nan,) * 3 for values in kept]
    return plots.Curve(name, x, *np.array(ends).T)


def curve_over(name: str, x: np.ndarray, values: np.ndarray) -> plots.Curve:
    """A curve of means over a variable: x (n,) and values (n,), of which many share an x."""
    ends = np.unique(x)
    return curve(name, ends, [values[x == end] for end in ends])
