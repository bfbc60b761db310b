"""The localization experiment: its boxes and rules by hand, and whole runs on a miniature."""

import dataclasses
import io
import itertools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_data
import small_models
import tensorflow_datasets as tfds
from browser import pictures_in
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from small_classifiers import CLASS_NAMES, SIDE, classifier, saved

from saliency_jax import attribution, data, models
from saliency_jax import localization as library
from saliency_jax.data._objects import _object_fields
from saliency_jax.images import fit
from saliency_jax.runs import plots

pytestmark = pytest.mark.usefixtures("loaded_once", "pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
NAMES = ((0, "first"), (1, "second"))


@pytest.fixture(scope="module")
def script():
    """The scripts import each other as neighbours."""
    sys.path.insert(0, str(EXPERIMENTS))
    import localization

    yield localization
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[str, str]:
    """Two models of the same classes, as `--model` takes them."""
    first, second = saved(
        tmp_path_factory.mktemp("models"), *(classifier(seed, name=name) for seed, name in NAMES)
    )
    return first, second


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def painted(sides, box):
    mask = np.zeros(sides, bool)
    y0, x0, y1, x1 = box
    mask[y0:y1, x0:x1] = True
    return mask


def boxes_of(*boxes):
    """(n, 1, 4), one true box for each of n images."""
    return np.array(boxes, float)[:, None]


class TestBoxes:
    @pytest.mark.parametrize("shape", [(32, 64), (64, 32), (64, 64), (48, 48)])
    def test_a_box_goes_where_its_pixels_go(self, script, shape):
        # Corners on whole pixels of the fitted image, which is reduced by a whole number.
        factor = min(shape) // SIDE
        top, left = ((side - min(shape)) // 2 for side in shape)
        for y0, x0, y1, x1 in ((0, 0, 8, 6), (2, 4, 12, 15), (6, 8, 16, 16)):
            box = (
                top + factor * y0,
                left + factor * x0,
                top + factor * y1,
                left + factor * x1,
            )
            pixels = painted(shape, box)[..., None].astype(np.float32)
            expected = library.bounding_box(fit(pixels, SIDE)[..., 0] > 0.5)
            assert expected == (y0, x0, y1, x1)
            relative = np.array([box]) / np.array([*shape, *shape])
            (found,) = script.examples.whole_boxes(relative, shape, classifier())
            assert_allclose(found, expected, atol=1e-6)

    def test_what_is_outside_of_the_window_is_cut_off(self, script):
        boxes = np.array([[0.0, 0.0, 1.0, 0.2], [0.0, 0.1, 1.0, 0.5]])
        # Of 10x20 the columns from 5 to 15 are left.
        inside = script.examples.whole_boxes(boxes, (10, 20), classifier(side=10))
        assert_allclose(inside, [[0, 0, 10, 0], [0, 0, 10, 5]])

    def test_a_crop_takes_the_middle_of_what_is_resized(self, script):
        record = dataclasses.replace(classifier().input, size=(8, 8), resize=(10, 10))
        cropping = dataclasses.replace(classifier(), input=record)
        boxes = np.array([[0.1, 0.1, 0.9, 0.9], [0.2, 0.5, 0.7, 1.0]])
        inside = script.examples.whole_boxes(boxes, (20, 20), cropping)
        assert_allclose(inside, [[0, 0, 8, 8], [1, 4, 6, 8]], atol=1e-9)
        # What is measured is of whole images, for models that crop too.
        whole = script.uncropped(cropping)
        inside = script.examples.whole_boxes(boxes, (20, 20), whole)
        assert_allclose(inside, 8 * boxes, atol=1e-9)
        assert_allclose(whole.preprocess(np.eye(8)[..., None])[..., 0], np.eye(8), atol=1e-6)

    def test_the_nearest_of_several_true_boxes_counts(self, script):
        found = np.array([[2, 2, 8, 8], [0, 0, 4, 4]])
        true = np.array([[[0, 0, 2, 2], [2, 2, 8, 9]], [[4, 4, 8, 8], [0, 0, 0, 0]]], float)
        assert_allclose(script.overlaps(found[None], true), [[6 / 7, 0]], rtol=1e-6)

    def test_the_centred_box_is_wrong_of_the_fewest(self, script):
        generator = np.random.default_rng(0)
        start = generator.integers(0, 5, (30, 2))
        boxes = np.concatenate([start, SIDE - generator.integers(0, 5, (30, 2))], axis=1)
        true = [painted((SIDE, SIDE), box) for box in boxes]

        def errors(box):
            mask = painted((SIDE, SIDE), box)
            return sum((mask & one).sum() < 0.5 * (mask | one).sum() for one in true)

        best = min(
            errors((top, left, SIDE - top, SIDE - left))
            for top, left in itertools.product(range(8), range(8))
        )
        top, left, bottom, right = script.centred_box(boxes_of(*boxes), (SIDE, SIDE))
        assert (bottom, right) == (SIDE - top, SIDE - left)
        assert errors((top, left, bottom, right)) == best < errors((0, 0, SIDE, SIDE))


class TestRules:
    @pytest.fixture
    def tuning(self, script):
        """Two grey images, and maps that are high in the true box and less high around it."""
        boxes = [(2, 3, 9, 12), (5, 1, 14, 13)]
        maps = np.full((2, SIDE, SIDE), 0.1, np.float32)
        for saliency_map, (y0, x0, y1, x1) in zip(maps, boxes, strict=True):
            saliency_map[max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4] = 0.5
            saliency_map[y0:y1, x0:x1] = 1.0
        images = np.full((2, SIDE, SIDE, 3), 0.5, np.float32)
        return script.Objects(images, np.zeros(2, np.int32), boxes_of(*boxes)), maps

    def test_the_first_of_the_best_thresholds_is_chosen_and_its_boxes_are_kept(
        self, script, tuning, in_a_folder
    ):
        examples, maps = tuning
        rules = [script.threshold(0.0, fraction) for fraction in (0.05, 0.4, 0.6, 0.7)]
        counted = []
        with script.frame.Run(script.Settings(output=in_a_folder / "run"), "run") as run:
            run.advance = lambda points, description="": counted.append(points)
            for _ in range(2):
                boxes = script.find_boxes(run, in_a_folder, rules, maps, examples.images)
                assert_array_equal(boxes[0], [[0, 0, SIDE, SIDE]] * 2)
                assert_array_equal(boxes[2:], [examples.boxes[:, 0]] * 2)
                assert script.fewest_errors(boxes, examples.boxes) == 2
            # Each rule's two images one after the other, and then all that was kept.
            assert counted == [2, 2, 2, 2, 8]
            others = script.find_boxes(run, in_a_folder, rules[3:], maps, examples.images)
        assert_array_equal(others, boxes[3:])

    def test_smoothing_comes_first(self, script):
        saliency_map = np.zeros((1, SIDE, SIDE), np.float32)
        saliency_map[0, 4, 4], saliency_map[0, 10:13, 10:13] = 1.0, 0.6
        image = np.zeros((1, SIDE, SIDE, 3), np.float32)
        sharp, smooth = (
            script.find(script.threshold(sigma, 0.7), saliency_map, image)[0].box
            for sigma in (0.0, script.UNIT_SIDE / SIDE)
        )
        assert sharp == (4, 4, 5, 5)
        assert min(smooth) >= 9

    def test_a_rule_means_the_same_at_every_size(self, script):
        saliency_map = np.zeros((2, SIDE, SIDE), np.float32)
        saliency_map[0, 4:6, 9:12], saliency_map[1, 10, 3:5] = 1.0, 1.0
        rule = script.threshold(script.UNIT_SIDE / SIDE, 0.5)
        large = saliency_map.repeat(4, axis=1).repeat(4, axis=2)
        small_boxes, large_boxes = (
            np.array([found.box for found in script.find(rule, maps, np.zeros((2, 1, 1, 3)))])
            for maps in (saliency_map, large)
        )
        assert_allclose(large_boxes, 4 * small_boxes, atol=3)

    def test_fewer_cuts_are_tried_on_large_images(self, script):
        tried = [
            script.cuts(script.Objects(np.zeros((1, side, side, 3)), None, None))
            for side in (64, 224)
        ]
        texts = [{rule.text for rule in rules} for rules in tried]
        assert texts[1] < texts[0]

    def test_a_cut_is_the_librarys(self, script):
        generator = np.random.default_rng(0)
        saliency_map = generator.random((SIDE, SIDE), np.float32)
        image = generator.random((SIDE, SIDE, 3), np.float32)
        (found,) = script.find(script.cut(0.0, 0.8, 0.4, 2), saliency_map[None], image[None])
        expected = library.localize(saliency_map, image, 0.8, 0.4, iterations=2)
        assert_array_equal(found.mask, expected.mask)
        assert found.box == expected.box


def test_the_inner_map_is_of_the_last_stage_but_one(script):
    network = small_models.short_resnet(18, 6, width=4, stem=models.HALVING_STEM)
    image = jax.random.uniform(jax.random.key(0), (64, 64, 3))

    @jax.jit
    def by_hand(network, image):
        maps = network.normalization(image[None])
        maps = jax.nn.relu(network.bn1(network.conv1(maps)))
        *stages, last = network.stages
        for block in (block for stage in stages for block in stage):
            maps = block(maps)

        def logit(maps):
            for block in last:
                maps = block(maps)
            return network.fc(maps.mean((1, 2)))[0, 5]

        value, gradient = jax.value_and_grad(logit)(maps)
        # No feature is negative, so that no sum over them is.
        return value, (jnp.maximum(gradient, 0) * maps).sum(-1)[0]

    value, weighted = by_hand(network, image)
    explain = jax.jit(script._explaining((script.INNER,)))
    logits, maps = explain(network, example=(image, jnp.asarray(5)))
    assert_allclose(value, logits[5], rtol=1e-4)
    found = maps[script.INNER]
    assert_allclose(found, attribution.bilinear(weighted, (64, 64)), rtol=1e-3, atol=1e-7)
    assert found.max() > 0


def test_errors_of_box_and_class(script):
    logits = np.zeros((4, 8))
    logits[:, 1:] = np.arange(7)
    # The true class is the first, the fourth and the seventh likeliest, and again the first.
    labels = np.array([7, 4, 1, 7])
    examples = script.Objects(np.zeros((4, 8, 8, 3)), labels, boxes_of(*[(0, 0, 8, 8)] * 4))
    small, half, whole = (0, 0, 3, 8), (0, 0, 4, 8), (0, 0, 8, 8)
    boxes = {
        ("", "whole image", ""): np.array([whole] * 4),
        ("", "centred box", ""): np.array([small] * 4),
        ("map", "cut", ""): np.array([half, whole, whole, small]),
    }
    measured = script.Measured(None, examples, logits, boxes, np.arange(4), {}, {})
    assert_array_equal(measured.rank, [0, 3, 6, 0])
    assert_allclose(measured.overlaps[2], [0.5, 1, 1, 3 / 8])
    *_, cut = script.tabulate(measured).rows
    assert cut[3].startswith("0.250 [")
    assert cut[4].startswith("-0.750 [")
    # With intervals, as all errors.
    assert [cell.partition(" [")[0] for cell in cut[5:7]] == ["0.750", "0.500"]
    assert all(cell.endswith("]") for cell in cut[5:7])
    assert cut[7].startswith("0.719 [")


class LocalizationObjects(tfds.core.GeneratorBasedBuilder):
    """Images of several objects, for the test of reading them."""

    VERSION = tfds.core.Version("1.0.0")
    OBJECTS = (
        ((20, 40), [("lemon", (0.0, 0.25, 0.5, 0.5)), ("lemon", (0.5, 0.5, 1.0, 1.0))]),
        ((20, 20), [("lemon", (0.0, 0.0, 1.0, 1.0)), ("orange", (0.0, 0.0, 0.5, 0.5))]),
        ((20, 20), []),
        ((30, 20), [("orange", (0.2, 0.0, 0.6, 0.5))]),
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "objects": tfds.features.Sequence(
                        {
                            "label": tfds.features.ClassLabel(names=["orange", "lemon"]),
                            "bbox": tfds.features.BBoxFeature(),
                        }
                    ),
                }
            ),
            description="Objects.",
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index, (sides, objects) in enumerate(self.OBJECTS):
            encoded = io.BytesIO()
            Image.new("RGB", sides[::-1], (40 * index,) * 3).save(encoded, "PNG")
            yield (
                str(index),
                {
                    "picture": io.BytesIO(encoded.getvalue()),
                    "objects": [
                        {"label": name, "bbox": tfds.features.BBox(*box)} for name, box in objects
                    ],
                },
            )


class TestReading:
    def test_one_box_an_image(self, script, tiny_imagenet_folder):
        def read(**options):
            return script.examples.read_objects(
                small_data.NAME,
                "validation",
                classifier(),
                data_dir=tiny_imagenet_folder,
                **options,
            )

        examples = read()
        assert examples.images.shape == (40, SIDE, SIDE, 3)
        expected = []
        for label, index in itertools.product(range(20), range(2)):
            x0, y0, x1, y1 = small_data.box(label, index)
            expected.append((label, y0 / 4, x0 / 4, (y1 + 1) / 4, (x1 + 1) / 4))
        found = np.column_stack([examples.labels, examples.boxes[:, 0]])
        assert_allclose(sorted(map(tuple, found)), sorted(expected), atol=1e-4)
        for column, whole in zip(read(count=3), examples, strict=True):
            assert_array_equal(column, whole[:3])

    def test_boxes_of_objects(self, script, in_a_folder):
        data.prepare("localization_objects", data_dir=in_a_folder)
        examples = script.examples.read_objects(
            "localization_objects", "train", classifier(), data_dir=in_a_folder
        )
        lemon, orange = CLASS_NAMES.index("lemon"), CLASS_NAMES.index("orange")
        order = np.argsort(examples.labels != lemon)
        # The second has two classes, the third none. Of the first the columns from 10 to 30 are
        # seen, of the fourth the rows from 5 to 25.
        assert examples.labels[order].tolist() == [lemon, orange]
        assert_allclose(
            examples.boxes[order],
            [[[0, 0, 8, 8], [8, 8, 16, 16]], [[0.8, 0, 10.4, 8], [0, 0, 0, 0]]],
            atol=1e-5,
        )
        assert_allclose(examples.images[order].mean((1, 2, 3)), [0, 120 / 255], atol=1e-6)

    def test_a_class_of_another_name_is_found_by_its_wordnet_id(self, script, monkeypatch):
        image, box = np.zeros((SIDE, SIDE, 3), np.float32), np.array([[0.0, 0.0, 1.0, 0.5]])
        objects = [data.Objects(image, label, box) for label in (0, 1)]
        read = (("crane", "lemon"), iter(objects))
        monkeypatch.setattr(data, "load_objects", lambda *_, **__: read)
        names = ("crane (bird)", "lemon", "crane (machine)")
        found = script.examples.read_objects("any", "train", classifier(class_names=names))
        assert found.labels.tolist() == [2, 1]

    def test_a_dataset_without_boxes(self):
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
        )
        with pytest.raises(ValueError, match="expected a dataset with images, classes and boxes"):
            _object_fields("mnist", features)


