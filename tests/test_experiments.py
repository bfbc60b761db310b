"""The experiments on class visualization: what they report, and that an interrupt costs nothing."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image
from small_classifiers import CLASS_NAMES, SIDE, classifier, saved
from small_models import answer

from saliency_jax import ascent, models, scores

pytestmark = pytest.mark.usefixtures("loaded_once", "pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SHAPE = (SIDE, SIDE, 3)
CLASSES = ("lemon", "school bus", "19")
LABELS = np.array([4, 14, 19])
SCRIPTS = (
    "canvases",
    "feature_visualization",
    "initial_image",
    "number_of_steps",
    "optimization_parameters",
    "optimizers",
    "photograph_statistics",
    "lab.frame",
    "lab.imagenet",
    "lab.pictures",
    "lab.recipes",
    "lab.tables",
)


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts, and what they share, which they import as a neighbour."""
    sys.path.insert(0, str(EXPERIMENTS))
    yield {name.removeprefix("lab."): importlib.import_module(name) for name in SCRIPTS}
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> tuple[str, ...]:
    """Two models of the same classes, which the second numbers from the end."""
    return saved(
        tmp_path_factory.mktemp("models"),
        classifier(0, name="first"),
        classifier(2, CLASS_NAMES[::-1], name="second"),
    )


