"""The two scripts, run as a person runs them: what they leave behind, and what a mistake costs."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import skimage.data
from flax import nnx
from PIL import Image
from small_classifiers import CLASS_NAMES, SIDE, classifier, saved
from small_models import answer

from saliency_jax import ascent, models, runs, scores

pytestmark = pytest.mark.usefixtures("loaded_once", "pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
# Of normalized steps: the same in all tests, which then share a compiled program.
RATE = 0.1


@pytest.fixture(scope="module", autouse=True)
def experiments():
    """The scripts, and what they share, which they import as a neighbour."""
    sys.path.insert(0, str(EXPERIMENTS))
    yield
    sys.path.remove(str(EXPERIMENTS))


def seen_cropped(one: models.Classifier) -> models.Classifier:
    """The classifier, which sees the middle of a photograph as ImageNet's networks do."""
    height, width = one.input.size
    return dataclasses.replace(
        one, input=dataclasses.replace(one.input, resize=(height + 4, width + 4))
    )


@pytest.fixture(scope="module", autouse=True)
def small_judges():
    """The networks that come with the package are small ones here, but for the shell's commands."""
    names = models.imagenet_classes()
    judges = {
        "tiny-imagenet-standard": classifier(2),
        "tiny-imagenet-robust": classifier(3),
        "efficientnet-lite0": classifier(4, names, side=128),
        "efficientnet-lite2": seen_cropped(classifier(5, names, side=20)),
    }
    load = models.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda name: judges.get(name) or load(name))
        yield


@pytest.fixture(scope="module")
def class_visualization(experiments):
    import class_visualization

    return class_visualization


@pytest.fixture(scope="module")
def saliency(experiments):
    import saliency

    return saliency


@pytest.fixture(scope="module")
def loading(experiments):
    from lab import loading

    return loading


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> tuple[str, ...]:
    """Two models of the same classes, as `--model` takes them."""
    both = [classifier(seed, name=name) for seed, name in enumerate(("first", "second"))]
    return saved(tmp_path_factory.mktemp("models"), *both)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def class_run(class_visualization, folders, tmp_path_factory, capsys_of_module):
    """A whole run of the script, which several tests look at, and what it printed."""
    folder = tmp_path_factory.mktemp("class_run") / "run"
    settings = class_visualization.Settings(
        classes=("lemon", "school_bus", "19"),
        model=folders,
        steps=12,
        learning_rate=RATE,
        jitter=0,
        output=folder,
    )
    return settings, folder, capsys_of_module(lambda: class_visualization.main(settings))


@pytest.fixture(scope="module")
def capsys_of_module():
    """What a call prints, for fixtures that live longer than pytest's capsys."""

    def printed(call):
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            call()
        return stream.getvalue()

    return printed


def visualized(class_visualization, maker, labels, settings):
    settings = dataclasses.replace(settings, learning_rate=RATE)
    optimizer = class_visualization.make_optimizer(settings)
    run = class_visualization.Run(settings, "some")
    return class_visualization.visualize(
        run, maker, np.array(labels, np.int32), optimizer, settings
    )


