"""What `peers.py` compares, what it has measured, and the tables and figures of it."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from saliency_jax.runs import Table, plots, whole

OURS, ONE_DEVICE, CAPTUM = "ours", "ours, one device", "Captum"
AS_TRAINED = "ours, as trained"
# By name the class and its settings; cores: 0 for all that there are.
LIBRARIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    OURS: ("_ours:Ours", {"cores": 0}),
    ONE_DEVICE: ("_ours:Ours", {"cores": 1}),
    # The network is not rewritten for inference.
    AS_TRAINED: ("_ours:Ours", {"cores": 0, "is_rewritten": False}),
    CAPTUM: ("_torch_peers:Captum", {}),
    "Captum, channels_last": ("_torch_peers:Captum", {"layout": "channels_last"}),
    "Captum, compiled": ("_torch_peers:Captum", {"layout": "compiled"}),
    "PAIR saliency": ("_torch_peers:PairSaliency", {}),
    "grad-cam": ("_torch_peers:GradCam", {}),
    "Zennit": ("_torch_peers:Zennit", {}),
    "Quantus": ("_torch_peers:Quantus", {}),
}
# The share of the cores that others may have.
IDLE = 0.05
SEPARATOR = " | "
# Of a problem, as the tables tell it; the file has all of it.
LONGEST = 40
NO_METHOD = "has no such method"


class Task(NamedTuple):
    """One row: a method of `_ours.Ours`, and what it is told.

    Attributes:
      method: its name.
      title: with braces for the count.
      counts: steps, samples or images at 64 pixels, at 224, and with --quick.
      tolerance: what libraries may differ by.
      correlated: whether that is 1 - the correlation, and not the relative L2 difference, as each
        draws its own samples, or has a scale of its own.
    """

    method: str
    title: str
    counts: tuple[int, int, int]
    tolerance: float = 0.01
    correlated: bool = False


TASKS: Mapping[str, Task] = {
    "saliency": Task("saliency", "saliency of {} image", (1, 1, 1)),
    "saliency-batch": Task("saliency", "saliency of {} images", (32, 32, 4)),
    "labels": Task("several_labels", "{} labels of one image", (5, 5, 2)),
    "smoothgrad": Task("smoothgrad", "SmoothGrad, {} samples", (50, 32, 8), 0.5, True),
    "path": Task("integrated_gradients", "integrated gradients, {} steps", (50, 32, 4), 0.1),
    "long-path": Task("integrated_gradients", "integrated gradients, {} steps", (500, 64, 8), 0.1),
    "grad-cam": Task("grad_cam", "Grad-CAM of {} image", (1, 1, 1), 0.1, True),
    "occlusion": Task("occlusion", "occlusion, {0} x {0} windows", (8, 8, 4)),
    "rise": Task("rise", "RISE, {} masks", (1000, 128, 100), 0.5, True),
    "kernel-shap": Task("kernel_shap", "Kernel SHAP, {} samples", (500, 128, 128), 0.3, True),
    "guided": Task("guided_backprop", "guided backpropagation of {} image", (1, 1, 1)),
    "relevance": Task("lrp", "relevance of {} image", (1, 1, 1)),
    "visualization": Task("visualization", "10 visualizations, {} steps", (100, 4, 2), 0.05),
    "pgd": Task("pgd", "PGD-10 of {} images", (64, 4, 2), 0.1),
    "deletion": Task("deletion", "deletion of {} images", (32, 2, 2)),
    "insertion": Task("insertion", "insertion of {} images", (32, 2, 2)),
}


class Measured(NamedTuple):
    """What is kept of one library and one task.

    Attributes:
      seconds: the median of each turn's calls; none if there is a problem.
      first: seconds of the first call, compilation included.
      difference: from what ours returns.
      others: the largest share of the cores that other processes had during a turn.
      problem: why there are no seconds.
    """

    seconds: Sequence[float] = ()
    first: float = math.nan
    difference: float = math.nan
    others: float = math.nan
    problem: str = ""


class Store:
    """What has been measured, by part and key, in a file that is written after each measurement.

    Raises:
      ValueError: the folder has what was measured on another machine, or with other packages.
    """

    def __init__(self, folder: Path, machine: Mapping[str, Any]):
        self.folder, self._path = folder, folder / "measured.json"
        self.machine, self.results = dict(machine), dict[str, dict[str, Any]]()
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            if kept["machine"] != self.machine:
                raise ValueError(f"expected this machine, {self.machine}, got {kept['machine']}")
            self.results = kept["results"]

    def has(self, part: str, key: Sequence[Any]) -> bool:
        return _joined(key) in self.results.get(part, {})

    def keep(self, part: str, key: Sequence[Any], value: Any) -> None:
        self.results.setdefault(part, {})[_joined(key)] = value
        with whole(self._path) as partial:
            content = {"machine": self.machine, "results": self.results}
            partial.write_text(json.dumps(content, indent=1))

    def items(self, part: str) -> Iterator[tuple[list[str], Any]]:
        for key, value in self.results.get(part, {}).items():
            yield key.split(SEPARATOR), value


def _joined(key: Sequence[Any]) -> str:
    return SEPARATOR.join(map(str, key))


class Comparison(NamedTuple):
    """One task of one network, with what was measured of each library."""

    network: str
    task: str
    title: str
    date: str
    rows: Mapping[str, Measured]

    def medians(self, names: Sequence[str]) -> dict[str, float]:
        """The median seconds of those of the libraries that have some."""
        rows = {name: self.rows.get(name, Measured()) for name in names}
        return {name: statistics.median(row.seconds) for name, row in rows.items() if row.seconds}


def comparisons(store: Store) -> list[Comparison]:
    """All of them whose time by this library is there."""
    found = []
    for (network, dtype, name, count), kept in store.items("tasks"):
        rows = {library: Measured(*kept[library].values()) for library in kept if library != "date"}
        title, heading = TASKS[name].title.format(count), f"{network}, {dtype}"
        found.append(Comparison(heading, name, title, kept["date"], rows))
    return found


def milliseconds(seconds: float) -> str:
    scaled = 1e3 * seconds
    return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.3g}"


def quartiles(seconds: Sequence[float]) -> list[float]:
    return statistics.quantiles(seconds, n=4, method="inclusive")


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def details(found: Sequence[Comparison]) -> Table:
    """Every library's row of every task."""
    lines = []
    for case in found:
        heading = f"{case.network}: {case.title} ({case.date})"
        times = case.medians(list(LIBRARIES))
        for name, row in case.rows.items():
            if row.problem == NO_METHOD:
                continue
            said = [shortened(row.problem), "", ""]
            if name in times:
                low, _, high = map(milliseconds, quartiles(row.seconds))
                star = "" if row.others <= IDLE else " *"
                ratio = f"{times[name] / times[OURS]:.2f}"
                said = [milliseconds(times[name]) + star, f"{low} - {high}", ratio]
            numbers = (row.difference, row.first)
            written = ("" if math.isnan(number) else f"{number:.2g}" for number in numbers)
            lines.append([heading, name, *said, *written])
            heading = ""
    return Table(["", "", "ms", "quartiles", "times ours", "difference", "first call, s"], lines)


