"""The experiments on attribution: what they measure, what they leave, what a mistake costs."""

import dataclasses
import functools
import sys
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import small_classifiers
import small_models
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from small_classifiers import CLASS_NAMES, SIDE
from small_models import answer

from saliency_jax import attribution, baselines, metrics, models, rules, scores
from saliency_jax.images import fit
from saliency_jax.models import Classifier, Input
from saliency_jax.segments import felzenszwalb_regions

pytestmark = pytest.mark.usefixtures("loaded_once", "pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SHAPE = (SIDE, SIDE, 3)
COUNT = 6
NAMES = ("first", "second")


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts, and what they share."""
    sys.path.insert(0, str(EXPERIMENTS))
    import compare_methods
    import input_scale
    import lab
    import labels
    import relevance
    import robust_vs_standard
    import saliency
    import ten_examples
    from lab import examples, loading, methods, photographs, tables

    yield {
        module.__name__: module
        for module in (
            compare_methods,
            input_scale,
            labels,
            lab,
            relevance,
            robust_vs_standard,
            saliency,
            ten_examples,
            examples,
            loading,
            methods,
            photographs,
            tables,
        )
    }
    sys.path.remove(str(EXPERIMENTS))


def network(seed: int, **changes) -> models.ResNet:
    """A network without biases."""
    options = {
        "width": 4,
        "stem": models.HALVING_STEM,
        "mean": (0.4, 0.5, 0.6),
        "std": (0.25, 0.25, 0.25),
        **changes,
    }
    return small_models.short_resnet(18, len(CLASS_NAMES), seed=seed, **options)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> tuple[str, ...]:
    """Two models of the same classes."""
    both = [small_classifiers.classifier(seed, name=name) for seed, name in enumerate(NAMES)]
    return small_classifiers.saved(tmp_path_factory.mktemp("models"), *both)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def example():
    """One example as the scripts see it: images of noise, so that nothing is undefined."""
    images = jax.random.uniform(jax.random.key(0), (2, *SHAPE))
    boxes = np.array([[2, 3, 9, 12], [0, 0, 16, 5]], np.float32)
    return {
        "images": images,
        "labels": np.array([3, 7], np.int32),
        "boxes": boxes,
        "number": np.int32(5),
    }


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


mapped = jax.jit(lambda layer, image: layer.map(image))
gradient = jax.jit(lambda model, label, image: attribution.input_gradient(
    scores.logit(model, label), image
))  # fmt: skip


def run(script, folders, tiny_imagenet_folder, **changes):
    settings = script.main.Settings(
        model=folders,
        dataset="tiny_imagenet/paper20",
        count=COUNT,
        shown=2,
        batch_size=4,
        data_dir=tiny_imagenet_folder,
        output=Path("out"),
        **changes,
    )
    script.main(settings)
    return {path.name for path in Path("out").iterdir()}


@pytest.fixture
def photographs(in_a_folder) -> Path:
    """A folder of photographs: of noise, in folders by WordNet id, named by one, or by none."""
    draws = np.random.default_rng(0)
    # A lemon by its folder, a compass by its name, and a third that does not say.
    for name in ("b/n07749582/1.png", "b/n03706229_magnetic_compass.png", "b/z.png"):
        path = in_a_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    (in_a_folder / "b/.hidden").touch()
    return Path("b")


class TestPhotographs:
    def test_of_folders_the_first_classes_come_first(self, scripts, photographs):
        files = scripts["lab.photographs"].files
        found = [path.name for path in files([photographs, photographs / "z.png"])]
        assert found == ["n03706229_magnetic_compass.png", "1.png", "z.png", "z.png"]
        found = [path.name for path in files([photographs], ("lemon",))]
        assert found == ["1.png", "n03706229_magnetic_compass.png", "z.png"]

    def test_the_class_is_that_of_the_wordnet_id(self, scripts):
        class_of = scripts["lab.photographs"].class_of
        assert class_of(Path("n07749582/n03706229_compass.jpg")) == "magnetic compass"
        assert class_of(Path("n07749582/1.jpg")) == "lemon"
        assert class_of(Path("n00000000/1.jpg")) is None

    def test_examples_of_files_have_labels_and_no_boxes(self, scripts, photographs):
        examples, classifier = scripts["lab.examples"], small_classifiers.classifier(0)
        read = examples.read(examples.Settings(images=(photographs,)), classifier)
        assert set(read.examples) == {"images", "labels", "number"}
        names = [CLASS_NAMES[label] for label in read.examples["labels"][:, 0]]
        assert names[:2] == ["magnetic compass", "lemon"]
        last = read.examples["images"][2, 0]
        assert_array_equal(last, classifier.preprocess(photographs / "z.png"))
        assert read.examples["labels"][2, 0] == np.argmax(classifier.network(last))
        assert (
            examples.read(examples.Settings(images=(photographs,), count=2), classifier).count == 2
        )

    def test_what_needs_a_box_is_left_out(self, scripts, photographs, folders, capsys):
        for name, changes in (("labels", {"incorrect": 2}), ("input_scale", {"scales": (0.5, 1)})):
            options = {"model": folders[:1], "images": (photographs,), "shown": 1, **changes}
            scripts[name].main(scripts[name].Settings(output=Path(name), **options))
            stored = arrays(Path(name, "measurements-first.npz"))
            assert "share" not in stored
            assert stored["correlation"].shape[0] == 3
        assert "in the box" not in capsys.readouterr().out

    def test_the_network_of_photographs_is_imagenets(self, scripts):
        for name in ("saliency", "compare_methods", "labels", "input_scale", "ten_examples"):
            assert scripts[name].main.Settings().model == ("efficientnet-lite0",)


class TestExamples:
    def test_the_examples_are_those_of_the_split_beside_the_next_ones(
        self, scripts, folders, tiny_imagenet_folder
    ):
        examples = scripts["lab.examples"]
        (classifier,) = scripts["lab.loading"].load(folders[:1])
        settings = examples.PairSettings(count=COUNT, data_dir=tiny_imagenet_folder)
        read = examples.read(settings, classifier).examples
        assert read["images"].shape == (COUNT, 2, *SHAPE)
        # The miniature's red tells the label, its blue which of the class's images it is; the first
        # one's box is the whole image, the other's begins at the label, the row 2 and ends at 41.
        red, _, blue = np.moveaxis(read["images"][:, :, 0, 0] * 255, -1, 0)
        labels = np.round((red - 20) / 10).astype(int)
        assert_array_equal(read["labels"], labels)
        first_of_class = np.round((blue - 20) / 60) == 0
        whole = np.array([0, 0, SIDE, SIDE], np.float32)
        others = np.stack(
            [np.full(labels.shape, 2), labels, np.full(labels.shape, 42), labels + 31], axis=-1
        )
        expected = np.where(first_of_class[..., None], whole, others * SIDE / 64)
        assert_allclose(read["boxes"], expected, atol=1e-5)
        for columns in (read[name] for name in ("images", "labels", "boxes")):
            assert_array_equal(columns[:, 1], np.roll(columns[:, 0], -1, axis=0))

    def test_labels_are_the_models_own_numbers(self, scripts, tiny_imagenet_folder):
        examples = scripts["lab.examples"]
        settings = examples.PairSettings(count=COUNT, data_dir=tiny_imagenet_folder)
        forward, backward = (
            examples.read(settings, small_classifiers.classifier(0, names)).examples["labels"]
            for names in (CLASS_NAMES, CLASS_NAMES[::-1])
        )
        assert_array_equal(backward, len(CLASS_NAMES) - 1 - forward)

    def test_images_and_boxes_are_those_that_the_model_preprocesses(
        self, scripts, tiny_imagenet_folder
    ):
        examples = scripts["lab.examples"]
        whole = small_classifiers.classifier(0)
        # Of 64 pixels resized to 20 the middle 16: what was at 6.4 of 64 is at the edge.
        record = dataclasses.replace(whole.input, resize=(20, 20))
        centred = dataclasses.replace(whole, input=record)
        settings = examples.PairSettings(count=COUNT, data_dir=tiny_imagenet_folder)
        boxes = examples.read(settings, whole).examples["boxes"] * 64 / SIDE
        expected = np.clip((boxes - 6.4) * 20 / 64, 0, SIDE)
        assert_allclose(examples.read(settings, centred).examples["boxes"], expected, atol=1e-4)

    def test_carried_examples_are_windows_that_take_turns(self, scripts):
        read = scripts["lab.examples"].carried(small_classifiers.classifier(0)).examples
        tabby, espresso = CLASS_NAMES.index("tabby"), CLASS_NAMES.index("espresso")
        assert_array_equal(read["labels"], [[tabby, espresso], [espresso, tabby]] * 5)
        assert read["images"].shape == (10, 2, *SHAPE)
        cat, coffee = (
            np.asarray(photograph, np.float32) / 255
            for photograph in (skimage.data.chelsea(), skimage.data.coffee())
        )
        # 300 and 400 pixels high, 451 and 600 wide: the first and the last windows.
        for place, window in ((0, cat[:, :300]), (8, cat[:, 151:]), (9, coffee[:, 200:])):
            assert_allclose(read["images"][place, 0], fit(window, SIDE), atol=1e-6)
        first_cat, last_coffee = read["boxes"][[0, 9], 0]
        assert_allclose(first_cat, [0, SIDE * 20 / 300, SIDE, SIDE], atol=1e-5)
        assert_allclose(last_coffee, SIDE * np.array([15, 0, 310, 215]) / 400, atol=1e-5)

    def test_carried_examples_have_the_models_proportions(self, scripts):
        narrow = Classifier(
            "narrow", network(0), Input("image", (SIDE, SIDE // 2), mean=(0.4, 0.5, 0.6),
            std=(0.25,) * 3), CLASS_NAMES
        )  # fmt: skip
        read = scripts["lab.examples"].carried(narrow).examples
        window = np.asarray(skimage.data.coffee(), np.float32)[:, 400:] / 255
        assert_allclose(read["images"][9, 0], fit(window, (SIDE, SIDE // 2)), atol=1e-6)
        # 200 pixels wide from column 400 on, of which the cup has 15.
        expected = [SIDE * 15 / 400, 0, SIDE * 310 / 400, SIDE / 2 * 15 / 200]
        assert_allclose(read["boxes"][9, 0], expected, atol=1e-5)

    def test_a_table_pairs_the_models_and_leaves_out_what_is_undefined(self, scripts):
        first = {"share": np.array([0.0, 1.0, 5.0, np.nan]), "nothing": np.full(4, np.nan)}
        second = {"share": np.array([1.0, 2.0, np.nan, 7.0]), "nothing": np.zeros(4)}
        table = scripts["lab.tables"].paired(("a", "b"), (first, second))
        assert table.header == ["", "a", "b", "difference", "images"]
        share, nothing = table.rows
        # Of the values 0 and 1 a resampled mean is 0, 0.5 or 1; both differences are 1.
        assert share == [
            "share", "0.500 [0.000, 1.000]", "1.500 [1.000, 2.000]", "1.000 [1.000, 1.000]", "2"
        ]  # fmt: skip
        assert nothing == ["nothing", "undefined", "undefined", "undefined", "0"]


class TestRobustVsStandard:
    def test_what_is_measured_is_what_it_is_called(self, scripts, example):
        script, model = scripts["robust_vs_standard"], network(0)
        measured = jax.jit(script.measure)(model, example=example)
        image, another = example["images"]
        of_label = np.asarray(gradient(model, 3, image))
        saliency_map = np.abs(of_label).max(-1)
        assert_allclose(
            measured["share"][0], saliency_map[2:9, 3:12].sum() / saliency_map.sum(), 1e-4
        )
        assert_allclose(measured["share"][1], saliency_map[:, :5].sum() / saliency_map.sum(), 1e-4)
        row, column = np.unravel_index(saliency_map.argmax(), saliency_map.shape)
        assert_array_equal(measured["pointing"], [2 <= row < 9 and 3 <= column < 12, column < 5])
        for place, picture in enumerate((image, another)):
            centred = np.asarray(picture - picture.mean((0, 1), keepdims=True))
            expected = abs((of_label * centred).sum())
            expected /= np.linalg.norm(of_label) * np.linalg.norm(centred)
            assert_allclose(measured["cosine"][place], expected, rtol=1e-3)
        alpha = jax.jit(metrics.etmann_alignment)(model, image)
        assert_allclose(measured["alpha"][0], alpha, rtol=1e-4)
        predicted = int(answer(model, image).argmax())
        of_predicted = np.asarray(gradient(model, predicted, image))
        along = abs((of_predicted * np.asarray(another)).sum()) / np.linalg.norm(of_predicted)
        assert_allclose(measured["alpha"][1], along, rtol=1e-4)
        assert bool(measured["correct"]) == (predicted == 3)
        assert_allclose(measured["box"], 7 * 9 / SIDE**2)

    def test_roughness_does_not_depend_on_the_unit(self, scripts):
        roughness = scripts["robust_vs_standard"].roughness
        # One pixel of nine has all: four neighbours differ by 9 times the mean.
        saliency_map = jnp.zeros((3, 3)).at[1, 1].set(0.02)
        assert_allclose(roughness(saliency_map), 4 * 9 / 9, rtol=1e-6)
        assert_allclose(roughness(50 * saliency_map), roughness(saliency_map), rtol=1e-6)

    def test_a_run_leaves_a_whole_folder(self, scripts, folders, tiny_imagenet_folder, capsys):
        files = run(scripts["robust_vs_standard"], folders, tiny_imagenet_folder)
        assert files == {
            "config.json", "distributions.png", "examples.png", "index.html",
            "measurements-first.npz", "measurements-second.npz",
        }  # fmt: skip
        printed = capsys.readouterr().out
        assert printed.endswith(f"index.html are in {Path('out').resolve()}\n")
        stored = arrays(Path("out/measurements-first.npz"))
        assert stored["share"].shape == (COUNT, 2)
        (row,) = (line for line in printed.splitlines() if line.startswith("share in the box  "))
        assert f"{stored['share'][:, 0].mean():.3f} [" in row
        # The miniature's images of one colour are their own mean, but for rounding.
        (row,) = (line for line in printed.splitlines() if line.startswith("|cosine|  "))
        cosines = [arrays(Path(f"out/measurements-{name}.npz"))["cosine"][:, 0] for name in NAMES]
        assert row.split()[-1] == str(np.isfinite(cosines).all(0).sum())

    def test_an_interrupt_costs_nothing(
        self, scripts, folders, tiny_imagenet_folder, monkeypatch, capsys
    ):
        script, runs = scripts["robust_vs_standard"], scripts["lab"].frame.runs
        whole = runs.sweep

        def interrupted(*arguments, **options):
            whole(*arguments, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(runs, "sweep", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(script, folders, tiny_imagenet_folder)
        (left,) = Path().iterdir()
        chunks = sorted(left.rglob("*.npz"))
        assert {chunk.parts[1] for chunk in chunks} == {"first"}
        before = [chunk.stat().st_mtime_ns for chunk in chunks]
        found = []

        def watched(*arguments, **options):
            found.append([chunk.stat().st_mtime_ns for chunk in chunks])
            return whole(*arguments, **options)

        monkeypatch.setattr(runs, "sweep", watched)
        run(script, folders, tiny_imagenet_folder)
        assert found == [before, before]
        assert [path.name for path in Path().iterdir()] == ["out"]


class TestInputScale:
    SCALES = np.array([0.05, 1.0], np.float32)
    # Black, and the mean of the normalization.
    COLORS = np.array([[0, 0, 0], [0.4, 0.5, 0.6]], np.float32)

    def test_at_scale_1_nothing_is_changed(self, scripts, example):
        script, model = scripts["input_scale"], network(0)
        shared = (model, self.COLORS, self.SCALES)
        measured = jax.jit(script.measure)(shared, example=example)
        assert measured["correlation"].shape == (2, 2, 2)
        assert_allclose(measured["correlation"][:, 1, 0], 1, rtol=1e-5)
        assert_allclose(measured["similarity"][:, 1, 0], 1, rtol=1e-5)
        assert_array_equal(measured["unchanged"][:, 1], 1)
        # Without biases a network is homogeneous: what follows normalization is merely scaled.
        assert_allclose(measured["correlation"][1, 0, 0], 1, rtol=1e-4)
        assert measured["correlation"][0, 0, 0] < 0.9
        maps = [
            np.abs(gradient(model, label, image)).max(-1)
            for label, image in zip(example["labels"], example["images"], strict=True)
        ]
        control = metrics.spearman_correlation(*map(jnp.asarray, maps))
        assert_allclose(measured["correlation"][:, 1, 1], control, atol=1e-3)
        probabilities = jax.nn.softmax(answer(model, example["images"][0]))
        assert_allclose(measured["confidence"][:, 1], probabilities.max(), rtol=1e-4)

    def test_after_normalization_is_a_larger_deviation_and_before_a_darker_image(
        self, scripts, example
    ):
        image, label = example["images"][0], 3
        model = network(0)
        script = scripts["input_scale"]
        seen = jax.jit(script.scaled)(model, image, label, self.COLORS, self.SCALES)
        before, after = seen["logits"]
        assert_allclose(before[0], answer(model, 0.05 * image), rtol=1e-3, atol=1e-4)
        fainter = network(0, std=(5.0, 5.0, 5.0))
        assert_allclose(after[0], answer(fainter, image), rtol=1e-3, atol=1e-4)

    def test_the_colours_scaled_towards_are_black_and_the_normalizations_mean(self, scripts):
        classifier = small_classifiers.classifier(0)
        # The mean colour of the training images is another one.
        record = dataclasses.replace(classifier.input, mean_color=(0.1, 0.2, 0.3))
        shared = scripts["input_scale"].shared_by(self.SCALES)
        _, colors, _ = shared(dataclasses.replace(classifier, input=record))
        assert_array_equal(colors, self.COLORS)

    def test_a_run_leaves_a_whole_folder(self, scripts, folders, tiny_imagenet_folder, capsys):
        files = run(scripts["input_scale"], folders, tiny_imagenet_folder, scales=(0.05, 1.0))
        assert files == {
            "after.png", "before.png", "config.json", "curves.png", "index.html",
            "measurements-first.npz", "measurements-second.npz",
        }  # fmt: skip
        stored = arrays(Path("out/measurements-second.npz"))
        assert stored["correlation"].shape == (COUNT, 2, 2, 2)
        assert_array_equal(stored["scales"], self.SCALES)
        rows = [
            line.split()[:4]
            for line in capsys.readouterr().out.splitlines()
            if line.startswith(("first ", "second "))
        ]
        # Two tables of them: the first shows the correlations.
        assert [row[:3] for row in rows] == 2 * [
            [model, place, scale]
            for model in NAMES
            for place in ("before", "after")
            for scale in ("0.05", "1")
        ]
        assert all(row[3] == "1.000" for row in rows[1:8:2])


class TestLabels:
    def test_one_call_equals_single_calls_and_labels_are_what_they_are_called(
        self, scripts, example
    ):
        script, model = scripts["labels"], network(0)
        image = example["images"][0]
        measured = jax.jit(functools.partial(script.measure, num_incorrect=3))(
            model, example=example
        )
        labels = np.asarray(measured["labels"])
        logits = np.array(answer(model, image))
        logits[3] = -np.inf
        # The correct label, the two likeliest others, and three incorrect ones.
        assert list(labels[:3]) == [3, *np.argsort(-logits)[:2]]
        assert len(set(labels)) == 6
        gradients = [np.asarray(gradient(model, label, image)) for label in labels]
        maps = [np.abs(of_label).max(-1) for of_label in gradients]
        for i, j in ((0, 2), (2, 4), (3, 0)):
            expected = metrics.spearman_correlation(jnp.asarray(maps[i]), jnp.asarray(maps[j]))
            assert_allclose(measured["correlation"][i, j], expected, atol=1e-3)
            lengths = np.linalg.norm(gradients[i]) * np.linalg.norm(gradients[j])
            cosine = (gradients[i] * gradients[j]).sum() / lengths
            assert_allclose(measured["cosine"][i, j], cosine, atol=1e-4)
        another = np.asarray(gradient(model, 3, example["images"][1]))
        lengths = np.linalg.norm(gradients[0]) * np.linalg.norm(another)
        assert_allclose(
            measured["control_cosine"], (gradients[0] * another).sum() / lengths, atol=1e-4
        )
        shares = [one[2:9, 3:12].sum() / one.sum() for one in maps]
        assert_allclose(measured["share"], shares, rtol=1e-4)

    def test_the_labels_part_of_equal_and_of_orthogonal_maps(self, scripts):
        label_part = scripts["labels"].label_part
        one = jnp.array([[3.0, 0.0], [0.0, 4.0]])
        assert_allclose(label_part(jnp.stack([one, 2 * one])), 0, atol=1e-6)
        # Two orthogonal units have a mean of squared length 1 / 2.
        other = jnp.array([[0.0, 5.0], [0.0, 0.0]])
        assert_allclose(label_part(jnp.stack([one, other])), 0.5, rtol=1e-6)

    def test_a_run_leaves_a_whole_folder(self, scripts, folders, tiny_imagenet_folder, capsys):
        files = run(scripts["labels"], folders, tiny_imagenet_folder, incorrect=2)
        assert files == {
            "config.json", "examples.png", "index.html",
            "measurements-first.npz", "measurements-second.npz",
        }  # fmt: skip
        stored = arrays(Path("out/measurements-first.npz"))
        assert stored["labels"].shape == (COUNT, 5)
        assert_allclose(np.einsum("nii->ni", stored["correlation"]), 1, rtol=1e-5)
        (row,) = (
            line
            for line in capsys.readouterr().out.splitlines()
            if line.startswith("correlation, two incorrect")
        )
        assert f"{stored['correlation'][:, 3, 4].mean():z.3f} [" in row


class TestMethods:
    def test_every_method_has_a_flag_and_a_meaning(self, scripts):
        methods = scripts["lab.methods"]
        assert typing.get_args(methods.Name) == tuple(methods.METHODS)
        for method in methods.METHODS.values():
            name, _, what = method.meaning.partition(": ")
            # The beginning of a sentence, also in a caption.
            assert name == method.title[0].upper() + method.title[1:]
            assert what
            assert method.meaning.endswith(".")
        assert methods.METHODS["rise"].meaning == (
            "RISE: how high the score is on average when a pixel is seen. Of it what is above its "
            "smallest value."
        )

    @pytest.mark.parametrize(
        ("shape", "kind"), [((16, 16, 3), "figure"), ((6, 10, 1), "long")], ids=str
    )
    def test_every_method_suits_images_of_any_shape(self, scripts, shape, kind):
        methods = scripts["lab.methods"]
        convolutional, transformer = (
            jax.eval_shape(lambda build=build: build(channels=shape[-1], rngs=nnx.Rngs(0)))
            for build in (
                functools.partial(models.PreActResNet, (1,), 4, width=2),
                functools.partial(models.VisionTransformer, 2, 4, width=2, heads=1, patch=2),
            )
        )
        regions = np.ones((2, *shape[:2]), bool)
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, method in methods.METHODS.items():
            model = transformer if method.lacks(convolutional) else convolutional

            def mapped(model, image, method=method):
                case = methods.Case(image, model, 4, regions)
                score = method.score(model, np.int32(1))
                return method.reduce(method(score, case, getattr(method.uses, kind)))

            assert jax.eval_shape(mapped, model, image).shape == shape[:2], name

    @pytest.mark.parametrize("make_score", [scores.log_prob, scores.margin])
    def test_the_score_asked_for_is_explained(self, scripts, make_score):
        methods = scripts["lab.methods"]
        model, image = network(0), jax.random.uniform(jax.random.key(0), SHAPE)

        @functools.partial(jax.jit, static_argnames="name")
        def explain(name, score, image):
            return methods.explain(name, score, image)

        score = make_score(model, 1)
        gradient = jax.jit(jax.grad(lambda image: score(image)))(image)
        assert_allclose(explain("gradient", score, image), gradient.sum(-1), atol=1e-5)
        assert_allclose(explain("saliency", score, image), jnp.abs(gradient).max(-1), atol=1e-5)
        logits = explain("gradient", scores.logit(model, 1), image)
        assert not np.allclose(logits, gradient.sum(-1), atol=1e-5)
        options = {"num_samples": 256, "batch_size": 1, "baseline": baselines.mean_color}
        rise = jax.jit(functools.partial(attribution.rise, key=jax.random.key(0), **options))
        raised = rise(score, image)
        assert_allclose(explain("rise", score, image), raised - raised.min(), atol=1e-4)

    def test_a_method_has_the_score_asked_for_or_the_one_that_it_needs(self, scripts):
        rows, image = scripts["lab.methods"].METHODS, jnp.full(SHAPE, 0.3)
        model = network(0)
        logits = np.asarray(answer(model, image))
        margin = rows["saliency"].score(model, 2, scores.margin)
        found = answer(margin, image)
        assert_allclose(found, logits[2] - np.delete(logits, 2).max(), rtol=1e-5)
        probability = rows["rise"].score(model, 2, scores.margin)
        assert_allclose(answer(probability, image), jax.nn.softmax(logits)[2], rtol=1e-5)

    def test_the_deepest_map_is_the_last_that_pooling_sees(self, scripts):
        deepest_map = scripts["lab.methods"].deepest_map
        image = jnp.zeros((32, 32, 3))
        rectified = models.PreActResNet((1, 1), 4, width=4, rngs=nnx.Rngs(0))
        for model, name in ((network(0), "stage 4"), (rectified, "rectification")):
            found = jax.eval_shape(deepest_map(model, image).features, image)
            assert found == jax.eval_shape(model.layer(name).features, image)

    def test_controls_do_not_look_at_the_model(self, scripts):
        methods, image = scripts["lab.methods"], jax.random.uniform(jax.random.key(0), SHAPE)
        first, second = (scores.logit(network(seed), 3) for seed in range(2))
        explain = jax.jit(methods.explain, static_argnums=0)
        for name in methods.CONTROLS:
            shown = explain(name, first, image)
            assert_array_equal(shown, explain(name, second, image))
        random = [explain("random", first, each) for each in (image, 1 - image)]
        # Of 256 pairs of numbers the standard deviation is 1 / 16.
        assert abs(metrics.spearman_correlation(*random)) < 0.3

    def test_regions_of_several_images_are_filled_up_with_empty_ones(self, scripts):
        images = np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
        images[1] = np.indices((12, 12)).sum(0)[..., None] // 12
        padded = scripts["lab.methods"].regions(images)
        assert padded.shape[1] % 64 == 0
        for regions, image in zip(padded, images, strict=True):
            expected = felzenszwalb_regions(jnp.asarray(image))
            assert_array_equal(regions[: len(expected)], expected)
            assert not regions[len(expected) :].any()

    @pytest.mark.usefixtures("entry_checks")
    def test_a_model_that_is_not_cut_is_told_what_grad_cam_needs(
        self, scripts, monkeypatch, capsys
    ):
        bare = jax.tree_util.Partial(lambda weights, image: image.mean((0, 1)) @ weights)
        record = Input("image", (SIDE, SIDE), mean=(0.4, 0.5, 0.6), std=(0.25,) * 3)
        classifier = Classifier("bare", bare, record, CLASS_NAMES)
        monkeypatch.setattr(scripts["lab.loading"], "load", lambda names: [classifier])
        with pytest.raises(SystemExit) as end:
            scripts["saliency"].main.from_command_line(["--method", "grad_cam"])
        assert end.value.code == 2
        assert capsys.readouterr().err == (
            "error: expected a model that can be cut at a layer for grad_cam, got bare\n"
        )
        assert list(Path().iterdir()) == []


class TestSaliency:
    def test_a_signed_method_is_drawn_with_its_sign(self, scripts, folders):
        saliency = scripts["saliency"]
        saliency.main(saliency.Settings(model=folders[:1], method="occlusion", output=Path("out")))
        stored = arrays(Path("out/saliency-first.npz"))
        assert stored["attributions"].shape == (2, SIDE, SIDE)
        assert stored["saliency_maps"].min() < 0
        page = Path("out/index.html").read_text()
        assert "by occlusion" in page


class TestTenExamples:
    METHODS = ("saliency", "grad_cam")

    def test_an_image_of_each_class_under_both_models(
        self, scripts, folders, tiny_imagenet_folder, capsys
    ):
        script = scripts["ten_examples"]
        script.main(
            script.Settings(
                model=folders,
                dataset="tiny_imagenet/paper20",
                classes=("stopwatch", "1"),
                method=self.METHODS,
                data_dir=tiny_imagenet_folder,
                output=Path("out"),
            )
        )
        names = {
            f"{method}-{model}.npz" for method in self.METHODS for model in ("first", "second")
        }
        files = {path.name for path in Path("out").iterdir()}
        assert files == {"config.json", "index.html", "ten_examples.png", *names}
        stored = arrays(Path("out/grad_cam-second.npz"))
        assert_array_equal(stored["labels"], [2, 1])
        assert_allclose(stored["images"][:, 0, 0, 0] * 255, [40, 30], atol=3)
        rows = [
            line
            for line in capsys.readouterr().out.splitlines()
            if line.startswith(("saliency", "Grad-CAM"))
        ]
        assert len(rows) == 4

    def test_photographs_of_the_users(self, scripts, folders):
        script = scripts["ten_examples"]
        colors = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
        Image.fromarray(colors).save("wide.png")
        script.main(
            script.Settings(
                model=folders, images=(Path("wide.png"),), method=("saliency",), output=Path("out")
            )
        )
        for name in ("first", "second"):
            stored = arrays(Path(f"out/saliency-{name}.npz"))
            assert_array_equal(stored["labels"], stored["probabilities"].argmax(-1))

    def test_ten_classes_by_default_the_compass_first(self, scripts, folders, tiny_imagenet_folder):
        script, classifiers = scripts["ten_examples"], scripts["lab.loading"].load(folders)
        settings = script.Settings(
            dataset="tiny_imagenet/paper20", split="train", data_dir=tiny_imagenet_folder
        )
        titles = [each.title for each in script.read(settings, classifiers)]
        # Those of the script's that Tiny-ImageNet has: no analog clock and no digital one.
        assert titles == [name for name in script.CLASSES if name in CLASS_NAMES][:10]
        assert len(set(titles)) == 10
        assert titles[:2] == ["magnetic compass", "stopwatch"]

    def test_photographs_are_explained_for_the_class_that_their_folder_tells(
        self, scripts, folders, photographs
    ):
        script = scripts["ten_examples"]
        script.main(
            script.Settings(
                model=folders[:1],
                images=(photographs,),
                count=3,
                method=("saliency",),
                output=Path("out"),
            )
        )
        stored = arrays(Path("out/saliency-first.npz"))
        compass, lemon = CLASS_NAMES.index("magnetic compass"), CLASS_NAMES.index("lemon")
        assert_array_equal(stored["labels"][:2], [compass, lemon])
        assert stored["labels"][2] == stored["probabilities"][2].argmax()

    def test_without_photographs_scikit_images_are_shown(self, scripts):
        script = scripts["ten_examples"]
        shown = script.read(script.Settings(), [])
        assert [each.title for each in shown[:2]] == ["cat", "coffee"]
        assert len(shown) == 5
        for each in shown:
            assert each.image.ndim == 3
            assert 0.9 < each.image.max() <= 1


class TestRelevance:
    def test_a_run_leaves_a_whole_folder(self, scripts, folders, monkeypatch, capsys):
        script = scripts["relevance"]
        kept = {name: script.METHODS[name] for name in ("input x gradient", "epsilon")}
        monkeypatch.setattr(script, "METHODS", kept)
        monkeypatch.setattr(script, "COMPOSITES", {
            name: script.COMPOSITES[name] for name in ("epsilon", script.OF_CHANNELS)
        })  # fmt: skip
        kept[script.OF_CHANNELS] = script.METHODS["epsilon"]
        script.main(
            script.Settings(model=folders[:1], label="lemon", channels=2, output=Path("out"))
        )
        assert {path.name for path in Path("out").iterdir()} == {
            "config.json", "index.html", "rules-first.png", "channels-first.png",
            "relevance-first.npz",
        }  # fmt: skip
        stored = arrays(Path("out/relevance-first.npz"))
        assert stored["numbers"].shape == (2, 2)
        assert (stored["shares"][:, 0] >= stored["shares"][:, 1]).all()
        assert set(stored["numbers"].ravel()) == set(stored["pictured"])
        network = models.load(folders[0]).network
        score = scores.logit(network, CLASS_NAMES.index("lemon"))
        composite = rules.epsilon_everywhere()
        image = jnp.asarray(stored["images"][1])
        relevance = rules.lrp(score, image, composite=composite).sum(-1)
        assert_allclose(stored["epsilon"][1], relevance, rtol=1e-3, atol=1e-5)
        printed = capsys.readouterr().out
        assert f"{relevance.sum():.2f}" in printed

    def test_an_unknown_layer_is_refused_in_one_line(self, scripts, folders, capsys):
        script = scripts["relevance"]
        with pytest.raises(ValueError, match="stage 9"):
            script.layer_of(models.load(folders[0]), script.Settings(layer="stage 9"))


class TestCompareMethods:
    def test_maps_and_their_judgements(self, scripts, folders, capsys):
        script = scripts["compare_methods"]
        script.main(
            script.Settings(
                model=folders[:1],
                method=("grad_cam", "gradient"),
                label="lemon",
                output=Path("out"),
            )
        )
        assert {path.name for path in Path("out").iterdir()} == {
            "config.json", "index.html", "maps-first-1.png", "maps-first-2.png",
            "grad_cam-first.npz", "gradient-first.npz",
        }  # fmt: skip
        stored = arrays(Path("out/gradient-first.npz"))
        model = models.load(folders[0]).network
        image, signed_map = (jnp.asarray(stored[name][1]) for name in ("images", "saliency_maps"))
        curve = metrics.deletion(
            scores.probability(model, CLASS_NAMES.index("lemon")), image, signed_map, steps=32
        )
        assert_allclose(stored["deletion"][1], curve.area, rtol=1e-3)
        saliency_map = jnp.abs(stored["attributions"][1]).max(-1)
        like = metrics.spearman_correlation(jnp.abs(signed_map), saliency_map)
        assert_allclose(stored["like_saliency"][1], like, atol=1e-3)
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        judged = {row[1]: row for row in rows if row and row[0] == "first"}
        assert set(judged) == {"Grad-CAM", "gradient", "random"}
        assert judged["gradient"][2] == f"{stored['insertion'].mean():.3f}"

    def test_all_methods_that_suit_the_models_by_default(self, scripts):
        assert scripts["compare_methods"].Settings().method is None
        methods = scripts["lab.methods"]
        transformer = jax.eval_shape(
            lambda: models.VisionTransformer(2, 2, width=2, heads=1, rngs=nnx.Rngs(0))
        )
        robust = models.load("tiny-imagenet-robust")
        attentive = models.Classifier("attentive", transformer, models.Input("image", (224, 224)))
        assert methods.suiting([attentive]) == tuple(methods.METHODS)
        of_both = {*methods.METHODS} - {"attention_rollout", "attention_relevance"}
        assert set(methods.suiting([attentive, robust])) == of_both
        with pytest.raises(ValueError, match="a model that lays its attention open for attention_"):
            methods.check(["attention_rollout"], [attentive, robust])

    def test_the_deepest_map_is_one_that_the_answer_depends_on(self, scripts):
        transformer = models.VisionTransformer(
            3, 2, width=4, heads=2, size=(8, 8), patch=4, rngs=nnx.Rngs(0)
        )
        image = jax.random.uniform(jax.random.key(0), (8, 12, 3))
        layer = scripts["lab.methods"].deepest_map(transformer, image)
        assert_array_equal(mapped(layer, image), mapped(transformer.layer("block 2"), image))
        tokens = answer(layer.features, image)
        gradient = jax.jit(jax.grad(lambda tokens: layer.head(tokens)[0]))(tokens)
        assert np.abs(layer.as_map(gradient)).max() > 0

    def test_the_finer_map_has_seven_cells_a_side(self, scripts):
        finer = scripts["lab.methods"].finer_map
        robust = models.load("tiny-imagenet-robust").network
        large, image, small = (jnp.zeros((side, side, 3)) for side in (112, 64, 16))
        tiny = jnp.zeros((6, 6, 3))
        for shown, name in (
            (large, "stage 4"), (image, "stage 3"), (small, "stage 1"), (tiny, "stage 4")
        ):  # fmt: skip
            found = mapped(finer(robust, shown), shown)
            assert_array_equal(found, mapped(robust.layer(name), shown))
        transformer = models.VisionTransformer(
            3, 2, width=4, heads=2, size=(8, 8), patch=4, rngs=nnx.Rngs(0)
        )
        # Of patches all maps have as many cells.
        deepest = mapped(transformer.layer("block 2"), image)
        assert_array_equal(mapped(finer(transformer, image), image), deepest)


BAD = {
    "dataset not prepared": ("--dataset mnist --data-dir .", "prepare it by"),
    "one image": ("--count 1", "expected --count to be at least 2, got 1"),
    "no image at once": ("--batch-size 0", "expected --batch-size to be at least 1, got 0"),
    "nothing shown": ("--shown 0", "expected --shown to be at least 1, got 0"),
}
BAD_METHODS = {
    "unknown method": ("--method gradcam", "'gradcam'"),
    "missing image": ("--images none.png", "got no file at none.png"),
    "no method": ("--method", "expected at least one --method, got none"),
}
OF_PAPER20 = "--dataset tiny_imagenet/paper20"
CASES = {
    "robust_vs_standard": BAD,
    "input_scale": BAD
    | {
        "scale zero": ("--scales 0 1", "expected --scales above 0 and at most 1, got 0.0 1.0"),
        "no scale": ("--scales", "expected --scales above 0"),
    },
    "labels": BAD
    | {
        "no incorrect label": ("--incorrect 0", "expected --incorrect to be at least 1, got 0"),
        "too many labels": ("--incorrect 18", "expected --incorrect to be at most 17"),
        "no image in the folder": ("--images .", "expected image files in ., got none"),
    },
    "ten_examples": BAD_METHODS
    | {
        "dataset not prepared": BAD["dataset not prepared"],
        "unknown class": (f"{OF_PAPER20} --classes lemmon", "did you mean 'lemon'"),
        "no class": (f"{OF_PAPER20} --classes", "expected at least one of --classes, got none"),
        "both": (f"{OF_PAPER20} --images a.png", "expected --images or --dataset, got both"),
    },
    "compare_methods": BAD_METHODS | {"unknown label": ("--label espreso", "'espresso'")},
}


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        pytest.param(script, *case, id=f"{script}: {name}")
        for script, cases in CASES.items()
        for name, case in cases.items()
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    script, flags, message, scripts, folders, tiny_imagenet_folder, capsys
):
    module = scripts[script]
    data_dir = []
    if "data_dir" in {field.name for field in dataclasses.fields(module.main.Settings)}:
        data_dir = ["--data-dir", str(tiny_imagenet_folder)] * ("--data-dir" not in flags)
    with pytest.raises(SystemExit) as end:
        module.main.from_command_line(["--model", *folders, *data_dir, *flags.split()])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert message in error
    assert list(Path().iterdir()) == []
