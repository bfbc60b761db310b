"""Figures and views: pictures, maps and rankings in a grid or to explore; curves, intervals.

Every map says how its colours were chosen: a map shown without its scale can look like anything. A
function turns arrays into one cell, `grid` lays cells out, and the figure is saved by
`figure.savefig(path)` or by `runs.RunFolder.save_figure`. `explore` takes the same cells, for a
page or a notebook in which they can be turned over and moved along a sweep.

What means the same everywhere here, beside the words of the room:

  image: (h, w, 3), or (h, w, 1) for grey, in [0, 1], of NumPy or JAX and of any floating type.
  saliency_map: (h, w), at least 0, in any unit; a signed map is drawn by `signed_map`.
  title, note: what is written above and below a cell, in as many lines as it takes.
  percentile: from 0 to 100. The share of a map's values that its colours tell apart: a few larger
    ones share the last colour, and do not darken all the rest. 100 clips nothing.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Array, Float, Real
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as PILImage

from .._validation import (
    as_any_number,
    as_number,
    check_array,
    check_at_least,
    check_callable,
    check_count,
    check_finite,
    check_instance,
    check_text,
)
from ._cells import Cell as Cell
from ._cells import Layers as Layers
from ._cells import Picture as Picture
from ._cells import Pixels
from ._cells import Ranking as Ranking
from ._cells import percent as percent
from ._grid import grid as grid
from ._grid import num_lines
from ._text import BOLD, DPI, FONT_SIZE, LINE, literal, one_line, text_width, wrapped
from ._view import View as View
from ._view import explore as explore

PERCENTILE = 99.0
# The note of a map that has no scale.
ALL_ZERO = "all zero"
# An odd number of colours, so that zero has one of its own.
_DIVERGING = matplotlib.colormaps["RdBu_r"].resampled(257)
_SEQUENTIAL = matplotlib.colormaps["inferno"]
_ROUNDING = 1e-5

_PANEL_WIDTH, _PANEL_HEIGHT = 330, 250
_PANELS_IN_A_ROW = 3
# Of a legend's entry, what is beside its name; of a panel, what is beside its title.
_LEGEND_LINE = 62
_PANEL_MARGIN = 50
# Of `intervals`: a panel, a line of it, and what is above and below its lines.
_INTERVALS_IN_A_ROW, _INTERVALS_WIDTH, _INTERVALS_LINE, _INTERVALS_MARGIN = 5, 260, 26, 100
# How far apart on a line the dots of the first and of the last curve are.
_SPREAD = 0.3
# Told apart by the colour-blind too (Petroff 2021, arXiv:2107.02270).
COLORS = matplotlib.color_sequences["petroff10"]
# Of curves beyond the ten colours.
_LINE_STYLES = (".-", ".--", ".:", ".-.")


AnyImage = Float[Array | np.ndarray, "h w c"]
AnyMap = Float[Array | np.ndarray, "h w"]
Values = Real[Array | np.ndarray, "n"]
Box = Real[Array | np.ndarray, "4"]
RED = (1.0, 0.2, 0.2)


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of `curves`, and the band of its intervals.

    Attributes:
      name: in the legend.
      x: (n,).
      y: (n,).
      low: (n,), the lower edge of the band.
      high: (n,), its upper edge.
    """

    name: str
    x: Values
    y: Values
    low: Values
    high: Values

    def __post_init__(self) -> None:
        for name in ("y", "low", "high"):
            if np.shape(getattr(self, name)) != np.shape(self.x):
                raise ValueError(
                    f"expected {name} to have the shape of x {np.shape(self.x)}, got "
                    f"{np.shape(getattr(self, name))}"
                )

    @property
    def points(self) -> Float[np.ndarray, "4 n"]:
        """x, y and the edges of the band."""
        return np.array([self.x, self.y, self.low, self.high], np.float64)


def image(image: AnyImage, title: str = "", note: str = "") -> Picture:
    """A cell that shows an image as it is.

    Args:
      image, title, note: see the module.

    Returns:
      The cell.

    Raises:
      TypeError: the image does not hold floats.
      ValueError: it has another shape, or values that are not in [0, 1].

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> plots.image(np.full((2, 2, 1), 0.25)).pixels[0, 0].tolist()
      [0.25, 0.25, 0.25]
    """
    check_text("title", title)
    check_text("note", note)
    return Picture(_rgb(image), title, note)


