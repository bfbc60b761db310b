"""The command `saliency-jax`: the experiments, where there is a clone and where there is none."""

import difflib
import functools
import importlib
import importlib.metadata
import operator
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated, Any, NoReturn

from . import experiments
from ._pipes import quietly
from ._stand_ins import standing_in

PROGRAM = "saliency-jax"
HELP = ("--help", "-h")
COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")
SHELLS = ("bash", "zsh", "fish", "tcsh")
# Shown first, in this order.
USUAL = ("map", "visualize", "compare", "explore", "train", "models", "data")
# Beside the experiments.
TOOLS = {
    "models": "Which models are there, how large, how good, and where do their weights come from?",
    "data": "Prepares a data set, by its TFDS name.",
}
# The extras that bring what an experiment needs and others do without.
EXTRAS = {"explore": "app"}
# Of these flags an experiment's first takes what stands before all flags.
WORDS = ("images", "classes", "dataset")


def main() -> None:
    """Runs the experiment that the command line names, as its own script does."""
    try:
        with quietly():
            _run(sys.argv[1:])
    except KeyboardInterrupt:
        # While modules are imported; later the experiment itself says so.
        _exit("interrupted", 128 + signal.SIGINT)


def _run(arguments: Sequence[str]) -> None:
    name, *rest = arguments or HELP
    if name in HELP:
        print(_overview())
    elif name == "--version":
        print(PROGRAM, importlib.metadata.version(PROGRAM))
    elif name in COMPLETION:
        _complete(arguments)
    elif set(HELP).isdisjoint(rest):
        _start(name, rest)
    else:
        _help(name)


def _commands() -> dict[str, str]:
    """What each command is for, those that are usual first."""
    asked = {experiments.command(name): what for name, what in experiments.questions().items()}
    asked |= TOOLS
    order = [name for name in USUAL if name in asked]
    return {name: asked[name] for name in dict.fromkeys([*order, *asked])}


def _overview() -> str:
    width = shutil.get_terminal_size().columns
    indent = 2 + max(map(len, _commands())) + 2
    lines = [
        textwrap.fill(f"  {name:<{indent - 2}}{what}", width, subsequent_indent=" " * indent)
        for name, what in _commands().items()
    ]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [WORD ...] [--FLAG VALUE ...]",
            "",
            "See what an image classifier has learnt.",
            "",
            f"  {PROGRAM} map a.jpg",
            f"  {PROGRAM} visualize lemon goose",
            "",
            "Commands; with --help behind it, each says what it does and takes:",
            "",
            *lines,
            "",
            f"{COMPLETION[0]} {{{','.join(SHELLS)}}} prints what completes these in a shell.",
        ]
    )


def _module(name: str) -> ModuleType:
    """The module that a command runs."""
    if name in TOOLS:
        return importlib.import_module(f"{__package__}.{name}.__main__")
    script = experiments.SHORT.get(name, name.replace("-", "_"))
    if script not in experiments.questions():
        close = difflib.get_close_matches(name, _commands(), 1)
        meant = f"; did you mean {close[0]!r}?" if close else f"; see {PROGRAM} --help"
        _exit(f"error: expected a command, got {name!r}{meant}")
    try:
        return importlib.import_module(f"{experiments.__name__}.{script}")
    except ModuleNotFoundError as error:
        if name not in EXTRAS:
            raise
        _exit(
            f"error: expected {error.name} to be installed, got none: "
            f"python -m pip install '{PROGRAM}[{EXTRAS[name]}]'"
        )


def _settings(module: Any) -> type:
    """The dataclass of a module's flags: its experiment's, or its own."""
    return getattr(module.main, "Settings", None) or module.Settings


def _takes_words(settings: Any) -> str:
    """The flag that takes what stands before all flags, or none."""
    return next((f"--{name}" for name in WORDS if name in settings.__dataclass_fields__), "")


def _start(name: str, arguments: Sequence[str]) -> None:
    """Runs a command, whose process this now is."""
    module = _module(name)
    settings = _settings(module)
    flag = _takes_words(settings)
    if flag and arguments and not arguments[0].startswith("-"):
        arguments = [flag, *arguments]
    sys.argv = [f"{PROGRAM} {name}", *arguments]
    for script in (module.main, module):
        if hasattr(script, "from_command_line"):
            script.from_command_line()
            return
    from . import runs

    runs.from_command_line(module.main, settings, module.__doc__ or "")


def _help(name: str) -> None:
    """Prints what a command does and takes; what computes is not imported for it."""
    import tyro
    import tyro.extras

    with standing_in():
        module = _module(name)
    settings, about = _settings(module), module.__doc__ or ""
    flag = _takes_words(settings)
    if flag:
        about += f"\nWords before all flags are those of {flag}."
    tyro.cli(settings, prog=f"{PROGRAM} {name}", description=about, args=HELP[:1])


def _complete(arguments: Sequence[str]) -> None:
    """Prints, or writes, a script with which a shell completes commands and flags."""
    import tyro
    import tyro.extras

    shell = arguments[1] if len(arguments) > 1 else "none"
    if shell not in SHELLS or len(arguments) != 2 + COMPLETION.index(arguments[0]):
        expected = "one of " + ", ".join(SHELLS) + " PATH" * COMPLETION.index(arguments[0])
        _exit(f"error: expected {arguments[0]} {expected}, got {' '.join(arguments[1:]) or 'none'}")
    with standing_in():
        kinds: list[Any] = [
            Annotated[_settings(_module(name)), tyro.conf.subcommand(name=name, description=what)]
            for name, what in _commands().items()
        ]
    tyro.cli(functools.reduce(operator.or_, kinds), prog=PROGRAM, args=arguments)


def _exit(line: str, status: int = 2) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
