"""The training script on a miniature data set: what it writes, and that a kill costs nothing."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import small_models
from flax import nnx
from numpy.testing import assert_array_equal

from saliency_jax import data, models, training
from saliency_jax.models import _resnet as resnet

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
# A smaller network than any of the library's: it is not what is tested here.
BLOCKS = (1, 1, 1, 1)
WITH_FEW_BLOCKS = f"""
import os, runpy, sys
from saliency_jax.models import _resnet
_resnet.STAGES[18] = {BLOCKS}
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def train():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import train

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(resnet.STAGES, 18, BLOCKS)
            yield train
    finally:
        sys.path.remove(str(EXPERIMENTS))


@pytest.fixture
def settings(train, tmp_path, tiny_imagenet_folder):
    return train.Settings(
        output=tmp_path / "whole",
        data_dir=tiny_imagenet_folder,
        train_split="train[:75%]",
        holdout_split="train[75%:]",
        width=2,
        norm="l2",
        epochs=4,
        batch_size=16,
        evaluate_every=2,
        checkpoint_every=2,
        test_epsilons=(0.5,),
        test_attack_steps=2,
        test_restarts=2,
    )


def command(settings):
    flags = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            flags += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return [sys.executable, "-c", WITH_FEW_BLOCKS, str(EXPERIMENTS / "train.py"), *flags]


