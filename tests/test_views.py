"""Views in pages and notebooks: what they hold, and what a browser makes of them."""

import dataclasses

import numpy as np
import pytest
from browser import PHONE, check, contrast, opened, page_of, screenshot
from matplotlib.figure import Figure

from saliency_jax.runs import Link, RunFolder, Section, Table, _media, plots

SIDE = 16
SCALES = ("0.1", "0.5", "1")
LONG = "Chlamydosaurus, a frilled lizard of some Donaudampfschifffahrtsgesellschaft 43 %"


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((SIDE, SIDE, 3))


def layers(seed: int, title: str = "") -> plots.Layers:
    saliency_map = image(seed + 100)[..., 0]
    drawn = plots.saliency_map(saliency_map)
    return plots.Layers(
        {
            "original": plots.image(image(seed)),
            "overlay": plots.overlay(image(seed), saliency_map),
            "map": drawn,
        },
        title,
        drawn.note,
    )


def view() -> plots.View:
    """At three scales, of two images each: the image, two models' maps, and the likeliest classes.

    The image is the same at all scales.
    """
    frames = {
        scale: [
            [
                plots.image(image(row), "as it is"),
                layers(10 * row + place + 2, LONG if place == 1 else "lemon 98 %"),
                layers(10 * row + place + 50, "goose 7 %"),
                plots.Ranking(["lemon", LONG], [0.98, 0.01], "likeliest"),
            ]
            for row in range(2)
        ]
        for place, scale in enumerate(SCALES)
    }
    return plots.explore(
        frames,
        "scale",
        row_titles=["cat", "a cup of coffee"],
        column_titles=["image", "standard", "robust", "answers"],
        caption="A caption.",
        cell_width=64,
    )


def bytes_of(picture: plots.Picture) -> np.ndarray:
    return np.rint(picture.pixels * 255)


class TestExplore:
    def test_rows_alone_are_one_frame(self):
        rows = [[plots.image(image(0))]]
        assert plots.explore(rows).frames == {"": rows}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([[None]],), "expected the number of cells to be at least 1, got 0"),
            (({},), "expected the number of cells to be at least 1, got 0"),
            (({"a": [[1]], "b": [[1]]},), "expected the slider's name for 2 frames, got none"),
        ],
    )
    def test_what_cannot_be_shown_is_refused(self, arguments, message):
        cell = plots.image(image(0))
        (frames,) = arguments
        if isinstance(frames, dict):
            frames = {name: [[cell] for _ in rows] for name, rows in frames.items()}
        with pytest.raises(ValueError, match=message):
            plots.explore(frames)

    def test_a_view_and_its_figure_begin_where_they_are_told(self):
        frames = {
            name: [[plots.image(np.full((2, 2, 3), level))]]
            for name, level in (("a", 0.0), ("b", 1.0))
        }
        made = plots.explore(frames, "brightness", start="b")
        (axes,) = made.figure().axes
        np.testing.assert_array_equal(axes.images[0].get_array(), 1)
        assert "<output>b</output>" in made.html(_media.Media())
        with pytest.raises(ValueError, match="expected start to be one of a, b, got c"):
            plots.explore(frames, "brightness", start="c")

    def test_titles_that_do_not_fit_are_refused(self):
        rows = [[plots.image(image(0))] * 2]
        with pytest.raises(ValueError, match="expected 1 row_titles, got 2"):
            plots.explore(rows, row_titles=["a", "b"])
        with pytest.raises(ValueError, match="expected 2 column_titles, got 1"):
            plots.explore(rows, column_titles=["a"])

    def test_another_cell_is_refused(self):
        @dataclasses.dataclass
        class Other:
            title: str = ""
            note: str = ""
            shape: tuple[int, int] = (1, 1)

            def draw(self, axes):
                pass

        with pytest.raises(TypeError, match="expected a Picture, Layers or a Ranking, got Other"):
            plots.explore([[Other()]])._repr_html_()

    def test_layers_are_of_one_shape(self):
        small, large = plots.image(np.zeros((2, 2, 3))), plots.image(np.zeros((3, 2, 3)))
        with pytest.raises(ValueError, match=r"expected pictures of one shape, got \[\(2, 2\), "):
            plots.Layers({"a": small, "b": large})

    def test_the_text_that_a_notebook_keeps_beside_it_is_short(self):
        assert "array" not in repr(view())
        assert "'scale'" in repr(view())

    def test_a_figure_shows_the_last_layer(self):
        cell = layers(0, "a title")
        figure = plots.grid([[cell]], cell_width=32)
        (axes,) = figure.axes
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown, cell.pictures["map"].pixels)
        assert cell.shape == (SIDE, SIDE)


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with everything that a page can have."""
    path = tmp_path_factory.mktemp("run") / "run"
    rng = np.random.default_rng(0)
    rows = [
        (f"method {number}", "undefined" if number == 4 else f"{value:.3f} [0.0, 1.0]", LONG)
        for number, value in enumerate(rng.normal(size=30))
    ]
    figure = Figure(figsize=(12, 2), dpi=100, facecolor="white")
    figure.text(0.1, 0.5, "a figure")
    with RunFolder(path, "demo") as run:
        run.save_config({"steps": 3}, "python demo.py --steps 3")
        run.save_arrays("maps", maps=np.zeros((3, 4)))
        sections = [
            Section("A view", "Of it.", views=[view()]),
            Section("Measured", table=Table(("method", "insertion", "classes"), rows)),
            Section(LONG, figures=[run.save_figure("figure", figure)]),
            Section("Sound", sounds=[run.save_sound("beep", np.zeros(80), 8000)]),
            Section(
                "Others", links=[Link("other.html", LONG, "a note", plots.image(image(0)))] * 2
            ),
        ]
        run.save_page("A demonstration", sections, "What is it?", "It is this.\n\n  python a.py")
        run.save_page("Another", [], name="other")
    return path


DEVICES = [
    pytest.param({**device, "color_scheme": scheme}, id=f"{name}, {scheme}")
    for name, device in (("desktop", {}), ("phone", PHONE))
    for scheme in ("light", "dark")
]


def seen(page) -> list:
    """The pictures of a page's views that can be seen now, row by row."""
    return page.locator(".view img:visible").all()


