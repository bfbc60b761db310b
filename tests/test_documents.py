"""What README.md and docs/ say runs: their Python, the flags of their commands, their tables.

The blocks of a document are one program, run in an empty folder with photographs. Trained networks
are small ones here that have learnt nothing: what is run is what is written.
"""

import ast
import functools
import importlib.util
import inspect
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import small_classifiers
import small_models
import tyro
import yaml
from attribution_methods import SMALL, TABLE, small
from flax import nnx
from PIL import Image

from saliency_jax import experiments, models, scores
from saliency_jax.__main__ import TOOLS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a reader may not have installed.
OPTIONAL = ("keras",)
# In methods.py they say what a batch is, and in the documents nothing.
UNSAID = {"batch_size"}


def blocks(document: Path, language: str) -> list[tuple[int, str]]:
    """The blocks of a language, each with the number of its first line."""
    text = document.read_text()
    return [
        (text.count("\n", 0, block.start(2)), block[2])
        for block in BLOCK.finditer(text)
        if block[1] == language
    ]


@functools.cache
def load(name: str, **_: object) -> models.Classifier:
    """A classifier with the class names of the one that is asked for; its last map is pooled."""
    if "tiny-imagenet" in name:
        return small_classifiers.classifier(name=name, final_norm=False)
    names = models.imagenet_classes()
    return small_classifiers.classifier(class_names=names, name=name, final_norm=False)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's folder: photographs, a file of weights; and the networks that are loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(models, "load", load)
    draws = np.random.default_rng(0)
    files = ["a.jpg", "cat.jpg"]
    files += [f"pictures/{split}/{name}/1.png" for split in ("train", "test") for name in LABELS]
    for file in map(tmp_path.joinpath, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 24, 3), np.uint8)).save(file)
    network = small_models.drawn(lambda: models.ResNet(18, 10, width=4, rngs=nnx.Rngs(0)))
    state = models.to_state_dict(network)
    arrays = {name: np.asarray(array) for name, array in state.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "weights.safetensors")
    # JAX as it comes, not as strict as that of the tests.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


LABELS = ("lemon", "goldfish")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_runs(document, reader):
    names: dict[str, object] = {"__name__": document.stem}
    for line, code in blocks(document, "python"):
        imported = [
            name.name.partition(".")[0]
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Import)
            for name in node.names
        ]
        if any(name in OPTIONAL and not importlib.util.find_spec(name) for name in imported):
            continue
        exec(compile("\n" * line + code, str(document), "exec"), names)


def commands() -> list:
    """Each command in a document that runs a script, a module or an experiment by its name."""
    return [
        pytest.param(command, id=f"{document.name}:{line}-{command[:40]}")
        for document in DOCUMENTS
        for line, text in blocks(document, "sh")
        for command in re.split(r"&&|\n", text.replace("\\\n", " "))
        if re.match(r" *(python experiments/|python -m saliency_jax|saliency-jax [a-z])", command)
    ]


@pytest.mark.parametrize("command", commands())
def test_a_command_has_its_script_and_flags(command, monkeypatch):
    program, name, *words = shlex.split(command)
    if name == "-m":
        assert importlib.util.find_spec(f"{words[0]}.__main__")
        return
    if program == "saliency-jax":
        scripts = {experiments.command(script): script for script in experiments.questions()}
        if name not in scripts:
            assert name in TOOLS
            return
        name = f"experiments/{scripts[name]}.py"
        # What stands before all flags is of the first.
        words = [*itertools.dropwhile(lambda word: word[:2] != "--", words)]
    script = ROOT / name
    text = script.read_text()
    if "@frame.experiment" in text:
        monkeypatch.syspath_prepend(str(ROOT / "experiments"))
        tyro.cli(importlib.import_module(script.stem).main.Settings, args=words)
        return
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"\b{flag[2:].replace('-', '_')}\b", text), flag


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = document.parent / path if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in [
                re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings
            ]


def algorithms() -> dict[str, dict[str, str]]:
    """By the name of a method, its row in the table of algorithms."""
    lines = (ROOT / "docs" / "algorithms.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    heading, _, *rest = rows
    return {row[0].strip("*"): dict(zip(heading, row, strict=True)) for row in rest}


ALGORITHMS = algorithms()


def test_every_method_has_its_row_among_the_algorithms():
    assert list(ALGORITHMS) == list(TABLE), "docs/algorithms.md lacks a row, or has one too many"


@pytest.mark.parametrize("name", TABLE)
def test_a_row_names_the_function_and_what_it_needs(name):
    method, row = TABLE[name], ALGORITHMS.get(name)
    assert row is not None, f"docs/algorithms.md lacks a row that begins | **{name}** |"
    room = method.function.__module__.split(".")[1]
    assert row["function"] == f"`{room}.{method.function.__name__}`"
    assert set(re.findall(r"`(\w+)`", row["needs"])) == {*method.needs} - UNSAID


class Passes:
    """How often a model is evaluated forward, and how often backward."""

    def __init__(self) -> None:
        self.forward = self.backward = 0

    def _count(self, way: str, value: jax.Array) -> jax.Array:
        def add(_: object) -> None:
            setattr(self, way, getattr(self, way) + 1)

        jax.debug.callback(add, value.ravel()[0])
        return value

    def model(self):
        """Logits of an image, counted."""

        @jax.custom_vjp
        def mark(value):
            return self._count("forward", value)

        mark.defvjp(
            lambda value: (self._count("forward", value), None),
            lambda _, cotangent: (self._count("backward", cotangent),),
        )
        return lambda image: mark(jnp.stack([jnp.sum(image), jnp.sum(image**2)]))


# The backward rules trace the model, and see no pass of it.
@pytest.mark.parametrize(
    "name", [name for name, row in ALGORITHMS.items() if "rules." not in row["function"]]
)
def test_a_row_counts_the_passes(name):
    method, row, passes = TABLE[name], ALGORITHMS[name], Passes()
    image = jax.random.uniform(jax.random.key(0), (6, 5, 3))
    score = scores.logit(passes.model(), 1)
    # Of larger batches the last is filled up.
    chunks = {"batch_size": 1} if "batch_size" in method.needs else {}
    jax.block_until_ready(jax.jit(functools.partial(small(method), **chunks))(score, image))
    jax.effects_barrier()
    usual = inspect.signature(method.function).parameters
    counts = [usual[name].default for name in ("num_samples", "steps") if name in usual]
    sizes = {
        "n": next(iter((*method.uses.benchmark.values(), *counts)), None),
        "s": len(np.unique(SMALL["segments"](score, image))),
        # Of 3 x 2 pixels, one after each second.
        "w": 3 * 3,
        "d": image.shape[-1],
    }
    for way in ("forward", "backward"):
        formula = re.sub(r"(?<=\w) (?=[\w(])", " * ", row[way])
        assert getattr(passes, way) == eval(formula, sizes), way


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