def kill_after_first_checkpoint(settings):
    process = subprocess.Popen(command(settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(settings.output.glob("checkpoints/[0-9]*")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "no checkpoint within five minutes"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_killed_run_started_again_ends_like_one_never_killed(train, settings, tmp_path, capsys):
    train.main(settings)
    killed = dataclasses.replace(settings, output=tmp_path / "killed")
    kill_after_first_checkpoint(killed)
    assert not (killed.output / "model").exists()
    train.main(killed)

    whole, again = (models.load(run.output / "model") for run in (settings, killed))
    leaves = jax.tree.leaves(whole.network), jax.tree.leaves(again.network)
    assert len(leaves[0]) > 60
    for one, other in zip(*leaves, strict=True):
        assert_array_equal(one, other)
    steps = np.loadtxt(killed.output / "log.csv", delimiter=",", skiprows=1)[:, 0]
    assert_array_equal(steps, [2, 4, 6, 8, 10, 12])
    assert f"are in {killed.output}" in capsys.readouterr().out

    for name in ("log.csv", "curves.png", "card.md", "evaluation.json", "config.json"):
        assert (settings.output / name).stat().st_size > 0
    evaluation = json.loads((settings.output / "evaluation.json").read_text())
    assert evaluation["images"] == 40
    assert set(evaluation["accuracy"]) == {"log-probability", "margin", "both"}
    for accuracy in evaluation["accuracy"].values():
        assert set(accuracy) == {"0.0", "0.5"}
        assert accuracy["0.5"] <= accuracy["0.0"]
    assert whole.class_names[4] == "lemon"
    card = (settings.output / "card.md").read_text()
    assert "python experiments/train.py --output runs/NAME" in card
    accuracy = evaluation["accuracy"]
    for measure, value in {
        "top-1": accuracy["both"]["0.0"],
        "PGD-2, 2 restarts, L2 epsilon 0.5, by log-probability": accuracy["log-probability"]["0.5"],
        "PGD-2, 2 restarts, L2 epsilon 0.5, by margin": accuracy["margin"]["0.5"],
        "PGD-2, 2 restarts, L2 epsilon 0.5, by either": accuracy["both"]["0.5"],
    }.items():
        assert whole.accuracies[measure] == pytest.approx(100 * value)
        assert f"| {measure} | {100 * value:g}% |" in card
    assert whole.input == models.Input(
        "image", (64, 64), mean=whole.input.mean, std=whole.input.std
    )

    with pytest.raises(ValueError, match="another seed"):
        train.main(dataclasses.replace(settings, seed=1))


def test_a_collapsed_run_stays_stopped(train, settings, monkeypatch, capsys):
    """The held-out accuracy falls after the second epoch: the first one's weights are kept."""
    collapsing = dataclasses.replace(
        settings, norm="none", epochs=4, evaluate_every=1, test_epsilons=()
    )
    accuracies = iter([0.9, 0.1])
    monkeypatch.setattr(training, "accuracy", lambda *_: next(accuracies))
    train.main(collapsing)
    assert "held-out accuracy fell to 0.100: stopped" in capsys.readouterr().out

    def contents():
        files = sorted(path for path in settings.output.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.suffix != ".png"}

    before = contents()
    evaluation = json.loads((settings.output / "evaluation.json").read_text())
    assert evaluation["best_epoch"] == 1
    assert evaluation["holdout_accuracy"] == pytest.approx(0.9)
    # Another evaluation would raise StopIteration.
    train.main(collapsing)
    assert "stopped at step 6, best weights kept" in capsys.readouterr().out
    assert contents() == before
    # Killed between the collapse and the end, it ends likewise.
    shutil.rmtree(settings.output / "model")
    (settings.output / "evaluation.json").unlink()
    train.main(collapsing)
    assert json.loads((settings.output / "evaluation.json").read_text()) == evaluation


def test_signals_of_no_known_kind_are_refused(train, settings):
    info = data.Description("signal", 3, ("a", "b", "c"), (1, 32, 3), {"train": 9})
    with pytest.raises(ValueError, match="expected a dataset of kind image, sound, iq, got"):
        train.follow(settings, info)


def test_sounds_need_a_sample_rate(train, settings):
    info = data.Description("sound", 3, ("a", "b", "c"), (1, 8000, 1), {"train": 9})
    with pytest.raises(ValueError, match="expected sounds of a known sample rate"):
        train.LEARNERS["sound"](settings, info)


def test_a_folder_that_is_no_run_is_left_alone(train, settings):
    settings.output.mkdir()
    (settings.output / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="another folder"):
        train.main(settings)
    assert [path.name for path in settings.output.iterdir()] == ["thesis.tex"]


def test_unprepared_data_is_named_before_anything_is_made(train, settings, tmp_path):
    missing = dataclasses.replace(settings, data_dir=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"python -m saliency_jax\.data"):
        train.main(missing)
    assert not missing.output.exists()


@pytest.fixture
def trained_folder(train, tmp_path):
    """A saved network of four classes, of which two are the miniature set's."""
    network = small_models.drawn(
        lambda: models.ResNet(18, 4, width=2, stem=models.SMALL_IMAGE_STEM, rngs=nnx.Rngs(0))
    )
    taken = models.Input("image", (32, 32))
    names = ("lemon", "unheard of", "goose", "another")
    models.save(models.Classifier("four", network, taken, names), tmp_path / "four")
    return tmp_path / "four"


def described(names):
    return data.Description("image", len(names), names, (64, 64, 3), {"train": 9})


class TestFineTuning:
    def test_the_last_layer_keeps_the_classes_that_it_knows(self, train, settings, trained_folder):
        asked = dataclasses.replace(settings, start_from=str(trained_folder))
        old = models.load(trained_folder).network
        learner = train.fine_tuned(
            asked, described(("goose", "new", "lemon")), train.Learner(old, "", training.unchanged)
        )
        kernel, bias = (np.asarray(leaf[...]) for leaf in (old.fc.kernel, old.fc.bias))
        tuned = learner.network.fc
        assert tuned.kernel.shape == (kernel.shape[0], 3)
        assert_array_equal(tuned.kernel[...][:, [0, 2]], kernel[:, [2, 0]])
        assert_array_equal(tuned.bias[...][np.array([0, 2])], bias[[2, 0]])
        assert_array_equal(learner.network.conv1.kernel[...], old.conv1.kernel[...])
        assert learner.architecture == "ResNet from four, 2 of its classes kept"

    def test_as_many_classes_in_another_order(self, train, settings, trained_folder):
        asked = dataclasses.replace(settings, start_from=str(trained_folder))
        old = models.load(trained_folder).network
        names = ("another", "goose", "unheard of", "lemon")
        learner = train.fine_tuned(
            asked, described(names), train.Learner(old, "", training.unchanged)
        )
        image = np.full((32, 32, 3), 0.3, np.float32)
        apply = jax.jit(lambda network, image: network(image))
        turned = apply(old, image)[np.array([3, 2, 1, 0])]
        np.testing.assert_allclose(apply(learner.network, image), turned, rtol=1e-6)

    def test_frozen_statistics_stay_to_the_bit(self, train, settings, trained_folder):
        asked = dataclasses.replace(
            settings,
            start_from=str(trained_folder),
            frozen_statistics=True,
            norm="none",
            epochs=1,
            image_size=32,
            test_epsilons=(),
        )
        train.main(asked)
        old, new = models.load(trained_folder), models.load(asked.output / "model")
        assert_array_equal(new.network.bn1.var[...], old.network.bn1.var[...])
        assert (new.network.conv1.kernel[...] != old.network.conv1.kernel[...]).any()
        assert new.input.mean == old.input.mean
        assert "--start-from" in new.training["command"]

    def test_another_kind_of_input_is_refused(self, train, settings):
        asked = dataclasses.replace(settings, start_from="spoken-digits")
        with pytest.raises(ValueError, match="expected a network of 3-channel images to start"):
            train.fine_tuned(asked, described(("a", "b")), None)
