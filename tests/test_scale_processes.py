"""Runs over data sets as processes: on many devices, in several processes, killed at any moment."""

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_photographs
from browser import pictures_in
from numpy.testing import assert_array_equal
from PIL import Image
from small_classifiers import classifier, saved

from saliency_jax import attribution, scale

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent / "experiments"
COUNT = 41
CHUNKS = 21
# Within which a terminated run is over: schedulers give 30.
GRACE = 15


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return small_photographs.folder(tmp_path_factory.mktemp("photographs"), COUNT)


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """What a run makes that nothing interrupts, on this process's two devices."""
    return scale.attribute(
        attribution.input_gradient,
        small_photographs.classifier(small_photographs.squared),
        photographs,
        tmp_path_factory.mktemp("maps") / "whole",
        batch_size=2,
        dtype="float32",
    )


def assert_same(output, whole):
    stored = scale.open(output)
    assert list(stored) == list(whole)
    for name in whole:
        assert_array_equal(stored[name][:], whole[name][:], err_msg=name)


def started(output, dataset, *, devices=1, **options):
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }
    return subprocess.Popen(
        [
            sys.executable,
            str(HERE / "scale_worker.py"),
            json.dumps({"output": str(output), "dataset": dataset, **options}),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended_well(*processes):
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said


def several(count, output, dataset, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        started(output, dataset, processes=count, process=process, port=port, **options)
        for process in range(count)
    ]


def chunks(output):
    """How many chunks of the maps are on the disk."""
    return sum(path.is_file() for path in Path(output, "maps", "c").glob("*/0/0/0"))


def wait_for(process, output, least):
    while chunks(output) < least and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[0]


def test_eight_devices_make_the_bits_of_one(photographs, whole, tmp_path):
    ended_well(started(tmp_path / "maps", photographs, devices=8))
    assert_same(tmp_path / "maps", whole)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_processes_make_the_same_as_one(photographs, whole, tmp_path, count):
    ended_well(*several(count, tmp_path / "maps", photographs))
    assert_same(tmp_path / "maps", whole)


def test_when_one_process_is_lost_fewer_or_more_continue(photographs, whole, tmp_path):
    first, second = several(2, tmp_path / "maps", photographs, seconds=0.5, heartbeat=4)
    wait_for(second, tmp_path / "maps", 4)
    second.kill()
    second.communicate()
    # JAX ends the others, which would wait for it.
    first.communicate(timeout=60)
    assert first.returncode != 0
    assert 4 <= chunks(tmp_path / "maps") < CHUNKS
    ended_well(started(tmp_path / "maps", photographs, devices=3))
    assert_same(tmp_path / "maps", whole)


def killed_at_random(draws, photographs, whole, output):
    """Kills a run after some of its chunks, perhaps more than once, and continues it."""
    for _ in range(draws.choice([1, 1, 2])):
        before = chunks(output)
        process = started(output, photographs, devices=draws.choice([1, 2, 3]), seconds=0.05)
        wait_for(process, output, before + draws.randint(0, min(10, CHUNKS - before - 1)))
        time.sleep(draws.uniform(0, 0.05))
        process.kill()
        process.communicate()
        if chunks(output) >= CHUNKS - 1:
            break
    # All that is there is whole, and is kept.
    written = {path: path.stat().st_mtime_ns for path in Path(output, "maps").glob("c/*/0/0/0")}
    ended_well(started(output, photographs, devices=draws.choice([1, 2, 3])))
    assert_same(output, whole)
    computed = [path for path, when in written.items() if path.stat().st_mtime_ns != when]
    # The one that was being written may lack another column.
    assert len(computed) <= 4 * 3


def test_killed_at_a_random_moment_it_continues(photographs, whole, tmp_path):
    killed_at_random(random.Random(0), photographs, whole, tmp_path / "maps")


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 21))
def test_killed_at_many_random_moments_it_continues(photographs, whole, tmp_path, seed):
    killed_at_random(random.Random(seed), photographs, whole, tmp_path / "maps")


@pytest.fixture(scope="module", autouse=True)
def experiments():
    """The scripts, and what they share, which they import as a neighbour."""
    sys.path.insert(0, str(EXPERIMENTS))
    yield
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def script():
    import attribute_dataset

    return attribute_dataset


@pytest.fixture(scope="module")
def settings(script, tmp_path_factory):
    """Of images of the small classifier's size, of its classes."""
    root = tmp_path_factory.mktemp("script")
    dataset = small_photographs.folder(root / "photographs", 24, side=16)
    (model,) = saved(root, classifier())
    return script.Settings(output=str(root / "maps"), model=model, dataset=dataset, batch_size=2)


@pytest.fixture(scope="module")
def whole_script_run(script, settings):
    script.main(settings)
    return scale.open(settings.output)


