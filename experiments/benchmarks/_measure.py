"""What the benchmarks measure with: seconds of wall time and mebibytes of memory."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

MEBIBYTE = 2**20


def seconds(call: Callable, *arguments: Any, repeats: int = 1) -> float:
    """The median time of a call after a first one, which compiles; nan if it is not repeated."""
    jax.block_until_ready(call(*arguments))
    timings = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        timings.append(time.perf_counter() - start)
    return statistics.median(timings) if timings else float("nan")


def planned(function: Callable, *arguments: Any) -> float:
    """MiB that the compiled program takes beside its arguments and its result."""
    plan: Any = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return plan.temp_size_in_bytes / MEBIBYTE
