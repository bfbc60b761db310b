"""The training script on a miniature data set: what it writes, and that a kill costs nothing."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from saliency_jax import models

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def train():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import train

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
    return [sys.executable, str(EXPERIMENTS / "train.py"), *flags]


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
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        assert_array_equal(one, other)
    steps = np.loadtxt(killed.output / "log.csv", delimiter=",", skiprows=1)[:, 0]
    assert_array_equal(steps, [2, 4, 6, 8, 10, 12])
    assert f"are in {killed.output}" in capsys.readouterr().out

    for name in ("log.csv", "curves.png", "card.md", "evaluation.json", "config.json"):
        assert (settings.output / name).stat().st_size > 0
    evaluation = json.loads((settings.output / "evaluation.json").read_text())
    assert evaluation["images"] == 40
    assert set(evaluation["accuracy"]) == {"0.0", "0.5"}
    assert whole.class_names[4] == "lemon"
    card = (settings.output / "card.md").read_text()
    assert "python experiments/train.py --output runs/NAME" in card
    assert f"| clean | {evaluation['accuracy']['0.0']:.1%} |" in card

    with pytest.raises(ValueError, match="settings"):
        train.main(dataclasses.replace(settings, seed=1))


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


def test_channel_statistics_are_those_of_all_pixels(train):
    images = np.random.default_rng(0).random((5, 4, 3, 2)).astype(np.float32)
    batches = [
        {"image": images[:3], "mask": np.ones(3, bool)},
        {"image": np.concatenate([images[3:], 0 * images[:1]]), "mask": np.arange(3) < 2},
    ]
    mean, std = train._channel_statistics(batches)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(std, images.std((0, 1, 2)), atol=1e-4)