class TestScript:
    def test_maps_are_the_methods(self, whole_script_run):
        assert whole_script_run["maps"].shape == (24, 16, 16)
        assert (whole_script_run["maps"][:] >= 0).all()
        assert whole_script_run.config["method"].startswith("explain('saliency')")

    @pytest.mark.parametrize(
        ("flags", "explained"),
        [
            ({"labels": "top", "top": 2}, (24, 2)),
            ({"labels": "predicted"}, (24,)),
            ({"label": "goose"}, (24,)),
        ],
    )
    def test_labels(self, script, settings, tmp_path, flags, explained):
        script.main(
            dataclasses.replace(
                settings,
                output=str(tmp_path / "maps"),
                method="grad_cam",
                split="test[:4]",
                **flags,
            )
        )
        stored = scale.open(tmp_path / "maps")
        assert stored["explained"].shape == (4, *explained[1:])
        if "label" in flags:
            assert set(stored["explained"][:]) == {classifier().label("goose")}

    def command(self, settings, output, *more):
        flags = {"output": output, "model": settings.model, "dataset": settings.dataset}
        command = [sys.executable, str(EXPERIMENTS / "attribute_dataset.py"), "--batch-size", "2"]
        command += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        return [*command, *more]

    def environment(self, devices):
        return os.environ | {"PYTHONPATH": str(HERE.parent), "JAX_NUM_CPU_DEVICES": str(devices)}

    def test_wide_models_on_eight_devices_make_the_maps_of_one(self, script, settings, tmp_path):
        """Four batches at once, each by two devices that hold half of each kernel."""
        script.main(dataclasses.replace(settings, output=str(tmp_path / "one"), dtype="float32"))
        flags = ("--model-devices", "2", "--dtype", "float32")
        done = subprocess.run(
            self.command(settings, tmp_path / "eight", *flags),
            env=self.environment(8),
            check=False,
            capture_output=True,
            text=True,
        )
        assert "24 good" in done.stdout, done.stderr
        one, eight = (scale.open(tmp_path / name) for name in ("one", "eight"))
        assert_array_equal(one["predictions"][:], eight["predictions"][:])
        for name in ("maps", "scores"):
            largest = np.abs(one[name][:]).max()
            np.testing.assert_allclose(one[name][:], eight[name][:], atol=1e-5 * largest)

    def test_terminated_it_ends_in_time_and_continues(self, settings, whole_script_run, tmp_path):
        output = tmp_path / "maps"
        command, environment = self.command(settings, output), self.environment(1)
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_for_maps(process, output)
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        said, _ = process.communicate(timeout=60)
        assert time.monotonic() - begun < GRACE
        assert process.returncode in (143, 0), said
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        assert "24 good" in done.stdout
        stored = scale.open(output)
        for name in whole_script_run:
            assert_array_equal(stored[name][:], whole_script_run[name][:])
        assert np.isfinite(stored["maps"][:]).all()


def wait_for_maps(process, output):
    while not list(Path(output, "maps", "c").glob("*/*/*")) and process.poll() is None:
        time.sleep(0.01)


def check_examples(folder, stored, dataset):
    """The crops of a run are parts of the photographs, and the explorer finds them."""
    from lab import explorer

    assert stored["crops"].shape[:2] == stored["crop_classes"].shape == (2, 3)
    paths = sorted(Path(dataset).rglob("*.png"))
    pixels = {path: np.asarray(Image.open(path)) for path in paths}
    by_channel = explorer.exciting([folder])["small", "stage 2"]
    assert list(by_channel) == stored["channels"].tolist()
    for index, (channel, pictures) in enumerate(by_channel.items()):
        for place, picture in enumerate(pictures):
            height, width = stored["crop_sides"][index, place]
            crop = stored["crops"][index, place, :height, :width]
            assert_array_equal(np.rint(picture.pixels * 255), crop)
            assert picture.note == f"{stored['peaks'][channel, place]:.2f}"
            (whole,) = (
                path
                for path, whole in pixels.items()
                if (np.lib.stride_tricks.sliding_window_view(whole, crop.shape) == crop)
                .all((-3, -2, -1))
                .any()
            )
            assert picture.title == whole.parent.name == stored["crop_classes"][index, place]


def test_pictures_beside_examples(tmp_path):
    import unit_examples

    dataset = small_photographs.folder(tmp_path / "photographs", 9, side=16)
    settings = unit_examples.Settings(
        output=tmp_path / "run",
        model=saved(tmp_path, classifier()),
        dataset=dataset,
        layer="stage 2",
        channels=2,
        examples=3,
        steps=2,
    )
    unit_examples.main(settings)
    with np.load(tmp_path / "run" / "units-small.npz") as stored:
        assert stored["pictures"].shape == (2, 16, 16, 3)
        network = classifier().network
        for index, channel in enumerate(stored["channels"]):
            peaks = network.layer("stage 2").map(stored["pictures"][index]).max((0, 1))
            np.testing.assert_allclose(stored["picture_peaks"][index], peaks, rtol=1e-4)
            assert (np.diff(stored["peaks"][channel]) <= 0).all()
        check_examples(tmp_path / "run", stored, dataset)
    page = (tmp_path / "run" / "index.html").read_text("utf-8")
    assert "picture above all photographs" in page
    assert "channel 0" in page
    shown = pictures_in(tmp_path / "run" / "index.html")
    with np.load(tmp_path / "run" / "units-small.npz") as stored:
        # A row for each channel: its picture, and its examples.
        for index, (alt, pixels) in enumerate(shown[::4]):
            assert alt == f"channel {stored['channels'][index]}, {alt.split(', ')[1]}"
            assert alt.split(", ")[1] in ("picture", "silent")
            assert_array_equal(pixels, np.rint(stored["pictures"][index] * 255))
            for place, (_, example) in enumerate(shown[4 * index + 1 : 4 * index + 4]):
                height, width = stored["crop_sides"][index, place]
                assert_array_equal(example, stored["crops"][index, place, :height, :width])
    assert len(shown) == 2 * 4
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_all_channels_or_some_evenly_spaced():
    import unit_examples

    def shown(count):
        settings = unit_examples.Settings(layer="stage 2", channels=count)
        return unit_examples.chosen(settings, classifier()).tolist()

    # Twice the width of 4.
    assert shown(None) == shown(100) == list(range(8))
    assert shown(2) == [0, 7]