class TestClassVisualization:
    def test_the_folder_is_whole(self, class_run):
        settings, folder, printed = class_run
        assert {path.name for path in folder.iterdir()} == {
            "class_visualization.png",
            "class_visualization-first.npz",
            "class_visualization-second.npz",
            "saliency.png",
            "saliency-first.npz",
            "saliency-second.npz",
            "config.json",
            "index.html",
        }
        assert [path.name for path in folder.parent.iterdir()] == ["run"]
        assert printed.endswith(f"pictures, arrays and index.html are in {folder}\n")
        stored = json.loads((folder / "config.json").read_text())["settings"]
        assert stored == json.loads(json.dumps(dataclasses.asdict(settings), default=str))

    def test_each_picture_raises_its_class_and_stays_in_range(self, class_run):
        _, folder, _ = class_run
        for name in ("first", "second"):
            stored = arrays(folder / f"class_visualization-{name}.npz")
            np.testing.assert_array_equal(stored["labels"], [4, 14, 19])
            assert stored["images"].shape == (3, SIDE, SIDE, 3)
            assert stored["values"].shape == (3, 12)
            assert stored["images"].min() >= 0
            assert stored["images"].max() <= 1
            assert (stored["values"][:, -1] > stored["values"][:, 0]).all()

    def test_segments_make_the_steps_of_one_ascent(self, class_run):
        settings, folder, _ = class_run
        network = models.load(settings.model[1]).network
        optimizer = optax.chain(
            ascent.normalize_by_l2(), optax.sgd(RATE), ascent.keep_in_range(0.0, 1.0)
        )
        image_key, step_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 14))
        image = ascent.normal_noise(image_key, (SIDE, SIDE, 3), 0.5, 0.05)
        state = ascent.initial_state(image, optimizer, step_key)
        step = jax.jit(lambda score, state: ascent.ascent_step(score, state, optimizer))
        for _ in range(12):
            state, _ = step(scores.logit(network, 14), state)
        stored = arrays(folder / "class_visualization-second.npz")["images"][1]
        # A different order of sums in the compiled programs, over twelve steps of 0.1.
        np.testing.assert_allclose(stored, state.params, atol=2e-3)

    def test_the_tables_agree_with_the_models(self, class_run, class_visualization):
        settings, folder, printed = class_run
        judge = models.load(settings.model[0]).network
        images = arrays(folder / "class_visualization-second.npz")["images"]
        answers = np.array([jax.nn.softmax(answer(judge, image)) for image in images])
        _, _, table = printed.partition("Who recognizes the pictures of second?\n")
        _, *rows = table.splitlines()
        for row, probabilities, label in zip(rows[:3], answers, (4, 14, 19), strict=True):
            assert row.startswith(CLASS_NAMES[label])
            rank = 1 + (probabilities > probabilities[label]).sum()
            percent = class_visualization.plots.percent(probabilities[label])
            likeliest = CLASS_NAMES[probabilities.argmax()]
            assert re.search(rf"{percent} +{rank} +{likeliest}", row)
        recognized = (answers.argmax(axis=1) == [4, 14, 19]).sum()
        assert rows[3].startswith("recognized")
        assert f"{recognized} of 3" in rows[3]

    def test_a_network_of_all_of_imagenet_judges_too(self, class_run, class_visualization):
        _, folder, printed = class_run
        judge = models.load("efficientnet-lite2")
        image = arrays(folder / "class_visualization-first.npz")["images"][0]
        # As it sees any photograph: resized by its publishers' rule.
        logits = np.asarray(answer(judge.network, judge.preprocess(image)))
        _, _, table = printed.partition("Who recognizes the pictures of first?\n")
        header, row, *_ = table.splitlines()
        assert "probability, efficientnet-lite2" in header
        assert row.endswith(judge.class_names[logits.argmax()])
        rank = 1 + (logits > logits[judge.label("lemon")]).sum()
        assert re.search(rf" {rank} +{judge.class_names[logits.argmax()]}$", row)

    def test_a_judge_that_cannot_judge_says_why(self, class_visualization):
        maker = classifier(0, ("lemon", "b"), name="maker")
        made = class_visualization.Visualization(
            np.array([1, 0]), np.full((2, SIDE, SIDE, 3), 0.5, np.float32), None, None
        )
        small = classifier(1, name="small")
        grey = classifier(2, ("lemon", "b"), name="grey", channels=1)
        (own,) = class_visualization.judge(maker, made, [maker, small, grey])
        assert own.judge is maker
        _, told = class_visualization.knows(small, maker, made)
        assert told == "small does not judge the pictures of maker, as it does not know: b."
        _, told = class_visualization.knows(grey, maker, made)
        assert told == "grey does not judge pictures of 3 channels."

    def test_flags_that_would_change_nothing_are_named(self, class_visualization, in_a_folder):
        settings = class_visualization.Settings(model=("efficientnet-lite0",), steps=3)
        with pytest.raises(ValueError, match="expected --recipe pixels with --steps"):
            class_visualization.main(settings)

    def test_a_picture_does_not_depend_on_which_others_are_made(
        self, class_run, class_visualization, in_a_folder
    ):
        settings, folder, _ = class_run
        others = ("school bus", "banana", "pizza")
        class_visualization.main(
            dataclasses.replace(
                settings, classes=others, model=settings.model[:1], output=in_a_folder / "run"
            )
        )
        first, second = (
            arrays(run / "class_visualization-first.npz")["images"]
            for run in (folder, in_a_folder / "run")
        )
        np.testing.assert_allclose(second[0], first[1], atol=2e-3)

    def test_the_pictures_repeat_and_seed_and_jitter_change_them(
        self, class_visualization, loading, folders
    ):
        (maker,) = loading.load(folders[:1])

        def images(**changes):
            settings = class_visualization.Settings(steps=6, **changes)
            return visualized(class_visualization, maker, [3, 4, 5], settings).images

        np.testing.assert_array_equal(images(), images())
        assert np.abs(images(seed=1) - images()).max() > 0.1
        # The same start, but steps that see the image elsewhere.
        assert 0.005 < np.abs(images(jitter=0) - images()).max() < 0.1

    @pytest.mark.parametrize(
        ("flag", "closest"),
        [("zeros", (0, 0, 0)), ("mean", (0.4, 0.5, 0.6)), ("normal", (0.5, 0.5, 0.5))],
    )
    def test_where_the_ascent_begins(self, class_visualization, flag, closest):
        image = class_visualization.recipes.INITIAL[flag](
            jax.random.key(0), (64, 64, 3), np.array([0.4, 0.5, 0.6], np.float32)
        )
        np.testing.assert_allclose(image.mean((0, 1)), closest, atol=0.005)
        # 12,288 draws: the standard error of the standard deviation is 0.0003.
        assert abs(float(image.std(axis=(0, 1)).mean()) - 0.05 * (flag == "normal")) < 0.002

    def test_every_optimizer_has_a_flag_and_climbs(self, class_visualization):
        flags = typing.get_args(class_visualization.OptimizerName)
        assert set(flags) == set(class_visualization.OPTIMIZERS)
        target = jnp.array([0.9, 0.2, 1.5])

        def distance(x):
            return jnp.sum((x - target) ** 2)

        for name, (_, rate) in class_visualization.OPTIMIZERS.items():
            optimizer = optax.with_extra_args_support(
                class_visualization.recipes.make_optimizer(name, rate)
            )

            def step(carry, _, optimizer=optimizer):
                x, state = carry
                value, slope = jax.value_and_grad(distance)(x)
                updates, state = optimizer.update(
                    slope, state, x, value=value, grad=slope, value_fn=distance
                )
                x = optax.apply_updates(x, updates)
                return (x, state), x

            start = jnp.full(3, 0.5)
            # Optax counts on the usual promotion: Adam raises a float to an integer power.
            with jax.numpy_dtype_promotion("standard"):
                (x, _), path = jax.lax.scan(step, (start, optimizer.init(start)), length=300)
            assert path.min() >= 0, name
            assert path.max() <= 1, name
            # The nearest point of [0, 1] to the target, up to a step's length; normalized steps of
            # 0.5 go around it.
            tolerance = rate if name in ("normalized", "sign") else 0.05
            np.testing.assert_allclose(x, [0.9, 0.2, 1.0], atol=tolerance, err_msg=name)

    def test_a_learning_rate_that_is_not_given_is_the_optimizers_own(self, class_visualization):
        for name, (_, rate) in class_visualization.OPTIMIZERS.items():
            settings = class_visualization.Settings(optimizer=name)
            assert class_visualization.learning_rate(settings) == rate
            chosen = dataclasses.replace(settings, learning_rate=0.123)
            assert class_visualization.learning_rate(chosen) == 0.123

    def test_the_l2_prior_pulls_towards_the_mean_colour(
        self, class_visualization, loading, folders
    ):
        (maker,) = loading.load(folders[:1])
        settings = class_visualization.Settings(steps=12, l2=1e6, jitter=0)
        made = visualized(class_visualization, maker, [3, 4, 5], settings)
        # The score is far weaker, so each step goes straight towards the mean, by its length.
        image_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 5))
        start = np.array(ascent.normal_noise(image_key, (SIDE, SIDE, 3)))
        way = np.array([0.4, 0.5, 0.6]) - start
        expected = start + 12 * RATE * way / np.linalg.norm(way)
        np.testing.assert_allclose(made.images[2], expected, atol=1e-4)


