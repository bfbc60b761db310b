"""Views: cells that are looked at closely, in a page or a notebook, with a slider along a sweep."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from .._validation import check_at_least, check_count, check_instance, check_text
from ._cells import Cell, Layers, Picture, Ranking, enlarged, percent
from ._grid import grid
from ._media import SMALL, Media
from ._templates import rendered
from ._text import printable

Rows = Sequence[Sequence[Cell | None]]


@dataclasses.dataclass(frozen=True)
class View:
    """Rows of cells, at each place of a slider; made by `explore`.

    In Jupyter, VS Code and Colab a cell that ends with one shows it.

    Attributes:
      frames: the rows by the name of the slider's place; one alone if there is no slider.
      slider: what the slider changes, or "".
      row_titles: one for each row of a frame.
      column_titles: one for each column.
      caption: what is written below.
      cell_width: what a picture's width is enlarged to, in pixels.
      start: where the slider is at first.
    """

    # A notebook keeps the text of what it shows beside it: the pixels need not be in both.
    frames: Mapping[str, Rows] = dataclasses.field(repr=False)
    slider: str = ""
    row_titles: Sequence[str] = ()
    column_titles: Sequence[str] = ()
    caption: str = ""
    cell_width: int = 192
    start: str = ""

    def _repr_html_(self) -> str:
        """A page of its own inside the notebook's, whose styles and scripts do not meet."""
        page = rendered("notebook.html.jinja", view=self.html(Media()))
        style = "width: 100%; height: 32rem; border: 0"
        return (
            f'<iframe title="{html.escape(printable(self._described))}" style="{style}" '
            f'srcdoc="{html.escape(page)}"></iframe>'
        )

    def figure(self) -> Figure:
        """What the view shows at first, as `plots.grid` draws it, of layers the last."""
        return grid(
            self.frames[self.start],
            row_titles=self.row_titles,
            column_titles=self.column_titles,
            caption=self.caption,
            cell_width=self.cell_width,
        )

    def html(self, media: Media) -> Markup:
        """The view as a part of a page, which has the style and the script for it.

        Args:
          media: the page's.
        """
        rows = [
            (title, [self._places(media, row, column) for column in range(self._num_columns)])
            for row, title in enumerate(self.row_titles or [""] * self._num_rows)
        ]
        layers = dict.fromkeys(
            layer
            for cell in self._cells
            if isinstance(cell, Layers) and len(cell.pictures) > 1
            for layer in cell.pictures
        )
        made = rendered(
            "view.html.jinja",
            view=self,
            name=media.name("view"),
            described=self._described,
            places=list(map(printable, self.frames)),
            start=list(self.frames).index(self.start),
            layers=list(layers),
            rows=rows,
            widths=", ".join(self._widths),
        )
        return Markup(made)

    @property
    def _described(self) -> str:
        return f"Pictures, with a slider of the {self.slider}" if self.slider else "Pictures"

    @property
    def _widths(self) -> list[str]:
        """What a column is at least as wide as, for the style."""
        pictures = {
            cell.shape[1]: self._enlargement(cell)
            for cell in self._cells
            if not isinstance(cell, Ranking)
        }
        widths = [f"{width}px * {times}" for width, times in pictures.items()]
        return widths or [f"{self.cell_width}px"]

    def _enlargement(self, cell: Cell) -> str:
        """How many times a picture is enlarged, for the style; `--more` is the reader's part.

        That is a whole number for small pictures, whose pixels one looks at; large ones shrink too.
        """
        zoom = self._zoom(cell.shape[1])
        if max(cell.shape) <= SMALL:
            return f"max(1, {zoom} + var(--more))"
        return f"max(0.25, {zoom} + 0.25 * var(--more))"

    def _zoom(self, width: int) -> int:
        return max(1, enlarged(width, self.cell_width) // width)

    @property
    def _num_rows(self) -> int:
        return max(map(len, self.frames.values()))

    @property
    def _num_columns(self) -> int:
        return max((len(row) for rows in self.frames.values() for row in rows), default=0)

    @property
    def _cells(self) -> list[Cell]:
        return [cell for rows in self.frames.values() for row in rows for cell in row if cell]

    def _places(self, media: Media, row: int, column: int) -> list[dict[str, Any]]:
        """What a cell shows at each place of the slider; one thing, if it is always the same."""
        found = [self._contents(media, place, row, column) for place in self.frames]
        first = [_without_addresses(found[0])] if found[0] else []
        if len(found) > 1 and [_without_addresses(each) for each in found if each] == (
            first * len(found)
        ):
            return [found[0] | {"place": None}]
        return [each | {"place": place} for place, each in enumerate(found) if each]

    def _contents(self, media: Media, place: str, row: int, column: int) -> dict[str, Any]:
        """What a template shows of one cell at one place; nothing if there is none."""
        rows = self.frames[place]
        cells = rows[row] if row < len(rows) else ()
        cell = cells[column] if column < len(cells) else None
        if cell is None:
            return {}
        heading = self.column_titles[column] if self.column_titles else ""
        above = [self.row_titles[row] if self.row_titles else "", heading, cell.title]
        described = ", ".join(filter(None, above)) or "picture"
        content: dict[str, Any] = {
            "heading": heading,
            "title": cell.title,
            "note": cell.note,
            "pictures": [],
            "bars": [],
            "shape": cell.shape,
        }
        if isinstance(cell, Ranking):
            bars = zip(cell.names, cell.fractions, strict=True)
            content["bars"] = [(name, float(part), percent(part)) for name, part in bars]
            return content
        if not isinstance(cell, Layers | Picture):
            raise TypeError(f"expected a Picture, Layers or a Ranking, got {type(cell).__name__}")
        content["times"] = self._enlargement(cell)
        content["small"] = max(cell.shape) <= SMALL
        pictures = cell.pictures if isinstance(cell, Layers) else {"": cell}
        for layer, picture in pictures.items():
            content["pictures"].append(
                {
                    "layer": layer if len(pictures) > 1 else "",
                    "source": media.source(picture),
                    "alt": f"{described}: {layer}" if layer else described,
                }
            )
        return content


def _without_addresses(content: Mapping[str, Any]) -> dict[str, Any]:
    names = [picture["source"].name for picture in content["pictures"]]
    return {**content, "pictures": names}


def explore(
    frames: Mapping[str, Rows] | Rows,
    slider: str = "",
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    caption: str = "",
    cell_width: int = 192,
    start: str | None = None,
) -> View:
    """Cells in rows to look at closely: with a slider along a sweep, and layers to be turned over.

    A notebook shows it where it is the last of a cell, a page where a `Section` has it. Small
    pictures are enlarged by a whole number without smoothing. Pointing at `Layers` shows the image
    itself, a tap or a click the next layer; all of it can be done by the keyboard.

    Args:
      frames: rows of cells, as `grid` takes them: pictures, layers and rankings. For a slider a
        mapping from the names of its places to the rows that are there.
      slider: what it changes, such as the scale; "" where there is none.
      row_titles: written above each row.
      column_titles: written above each cell.
      caption: written below.
      cell_width: what the pictures are enlarged to, in pixels; the reader can change that.
      start: the place at which the slider is at first; the first one if None.

    Returns:
      The view.

    Raises:
      ValueError: there is no cell, titles do not fit the rows and columns, several frames have no
        slider, or there is no such start.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> shades = {f"{level:g}": np.full((8, 8, 3), level) for level in (0.0, 0.5, 1.0)}
      >>> rows = {level: [[plots.image(shade)]] for level, shade in shades.items()}
      >>> view = plots.explore(rows, "brightness")
      >>> list(view.frames)
      ['0', '0.5', '1']
    """
    check_instance("frames", frames, (Mapping, Sequence), "rows of cells, or such by name")
    check_text("slider", slider)
    check_text("caption", caption)
    if not isinstance(frames, Mapping):
        frames = {"": frames}
    places = list(frames) or [""]
    start = places[0] if start is None else start
    view = View(frames, slider, row_titles, column_titles, caption, cell_width, start)
    check_at_least("the number of cells", len(view._cells), 1)
    cell_width = check_count("cell_width", cell_width, 32)
    if start not in places:
        raise ValueError(f"expected start to be one of {', '.join(places)}, got {start}")
    if len(frames) > 1 and not slider:
        raise ValueError(f"expected the slider's name for {len(frames)} frames, got none")
    for name, titles, count in (
        ("row_titles", row_titles, view._num_rows),
        ("column_titles", column_titles, view._num_columns),
    ):
        if titles and len(titles) != count:
            raise ValueError(f"expected {count} {name}, got {len(titles)}")
    return view
