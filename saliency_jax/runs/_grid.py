"""Figures of cells in rows."""

import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure

from .._validation import check_at_least, check_count, check_instance, check_text
from ._cells import MOST_HIGH, MOST_WIDE, Cell, enlarged
from ._text import BOLD, DPI, FONT_SIZE, LINE, literal, wrapped

_GAP = 12
_MARGIN = 14
# What Agg, and many viewers, can draw.
_LARGEST_SIDE = 2**16 - 1


def grid(
    rows: Sequence[Sequence[Cell | None]],
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    caption: str = "",
    cell_width: int = 192,
) -> Figure:
    """A figure of cells in rows, small pictures enlarged by a whole number without smoothing.

    Args:
      rows: the cells, row by row; None leaves a place empty.
      row_titles: written upright at the left of each row.
      column_titles: written above the first row.
      caption: written below the grid.
      cell_width: the width of a cell in pixels of the figure, at least 32. It is rounded to a
        multiple of the widest picture's width, unless that is much wider. A picture of one row or
        of one column is stretched to a stripe.

    Returns:
      The figure, to be saved at its own resolution.

    Raises:
      ValueError: there is no cell, titles do not fit the rows and columns, or the figure has more
        than 65535 pixels on a side.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.runs import plots
      >>> figure = plots.grid([[plots.image(np.zeros((64, 64, 3)), "black")]])
      >>> len(figure.axes)
      1
    """
    check_instance("rows", rows, Sequence, "a sequence of rows of cells")
    check_text("caption", caption)
    num_columns = max((len(row) for row in rows), default=0)
    cells = [cell for row in rows for cell in row if cell is not None]
    check_at_least("the number of cells", len(cells), 1)
    cell_width = check_count("cell_width", cell_width, 32)
    for name, titles, count in (
        ("row_titles", row_titles, len(rows)),
        ("column_titles", column_titles, num_columns),
    ):
        if titles and len(titles) != count:
            raise ValueError(f"expected {count} {name}, got {len(titles)}")

    width = enlarged(max(cell.shape[1] for cell in cells), cell_width)
    heights = [
        max((_cell_height(cell, width) for cell in row if cell is not None), default=width)
        for row in rows
    ]
    row_texts = [
        wrapped(title, height, BOLD) for title, height in zip(row_titles, heights, strict=False)
    ]
    column_texts = [wrapped(title, width, BOLD) for title in column_titles]
    beside = max((num_lines(text) for text in row_texts), default=0) * LINE
    left = _MARGIN + (beside + _GAP // 2 if row_titles else 0)
    total_width = left + num_columns * (width + _GAP) - _GAP + _MARGIN
    caption_text = wrapped(caption, total_width - left - _MARGIN)

    # From the top down, in pixels; matplotlib counts from the bottom, so the height comes first.
    top = _MARGIN + _height(column_texts)
    tops = []
    for row, height in zip(rows, heights, strict=True):
        present = [cell for cell in row if cell is not None]
        titles = [wrapped(cell.title, width) for cell in present]
        notes = [wrapped(cell.note, width) for cell in present]
        top += _height(titles)
        tops.append(top)
        top += height + _height(notes) + _GAP
    total_height = top + _height([caption_text]) + _MARGIN - _GAP

    if max(total_width, total_height) > _LARGEST_SIDE:
        raise ValueError(
            f"expected a figure of at most {_LARGEST_SIDE} pixels on a side, got "
            f"{total_height} x {total_width}; draw fewer cells or a smaller cell_width"
        )
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")

    def write(x: int | float, y: int | float, text: str, **style) -> None:
        style = {"fontsize": FONT_SIZE, "ha": "center", "va": "bottom", **style}
        figure.text(x / total_width, 1 - y / total_height, text, **style)

    for column, text in enumerate(column_texts):
        center = left + column * (width + _GAP) + width / 2
        write(center, _MARGIN + _height(column_texts) - 4, text, weight="bold")
    for row, text, top, height in itertools.zip_longest(rows, row_texts, tops, heights):
        if text:
            style = {"rotation": "vertical", "ha": "center", "va": "center", "weight": "bold"}
            write(_MARGIN + beside / 2, top + height / 2, text, **style)
        for column, cell in enumerate(row):
            if cell is None:
                continue
            x = left + column * (width + _GAP)
            box = (
                x / total_width,
                1 - (top + height) / total_height,
                width / total_width,
                height / total_height,
            )
            axes = figure.add_axes(box)
            cell.draw(axes)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            write(x + width / 2, top - 3, wrapped(cell.title, width))
            note = wrapped(cell.note, width)
            write(x + width / 2, top + height + 3, note, va="top", color="#555555")
    write(left, total_height - _MARGIN, caption_text, ha="left", color="#555555")
    literal(figure)
    return figure


def _cell_height(cell: Cell, width: int) -> int:
    rows, columns = cell.shape
    return round(width * min(max(rows / columns, 1 / MOST_WIDE), MOST_HIGH))


def num_lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def _height(texts: Sequence[str]) -> int:
    lines = max(map(num_lines, texts), default=0)
    return lines * LINE + (6 if lines else 0)