class TestSaliency:
    def test_without_arguments_the_two_photographs_are_explained(self, saliency, folders, capsys):
        saliency.main(saliency.Settings(model=folders))
        folder = Path("runs/saliency-001")
        assert {path.name for path in folder.iterdir()} == {
            "saliency.png",
            "saliency-first.npz",
            "saliency-second.npz",
            "config.json",
            "index.html",
        }
        printed = capsys.readouterr().out
        assert printed.endswith(f"are in {folder.resolve()}\n")
        stored = arrays(folder / "saliency-first.npz")
        assert stored["images"].shape == (2, SIDE, SIDE, 3)
        np.testing.assert_array_equal(stored["labels"], stored["probabilities"].argmax(axis=1))
        np.testing.assert_allclose(stored["probabilities"].sum(axis=1), 1, rtol=1e-5)
        # The middle of the cat's picture, reduced: near the mean of its pixels.
        cat = skimage.data.chelsea()[:, 75:375] / 255
        np.testing.assert_allclose(stored["images"][0].mean((0, 1)), cat.mean((0, 1)), atol=0.01)
        for place, name in ((0, "cat"), (1, "coffee")):
            likeliest = CLASS_NAMES[stored["labels"][place]]
            probability = saliency.photographs.plots.percent(stored["probabilities"][place].max())
            assert any(
                row.startswith(name) and "first" in row and f"{likeliest} {probability}" in row
                for row in printed.splitlines()
            )

    def test_the_gradient_is_the_slope_of_the_score(self, saliency, loading, folders):
        (maker,) = loading.load(folders[:1])
        image = np.random.default_rng(0).random((SIDE, SIDE, 3), np.float32)
        photographs = [saliency.Photograph(image, "noise")] * 3
        run = saliency.Run(saliency.Settings(output=Path("run")), "saliency")
        with run:
            how = saliency.Settings(batch_size=2)
            explanation = saliency.photographs.explain(
                run, maker, photographs, "saliency", how, label=7
            )
        np.testing.assert_array_equal(explanation.labels, [7, 7, 7])
        np.testing.assert_array_equal(explanation.attributions[0], explanation.attributions[2])
        gradient = explanation.attributions[0]
        direction = gradient / np.linalg.norm(gradient)
        network = jax.jit(maker.network)
        step = 1e-3
        up, down = (
            float(network(jnp.asarray(image + sign * step * direction))[7]) for sign in (1, -1)
        )
        np.testing.assert_allclose((up - down) / (2 * step), np.linalg.norm(gradient), rtol=0.02)
        largest = np.maximum(gradient.max(axis=-1), -gradient.min(axis=-1))
        np.testing.assert_array_equal(explanation.saliency_maps[0], largest)

    def test_files_of_any_size_and_a_label_by_name(self, saliency, folders, in_a_folder):
        colors = np.random.default_rng(0).integers(0, 256, (30, 50, 4), np.uint8)
        Image.fromarray(colors).save("wide.png")
        Image.fromarray(colors[..., 0].T.copy()).save("tall.gif")
        saliency.main(
            saliency.Settings(
                images=(Path("wide.png"), in_a_folder / "tall.gif"),
                label="King-Penguin",
                size=24,
                model=folders[1:],
                score="log_prob",
                output=Path("out"),
            )
        )
        stored = arrays(Path("out/saliency-second.npz"))
        assert stored["images"].shape == (2, 24, 24, 3)
        np.testing.assert_array_equal(stored["labels"], [CLASS_NAMES.index("king penguin")] * 2)
        html = Path("out/index.html").read_text()
        assert "wide.png" in html
        assert "tall.gif" in html

    def test_images_of_a_dataset(self, saliency, folders, tiny_imagenet_folder, capsys):
        saliency.main(
            saliency.Settings(
                dataset="tiny_imagenet/paper20",
                count=18,
                model=folders[:1],
                batch_size=2,
                data_dir=tiny_imagenet_folder,
                output=Path("out"),
            )
        )
        stored = arrays(Path("out/saliency-first.npz"))
        assert stored["images"].shape == (18, SIDE, SIDE, 3)
        # Sixteen photographs fill a figure.
        assert sorted(path.name for path in Path("out").glob("*.png")) == [
            "saliency-2.png",
            "saliency.png",
        ]
        # Images of the miniature are of one colour each: green is 200 in the validation split, and
        # red tells the label.
        np.testing.assert_allclose(stored["images"][..., 1], 200 / 255, atol=0.02)
        labels = np.round((stored["images"][:, 0, 0, 0] * 255 - 20) / 10).astype(int)
        rows = [row for row in capsys.readouterr().out.splitlines() if "labelled" in row]
        for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
            assert row.startswith(f"validation {i}, labelled {CLASS_NAMES[label]} ")

    def test_a_model_of_grey_images(self, saliency, in_a_folder):
        numbers = tuple(map(str, range(20)))
        saved(in_a_folder, classifier(0, numbers, channels=1, name="grey"))
        saliency.main(saliency.Settings(model=("grey",), label="3", output=Path("out")))
        stored = arrays(Path("out/saliency-grey.npz"))
        assert stored["images"].shape == (2, SIDE, SIDE, 1)
        np.testing.assert_array_equal(stored["labels"], [3, 3])


