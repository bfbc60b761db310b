"""The notebooks as they are kept: run from top to end, every question answered, little code."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

from saliency_jax import experiments

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "experiments" / "notebooks"
QUESTIONS = {
    "class_visualization": (
        "1. An optimization of one's own choice",
        "2. The impact of the initial image",
        "3. The impact of the optimization's parameters",
        "4. The impact of the number of steps",
        "5. Ten examples",
    ),
    "attribution": (
        "1. Trained against adversarially trained",
        "2. The input scaled from 0.01 to 1.0",
        "3. The correct label against incorrect ones",
        "4. Ten examples",
    ),
    "bring_your_own_model": (
        "1. A function of jax.numpy",
        "2. A network in Equinox",
        "3. A network in Flax Linen",
        "4. A PyTorch file, without PyTorch",
        "5. Class visualization: another optimizer is another line",
        "6. A method of one's own",
    ),
}
MAX_BYTES = 2_000_000
# Longer functions belong to the library or to the scripts, but for the models that one brings.
MAX_FUNCTION_LINES = dict.fromkeys(QUESTIONS, 4) | {"bring_your_own_model": 20}
WITH_CLASSES = {"bring_your_own_model"}
# What comes with the extra `notebooks` and is imported by another name than it is installed by.
MODULES = {"scikit-image": "skimage", "ipykernel": "matplotlib_inline"}
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/<-])/(?:home|root|tmp|usr|Users|opt|var|mnt|work)/|\b[A-Z]:\\"
)


def test_no_notebook_is_left_out():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(QUESTIONS)


@pytest.fixture(scope="module", params=QUESTIONS)
def notebook(request):
    return request.param, nbformat.read(FOLDER / f"{request.param}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook) -> list[str]:
    """All that a person reads of a notebook."""
    found = [cell.source for cell in notebook.cells]
    for cell in code_cells(notebook):
        for output in cell.outputs:
            found += [output.get("text", "")]
            found += [
                text
                for kind, text in output.get("data", {}).items()
                if not kind.startswith("image/")
            ]
    return found


def test_it_is_valid_and_small(notebook):
    name, content = notebook
    nbformat.validate(content)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MAX_BYTES


def test_it_was_run_from_top_to_end_without_error_or_warning(notebook):
    _, content = notebook
    cells = code_cells(content)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert cell.outputs, cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


def test_every_question_has_text_a_picture_and_a_table(notebook):
    name, content = notebook
    headings = [
        (place, line.removeprefix("## "))
        for place, cell in enumerate(content.cells)
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    asked = tuple(heading for _, heading in headings if heading[0].isdigit())
    assert asked == QUESTIONS[name]
    starts = [place for place, heading in headings if heading in QUESTIONS[name]]
    for start, end in zip(starts, [*starts[1:], len(content.cells)], strict=True):
        section = content.cells[start:end]
        assert section[-1].cell_type == "markdown", "a question without an answer"
        kinds = {
            kind
            for cell in section
            if cell.cell_type == "code"
            for output in cell.outputs
            for kind in output.get("data", {})
        }
        assert {"image/jpeg", "text/html"} <= kinds


def test_it_names_no_path_of_a_machine(notebook):
    _, content = notebook
    for text in texts(content):
        assert not ABSOLUTE_PATH.search(text), text


@pytest.mark.parametrize("text", ["in /home/a/runs", "File '/tmp/x'", r"C:\runs"])
def test_a_path_of_a_machine_is_noticed(text):
    assert ABSOLUTE_PATH.search(text)


def test_its_functions_are_short(notebook):
    name, content = notebook
    for cell in code_cells(content):
        for node in ast.walk(ast.parse(cell.source)):
            assert name in WITH_CLASSES or not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES[name], node.name


def test_it_opens_alone(notebook):
    """With the wheel and its extra: no clone, no path, no package that neither brings."""
    _, content = notebook
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["notebooks"]
    packages = [re.match(r"[\w.-]+", line)[0] for line in required]
    known = {MODULES.get(package, package).replace("-", "_") for package in packages}
    known |= {"saliency_jax", *sys.stdlib_module_names}
    shared = {path.stem for path in (experiments.FOLDER / "lab").glob("*.py")}
    for cell in code_cells(content):
        assert "sys.path" not in cell.source
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= known
            if isinstance(node, ast.ImportFrom):
                assert node.module.partition(".")[0] in known
                names = {alias.name for alias in node.names}
                if node.module == "saliency_jax.experiments":
                    assert names <= set(experiments.questions())
                if node.module == "saliency_jax.experiments.lab":
                    assert names <= shared
