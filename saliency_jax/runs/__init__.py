"""Runs: grids of work that continue, the folder that a run leaves behind, its figures and page.

`sweep` does the work, a `RunFolder` takes what came of it, `plots` draws, and a page of `Section`s
with figures, `Table`s and views shows it. What is written is there whole or not at all.

A page is one file: it needs no network and no other file, opens from a disk or on a telephone, and
is light or dark as its reader's device is, or as the switch on it says. A figure of `plots.grid`
stands still; a view of `plots.explore` has the same cells with a slider along a sweep, and layers
that lie over each other. Notebooks show both.

What means the same everywhere here:

  name: of a file in the run's folder, without its ending. `file_name` makes one of any text.
  figure: a matplotlib `Figure`, such as the functions of `plots` return.
  settings: a dataclass, or a mapping from names to values; what JSON does not know is written as
    text.
  folder, output: a path. What is above it is made, and removed again if nothing comes of it.

Every text is shown as it is written, on figures too: a dollar sign begins no mathematics, and a
character that the figure's font lacks is taken from another one that is installed. What no font has
is replaced by \N{REPLACEMENT CHARACTER}, with a word in the log and on the page.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._folder import RunFolder as RunFolder
from ._page import Section as Section
from ._page import Link as Link
from ._table import Table as Table
from . import plots as plots
from ._sweep import sweep as sweep
from ._folder import file_name as file_name
from ._command_line import command as command
from ._command_line import from_command_line as from_command_line
from ._programs import keep_programs as keep_programs
from .._files import whole as whole
from .._files import claim as claim
