"""A run's folder: whole or not there, never over another, and its page needs nothing else."""

import base64
import io
import json
import re
import wave
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from saliency_jax.runs import Link, RunFolder, Section, Table, file_name, plots


class Page(HTMLParser):
    """The texts, tags and outside addresses of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(output, name="demo", error: BaseException | None = None) -> RunFolder:
    with RunFolder(output, name) as run:
        run.save_arrays("numbers", ones=jnp.ones((2, 3)), labels=np.arange(3))
        if error is not None:
            raise error
    return run


def test_a_finished_run_has_everything(in_a_folder):
    run = write(in_a_folder / "a" / "b" / "run")
    assert run.path == in_a_folder / "a" / "b" / "run"
    assert [path.name for path in run.path.iterdir()] == ["numbers.npz"]
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]
    with np.load(run.path / "numbers.npz") as arrays:
        np.testing.assert_array_equal(arrays["ones"], np.ones((2, 3)))
        np.testing.assert_array_equal(arrays["labels"], [0, 1, 2])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("output", [None, "a/b/run", "run"])
def test_a_failed_run_leaves_nothing_not_even_the_folders_above(in_a_folder, output, error):
    with pytest.raises(error):
        write(output, error=error("expected no error"))
    assert list(in_a_folder.iterdir()) == []


def test_a_failed_run_leaves_what_others_wrote(in_a_folder):
    write("runs/mine")
    with pytest.raises(ValueError, match="expected"):
        write(None, error=ValueError("expected no error"))
    assert [path.name for path in (in_a_folder / "runs").iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", ["full folder", "empty folder", "file", "dangling link"])
def test_what_exists_is_never_overwritten(in_a_folder, kind):
    place = in_a_folder / "run"
    if kind == "file":
        place.write_text("mine")
    elif kind == "dangling link":
        place.symlink_to("nowhere")
    else:
        place.mkdir()
    if kind == "full folder":
        (place / "numbers.npz").write_text("mine")
    with pytest.raises(FileExistsError, match="expected run not to exist"):
        write("run")
    assert [path.name for path in in_a_folder.iterdir()] == ["run"]
    if kind == "full folder":
        assert (place / "numbers.npz").read_text() == "mine"


def test_default_folders_are_numbered():
    assert [write(None).path.as_posix() for _ in range(3)] == [
        "runs/demo-001",
        "runs/demo-002",
        "runs/demo-003",
    ]
    assert write(None, "other").path.as_posix() == "runs/other-001"


def test_two_default_runs_at_once_get_two_folders():
    with RunFolder(None, "demo") as slow:
        slow.save_arrays("slow", x=np.zeros(1))
        quick = write(None)
    assert (slow.path.name, quick.path.name) == ("demo-002", "demo-001")
    assert (slow.path / "slow.npz").exists()
    assert not (quick.path / "slow.npz").exists()


def test_a_run_into_a_folder_that_was_filled_meanwhile_fails_and_spares_it(in_a_folder):
    with pytest.raises(OSError, match="not empty"), RunFolder("run", "demo") as run:  # noqa: PT012
        run.save_arrays("numbers", x=np.zeros(1))
        (in_a_folder / "run").mkdir()
        (in_a_folder / "run" / "theirs").touch()
    assert [path.name for path in in_a_folder.iterdir()] == ["run"]
    assert [path.name for path in (in_a_folder / "run").iterdir()] == ["theirs"]


def test_a_place_that_cannot_be_written_is_named_at_once(in_a_folder):
    (in_a_folder / "file").write_text("mine")
    with pytest.raises(OSError, match=r"expected a folder that can be written at file/a/run, got"):
        write("file/a/run")
    assert [path.name for path in in_a_folder.iterdir()] == ["file"]
    assert (in_a_folder / "file").read_text() == "mine"


def test_the_config_holds_settings_and_versions(in_a_folder):
    with RunFolder("run", "demo") as run:
        run.save_config({"steps": 3, "output": in_a_folder, "classes": ("lemon", "goose")})
    config = json.loads((in_a_folder / "run" / "config.json").read_text())
    assert config["settings"] == {
        "steps": 3,
        "output": str(in_a_folder),
        "classes": ["lemon", "goose"],
    }
    assert {"python", "jax", "saliency-jax"} <= set(config["versions"])


def test_the_page_needs_no_other_file_and_escapes_names(in_a_folder):
    figure = Figure(figsize=(1, 1), dpi=50)
    figure.add_subplot().plot([0, 1])
    evil = "<script>alert('x')</script>"
    with RunFolder("run", "demo") as run:
        run.save_config({"model": evil})
        section = Section(
            evil, "a text", [run.save_figure("plot", figure)], Table((evil, "n"), [(evil, "3")])
        )
        run.save_page("A title & more", [section, Section("only a title")], "a question")
    html = (in_a_folder / "run" / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    # The page's own: one before it is shown, one after.
    assert page.tags.count("script") == 2
    # The section's title, the table's header and cell, the settings.
    assert page.texts.count(evil) == 4
    assert {"A title & more", "a question", "a text", "only a title", "n", "3"} <= set(page.texts)
    (address,) = page.addresses
    encoded = address.removeprefix("data:image/png;base64,")
    assert base64.b64decode(encoded) == (in_a_folder / "run" / "plot.png").read_bytes()
    assert not re.search(r"https?://|url\(|@import", html)


def test_a_page_says_how_to_repeat_the_run_and_what_its_arrays_hold(in_a_folder):
    with RunFolder("run", "demo") as run:
        run.save_config({"steps": 3}, "python demo.py --classes lemon 'red wine'")
        run.save_arrays("some maps", maps=np.zeros((3, 4, 5)), labels=np.arange(3))
        about = "\n  python demo.py\n\nIt counts,\nand ends.\n"
        run.save_page("A title", [], "What is it?", about)
    html = (in_a_folder / "run" / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "python demo.py --classes lemon 'red wine'" in page.texts
    assert page.addresses == ["some%20maps.npz"]
    assert (in_a_folder / "run" / "some maps.npz").exists()
    assert any("maps (3, 4, 5), labels (3)" in text for text in page.texts)
    assert {"What is it?", "python demo.py", "It counts, and ends."} <= set(page.texts)
    config = json.loads((in_a_folder / "run" / "config.json").read_text())
    assert config["command"] == "python demo.py --classes lemon 'red wine'"


def test_a_folder_has_pages_of_other_names_that_its_page_leads_to(in_a_folder):
    with RunFolder("run", "demo") as run:
        run.save_page("Lemon", [], name="lemon")
        picture = plots.image(np.zeros((4, 4, 3)))
        run.save_page(
            "All", [Section("Classes", links=[Link("lemon.html", "Lemon", "a", picture)])]
        )
    assert everything_in(in_a_folder / "run") == ["index.html", "lemon.html"]
    page = Page((in_a_folder / "run" / "index.html").read_text(encoding="utf-8"))
    assert page.addresses[0] == "lemon.html"
    assert page.addresses[1].startswith("data:image/webp;base64,")


def noise(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side, 3))


def shown_in(html: str) -> list[np.ndarray]:
    """The pictures that a page has inside, decoded."""
    encoded = re.findall(r"data:image/\w+;base64,([^\"]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in encoded]


def test_small_pictures_lose_nothing_and_equal_ones_are_written_once(in_a_folder):
    images = [noise(16, seed) for seed in range(2)]
    cells = [plots.image(image) for image in (*images, images[0])]
    with RunFolder("run", "demo") as run:
        run.save_page("A title", [Section("a", views=[plots.explore([cells])])] * 2)
    html = (in_a_folder / "run" / "index.html").read_text(encoding="utf-8")
    shown = shown_in(html)
    assert len(shown) == 2
    for image, picture in zip(images, shown, strict=True):
        np.testing.assert_array_equal(picture, np.rint(image * 255))
    assert html.count("data-same=") == 4


def test_a_page_that_would_be_too_large_is_coarser(in_a_folder):
    # What cannot be compressed: 4.2 MB, or 5.6 as text.
    large, small = noise(1180), noise(16)
    figure = Figure(figsize=(11.8, 11.8), dpi=100)
    figure.figimage(large)
    with RunFolder("run", "demo") as run:
        name = run.save_figure("noise", figure)
        section = Section("a", figures=[name], views=[plots.explore([[plots.image(small)]])])
        run.save_page("A title", [section])
    content = (in_a_folder / "run" / "index.html").read_bytes()
    assert (in_a_folder / "run" / "noise.png").stat().st_size > 4_000_000
    assert len(content) < 5_000_000
    exact, coarse = shown_in(content.decode())
    np.testing.assert_array_equal(exact, np.rint(small * 255))
    assert coarse.shape == large.shape
    assert 0.01 < np.abs(coarse / 255 - large).mean() < 0.25


def test_a_page_that_cannot_be_small_is_written_with_a_word(in_a_folder, caplog):
    table = Table(("a",), [("long" * 1_300_000,)])
    with RunFolder("run", "demo") as run:
        run.save_page("A title", [Section("a", table=table)])
    (record,) = caplog.records
    assert "the page 'A title' has 5.2 MB, more than 5.0 MB" in record.getMessage()
    assert (in_a_folder / "run" / "index.html").exists()


def test_a_page_with_a_figure_that_was_not_saved_fails(in_a_folder):
    with pytest.raises(FileNotFoundError), RunFolder("run", "demo") as run:
        run.save_page("title", [Section("section", figures=["missing"])])
    assert list(in_a_folder.iterdir()) == []


def test_a_table_is_aligned():
    table = Table(("class", "p", "seen as"), [("lemon", "98 %", "lemon"), ("a", "7 %", "")])
    assert str(table).splitlines() == [
        "class     p  seen as",
        "lemon  98 %  lemon",
        "a       7 %",
    ]
    assert str(Table(("a", "b"), [])) == "a  b"


def test_a_notebook_shows_a_table_with_its_numbers_marked():
    assert Table(("a<b", "n"), [("x & y", "3")])._repr_html_().splitlines() == [
        "<table>",
        '<tr><th>a&lt;b</th><th class="number">n</th></tr>',
        '<tr><td>x &amp; y</td><td class="number">3</td></tr>',
        "</table>",
    ]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 2 cells in a row, got 1"):
        Table(("a", "b"), [("1",)])


def test_an_animation_is_in_the_page(in_a_folder):
    figures = []
    for number in (1, 2):
        figure = Figure(figsize=(1, 1), dpi=50)
        figure.add_subplot().plot([0, number])
        figures.append(figure)
    with RunFolder("run", "demo") as run:
        names = [run.save_animation("growth", figures), run.save_figure("growth", figures[0])]
        run.save_page("A title", [Section("section", figures=names)])
    moving, still = Page((in_a_folder / "run" / "index.html").read_text(encoding="utf-8")).addresses
    for address, kind in ((moving, "gif"), (still, "png")):
        encoded = address.removeprefix(f"data:image/{kind};base64,")
        content = (in_a_folder / "run" / f"growth.{kind}").read_bytes()
        assert base64.b64decode(encoded) == content


def test_a_sound_is_in_the_page_and_a_file_of_its_own(in_a_folder):
    with RunFolder("run", "demo") as run:
        names = [run.save_sound("beep", np.array([0.0, 0.5, -1.0]), 8000)]
        run.save_page("A title", [Section("section", sounds=names)])
    content = (in_a_folder / "run" / "beep.wav").read_bytes()
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 3)
    page = Page((in_a_folder / "run" / "index.html").read_text(encoding="utf-8"))
    assert page.tags.count("audio") == 1
    assert "beep" in page.texts
    (address,) = page.addresses
    assert base64.b64decode(address.removeprefix("data:audio/wav;base64,")) == content


def work(output, settings, error: BaseException | None = None):
    """A run that counts up in its unfinished folder, and the number it came to."""
    with RunFolder(output, "demo") as run:
        folder = run.unfinished(settings)
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir())) + 1
        (folder / str(number)).touch()
        if error is not None:
            raise error
    return number


@pytest.mark.parametrize("output", [None, "a/run"])
def test_unfinished_work_waits_for_the_same_settings_and_goes_when_it_is_finished(
    in_a_folder, output
):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            work(output, {"steps": 3}, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        work(output, {"steps": 4}, KeyboardInterrupt())
    assert work(output, {"steps": 3}) == 3
    parent = in_a_folder / (output or "runs/demo-001")
    left = [path.name for path in parent.parent.iterdir() if path != parent]
    assert len(left) == 1
    assert left[0].endswith(".unfinished")
    if output is None:
        assert work(output, {"steps": 4}) == 2
        assert [path.name for path in parent.parent.iterdir() if path.name[0] == "."] == []


def test_a_run_that_asked_for_no_work_leaves_nothing_unfinished(in_a_folder):
    with pytest.raises(KeyboardInterrupt), RunFolder("a/run", "demo") as run:  # noqa: PT012
        run.unfinished({"steps": 3})
        raise KeyboardInterrupt
    assert list(in_a_folder.iterdir()) == []


def test_arrays_of_any_name_and_kind_are_read_back(in_a_folder):
    arrays = {
        "name": np.arange(3),
        "self": np.ones((2, 2), np.float32),
        "file": jnp.asarray([1.5, -2.0], jnp.bfloat16),
        "arr_0": np.array(["lemon", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]),
        "key": jax.random.key(3),
        "big": np.arange(3, dtype=">f8"),
    }
    with RunFolder("run", "demo") as run:
        run.save_arrays("numbers", **arrays)
    with np.load(in_a_folder / "run" / "numbers.npz") as stored:
        assert set(stored) == set(arrays)
        for name in ("name", "self", "arr_0", "big"):
            np.testing.assert_array_equal(stored[name], arrays[name])
        # NumPy by itself would give two bytes that mean nothing.
        assert stored["file"].dtype == np.float32
        np.testing.assert_array_equal(stored["file"], [1.5, -2.0])
        np.testing.assert_array_equal(stored["key"], jax.random.key_data(arrays["key"]))


@pytest.mark.parametrize("name", ["a/b", "../a", "/a", "b/", "a\0"])
def test_a_name_that_leads_out_of_the_folder_is_refused(in_a_folder, name):
    with RunFolder("run", "demo") as run:
        figure = Figure(figsize=(1, 1))
        for save in (
            lambda: run.save_arrays(name, x=np.zeros(1)),
            lambda: run.save_figure(name, figure),
        ):
            with pytest.raises(ValueError, match=r"expected the name of a file, got .*file_name"):
                save()
    assert everything_in(in_a_folder) == ["run"]


def everything_in(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tiny-imagenet-robust", "tiny-imagenet-robust"),
        ("../../etc", "etc"),
        ("a\nb\0c", "a-b-c"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("$ %", "unnamed"),
        (".hidden", "hidden"),
        ("\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 80, "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 33),
        ("x" * 300, "x" * 100),
        ("\udce9t\u00e9", "t\u00e9"),
    ],
)
def test_any_text_makes_the_name_of_a_file(in_a_folder, text, name):
    assert file_name(text) == name
    (in_a_folder / f"{name}.npz").touch()


def test_names_that_are_no_unicode_or_in_no_font_cost_no_run(in_a_folder):
    name = "\udce9 $a$ \U000e0fff"
    with RunFolder("run", "demo") as run:
        run.save_config({"image": name})
        figure = Figure(figsize=(2, 1), dpi=50)
        figure.text(0, 0, name)
        table = Table((name,), [(name,)])
        print(table)
        run.save_page(name, [Section(name, name, [run.save_figure("a", figure)], table)], name)
    page = Page((in_a_folder / "run" / "index.html").read_text(encoding="utf-8"))
    assert any(
        text.startswith("No font that is installed has \U000e0fff (U+E0FFF)") for text in page.texts
    )


def test_a_table_of_wide_characters_and_of_broken_lines_is_aligned():
    wide = "\N{CJK UNIFIED IDEOGRAPH-4E2D}\N{CJK UNIFIED IDEOGRAPH-6587}"
    table = Table(("class", "n"), [(wide, "1"), ("a\nb", "10")])
    assert str(table).splitlines() == ["class   n", f"{wide}    1", "a b    10"]


def test_two_runs_at_the_same_work_are_told_apart():
    with RunFolder("first", "demo") as first:
        folder = first.unfinished({"steps": 3})
        assert first.unfinished({"steps": 3}) == folder
        # Of the same output: it takes its place only at the end.
        with (
            pytest.raises(BlockingIOError, match="expected no other process at work in"),
            RunFolder("first", "demo") as second,
        ):
            second.unfinished({"steps": 3})
        with pytest.raises(KeyError), RunFolder("first", "demo") as second:  # noqa: PT012
            second.unfinished({"steps": 4})
            raise KeyError
    assert [path.name for path in first.path.parent.iterdir()] == ["first"]
