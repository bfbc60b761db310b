"""Stand-ins for what computes, where nothing is computed: flags are read without it, and soon."""

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from typing import Any

# What a module may do with another one's values while it is imported.
_OPERATORS = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "pow"),
    *("rpow", "neg", "matmul", "getitem", "or", "ror", "and", "lt", "le", "gt", "ge", "call"),
)


class _Base:
    def __init_subclass__(cls, **_: Any) -> None:
        pass


class StandIn:
    """A module, function, class, decorator or array of which nothing is known.

    Whatever it is asked for is a stand-in, and so is what comes of operations on it.
    """

    # A package.
    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> "StandIn":
        # Python asks for others to find out what it has before it.
        if name.startswith("__") and name != "__version_info__":
            raise AttributeError(name)
        return StandIn()

    def __mro_entries__(self, bases: tuple) -> tuple[type, ...]:
        """As the base of a class: once, however many of the bases are stand-ins."""
        first = next(base for base in bases if isinstance(base, StandIn))
        return (_Base,) if self is first else ()

    def __iter__(self) -> Iterator:
        return iter(())


for _name in _OPERATORS:
    setattr(StandIn, f"__{_name}__", lambda self, *_, **__: self)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, package: str):
        self._real = {package, *sys.stdlib_module_names}
        self._real |= {name.partition(".")[0] for name in sys.modules}

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in self._real:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return StandIn()

    def exec_module(self, module: Any) -> None:
        pass


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Inside, stand-ins are imported in place of all packages but this one.

    What has been imported before stays as it is. For a process that ends inside: what this package
    imports inside is of no use outside.
    """
    finder = _Finder(__package__)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
