"""How often the host asks for the values of an array of JAX's."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax._src.array import ArrayImpl

# What reads an array without asking the array itself, for which JAX has no hook.
READERS = ("asarray", "array", "isfinite", "all", "any", "unique", "count_nonzero", "stack")


class Transfers:
    """Counts the transfers inside `counted()`."""

    def __init__(self) -> None:
        self.count = 0
        self.inside = False

    def _counting(self, function):
        def counted(*arguments, **settings):
            arrays = jax.tree.leaves(arguments)
            reads = any(
                isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
                for leaf in arrays
            )
            self.count += reads and not self.inside
            outermost, self.inside = not self.inside, True
            try:
                return function(*arguments, **settings)
            finally:
                self.inside = not outermost

        return counted

    @contextlib.contextmanager
    def counted(self) -> Iterator["Transfers"]:
        self.count = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "device_get", self._counting(jax.device_get))
            for name in READERS:
                patch.setattr(np, name, self._counting(getattr(np, name)))
            value = ArrayImpl._value.fget
            patch.setattr(ArrayImpl, "_value", property(self._counting(value)))
            yield self
