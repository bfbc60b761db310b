"""What those without a clone have: the wheel, its command, and the experiments as modules."""

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import types
import zipfile
from pathlib import Path

import pytest
from small_classifiers import classifier, saved

from saliency_jax import __main__ as command
from saliency_jax import experiments

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"saliency_jax-{PROJECT['version']}.dist-info"
SCRIPTS = {path.name for path in (ROOT / "experiments").glob("*.py")}
# The help of all commands, by what computes or without it.
ALL_HELP = """
import contextlib, io, json, sys, tyro, tyro.extras
from saliency_jax import __main__ as command, _stand_ins
with _stand_ins.standing_in() if sys.argv[1] == "without" else contextlib.nullcontext():
    command.standing_in = contextlib.nullcontext
    told = {}
    for name in command._commands():
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            command._run([name, "--method", "--help"])
        told[name] = printed.getvalue()
found = [name for name, module in sys.modules.items() if hasattr(module, "__file__")]
print(json.dumps([told, found]))
"""
COMPUTING = {"jax", "numpy", "matplotlib", "flax", "tensorflow_datasets", "saliency_jax.models"}


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )


def source_files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix() for path in found if "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of a wheel and of a source distribution, built as they are published."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    done = python("-m", "hatchling", "build", "--directory", str(folder), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory) -> Path:
    """What an installer puts on the path of modules."""
    folder = tmp_path_factory.mktemp("site-packages")
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


