"""The atlas of classes and the gallery of runs: their pages, and what they hold."""

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import PHONE, check, opened, page_of
from PIL import Image
from small_classifiers import CLASS_NAMES, SIDE, classifier, saved

from saliency_jax import models, rules, scores
from saliency_jax.runs import RunFolder, Section, plots

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
LEMON = CLASS_NAMES.index("lemon")


@pytest.fixture(scope="module", autouse=True)
def scripts():
    sys.path.insert(0, str(EXPERIMENTS))
    yield {
        name.removeprefix("lab."): importlib.import_module(name)
        for name in ("atlas", "gallery", "lab.channels", "lab.pictures")
    }
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def folder(scripts, tmp_path_factory):
    """An atlas, beside the finished run that some of its pictures are from."""
    place = tmp_path_factory.mktemp("runs")
    names = ("zebra", *CLASS_NAMES[::-1], "acorn")
    first, second, judge = saved(
        tmp_path_factory.mktemp("models"),
        classifier(0, name="first"),
        classifier(1, CLASS_NAMES[::-1], name="second"),
        classifier(2, names, name="apart", side=20),
    )
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(256, size=(40, 50, 3), dtype=np.uint8)).save(
        place / "n07749582_1.png"
    )
    with RunFolder(place / "older", "number_of_steps") as run:
        run.save_config({"model": [first]})
        run.save_arrays(
            "pictures-first",
            image=np.full((2, 3, 1, SIDE, SIDE, 3), 51, np.uint8),
            labels=np.array([LEMON, 0, 1]),
            variants=np.array(["1 step", "2 steps"]),
        )
        view = plots.explore([[plots.image(rng.random((4, 4, 3)))]])
        run.save_page("Steps", [Section("a", views=[view])])
    atlas = scripts["atlas"]
    atlas.main(
        atlas.Settings(
            classes=("lemon", "school bus"),
            model=(first, second),
            judge=judge,
            images=(place / "n07749582_1.png",),
            runs=(place / "older",),
            channels=2,
            output=place / "atlas",
        )
    )
    return place


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def makers(folder: Path) -> list[str]:
    """The folders of the models that the atlas is of."""
    return json.loads((folder / "atlas" / "config.json").read_text())["settings"]["model"]