@pytest.fixture(scope="module")
def settings(script, folders, tiny_imagenet_folder):
    return script.Settings(
        model=folders, tuning_split="train[:10]", shown=4, data_dir=tiny_imagenet_folder
    )


class TestRuns:
    def test_a_whole_run_and_one_that_was_interrupted(
        self, script, settings, in_a_folder, monkeypatch, capsys
    ):
        monkeypatch.setattr(script, "THRESHOLDS", script.THRESHOLDS[::7])
        monkeypatch.setattr(script, "CUTS", script.CUTS[::5])
        settings = dataclasses.replace(
            settings,
            count=20,
            method=("saliency", script.PAPERS_MAP, "grad_cam", script.INNER),
            output=Path("run"),
        )

        def interrupt(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(script, "compare", interrupt)
            with pytest.raises(KeyboardInterrupt):
                script.main(settings)
        # What was found is not looked for again, but for the masks of what is shown.
        find, looked = script.find, []

        def watched(*arguments):
            looked.append(arguments[0])
            return find(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(script, "find", watched)
            script.main(settings)
        # Of each model's seven maps by their best rules, and the paper's by its own.
        assert len(looked) == 2 * 8
        assert {path.name for path in Path("run").iterdir()} == {
            "localization-first.npz",
            "localization-second.npz",
            "localization.png",
            "config.json",
            "index.html",
        }
        assert list(in_a_folder.iterdir()) == [in_a_folder / "run"]
        stored = json.loads(Path("run/config.json").read_text())["settings"]
        assert stored["split"] == "validation"
        printed = capsys.readouterr().out
        assert "second against first" in printed

        with np.load("run/localization-first.npz") as arrays:
            rows, boxes, overlaps = (arrays[name] for name in ("rows", "boxes", "overlaps"))
            true = arrays["true_boxes"]
            labels, logits = arrays["labels"], arrays["logits"]
            shown, names, maps = (arrays[name] for name in ("shown", "map_names", "maps"))
        # Two fixed boxes, and three kinds of boxes from each of seven maps.
        assert boxes.shape == (23, 20, 4)
        assert rows[0] == f" | whole image | 0, 0, {SIDE}, {SIDE}"
        area = (true[:, 0, 2] - true[:, 0, 0]) * (true[:, 0, 3] - true[:, 0, 1])
        assert_allclose(overlaps[0], area / SIDE**2, rtol=1e-5)
        line = next(line for line in printed.splitlines() if "whole image" in line)
        wrong = overlaps[0] < 0.5
        assert f" {wrong.mean():.3f} [" in line
        assert f" {(wrong | (logits.argmax(1) != labels)).mean():.3f} " in line
        # Images of one colour: no cut costs less than none.
        (papers,) = np.flatnonzero(
            rows == "ten crop | cut, the paper's settings | sigma 0, quantiles 0.95 and 0.3, cuts 1"
        )
        assert (boxes[papers] == [0, 0, SIDE, SIDE]).all()
        # Of a map made from the true box a threshold finds that box again.
        (oracle,) = (place for place, row in enumerate(rows) if "true box | threshold" in row)
        assert overlaps[oracle].min() > 0.5
        # Each picture of a map has the true box, and that of one of the map's rows.
        assert maps.shape == (4, 7, SIDE, SIDE)
        pictures = pictures_in(Path("run/index.html"))
        seen = [pixels for alt, pixels in pictures if "first, " in alt and alt.endswith(": map")]
        places = [(script.PAPERS_MAP, rows[papers]), *((name, "") for name in names)]
        assert len(seen) == 4 * len(places)
        for drawn, (row, (name, wanted_row)) in zip(
            seen, itertools.product(range(4), places), strict=True
        ):
            title, number = script.titled(name), shown[row]
            drawn_map = plots.saliency_map(maps[row, names.tolist().index(name)])
            marked = plots.outlined(drawn_map.pixels, true[number, 0], script.TRUE_COLOR)
            candidates = [
                np.rint(255 * plots.outlined(marked, found[number]))
                for text, found in zip(rows, boxes, strict=True)
                if text == wanted_row or (not wanted_row and text.startswith(f"{title} | "))
            ]
            assert any(np.array_equal(drawn, each) for each in candidates)

    def test_a_folder_of_ones_own_images(self, script, settings, capsys):
        folder = Path("photographs")
        folder.mkdir()
        colors = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
        for name, pixels in zip(("a.png", "b.gif"), colors, strict=True):
            Image.fromarray(pixels).save(folder / name)
        (folder / ".hidden").write_text("no picture")
        script.main(
            script.Settings(
                model=settings.model, images=(folder,), label="lemon", output=Path("run")
            )
        )
        with np.load("run/localization-second.npz") as arrays:
            assert arrays["labels"].tolist() == [CLASS_NAMES.index("lemon")] * 2
            assert arrays["saliency_maps"].shape == (2, SIDE, SIDE)
            for image, saliency_map, mask, box in zip(
                *(arrays[name] for name in ("images", "saliency_maps", "masks", "boxes")),
                strict=True,
            ):
                expected = library.localize(saliency_map, image)
                assert_array_equal(mask, expected.mask)
                assert tuple(box) == expected.box
        printed = capsys.readouterr().out
        assert "a.png" in printed
        assert "b.gif" in printed
        assert Path("run/localization.png").exists()
        shown = dict(pictures_in(Path("run/index.html")))
        (alt,) = (alt for alt in shown if alt.startswith("b.gif, second") and "cut" in alt)
        with np.load("run/localization-second.npz") as arrays:
            image, mask, box = (arrays[name][1] for name in ("images", "masks", "boxes"))
        wanted = np.where(mask[..., None], image, script.FADED + (1 - script.FADED) * image)
        assert_array_equal(shown[alt], np.rint(255 * plots.outlined(wanted, box)))


MISTAKES = {
    "quantiles": (
        "--foreground 0.2 --background 0.4",
        "expected 0 <= --background <= --foreground",
    ),
    "label of a dataset": ("--label lemon", "expected --label with --images"),
    "without the paper's map": (
        "--method saliency",
        "expected --method to name ten_crop, got ('saliency',)",
    ),
    "no image shown": ("--shown 0", "expected --shown to be at least 1, got 0"),
    "no batch": ("--batch-size 0", "expected --batch-size to be at least 1, got 0"),
    "unknown dataset": ("--dataset tiny_imagenett", "tiny_imagenet"),
    "unknown split": ("--tuning-split trian", "expected a split of tiny_imagenet/paper20, train"),
    "too large a slice": (
        "--tuning-split train[:400]",
        "validation, or a part of one, got 'train[",
    ),
    "a single image": ("--split validation[:1]", "expected at least 2 images with boxes"),
    "unknown label": ("--images {empty}/.. --label lemmon", "did you mean 'lemon'"),
    "empty folder": ("--images {empty}", "expected image files in"),
    "no image file": ("--images {empty}/none.png", "got no file at"),
}


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(("flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    script, settings, flags, message, in_a_folder, tmp_path_factory, capsys
):
    empty = tmp_path_factory.mktemp("images") / "empty"
    empty.mkdir()
    arguments = flags.format(empty=empty).split()
    if "--tuning-split" not in arguments:
        arguments += ["--tuning-split", settings.tuning_split]
    arguments += ["--model", *settings.model, "--data-dir", str(settings.data_dir)]
    with pytest.raises(SystemExit) as end:
        script.main.from_command_line(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert list(in_a_folder.iterdir()) == []
