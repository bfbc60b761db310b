"""Output that nobody reads any more ends a program without a word, as it ends other tools."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

# What a shell says of a program that the signal of a closed pipe, 13, has ended.
CLOSED = 128 + 13


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What is inside ends the program with status 141 if it writes into a closed pipe.

    It cleans up before, as after any error. Other broken pipes, of a network, are errors still.
    """
    try:
        try:
            yield
        except SystemExit:
            _flush()
            raise
        _flush()
    except BrokenPipeError:
        streams = (sys.stdout, sys.stderr)
        if not any(map(_is_closed, streams)):
            raise
        # Python flushes once more when it ends.
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            for stream in filter(_is_closed, streams):
                os.dup2(nowhere.fileno(), stream.fileno())
        sys.exit(CLOSED)


def _flush() -> None:
    # There may be no stream at all, which `print` knows.
    print(end="", flush=True)
    print(end="", flush=True, file=sys.stderr)


def _is_closed(stream: Any) -> bool:
    """Whether nobody reads any more what is written, where the system tells that."""
    with contextlib.suppress(AttributeError, TypeError, OSError, ValueError):
        poll = select.poll()
        poll.register(stream, 0)
        return bool(poll.poll(0))
    return False
