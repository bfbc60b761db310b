"""Checks of arguments that are no arrays; without JAX, so that a process starts in a moment."""

import os
from typing import Any


def check_callable(name: str, function: Any) -> None:
    """Raises unless `function` can be called."""
    if not callable(function):
        hint = "; its `network` is callable" if hasattr(function, "network") else ""
        raise TypeError(f"expected {name} to be callable, got {type(function).__name__}{hint}")


def check_instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> None:
    """Raises unless `value` is of a class, or of one of several, which the message calls so."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {name} to be {expected}, got {type(value).__name__}")


def check_text(name: str, value: Any) -> None:
    """Raises unless `value` is a text."""
    check_instance(name, value, str, "a text")


def check_path(name: str, value: Any) -> None:
    """Raises unless `value` is the path of a file or a folder."""
    check_instance(name, value, (str, os.PathLike), "a path")
    if "\0" in os.fspath(value):
        raise ValueError(f"expected {name} to be a path, got {value!r}")
