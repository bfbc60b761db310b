"""The folder that a run leaves behind: settings, arrays, figures and one page that shows them.

A folder is there whole or not at all. It is built beside its place under a hidden name, and takes
its own name when everything is in it; an error or an interrupt leaves nothing, except long work
that was put in `RunFolder.unfinished` to be continued.
"""

import base64
import dataclasses
import datetime
import hashlib
import html
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jinja2
import numpy as np
from jaxtyping import Array, Float, Shaped
from matplotlib.figure import Figure

from . import plots, sound

_PACKAGES = ("saliency-jax", "jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a header, for the terminal and for the page.

    Attributes:
      header: the columns' names.
      rows: the cells as they are written, as many in each row as in the header.

    Raises:
      ValueError: a row has another length than the header.

    Example:
      >>> from saliency_jax.report import Table
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
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, is_number in zip(line, widths, self.is_number, strict=True)
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        """How pages and notebooks show it."""
        kinds = [' class="number"' if is_number else "" for is_number in self.is_number]

        def line(tag: str, cells: Sequence[str]) -> str:
            pairs = zip(kinds, cells, strict=True)
            filled = (f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in pairs)
            return f"<tr>{''.join(filled)}</tr>"

        lines = [line("th", self.header), *(line("td", row) for row in self.rows)]
        return "\n".join(["<table>", *lines, "</table>"])

    @property
    def is_number(self) -> list[bool]:
        """For each column, whether it holds numbers, which are aligned at the right."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.header)
        return [any(column) and all(map(_begins_as_number, column)) for column in columns]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a run's page.

    Attributes:
      title: its heading.
      text: what it shows, in a sentence or two.
      figures: names of figures that were saved in the folder, as `save_figure` and
        `save_animation` return them.
      table: a table, or none.
      sounds: names of sounds that were saved in the folder, as `save_sound` returns them.
    """

    title: str
    text: str = ""
    figures: Sequence[str] = ()
    table: Table | None = None
    sounds: Sequence[str] = ()


class RunFolder:
    """A run's folder, written whole or not at all: a context manager.

    Inside the `with` block the files go to a hidden folder beside the final one. At the end of the
    block that folder is renamed to `path`; if the block fails, it is removed, with the folders that
    were made for it.

    Args:
      output: the folder to be; it must not exist. If None, the next free one of `runs/NAME-001`,
        `runs/NAME-002` ... in the current directory.
      name: what the default folder is called after.

    Attributes:
      path: the final folder, set at the end of the block.

    Raises:
      FileExistsError: `output` exists.
      OSError: the folder cannot be written.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.report import RunFolder, Section
      >>> with RunFolder(None, "demonstration") as run:
      ...     run.save_config({"steps": 3})
      ...     run.save_arrays("zeros", image=np.zeros((4, 4, 3)))
      ...     run.save_page("A demonstration", [Section("Nothing to see")])
      >>> print(run.path.as_posix(), sorted(file.name for file in run.path.iterdir()))
      runs/demonstration-001 ['config.json', 'index.html', 'zeros.npz']
    """

    path: Path

    def __init__(self, output: str | Path | None, name: str):
        self._output = None if output is None else Path(output)
        self._name = name
        self._config: Mapping[str, Any] = {}
        self._unfinished: Path | None = None

    def __enter__(self) -> "RunFolder":
        if self._output is not None and os.path.lexists(self._output):
            raise FileExistsError(
                f"expected {self._output} not to exist, got a file or folder there; choose another "
                "output"
            )
        place = self._output or Path("runs") / self._name
        self._place = place.absolute()
        parent = self._place.parent
        self._made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        self._partial = parent / f".{place.name}.{secrets.token_hex(4)}.partial"
        try:
            self._partial.mkdir(parents=True)
        except OSError as error:
            self._remove()
            raise type(error)(
                f"expected a folder that can be written at {place}, got {error.strerror} at "
                f"{error.filename}"
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.path = self._rename()
                if self._unfinished is not None:
                    shutil.rmtree(self._unfinished, ignore_errors=True)
        finally:
            self._remove()

    def save_config(self, settings: Any) -> None:
        """Writes `config.json`: the settings, and the versions and devices that ran them.

        Args:
          settings: a dataclass or a mapping; what JSON does not know is written as text.
        """
        self._config = {
            "settings": _mapping(settings),
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": {"python": platform.python_version()}
            | {package: importlib.metadata.version(package) for package in _PACKAGES},
            "devices": [str(device.device_kind) for device in jax.devices()],
        }
        text = json.dumps(self._config, indent=2, default=str)
        (self._partial / "config.json").write_text(text + "\n", encoding="utf-8")

    def unfinished(self, settings: Any) -> Path:
        """Where to keep long work, so that an interrupted run with these settings continues it.

        It is a hidden folder beside the run's own, and is removed when the run is finished.

        Args:
          settings: a dataclass or a mapping of all that the work depends on; other settings get
            another folder.

        Returns:
          The folder's path. It is there only if an earlier run left it.
        """
        text = json.dumps(_mapping(settings), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        self._unfinished = self._place.with_name(f".{self._place.name}.{digest}.unfinished")
        return self._unfinished

    def save_arrays(self, name: str, **arrays: Shaped[Array | np.ndarray, "..."]) -> None:
        """Writes `NAME.npz`, compressed, to be read by `numpy.load`.

        Args:
          name: the file's name without its ending.
          **arrays: the arrays by name.
        """
        columns: dict[str, Any] = {key: np.asarray(array) for key, array in arrays.items()}
        np.savez_compressed(self._partial / f"{name}.npz", **columns)

    def save_figure(self, name: str, figure: Figure) -> str:
        """Writes `NAME.png` at the figure's own resolution.

        Args:
          name: the file's name without its ending.
          figure: the figure.

        Returns:
          The name, for a `Section`.
        """
        figure.savefig(self._partial / f"{name}.png", dpi=figure.dpi)
        return name

    def save_animation(
        self, name: str, figures: Sequence[Figure], *, milliseconds: int = 500
    ) -> str:
        """Writes `NAME.gif`, the figures one after the other at their own resolution.

        Args:
          name: the file's name without its ending.
          figures: of one size.
          milliseconds: for how long each is shown.

        Returns:
          The file's name, with its ending, for a `Section`.
        """
        content = plots.gif(figures, milliseconds=milliseconds)
        (self._partial / f"{name}.gif").write_bytes(content)
        return f"{name}.gif"

    def save_sound(
        self, name: str, samples: Float[Array | np.ndarray, "t"], sample_rate: int
    ) -> str:
        """Writes `NAME.wav`, to be played from the page or by any program.

        Args:
          name: the file's name without its ending.
          samples: (t,), in [-1, 1].
          sample_rate: in hertz.

        Returns:
          The name, for a `Section`.
        """
        (self._partial / f"{name}.wav").write_bytes(sound.encode_wav(samples, sample_rate))
        return name

    def save_page(self, title: str, sections: Sequence[Section], text: str = "") -> None:
        """Writes `index.html`: one file with pictures and sounds inside, the settings at its end.

        Args:
          title: the page's title.
          sections: what it shows, from the top down; their figures and sounds must have been saved.
          text: what the page answers, under its title.

        Raises:
          FileNotFoundError: a figure or a sound was not saved.
        """
        files = {
            name: name if name.endswith(".gif") else f"{name}.png"
            for section in sections
            for name in section.figures
        }
        pictures = {name: (file, self._as_text(file)) for name, file in files.items()}
        sounds = {
            name: self._as_text(f"{name}.wav") for section in sections for name in section.sounds
        }
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("saliency_jax", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = environment.get_template("report.html.jinja").render(
            title=title,
            text=text,
            sections=sections,
            pictures=pictures,
            sounds=sounds,
            config=self._config,
        )
        (self._partial / "index.html").write_text(page, encoding="utf-8")

    def _as_text(self, file: str) -> str:
        return base64.b64encode((self._partial / file).read_bytes()).decode()

    def _rename(self) -> Path:
        if self._output is not None:
            # Onto an empty folder, made in the meantime, the rename succeeds; onto a full one it
            # fails.
            self._partial.rename(self._partial.parent / self._output.name)
            return self._output
        number = 1
        while True:
            path = Path("runs") / f"{self._name}-{number:03d}"
            try:
                # Made first: of two runs that end together one takes the next number.
                (self._partial.parent / path.name).mkdir()
            except FileExistsError:
                number += 1
                continue
            self._partial.rename(self._partial.parent / path.name)
            return path

    def _remove(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                # It holds the finished run, or another's files.
                return


def _mapping(settings: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return dataclasses.asdict(settings)
    return settings


def _begins_as_number(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "+-"
