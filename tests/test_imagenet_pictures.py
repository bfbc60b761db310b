"""Pictures from coarse to fine, and the judge who has to recognize them."""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from jax.tree_util import Partial
from PIL import Image
from small_classifiers import CLASS_NAMES, classifier, saved
from small_models import answer

from saliency_jax import models

pytestmark = pytest.mark.usefixtures("pages_are_sound")
EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def imagenet():
    sys.path.insert(0, str(EXPERIMENTS))
    from lab import imagenet

    sys.path.remove(str(EXPERIMENTS))
    return imagenet


def test_the_classes_are_known_to_maker_and_judge(imagenet):
    names = models.imagenet_classes()
    assert len(set(imagenet.CLASSES)) == 10
    assert {"corn", "dining table", "red wine", "pineapple"} < set(imagenet.CLASSES)
    assert set(imagenet.CLASSES) < set(names)


def test_classes_are_found_by_name_or_by_wordnet_id(imagenet):
    judge = models.Classifier(
        "judge", lambda image: image, models.Input("image", (8, 8)), models.imagenet_classes()
    )
    # n03126707 is a machine; Tiny-ImageNet, which lacks the bird, calls it a crane.
    names = ["lemon", "crane (machine)", "zebra crossing"]
    labels = imagenet.labels(names, judge)
    assert [label and judge.class_names[label] for label in labels] == [*names[:2], None]
    tiny = models.Classifier(
        "tiny", lambda image: image, models.Input("image", (8, 8)), ("lemon", "crane")
    )
    assert imagenet.labels(["crane (machine)", "lemon", "corn"], tiny) == [1, 0, None]


def test_ranks_count_what_is_likelier(imagenet):
    answers = np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.25, 0.25, 0.5]])
    np.testing.assert_array_equal(imagenet.ranks(answers, np.array([0, 2, 1])), [3, 1, 2])


def test_a_judge_sees_pictures_as_it_sees_photographs(imagenet):
    judge = classifier(0)
    images = np.random.default_rng(0).random((2, 40, 50, 3), np.float32)
    expected = [jax.nn.softmax(answer(judge.network, judge.preprocess(image))) for image in images]
    np.testing.assert_allclose(imagenet.answers(judge, images), expected, rtol=1e-4)


def test_a_network_of_one_image_judges_several(imagenet):
    # Four pixels of one colour each: a network that looked at the whole batch would give more.
    network = Partial(lambda weights, image: image.mean((0, 1)) @ weights, 2 * jnp.eye(3))
    judge = models.Classifier("judge", network, models.Input("image", (4, 4)), ("a", "b", "c"))
    images = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    expected = np.exp(2 * images.mean((1, 2)))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(imagenet.answers(judge, images), expected, rtol=1e-5)


def make(imagenet, network, label, shape, recipe="coarse-to-fine"):
    made = jax.jit(imagenet.visualize, static_argnames=("seed", "shape", "score", "recipe"))
    return made(network, label=label, seed=0, shape=shape, score="logit", recipe=recipe)


@pytest.fixture
def few_steps(imagenet, monkeypatch):
    """Two steps, or one at each size, in place of all."""
    for name, recipe in imagenet.RECIPES.items():
        steps = (1, 1) if len(recipe.steps) == 2 else (2,)
        monkeypatch.setitem(imagenet.RECIPES, name, recipe._replace(steps=steps))


@pytest.mark.parametrize("name", ["coarse-to-fine", "smooth"])
def test_a_picture_shows_its_class(imagenet, monkeypatch, name):
    recipe = imagenet.RECIPES[name]._replace(steps=(8, 4))
    monkeypatch.setitem(imagenet.RECIPES, name, recipe)
    classifier = models.load("tiny-imagenet-robust")
    label = classifier.label("lemon")
    picture = make(imagenet, classifier.network, label, (64, 64, 3), name)
    assert picture.values.shape == (12,)
    assert picture.failed_at == 0
    assert 0 <= picture.image.min() < picture.image.max() <= 1
    assert int(answer(classifier.network, picture.image).argmax()) == label


@pytest.mark.parametrize("recipe", ["paper", "lucid", "coarse-to-fine", "smooth", "maco"])
def test_every_recipe_makes_a_picture(imagenet, few_steps, recipe):
    network, shape = classifier(0).network, (32, 31, 3)
    picture, other = (make(imagenet, network, label, shape, recipe) for label in (2, 3))
    assert picture.image.shape == shape
    assert picture.values.shape == (2,)
    assert picture.failed_at == 0
    assert 0 <= picture.image.min() < picture.image.max() <= 1
    # Each class has a picture of its own, and a step goes up.
    assert np.abs(picture.image - other.image).max() > 0.01
    assert np.isfinite(picture.values).all()


