"""Files: whole or not at all whatever happens, and one process at a time in a folder."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from saliency_jax.runs import claim, whole

# Without JAX, so that a process starts in a moment.
ALONE = """
import pathlib, sys, time
from saliency_jax import _files as files
assert "jax" not in sys.modules
"""


def started(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", ALONE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_takes_its_place_at_the_end_with_its_own_ending(in_a_folder):
    path = in_a_folder / "a" / "array.npy"
    with whole(path) as partial:
        # Writers that choose a format by the ending, or add one, find it.
        assert partial.name == "array.npy"
        np.save(partial, np.arange(3))
        assert not path.exists()
    np.testing.assert_array_equal(np.load(path), [0, 1, 2])
    assert everything(in_a_folder) == ["a", "a/array.npy"]


def test_a_folder_takes_its_place_at_the_end(in_a_folder):
    with whole("a/b/run") as partial:
        partial.mkdir()
        (partial / "x").touch()
        assert not (in_a_folder / "a" / "b" / "run").exists()
    assert everything(in_a_folder) == ["a", "a/b", "a/b/run", "a/b/run/x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_fails_leaves_nothing_and_spares_what_was_there(in_a_folder, kind, error):
    (in_a_folder / "old").write_text("mine")
    for place in ("a/b/new", "old"):
        with pytest.raises(error), whole(place) as partial:  # noqa: PT012
            if kind == "file":
                partial.write_text("half a sent")
            else:
                partial.mkdir()
                (partial / "x").touch()
            raise error
    assert everything(in_a_folder) == ["old"]
    assert (in_a_folder / "old").read_text() == "mine"


def test_a_file_is_replaced_unless_it_is_to_be_new(in_a_folder):
    path = in_a_folder / "x"
    for text in ("one", "two"):
        with whole(path) as partial:
            partial.write_text(text)
    assert path.read_text() == "two"
    with pytest.raises(FileExistsError, match="x not to exist, got a file or folder there"):  # noqa: SIM117
        with whole(path, new=True):
            pass
    with pytest.raises(FileExistsError), whole("y", new=True) as partial:  # noqa: PT012
        partial.write_text("mine")
        (in_a_folder / "y").write_text("made meanwhile")
    assert (in_a_folder / "y").read_text() == "made meanwhile"
    assert everything(in_a_folder) == ["x", "y"]


def test_a_full_folder_is_never_replaced(in_a_folder):
    (in_a_folder / "x").mkdir()
    (in_a_folder / "x" / "theirs").touch()
    with pytest.raises(OSError, match="not empty"), whole("x") as partial:
        partial.mkdir()
    assert everything(in_a_folder) == ["x", "x/theirs"]


def test_a_place_that_cannot_be_written_is_named(in_a_folder):
    (in_a_folder / "file").touch()
    for manager in (whole("file/a/run"), claim("file/a/run", {})):
        with pytest.raises(OSError, match="folder that can be written at file/a/run, got"), manager:
            pass
    assert everything(in_a_folder) == ["file"]


def test_names_as_long_as_the_system_allows(in_a_folder):
    for name in ("x" * 255, "\N{HIRAGANA LETTER A}" * 85):
        with whole(name) as partial:
            partial.touch()
    assert len(everything(in_a_folder)) == 2


WRITER = """
for number in range(1_000_000):
    with files.whole(sys.argv[1]) as partial:
        with partial.open("w") as file:
            for _ in range(50):
                file.write(f"{number:06d}" * 50)
                file.flush()
    if number == 0:
        print("begun", flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(in_a_folder):
    path = in_a_folder / "work" / "numbers"
    path.parent.mkdir()
    delays = random.Random(0)
    for _ in range(8):
        process = started(WRITER, path)
        process.stdout.readline()
        time.sleep(delays.uniform(0, 0.02))
        process.kill()
        process.communicate()
        text = path.read_text()
        assert text == text[:6] * 2500
    # What the killed ones left goes with the next claim; what is not theirs stays.
    (path.parent / ".mine.partial").touch()
    path.unlink()
    with claim(path.parent, {}):
        pass
    assert everything(path.parent) == [".mine.partial", "config.json"]


HOLDER = """
with files.claim(sys.argv[1], {"steps": 3}) as folder:
    print("begun", flush=True)
    sys.stdin.read() if sys.argv[2] == "wait" else None
"""


def test_a_second_process_is_refused_and_told_of_the_first_until_it_ends(in_a_folder):
    folder = in_a_folder / "work"
    command = [sys.executable, "-c", ALONE + HOLDER, str(folder), "wait"]
    first = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first.stdout.readline()
    before = everything(folder)
    second = started(HOLDER, folder, "go")
    _, complaint = second.communicate()
    assert f"BlockingIOError: expected no other process at work in {folder}" in complaint
    assert f"got process {first.pid} on " in complaint
    assert everything(folder) == before
    # Killed, it holds nothing, though its lock's file is still there.
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert everything(folder) == before
    third = started(HOLDER, folder, "go")
    assert third.communicate() == ("begun\n", "")
    assert everything(folder) == ["config.json"]


def test_a_claim_within_the_same_process_is_refused_too():
    with claim("work", {}), pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"):  # noqa: SIM117
        with claim("work", {}):
            pass
    with claim("work", {}):
        pass


def test_of_many_processes_at_once_exactly_one_works_at_a_time(in_a_folder):
    code = """
for _ in range(200):
    try:
        with files.claim(sys.argv[1], {}) as folder:
            # Fails if another process is between these lines.
            (folder / "one").mkdir()
            (folder / "one").rmdir()
    except BlockingIOError:
        pass
"""
    processes = [started(code, in_a_folder / "work") for _ in range(4)]
    assert [process.communicate() for process in processes] == [("", "")] * 4


def test_work_of_the_same_settings_continues_and_of_others_is_refused(in_a_folder):
    settings = {"steps": 3, "rates": (0.1, float("nan")), "output": in_a_folder}
    with claim("work", settings) as folder:
        assert folder == Path("work")
        (folder / "step 1").touch()
    stored = json.loads(Path("work/config.json").read_text())
    assert (stored["steps"], stored["output"]) == (3, str(in_a_folder))
    with claim("work", settings):
        pass
    before = everything(in_a_folder)
    for changed, name in (
        (settings | {"steps": 4}, "steps"),
        ({"steps": 3, "output": in_a_folder}, "rates"),
        (settings | {"seed": None}, "seed"),
    ):
        with pytest.raises(ValueError, match=f"this run, got a run with another {name}; choose"):  # noqa: SIM117
            with claim("work", changed):
                pass
    assert everything(in_a_folder) == before


def test_a_folder_of_something_else_or_with_a_damaged_description_is_refused(in_a_folder):
    (in_a_folder / "thesis").mkdir()
    (in_a_folder / "thesis" / "chapter.tex").touch()
    with pytest.raises(ValueError, match="thesis to be empty or a sweep's, got another folder"):  # noqa: SIM117
        with claim("thesis", {}, kind="sweep"):
            pass
    assert everything(in_a_folder) == ["thesis", "thesis/chapter.tex"]
    for text in ("", "3", '{"steps": 3'):
        (in_a_folder / "thesis" / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json to hold the settings of a run, got a"):  # noqa: SIM117
            with claim("thesis", {}):
                pass


def test_a_hidden_file_of_the_desktop_is_no_content(in_a_folder):
    (in_a_folder / "work").mkdir()
    (in_a_folder / "work" / ".DS_Store").touch()
    with claim("work", {}):
        pass
    assert everything(in_a_folder) == ["work", "work/.DS_Store", "work/config.json"]
