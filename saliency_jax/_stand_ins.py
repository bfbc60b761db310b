"""Stand-ins for what computes, where nothing is computed: flags are read without it, and soon."""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
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
    def __init__(self) -> None:
        self._real = {name.partition(".")[0] for name in sys.modules} | sys.stdlib_module_names

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, *names = fullname.split(".")
        if package != __package__:
            is_real = package in self._real
        elif names[-1] == "__main__":
            # Of a package that is stood in for.
            file = _FOLDER.joinpath(*names).with_suffix(".py")
            return importlib.util.spec_from_file_location(fullname, file)
        else:
            is_real = names[0] == "experiments"
        return None if is_real else importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return StandIn()

    def exec_module(self, module: Any) -> None:
        pass


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Inside, only experiments and commands are imported, and stand-ins for all that they use.

    What has been imported before stays as it is, the standard library too. For a process that ends
    soon: what is imported inside is of no other use.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