def summary(network: str, found: Sequence[Comparison]) -> Table:
    """A network's tasks in ms, and the fastest peer's time over ours."""
    shown = [name for name in LIBRARIES if name.startswith((OURS, CAPTUM))]
    others = [name for name in LIBRARIES if name not in shown]
    peers = [name for name in LIBRARIES if not name.startswith(OURS)]
    lines, captum, fastest = [], [], []
    for case in found:
        times = case.medians(list(LIBRARIES))
        if OURS not in times:
            continue
        cells = [milliseconds(times[name]) if name in times else "" for name in shown]
        rest = [f"{milliseconds(times[name])} {name}" for name in others if name in times]
        ratios = [times[name] / times[OURS] for name in peers if name in times]
        captum += [times[CAPTUM] / times[OURS]] if CAPTUM in times else []
        fastest += [min(ratios)] if ratios else []
        last = f"{min(ratios):.2f}" if ratios else ""
        lines.append([case.title, *cells, ", ".join(rest), last])
    means = [statistics.geometric_mean(each) for each in (captum, fastest) if each]
    if len(means) == 2:
        cells = ["1" if name == OURS else "" for name in shown]
        cells[shown.index(CAPTUM)] = f"{means[0]:.2f}"
        lines.append(["geometric mean over ours", *cells, "", f"{means[1]:.2f}"])
    return Table([f"{network}, ms", *shown, "another", "fastest peer / ours"], lines)