def saliency_map(
    saliency_map: AnyMap, title: str = "", *, percentile: int | float = PERCENTILE
) -> Picture:
    """A cell that shows an unsigned map, from black at 0 to bright at its percentile.

    color(m) = inferno(min(m / p, 1)), p the percentile of the map's values, or its maximum where
    the percentile is 0

    Args:
      saliency_map, title, percentile: see the module.

    Returns:
      The cell; its note states p, or that the whole map is zero.

    Raises:
      TypeError: the map does not hold floats.
      ValueError: it has another shape, it is not finite, or a value is negative.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> plots.saliency_map(np.array([[0.0, 1.0], [2.0, 3.0]]), percentile=100).note
      '0 to 3 (maximum)'
      >>> plots.saliency_map(np.zeros((2, 2))).note
      'all zero'
    """
    check_text("title", title)
    strength, note = _strength(saliency_map, percentile)
    return Picture(_SEQUENTIAL(strength)[..., :3], title, note)


def signed_map(
    signed_map: AnyMap, title: str = "", *, percentile: int | float = PERCENTILE
) -> Picture:
    """A cell that shows a signed map: blue below 0, white at 0, red above 0.

    color(m) = RdBu((1 + clip(m / p, -1, 1)) / 2), p the percentile of the absolute values, or their
    maximum where the percentile is 0

    Args:
      signed_map: (h, w), in any unit.
      title, percentile: see the module; the percentile is of absolute values.

    Returns:
      The cell; its note states p, or that the whole map is zero.

    Raises:
      TypeError: the map does not hold floats.
      ValueError: it has another shape, or it is not finite.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> plots.signed_map(np.array([[-2.0, 1.0]]), percentile=100).note
      '-2 to 2 (maximum)'
    """
    check_text("title", title)
    check_array("signed_map", signed_map, ("h", "w"))
    check_finite("signed_map", signed_map)
    values = np.asarray(signed_map, np.float64)
    limit, kind = _limit(np.abs(values), percentile)
    colors = _DIVERGING((1 + np.clip(values / limit, -1, 1)) / 2)[..., :3]
    if not values.any():
        return Picture(colors, title, ALL_ZERO)
    return Picture(colors, title, f"{_short(-limit)} to {_short(limit)} ({kind})")


def overlay(
    image: AnyImage, saliency_map: AnyMap, title: str = "", *, percentile: int | float = PERCENTILE
) -> Picture:
    """A cell that shows an unsigned map over its image: the image in grey, glowing where it counts.

    color = (1 - a) grey / 2 + a inferno(a), a = min(m / p, 1) as in `saliency_map`

    Args:
      image, saliency_map, title, percentile: see the module; the map is of the image's size.

    Returns:
      The cell; its note states p, or that the whole map is zero.

    Raises:
      TypeError: image or map do not hold floats.
      ValueError: their shapes do not fit, or values are out of range.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> cell = plots.overlay(np.ones((1, 2, 3)), np.array([[0.0, 1.0]]), percentile=100)
      >>> cell.pixels[0, 0].tolist()
      [0.5, 0.5, 0.5]
    """
    check_text("title", title)
    grey = _rgb(image).mean(axis=-1, keepdims=True) / 2
    strength, note = _strength(saliency_map, percentile)
    if strength.shape != grey.shape[:2]:
        raise ValueError(
            "expected saliency_map to have the image's height and width "
            f"{grey.shape[:2]}, got {strength.shape}"
        )
    weight = strength[..., None]
    return Picture((1 - weight) * grey + weight * _SEQUENTIAL(strength)[..., :3], title, note)


