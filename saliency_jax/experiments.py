"""The experiments as modules: those of a clone, or those that came with the package.

    from saliency_jax.experiments import initial_image, optimizers
    from saliency_jax.experiments.lab import frame, loading

Where there is a clone, `python experiments/saliency.py` runs a script; everywhere, the command
`saliency-jax map` does. Scripts import what they share as their neighbour, `from lab import frame`.
From here that is `saliency_jax.experiments.lab`, whatever else may be called `lab`.
"""

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKED = Path(__file__).parent / "_experiments"
FOLDER = _PACKED if _PACKED.is_dir() else Path(__file__).parents[1] / "experiments"
# Experiments that the command has a shorter word for.
SHORT = {"map": "saliency", "visualize": "class_visualization", "compare": "compare_methods"}
_SHARED = "lab"
# A package, in which the finder below finds everything.
__path__: list[str] = []


def questions() -> dict[str, str]:
    """What each experiment asks, by the name of its script.

    Example:
      >>> from saliency_jax import experiments
      >>> experiments.questions()["optimizers"]
      'Which optimizer makes the best class visualizations, each at its best learning rate?'
    """
    found = {}
    for path in sorted(FOLDER.glob("[!_]*.py")):
        with path.open(encoding="utf-8") as script:
            found[path.stem] = script.readline().strip().strip('"')
    return found


def command(name: str) -> str:
    """What the command `saliency-jax` calls an experiment.

    Args:
      name: of its script.

    Example:
      >>> from saliency_jax import experiments
      >>> experiments.command("saliency"), experiments.command("input_scale")
      ('map', 'input-scale')
    """
    short = {script: word for word, script in SHORT.items()}
    return short.get(name, name.replace("_", "-"))


def as_commands(text: str) -> str:
    """A text with the command's words where it runs a script of a clone.

    Example:
      >>> from saliency_jax import experiments
      >>> experiments.as_commands("python experiments/saliency.py --images a.jpg")
      'saliency-jax map --images a.jpg'
    """
    script = r"python experiments/(\w+)\.py"
    return re.sub(script, lambda found: f"saliency-jax {command(found[1])}", text)


def _import(
    name: str,
    globals_: Any = None,
    locals_: Any = None,
    fromlist: tuple[str, ...] = (),
    level: int = 0,
) -> ModuleType:
    """What `import` does in a script."""
    if level == 0 and name.partition(".")[0] == _SHARED:
        name = f"{__name__}.{name}"
    return builtins.__import__(name, globals_, locals_, fromlist, level)


class _Script(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import}
        super().exec_module(module)
        module.__doc__ = as_commands(module.__doc__ or "")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != __name__:
            return None
        if name == _SHARED:
            folder = FOLDER / name
            return importlib.util.spec_from_file_location(
                fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
        file = FOLDER / f"{name}.py"
        if not file.is_file():
            return None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=_Script(fullname, str(file))
        )


sys.meta_path.append(_Finder())