def markdown(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (table.header, rule, *table.rows))


def draw(networks: Mapping[str, Sequence[Comparison]]) -> Figure:
    """The times over ours, below 1 where a peer is faster, with their quartiles."""
    names = list(dict.fromkeys(case.task for found in networks.values() for case in found))
    panels: dict[str, list[plots.Curve]] = {}
    for network, found in networks.items():
        curves = panels.setdefault(f"{network}, over ours", [])
        for library in LIBRARIES:
            points = []
            for case in found:
                times = case.medians([OURS, library])
                if library != OURS and len(times) == 2:
                    ends = np.divide(quartiles(case.rows[library].seconds), times[OURS])
                    points.append((names.index(case.task), *ends))
            if points:
                place, low, middle, high = np.array(points).T
                curves.append(plots.Curve(library, place, middle, low, high))
    figure = plots.intervals(panels, names)
    for axes in figure.axes[: len(panels)]:
        axes.set_xscale("log")
        axes.axvline(1, color="#bbbbbb", linewidth=1)
        in_plain_numbers(axes.xaxis, (1, 3))
    return figure


def in_plain_numbers(axis: Axis, digits: Sequence[float]) -> None:
    """Marks a logarithmic axis where numbers begin with these digits, and writes them out."""
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def costs(store: Store) -> dict[str, list[plots.Curve]]:
    """By what a cost is measured over, a curve for each library."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for (_, axis, value, library), seconds in store.items("costs"):
        if not math.isnan(seconds):
            points.setdefault((axis, library), []).append((int(value), seconds))
    panels: dict[str, list[plots.Curve]] = {}
    for (axis, library), pairs in points.items():
        x, y = np.array(sorted(pairs)).T
        panels.setdefault(f"seconds over {axis}", []).append(plots.Curve(library, x, y, y, y))
    return panels


def exponents(panels: Mapping[str, Sequence[plots.Curve]]) -> Table:
    """Of the power laws that fit the costs best, in logarithms."""
    lines = []
    for title, curves in panels.items():
        for curve in curves:
            x, y, *_ = curve.points
            slope = np.polyfit(np.log(x), np.log(y), 1)[0] if len(x) > 1 else math.nan
            ends = f"{milliseconds(y[0])} - {milliseconds(y[-1])}"
            lines.append([title, curve.name, f"{x[0]:g} - {x[-1]:g}", ends, f"{slope:.2f}"])
    return Table(["cost", "library", "from - to", "ms", "exponent"], lines)


def save(store: Store, name: str, figure: Figure) -> None:
    with whole(store.folder / name) as partial:
        figure.savefig(partial, dpi=figure.dpi, format="png")


def report(store: Store) -> str:
    """All tables, as Markdown; the figures are beside what was measured."""
    found = comparisons(store)
    networks: dict[str, list[Comparison]] = {}
    for case in found:
        networks.setdefault(case.network, []).append(case)
    machine = [[name, str(value)] for name, value in store.machine.items()]
    texts = [markdown(Table(["machine", ""], machine))]
    if networks:
        save(store, "peers.png", draw(networks))
        texts += [markdown(summary(network, cases)) for network, cases in networks.items()]
        texts.append(f"```\n{details(found)}\n```")
    panels = costs(store)
    if panels:
        figure = plots.curves(panels, "", log_base=2)
        for axes in figure.axes[: len(panels)]:
            axes.set_yscale("log")
            in_plain_numbers(axes.yaxis, (1, 2, 5))
        save(store, "costs.png", figure)
        texts.append(markdown(exponents(panels)))
    for part, unit in (("memory", "MiB"), ("limit", "GFLOP/s"), ("first-picture", "s")):
        lines = [
            [", ".join(key), ", ".join(f"{number:,.1f}" for number in np.atleast_1d(value))]
            for key, value in store.items(part)
        ]
        if lines:
            texts.append(markdown(Table([part, unit], lines)))
    return "\n\n".join(texts)
