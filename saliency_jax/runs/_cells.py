"""Cells: what one place of a grid or of a view holds."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from .._types import Number
from .._validation import check_at_least
from ._text import FONT_SIZE, LINE, one_line, shortened, text_width

# A picture that is wider or higher than so many times its other side is stretched.
MOST_WIDE, MOST_HIGH = 32, 8
_GAP = 12

Pixels = Float[np.ndarray, "h w 3"]


@runtime_checkable
class Cell(Protocol):
    """One place of a grid: a title above it, a note below it, and how it is drawn."""

    @property
    def title(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def draw(self, axes: Axes) -> None: ...


@dataclasses.dataclass(frozen=True)
class Picture:
    """A cell of coloured pixels.

    Attributes:
      pixels: (h, w, 3) in [0, 1].
      title: what is written above.
      note: what is written below; for a map, how its colours were chosen.
    """

    pixels: Pixels
    title: str = ""
    note: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def draw(self, axes: Axes) -> None:
        stretched = not 1 / MOST_WIDE <= self.shape[0] / self.shape[1] <= MOST_HIGH
        aspect: Literal["auto", "equal"] = "auto" if stretched else "equal"
        axes.imshow(self.pixels, interpolation="auto", aspect=aspect)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A cell of horizontal bars: the likeliest classes, say, with their probabilities.

    Attributes:
      names: from the top down, at least one; a name that its bar does not hold is shortened.
      fractions: the length of each bar, in [0, 1]; it is written out in per cent.
      title: what is written above.
      note: what is written below.
    """

    names: Sequence[str]
    fractions: Sequence[Number]
    title: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_at_least("the number of names", len(self.names), 1)
        if len(self.fractions) != len(self.names):
            raise ValueError(
                f"expected {len(self.names)} fractions, one for each name, got "
                f"{len(self.fractions)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return 1, 1

    def draw(self, axes: Axes) -> None:
        rows = range(len(self.names))
        axes.barh(rows, [float(part) for part in self.fractions], height=0.86, color="#b9cfe6")
        box = axes.get_window_extent()
        lines = max(1, int(box.height / len(self.names) / LINE))
        for row, name, fraction in zip(rows, self.names, self.fractions, strict=True):
            share = percent(fraction)
            available = 0.94 * box.width - text_width(share) - _GAP
            text = shortened(one_line(name), available, lines)
            axes.text(0.03, row, text, va="center", fontsize=FONT_SIZE)
            axes.text(0.97, row, share, va="center", ha="right", fontsize=FONT_SIZE)
        axes.set(xlim=(0, 1), ylim=(len(self.names) - 0.5, -0.5))


@dataclasses.dataclass(frozen=True)
class Layers:
    """A cell of pictures that lie over each other: an image, its map, the one over the other.

    A view shows one of them at a time, a figure the last one.

    Attributes:
      pictures: by what they are called, at least one, all of one shape. The last is shown first,
        and while it is pointed at the first one is.
      title: what is written above.
      note: what is written below.

    Raises:
      ValueError: there is no picture, or they are of several shapes.
    """

    pictures: Mapping[str, Picture]
    title: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_at_least("the number of pictures", len(self.pictures), 1)
        shapes = {picture.shape for picture in self.pictures.values()}
        if len(shapes) > 1:
            raise ValueError(f"expected pictures of one shape, got {sorted(shapes)}")

    @property
    def shape(self) -> tuple[int, int]:
        return self._last.shape

    def draw(self, axes: Axes) -> None:
        self._last.draw(axes)

    @property
    def _last(self) -> Picture:
        return list(self.pictures.values())[-1]


def percent(fraction: Number) -> str:
    """A probability as it is written in titles: without decimals, unless it is near 0 or 1.

    Args:
      fraction: in [0, 1].

    Returns:
      The text. It says 100 % or 0 % only where that is right to a tenth of a per cent.

    Example:
      >>> from saliency_jax.runs import plots
      >>> plots.percent(0.6789), plots.percent(0.9971), plots.percent(0.9999)
      ('68 %', '99.7 %', '100 %')
    """
    of_hundred = 100 * float(fraction)
    text = f"{of_hundred:.1f}" if min(of_hundred, 100 - of_hundred) < 1 else f"{of_hundred:.0f}"
    return f"{text.removesuffix('.0')} %"


def enlarged(width: int, wanted: int) -> int:
    """The multiple of the width that is nearest to the wanted one."""
    return wanted if width > 1.5 * wanted else max(1, round(wanted / width)) * width
