"""Whole data sets: the maps are those of single images, and nothing that can happen loses one."""

import functools
import io
import json
import logging
import resource
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_classifiers
import small_photographs
from numpy.testing import assert_array_equal
from PIL import Image
from small_photographs import CLASSES, SIDE, WEIGHTS

from saliency_jax import attribution, data, devices, scale, scores
from saliency_jax._chunks import MODEL
from saliency_jax.scale import _compute, _store

COUNT = 11
BATCH = 2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return small_photographs.folder(tmp_path_factory.mktemp("photographs"), COUNT)


@pytest.fixture(scope="module")
def examples(photographs):
    """What is in the folder, read at once."""
    return data.joined(
        data.load(photographs, "test", COUNT, image_size=SIDE, fields=["image/filename"])
    )


LINEAR = small_photographs.classifier()
SQUARED = small_photographs.classifier(small_photographs.squared)


def attribute(photographs, output, **options):
    arguments = {"method": attribution.input_gradient, "batch_size": BATCH, "dtype": "float32"}
    arguments |= {"classifier": SQUARED} | options
    return scale.attribute(dataset=photographs, output=output, **arguments)


@pytest.fixture(scope="module")
def stored(photographs, tmp_path_factory):
    """A run that nothing has interrupted."""
    return attribute(photographs, tmp_path_factory.mktemp("maps") / "whole")


def assert_same(one, other):
    assert list(one) == list(other)
    for name in one:
        assert_array_equal(one[name][:], other[name][:], err_msg=name)


class InterruptedHereError(Exception):
    pass


def interrupt_at(least):
    """A progress that fails as soon as so many rows are done."""

    def progress(done, total):
        if done >= least:
            raise InterruptedHereError

    return progress


def begun_with(calls):
    def progress(done, total):
        calls.append(done)

    return progress


class TestMaps:
    def test_of_a_linear_model_they_are_its_weights(self, photographs, examples, tmp_path):
        stored = attribute(photographs, tmp_path / "maps", classifier=LINEAR)
        expected = np.moveaxis(WEIGHTS, -1, 0)[examples["label"]]
        np.testing.assert_allclose(stored["maps"][:], expected, rtol=1e-6)

    def test_what_is_beside_them(self, stored, examples, photographs):
        logits = np.einsum("nhwc,hwck->nk", examples["image"], WEIGHTS) ** 2
        labels = examples["label"]
        assert_array_equal(stored["labels"][:], labels)
        assert_array_equal(stored["explained"][:], labels)
        assert_array_equal(stored["predictions"][:], logits.argmax(1))
        np.testing.assert_allclose(stored["scores"][:], logits[np.arange(COUNT), labels], rtol=1e-4)
        assert not stored["status"][:].any()
        files = [f"{photographs}/{name}" for name in stored["ids"][:]]
        assert files == list(examples["image/filename"])

    def test_of_predicted_labels_and_of_several(self, photographs, examples, tmp_path):
        order = np.argsort(-np.einsum("nhwc,hwck->nk", examples["image"], WEIGHTS), axis=1)
        for labels, explained in (
            (scale.predicted_label, order[:, 0]),
            (scale.top_labels(2), order[:, :2]),
            (1, np.full(COUNT, 1)),
            (np.arange(COUNT) % 3, np.arange(COUNT) % 3),
            (order[:, 1:], order[:, 1:]),
        ):
            output = tmp_path / f"maps-{len(list(tmp_path.iterdir()))}"
            stored = attribute(photographs, output, classifier=LINEAR, labels=labels)
            assert_array_equal(stored["explained"][:], explained)
            expected = np.moveaxis(WEIGHTS, -1, 0)[explained]
            np.testing.assert_allclose(stored["maps"][:], expected, rtol=1e-6)

    @pytest.mark.parametrize("dtype", ["float16", "uint8"])
    def test_small_types_hold_them_to_their_precision(self, photographs, stored, tmp_path, dtype):
        small = attribute(photographs, tmp_path / "maps", dtype=dtype)
        exact = stored["maps"][:]
        widest = np.ptp(exact, axis=(1, 2, 3), keepdims=True) / 510
        # Halves have 11 bits; what is 2^-14 of the largest and smaller is rounded to 2^-25 of it.
        halves = np.abs(exact) * 2**-11 + np.abs(exact).max((1, 2, 3), keepdims=True) * 2**-24
        bound = widest * 1.001 if dtype == "uint8" else halves
        assert small["maps"].dtype == np.float32
        assert (np.abs(small["maps"][:] - exact) <= bound).all()

    def test_a_key_is_folded_with_the_images_number(self, photographs, tmp_path):
        def noise(score, image, *, key):
            return jax.random.normal(key, image.shape)

        key = jax.random.key(3)
        stored = attribute(photographs, tmp_path / "maps", method=noise, key=key)
        for number in (0, COUNT - 1):
            expected = noise(None, np.zeros((SIDE, SIDE, 3)), key=jax.random.fold_in(key, number))
            assert_array_equal(stored["maps"][number], expected)

    def test_a_split_may_be_sliced_and_a_size_asked_for(self, photographs, stored, tmp_path):
        part = attribute(photographs, tmp_path / "part", split="test[2:5]")
        np.testing.assert_array_equal(part["ids"][:], stored["ids"][2:5])
        wide = attribute(
            photographs,
            tmp_path / "wide",
            method=lambda score, image: image,
            classifier=small_photographs.classifier(lambda weights, image: image.mean((0, 1))),
            size=(4, 6),
        )
        assert wide["maps"].shape == (COUNT, 4, 6, 3)

    def test_the_page_shows_the_first(self, stored, photographs, tmp_path):
        attribute(photographs, tmp_path / "maps")
        page = (tmp_path / "maps" / "index.html").read_text("utf-8")
        assert "input_gradient" in page
        assert page.count("data:image/png") == 1
        config = json.loads((tmp_path / "maps" / "config.json").read_text())
        assert config["versions"]["jax"] == jax.__version__
        assert config["method"] == "input_gradient"