class TestClassifier:
    @pytest.fixture
    def some(self):
        return classifier(0, (*CLASS_NAMES[:17], "crane", "crane", "3"), name="some model")

    @pytest.mark.parametrize(
        ("text", "label"),
        [("lemon", 4), ("School_Bus", 14), ("king-penguin", 15), ("7", 7), ("18", 18), ("3", 19)],
    )
    def test_a_label_by_name_or_number(self, some, text, label):
        assert some.label(text) == label

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("lemmon", "expected a class of some model, got 'lemmon'; did you mean 'lemon'"),
            ("xyzzy", "expected a class of some model, got 'xyzzy'; its classes are dining table"),
            ("20", "expected a label in 0 .. 19 or a class name of some model, got 20"),
            ("-1", "expected a label in 0 .. 19 or a class name of some model, got -1"),
            ("crane", "got 'crane', the name of 17 and 18; give the number"),
        ],
    )
    def test_what_names_no_class(self, some, text, message):
        with pytest.raises(ValueError, match="expected") as raised:
            some.label(text)
        assert message in str(raised.value)


class TestLoading:
    def test_a_relative_folder_and_two_of_one_name(self, loading, folders, in_a_folder):
        for place in ("a", "b"):
            shutil.copytree(folders[0], in_a_folder / place / "model")
        loaded = loading.load(("a/model", "b/model"))
        assert [one.name for one in loaded] == ["a/model", "b/model"]
        assert [one.file_name for one in loaded] == ["a-model", "b-model"]


