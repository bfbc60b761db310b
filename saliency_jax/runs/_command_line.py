"""How a script starts: flags from a dataclass, one line and status 2 for a mistake."""

import contextlib
import dataclasses
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import tyro

from .._pipes import quietly
from .._validation import check_callable, check_text

# XLA ends a process in which one core has waited for another for so many seconds, by default 40: on
# a busy machine it may.
_PATIENCE = "xla_cpu_collective_call_terminate_timeout_seconds"
MISTAKE, INTERRUPTED, TERMINATED = 2, 128 + signal.SIGINT, 128 + signal.SIGTERM


def from_command_line(
    main: Callable[[Any], None],
    settings: type,
    description: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Reads the settings from the command line and calls `main` with them.

    A mistake in what was asked for and an error in the program are told apart by the message: every
    check of the library says "expected X, got Y", in a ValueError or a TypeError, and the operating
    system's refusals are OSErrors. They become one line. Anything else is a bug, and its traceback
    is shown.

    Args:
      main: the script.
      settings: a frozen dataclass; its fields become flags, its docstrings their help.
      description: the script's docstring, shown by `--help`.
      arguments: what stands after the script's name; the process's own arguments if None.

    Raises:
      SystemExit: status 2 and one line on stderr for a mistake in flags, names, files or values;
        status 130 for an interrupt, 143 for a termination and 141, without a word, for output into
        a closed pipe, after cleaning up.

    Example:
      >>> import dataclasses
      >>> from saliency_jax import runs
      >>> @dataclasses.dataclass(frozen=True)
      ... class Settings:
      ...     steps: int = 3
      >>> runs.from_command_line(print, Settings, "A script.", ["--steps", "5"])
      Settings(steps=5)
    """
    check_callable("main", main)
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise TypeError(f"expected settings to be a dataclass, got {settings!r}")
    check_text("description", description)
    if isinstance(arguments, str) or not isinstance(arguments, Sequence | None):
        raise TypeError(f"expected arguments to be a sequence of texts, got {arguments!r}")
    with contextlib.suppress(ValueError):  # Only the main thread may handle signals.
        signal.signal(signal.SIGTERM, _raise_terminated)
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        # Each core a device, among which `sweep` shares out its work. Not where JAX has started.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
    if _PATIENCE not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{_PATIENCE}={24 * 3600}"
    try:
        with quietly():
            main(_parsed(settings, description, arguments))
    except (ValueError, TypeError, OSError) as error:
        if not _is_mistake(error):
            raise
        _exit(f"error: {_one_line(str(error))}", MISTAKE)
    except KeyboardInterrupt:
        _exit("interrupted", INTERRUPTED)
    except _Terminated:
        # Python's own way out can crash while XLA's threads are still computing.
        print("terminated", file=sys.stderr, flush=True)
        os._exit(TERMINATED)


def command(script: str, settings: Any) -> str:
    """What is typed to run a script with these settings: the flags of all that are not the usual.

    Args:
      script: the script's path.
      settings: a dataclass of plain values and tuples of them, as `from_command_line` takes its
        class.

    Returns:
      The command, for a shell of POSIX.

    Example:
      >>> import dataclasses
      >>> from saliency_jax import runs
      >>> @dataclasses.dataclass(frozen=True)
      ... class Settings:
      ...     classes: tuple[str, ...] = ()
      ...     steps: int = 3
      >>> runs.command("script.py", Settings(classes=("lemon", "red wine")))
      "python script.py --classes lemon 'red wine'"
    """
    check_text("script", script)
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"expected settings to be a dataclass, got {type(settings).__name__}")
    words = ["python", script]
    for field in dataclasses.fields(settings):
        value, usual = getattr(settings, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            usual = field.default_factory()
        if value == usual:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{flag}", *map(str, values)]
    return shlex.join(words)


class _Terminated(BaseException):
    """What a termination raises, wherever the program is, so that it cleans up."""


def _is_mistake(error: Exception) -> bool:
    """Whether an error is about what was asked for, and not about how the program does it."""
    return isinstance(error, OSError) or str(error).startswith("expected ")


def _parsed(settings: type, description: str, arguments: Sequence[str] | None) -> Any:
    """Tyro's reading of the arguments, with its framed complaints brought into one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(settings, description=description, args=arguments)
    except SystemExit as end:
        if end.code != MISTAKE:
            raise
        framed = [line.strip("│ ") for line in complaint.getvalue().splitlines()[1:-1]]
        # Rules are of hyphens where the output cannot have better ones.
        text = _one_line(" ".join(line for line in framed if line.strip("─-")))
        _exit(f"error: {text.partition(' For full helptext')[0]}; see --help", MISTAKE)


def _raise_terminated(*_: object) -> NoReturn:
    raise _Terminated


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _exit(line: str, status: int) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(status)
