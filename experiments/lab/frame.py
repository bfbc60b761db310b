"""The frame of every experiment: flags from a dataclass, checks, a run's folder, its page, its end.

    @frame.experiment("The number of steps")
    def main(settings: Settings, run: Run) -> list[Section]:
        ...

    if __name__ == "__main__":
        main.from_command_line()

`main(settings)` is the whole experiment: it checks the settings, opens the run's folder, calls the
function, writes the page from the sections that it returns, prints their tables and where they are.
"""

import contextlib
import ctypes
import dataclasses
import math
import sys
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import jax
import numpy as np
import tqdm

from saliency_jax import devices, experiments, runs
from saliency_jax._files import whole
from saliency_jax.models import Classifier
from saliency_jax.runs import Section

Settings = TypeVar("Settings", bound="Output")


@dataclasses.dataclass(frozen=True)
class Check:
    """What a setting that is not None must be, as metadata of its type.

    `expected` is what the error says, with braces for the flag.
    """

    holds: Callable[[Any], bool]
    expected: str


Count = Annotated[int, Check(lambda count: count >= 1, "{} to be at least 1")]
Natural = Annotated[int, Check(lambda number: number >= 0, "{} to be at least 0")]
Seed = Annotated[int, Check(lambda seed: 0 <= seed < 2**32, "{} to be in 0 .. 2**32 - 1")]
Weight = Annotated[
    float, Check(lambda weight: 0 <= weight < math.inf, "{} to be at least 0 and finite")
]
POSITIVE = Check(lambda number: 0 < number < math.inf, "{} to be positive and finite")
SOME = Check(bool, "at least one of {}")
# M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h.
_ALLOCATION = ((-8, 1), (-4, 0), (-1, 2**31 - 1))


@dataclasses.dataclass(frozen=True)
class Output:
    """What every experiment can be asked for."""

    output: Path | None = None
    """Folder of the run, which must not exist; a new one in runs/ if none."""
    devices: Count | None = None
    """How many processor cores or accelerators share the work; all if none."""
    keep_programs: bool = True
    """Whether compiled programs are kept for later runs, in the user's folder of caches."""


