"""Every example in a docstring runs as it is printed, and every public function has one.

The examples are read from the source: a doctest finder would skip the functions that the shape
hook has wrapped. As in any doctest, an example sees the names of its own module.
"""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import saliency_jax

PACKAGE = Path(saliency_jax.__file__).parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
SOURCES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def examples(node: ast.AST) -> list[doctest.Example]:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        return []
    return doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")


def with_examples() -> list:
    return [
        pytest.param(module, examples(node), id=f"{module}.{getattr(node, 'name', '')}")
        for module, tree in SOURCES.items()
        for node in ast.walk(tree)
        if examples(node)
    ]


def public_functions() -> list:
    """The functions of a module at the top of the package, or exported by their room."""
    exported = {
        (module.removesuffix("__init__") + node.module, alias.name)
        for module, tree in SOURCES.items()
        if module.endswith(".__init__")
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 1
        for alias in node.names
        if alias.asname
    }
    return [
        pytest.param(node, id=f"{module}.{node.name}")
        for module, tree in SOURCES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        if (module, node.name) in exported
        or (module.count(".") == 1 and "_" not in (module.split(".")[1][0], node.name[0]))
    ]


@pytest.mark.parametrize(("module", "of_docstring"), with_examples())
def test_example_runs_as_printed(module, of_docstring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(vars(importlib.import_module(module.removesuffix(".__init__"))))
    test = doctest.DocTest(of_docstring, names, module, None, 0, None)
    printed: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
    assert not printed, "".join(printed)


@pytest.mark.parametrize("function", public_functions())
def test_public_function_has_an_example(function):
    assert examples(function)