class TestResuming:
    @pytest.mark.parametrize("least", [0, 1, 4, COUNT])
    def test_an_interrupted_run_continues_to_the_same_bits(
        self, photographs, stored, tmp_path, least
    ):
        one = {"devices": jax.devices()[:1]}
        with pytest.raises(InterruptedHereError):
            attribute(photographs, tmp_path / "maps", progress=interrupt_at(least), **one)
        calls = []
        continued = attribute(photographs, tmp_path / "maps", progress=begun_with(calls))
        assert_same(continued, stored)
        # What was written when it was interrupted is not computed again.
        assert calls[0] >= least
        assert calls[-1] == COUNT

    def test_devices_do_not_change_a_bit(self, photographs, stored, tmp_path):
        assert len(jax.devices()) == 2
        one = attribute(photographs, tmp_path / "maps", devices=jax.devices()[:1])
        assert_same(one, stored)

    def test_under_a_mesh_nothing_is_shared_out_twice(self, photographs, tmp_path):
        method = functools.partial(attribution.integrated_gradients, steps=4, batch_size=2)
        alone = attribute(photographs, tmp_path / "alone", method=method)
        with jax.set_mesh(devices.mesh()):
            under = attribute(photographs, tmp_path / "alone", method=method)
            again = attribute(photographs, tmp_path / "again", method=method)
        assert_same(alone, under)
        assert_same(alone, again)

    @pytest.mark.parametrize("place", [3, -3, None])
    def test_a_damaged_chunk_is_computed_again(self, photographs, stored, tmp_path, place):
        attribute(photographs, tmp_path / "maps")
        for number in (2, COUNT // BATCH):  # A whole chunk, and the last, which is not full.
            chunk = tmp_path / "maps" / "maps" / "c" / str(number) / "0" / "0" / "0"
            content = bytearray(chunk.read_bytes())
            if place is None:
                content = content[: len(content) // 2]
            else:
                content[place] ^= 1
            chunk.write_bytes(content)
        with pytest.raises(OSError, match="damaged"):
            scale.open(tmp_path / "maps")["maps"][:]
        calls = []
        mended = attribute(photographs, tmp_path / "maps", progress=begun_with(calls))
        assert calls[0] == COUNT - BATCH - 1
        assert_same(mended, stored)

    def test_a_missing_chunk_reads_as_nothing_and_is_computed_again(
        self, photographs, stored, tmp_path
    ):
        attribute(photographs, tmp_path / "maps")
        (tmp_path / "maps" / "scores" / "c" / "1").unlink()
        (tmp_path / "maps" / "status" / "c" / "2").unlink()
        partial = scale.open(tmp_path / "maps")
        assert np.isnan(partial["scores"][2:4]).all()
        assert partial["status"][4] == 255
        assert_same(attribute(photographs, tmp_path / "maps"), stored)

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"batch_size": 3}, "batch_size"),
            ({"method": attribution.input_x_gradient}, "method"),
            ({"classifier": LINEAR}, "program"),
            ({"split": "test[:5]"}, "split"),
            ({"labels": 1}, "labels"),
            ({"dtype": "uint8"}, "columns"),
        ],
    )
    def test_another_run_into_the_same_folder_is_refused(
        self, photographs, tmp_path_factory, changed, named
    ):
        output = tmp_path_factory.getbasetemp() / "same"
        attribute(photographs, output)
        with pytest.raises(ValueError, match=f"another {named}"):
            attribute(photographs, output, **changed)

    def test_two_runs_at_once_are_refused(self, photographs, tmp_path):
        def again(done, total):
            with pytest.raises(BlockingIOError, match="expected no other process at work"):
                attribute(photographs, tmp_path / "maps")

        attribute(photographs, tmp_path / "maps", progress=again)

    def test_a_full_disk_is_told_and_the_same_call_continues(
        self, photographs, stored, tmp_path, monkeypatch
    ):
        # A file above the limit ends a process that does not ignore the signal.
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill_the_disk(done, total):
            if done:
                resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))

        try:
            with pytest.raises(OSError, match=r"expected to write .*continues"):
                attribute(photographs, tmp_path / "maps", progress=fill_the_disk)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert_same(attribute(photographs, tmp_path / "maps"), stored)

    def test_a_folder_that_cannot_be_written_is_told(self, photographs, tmp_path):
        (tmp_path / "file").write_text("")
        for output in (tmp_path / "file", "/proc/maps-of-images"):
            with pytest.raises(OSError, match="expected a folder that can be written"):
                attribute(photographs, output)

    def test_an_address_is_written_like_a_folder(self, photographs, stored):
        address = "memory://bucket/maps"
        with pytest.raises(InterruptedHereError):
            attribute(photographs, address, progress=interrupt_at(4))
        assert_same(attribute(photographs, address), stored)
        with pytest.raises(ValueError, match="another method"):
            attribute(photographs, address, method=attribution.input_x_gradient)
        with pytest.raises(FileNotFoundError, match="expected the output of a run"):
            scale.open("memory://bucket/nothing")
        with pytest.raises(ValueError, match="expected a path, or an address"):
            attribute(photographs, "ftp://bucket/maps")