def test_the_papers_recipe_is_gradient_ascent_less_the_norm(imagenet, few_steps):
    """x <- clip(x + r (dS/dx - 2 l (x - mean))), from the mean, twice (Simonyan 2013, eq. 1)."""
    weights = jnp.asarray(np.random.default_rng(0).normal(0, 3, (5, 4, 3)), jnp.float32)
    network = Partial(lambda weights, image: (weights * image**2).sum()[None], weights)
    mean = np.array([0.4925, 0.4604, 0.4067])
    image = np.broadcast_to(mean, (5, 4, 3))
    for _ in range(2):
        gradient = 2 * np.asarray(weights) * image - 2 * 1e-3 * (image - mean)
        image = np.clip(image + 0.1 * gradient, 0, 1)
    made = make(imagenet, network, 0, (5, 4, 3), "paper").image
    np.testing.assert_allclose(made, image, atol=1e-5)


def test_maco_keeps_the_magnitudes_of_photographs(imagenet, few_steps):
    """Decolored and decoded, a picture has the spectrum that ImageNet's photographs have."""
    shape = (32, 32, 3)
    image = np.asarray(make(imagenet, classifier(0).network, 1, shape, "maco").image, np.float64)
    values, vectors = np.linalg.eigh(np.float64(imagenet.ascent.IMAGENET_COLORS.covariance))
    encoded = np.log(image / (1 - image)) @ (vectors * values**-0.5 @ vectors.T)
    found = np.abs(np.fft.rfft2(encoded, axes=(0, 1)))
    # In the first and last columns a real image has phases in pairs.
    inner = np.s_[:, 1:-1]
    expected = imagenet.ascent.imagenet_magnitude(32, 32)
    np.testing.assert_allclose(found[inner], expected[inner], rtol=0.05)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("recipe", ["paper", "lucid", "coarse-to-fine", "smooth", "maco"])
def test_images_of_other_channels_have_pictures_too(imagenet, few_steps, recipe, channels):
    # Brighter and brighter downwards; augmentations change the size.
    network = Partial(
        lambda image: (jnp.linspace(-1, 1, len(image))[:, None, None] * image**2).sum()[None]
    )
    picture = make(imagenet, network, 0, (8, 7, channels), recipe)
    assert picture.image.shape == (8, 7, channels)
    assert picture.failed_at == 0
    assert 0 <= picture.image.min() < picture.image.max() <= 1


def test_grey_levels_start_from_the_mean_of_the_colors(imagenet):
    start = imagenet.RECIPES["paper"].start(jax.random.key(0), (2, 2, 1))
    np.testing.assert_allclose(start, np.full((2, 2, 1), (0.4925 + 0.4604 + 0.4067) / 3), rtol=1e-6)
    assert imagenet.papers_prior(start) == 0


def test_grey_levels_have_the_spectrum_of_the_mean_of_the_colors(imagenet):
    """Mean power of 200 pictures in colours of random phases, of the mean of their channels."""
    color, grey = (imagenet.phases((16, 16, channels)).decode for channels in (3, 1))

    def power(decode, key, channels):
        image = decode(imagenet.any_phases(key, (16, 16, channels)))
        return jnp.abs(jnp.fft.rfft2(jnp.log(image / (1 - image)).mean(-1))) ** 2

    keys = jax.random.split(jax.random.key(0), 200)
    expected = jax.vmap(lambda key: power(color, key, 3))(keys).mean(0)
    found = jax.vmap(lambda key: power(grey, key, 1))(keys).mean(0)
    # The colours' spectra, whose falls differ a little, have nearly equal shares of the mean.
    inner = np.s_[1:, 1:-1]
    np.testing.assert_allclose(found[inner], expected[inner], rtol=0.35)
    np.testing.assert_allclose(found[inner].mean(), expected[inner].mean(), rtol=0.1)
    np.testing.assert_allclose(np.mean(found[inner] / expected[inner]), 1, atol=0.05)


