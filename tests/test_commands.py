"""The command that a page states means the settings that the run had; mistakes are one line."""

import dataclasses
import importlib
import runpy
import shlex
import sys
import types
import typing
from pathlib import Path

import pytest
import tyro

from saliency_jax import runs

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
NAMES = sorted(
    path.stem for path in EXPERIMENTS.glob("*.py") if "@frame.experiment" in path.read_text()
)
BENCHMARKS = sorted(
    path.stem
    for path in (EXPERIMENTS / "benchmarks").glob("[!_]*.py")
    if "__main__" in path.read_text()
)


@pytest.fixture(scope="module", autouse=True)
def scripts():
    folders = [str(EXPERIMENTS), str(EXPERIMENTS / "benchmarks")]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


def others(kind, usual) -> list:
    """Values of a type that are not the usual one."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return others(parts[0], usual)
    if origin in (typing.Union, types.UnionType):
        return [value for part in parts for value in others(part, usual)]
    if origin is typing.Literal:
        return [part for part in parts if part != usual][:2]
    if origin is tuple and parts[-1] is Ellipsis:
        values = others(parts[0], None)
        return [(), tuple(values[:1]), tuple(values)] if usual else [tuple(values)]
    if origin is tuple:
        return [tuple(others(part, None)[0] for part in parts)]
    values = {
        bool: [not usual],
        int: [7, -1],
        float: [0.1, 1e-7, -0.5],
        str: ["red wine", 'it\'s $x; "y"', ""],
        Path: [Path("a folder/b")],
        types.NoneType: [] if usual is None else [None],
    }[kind]
    return [value for value in values if value != usual]


@pytest.mark.parametrize("name", NAMES)
def test_a_command_means_the_settings_that_it_was_made_of(name):
    made = importlib.import_module(name).main.Settings
    hints = typing.get_type_hints(made, include_extras=True)
    for field in dataclasses.fields(made):
        usual = field.default
        for value in others(hints[field.name], usual):
            settings = dataclasses.replace(made(), **{field.name: value})
            command = runs.command("script.py", settings)
            python, script, *arguments = shlex.split(command)
            assert (python, script) == ("python", "script.py")
            assert tyro.cli(made, args=arguments) == settings, command
    assert runs.command("script.py", made()) == "python script.py"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_says_in_one_line_what_is_wrong(name, monkeypatch, capsys):
    if name == "captum_parity":
        pytest.importorskip("captum")
    # The process's devices stay the tests'.
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setattr(sys, "argv", [name, "--nonsense"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(EXPERIMENTS / "benchmarks" / f"{name}.py"), run_name="__main__")
    told = capsys.readouterr()
    assert told.err == "error: Unrecognized options: --nonsense; see --help\n"
    assert not told.out