class TestWhatGoesWrong:
    @pytest.fixture
    def damaged(self, tmp_path):
        """A folder of which one image is no image."""
        dataset = small_photographs.folder(tmp_path / "damaged", COUNT)
        path = tmp_path / "damaged" / "test" / CLASSES[1] / "004.png"
        path.write_bytes(path.read_bytes()[:40])
        return dataset, f"test/{CLASSES[1]}/004.png"

    def test_an_unreadable_image_is_recorded_by_its_id(self, damaged, stored, tmp_path, caplog):
        dataset, name = damaged
        with caplog.at_level(logging.WARNING):
            found = attribute(dataset, tmp_path / "maps")
        (row,) = np.flatnonzero(found["status"][:])
        assert found["ids"][row] == name
        assert scale.STATUS[found["status"][row]] == "unreadable image"
        assert name in caplog.text
        others = np.arange(COUNT) != row
        assert_array_equal(found["maps"][others], stored["maps"][others])

    def test_strict_stops_there_and_what_was_done_is_kept(self, damaged, tmp_path):
        dataset, name = damaged
        with pytest.raises(ValueError, match=f"expected every row to be good, got {name}"):
            attribute(dataset, tmp_path / "maps", strict=True)
        found = attribute(dataset, tmp_path / "maps")
        assert (found["status"][:] > 0).sum() == 1

    def test_a_map_that_is_not_finite_is_recorded(self, photographs, stored, tmp_path, caplog):
        first = stored["scores"][0]

        def fails_once(score, image):
            gradient = attribution.input_gradient(score, image)
            return jnp.where(jnp.abs(score(image) - first) < 1e-3, jnp.nan, gradient)

        for dtype in scale_dtypes():
            found = attribute(photographs, tmp_path / dtype, method=fails_once, dtype=dtype)
            assert_array_equal(found["status"][:], [3, *[0] * (COUNT - 1)])
            assert np.isnan(found["maps"][0]).all()
            assert np.isfinite(found["maps"][1:]).all()

    def test_images_without_a_label_are_recorded(self, photographs, tmp_path):
        found = attribute(photographs, tmp_path / "maps", class_labels=[0, -1, 2])
        labels = found["labels"][:]
        assert_array_equal(found["status"][:], np.where(labels < 0, 2, 0))
        assert (labels < 0).any()

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"method": 3}, TypeError, "method to be callable"),
            ({"score": 3}, TypeError, "score to be callable"),
            ({"dtype": "float64"}, ValueError, "dtype to be float16 or float32 or uint8"),
            ({"batch_size": 0}, ValueError, "batch_size to be at least 1"),
            ({"labels": 3}, ValueError, "label to be in 0 .. 2"),
            ({"labels": 0.5}, TypeError, "labels to be a function, a label, or integers"),
            ({"labels": [0, 1]}, ValueError, f"labels for {COUNT} images, got 2"),
            ({"labels": []}, ValueError, "at least one label"),
            ({"class_labels": [0, 1]}, ValueError, "class_labels to be 3 labels below 3"),
            ({"key": 1}, TypeError, "key to be a JAX random key"),
            ({"split": "train"}, ValueError, "nonempty part of the splits test"),
        ],
    )
    def test_mistakes_are_told_at_entry(
        self, photographs, tmp_path, entry_checks, options, error, text
    ):
        with pytest.raises(error, match=f"expected .*{text}"):
            attribute(photographs, tmp_path / "maps", **options)
        assert not (tmp_path / "maps").exists()

    def test_classes_that_the_classifier_does_not_know(self, photographs, tmp_path):
        stranger = small_photographs.classifier()
        object.__setattr__(stranger, "class_names", ("goose", "lemon", "tabby"))
        with pytest.raises(ValueError, match="expected a class of linear, got 'pizza'"):
            attribute(photographs, tmp_path / "maps", classifier=stranger)
        found = attribute(
            photographs, tmp_path / "maps", classifier=stranger, labels=scale.predicted_label
        )
        assert set(found["labels"][:]) == {-1, 0, 1}
        assert not found["status"][:].any()


