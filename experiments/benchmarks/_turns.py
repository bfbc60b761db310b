"""Libraries that take turns: each in a process of its own, which sleeps while another measures.

A `Library` is a process that serves the tasks of one class, named "module:class" and built from
settings. Each of its methods that is a task takes a count and returns a call without arguments,
which computes; `finish` waits for what a call returns, and `array` makes it a NumPy array.
"""

import importlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Prepared(NamedTuple):
    """What a task returned the first time, and the seconds that this took, with compilation."""

    result: Any
    first: float


class Turn(NamedTuple):
    """Seconds of each call, and the share of the cores that other processes had meanwhile."""

    seconds: list[float]
    others: float


class ProcessError(Exception):
    """What a library's process says of an error there."""


class Library:
    """The process of one library; see the module."""

    def __init__(
        self,
        source: str,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        log: Path,
        threads: int,
    ):
        self._cores = threads
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment, "OMP_NUM_THREADS": str(threads)},
            )
        try:
            self.ask("start", source, settings, threads)
        except BaseException:
            self.close()
            raise

    def ask(self, name: str, *arguments: Any) -> Any:
        """What the process answers to a request, a method of `_Served` or of its library."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((name, arguments), self._process.stdin)
        self._process.stdin.flush()
        try:
            answer, problem = pickle.load(self._process.stdout)
        except EOFError as error:
            raise ProcessError(f"its process ended with status {self._process.wait()}") from error
        if problem:
            raise ProcessError(problem)
        return answer

    def prepare(self, task: str, count: int) -> Prepared | None:
        """Runs a task, which is then that of the turns; none if the library has no such task."""
        answer = self.ask("prepare", task, count)
        return None if answer is None else Prepared(*answer)

    def turn(self, least: float) -> Turn:
        """Calls the prepared task once, and again until so many seconds are over."""
        busy, start = _busy(), time.perf_counter()
        seconds, own = self.ask("turn", least)
        elapsed = time.perf_counter() - start
        others = max(0.0, _busy() - busy - own) / elapsed / (os.cpu_count() or 1)
        return Turn(seconds, others)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def _busy() -> float:
    """Seconds that all cores together were not idle, with what the host took; nan without Linux."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return float("nan")
    user, nice, system, _idle, _waiting, *interrupts = map(int, fields)
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def peak() -> float:
    """MiB that this process has taken at most so far (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(kibibytes) / 1024


class _Served:
    """The other end of a `Library`."""

    def __init__(self) -> None:
        self.library: Any = None
        self.call: Callable[[], Any] = lambda: None

    def start(self, source: str, settings: Mapping[str, Any], threads: int) -> None:
        # Before the library is imported, which takes as many threads as it sees cores.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        module, _, name = source.partition(":")
        self.library = getattr(importlib.import_module(module), name)(**settings)

    def prepare(self, task: str, count: int) -> tuple[Any, float] | None:
        if not hasattr(self.library, task):
            return None
        start = time.perf_counter()
        self.call = getattr(self.library, task)(count)
        result = self.call()
        self.library.finish(result)
        first = time.perf_counter() - start
        return self.library.array(result), first

    def peak(self) -> float:
        return peak()

    def turn(self, least: float) -> tuple[list[float], float]:
        seconds: list[float] = []
        own = time.process_time()
        while sum(seconds) < least or not seconds:
            start = time.perf_counter()
            self.library.finish(self.call())
            seconds.append(time.perf_counter() - start)
        return seconds, time.process_time() - own


def _serve() -> None:
    # What the libraries print is no answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    served = _Served()
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            function = getattr(served if hasattr(served, name) else served.library, name)
            answer = function(*arguments), ""
        except Exception as error:
            answer = None, f"{type(error).__name__}: {error}".partition("\n")[0]
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