def pixels(picture) -> np.ndarray:
    """A picture as it is on the screen, each pixel once."""
    zoom = int(picture.bounding_box()["width"]) // SIDE
    return screenshot(picture)[zoom // 2 :: zoom, zoom // 2 :: zoom]


@pytest.mark.parametrize("device", DEVICES)
def test_a_page_can_be_read_by_all(browser, folder, device):
    with page_of(browser, folder / "index.html", **device) as page:
        page.locator("summary").click()
        check(page)
        dark = device["color_scheme"] == "dark"
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (contrast(paper, "rgb(0, 0, 0)") < 3) == dark
        page.get_by_role("button", name="Light" if dark else "Dark").click()
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (contrast(paper, "rgb(0, 0, 0)") < 3) != dark
        check(page)


def test_pictures_are_their_arrays_enlarged_in_whole_pixels(browser, folder):
    made = view()
    with page_of(browser, folder / "index.html") as page:
        pictures = page.locator(".view img:visible")
        assert pictures.count() == 6
        for place, scale in enumerate(SCALES):
            page.get_by_role("slider", name="scale").fill(str(place))
            assert page.locator("output").inner_text() == scale
            cells = [cell for row in made.frames[scale] for cell in row[:3]]
            wanted = [getattr(cell, "pictures", {}).get("map", cell) for cell in cells]
            for picture, shown in zip(wanted, seen(page), strict=True):
                np.testing.assert_array_equal(pixels(shown), bytes_of(picture))
            # Every pixel is a square of 4 x 4 of them.
            enlarged = screenshot(pictures.first)
            np.testing.assert_array_equal(enlarged, bytes_of(wanted[0]).repeat(4, 0).repeat(4, 1))
            likeliest = page.locator(".view figcaption:visible span").nth(1).inner_text()
            assert likeliest == (LONG if place == 1 else "lemon 98 %")
        page.get_by_role("button", name="larger pictures").click()
        assert pictures.first.bounding_box()["width"] == 5 * SIDE
        for _ in range(20):
            page.get_by_role("button", name="smaller pictures").click()
        assert pictures.first.bounding_box()["width"] == SIDE


def test_large_pictures_are_as_they_are_and_smaller_on_a_telephone(browser, tmp_path):
    large = plots.explore([[plots.image(np.zeros((100, 200, 3)), LONG)] * 2])
    with RunFolder(tmp_path / "run", "demo") as run:
        run.save_page("Large", [Section("Pictures", views=[large])])
    for device, width in (({}, 200), (PHONE, 150)):
        with page_of(browser, tmp_path / "run" / "index.html", **device) as page:
            boxes = [one.bounding_box() for one in page.locator("img").all()]
            assert [(box["width"], box["height"]) for box in boxes] == [(width, width / 2)] * 2
            # Beside each other.
            assert boxes[0]["y"] == boxes[1]["y"]
            check(page)


def test_names_are_texts_and_never_parts_of_the_page(browser, tmp_path):
    evil = """<b id="evil">'"&amp;</b><script>document.title = 1</script>\0"""
    cell = dataclasses.replace(layers(0, evil), note=evil)
    cell = dataclasses.replace(
        cell, pictures={evil + name: one for name, one in cell.pictures.items()}
    )
    made = plots.explore(
        {f"{evil}{place}": [[cell, plots.Ranking([evil], [0.5], evil)]] for place in range(2)},
        evil,
        row_titles=[evil],
        column_titles=[evil, evil],
        caption=evil,
    )
    with RunFolder(tmp_path / "run", "demo") as run:
        run.save_config({evil: evil}, evil)
        link = Link("other.html", evil, evil)
        run.save_page(evil, [Section(evil, evil, views=[made], links=[link])], evil, evil)
    (tmp_path / "notebook.html").write_text(f"<!doctype html>{made._repr_html_()}")
    shown = evil.replace("\0", "\N{REPLACEMENT CHARACTER}")
    for file in ("run/index.html", "notebook.html"):
        with page_of(browser, tmp_path / file) as page:
            frame = page if file.startswith("run") else page.frames[1]
            frame.get_by_role("slider").press("End")
            assert frame.locator("output").inner_text() == f"{shown}1"
            assert frame.locator("#evil").count() == 0
            assert frame.locator("h3").inner_text() == shown
            assert page.title() in ("", shown)


def test_layers_are_turned_by_pointing_pressing_and_the_keyboard(browser, folder):
    frame = view().frames[SCALES[0]]
    cell = frame[0][1]
    with page_of(browser, folder / "index.html") as page:

        def is_shown(layer: str, place: int = 1) -> bool:
            page.wait_for_timeout(20)
            wanted = bytes_of(frame[place // 3][place % 3].pictures[layer])
            return np.array_equal(pixels(seen(page)[place]), wanted)

        assert is_shown("map")
        pictures = page.locator(".turning:visible")
        pictures.first.hover()
        assert is_shown("original")
        assert is_shown("map", 2)
        page.mouse.move(0, 0)
        assert is_shown("map")
        pictures.first.click()
        page.mouse.move(0, 0)
        assert page.get_by_label("original").is_checked()
        assert is_shown("original")
        assert is_shown("original", 5)
        page.get_by_label("original").press("ArrowRight")
        assert is_shown("overlay")
        page.get_by_role("slider", name="scale").press("ArrowRight")
        assert page.get_by_role("slider", name="scale").get_attribute("aria-valuetext") == "0.5"
        later = view().frames["0.5"][0][1].pictures["overlay"]
        np.testing.assert_array_equal(pixels(seen(page)[1]), bytes_of(later))
        alt = pictures.first.locator("img:visible").get_attribute("alt")
        assert alt == f"cat, standard, {LONG}: overlay"
    assert cell.title == "lemon 98 %"


def test_a_tap_turns_the_layers(browser, folder):
    with page_of(browser, folder / "index.html", **PHONE) as page:
        for layer in ("original", "overlay", "map"):
            page.locator(".turning:visible").first.tap()
            assert page.get_by_label(layer).is_checked()


def test_without_scripts_the_first_frame_is_seen(browser, folder):
    with page_of(browser, folder / "index.html", java_script_enabled=False) as page:
        assert page.locator(".view img:visible").count() == 6
        cell = view().frames[SCALES[0]][1][1]
        np.testing.assert_array_equal(pixels(seen(page)[4]), bytes_of(cell.pictures["map"]))


def test_pictures_stay_where_they_are_when_titles_need_another_line(browser, folder):
    with page_of(browser, folder / "index.html") as page:
        pictures = page.locator(".view .cell:nth-child(2) img:visible")
        before = pictures.first.bounding_box()
        page.get_by_role("slider", name="scale").fill("1")
        assert pictures.first.bounding_box() == before


def test_a_table_is_sorted_by_any_column(browser, folder):
    with page_of(browser, folder / "index.html") as page:
        column = page.locator(".sortable td:nth-child(2)")
        written = column.all_inner_texts()
        numbers = [float(text.split()[0]) for text in written if text != "undefined"]
        button = page.get_by_role("button", name="insertion")
        for order in ("ascending", "descending"):
            button.press("Enter")
            assert page.locator("th[aria-sort]").get_attribute("aria-sort") == order
            texts = column.all_inner_texts()
            assert texts[-1] == "undefined"
            found = [float(text.split()[0]) for text in texts[:-1]]
            assert found == sorted(numbers, reverse=order == "descending")
        page.get_by_role("button", name="method").click()
        names = page.locator(".sortable td:nth-child(1)").all_inner_texts()
        assert names == [f"method {number}" for number in range(30)]


def test_what_a_page_offers_leads_somewhere(browser, folder):
    with page_of(browser, folder / "index.html") as page:
        assert page.locator("#command").inner_text() == "python demo.py --steps 3"
        with page.expect_download() as download:
            page.get_by_role("link", name="maps.npz").click()
        with np.load(download.value.path()) as arrays:
            assert arrays["maps"].shape == (3, 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_notebook_shows_a_view_in_a_frame_of_its_own(browser, tmp_path, scheme):
    made = view()
    style = "<style>img { display: none !important; } div { color: red; }</style>"
    notebook = f"<!doctype html><title>notebook</title>{style}<div>{made._repr_html_()}</div>"
    (tmp_path / "notebook.html").write_text(notebook)
    with page_of(browser, tmp_path / "notebook.html", color_scheme=scheme) as page:
        frame = page.frame_locator("iframe")
        frame.get_by_role("slider", name="scale").fill("2")
        pictures = frame.locator(".view img:visible")
        assert pictures.count() == 6
        wanted = made.frames["1"][1][2].pictures["map"]
        enlarged = screenshot(pictures.last)
        np.testing.assert_array_equal(enlarged[2::4, 2::4], bytes_of(wanted))
        # As high as what it shows.
        inside = page.frames[1].evaluate("document.documentElement.scrollHeight")
        height = page.locator("iframe").bounding_box()["height"]
        assert 0 <= height - inside < 4
