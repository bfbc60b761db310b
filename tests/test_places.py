"""An attribution method has four places: its file, its test, its export and its row."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saliency_jax import attribution, rules

ROOT = Path(__file__).parent.parent
ROOMS = [ROOT / "saliency_jax" / name for name in ("attribution", "rules")]
EXPERIMENTS = ROOT / "experiments"
# They say something of a relevance, and make none.
NO_METHODS = {"conservation", "coverage"}
# Where a family shares a test.
SHARED_TESTS = {"_gradient.py": "test_attribution.py", "_lrp.py": "test_lrp_rules.py"}


def is_method(function: ast.FunctionDef) -> bool:
    """Whether a function of the room is a public `method(score, image, *, ...)`."""
    arguments = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    is_public = not function.name.startswith("_") and function.name not in NO_METHODS
    return arguments == ["score", "image"] and is_public


def defined() -> Iterator[tuple[str, str]]:
    """The methods of the rooms' files, each with its file."""
    for path in sorted(path for room in ROOMS for path in room.glob("_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and is_method(node):
                yield node.name, path.name


def table() -> dict[str, str]:
    """By the name of its row, the name of each method's function."""
    sys.path.insert(0, str(EXPERIMENTS))
    from lab.methods import METHODS

    sys.path.remove(str(EXPERIMENTS))
    return {name: row.function.__name__ for name, row in METHODS.items()}


FILES = dict(defined())
ROWS = table()
EXPORTED = {
    name
    for name, function in (vars(attribution) | vars(rules)).items()
    if inspect.isfunction(function)
    and name not in NO_METHODS
    and list(inspect.signature(function).parameters)[:2] == ["score", "image"]
    and [
        parameter.kind
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
}


def missing(name: str) -> list[str]:
    """Which of its places a method lacks."""
    file = FILES.get(name, f"_{name}.py")
    tests = [f"test{file}", SHARED_TESTS.get(file, "")]
    texts = [
        path.read_text() for path in map(Path(__file__).parent.joinpath, tests) if path.is_file()
    ]
    places = {
        f"a file of saliency_jax/attribution/ or rules/, such as {file}": name in FILES,
        f"a test of it in tests/test{file}": any(re.search(rf"\b{name}\b", text) for text in texts),
        f"a line `from .{Path(file).stem} import {name} as {name}` in its room's __init__.py": name
        in EXPORTED,
        # The saliency map is a row that keeps the gradient, which it reduces.
        "a row of METHODS in experiments/lab/methods.py": name in ROWS or name in ROWS.values(),
    }
    return [place for place, is_there in places.items() if not is_there]


@pytest.mark.parametrize("name", sorted({*FILES, *EXPORTED, *ROWS.values()}))
def test_a_method_has_its_four_places(name):
    assert not missing(name), f"{name} lacks {' and '.join(missing(name))}"


def test_each_missing_place_is_named():
    file, test, line, row = missing("new_method")
    assert "saliency_jax/attribution/ or rules/" in file
    assert test == "a test of it in tests/test_new_method.py"
    assert line.startswith("a line `from ._new_method import new_method as new_method`")
    assert row == "a row of METHODS in experiments/lab/methods.py"
