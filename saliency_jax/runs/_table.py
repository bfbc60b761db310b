"""Tables: rows of text under a header, for the terminal, the notebook and the page."""

import dataclasses
import html
from collections.abc import Sequence

from ._text import columns, one_line, printable


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a header, for the terminal and for the page.

    Attributes:
      header: the columns' names.
      rows: the cells as they are written, as many in each row as in the header.

    Raises:
      ValueError: a row has another length than the header.

    Example:
      >>> from saliency_jax.runs import Table
      >>> print(Table(("class", "probability"), [("lemon", "98 %"), ("goose", "7 %")]))
      class  probability
      lemon         98 %
      goose          7 %
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"expected {len(self.header)} cells in a row, got {len(row)}")

    def __str__(self) -> str:
        lines = [list(map(one_line, line)) for line in (self.header, *self.rows)]
        widths = [max(map(columns, cells)) for cells in zip(*lines, strict=True)]

        def padded(cell: str, width: int, is_number: bool) -> str:
            space = " " * (width - columns(cell))
            return space + cell if is_number else cell + space

        return "\n".join(
            "  ".join(map(padded, line, widths, self.is_number)).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        """How pages and notebooks show it."""
        kinds = [' class="number"' if is_number else "" for is_number in self.is_number]

        def line(tag: str, cells: Sequence[str]) -> str:
            pairs = zip(kinds, cells, strict=True)
            filled = (
                f"<{tag}{kind}>{html.escape(printable(cell))}</{tag}>" for kind, cell in pairs
            )
            return f"<tr>{''.join(filled)}</tr>"

        lines = [line("th", self.header), *(line("td", row) for row in self.rows)]
        return "\n".join(["<table>", *lines, "</table>"])

    @property
    def is_number(self) -> list[bool]:
        """For each column, whether it holds numbers, which are aligned at the right."""
        all_cells = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.header)
        return [any(cells) and all(map(_begins_as_number, cells)) for cells in all_cells]


def _begins_as_number(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "+-"