def scale_dtypes():
    return _store.DTYPES


class TestCompute:
    def test_a_grid_of_labels_and_seeds(self, tmp_path):
        def picture(network, *, label, seed):
            image = jax.random.uniform(jax.random.key(seed), (2, 2, 3))
            return {
                "images": image * (1.0 + label.astype(image.dtype)),
                "sums": image.sum(),
                "odd": seed % 2 == 1,
            }

        labels, seeds = (axis.ravel() for axis in np.meshgrid(np.arange(3), np.arange(4)))
        points = {"label": labels, "seed": seeds}
        stored = scale.compute(picture, points, tmp_path / "grid", batch_size=5)
        expected = jax.vmap(lambda label, seed: picture(None, label=label, seed=seed))(
            labels, seeds
        )
        assert list(stored) == ["images", "odd", "sums"]
        for name, values in expected.items():
            np.testing.assert_allclose(stored[name][:], values, rtol=1e-6)

    def test_keys_and_models_may_be_shared(self, tmp_path):
        shared = {"key": jax.random.key(1), "scale": 2.0}

        def draw(shared, *, number):
            key = jax.random.fold_in(shared["key"], number)
            return {"x": shared["scale"] * jax.random.normal(key, ())}

        stored = scale.compute(
            draw, {"number": np.arange(3)}, tmp_path / "draws", shared=shared, batch_size=2
        )
        expected = [draw(shared, number=number)["x"] for number in range(3)]
        np.testing.assert_allclose(stored["x"][:], expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("function", "points", "error", "text"),
        [
            (lambda shared, x: {"y": x}, {}, ValueError, "arrays of one length"),
            (lambda shared, x: {"y": x}, {"x": np.zeros(0)}, ValueError, "arrays of one length"),
            (lambda shared, x: x, {"x": np.zeros(2)}, TypeError, "to return arrays by name"),
            (
                lambda shared, x: {"y": jax.random.key(x)},
                {"x": np.zeros(2, int)},
                TypeError,
                "y to hold numbers, got random keys",
            ),
        ],
    )
    def test_mistakes(self, tmp_path, function, points, error, text):
        with pytest.raises(error, match=text):
            scale.compute(function, points, tmp_path / "none", batch_size=1)
        assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def pair():
    """Two devices of one model."""
    return np.array(jax.devices()[:2]).reshape(1, 2)