class TestAtlas:
    def test_the_folder_is_whole(self, folder):
        assert {path.name for path in (folder / "atlas").iterdir()} == {
            "index.html",
            "lemon.html",
            "school-bus.html",
            "config.json",
            "pictures-first.npz",
            "pictures-second.npz",
            "channels-first.npz",
            "channels-second.npz",
        }
        assert not list(folder.glob(".*"))

    def test_pictures_are_named_by_model_recipe_seed_and_run(self, folder):
        page = (folder / "atlas" / "lemon.html").read_text()
        table = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
        cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table]
        found = [tuple(row[:4]) for row in cells if len(row) == 6]
        assert found == [
            ("first", "pixels", "0", ""),
            ("second", "pixels", "0", ""),
            ("first", "1 step", "0", "older"),
            ("first", "2 steps", "0", "older"),
        ]
        ranks = [int(row[4]) for row in cells if len(row) == 6]
        assert ranks[2] == ranks[3]
        assert all(1 <= rank <= len(CLASS_NAMES) + 2 for rank in ranks)
        assert "n07749582_1.png" in page or "lemon" in page
        other = (folder / "atlas" / "school-bus.html").read_text()
        assert "Photographs of it" in page
        assert "Photographs of it" not in other
        assert 'href="school-bus.html"' in page
        assert 'href="lemon.html"' in other

    def test_channels_are_those_that_most_relevance_passes_through(self, folder, scripts):
        stored = arrays(folder / "atlas" / "channels-second.npz")
        network = models.load(makers(folder)[1]).network
        numbered = CLASS_NAMES[::-1]
        labels = [numbered.index(name) for name in ("lemon", "school bus")]
        np.testing.assert_array_equal(stored["labels"], labels)
        page = (folder / "atlas" / "lemon.html").read_text()
        layer = next(name for name in network.layers if f"{name}, in a photograph" in page)
        score = scores.logit(network, labels[0])
        where = (score, jnp.asarray(stored["images"][0]), network.layer(layer))
        rule = {"composite": scripts["channels"].COMPOSITE}
        order = np.argsort(-np.asarray(rules.channel_relevances(*where, **rule)))[:2]
        np.testing.assert_array_equal(stored["numbers"][0], order)
        through = rules.relevance_through(*where, int(order[0]), **rule).sum(-1)
        np.testing.assert_allclose(stored["maps"][0, 0], through, rtol=1e-3, atol=1e-6)
        # Without a photograph of it the model's own picture is looked at.
        made = arrays(folder / "atlas" / "pictures-second.npz")["pixels"][1, 0] / 255
        np.testing.assert_allclose(stored["images"][1], made, atol=0.003)
        assert "in its own picture" in (folder / "atlas" / "school-bus.html").read_text()

    def test_pictures_are_ascents_of_the_default_recipe(self, folder, scripts):
        pictures = scripts["pictures"]
        maker = models.load(makers(folder)[0])
        mean = np.broadcast_to(np.float32(maker.input.mean_color), (SIDE, SIDE, 3))
        image, key = pictures.start(mean, "normal", LEMON, 0)

        @jax.jit
        def ascend(network, image, key):
            return pictures.ascend(scores.logit(network, LEMON), image, key, 64, "pixels").image

        made = arrays(folder / "atlas" / "pictures-first.npz")["pixels"][0, 0] / 255
        assert np.abs(made - ascend(maker.network, image, key)).mean() < 0.02

    def test_channels_of_small_images_are_excited_by_the_same_recipe(self, folder, scripts):
        stored = arrays(folder / "atlas" / "channels-first.npz")
        network, channel = models.load(makers(folder)[0]).network, int(stored["pictured"][0])
        page = (folder / "atlas" / "lemon.html").read_text()
        layer = next(name for name in network.layers if f"{name}, in a photograph" in page)
        pictures = scripts["pictures"]
        image, key = pictures.start(jnp.full((SIDE, SIDE, 3), 0.5), "normal", channel, 0)

        @jax.jit
        def ascend(network, image, key):
            score = scores.channel(network.layer(layer), channel)
            redirected = rules.with_rectifiers(score, rules.redirected)
            return pictures.ascend(redirected, image, key, 64, "pixels").image

        assert np.abs(stored["pictures"][0] - ascend(network, image, key)).mean() < 0.02

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"classes": ("unheard-of",)}, "expected --classes that a model knows, got unheard-of"),
            ({"runs": ("empty",), "seeds": 0}, "expected --runs with pictures of classes"),
        ],
    )
    def test_what_is_not_there_is_said(self, folder, scripts, tmp_path, changes, message):
        with RunFolder(tmp_path / "empty", "empty") as run:
            run.save_config({"model": makers(folder)[:1]})
        settings = {"classes": ("lemon",), "judge": None, "output": tmp_path / "run"} | changes
        settings["runs"] = tuple(tmp_path / name for name in changes.get("runs", ()))
        atlas = scripts["atlas"]
        with pytest.raises(ValueError, match=message):
            atlas.main(atlas.Settings(model=tuple(makers(folder)[:1]), **settings))
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]

    def test_the_first_photographs_of_the_classes_are_read_and_no_others(self, scripts, tmp_path):
        for number in range(6):
            pixels = np.full((4, 4, 3), 10 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"n07749582_{number}.png")
        (tmp_path / "n01443537_1.png").write_bytes(b"no picture of a goldfish")
        settings = scripts["atlas"].Settings(classes=("school bus", "lemon"), images=(tmp_path,))
        names, found = scripts["atlas"].of_classes(settings)
        assert names == ["lemon"] * 4
        assert [round(255 * float(one.image.max())) for one in found] == [0, 10, 20, 30]
        assert (
            scripts["atlas"].of_classes(dataclasses.replace(settings, classes=("corn",)))[1] == []
        )

    def test_without_files_the_carried_photographs_stand_for_their_classes(self, scripts):
        settings = scripts["atlas"].Settings(classes=("espresso", "lemon"))
        names, found = scripts["atlas"].of_classes(settings)
        assert (names, [one.title for one in found]) == (["espresso"], ["coffee"])

    @pytest.mark.parametrize("of_runs", [False, True])
    def test_a_judge_had_no_part_in_the_pictures(self, folder, scripts, tmp_path, of_runs):
        first, second = makers(folder)
        # The finished run's pictures are those of the first.
        settings = {"model": (second,), "runs": (folder / "older",)} if of_runs else {}
        atlas = scripts["atlas"]
        with pytest.raises(ValueError, match="had no part in the pictures, got first"):
            atlas.main(
                atlas.Settings(
                    classes=("lemon",),
                    judge=first,
                    output=tmp_path / "run",
                    **({"model": (first,)} | settings),
                )
            )
        assert list(tmp_path.iterdir()) == []

    def test_a_judge_that_does_not_know_the_class_says_so(self, scripts):
        one = scripts["atlas"].Seen("first", "pixels", 0, "", np.zeros((SIDE, SIDE, 3)))
        letters = classifier(class_names=("a", "b"), name="letters")
        section = scripts["atlas"].see([one], letters, "lemon")
        assert section.text == "letters does not judge them, as it does not know lemon."
        assert section.table.header == ["model", "recipe", "seed", "run"]

    def test_beside_the_ranks_stand_those_of_photographs(self, scripts):
        image = np.full((64, 64, 3), 0.5, np.float32)
        one = scripts["atlas"].Seen("first", "pixels", 0, "", image)
        judge = classifier(name="efficientnet-lite2")
        (said,) = re.findall(
            "first for (0.386 .*?)and", scripts["atlas"].see([one], judge, "lemon").text
        )
        assert said == "0.386 [0.291, 0.484] "


