"""Interrupts that wait while threads of others would be left with half of their work."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """An interrupt or a termination inside comes at the end, when what is inside is done.

    Orbax reads and writes by an event loop that an interrupt closes, while its threads still call
    back and complain. Not outside of the main thread, which alone is interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        # One that was not made in Python could not be put back.
        if handler is not None:
            signal.signal(number, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])
