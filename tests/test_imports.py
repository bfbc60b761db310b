"""What an import brings in, read from a process of its own."""

import subprocess
import sys

import pytest

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


def test_every_room_can_be_the_first():
    """Rooms are imported when they are asked for, in any order: none leans on an earlier one."""
    program = """
import importlib, sys
import saliency_jax
rooms = saliency_jax._ROOMS
for room in rooms:
    for name in [name for name in sys.modules if name.startswith("saliency_jax.")]:
        del sys.modules[name]
    importlib.import_module(f"saliency_jax.{room}")
print(len(rooms))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("19\n", "")