def broken_models(folder: Path) -> None:
    """Models that cannot be used, for the tests of bad input."""
    two_channels = classifier(channels=2, name="two-channels")
    saved(folder, classifier(name="whole"), two_channels)
    for name in ("foreign", "poisoned"):
        shutil.copytree(folder / "whole", folder / name)
        (folder / name / "SHA256SUMS").unlink()
    (folder / "foreign" / "config.json").write_text('{"model_type": "vit"}')
    shutil.rmtree(folder / "poisoned" / "weights")
    poisoned = classifier().network
    poisoned.fc.kernel[...] = poisoned.fc.kernel[...].at[0, 0].set(jnp.nan)
    state = nnx.to_pure_dict(nnx.split(poisoned)[1])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "poisoned" / "weights", state)


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    broken_models(folder)
    (folder / "text.png").write_text("this is no picture")
    Image.effect_noise((64, 64), 50).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:800])
    (folder / "taken").mkdir()
    (folder / "taken" / "index.html").write_text("mine")
    return folder


BAD_VISUALIZATIONS = {
    "unknown class": ("--classes lemmon", "got 'lemmon'; did you mean 'lemon'"),
    "label too large": ("--classes 20", "expected a label in 0 .. 19"),
    "no class": ("--classes", "expected at least one of --classes, got none"),
    "unknown model": ("--model tiny-imagenet-robus", "'tiny-imagenet-robus'"),
    "model twice": ("--model {bad}/whole {bad}/whole", "expected different models"),
    "foreign model": ("--model {bad}/foreign", "foreign to hold the config.json of a classifier"),
    "model with nan": ("--model {bad}/poisoned", "expected finite weights"),
    "model of two channels": (
        "--model {bad}/two-channels",
        "1 or 3 channels, got two-channels with 2",
    ),
    "model of sounds": ("--model spoken-digits", "of kind sound: see spoken_digits.py"),
    "no step": ("--steps 0", "expected --steps to be at least 1, got 0"),
    "steps no number": ("--steps many", "'many'"),
    "negative jitter": ("--jitter -1", "expected --jitter to be at least 0, got -1"),
    "negative prior": ("--l2 -1", "expected --l2 to be at least 0 and finite, got -1.0"),
    "learning rate nan": ("--learning-rate nan", "positive and finite, got nan"),
    "seed too large": (f"--seed {2**70}", "expected --seed to be in 0 .. 2**32 - 1"),
    "unknown optimizer": ("--optimizer adm", "'adm'"),
    "unknown flag": ("--stops 3", "--stops"),
    "output exists": ("--output {bad}/taken", "taken not to exist"),
    "output below a file": ("--output {bad}/good.png/run", "a folder that can be written"),
}
BAD_SALIENCY = {
    "missing image": ("--images {bad}/none.png", "got no file at"),
    "not an image": ("--images {bad}/text.png", "text.png"),
    "damaged image": ("--images {bad}/good.png {bad}/cut.png", "cut.png"),
    "unknown label": ("--label espreso", "did you mean 'espresso'"),
    "label too large": ("--label 20", "expected a label in 0 .. 19"),
    "images and dataset": ("--images {bad}/good.png --dataset mnist", "--images or --dataset"),
    "unknown dataset": ("--dataset tiny_imagenett", "tiny_imagenet"),
    "dataset not prepared": ("--dataset mnist --data-dir {bad}", "prepare it by"),
    "no image": ("--dataset tiny_imagenet/paper20 --count 0", "--count to be at least 1, got 0"),
    "size zero": ("--size 0", "at least 1, got 0"),
    "batch size zero": ("--batch-size 0", "expected --batch-size to be at least 1, got 0"),
    "output exists": ("--output {bad}/taken", "taken not to exist"),
}


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        pytest.param(script, *case, id=f"{script}: {name}")
        for script, cases in (
            ("class_visualization", BAD_VISUALIZATIONS),
            ("saliency", BAD_SALIENCY),
        )
        for name, case in cases.items()
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    script, flags, message, request, folders, bad_folder, in_a_folder, capsys
):
    module = request.getfixturevalue(script)
    before = sorted(bad_folder.rglob("*"))
    arguments = flags.format(bad=bad_folder).split()
    if "--model" not in arguments:
        arguments = ["--model", folders[0], *arguments]
    with pytest.raises(SystemExit) as end:
        module.main.from_command_line(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert message in error
    assert list(in_a_folder.iterdir()) == []
    assert sorted(bad_folder.rglob("*")) == before


def test_a_step_that_is_not_finite_is_named_and_the_pictures_before_it_are_kept(
    class_visualization, folders, in_a_folder
):
    settings = class_visualization.Settings(
        classes=("3", "4", "5"), model=folders[:1], l2=3e38, learning_rate=RATE, steps=12
    )
    message = (
        "expected finite steps, got infinity or nan at step 1 with model first, label "
        rf"{CLASS_NAMES[3]}, learning_rate 0\.1, l2 3e\+38; the pictures are those before it\."
    )
    with pytest.raises(ValueError, match=message):
        class_visualization.main(settings)
    folder = in_a_folder / "runs" / "class_visualization-001"
    stored = arrays(folder / "class_visualization-first.npz")
    np.testing.assert_array_equal(stored["failed_at"], [1, 1, 1])
    image_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 4))
    np.testing.assert_allclose(stored["images"][1], ascent.normal_noise(image_key, (SIDE, SIDE, 3)))
    assert "at step 1 with model first" in (folder / "index.html").read_text()