class TestGallery:
    def test_all_runs_are_there_but_galleries(self, folder, scripts):
        gallery = scripts["gallery"]
        for number in range(2):
            gallery.main(gallery.Settings(folder=folder, output=folder / f"gallery-{number}"))
        page = (folder / "gallery-1" / "index.html").read_text()
        assert re.findall(r'<a href="([^#"]+)"', page) == [
            "../atlas/index.html",
            "../older/index.html",
        ]
        assert "What is there to see of a class" in page
        assert "python experiments/atlas.py --classes lemon &#x27;school bus&#x27;" in page

    def test_a_folder_without_runs_is_said(self, scripts, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        gallery = scripts["gallery"]
        with pytest.raises(ValueError, match="expected --folder to hold finished runs, got none"):
            gallery.main(gallery.Settings(folder=tmp_path))
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


@pytest.mark.parametrize("device", [{}, PHONE], ids=["desktop", "phone"])
def test_one_browses_from_page_to_page(browser, folder, scripts, device):
    gallery = scripts["gallery"]
    output = folder / f"gallery-{len(device)}-browsed"
    if not output.exists():
        gallery.main(gallery.Settings(folder=folder, output=output))
    start = output / "index.html"
    visited = [folder / "atlas" / name for name in ("index.html", "lemon.html", "school-bus.html")]
    with page_of(browser, start, visited, color_scheme="dark", **device) as page:
        for name in ("atlas", "lemon", "school bus", "all classes", "school bus"):
            check(page)
            assert page.locator("img:visible").count() > 0
            page.get_by_role("link", name=name, exact=True).first.click()
        assert page.title() == "school bus"
        check(page)
