"""How far a run is: a bar on a terminal, a line a minute elsewhere."""

import sys
import time
from collections.abc import Callable
from io import TextIOBase

import tqdm

from .._validation import as_number, check_text

SECONDS_BETWEEN_LINES = 60.0


def report(
    unit: str = "image",
    *,
    file: TextIOBase | None = None,
    seconds: int | float = SECONDS_BETWEEN_LINES,
) -> Callable[[int, int], None]:
    """What tells how far a run is: the share done, units a second, and the time that is left.

    On a terminal it is a bar; elsewhere, as in a log, a line when something new is begun, a line
    a minute, and one at the end.

    Args:
      unit: what is counted.
      file: where to; standard error if None.
      seconds: between two lines.

    Returns:
      A function of the number done and the number of all, as `progress` is called.

    Example:
      >>> import sys
      >>> from saliency_jax import scale
      >>> progress = scale.report("map", file=sys.stdout)
      >>> progress(0, 500)  # doctest: +ELLIPSIS
        0%|          | 0/500 [00:00<?, ?map/s]
    """
    check_text("unit", unit)
    if file is not None and not hasattr(file, "isatty"):
        raise TypeError(f"expected file to be an open file, got {type(file).__name__}")
    seconds = as_number("seconds", seconds, 0)
    stream = sys.stderr if file is None else file
    bar: tqdm.tqdm | None = None
    begun = said = 0.0
    found = 0

    def on_terminal(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            # What an earlier run has done does not count as this one's speed.
            bar = tqdm.tqdm(total=total, initial=done, unit=unit, file=stream)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    def in_lines(done: int, total: int) -> None:
        nonlocal begun, said, found
        now = time.monotonic()
        if not begun:
            begun, found = now, done
        elif done < total and now - said < seconds:
            return
        said = now
        line = tqdm.tqdm.format_meter(
            done, total, now - begun, unit=unit, initial=found, ncols=None
        )
        print(line, file=stream, flush=True)

    return on_terminal if stream.isatty() else in_lines