def test_the_main_command_names_the_same_recipes(imagenet, monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    import class_visualization

    settings = class_visualization.Settings
    small, large = (classifier(side=side) for side in (64, 128))
    assert class_visualization.recipe(settings(), small) == "pixels"
    assert class_visualization.recipe(settings(), large) == imagenet.SHOWN
    for name in imagenet.RECIPES:
        assert (
            class_visualization.recipe(tyro.cli(settings, args=["--recipe", name]), small) == name
        )
    del sys.modules["class_visualization"]


class TestImagenetVisualization:
    """The script that compares recipes, on two networks that have learnt nothing."""

    @pytest.fixture
    def script(self, imagenet, few_steps, monkeypatch, tmp_path):
        monkeypatch.syspath_prepend(EXPERIMENTS)
        monkeypatch.chdir(tmp_path)
        import imagenet_visualization

        yield imagenet_visualization
        del sys.modules["imagenet_visualization"]

    @pytest.fixture
    def settings(self, script, tmp_path):
        maker, judge = saved(
            tmp_path / "models",
            classifier(0, name="maker"),
            classifier(1, CLASS_NAMES[::-1], name="judge"),
        )
        return script.Settings(
            model=maker,
            judge=judge,
            recipes=("paper", "maco"),
            classes=5,
            batch_size=4,
            output=tmp_path / "run",
        )

    def test_classes_are_drawn_by_the_seed(self, script, imagenet):
        maker = models.Classifier(
            "maker", lambda image: image, models.Input("image", (8, 8)), models.imagenet_classes()
        )
        drawn = script.draw(script.Settings(), maker)
        again, later, other = (
            script.draw(script.Settings(**settings), maker)
            for settings in ({}, {"skip": 100, "classes": 20}, {"seed": 1})
        )
        assert len(set(drawn.tolist())) == 100
        np.testing.assert_array_equal(drawn, again)
        assert not set(drawn) & set(later)
        assert len(set(drawn) & set(other)) < 50
        assert not {maker.class_names[label] for label in drawn} & set(imagenet.CLASSES)
        everything = script.draw(script.Settings(classes=990), maker)
        assert len(set(everything.tolist())) == 990
        with pytest.raises(ValueError, match="at most 990 together, got 991"):
            script.draw(script.Settings(classes=990, skip=1), maker)

    def test_an_interrupted_run_continues(self, script, settings, tmp_path, monkeypatch, capsys):
        stopwatch = script.frame.Stopwatch
        original, calls = stopwatch.__call__, []

        def interrupted(self, points):
            original(self, points)
            calls.append(points)
            if sum(calls) == 9:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(stopwatch, "__call__", interrupted)
            with pytest.raises(KeyboardInterrupt):
                script.main(settings)
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0*.npz")}
        assert len(kept) == 3
        computed = []

        def listen(self, points):
            original(self, points)
            computed.append(points if self._start is not None else 0)

        monkeypatch.setattr(stopwatch, "__call__", listen)
        script.main(settings)
        assert sum(computed) == 1
        assert {path.name for path in settings.output.iterdir()} == {
            "pictures-paper.npz",
            "pictures-maco.npz",
            "pictures.png",
            "config.json",
            "index.html",
        }
        judge = models.load(settings.judge)
        for recipe in settings.recipes:
            with np.load(settings.output / f"pictures-{recipe}.npz") as stored:
                images = np.float32(stored["images"] / 255)
                # Both are called by their names, which the judge has in another order.
                asked = 19 - stored["labels"]
                logits = np.stack([answer(judge.network, judge.preprocess(x)) for x in images])
                own = np.exp(np.take_along_axis(logits, asked[:, None], 1)[:, 0])
                share = own / np.exp(logits).sum(1)
                np.testing.assert_allclose(stored["judged"], share, rtol=0.02)
        printed = capsys.readouterr().out
        assert "2 at 16" in printed
        assert "Simonyan et al. 2013" in printed

    def test_the_tables_numbers(self, script):
        ranks, animals = np.array([1, 3, 1, 9]), np.array([True, True, False, False])
        # Wilson's 95 % intervals of 2 of 4, 3 of 4 and 1 of 2, by hand.
        half, quarters = "50.0 [15.0, 85.0]", "75.0 [30.1, 95.4]"
        assert script.cells(ranks, animals) == [half, quarters, *2 * ["50.0 [9.5, 90.5]"], "2"]
        assert script.cells(ranks[:2], animals[:2])[3] == ""

    def test_photographs_are_judged_by_their_folders(self, script, tmp_path):
        judge = classifier(1, side=16)
        draws = np.random.default_rng(0)
        expected = []
        for name, class_name, animal in (
            ("lemon", "lemon", False),
            ("n02056570", "king penguin", True),
            ("goose", "goose", True),
        ):
            folder = tmp_path / "photographs" / "validation" / name
            folder.mkdir(parents=True)
            pixels = draws.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "one.png")
            logits = np.asarray(answer(judge.network, judge.preprocess(pixels)))
            expected.append((1 + (logits > logits[judge.label(class_name)]).sum(), animal))
        ranks, animals = script.of_photographs(tmp_path / "photographs", judge)
        assert sorted(zip(ranks, animals, strict=True)) == sorted(expected)

    def test_the_maker_is_no_judge(self, script, settings):
        own = dataclasses.replace(settings, judge=settings.model)
        with pytest.raises(ValueError, match="expected a --judge that had no part in the pictures"):
            script.main(own)

    def test_a_judge_of_other_classes_is_refused(self, script):
        stranger = classifier(class_names=("a", "b"), name="stranger")
        with pytest.raises(ValueError, match="knows the classes, got stranger, without lemon"):
            script.known(stranger, ["lemon"])