@pytest.fixture(scope="session")
def apart(tmp_path_factory) -> str:
    """A larger network of more classes, which makes no pictures."""
    names = ("zebra", *CLASS_NAMES[::-1], "acorn")
    (folder,) = saved(tmp_path_factory.mktemp("apart"), classifier(3, names, name="apart", side=20))
    return folder


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def start(label: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """The default recipe's initial image and the key of its steps, from scratch."""
    key = jax.random.fold_in(jax.random.key(seed), label)
    image_key, step_key = jax.random.split(key)
    return ascent.normal_noise(image_key, SHAPE, 0.5, 0.05), step_key


OPTIMIZER = optax.chain(ascent.normalize_by_l2(), optax.sgd(0.5), ascent.keep_in_range(0.0, 1.0))


@jax.jit
def step(score, state):
    return ascent.ascent_step(score, state, OPTIMIZER, augment=ascent.jitter(4))[0]


def default_ascent(score, image, step_key, *, steps):
    state = ascent.initial_state(image, OPTIMIZER, step_key)
    for _ in range(steps):
        state = step(score, state)
    return state.params


@jax.jit
def answers(network, image):
    return jax.nn.softmax(network(image)), network(image)


# Steps of 0.5 in other programs, whose sums have other orders; stored to 1 / 255.
TOLERANCE = 0.004


@pytest.fixture(scope="module")
def initial_run(scripts, folders, apart, tmp_path_factory):
    """A whole run, which several tests look at."""
    settings = scripts["initial_image"].Settings(
        classes=CLASSES,
        model=folders,
        judge=apart,
        seeds=2,
        steps=2,
        batch_size=4,
        output=tmp_path_factory.mktemp("initial_image") / "run",
    )
    scripts["initial_image"].main(settings)
    return settings


class TestInitialImage:
    def test_the_folder_is_whole(self, initial_run):
        folder = initial_run.output
        assert {path.name for path in folder.iterdir()} == {
            "pictures-first.png",
            "pictures-first.npz",
            "pictures-second.png",
            "pictures-second.npz",
            "config.json",
            "index.html",
        }
        assert [path.name for path in folder.parent.iterdir()] == ["run"]
        stored = json.loads((folder / "config.json").read_text())["settings"]
        assert stored == json.loads(json.dumps(dataclasses.asdict(initial_run), default=str))

    def test_pictures_are_ascents_from_their_starts(self, initial_run, scripts, folders):
        stored = arrays(initial_run.output / "pictures-second.npz")
        variants = stored["variants"].tolist()
        assert variants == [*scripts["recipes"].INITIAL, "photograph", "another class"]
        assert stored["image"].shape == (len(variants), 3, 2, *SHAPE)
        # The second model has its own numbers for the classes.
        np.testing.assert_array_equal(stored["labels"], 19 - LABELS)
        np.testing.assert_array_equal(stored["judge_labels"], LABELS)
        network = models.load(folders[1]).network
        images = stored["image"] / 255
        noise, step_key = start(5, 1)
        other = default_ascent(scores.logit(network, 15), *start(15, 1), steps=2)
        for name, image in (
            ("normal", noise),
            ("ones", jnp.ones(SHAPE)),
            ("mean", jnp.broadcast_to(jnp.array([0.4, 0.5, 0.6]), SHAPE)),
            ("another class", other),
        ):
            expected = default_ascent(scores.logit(network, 5), image, step_key, steps=2)
            made = images[variants.index(name), 1, 1]
            np.testing.assert_allclose(made, expected, atol=TOLERANCE, err_msg=name)
        cat = images[variants.index("photograph")]
        # Two steps of 0.5 from it, at most: all classes' pictures are near the same cat.
        assert np.linalg.norm((cat[0, 0] - cat[2, 1]).ravel()) < 2.01

    def test_measurements_are_those_of_the_pictures(self, initial_run, folders):
        stored = arrays(initial_run.output / "pictures-first.npz")
        maker, judge = (models.load(folder).network for folder in folders)
        image = stored["image"][3, 1, 0] / 255
        own, logits = answers(maker, jnp.asarray(image, float))
        judged, _ = answers(judge, jnp.asarray(image, float))
        for name, expected in (
            ("own", own),
            ("judged", judged),
            ("score", logits[LABELS[1]]),
            (
                "total_variation",
                (np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum())
                / image.size,
            ),
        ):
            np.testing.assert_allclose(stored[name][3, 1, 0], expected, rtol=0.03, err_msg=name)
        assert not stored["failed_at"].any()
        assert (stored["seconds"] > 0).all()

    def test_the_table_has_the_means_over_classes_and_seeds(self, initial_run):
        html = (initial_run.output / "index.html").read_text()
        rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        header, *rows = cells[:20]
        assert header[:4] == ["pictures of", "variant", "own probability", "recognized"]
        assert [header[place] for place in (4, 5, 9)] == [
            "first, apart",
            "among 5, apart",
            "rank, apart",
        ]
        assert [row[0] for row in rows] == ["first"] * 9 + ["second"] * 9 + ["photographs"]
        assert rows[-1][1:] == ["16x16", *[""] * 9]
        for maker, labels, judge_labels in (
            ("first", LABELS, 19 - LABELS),
            ("second", 19 - LABELS, LABELS),
        ):
            stored = arrays(initial_run.output / f"pictures-{maker}.npz")
            of_maker = [row for row in rows if row[0] == maker]
            for place, row in enumerate(of_maker):
                assert row[1] == stored["variants"][place]
                of_class = [stored["own"][place, i, :, labels[i]].mean() for i in range(3)]
                likeliest = stored["judged"][place].argmax(-1)
                recognized = (likeliest == judge_labels[:, None]).mean()
                pairs = stored["image"][place] / 255
                distance = np.sqrt(((pairs[:, 0] - pairs[:, 1]) ** 2).mean((1, 2, 3)))
                means = [
                    np.mean(of_class),
                    recognized,
                    (stored["ranks"][place] == 1).mean(),
                    (stored["ranks"][place] <= 5).mean(),
                    stored["total_variation"][place].mean(),
                    stored["spectrum_slope"][place].mean(),
                    distance.mean(),
                    np.median(stored["ranks"][place]),
                ]
                for cell, mean in zip(row[2:10], means, strict=True):
                    middle, low, high = map(float, re.findall(r"-?[\d.]+", cell))
                    np.testing.assert_allclose(middle, mean, atol=0.002)
                    assert low <= middle <= high
                # Two decimals may be 0 on a fast machine.
                assert float(row[10]) >= 0

    def test_ranks_are_those_of_a_network_that_sees_the_pictures_enlarged(self, initial_run, apart):
        stored = arrays(initial_run.output / "pictures-second.npz")
        judge = models.load(apart)
        # "dining table" is the first model's 0, the second's 19 and 20 of the network apart.
        for variant, place, seed in ((3, 1, 0), (7, 2, 1)):
            image = judge.preprocess(stored["image"][variant, place, seed])
            logits = np.asarray(answer(judge.network, image))
            label = 20 - (19 - stored["labels"][place])
            likelier = np.count_nonzero(logits > logits[label])
            assert stored["ranks"][variant, place, seed] == 1 + likelier
        assert stored["ranks"].shape == (9, 3, 2)
        assert len(np.unique(stored["ranks"])) > 1

    def test_an_interrupted_run_continues_and_ends_like_one_that_was_not(
        self, initial_run, scripts, in_a_folder, monkeypatch
    ):
        settings = dataclasses.replace(initial_run, output=in_a_folder / "run")
        stopwatch = scripts["frame"].Stopwatch
        original = stopwatch.__call__
        left = 40

        def call(self, points):
            nonlocal left
            original(self, points)
            left -= points
            if left <= 0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(stopwatch, "__call__", call)
            with pytest.raises(KeyboardInterrupt):
                scripts["initial_image"].main(settings)
        (unfinished,) = in_a_folder.iterdir()
        assert unfinished.name.endswith(".unfinished")
        chunks = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*.npz")}
        # Four points and the other two, in turn.
        assert len(chunks) == 13

        made = []

        def listen(self, points):
            original(self, points)
            made.append(points if self._start is not None else 0)

        with monkeypatch.context() as patch:
            patch.setattr(stopwatch, "__call__", listen)
            scripts["initial_image"].main(settings)
        # Of two models, nine starts, three classes and two seeds.
        assert sum(made) == 2 * 9 * 6 - 40
        assert [path.name for path in in_a_folder.iterdir()] == ["run"]
        for maker in ("first", "second"):
            whole, again = (
                arrays(run.output / f"pictures-{maker}.npz") for run in (initial_run, settings)
            )
            for name in set(whole) - {"seconds"}:
                np.testing.assert_array_equal(whole[name], again[name], err_msg=name)


class TestCanvases:
    def test_the_first_steps_are_those_of_the_recipes(
        self, scripts, folders, in_a_folder, monkeypatch
    ):
        module = scripts["canvases"]
        # One of a kind, as each is a program of its own.
        some = ("Simonyan et al.", "no augmentation", "sigmoid", "Fourier, decorrelated", "phases")
        monkeypatch.setattr(module, "RECIPES", {name: module.RECIPES[name] for name in some})
        settings = module.Settings(
            classes=CLASSES[:1],
            model=folders,
            judge=None,
            seeds=1,
            steps=1,
            output=in_a_folder / "run",
        )
        module.main(settings)
        stored = arrays(in_a_folder / "run" / "pictures-first.npz")
        assert "ranks" not in stored
        variants = stored["variants"].tolist()
        # The spectrum of photographs is known at 64x64 alone.
        assert variants == list(some[:-1])
        images = dict(zip(variants, stored["image"][:, 0, 0] / 255, strict=True))
        score = scores.logit(models.load(folders[0]).network, 4)
        noise, _ = start(4, 0)
        slope = jax.jit(jax.grad(lambda image: score(image)))
        gradient = slope(noise)
        # Pictures of a quarter of 64 pixels have steps of a quarter of the length.
        expected = jnp.clip(noise + 1.58 / 4 * gradient / jnp.linalg.norm(gradient.ravel()), 0, 1)
        np.testing.assert_allclose(images["no augmentation"], expected, atol=TOLERANCE)
        mean = jnp.broadcast_to(jnp.array([0.4, 0.5, 0.6]), SHAPE)
        expected = jnp.clip(mean + 0.5 * slope(mean), 0, 1)
        np.testing.assert_allclose(images["Simonyan et al."], expected, atol=TOLERANCE)
        # On every canvas the ascent starts at the same noise, and moves.
        for name in ("sigmoid", "Fourier, decorrelated"):
            change = np.abs(images[name] - noise).mean()
            assert 0.002 < change < 0.2, name
        np.testing.assert_array_less(0, stored["own"])

    def test_what_suits_the_bundled_models_is_made_for_them(self, scripts):
        module = scripts["canvases"]
        (side, _) = scripts["pictures"].sides(scripts["pictures"].ClassSettings(judge=None))
        assert module.suitable(side) == list(module.RECIPES)


class TestOptimizers:
    def test_each_is_shown_at_the_rate_that_the_judge_likes_best(
        self, scripts, folders, in_a_folder, capsys
    ):
        scripts["optimizers"].main(
            scripts["optimizers"].Settings(
                optimizers=("normalized", "lbfgs"),
                classes=CLASSES,
                model=folders,
                judge=None,
                seeds=1,
                steps=2,
                batch_size=3,
                output=in_a_folder / "run",
            )
        )
        printed = capsys.readouterr().out.splitlines()
        a_trial = r"(first|second) +(normalized|lbfgs) +[\d.]+: "
        trials = [line for line in printed if re.match(a_trial, line)]
        assert len(trials) == 4
        for maker in ("first", "second"):
            stored = arrays(in_a_folder / "run" / f"pictures-{maker}.npz")
            assert stored["image"].shape == (2, 3, 1, *SHAPE)
            for name, optimizer in zip(stored["variants"], ("normalized", "lbfgs"), strict=True):
                (trial,) = (line for line in trials if line.startswith(maker) and optimizer in line)
                tried = re.findall(r"([\d.e+-]+): ([\d.]+)", trial)
                assert len(tried) == 5
                best = max(float(probability) for _, probability in tried)
                chosen = name.removeprefix(f"{optimizer} ")
                assert float(dict(tried)[chosen]) == best
        # A normalized step has the length of the rate it is shown with.
        stored = arrays(in_a_folder / "run" / "pictures-first.npz")
        rate = float(stored["variants"][0].split()[1])
        noise, _ = start(4, 0)
        way = np.linalg.norm((stored["image"][0, 0, 0] / 255 - noise).ravel())
        assert 0 < way < 2 * rate + 0.05

    def test_every_optimizer_is_compared(self, scripts):
        assert set(scripts["optimizers"].Settings().optimizers) == set(
            scripts["recipes"].OPTIMIZERS
        )


class TestOptimizationParameters:
    def test_every_recipes_first_step_has_its_length(self, scripts, folders, in_a_folder):
        module = scripts["optimization_parameters"]
        module.main(
            module.Settings(
                classes=CLASSES[:1],
                model=folders,
                judge=None,
                seeds=1,
                steps=1,
                output=in_a_folder / "run",
            )
        )
        stored = arrays(in_a_folder / "run" / "pictures-first.npz")
        recipes = {name: of for group in module.RECIPES.values() for name, of in group.items()}
        assert stored["variants"].tolist() == list(recipes)
        noise, step_key = start(4, 0)
        pictures = stored["image"][:, 0, 0] / 255
        for picture, (name, changes) in zip(pictures, recipes.items(), strict=True):
            length = changes.get("learning_rate", 0.5) * (1 - changes.get("momentum", 0))
            way = np.linalg.norm((picture - np.asarray(noise)).ravel())
            # Bytes are off by up to 1 / 510 in each of 768 values; the longest step is cut off.
            np.testing.assert_allclose(way, length, atol=0.04, rtol=0.05, err_msg=name)
        network = models.load(folders[0]).network
        expected = default_ascent(scores.logit(network, 4), noise, step_key, steps=1)
        np.testing.assert_allclose(pictures[0], expected, atol=TOLERANCE)
        # Each setting makes another picture, as far as bytes tell, than the default recipe's.
        distances = np.abs(pictures - pictures[0]).max((1, 2, 3))
        weak = ["default", "L2 0.001", "L2 0.01", "total variation 0.0001"]
        assert all(
            distance > 0.001 or name in weak
            for name, distance in zip(recipes, distances, strict=True)
        )


class TestNumberOfSteps:
    def test_snapshots_curves_and_animation(self, scripts, folders, apart, in_a_folder):
        module = scripts["number_of_steps"]
        module.main(
            module.Settings(
                classes=CLASSES[:2],
                model=folders,
                judge=apart,
                seeds=2,
                steps=5,
                output=in_a_folder / "run",
            )
        )
        stored = arrays(in_a_folder / "run" / "pictures-first.npz")
        assert stored["variants"].tolist() == ["1 step", "2 steps", "4 steps"]
        assert stored["image"].shape == (3, 2, 2, *SHAPE)
        assert stored["ranks"].shape == (3, 2, 2)
        np.testing.assert_allclose(stored["seconds"] / stored["seconds"][0], [1, 2, 4])
        network = models.load(folders[0]).network
        for place, steps in enumerate((1, 2, 4)):
            expected = default_ascent(scores.logit(network, 14), *start(14, 1), steps=steps)
            np.testing.assert_allclose(
                stored["image"][place, 1, 1] / 255, expected, atol=2 * TOLERANCE
            )
        with Image.open(in_a_folder / "run" / "steps.gif") as animation:
            assert animation.n_frames == 3
        html = (in_a_folder / "run" / "index.html").read_text()
        assert '["1 step", "2 steps", "4 steps"]' in html
        assert (in_a_folder / "run" / "curves.png").exists()


class TestFeatureVisualization:
    def test_channels_are_excited_and_measured(self, scripts, folders, in_a_folder, capsys):
        module = scripts["feature_visualization"]
        module.main(
            module.Settings(
                layers=("stage 1", "stage 4"),
                channels=3,
                model=folders,
                judge=None,
                seeds=2,
                steps=2,
                output=in_a_folder / "run",
            )
        )
        printed = capsys.readouterr().out
        network = models.load(folders[1]).network
        for layer, channels in (("stage 1", [0, 1, 3]), ("stage 4", [0, 15, 31])):
            name = layer.replace(" ", "-")
            stored = arrays(in_a_folder / "run" / f"features-second-{name}.npz")
            np.testing.assert_array_equal(stored["channels"], channels)
            assert stored["image"].shape == (3, 2, *SHAPE)
            picture = jnp.asarray(stored["image"][1, 1] / 255, float)
            activations = jax.jit(network.layer(layer).features)(picture).mean((0, 1))
            np.testing.assert_allclose(
                stored["activations"][1, 1], activations, atol=0.05 * activations.max()
            )
            own = np.array([stored["activations"][i, :, c] for i, c in enumerate(channels)])
            np.testing.assert_allclose(stored["score"], own, rtol=1e-4)
            selectivity = (own / stored["activations"].mean(-1)).mean()
            assert re.search(rf"second +{layer} +{selectivity:z.3f} \[", printed)
            assert (in_a_folder / "run" / f"layer-{name}.png").exists()
        score = scores.channel(network.layer("stage 4"), 15)
        expected = default_ascent(score, *start(15, 1), steps=2)
        np.testing.assert_allclose(stored["image"][1, 1] / 255, expected, atol=TOLERANCE)

    @pytest.mark.parametrize(
        "network",
        [
            lambda: models.EfficientNetLite(8, width=0.2, depth=0.1, rngs=nnx.Rngs(0)),
            lambda: models.VisionTransformer(
                2, 8, width=4, heads=2, size=(16, 16), patch=8, rngs=nnx.Rngs(0)
            ),
        ],
        ids=["EfficientNet-Lite0", "vision transformer"],
    )
    def test_layers_are_those_of_the_network(self, network, scripts):
        module, network = scripts["feature_visualization"], network()
        maker = models.Classifier("any", network, models.Input("image", (16, 16)))
        found = module.num_channels(maker, module.Settings(judge=None))
        image = jnp.zeros(SHAPE)
        first, *_ = network.layers
        assert first not in found
        assert set(found) < set(network.layers)
        assert len(found) >= 2
        for name, channels in found.items():
            assert jax.eval_shape(network.layer(name).map, image).shape[2:] == (channels,)

    def test_channels_are_evenly_spaced_and_at_most_all(self, scripts):
        evenly_spaced = scripts["feature_visualization"].evenly_spaced
        np.testing.assert_array_equal(evenly_spaced(256, 4), [0, 85, 170, 255])
        np.testing.assert_array_equal(evenly_spaced(4, 20), [0, 1, 2, 3])


class TestPhotographStatistics:
    def test_of_a_data_set(self, scripts, tiny_imagenet_folder, apart, in_a_folder, capsys):
        module = scripts["photograph_statistics"]
        module.main(
            module.Settings(
                batch_size=16,
                judge=apart,
                data_dir=tiny_imagenet_folder,
                output=in_a_folder / "run",
            )
        )
        stored = arrays(in_a_folder / "run" / "photograph_statistics.npz")
        # The miniature's images are of one colour each, two of each class.
        np.testing.assert_array_equal(np.bincount(stored["labels"]), [2] * 20)
        np.testing.assert_allclose(stored["total_variation"], 0, atol=1e-5)
        # Of 22 classes a network that has learnt nothing ranks one first for all of these images.
        ranks = stored["rank"]
        assert ranks.min() >= 1
        assert ranks.max() <= 22
        first, among = (ranks == 1).mean(), (ranks <= 5).mean()
        printed = capsys.readouterr().out
        assert re.search(rf" {first:z.3f} \[[^]]*\]  +{among:z.3f} \[", printed)
        assert f" {np.median(ranks):g} [" in printed

    def test_variation_slope_and_means_of_classes(self, scripts):
        module = scripts["photograph_statistics"]
        ramp = np.zeros((1, 8, 8, 1), np.float32)
        ramp[0, 3, 4] = 1
        variation, slope = module.measure(jnp.asarray(ramp))
        # One bright pixel differs from its four neighbours, and has all frequencies.
        np.testing.assert_allclose(variation, 4 / 64)
        np.testing.assert_allclose(slope, 0, atol=1e-5)
        means = module.class_means(np.array([1.0, 2.0, 3.0]), np.array([5, 2, 5]))
        np.testing.assert_array_equal(means, [2, 2])


class TestPictures:
    def test_photographs_are_the_tables_last_row(self, scripts):
        values = {"spectrum slope": np.full((2, 3), -1.0), "recognized": np.array([[0.0], [1.0]])}
        table = scripts["pictures"].tabulate([(("a", "b"), values, np.nan)], [64, 64, 8])
        rows = str(table).splitlines()
        assert "-1.000 [-1.000, -1.000]  0.500 [0.000, 1.000]" in rows[1]
        assert rows[2].split()[:2] == ["photographs", "64x64"]
        assert "-2.272 [-2.359, -2.184]" in rows[2]
        assert rows[3].split() == ["photographs", "8x8"]

    def test_what_a_judge_says_of_photographs_is_a_sentence(self, scripts):
        said = scripts["pictures"].said_of_photographs
        assert said(64, "efficientnet-lite2") == (
            "Of photographs of 64x64 pixels efficientnet-lite2 ranks the right class first for "
            "0.386 [0.291, 0.484] and among its first 5 for 0.662 [0.593, 0.728]."
        )
        assert said(64, "other") == said(63, "efficientnet-lite2") == ""

    def test_an_ascent_that_was_stopped_is_told(self, scripts):
        module = scripts["pictures"]
        side = one_side(module, np.arange(2))
        pictures = module.Measurements(*[None] * 5, failed_at=np.array([[0, 3], [1, 0]]))
        whole = pictures._replace(failed_at=np.zeros((2, 2)))
        variants = [module.Variant("good", whole, 1.0), module.Variant("wild", pictures, 1.0)]
        assert module.stopped([(side, variants)]) == [
            "2 pictures of some, wild, stopped before a step that was not finite."
        ]

    def test_figures_show_familiar_classes_first(self, scripts):
        module = scripts["pictures"]
        side = one_side(module, np.arange(20))
        names = [CLASS_NAMES[place] for place in module.shown_classes(side)]
        assert set(names) == set(scripts["recipes"].FAMILIAR_CLASSES[:6])
        few = dataclasses.replace(side, labels=np.array([0, 4]))
        assert module.shown_classes(few) == [0, 1]

    def test_means_of_several_seeds_resample_the_classes(self, scripts):
        # Seeds that agree say nothing new: the interval is that of the two classes.
        values = np.repeat(np.array([[0.0], [1.0]]), 50, axis=1)
        curve = scripts["tables"].curve("a", np.array([1]), [values])
        np.testing.assert_array_equal([curve.y, curve.low, curve.high], [[0.5], [0.0], [1.0]])

    def test_the_median_of_groups_resamples_the_groups(self, scripts):
        median = scripts["tables"].median
        assert median(np.array([[1, 2, 9]])) == "2 [2, 2]"
        # Of two groups a quarter of the draws has the one alone, and a quarter the other.
        assert median([np.array([1, 1, 1]), np.array([7])]) == "1 [1, 7]"

    def test_values_are_those_of_ranks_and_of_the_other_model(self, scripts):
        module = scripts["pictures"]
        both = module.Judge(classifier(name="second"), np.array([1, 0]))
        apart = module.Judge(classifier(name="apart"), np.array([2, 3]))
        side = dataclasses.replace(one_side(module, np.array([0, 1])), other=both, apart=apart)
        made = module.Measurements(
            np.zeros((2, 1, 4, 4, 3)),
            own=np.array([[[0.7, 0.3]], [[0.6, 0.4]]]),
            score=None,
            total_variation=np.zeros((2, 1)),
            spectrum_slope=np.zeros((2, 1)),
            failed_at=np.zeros((2, 1)),
            judged=np.array([[[0.1, 0.9]], [[0.2, 0.8]]]),
            ranks=np.array([[1], [5]]),
        )
        values = module.class_values(side, made)
        for name, expected in {
            "own probability": [[0.7], [0.4]],
            "recognized": [[1], [0]],
            "first, apart": [[1], [0]],
            "among 5, apart": [[1], [1]],
        }.items():
            np.testing.assert_array_equal(values[name], expected, err_msg=name)
        alone = module.class_values(dataclasses.replace(side, other=None, apart=None), made)
        assert list(alone) == ["own probability", "total variation", "spectrum slope"]


def one_side(module, labels):
    """A maker of pictures that nobody judges."""
    maker = classifier(name="some")
    return module.Side(maker, labels, None, None, "", module.Models(maker.network, None), "pixels")


class TestJudges:
    def test_one_maker_is_judged_by_the_network_apart_alone(
        self, scripts, folders, apart, in_a_folder, capsys
    ):
        module = scripts["number_of_steps"]
        module.main(
            module.Settings(
                classes=CLASSES[:2],
                model=folders[:1],
                judge=apart,
                seeds=1,
                steps=1,
                output=in_a_folder / "run",
            )
        )
        stored = arrays(in_a_folder / "run" / "pictures-first.npz")
        np.testing.assert_array_equal(stored["judge_labels"], 20 - LABELS[:2])
        judged = stored["judged"][0, 0, 0]
        assert judged.shape == (22,)
        assert stored["ranks"][0, 0, 0] == 1 + np.count_nonzero(judged > judged[16])
        printed = capsys.readouterr().out
        assert "rank, apart" in printed
        assert "recognized  " not in printed

    @pytest.mark.parametrize(
        ("maker_names", "told"),
        [
            (tuple("abcdefgh"), "does not know: a, b, c, d, e ..."),
            (("lemon", "b", "goldfish"), "does not know: b."),
            ((), "does not know: classes without names."),
        ],
    )
    def test_classes_that_a_judge_does_not_know_are_said(self, maker_names, told, scripts):
        module = scripts["pictures"]
        names = maker_names or tuple(map(str, range(20)))
        judge = classifier(name="judge")
        knowing, said = module.knowing(judge, "maker", names, np.arange(len(names)))
        assert knowing is None
        assert said == f"judge does not judge the pictures of maker, as it {told}"

    def test_numbers_are_names_for_a_model_of_the_same_ones(self, scripts):
        digits = tuple(map(str, range(10)))
        judge = classifier(0, digits, name="judge")
        knowing, said = scripts["pictures"].knowing(judge, "maker", digits, np.array([7, 1]))
        np.testing.assert_array_equal(knowing.labels, [7, 1])
        assert not said

    def test_pictures_that_nobody_knows_are_told_on_the_page(
        self, scripts, bad_folder, apart, in_a_folder, capsys
    ):
        module = scripts["number_of_steps"]
        module.main(
            module.Settings(
                classes=("a", "b"),
                model=(f"{bad_folder}/letters",),
                judge=apart,
                seeds=1,
                steps=1,
                output=in_a_folder / "run",
            )
        )
        told = "apart does not judge the pictures of letters, as it does not know: a, b."
        printed = capsys.readouterr().out
        assert told in printed
        assert "rank, apart" not in printed
        assert told in (in_a_folder / "run" / "index.html").read_text()


class TestRecipes:
    def test_the_fourier_recipe_is_that_of_class_visualization(self, scripts, monkeypatch):
        pictures, imagenet = scripts["pictures"], scripts["imagenet"]
        network = classifier(0).network
        best = imagenet.RECIPES[imagenet.BEST]._replace(steps=(2,))
        monkeypatch.setattr(imagenet, "RECIPES", {imagenet.BEST: best})

        def expected(network, label):
            return imagenet.visualize(network, label=label, seed=3, shape=SHAPE, score="logit")

        shared = pictures.Models(network, jnp.full(SHAPE, 0.4))
        common = {"label": 4, "seed": 3, "steps": 2}
        fourier = {**common, "recipe": "fourier"}
        parameters = scripts["optimization_parameters"]
        setting = {
            "setting": parameters.DEFAULTS["fourier"],
            "augmentation": parameters.frame_and_turn,
        }
        image = jax.jit(expected)(network, 4).image
        for measured in (
            pictures.part(
                scripts["number_of_steps"].visualize(
                    shared, label=4, seed=3, counts=(2,), recipe="fourier"
                ),
                0,
            ),
            scripts["optimizers"].visualize(shared, rate=0.1, optimizer="adam", **fourier),
            parameters.visualize(shared, **setting, **fourier),
            scripts["canvases"].visualize(shared, recipe=scripts["canvases"].WIDE, **common),
        ):
            np.testing.assert_allclose(measured.image, image, atol=TOLERANCE)
        assert np.abs(image - 0.5).max() > 0.01

    def test_large_models_make_smaller_pictures_by_it(self, scripts):
        pictures = scripts["pictures"]
        large = classifier(0, side=128)
        small = classifier(0)
        assert pictures.recipe(None, large) == "fourier"
        assert pictures.recipe(None, small) == "pixels"
        assert pictures.recipe("pixels", large) == "pixels"
        settings = pictures.Settings()
        assert pictures.models(large, settings).mean.shape == (64, 64, 3)
        assert pictures.models(small, settings).mean.shape == SHAPE
        settings = pictures.Settings(side=24)
        assert pictures.models(small, settings).mean.shape == (24, 24, 3)

    def test_every_optimizer_has_a_rate_on_fourier_coefficients(self, scripts):
        module = scripts["optimizers"]
        assert set(module.FOURIER_RATES) == set(module.OPTIMIZERS)


MISTAKES = {
    "no seed": ("initial_image", "--seeds 0", "--seeds to be at least 1, got 0"),
    "no step": ("number_of_steps", "--steps 0", "--steps to be at least 1, got 0"),
    "no batch": ("optimizers", "--batch-size 0", "--batch-size to be at least 1, got 0"),
    "one class": ("initial_image", "--classes lemon", "at least two of --classes"),
    "unknown class": ("optimizers", "--classes lemmon", "did you mean 'lemon'"),
    "no class": ("optimization_parameters", "--classes", "at least one of --classes, got none"),
    "no optimizer": ("optimizers", "--optimizers", "at least one of --optimizers, got none"),
    "no model": ("number_of_steps", "--model", "at least one --model, got none"),
    "three models": (
        "number_of_steps",
        "--model {first} {bad}/grey {bad}/letters",
        "one or two of --model, got 3",
    ),
    "a judge that makes pictures": (
        "number_of_steps",
        "--model {first} --judge {first}",
        "a --judge that had no part in the pictures",
    ),
    "nobody to choose rates": (
        "optimizers",
        "--model {bad}/letters --judge {first}",
        "first does not judge the pictures of letters, as it does not know: a, b, c, d, e ...",
    ),
    "no such layer": ("feature_visualization", "--layers stage-5", "got 'stage-5'"),
    "no layer": ("feature_visualization", "--layers", "at least one of --layers, got none"),
    "no channel": ("feature_visualization", "--channels 0", "--channels to be at least 1, got 0"),
    "a judge of grey images": (
        "feature_visualization",
        "--model {first} {bad}/grey",
        "equally many channels, got first with 3 and grey with 1",
    ),
    "a judge of other classes": (
        "initial_image",
        "--model {first} {bad}/letters",
        "expected a class of letters, got 'dining table'",
    ),
}


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    letters = tuple("abcdefghijklmnopqrst")
    saved(folder, classifier(channels=1, name="grey"), classifier(0, letters, name="letters"))
    return folder


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(("script", "flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    script, flags, message, scripts, folders, bad_folder, in_a_folder, capsys
):
    arguments = flags.format(first=folders[0], bad=bad_folder).split()
    if "--model" not in arguments:
        arguments += ["--model", *folders]
    if "--judge" not in arguments:
        arguments += ["--judge", "None"]
    with pytest.raises(SystemExit) as end:
        scripts[script].main.from_command_line(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert message in error
    assert list(in_a_folder.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="allocation is glibc's")
def test_memory_that_was_used_is_kept():
    program = (
        "import resource; from lab import frame\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    bytearray(b'x') * 2**26\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults(); print(faults()); frame.keep_memory(); faults(); print(faults())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=EXPERIMENTS, capture_output=True, text=True, check=True
    ).stdout
    given_back, kept = map(int, printed.split())
    assert kept < given_back / 10


def test_help_explains_every_flag(scripts, capsys):
    with pytest.raises(SystemExit):
        scripts["number_of_steps"].main.from_command_line(["--help"])
    printed = capsys.readouterr().out
    for text in ("How many steps", "all if none", "judges", "power of two", "finished are kept"):
        assert text in " ".join(printed.split())
