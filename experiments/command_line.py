"""How every script here starts: flags from a dataclass, one line and status 2 for a mistake."""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

Settings = TypeVar("Settings")


def run(main: Callable[[Settings], None], settings: type[Settings], description: str) -> None:
    """Reads the settings from the command line and calls `main` with them.

    Args:
      main: the script.
      settings: a frozen dataclass; its fields become flags, its docstrings their help.
      description: the script's docstring, shown by `--help`.

    Raises:
      SystemExit: status 2 and one line on stderr for a mistake in flags, names, files or values;
        status 130 for an interrupt.
    """
    try:
        main(tyro.cli(settings, description=description))
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