def layers(
    image: AnyImage,
    saliency_map: AnyMap,
    title: str = "",
    *,
    draw: Callable[..., Picture] = saliency_map,
) -> Layers:
    """A cell of an image, its map over it, and the map, of which a view shows one at a time.

    Args:
      image, saliency_map, title: see the module; the map is of the image's size, and what is over
        the image is its absolute value.
      draw: how the map alone is drawn: `saliency_map`, or `signed_map` for one that has a sign.

    Returns:
      The cell; its note is the map's.

    Raises:
      TypeError: image or map do not hold floats.
      ValueError: their shapes do not fit, or values are out of range.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> cell = plots.layers(np.ones((1, 2, 3)), np.array([[-2.0, 1.0]]), draw=plots.signed_map)
      >>> list(cell.pictures), cell.note
      (['original', 'overlay', 'map'], '-2 to 2 (99 % of pixels)')
    """
    check_text("title", title)
    check_callable("draw", draw)
    drawn = draw(saliency_map)
    strength = np.abs(np.asarray(saliency_map))
    original = Picture(_rgb(image))
    pictures = {"original": original, "overlay": overlay(image, strength), "map": drawn}
    return Layers(pictures, title, drawn.note)


def outlined(image: AnyImage, box: Box, color: Sequence[int | float] = RED) -> Pixels:
    """An image with a box drawn into it: the pixels along its inside.

    Args:
      image: see the module.
      box: (y0, x0, y1, x1) in pixels, half open, rounded to whole ones.
      color: red, green and blue in [0, 1].

    Returns:
      (h, w, 3), for `image`, or for the next box.

    Raises:
      TypeError: the image does not hold floats.
      ValueError: it has another shape, or values that are not in [0, 1].

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> marked = plots.outlined(np.zeros((4, 5, 1)), np.array([0, 1, 3, 5]), (1, 1, 1))
      >>> print(marked[..., 0].astype(int))
      [[0 1 1 1 1]
       [0 1 0 0 1]
       [0 1 1 1 1]
       [0 0 0 0 0]]
    """
    check_instance("box", box, (Sequence, Array, np.ndarray), "(y0, x0, y1, x1)")
    marked = _rgb(image).copy()
    check_instance("color", color, (Sequence, Array, np.ndarray), "red, green and blue")
    if np.ndim(box) != 1 or np.ndim(color) != 1:
        raise ValueError(f"expected box and color to be numbers in a row, got {box} and {color}")
    marks = [as_number("color", part) for part in color]
    if len(marks) != 3:
        raise ValueError(f"expected color to be red, green and blue, got {color}")
    ends = np.array([as_number("box", end) for end in box], float)
    if ends.shape != (4,) or not np.isfinite(ends).all():
        raise ValueError(f"expected box to be four finite numbers, got {box}")
    top, left, bottom, right = map(round, ends.tolist())
    inside = np.zeros(marked.shape[:2], bool)
    inside[top:bottom, left:right] = True
    inside[top + 1 : bottom - 1, left + 1 : right - 1] = False
    marked[inside] = color
    return marked