class TestWheel:
    def test_it_holds_the_package_the_experiments_and_the_licence_alone(self, unpacked):
        expected = {f"saliency_jax/{name}" for name in source_files(ROOT / "saliency_jax")}
        expected |= {f"saliency_jax/_experiments/{name}" for name in SCRIPTS}
        expected |= {
            f"saliency_jax/_experiments/lab/{name}"
            for name in source_files(ROOT / "experiments" / "lab")
        }
        expected |= {
            f"{INFO}/{name}"
            for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        }
        assert source_files(unpacked) == expected
        for name in ("tiny-imagenet-robust", "spoken-digits"):
            assert (
                unpacked / "saliency_jax" / "models" / "bundled" / name / "config.json"
            ).exists()
        assert (unpacked / "saliency_jax" / "runs" / "page.html.jinja").exists()

    def test_it_says_what_it_is(self, unpacked):
        metadata = (unpacked / INFO / "METADATA").read_text()
        assert f"\nVersion: {PROJECT['version']}\n" in metadata
        assert "\nLicense-Expression: Apache-2.0\n" in metadata
        assert (
            "saliency-jax = saliency_jax.__main__:main"
            in (unpacked / INFO / "entry_points.txt").read_text()
        )

    def test_it_works_from_an_empty_folder(self, unpacked, tmp_path):
        (model,) = saved(tmp_path / "models", classifier(0, name="small"))
        (tmp_path / "empty").mkdir()
        options = ("--model", model, "--output", "run")
        done = python(
            "-m", "saliency_jax", "map", *options,
            cwd=tmp_path / "empty", env={**os.environ, "PYTHONPATH": str(unpacked)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run = tmp_path / "empty" / "run"
        assert f"pictures, arrays and index.html are in {run}" in done.stdout
        stored = json.loads((run / "config.json").read_text())
        assert f"saliency-jax map --model {model}" in json.dumps(stored)
        page = (run / "index.html").read_text()
        assert "saliency-jax map" in page
        assert "python experiments/" not in page

    def test_the_source_distribution_is_whole(self, built):
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if listed.returncode != 0:
            pytest.skip("git knows nothing of this folder")
        (archive,) = built.glob("*.tar.gz")
        with tarfile.open(archive) as stored:
            names = {name.partition("/")[2] for name in stored.getnames()}
        assert {line for line in listed.stdout.splitlines() if (ROOT / line).exists()} <= names


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """The help of each command, as it is printed without what computes."""
    done = python("-c", ALL_HELP, "without")
    assert done.returncode == 0, done.stderr
    texts, imported = json.loads(done.stdout)
    assert COMPUTING.isdisjoint(imported)
    return texts


class TestHelp:
    def test_without_what_computes_it_is_the_same(self, told):
        done = python("-c", ALL_HELP, "by")
        assert done.returncode == 0, done.stderr
        expected, imported = json.loads(done.stdout)
        assert set(imported) >= COMPUTING
        not_installed = {name for name, text in expected.items() if not text}
        assert not_installed <= set(command.EXTRAS)
        assert told == expected | {name: told[name] for name in not_installed}

    def test_each_command_says_what_it_is_called_and_takes(self, told):
        assert {"map", "visualize", "compare", "train", "models", "data", "input-scale"} <= set(
            told
        )
        for name, text in told.items():
            assert text.startswith(f"usage: saliency-jax {name} "), name
            assert "python experiments/" not in text.replace("experiments/benchmarks", "")
        assert "saliency-jax map --images cat.jpg" in told["map"]
        assert "Words before all flags are those of --images." in told["map"]
        assert "Words before all flags are those of --classes." in told["visualize"]
        assert "Words before all flags are those of --dataset." in told["train"]
        assert "Words before" not in told["gallery"]

    def test_the_overview_names_every_command_with_its_question(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        for arguments in ([], ["--help"], ["-h"]):
            monkeypatch.setattr(sys, "argv", ["saliency-jax", *arguments])
            command.main()
            printed = capsys.readouterr().out
            for name, question in experiments.questions().items():
                assert f"  {experiments.command(name)}  " in printed
                assert question in printed

    def test_a_shell_completes_commands_and_flags(self, tmp_path):
        script = tmp_path / "script"
        done = python("-m", "saliency_jax", "--tyro-write-completion", "bash", str(script))
        assert (done.returncode, done.stderr) == (0, "")
        for word in ("visualize", "input-scale", "--images", "--recipe"):
            assert word in script.read_text()


@pytest.mark.skipif(os.name != "posix", reason="there are no such pipes")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "saliency_jax"],
        ["-m", "saliency_jax", "map", "--help"],
        ["-m", "saliency_jax", "models"],
        ["-m", "saliency_jax", "--tyro-print-completion", "bash"],
        ["-m", "saliency_jax.models"],
        ["-m", "saliency_jax.data", "--help"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("streams", "unbuffered"), [(("stdout",), ""), (("stdout", "stderr"), "1")]
)
def test_a_closed_pipe_ends_a_command_without_a_word(arguments, streams, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reading, writing = os.pipe()
    os.close(reading)
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(
        [sys.executable, *arguments], check=False, **kept | dict.fromkeys(streams, writing)
    )
    os.close(writing)
    assert (done.returncode, done.stderr or b"") == (141, b"")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["mpa"], "error: expected a command, got 'mpa'; did you mean 'map'?"),
            (["--images"], "error: expected a command, got '--images'; see saliency-jax --help"),
            (["../saliency"], "error: expected a command, got '../saliency'"),
            (["--tyro-print-completion", "sh"], "expected --tyro-print-completion one of bash"),
            (["--tyro-write-completion", "bash"], "one of bash, zsh, fish, tcsh PATH, got bash"),
        ],
    )
    def test_one_is_one_line(self, arguments, message, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["saliency-jax", *arguments])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error

    def test_a_missing_extra_is_named(self, monkeypatch, capsys):
        def missing(name):
            raise ModuleNotFoundError("No module named 'gradio'", name="gradio")

        monkeypatch.setattr(experiments, "questions", lambda: {"explore": "?"})
        monkeypatch.setattr(command.importlib, "import_module", missing)
        with pytest.raises(SystemExit) as end:
            command._module("explore")
        assert end.value.code == 2
        assert capsys.readouterr().err == (
            "error: expected gradio to be installed, got none: "
            "python -m pip install 'saliency-jax[app]'\n"
        )

    def test_an_interrupt_while_modules_load_is_no_error(self, monkeypatch, capsys):
        def interrupted(arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "_run", interrupted)
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 130
        assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["a.jpg", "b.png", "--size", "3"], ["--images", "a.jpg", "b.png", "--size", "3"]),
        (["--size", "3"], ["--size", "3"]),
        ([], []),
    ],
)
def test_words_before_all_flags_are_a_flags(typed, expected, monkeypatch):
    class Settings:
        __dataclass_fields__ = dict.fromkeys(("dataset", "images", "size"))

    seen = []
    main = types.SimpleNamespace(
        Settings=Settings, from_command_line=lambda: seen.append(list(sys.argv))
    )
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(command, "_module", lambda name: types.SimpleNamespace(main=main))
    command._start("map", typed)
    assert seen == [["saliency-jax map", *expected]]


def test_experiments_are_modules_that_share_what_they_share():
    program = """
import sys
sys.modules["lab"] = "another one's"
from saliency_jax.experiments import saliency, train
from saliency_jax.experiments.lab import frame, photographs
assert saliency.frame is frame and saliency.photographs is photographs
assert saliency.main._function.__module__ == "saliency_jax.experiments.saliency"
assert train.robustness.__name__ == "saliency_jax.experiments.lab.robustness"
try:
    import saliency_jax.experiments.none
except ModuleNotFoundError:
    print("none")
"""
    done = python("-c", program)
    assert (done.stdout, done.stderr) == ("none\n", "")
