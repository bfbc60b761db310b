"""Experiments under Ctrl-C: one line, status 130, no half-written file, and the same continues.

Here one script is interrupted as work is kept and as its pictures are written; in the nightly five
are, at twelve random moments each. A script whose libraries are still being imported ends as Python
itself does, and has written nothing.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_photographs
from PIL import Image
from small_classifiers import classifier, saved

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
# Within which an interrupted script has ended: what is being compiled is compiled to its end.
GRACE = 120
INTERRUPTED = 130
MOMENTS = 12
# What a shell starts in the background ignores what Ctrl-C sends, and so do its children. And while
# Python collects garbage it calls a function of JAX's, in which it ignores what interrupts it.
AT_A_TERMINAL = """
import gc, os, runpy, signal, sys
gc.disable()
signal.signal(signal.SIGINT, signal.default_int_handler)
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, ...]:
    """Two models of the same classes, as `--model` takes them."""
    both = [classifier(seed, name=name) for seed, name in enumerate(("first", "second"))]
    return saved(tmp_path_factory.mktemp("models"), *both)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> str:
    return small_photographs.folder(tmp_path_factory.mktemp("photographs"), 24, side=16)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, str(EXPERIMENTS / command[0]), *command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
    )


def interrupted(command: list[str], is_now: Callable[[], bool]) -> tuple[int, str]:
    """The status of a command that is interrupted as soon as it is time, and what it said."""
    process = started(command)
    try:
        while not is_now() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=GRACE)
    finally:
        process.kill()
    return process.returncode, said


def finished(command: list[str]) -> None:
    process = started(command)
    _, said = process.communicate(timeout=4 * GRACE)
    assert process.returncode == 0, said


def check_whole(run: Path) -> dict[str, np.ndarray]:
    """Everything of a run's folder can be read; its arrays, but for those of the clock's."""
    assert (run / "config.json").stat().st_size
    assert (run / "index.html").read_text().rstrip().endswith("</html>")
    for path in [*run.glob("*.png"), *run.glob("*.gif")]:
        with Image.open(path) as picture:
            picture.load()
    found = {}
    for path in sorted(run.glob("*.npz")):
        with np.load(path) as stored:
            found |= {f"{path.name}, {name}": stored[name] for name in stored if name != "seconds"}
    return found


def check_left(folder: Path) -> None:
    """What an interrupted run leaves: nothing, or kept work, none of it half-written."""
    left = [path for path in folder.rglob("*") if not path.is_dir()]
    assert all(".unfinished" in str(path.relative_to(folder)) for path in left), left
    assert not [path for path in left if ".partial" in str(path) or path.suffix == ".lock"], left
    for path in left:
        if path.suffix == ".npz":
            np.load(path).close()


def steps(models: tuple[str, ...]) -> list[str]:
    flags = ["--classes", "lemon", "goose", "--seeds", "1", "--steps", "4", "--batch-size", "1"]
    return ["number_of_steps.py", "--model", *models, "--judge", "None", *flags]


def exists(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: next(folder.glob(pattern), None) is not None


def test_an_interrupted_script_leaves_what_it_continues_with(models, in_a_folder):
    command = [*steps(models), "--output", "run"]

    def is_kept() -> bool:
        """Whether a chunk of the work is kept, and not being written."""
        found = in_a_folder.glob(".run.*.unfinished/**/*.npz")
        return any(".partial" not in str(path) for path in found)

    end = interrupted(command, is_kept)
    assert end == (INTERRUPTED, "interrupted\n")
    check_left(in_a_folder)
    kept = {path: path.stat().st_mtime_ns for path in in_a_folder.rglob("*.npz")}
    assert kept
    # A picture is written.
    end = interrupted(command, exists(in_a_folder, ".run.*.partial/run/*.png"))
    assert end == (INTERRUPTED, "interrupted\n")
    check_left(in_a_folder)
    # What was kept is not done again.
    assert (
        kept.items()
        <= {path: path.stat().st_mtime_ns for path in in_a_folder.rglob("*.npz")}.items()
    )
    finished(command)
    assert [path.name for path in in_a_folder.iterdir()] == ["run"]
    assert check_whole(in_a_folder / "run")


def test_a_script_that_is_being_imported_writes_nothing(models, in_a_folder):
    start = time.monotonic()
    status, said = interrupted(
        [*steps(models), "--output", "run"], lambda: time.monotonic() - start > 0.5
    )
    assert (status, said) == (INTERRUPTED, "interrupted\n") or status == -signal.SIGINT, said
    assert not list(in_a_folder.iterdir())


SCRIPTS: dict[str, Callable[[tuple[str, ...], str], list[str]]] = {
    "number_of_steps": lambda models, photographs: steps(models),
    "class_visualization": lambda models, photographs: [
        *("class_visualization.py", "--model", *models, "--classes", "lemon", "--steps", "3")
    ],
    "saliency": lambda models, photographs: [
        *("saliency.py", "--model", *models),
        *("--images", str(next(Path(photographs).rglob("*.png")))),
    ],
    "optimizers": lambda models, photographs: [
        *("optimizers.py", "--model", *models, "--judge", "None", "--classes", "lemon"),
        *("--seeds", "1", "--steps", "2"),
    ],
    "attribute_dataset": lambda models, photographs: [
        *("attribute_dataset.py", "--model", models[0], "--dataset", photographs),
        *("--batch-size", "2", "--method", "saliency"),
    ],
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_interrupted_at_any_moment_continues(
    name, models, photographs, in_a_folder
):
    command = SCRIPTS[name](models, photographs)
    start = time.monotonic()
    finished([*command, "--output", "whole"])
    seconds = time.monotonic() - start
    if name != "attribute_dataset":
        whole = check_whole(in_a_folder / "whole")
    (in_a_folder / "runs").mkdir()
    draws = random.Random(name)
    for moment in range(MOMENTS):
        folder = in_a_folder / "runs" / str(moment)
        folder.mkdir()
        output = folder / "run"
        until = time.monotonic() + draws.uniform(0, seconds)
        status, said = interrupted(
            [*command, "--output", str(output)], lambda until=until: time.monotonic() > until
        )
        if status == 0 or (output / "index.html").exists():
            # It was done, or all but; as Python ends, the signal has no handler any more.
            assert status in (0, INTERRUPTED, -signal.SIGINT)
        else:
            # Before the script's own first line Python ends it.
            is_python_s = status == -signal.SIGINT and not list(folder.iterdir())
            # Below the line of its progress, if it told of that.
            is_told = said.endswith("interrupted\n") and "Traceback" not in said
            assert (status == INTERRUPTED and is_told) or is_python_s, (status, said)
            if name != "attribute_dataset":
                check_left(folder)
            finished([*command, "--output", str(output)])
        if name != "attribute_dataset":
            assert [path.name for path in folder.iterdir()] == ["run"]
            again = check_whole(output)
            assert again.keys() == whole.keys()
            for key in whole:
                np.testing.assert_array_equal(again[key], whole[key], err_msg=key)
        else:
            from saliency_jax import scale

            first, other = scale.open(in_a_folder / "whole"), scale.open(output)
            for key in first:
                np.testing.assert_array_equal(other[key][:], first[key][:], err_msg=key)