class TestWideModels:
    """A second axis of the mesh, along which the kernels' output channels are laid out."""

    def test_each_device_holds_a_part(self, pair):
        mesh = jax.sharding.Mesh(pair, (devices.AXIS, MODEL))
        network = small_classifiers.classifier().network
        leaves = jax.tree.leaves(network)
        laid_out = jax.tree.leaves(_compute._laid_out(network, mesh))
        for leaf, other in zip(leaves, laid_out, strict=True):
            assert_array_equal(leaf, other)
            for shard in other.addressable_shards:
                assert shard.data.size * (2 if leaf.ndim > 1 else 1) == leaf.size
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in laid_out)
        assert held < 0.55 * sum(leaf.nbytes for leaf in leaves)

    def test_maps_are_those_of_one_device_but_for_rounding(self, pair, tmp_path):
        photographs = small_photographs.folder(tmp_path / "set", 5, side=small_classifiers.SIDE)
        options = {"classifier": small_classifiers.classifier(), "labels": scale.predicted_label}
        one = attribute(photographs, tmp_path / "one", devices=jax.devices()[:1], **options)
        two = attribute(photographs, tmp_path / "two", devices=pair, **options)
        for name in one:
            if one[name].dtype == np.float32:
                largest = np.abs(one[name][:]).max()
                np.testing.assert_allclose(one[name][:], two[name][:], atol=1e-5 * largest)
            else:
                assert_array_equal(one[name][:], two[name][:])
        with pytest.raises(ValueError, match="another number of devices of a model"):
            attribute(photographs, tmp_path / "two", **options)
        # The mesh that is set says the same.
        calls = []
        with jax.set_mesh(jax.sharding.Mesh(pair, (devices.AXIS, MODEL))):
            attribute(photographs, tmp_path / "two", progress=begun_with(calls), **options)
        assert calls == [5]
        with pytest.raises(ValueError, match=r"expected devices \(n,\) or \(n, m\), got shape"):
            attribute(photographs, tmp_path / "three", devices=pair[None], **options)


