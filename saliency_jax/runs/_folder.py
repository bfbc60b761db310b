"""The folder that a run leaves behind: settings, arrays, figures, sounds and a page.

A folder is there whole or not at all: an error or an interrupt leaves nothing, except long work
that was put in `RunFolder.unfinished` to be continued.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import platform
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped
from matplotlib.figure import Figure

from .._files import alone, whole
from .._types import Count
from .._validation import check_array, check_count, check_finite, check_text
from . import plots
from ._page import Section, figure_file, page, sound_file
from ._text import literal, note
from ._view import View

_PACKAGES = ("saliency-jax", "jax", "jaxlib", "flax", "optax", "numpy")
_LONGEST_NAME = 100
_FULL_SCALE = 2**15


def file_name(text: str) -> str:
    """A text as the name of a file or folder on any system: its letters, digits, `_`, `.` and `-`.

    Args:
      text: any text, such as the name of a class or the address of a model.

    Returns:
      The name without an ending: of at most 100 bytes, never empty and never hidden.

    Example:
      >>> from saliency_jax.runs import file_name
      >>> file_name("./runs/robust 3"), file_name("$5 & 100 %"), file_name("...")
      ('runs-robust-3', '5-100', 'unnamed')
    """
    check_text("text", text)
    name = re.sub(r"[^\w.-]+", "-", text).encode(errors="ignore")[:_LONGEST_NAME]
    return name.decode(errors="ignore").strip(".-") or "unnamed"


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
      >>> from saliency_jax.runs import RunFolder, Section
      >>> with RunFolder(None, "demonstration") as run:
      ...     run.save_config({"steps": 3})
      ...     run.save_arrays("zeros", image=np.zeros((4, 4, 3)))
      ...     run.save_page("A demonstration", [Section("Nothing to see")])
      >>> print(run.path.as_posix(), sorted(file.name for file in run.path.iterdir()))
      runs/demonstration-001 ['config.json', 'index.html', 'zeros.npz']
    """

    path: Path

    def __init__(self, output: str | Path | None, name: str):
        self._name = name
        self.path = Path("runs") / name if output is None else Path(output)
        self._place = self.path.absolute()
        self._whole = (
            whole(self.path, final=self._free_number)
            if output is None
            else whole(self.path, new=True)
        )
        self._held = contextlib.ExitStack()
        self._unfinished: list[Path] = []
        self._config: Mapping[str, Any] = {}
        self._unshown: set[str] = set()
        self._held_in: dict[str, str] = {}

    def __enter__(self) -> "RunFolder":
        self._partial = self._whole.__enter__()
        self._partial.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is not None:
            # First, so that the folders above it can go.
            self._held.close()
        with self._held:
            self._whole.__exit__(kind, *details)
            if kind is None:
                for folder in self._unfinished:
                    shutil.rmtree(folder, ignore_errors=True)

    def save_config(self, settings: Any, command: str = "") -> None:
        """Writes `config.json`: the settings, and the versions and devices that ran them.

        Args:
          settings: see the room.
          command: what is typed to do the same again, as `runs.command` returns it.
        """
        self._config = {
            "command": command,
            "settings": _mapping(settings),
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": {"python": platform.python_version()}
            | {package: importlib.metadata.version(package) for package in _PACKAGES},
            "devices": [str(device.device_kind) for device in jax.devices()],
        }
        text = json.dumps(self._config, indent=2, default=str)
        self._file("config.json").write_text(text + "\n", encoding="utf-8")

    def unfinished(self, settings: Any) -> Path:
        """Where to keep long work, so that an interrupted run with these settings continues it.

        It is a hidden folder beside the run's own, and is removed when the run is finished. Until
        the run ends no other process is given it.

        Args:
          settings: a dataclass or a mapping of all that the work depends on; other settings get
            another folder.

        Returns:
          The folder's path. It is there only if an earlier run left it.

        Raises:
          BlockingIOError: another process is at the same work.
        """
        text = json.dumps(_mapping(settings), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        folder = self._place.with_name(f".{self._place.name}.{digest}.unfinished")
        if folder not in self._unfinished:
            self._held.enter_context(alone(folder.with_name(f"{folder.name}.lock"), folder))
            self._unfinished.append(folder)
        return folder

    def save_arrays(self, name: str, /, **arrays: Shaped[Array | np.ndarray, "..."]) -> None:
        """Writes `NAME.npz`, compressed, to be read by `numpy.load`.

        What NumPy does not know is written as what it knows: bfloat16 as float32, random keys as
        their data.

        Args:
          name: see the room.
          **arrays: the arrays by name.
        """
        known = {key: _known(array) for key, array in arrays.items()}
        with zipfile.ZipFile(self._file(f"{name}.npz"), "w", zipfile.ZIP_DEFLATED) as archive:
            for key, array in known.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        self._held_in[f"{name}.npz"] = ", ".join(
            f"{key} {array.shape}".replace(",)", ")") for key, array in known.items()
        )

    def save_figure(self, name: str, figure: Figure) -> str:
        """Writes `NAME.png` at the figure's own resolution, its texts as they are written.

        A dollar sign begins no mathematics. A character that no font has is replaced, with a word
        in the log and on the page.

        Args:
          name: see the room.
          figure: the figure.

        Returns:
          The name, for a `Section`.
        """
        self._unshown |= literal(figure)
        figure.savefig(self._file(figure_file(name)), dpi=figure.dpi)
        return name

    def save_view(self, name: str, view: View) -> View:
        """Writes `NAME.png`, a figure of a view as it stands at first.

        Args:
          name: see the room.
          view: as `plots.explore` returns it.

        Returns:
          The view, for a `Section`.
        """
        self.save_figure(name, view.figure())
        return view

    def save_animation(
        self, name: str, figures: Sequence[Figure], *, milliseconds: int = 500
    ) -> str:
        """Writes `NAME.gif`, the figures one after the other at their own resolution.

        Args:
          name: see the room.
          figures: of one size.
          milliseconds: for how long each is shown.

        Returns:
          The file's name, with its ending, for a `Section`.
        """
        for figure in figures:
            self._unshown |= literal(figure)
        content = plots.gif(figures, milliseconds=milliseconds)
        file = f"{name}.gif"
        self._file(file).write_bytes(content)
        return file

    def save_sound(
        self, name: str, samples: Float[Array | np.ndarray, "t"], sample_rate: Count
    ) -> str:
        """Writes `NAME.wav`, of 16 bits, to be played from the page or by any program.

        Args:
          name: see the room.
          samples: (t,), in [-1, 1]; what is beyond is cut off.
          sample_rate: in hertz.

        Returns:
          The name, for a `Section`.
        """
        # Not at the top: few runs have sounds.
        import scipy.io.wavfile

        check_array("samples", samples, ("t",))
        check_finite("samples", samples)
        sample_rate = check_count("sample_rate", sample_rate, 1)
        levels = np.round(np.asarray(samples, np.float64) * _FULL_SCALE)
        levels = levels.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
        scipy.io.wavfile.write(self._file(sound_file(name)), int(sample_rate), levels)
        return name

    def save_page(
        self,
        title: str,
        sections: Sequence[Section],
        text: str = "",
        about: str = "",
        *,
        name: str = "index",
    ) -> None:
        """Writes `index.html`: one file with pictures and sounds inside, light or dark.

        It ends with the command, the arrays and the settings. It has 5 MB at most: what is larger
        has its pictures made coarser, from the largest on.

        Args:
          title: the page's title.
          sections: what it shows, from the top down; their figures and sounds must have been saved.
          text: what the page answers, under its title.
          about: more of it, which is folded up: paragraphs, and commands that are indented.
          name: of the page, where a folder has several; see the room.

        Raises:
          FileNotFoundError: a figure or a sound was not saved.
        """
        files = [figure_file(name) for section in sections for name in section.figures]
        files += [sound_file(name) for section in sections for name in section.sounds]
        made = page(
            title,
            sections,
            text,
            about=about,
            media={file: self._file(file).read_bytes() for file in files},
            arrays=[
                (file, self._file(file).stat().st_size, held)
                for file, held in self._held_in.items()
            ],
            note=note(self._unshown),
            config=self._config,
        )
        self._file(f"{name}.html").write_text(made, encoding="utf-8")

    def _file(self, file: str) -> Path:
        if Path(file).name != file or "\0" in file:
            raise ValueError(
                f"expected the name of a file, got {file!r}; runs.file_name makes one of any text"
            )
        return self._partial / file

    def _free_number(self) -> Path:
        for number in itertools.count(1):
            place = self._place.with_name(f"{self._name}-{number:03d}")
            # Made first: of two runs that end together one takes the next number. A folder is
            # renamed onto an empty one.
            with contextlib.suppress(FileExistsError):
                place.mkdir()
                break
        self.path = Path("runs") / place.name
        return place


def _known(array: Shaped[Array | np.ndarray, "..."]) -> np.ndarray:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    values = np.asarray(array)
    return values.astype(np.float32) if values.dtype.kind == "V" else values


def _mapping(settings: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return dataclasses.asdict(settings)
    return settings