class TestCommandLine:
    @dataclasses.dataclass(frozen=True)
    class Settings:
        number: int = 3
        """A number."""

    def run(self, error: BaseException | None = None, arguments=()):
        def main(settings):
            if error is not None:
                raise error

        runs.from_command_line(main, self.Settings, "A script.", list(arguments))

    def test_a_bug_shows_its_traceback(self):
        for bug in (TypeError("unsupported operand"), ValueError("too many values"), KeyError("x")):
            with pytest.raises(type(bug)) as raised:
                self.run(bug)
            assert raised.value is bug

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("expected one,\n  got two"),
            TypeError("expected one, got two"),
            OSError("expected one, got two"),
        ],
    )
    def test_a_mistake_is_one_line(self, error, capsys):
        with pytest.raises(SystemExit) as end:
            self.run(error)
        assert end.value.code == 2
        assert capsys.readouterr().err == "error: expected one, got two\n"

    def test_a_refusal_of_the_system_is_one_line(self, in_a_folder, capsys):
        with pytest.raises(FileNotFoundError) as refusal:
            (in_a_folder / "nowhere").read_text()
        with pytest.raises(SystemExit) as end:
            self.run(refusal.value)
        assert end.value.code == 2
        assert "nowhere" in capsys.readouterr().err

    def test_a_broken_pipe_that_is_not_the_outputs_is_one_line(self, capsys):
        with pytest.raises(SystemExit) as end:
            self.run(BrokenPipeError("a network's"))
        assert end.value.code == 2
        assert capsys.readouterr().err == "error: a network's\n"

    def test_an_interrupt_is_no_error(self, capsys):
        with pytest.raises(SystemExit) as end:
            self.run(KeyboardInterrupt())
        assert end.value.code == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_a_wrong_flag_is_one_line(self, capsys):
        with pytest.raises(SystemExit) as end:
            self.run(arguments=["--number", "three"])
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert "--number" in error
        assert "'three'" in error
        assert not set("│╭╰─") & set(error)

    def test_help_ends_well(self, capsys):
        with pytest.raises(SystemExit) as end:
            self.run(arguments=["--help"])
        assert end.value.code in (0, None)
        printed = capsys.readouterr().out
        assert "A script." in printed
        assert "A number." in printed