class Run(runs.RunFolder):
    """A run's folder, with the long work that fills it and continues after an interruption.

    `complaint` is the error that the experiment ends with, if something of the finished run failed.
    """

    def __init__(self, settings: Output, name: str):
        super().__init__(settings.output, name)
        self.complaint = ""
        self._settings = settings
        unnamed = dataclasses.replace(settings, output=None)
        script = runs.command(f"experiments/{name}.py", unnamed)
        # A script finds this module as its neighbour, the command in the package.
        self._command = script if __package__ == "lab" else experiments.as_commands(script)
        self._bar: tqdm.tqdm | None = None

    def save_config(self, settings: Any, command: str = "") -> None:
        super().save_config(settings, command or self._command)

    def expect(self, points: int, unit: str) -> Path:
        """Shows a bar of so much work to come, and tells where to keep what is done of it."""
        self._close_bar()
        # With `miniters` the bar is written by no other thread, where a closed pipe is no error.
        self._bar = tqdm.tqdm(total=points, unit=unit, file=sys.stdout, miniters=1)
        return self._kept_in

    @property
    def _kept_in(self) -> Path:
        return self.unfinished(dataclasses.replace(self._settings, output=None, keep_programs=True))

    def on_devices(self) -> contextlib.AbstractContextManager:
        """Inside, what is shared out is shared among the devices that were asked for."""
        return jax.set_mesh(devices.mesh(self._settings.devices))

    def advance(self, points: int, description: str = "") -> None:
        """Tells the bar of work that no sweep does."""
        if self._bar is not None:
            if description:
                self._bar.set_description(description)
            self._bar.update(points)

    def sweep(
        self,
        classifier: Classifier,
        name: str,
        function: Callable,
        axes: Mapping[str, Any],
        *,
        shared: Any,
        batch_size: int,
    ) -> tuple[Any, float]:
        """`runs.sweep`, kept where the run continues, and the seconds that a point took.

        Each of a classifier's sweeps has a name of its own. The seconds are without compilation,
        and nan if an interruption lost them.
        """
        self.advance(0, f"{classifier.name}, {name}")
        folder = self._kept_in / classifier.file_name / name.replace(" ", "-")
        stopwatch = Stopwatch(self.advance)
        options = {"shared": shared, "batch_size": batch_size}
        with self.on_devices():
            values = runs.sweep(function, axes, **options, folder=folder, progress=stopwatch)
        path = folder / "seconds"
        if stopwatch.points:
            path.write_text(repr(stopwatch.seconds / stopwatch.points))
        return values, float(path.read_text()) if path.exists() else math.nan

    def __enter__(self) -> "Run":
        super().__enter__()
        return self

    def kept(self, path: Path, points: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that is computed once: where the run continues it is read, and the bar told.

        The file is in the folder that `expect` told. Else `compute` tells the bar of the points.
        """
        if path.exists():
            self.advance(points)
            return np.load(path)
        array = compute()
        with whole(path) as partial:
            np.save(partial, array)
        return array

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __exit__(self, *error: Any) -> None:
        try:
            self._close_bar()
        finally:
            super().__exit__(*error)


class Stopwatch:
    """Measures computed points, and tells of these and of those found, before compilation."""

    def __init__(self, tell: Callable[[int], object]):
        self.points = 0
        self.seconds = 0.0
        self._tell = tell
        self._start: float | None = None

    def __call__(self, points: int) -> None:
        if points == 0:
            self._start = time.perf_counter()
        elif self._start is not None:
            self.points += points
            self.seconds = time.perf_counter() - self._start
        self._tell(points)


class Experiment(Generic[Settings]):
    """A script's question as a function of its settings; see the module."""

    def __init__(self, function: Callable[[Settings, Run], Sequence[Section]], title: str):
        self._function, self.title = function, title
        self.Settings: type[Settings] = typing.get_type_hints(function)["settings"]
        self.name = Path(function.__code__.co_filename).stem

    @property
    def description(self) -> str:
        """The script's docstring."""
        return sys.modules[self._function.__module__].__doc__ or ""

    def __call__(self, settings: Settings) -> None:
        """The whole experiment."""
        check(settings)
        if settings.keep_programs:
            runs.keep_programs()
        with Run(settings, self.name) as run:
            run.save_config(settings)
            sections = self._function(settings, run)
            question, _, about = self.description.partition("\n")
            run.save_page(self.title, sections, question, about)
        for section in sections:
            if section.table is not None:
                print("\n" + "\n".join(filter(None, (section.title, str(section.table)))))
                if section.text:
                    print(f"\n{section.text}")
        print(f"\npictures, arrays and index.html are in {run.path.resolve()}")
        if run.complaint:
            raise ValueError(run.complaint)

    def from_command_line(self, arguments: Sequence[str] | None = None) -> None:
        """The whole experiment, with the settings that the command line names."""
        # Where the process is the script's own.
        if arguments is None and sys.platform == "linux":
            keep_memory()
        runs.from_command_line(self, self.Settings, self.description, arguments)


def experiment(
    title: str,
) -> Callable[[Callable[[Settings, Run], Sequence[Section]]], Experiment[Settings]]:
    """Makes an experiment of a function of its settings and its run; see the module."""
    return lambda function: Experiment(function, title)


def keep_memory() -> None:
    """Has the process keep the memory that it has used, where the C library can be told to.

    A compiled program takes its working memory anew at every call. If it comes from the system, the
    pages have to be brought in again, in which a core spends as much as a quarter of a call.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        # Of all threads one heap, all memory from it, and none of it given back.
        for parameter, value in _ALLOCATION:
            library.mallopt(parameter, value)


def check(settings: Any) -> None:
    """Says at once what would only fail after the models are loaded.

    Raises:
      ValueError: a setting is not what its type states.
    """
    for name, kind in typing.get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        for must in getattr(kind, "__metadata__", ()):
            if isinstance(must, Check) and value is not None and not must.holds(value):
                expected = must.expected.format(f"--{name.replace('_', '-')}")
                raise ValueError(f"expected {expected}, got {'none' if value == () else value}")