def curves(
    panels: Mapping[str, Sequence[Curve]], x_label: str, *, log_base: int | None = None
) -> Figure:
    """A figure of panels side by side, with lines over one quantity and bands for their intervals.

    Args:
      panels: the curves by what they show, which is written above each panel. Curves of one name
        have one colour in all of them.
      x_label: what all panels are over.
      log_base: if given, that axis is logarithmic, with its ticks at powers of this base.

    Returns:
      The figure, to be saved at its own resolution.

    Raises:
      ValueError: there is no panel.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> steps, score = np.array([1, 2, 4]), np.array([0.0, 0.5, 0.8])
      >>> curve = plots.Curve("robust", steps, score, score - 0.1, score + 0.1)
      >>> figure = plots.curves({"score": [curve]}, "steps", log_base=2)
      >>> figure.axes[0].get_title()
      'score'
    """
    check_instance("panels", panels, Mapping, "curves by the names of panels")
    check_text("x_label", x_label)
    if log_base is not None:
        log_base = check_count("log_base", log_base, 2)
    check_at_least("the number of panels", len(panels), 1)
    columns = min(len(panels), _PANELS_IN_A_ROW)
    rows = -(-len(panels) // columns)
    total_width = columns * _PANEL_WIDTH
    legend = _Legend(panels, total_width)
    titles = [wrapped(title, _PANEL_WIDTH - _PANEL_MARGIN, BOLD) for title in panels]
    label = wrapped(x_label, _PANEL_WIDTH - _PANEL_MARGIN)
    texts_height = rows * (max(map(num_lines, titles)) + num_lines(label) - 2) * LINE
    height = rows * _PANEL_HEIGHT + texts_height + legend.height
    size = (total_width / DPI, height / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, title, lines in zip(all_axes, titles, panels.values(), strict=False):
        for curve in lines:
            number = legend.names.index(curve.name)
            cycle, place = divmod(number, len(COLORS))
            color, style = COLORS[place], _LINE_STYLES[cycle % len(_LINE_STYLES)]
            x, y, low, high = curve.points
            (line,) = axes.plot(x, y, style, color=color)
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            legend.handles.setdefault(curve.name, line)
        axes.set_title(title, fontsize=FONT_SIZE, weight="bold")
        axes.set_xlabel(label, fontsize=FONT_SIZE)
        axes.tick_params(labelsize=FONT_SIZE)
        if log_base is not None:
            axes.set_xscale("log", base=log_base)
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    legend.write(figure)
    literal(figure)
    return figure


def intervals(
    panels: Mapping[str, Sequence[Curve]], names: Sequence[str], *, ruled_off: int = 0
) -> Figure:
    """A figure of panels side by side, in which each name has a line with dots and intervals on it.

    Args:
      panels: by what they show, which is written above each, a curve for each colour of dots: their
        places along the axis are `y`, the intervals' ends `low` and `high`, and `x` says which of
        the names a dot belongs to.
      names: what the lines are, from the top down.
      ruled_off: how many of the last lines are below a rule, such as those of controls.

    Returns:
      The figure, to be saved at its own resolution.

    Raises:
      ValueError: there is no panel or no name.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> means = np.array([0.7, 0.4])
      >>> curve = plots.Curve("robust", np.arange(2), means, means - 0.1, means + 0.1)
      >>> figure = plots.intervals({"insertion": [curve]}, ["saliency", "random"], ruled_off=1)
      >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
      ['saliency', 'random']
    """
    check_instance("panels", panels, Mapping, "curves by the names of panels")
    check_instance("names", names, Sequence, "a sequence of names")
    ruled_off = check_count("ruled_off", ruled_off, 0)
    check_at_least("the number of panels", len(panels), 1)
    check_at_least("the number of names", len(names), 1)
    columns = min(len(panels), _INTERVALS_IN_A_ROW)
    rows = -(-len(panels) // columns)
    legend = _Legend(panels, columns * _INTERVALS_WIDTH)
    height = rows * (_INTERVALS_LINE * len(names) + _INTERVALS_MARGIN) + legend.height
    size = (columns * _INTERVALS_WIDTH / DPI, height / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    all_axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    shifts = np.linspace(-_SPREAD / 2, _SPREAD / 2, max(2, len(legend.names)))
    for axes, (title, lines) in zip(all_axes, panels.items(), strict=False):
        for curve in lines:
            number = legend.names.index(curve.name)
            x, y, low, high = curve.points
            options = {"xerr": np.stack([y - low, high - y]), "fmt": "o", "ms": 3}
            dots = axes.errorbar(
                y, x + shifts[number], **options, color=COLORS[number % len(COLORS)]
            )
            legend.handles.setdefault(curve.name, dots)
        if ruled_off:
            axes.axhline(len(names) - ruled_off - 0.5, color="#bbbbbb", linewidth=1)
        axes.set_title(
            wrapped(title, _INTERVALS_WIDTH - _PANEL_MARGIN, BOLD),
            fontsize=FONT_SIZE,
            weight="bold",
        )
        axes.tick_params(labelsize=FONT_SIZE)
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    all_axes[0].set_yticks(range(len(names)), map(one_line, names))
    all_axes[0].set_ylim(len(names) - 0.5, -0.5)
    legend.write(figure)
    literal(figure)
    return figure


def gif(figures: Sequence[Figure], *, milliseconds: int = 500) -> bytes:
    """An animated GIF of figures, one after the other, without end.

    Args:
      figures: such as those of `grid` for the snapshots of an ascent. A smaller one, of which fewer
        titles need a second line, is filled up with white on the right and below.
      milliseconds: for how long each is shown, at least 20, below which viewers slow down.

    Returns:
      The file's bytes. Each figure has up to 256 colours of its own.

    Raises:
      ValueError: there is no figure, or milliseconds < 20.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> shades = [np.full((8, 8, 3), level) for level in (0.0, 0.5, 1.0)]
      >>> plots.gif([plots.grid([[plots.image(shade)]]) for shade in shades])[:6]
      b'GIF89a'
    """
    check_instance("figures", figures, Sequence, "a sequence of figures")
    milliseconds = check_count("milliseconds", milliseconds, 20)
    check_at_least("the number of figures", len(figures), 1)
    frames = []
    for figure in figures:
        literal(figure)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(PILImage.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    size = max(frame.width for frame in frames), max(frame.height for frame in frames)
    for place, frame in enumerate(frames):
        frames[place] = PILImage.new("RGB", size, "white")
        frames[place].paste(frame)
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0
    )
    return file.getvalue()


class _Legend:
    """The names of all curves below a figure, in as many columns as its width in pixels holds."""

    def __init__(self, panels: Mapping[str, Sequence[Curve]], width: int):
        self.names = list(dict.fromkeys(curve.name for lines in panels.values() for curve in lines))
        self.handles: dict[str, Any] = {}
        self._texts = [wrapped(one_line(name), width - _LEGEND_LINE) for name in self.names]
        lines = [line for text in self._texts for line in text.split("\n")]
        self._columns = max(1, int(width / (max(map(text_width, lines), default=0) + _LEGEND_LINE)))

    @property
    def height(self) -> int:
        rows = -(-len(self.names) // self._columns)
        return (rows * max(map(num_lines, self._texts), default=0) + 1) * LINE

    def write(self, figure: Figure) -> None:
        """Writes what `handles` were found for: all names."""
        legend = figure.legend(
            list(self.handles.values()),
            # Written below, since matplotlib leaves out names that begin with an underscore.
            ["name"] * len(self.handles),
            loc="outside lower center",
            ncols=self._columns,
            fontsize=FONT_SIZE,
            frameon=False,
        )
        for written, text in zip(legend.get_texts(), self._texts, strict=True):
            written.set_text(text)


def _rgb(image: AnyImage) -> Pixels:
    check_array("image", image, ("h", "w", "c"))
    check_finite("image", image)
    pixels = np.asarray(image, np.float64)
    if pixels.shape[-1] not in (1, 3):
        raise ValueError(f"expected image to have 1 or 3 channels, got {pixels.shape[-1]}")
    low, high = pixels.min(), pixels.max()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(f"expected image to be in [0, 1], got values from {low:.3g} to {high:.3g}")
    return np.broadcast_to(np.clip(pixels, 0, 1), (*pixels.shape[:2], 3))


def _strength(
    saliency_map: AnyMap, percentile: int | float
) -> tuple[Float[np.ndarray, "h w"], str]:
    """The map in [0, 1] after clipping, and the note that says so."""
    check_array("saliency_map", saliency_map, ("h", "w"))
    check_finite("saliency_map", saliency_map)
    values = np.asarray(saliency_map, np.float64)
    if values.min() < 0:
        raise ValueError(
            f"expected saliency_map to be at least 0, got {values.min():.3g}; a signed map is "
            "drawn by signed_map"
        )
    limit, kind = _limit(values, percentile)
    note = f"0 to {_short(limit)} ({kind})" if values.any() else ALL_ZERO
    return np.minimum(values / limit, 1), note


def _short(value: float) -> str:
    """A number in two digits, or the nearest whole one, whichever is written without a power."""
    return f"{value:.0f}" if 10 <= abs(value) < 1e4 else f"{value:.2g}"


def _limit(magnitudes: Float[np.ndarray, "h w"], percentile: int | float) -> tuple[float, str]:
    """The magnitude that gets the last colour, and what it is called."""
    percentile = float(as_any_number("percentile", percentile))
    if not 0 <= percentile <= 100:
        raise ValueError(f"expected percentile to be in [0, 100], got {percentile}")
    limit = float(np.percentile(magnitudes, percentile))
    if limit > 0 and percentile < 100:
        return limit, f"{percentile:g} % of pixels"
    return float(magnitudes.max()) or 1.0, "maximum"