def test_a_mistake_at_the_shell(in_a_folder, folders):
    result = subprocess.run(
        [
            sys.executable,
            EXPERIMENTS / "saliency.py",
            "--images",
            "none.png",
            "--model",
            folders[0],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == "error: expected an image file, got no file at none.png\n"
    assert list(in_a_folder.iterdir()) == []


def test_a_run_whose_output_is_closed_ends_without_a_word(in_a_folder, folders):
    script = EXPERIMENTS / "class_visualization.py"
    process = subprocess.Popen(
        [sys.executable, script, "--model", *folders, "--steps", "2", "--output", "a/run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(1)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 141)
    process.stderr.close()
    # But for what the same command continues with.
    assert not Path("a/run").exists()
    assert not [path for path in in_a_folder.rglob("*") if path.name.endswith(".partial")]


def test_a_terminated_run_leaves_nothing(in_a_folder, folders):
    script = EXPERIMENTS / "class_visualization.py"
    process = subprocess.Popen(
        [sys.executable, script, "--model", *folders, "--steps", "1000000", "--output", "a/run"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(in_a_folder.glob("a/.run.*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(in_a_folder.glob("a/.run.*"))
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (143, "terminated\n")
    finally:
        process.kill()
    assert list(in_a_folder.iterdir()) == []