class TestReading:
    @pytest.mark.parametrize(
        "index",
        [
            3,
            -1,
            slice(2, 7),
            slice(None, None, 3),
            slice(5, 1),
            [4, 0, 4],
            np.arange(COUNT) % 2 == 0,
            np.array([[0, 1], [5, 2]]),
            (slice(1, 3), 2, slice(None), 0),
            (4, slice(None), 1),
        ],
        ids=str,
    )
    def test_a_column_is_indexed_as_the_array_is(self, stored, index):
        assert_array_equal(stored["maps"][index], stored["maps"][:][index])

    def test_beyond_its_end_is_an_error(self, stored):
        with pytest.raises(IndexError):
            stored["maps"][COUNT]

    def test_it_knows_its_shape(self, stored):
        maps = stored["maps"]
        assert (len(maps), maps.shape, maps.dtype) == (COUNT, (COUNT, SIDE, SIDE, 3), np.float32)
        assert np.asarray(maps).shape == maps.shape
        assert stored["ids"].shape == (COUNT,)
        assert stored["ids"][2:4].tolist() == [stored["ids"][2], stored["ids"][3]]

    @pytest.mark.parametrize("largest", [1e-42, 1e-30, 1e-8, 1.0, 7e4, 1.6e38])
    @pytest.mark.parametrize("dtype", ["float16", "uint8"])
    def test_packed_values_keep_their_scale(self, largest, dtype):
        values = np.array([-1, -0.5, 0, 0.25, 1], np.float32) * np.float32(largest)
        packed = _store.pack("x", jnp.asarray(values), dtype)
        levels, step, low = map(np.asarray, (*packed.values(), 0)[:3])
        unpacked = levels.astype(np.float32) * step + low
        # A processor may take denormal numbers for 0.
        np.testing.assert_allclose(unpacked, values, atol=max(largest / 250, 2e-38))

    def test_a_constant_map_is_packed_exactly(self):
        for value in (0.0, -3.0):
            packed = _store.pack("x", jnp.full((3,), value), "uint8")
            levels, step, low = map(np.asarray, packed.values())
            assert_array_equal(levels * step + low, [value] * 3)


class TestProgress:
    def test_lines_are_few_where_there_is_no_terminal(self):
        file = io.StringIO()
        progress = scale.report("map", file=file, seconds=60)
        for done in range(100, 1001):
            progress(done, 1000)
        lines = file.getvalue().splitlines()
        assert len(lines) == 2
        assert "100/1000" in lines[0]
        assert "1000/1000" in lines[1]
        assert "map/s" in lines[1]

    def test_time_between_lines(self):
        file = io.StringIO()
        progress = scale.report(file=file, seconds=0)
        for done in range(5):
            progress(done, 10)
        assert len(file.getvalue().splitlines()) == 5

    def test_a_terminal_has_a_bar(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        file = Terminal()
        progress = scale.report(file=file)
        for done in (4, 7, 10):
            progress(done, 10)
        assert "10/10" in file.getvalue()
        assert file.getvalue().endswith("\n")


def test_the_number_of_steps_is_that_of_the_missing_chunks(photographs, tmp_path, monkeypatch):
    """Each chunk is computed once: with two devices, a step for two chunks."""
    steps = []
    by_device = _compute._by_device
    monkeypatch.setattr(
        _compute, "_by_device", lambda *arguments: steps.append(1) or by_device(*arguments)
    )
    attribute(photographs, tmp_path / "maps")
    assert len(steps) == 3
    attribute(photographs, tmp_path / "maps")
    assert len(steps) == 3


def test_scores_may_be_probabilities(photographs, examples, tmp_path):
    stored = attribute(
        photographs, tmp_path / "maps", score=scores.probability, labels=1, classifier=LINEAR
    )
    logits = np.einsum("nhwc,hwck->nk", examples["image"], WEIGHTS)
    np.testing.assert_allclose(stored["scores"][:], jax.nn.softmax(logits)[:, 1], rtol=1e-3)


def test_an_image_of_one_colour_is_fitted_as_the_classifier_takes_it(tmp_path):
    (tmp_path / "set" / "test" / "goose").mkdir(parents=True)
    Image.new("L", (40, 20), 51).save(tmp_path / "set" / "test" / "goose" / "grey.png")
    stored = attribute(str(tmp_path / "set"), tmp_path / "maps", method=lambda score, image: image)
    np.testing.assert_allclose(stored["maps"][0], np.full((SIDE, SIDE, 3), 0.2), rtol=1e-6)
