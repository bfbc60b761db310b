"""The experiments that judge attribution methods, on networks of one convolution."""

import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_classifiers
from browser import pictures_in
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from saliency_jax import attribution, filters, metrics, models, scores, training
from saliency_jax.models import Classifier, Input
from saliency_jax.models._parts import normalization, spatial_mean
from saliency_jax.runs import plots

pytestmark = pytest.mark.usefixtures("pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SIDE = 12
SHAPE = (SIDE, SIDE, 3)
COUNT = 6
NAMES = ("first", "second")


class Net(models.Network):
    """One convolution and one linear layer."""

    num_classes = len(small_classifiers.CLASS_NAMES)

    def __init__(self, *, rngs: nnx.Rngs):
        self.normalization = normalization(3, None, None)
        self.conv1 = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.bn1 = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.fc = nnx.Linear(4, self.num_classes, rngs=rngs)

    @property
    def settings(self):
        return {}

    def parts(self):
        return {
            "normalization": (self.normalization,),
            "stage 1": (self.conv1, self.bn1, nnx.relu),
            "pooling": (spatial_mean,),
            "logits": (self.fc,),
        }


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts, and what they share."""
    folders = [str(EXPERIMENTS), str(EXPERIMENTS / "benchmarks")]
    sys.path[:0] = folders
    import attribution_memory
    import evaluate_methods
    import perturbation_metrics
    import roar
    import sanity_checks
    from lab import frame, loading

    yield {
        module.__name__: module
        for module in (
            attribution_memory,
            evaluate_methods,
            perturbation_metrics,
            roar,
            sanity_checks,
            frame,
            loading,
        )
    }
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def both(scripts, monkeypatch):
    """Two small classifiers in place of the bundled ones."""
    loaded = [
        Classifier(
            name,
            Net(rngs=nnx.Rngs(seed)),
            Input("image", (SIDE, SIDE)),
            small_classifiers.CLASS_NAMES,
        )
        for seed, name in enumerate(NAMES)
    ]
    for name in ("load", "as_trained"):
        monkeypatch.setattr(scripts["lab.loading"], name, lambda names: loaded[: len(names)])
    return loaded


@pytest.fixture(scope="module")
def example():
    return {
        "image": jax.random.uniform(jax.random.key(0), SHAPE),
        "label": np.int32(3),
        "box": np.array([2, 3, 9, 12], np.float32),
        "number": np.int32(5),
    }


@jax.jit
def gradient_of(model, label, image):
    return attribution.input_gradient(scores.logit(model, label), image)


@jax.jit
def like_edges(saliency_map, image):
    return metrics.spearman_correlation(jnp.abs(saliency_map), filters.sobel(image))


def arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def run(script, data_dir, **changes):
    options = {"count": COUNT, "shown": 1, "batch_size": 4, "method": ("gradient",)}
    options |= {"model": NAMES, "dataset": "tiny_imagenet/paper20"}
    settings = script.main.Settings(data_dir=data_dir, output=Path("out"), **options | changes)
    script.main(settings)
    return {path.name for path in Path("out").iterdir()}


class TestEvaluateMethods:
    def test_what_is_measured_is_what_it_is_called(self, scripts, both, example):
        script, model = scripts["evaluate_methods"], both[0].network
        signed_map = jax.random.normal(jax.random.key(1), (SIDE, SIDE))
        judge = jax.jit(functools.partial(script.judge, steps=4))
        measured = judge(model, example={**example, "map": signed_map})

        score, map_ = np.vectorize(float), np.asarray(signed_map)
        order = np.argsort(-map_.ravel())
        probability = jax.jit(lambda image: jax.nn.softmax(model(image))[3])
        image = np.asarray(example["image"])
        mean = np.broadcast_to(image.mean((0, 1)), SHAPE)
        falling = []
        for shown in range(0, SIDE**2 + 1, SIDE**2 // 4):
            replaced = image.reshape(-1, 3).copy()
            replaced[order[:shown]] = mean.reshape(-1, 3)[order[:shown]]
            falling.append(probability(replaced.reshape(SHAPE)))
        assert_allclose(measured["deletion"], np.trapezoid(score(falling), dx=1 / 4), rtol=1e-4)

        positive = np.maximum(map_, 0)
        assert_allclose(
            measured["share in the box"], positive[2:9, 3:].sum() / positive.sum(), rtol=1e-4
        )
        row, column = np.unravel_index(map_.argmax(), map_.shape)
        assert bool(measured["pointing game"]) == (2 <= row < 9 and column >= 3)
        top = np.zeros(SIDE**2, bool)
        top[order[: 7 * 9]] = True
        assert_allclose(
            measured["rank accuracy"], top.reshape(SIDE, SIDE)[2:9, 3:].mean(), rtol=1e-6
        )
        edges = like_edges(signed_map, example["image"])
        assert_allclose(measured["like edges"], edges, atol=1e-5)
        # Of all three shares, right or wrong.
        assert_allclose(3 * measured["ROAD"], np.round(3 * measured["ROAD"]), atol=1e-5)

    def test_a_run_leaves_a_whole_folder(self, scripts, tiny_imagenet_folder, capsys):
        script = scripts["evaluate_methods"]
        files = run(script, tiny_imagenet_folder, few=4, steps=4, method=("grad_cam",))
        assert files == {
            "config.json", "examples.png", "index.html", "measurements-first.npz",
            "measurements-second.npz", "scores.png",
        }  # fmt: skip
        stored = arrays("out/measurements-second.npz")
        assert list(stored["methods"]) == ["grad_cam", "random", "edges"]
        measures = [name.replace(" ", "_") for name in script.BETTER]
        assert set(stored) == {*measures, "methods", "seconds"}
        assert all(stored[name].shape == (3, COUNT) for name in measures)
        assert np.isnan(stored["sensitivity"][:, 4:]).all()
        # Of images of one colour no pixel is an edge: what asks for one is undefined.
        assert np.isnan(stored["like_edges"]).all()
        printed = capsys.readouterr().out
        (line,) = (row for row in printed.splitlines() if row.startswith("insertion, Grad-CAM  "))
        assert f"  {stored['insertion'][0].mean():.3f} [" in line
        assert "All maps under second took " in printed

    def test_photographs_have_no_boxes_and_differences_from_the_controls(
        self, scripts, both, in_a_folder, capsys
    ):
        script, draws = scripts["evaluate_methods"], np.random.default_rng(0)
        for wnid in ("n07749582", "n02123045", "n07749582"):
            Path(wnid).mkdir(exist_ok=True)
            picture = draws.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(picture).save(Path(wnid, f"{draws.integers(10**6)}.png"))
        changes = {"model": NAMES[:1], "images": (Path(),), "dataset": None}
        run(script, None, **changes, steps=4, measure=("insertion", "pointing game"))
        stored = arrays("out/measurements-first.npz")
        # Of the object nothing is measured, as there is no box.
        assert set(stored) == {"insertion", "methods", "seconds"}
        gradient, *controls = stored["insertion"]
        (row,) = (
            line
            for line in capsys.readouterr().out.splitlines()
            if line.startswith("insertion (higher)  first  gradient ")
        )
        for control in controls:
            assert f"  {(gradient - control).mean():z.3f} [" in row
        model = both[0].network
        image = both[0].preprocess(sorted(Path("n02123045").iterdir())[0])
        tabby = small_classifiers.CLASS_NAMES.index("tabby")
        signed_map = gradient_of(model, tabby, image).sum(-1)
        curve = metrics.insertion(scores.probability(model, tabby), image, signed_map, steps=4)
        assert_allclose(gradient[0], curve.area, rtol=1e-3)

    def test_an_interrupt_costs_nothing(self, scripts, tiny_imagenet_folder, monkeypatch):
        script, runs = scripts["evaluate_methods"], scripts["lab.frame"].runs
        whole, made = runs.sweep, []

        def watched(*arguments, progress, **options):
            points = []
            values = whole(*arguments, progress=points.append, **options)
            # It tells of 0 points when it begins to compute, and not when all are found.
            made.append(0 in points)
            if interrupts and len(made) == 4:
                raise KeyboardInterrupt
            return values

        monkeypatch.setattr(runs, "sweep", watched)
        interrupts = True
        with pytest.raises(KeyboardInterrupt):
            run(script, tiny_imagenet_folder, few=4, steps=4, method=("gradient",))
        assert made == [True] * 4
        interrupts = False
        run(script, tiny_imagenet_folder, few=4, steps=4, method=("gradient",))
        # Three sweeps for each of three maps under both models.
        assert made[4:] == [False] * 4 + [True] * 14
        assert [path.name for path in Path().iterdir()] == ["out"]


class TestSanityChecks:
    def test_layers_are_from_the_top(self, scripts, both):
        assert scripts["sanity_checks"].layers(both[0].network) == ("logits", "stage 1")

    def test_what_is_measured_is_what_it_is_called(self, scripts, both, example):
        script, model = scripts["sanity_checks"], both[0].network
        points = {
            "images": example["image"][None],
            "labels": example["label"][None],
            "number": example["number"],
        }
        shared = (model, jax.random.key(0))
        measured = jax.jit(functools.partial(script.measure, method="gradient"))(
            shared, example=points
        )
        assert measured["cascading"].shape == (3, 2)
        assert measured["independent"].shape == (2, 2)
        assert_allclose(measured["cascading"][0], 1, rtol=1e-5)
        # The first layer of the cascade is redrawn alone, by the same key.
        assert_allclose(measured["cascading"][1], measured["independent"][0], atol=1e-5)
        original = gradient_of(model, 3, example["image"]).sum(-1)
        edges = like_edges(original, example["image"])
        assert_allclose(measured["controls"][1, script.ABSOLUTE], edges, atol=1e-5)
        maps = jax.jit(functools.partial(script.look, method="gradient"))(shared, example=points)
        assert_allclose(maps[0], original, atol=1e-6)
        likeness = jax.jit(script.likeness)(maps[0], maps[-1])
        assert_allclose(measured["cascading"][-1], likeness, atol=1e-4)

    @pytest.mark.parametrize(
        ("kept", "edges", "verdict"),
        [
            (0.5, 0.3, "fails"),
            (0.3, 0.5, "passes"),
            (0.0, 0.0, "passes"),
            (0.05, 0.0, "passes"),
            (np.nan, 0.3, "undefined"),
        ],
    )
    def test_a_method_fails_that_keeps_what_an_edge_detector_would_show(
        self, scripts, kept, edges, verdict
    ):
        script = scripts["sanity_checks"]
        noise = np.random.default_rng(0).normal(size=(3, 20, 1)) / 100
        likeness = np.array([kept, edges, 0.0])[:, None, None] + noise
        last, of_edges, of_random = np.broadcast_to(likeness, (3, 20, 2))
        measured = {
            "cascading": np.stack([np.ones((20, 2)), last], 1),
            "controls": np.stack([of_random, of_edges], 1),
        }
        assert script.verdict(measured) == verdict

    def test_a_run_leaves_a_whole_folder(self, scripts, tiny_imagenet_folder, capsys):
        files = run(scripts["sanity_checks"], tiny_imagenet_folder)
        assert files == {
            "config.json", "curves-first.png", "curves-second.png", "examples-first.png",
            "examples-second.png", "index.html", "measurements-first.npz",
            "measurements-second.npz",
        }  # fmt: skip
        stored = arrays("out/measurements-first.npz")
        assert list(stored["layers"]) == ["logits", "stage 1"]
        assert stored["gradient_cascading"].shape == (COUNT, 3, 2)
        assert "0 none, 1 logits, 2 stage 1" in Path("out/index.html").read_text()
        (line,) = (
            row
            for row in capsys.readouterr().out.splitlines()
            if row.startswith("second  gradient")
        )
        other = arrays("out/measurements-second.npz")["gradient_other_label"][:, 0]
        assert f"  {other.mean():z.3f} [" in line
        assert re.split(" {2,}", line)[2] in ("fails", "passes", "undefined")


class TestRoar:
    def settings(self, script, data_dir, output):
        return script.Settings(
            method=("saliency",),
            share=(0.5,),
            train_split="train",
            epochs=2,
            train_batch_size=16,
            data_dir=data_dir,
            output=Path(output),
        )

    def test_the_most_salient_pixels_get_the_mean_colour(self, scripts):
        script = scripts["roar"]
        places = np.array([[[0, 1], [2, 3]], [[3, 2], [1, 0]]])
        images = script.Images(np.full((2, 2, 2, 3), 51, np.uint8), np.zeros(2, int), places)
        mean = (0.1, 0.5, 0.9)
        left = script.degraded(images, [1], 0.5, mean)
        assert_allclose(left[0, 1], [mean, mean], rtol=1e-6)
        assert_allclose(left[0, 0], 0.2, rtol=1e-6)
        assert_allclose(script.degraded(images, [0], 0.0, mean), 0.2, rtol=1e-6)

    def test_a_place_is_that_in_the_order_of_saliency(self, scripts, both, example):
        script, model = scripts["roar"], both[0].network
        pixels = np.rint(np.asarray(example["image"]) * 255).astype(np.uint8)
        points = {"images": pixels, "labels": example["label"]}
        places = np.asarray(jax.jit(script.place("saliency"))(model, example=points))
        saliency_map = np.abs(gradient_of(model, 3, pixels / np.float32(255))).max(-1)
        in_order = saliency_map.ravel()[np.argsort(places.ravel())]
        assert_allclose(in_order, np.sort(in_order)[::-1], rtol=1e-4, atol=1e-7)

    def test_a_new_network_has_the_architecture_and_not_the_weights(self, scripts, both):
        script, trained = scripts["roar"], both[0].network.fc.kernel[...]
        networks = [script.untrained(both[0], seed) for seed in (3, 3, 4)]
        first, same, other = (np.asarray(network.fc.kernel[...]) for network in networks)
        assert_array_equal(first, same)
        assert first.shape == trained.shape
        assert not np.isclose(first, other).any()

    def test_an_interrupted_run_ends_like_a_whole_one(
        self, scripts, both, tiny_imagenet_folder, monkeypatch, capsys
    ):
        script = scripts["roar"]
        script.main(self.settings(script, tiny_imagenet_folder, "whole"))
        assert {path.name for path in Path("whole").iterdir()} == {
            "accuracy.png", "config.json", "correct.npz", "examples.png", "index.html",
            "places.npz",
        }  # fmt: skip
        self.check_page(script, tiny_imagenet_folder, both[0])
        save, saved = training.Checkpoints.save, []

        def interrupted(checkpoints, state):
            save(checkpoints, state)
            saved.append(int(state.step))
            if len(saved) == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(training.Checkpoints, "save", interrupted)
        settings = self.settings(script, tiny_imagenet_folder, "again")
        with pytest.raises(KeyboardInterrupt):
            script.main(settings)
        script.main(settings)
        # Of the sixty training images three batches; four networks of two epochs each.
        assert saved == [3, 6] * 4
        whole, again = (arrays(f"{name}/correct.npz") for name in ("whole", "again"))
        assert set(whole) == {"nothing_0", "saliency_0.5", "random_0.5", "edges_0.5"}
        for name, correct in whole.items():
            assert correct.shape == (40, 1)
            assert_array_equal(again[name], correct)
        assert sorted(path.name for path in Path().iterdir()) == ["again", "whole"]
        printed = capsys.readouterr().out.splitlines()
        (row,) = {line for line in printed if line.startswith("random ")}
        # No better than itself.
        assert row.endswith("0.000 [0.000, 0.000]")

    @staticmethod
    def check_page(script, data_dir, model):
        """What is left of the image, and the accuracy, at each place of the slider."""
        settings = script.Settings(data_dir=data_dir)
        image = script.read(settings, model, settings.test_split).images[0] / np.float32(255)
        pictures = pictures_in(Path("whole/index.html"))
        places, correct = arrays("whole/places.npz"), arrays("whole/correct.npz")
        assert set(places) == {"saliency", "random", "edges"}
        for name, place in places.items():
            title = script.methods.title(name)
            left = [
                (alt, pixels)
                for alt, pixels in pictures
                if f", {title}, " in alt and alt.endswith("what is left")
            ]
            order = place[0].ravel().argsort()
            for (alt, pixels), share, case in zip(
                left, (0, 0.5), ("nothing_0", f"{name}_0.5"), strict=True
            ):
                wanted = image.copy().reshape(-1, 3)
                wanted[order[: round(share * len(order))]] = model.input.mean_color
                assert_array_equal(pixels, np.rint(255 * wanted.reshape(image.shape)))
                assert f"accuracy {plots.percent(correct[case].mean())}" in alt


class TestPerturbationMetrics:
    def test_all_ways_agree(self, scripts, both, monkeypatch, capsys):
        script = scripts["perturbation_metrics"]
        monkeypatch.setattr(script.models, "load", lambda name: both[0])
        script.main(script.Settings(count=4, few=2, steps=5))
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        differences = [float(row[-1]) for row in rows if row[1:2] == ["images,"]]
        assert len(differences) == 3
        assert max(differences) < 1e-5


class TestAttributionMemory:
    def test_a_map_of_many_images_at_once_takes_more(self, scripts, both, monkeypatch, capsys):
        script = scripts["attribution_memory"]
        monkeypatch.setattr(script.models, "load", lambda name: both[0])
        monkeypatch.setattr(
            script, "in_a_process", lambda function, *arguments: function(*arguments)
        )
        names = ("saliency", "smoothgrad", "xrai")
        monkeypatch.setattr(script.methods, "suiting", lambda classifiers: names)
        script.main(script.Settings(figures=True, batch_size=64))
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == ["one", "map", "time", "program", "process"]
        rows = [line.replace("MiB", "").replace(",", "").split() for line in lines]
        assert tuple(name for name, *_ in rows) == names
        saliency, smoothgrad = (script.one_map(name, "first", 64).program for name in names[:2])
        # Of 50 noisy copies at once, and of one image.
        assert smoothgrad > 10 * saliency


BAD = {
    "dataset not prepared": ("--dataset mnist --data-dir .", "prepare it by"),
    "no method": ("--method", "expected at least one --method, got none"),
    "a method twice": ("--method rise rise", "expected different methods, got rise twice"),
    "a method of regions": ("--method xrai", "expected methods that need no regions"),
    "unknown method": ("--method gradcam", "'gradcam'"),
}
BAD_COUNT = {"one image": ("--count 1", "expected --count to be at least 2, got 1")}
CASES = {
    "evaluate_methods": BAD
    | BAD_COUNT
    | {
        "no step": ("--steps 0", "expected --steps to be at least 1, got 0"),
        "too few": ("--few 0", "expected --few to be at least 1, got 0"),
    },
    "roar": BAD
    | {
        "share zero": ("--share 0 0.5", "expected different --share above 0 and at most 1, got 0"),
        "no share": ("--share", "expected different --share above 0"),
        "no epoch": ("--epochs 0", "expected --epochs to be at least 1, got 0"),
    },
    "sanity_checks": BAD
    | BAD_COUNT
    | {"negative seed": ("--seed -1", "expected --seed to be at least 0, got -1")},
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
    script, flags, message, scripts, tiny_imagenet_folder, capsys
):
    module = scripts[script]
    data_dir = ["--data-dir", str(tiny_imagenet_folder)] * ("--data-dir" not in flags)
    with pytest.raises(SystemExit) as end:
        module.main.from_command_line([*data_dir, *flags.split()])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert message in error
    assert list(Path().iterdir()) == []
