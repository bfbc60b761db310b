"""What an import brings in, read from a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = ("cv2", "scipy.signal", "matplotlib", "tensorflow_datasets", "grain", "tensorstore")


def loaded_after(statement):
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import saliency_jax", (*HEAVY, "jax", "numpy")),
        ("import saliency_jax as s; [getattr(s, room) for room in s._METHODS]", HEAVY),
        ("import saliency_jax.models", ("tensorflow_datasets", "grain")),
        (
            "from saliency_jax import models; models.load('spoken-digits')",
            ("tensorflow_datasets", "grain"),
        ),
    ],
)
def test_an_import_leaves_out_what_it_can_do_without(statement, unwanted):
    assert not loaded_after(statement) & set(unwanted)


def test_the_builders_of_signals_are_there_when_asked_for():
    modules = loaded_after("from saliency_jax.signals import SpokenDigits; SpokenDigits.VERSION")
    assert "tensorflow_datasets" in modules


def test_every_module_can_be_the_first():
    """Rooms are imported when they are asked for, in any order: none leans on an earlier one."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "saliency_jax").rglob("*.py"))
        if "_experiments" not in path.parts
    ]
    program = f"""
import importlib, sys
from saliency_jax._stand_ins import standing_in
with standing_in():
    for name in {names}:
        for loaded in [each for each in sys.modules if each.partition(".")[0] == "saliency_jax"]:
            del sys.modules[loaded]
        importlib.import_module(name)
print(len({names}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{len(names)}\n", "")
