"""Figures: what a colour says, and that the pixels of a saved figure are the image's."""

import io
import itertools
import logging

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.axis import Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from saliency_jax.runs import _text, plots

RNG = np.random.default_rng(0)
BRIGHTEST = matplotlib.colormaps["inferno"](1.0)[:3]
BLACK = matplotlib.colormaps["inferno"](0.0)[:3]


def saved(figure: Figure) -> np.ndarray:
    """The figure as a file holds it, (height, width, 3) in [0, 1]."""
    file = io.BytesIO()
    figure.savefig(file, dpi=figure.dpi)
    return np.asarray(Image.open(file).convert("RGB")) / 255


def ramp(size: int = 10) -> np.ndarray:
    return np.arange(size * size, dtype=float).reshape(size, size)


def test_an_image_is_shown_as_it_is():
    image = RNG.random((5, 4, 3), np.float32)
    np.testing.assert_array_equal(plots.image(image).pixels, image)


def test_a_grey_image_has_three_equal_channels():
    image = RNG.random((5, 4, 1))
    np.testing.assert_array_equal(plots.image(image).pixels, np.repeat(image, 3, axis=-1))


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), TypeError, "hold floats, got uint8"),
        (np.full((4, 4, 3), 1.5), ValueError, r"in \[0, 1\], got values from 1.5 to 1.5"),
        (np.full((4, 4, 3), -0.5), ValueError, r"in \[0, 1\], got values from -0.5"),
        (np.full((4, 4, 3), np.nan), ValueError, "finite"),
        (np.zeros((4, 4, 2)), ValueError, "1 or 3 channels, got 2"),
        (np.zeros((4, 4)), ValueError, "shape"),
        (np.zeros((2, 4, 4, 3)), ValueError, "shape"),
    ],
)
def test_what_is_no_image_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        plots.image(image)


def test_a_map_goes_from_black_at_zero_to_its_brightest_colour_at_the_percentile():
    cell = plots.saliency_map(ramp(), percentile=50)
    pixels = cell.pixels.reshape(-1, 3)
    # The median of 0 .. 99 is 49.5: half the pixels are at least that, and look the same.
    assert cell.note == "0 to 50 (50 % of pixels)"
    np.testing.assert_array_equal(pixels[0], BLACK)
    np.testing.assert_array_equal(pixels[50:], np.tile(BRIGHTEST, (50, 1)))
    assert (np.diff(pixels[:50].sum(axis=1)) >= 0).all()
    assert pixels[49].sum() > pixels[25].sum() > pixels[10].sum()


@pytest.mark.parametrize(
    ("value", "note"),
    [(0.0123, "0.012"), (9.87, "9.9"), (486.3, "486"), (4863.0, "4863"), (48630.0, "4.9e+04")],
)
def test_values_of_the_last_colour_are_written_as_one_reads_them(value, note):
    values = np.array([[0.0, value]])
    assert plots.saliency_map(values, percentile=100).note == f"0 to {note} (maximum)"
    assert plots.signed_map(-values, percentile=100).note == f"-{note} to {note} (maximum)"


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("draw", [plots.saliency_map, plots.signed_map])
def test_colours_do_not_depend_on_the_scale(draw, scale):
    np.testing.assert_array_equal(draw(ramp() * scale).pixels, draw(ramp()).pixels)


def test_few_strong_pixels_are_not_lost_by_the_percentile():
    lonely = np.zeros((20, 20))
    lonely[3, 4] = 2.0
    cell = plots.saliency_map(lonely, percentile=99)
    assert cell.note == "0 to 2 (maximum)"
    np.testing.assert_array_equal(cell.pixels[3, 4], BRIGHTEST)
    np.testing.assert_array_equal(cell.pixels[0, 0], BLACK)
    cell = plots.signed_map(-lonely, percentile=99)
    assert cell.note == "-2 to 2 (maximum)"
    np.testing.assert_array_equal(cell.pixels[3, 4], matplotlib.colormaps["RdBu_r"](0.0)[:3])


def test_a_map_of_zeros_is_drawn_and_named():
    zeros = np.zeros((4, 4))
    for cell in (plots.saliency_map(zeros), plots.overlay(np.ones((4, 4, 3)), zeros)):
        assert cell.note == "all zero"
    np.testing.assert_array_equal(
        plots.saliency_map(zeros).pixels, np.broadcast_to(BLACK, (4, 4, 3))
    )
    signed = plots.signed_map(zeros)
    assert signed.note == "all zero"
    assert np.unique(signed.pixels.reshape(-1, 3), axis=0).shape == (1, 3)
    assert signed.pixels.min() > 0.95


def test_a_signed_map_is_centred_at_zero():
    values = np.array([[-4.0, -1.0, 0.0, 1.0, 2.0]])
    pixels = plots.signed_map(values, percentile=100).pixels[0]
    red, blue = pixels[:, 0], pixels[:, 2]
    neutral = plots.signed_map(np.zeros((1, 1))).pixels[0, 0]
    np.testing.assert_array_equal(pixels[2], neutral)
    assert (blue > red)[:2].all()
    assert (red > blue)[3:].all()
    # The range is symmetric, though the values are not: 2 is half of 4, so it is paler than full.
    half = plots.signed_map(np.array([[-4.0, 2.0]]), percentile=100).pixels[0, 1]
    full = plots.signed_map(np.array([[-2.0, 2.0]]), percentile=100).pixels[0, 1]
    assert half.sum() > full.sum()


def test_a_negative_value_in_an_unsigned_map_is_not_clipped_away():
    with pytest.raises(
        ValueError, match=r"at least 0, got -1; a signed map is drawn by signed_map"
    ):
        plots.saliency_map(np.array([[-1.0, 2.0]]))


@pytest.mark.parametrize("percentile", [-1, 101, np.nan])
def test_a_percentile_out_of_range_is_refused(percentile):
    with pytest.raises(ValueError, match=r"percentile to be in \[0, 100\]"):
        plots.saliency_map(ramp(), percentile=percentile)


def test_an_overlay_leaves_grey_where_the_map_is_zero():
    image = RNG.random((1, 3, 3))
    cell = plots.overlay(image, np.array([[0.0, 1.0, 2.0]]), percentile=100)
    np.testing.assert_allclose(cell.pixels[0, 0], np.full(3, image[0, 0].mean() / 2))
    np.testing.assert_allclose(cell.pixels[0, 2], BRIGHTEST)
    half = np.array(matplotlib.colormaps["inferno"](0.5)[:3])
    np.testing.assert_allclose(cell.pixels[0, 1], image[0, 1].mean() / 4 + half / 2)


@pytest.mark.usefixtures("entry_checks")
def test_an_overlay_needs_a_map_of_the_images_size():
    with pytest.raises(ValueError, match=r"\(4, 4\), got \(4, 5\)"):
        plots.overlay(np.zeros((4, 4, 3)), np.zeros((4, 5)))


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, "0 %"),
        (0.0049, "0.5 %"),
        (0.5, "50 %"),
        (0.994, "99.4 %"),
        (0.9996, "100 %"),
        (1, "100 %"),
    ],
)
def test_percent(fraction, text):
    assert plots.percent(fraction) == text


def test_a_saved_figure_holds_every_pixel_enlarged_by_a_whole_number():
    images = RNG.integers(0, 256, (2, 3, 8, 6, 3)) / 255
    figure = plots.grid(
        [[plots.image(image, "title", "note") for image in row] for row in images],
        row_titles=["first", "second"],
        column_titles=["a", "b", "c"],
        caption="caption",
        cell_width=60,
    )
    picture = saved(figure)
    height, width, _ = picture.shape
    for axes, image in zip(figure.axes, images.reshape(-1, 8, 6, 3), strict=True):
        x0, y0, x1, y1 = axes.get_position().extents
        rows = slice(round((1 - y1) * height), round((1 - y0) * height))
        columns = slice(round(x0 * width), round(x1 * width))
        enlarged = image.repeat(10, axis=0).repeat(10, axis=1)
        np.testing.assert_allclose(picture[rows, columns], enlarged, atol=1e-9)


def test_texts_stay_inside_the_figure_and_off_the_pictures():
    cells = [
        plots.image(
            np.zeros((4, 4, 3)), "a title much longer than a cell is wide", "and a note " * 9
        ),
        plots.saliency_map(ramp(), "computer keyboard 99.7 %"),
        plots.Ranking(["computer keyboard", "lemon"], [0.75, 0.25], "likeliest"),
    ]
    figure = plots.grid(
        [cells, cells],
        row_titles=["tiny-imagenet-standard"] * 2,
        column_titles=["tiny-imagenet-standard and more"] * 3,
        caption="a caption " * 300,
        cell_width=150,
    )
    picture = saved(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
    height, width, _ = picture.shape
    # In each row three titles, two notes and the row's own; three columns' and the caption.
    assert len(texts) == 2 * (3 + 2 + 1) + 3 + 1
    for box in texts:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    for box, axes in itertools.product(texts, figure.axes):
        assert not box.overlaps(axes.get_window_extent(renderer).padded(-1))
    for first, second in itertools.combinations(texts, 2):
        assert not first.padded(-1).overlaps(second)


def test_a_number_stays_with_its_sign():
    cell = plots.image(np.zeros((4, 4, 3)), "computer keyboard 48 %")
    (title, *_) = (
        text.get_text()
        for text in plots.grid([[cell]], cell_width=130).texts
        if "computer" in text.get_text()
    )
    first, second = title.split("\n")
    assert (first, second.split()) == ("computer keyboard", ["48", "%"])


def test_a_long_name_breaks_behind_its_hyphens():
    width = _text.text_width("tiny-imagenet-st")
    assert _text.wrapped("tiny-imagenet-standard", width) == "tiny-imagenet-\nstandard"
    # Not a number's.
    assert (
        "-50" in _text.wrapped("under PGD-50 and -50", _text.text_width("and -50")).split("\n")[-1]
    )


def test_an_empty_place_stays_white():
    picture = saved(plots.grid([[plots.image(np.zeros((4, 4, 3))), None]], cell_width=40))
    _, width, _ = picture.shape
    assert (picture[:, width // 2 + 1 :] == 1).all()
    assert (picture[:, : width // 2] == 0).any()


def test_large_pictures_are_reduced_to_the_cell():
    figure = plots.grid([[plots.image(np.full((500, 1000, 3), 0.25))]], cell_width=100)
    x0, y0, x1, y1 = figure.axes[0].get_window_extent().extents
    assert (round(x1 - x0), round(y1 - y0)) == (100, 50)


@pytest.mark.parametrize(
    ("rows", "titles", "message"),
    [
        ([], {}, "number of cells to be at least 1, got 0"),
        ([[None]], {}, "number of cells to be at least 1, got 0"),
        ([[plots.image(np.zeros((2, 2, 3)))]], {"row_titles": ["a", "b"]}, "1 row_titles, got 2"),
        ([[plots.image(np.zeros((2, 2, 3)))]], {"column_titles": ["a", "b"]}, "1 column_titles"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(rows, titles, message):
    with pytest.raises(ValueError, match=message):
        plots.grid(rows, **titles)


def line(name, y, **changes):
    x = np.array([1, 2, 4, 8])
    y = np.asarray(y, float)
    return plots.Curve(**{"name": name, "x": x, "y": y, "low": y - 1, "high": y + 1, **changes})


def test_curves_are_drawn_where_they_are_with_one_colour_for_one_name():
    panels = {
        "score": [line("a", [0, 1, 2, 3]), line("b", [3, 2, 1, 0])],
        "variation": [line("b", [5, 6, 7, 8])],
        "slope": [line("c", [0, 0, 0, 0])],
        "distance": [line("a", [1, 1, 1, 1])],
    }
    figure = plots.curves(panels, "steps", log_base=2)
    saved(figure)
    drawn = {axes.get_title(): axes for axes in figure.axes if axes.lines}
    assert list(drawn) == list(panels)
    colors = {}
    for title, axes in drawn.items():
        assert axes.get_xlabel() == "steps"
        assert axes.get_xscale() == "log"
        for curve, drawn_line, band in zip(
            panels[title], axes.lines, axes.collections, strict=True
        ):
            np.testing.assert_array_equal(drawn_line.get_xydata(), np.stack([curve.x, curve.y], 1))
            heights = band.get_paths()[0].vertices[:, 1]
            assert (heights.min(), heights.max()) == (curve.low.min(), curve.high.max())
            assert colors.setdefault(curve.name, drawn_line.get_color()) == drawn_line.get_color()
    assert len(set(colors.values())) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


def test_a_long_legend_stays_inside_the_figure():
    x = np.arange(3)
    lines = [plots.Curve(f"modulation {name}", x, x, x, x) for name in "ABCDEFGHI"]
    figure = plots.curves({"all": lines, "each": lines}, "ratio (dB)")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (legend,) = figure.legends
    box = legend.get_window_extent(renderer)
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert not any(axes.get_tightbbox(renderer).overlaps(box) for axes in figure.axes)
    assert min(axes.bbox.height for axes in figure.axes) > 100


def test_intervals_are_drawn_on_the_lines_of_their_names():
    first = line("a", [0.2, 0.6, 0.4], x=np.arange(3))
    second = line("b", [0.3, 0.5, 0.9], x=np.arange(3))
    names = ["first", "an $x$", "random"]
    figure = plots.intervals({"p": [first, second], "q": [second]}, names, ruled_off=1)
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim() == (2.5, -0.5)
    figure.canvas.draw()
    assert [label.get_text() for label in left.get_yticklabels()] == names
    for curve, dots in zip((first, second), left.containers, strict=True):
        marks, _, (bars,) = dots.lines
        x, y = marks.get_data()
        np.testing.assert_allclose(x, curve.y)
        # Nearest to its own name, also where two curves share a line.
        np.testing.assert_allclose(np.round(y), [0, 1, 2])
        ends = np.stack(bars.get_segments())
        np.testing.assert_allclose(ends[:, :, 0], np.stack([curve.low, curve.high], 1))
    (marks, _, _), (others, _, _) = (axes.containers[-1].lines for axes in (left, right))
    assert marks.get_color() == others.get_color() != left.containers[0].lines[0].get_color()
    np.testing.assert_array_equal(marks.get_ydata(), others.get_ydata())
    (rule,) = (each for each in left.lines if list(each.get_ydata()) == [1.5, 1.5])
    assert list(rule.get_xdata()) == [0, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize(
    ("panels", "names", "message"), [({}, ["a"], "panels"), ({"p": []}, [], "names")]
)
def test_intervals_of_nothing_are_refused(panels, names, message):
    with pytest.raises(ValueError, match=f"expected the number of {message} to be at least 1"):
        plots.intervals(panels, names)


def test_a_box_is_outlined_from_its_inside():
    marked = plots.outlined(np.zeros((6, 6, 1)), np.array([1, 2, 5, 6]))
    expected = np.zeros((6, 6))
    expected[1:5, 2:6] = 1
    expected[2:4, 3:5] = 0
    np.testing.assert_array_equal(marked[..., 0], expected)
    twice = plots.outlined(marked, np.array([0, 0, 1.2, 0.9]), (0, 1, 0))
    np.testing.assert_array_equal(twice[0, 0], [0, 1, 0])
    np.testing.assert_array_equal(twice[1:], marked[1:])


@pytest.mark.usefixtures("entry_checks")
def test_a_curve_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"expected low to have the shape of x \(4,\), got \(3,\)"):
        line("a", np.zeros(4), low=np.zeros(3))
    with pytest.raises(ValueError, match="expected the number of panels to be at least 1, got 0"):
        plots.curves({}, "steps")


def test_a_gif_shows_the_figures_in_turn():
    shades = (0.0, 0.5, 1.0)
    figures = [plots.grid([[plots.image(np.full((8, 8, 3), shade))]]) for shade in shades]
    picture = Image.open(io.BytesIO(plots.gif(figures, milliseconds=120)))
    assert picture.n_frames == 3
    assert picture.info["loop"] == 0
    for frame, shade in enumerate(shades):
        picture.seek(frame)
        assert picture.info["duration"] == 120
        pixels = np.asarray(picture.convert("RGB")) / 255
        assert pixels.shape == saved(figures[frame]).shape
        middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
        np.testing.assert_allclose(middle, shade, atol=0.02)


def test_a_smaller_figure_of_a_gif_is_filled_up_with_white():
    one, two = (
        plots.grid([[plots.image(np.zeros((8, 8, 3)), title)]], cell_width=60)
        for title in ("a lemon", "a title of several lines")
    )
    assert saved(one).shape[0] < saved(two).shape[0]
    picture = Image.open(io.BytesIO(plots.gif([one, two])))
    pixels = np.asarray(picture.convert("RGB")) / 255
    assert pixels.shape == saved(two).shape
    height = saved(one).shape[0]
    np.testing.assert_allclose(pixels[:height], saved(one)[..., :3], atol=0.05)
    assert (pixels[height:] == 1).all()


@pytest.mark.usefixtures("entry_checks")
def test_what_makes_no_gif_is_refused():
    cell = plots.image(np.zeros((8, 8, 3)))
    with pytest.raises(ValueError, match="expected the number of figures to be at least 1, got 0"):
        plots.gif([])
    with pytest.raises(ValueError, match="expected milliseconds to be at least 20, got 5"):
        plots.gif([plots.grid([[cell]])], milliseconds=5)


NAMES = {
    "price": "$5 and $10",
    "mathematics": r"$\frac{$ ^_{} \n %s 100 %",
    "dollar": "$",
    "markup": "<b>&amp;",
    "lines": "a\nb\r\n\tc",
    "empty": "",
    "hidden": "_background",
    "long": "x" * 255,
    "wide": "W" * 60,
    "sentence": "the wire-haired and the smooth-haired " * 9,
    "hebrew": "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}",
    "accents": "e\N{COMBINING ACUTE ACCENT}",
    "joiner": "\N{ZERO WIDTH JOINER}\N{VARIATION SELECTOR-16}",
    "bytes that are no UTF-8": b"caf\xe9".decode(errors="surrogateescape"),
    "nul": "a\0b",
    # Neither is in any font.
    "unassigned": "a\U000e0fff\U000e0ffe",
}


def drawings(name: str) -> dict[str, Figure]:
    """A figure of each kind with a name wherever a name can be."""
    cell = plots.image(np.zeros((4, 4, 3)), name, name)
    x = np.arange(1, 4)
    return {
        "grid": plots.grid(
            [[cell, plots.Ranking([name] * 4, [0.0, 0.1, 0.2, 1.0], name, name)]] * 2,
            row_titles=[name, name],
            column_titles=[name, name],
            caption=name,
            cell_width=100,
        ),
        "curves": plots.curves(
            {name: [plots.Curve(name, x, x, x, x)]} | {"b": [plots.Curve("c", x, x, x, x)]},
            name,
            log_base=10,
        ),
    }


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_name_is_drawn_as_it_is_written_and_inside_the_figure(name):
    for kind, figure in drawings(name).items():
        # Warnings, as of missing glyphs, are errors here.
        height, width, _ = saved(figure).shape
        renderer = FigureCanvasAgg(figure).get_renderer()
        # Those at ticks are of numbers; some are outside of their axis and not drawn.
        ticks = {text for tick in figure.findobj(Tick) for text in tick.findobj(Text)}
        texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
        texts = [text for text in texts if text not in ticks]
        for text in texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= -1, (kind, text)
            assert box.x1 <= width + 1, (kind, text)
            assert box.y0 >= -1, (kind, text)
            assert box.y1 <= height + 1, (kind, text)
        if "$" in name:
            named = [text for text in texts if "$" in text.get_text()]
            assert named
            assert not any(text.get_parse_math() for text in named)


def test_a_dollar_is_a_dollar_pixel_by_pixel():
    as_mathematics, as_text = Figure(figsize=(2, 1)), Figure(figsize=(2, 1))
    as_mathematics.text(0, 0.5, "$5 and $10")
    as_text.text(0, 0.5, r"\$5 and \$10")
    assert (saved(as_mathematics) != saved(as_text)).any()
    assert _text.literal(as_mathematics) == frozenset()
    np.testing.assert_array_equal(saved(as_mathematics), saved(as_text))


def test_powers_at_the_ticks_of_a_logarithmic_axis_stay_mathematics():
    figure = drawings("$5")["curves"]
    saved(figure)
    ticks = [label for label in figure.axes[0].get_xticklabels() if "10^" in label.get_text()]
    assert ticks
    assert all(label.get_parse_math() for label in ticks)


def test_names_at_ticks_are_literal_too():
    figure = Figure(figsize=(3, 3))
    axes = figure.add_subplot()
    axes.set_yticks([0, 1], ["$5 and $10 \\frac{$", "a\0"])
    _text.literal(figure)
    saved(figure)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "$5 and $10 \\frac{$",
        "a\N{REPLACEMENT CHARACTER}",
    ]


CHINESE = "\N{CJK UNIFIED IDEOGRAPH-4E2D}"


def font_of(path, character: str) -> None:
    """Writes a font in which one character is a black square, and nothing else is there."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Squares Sans", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1000)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def fonts(monkeypatch):
    """The installed fonts, none of which has Chinese characters; more may be installed."""
    manager = font_manager.fontManager
    known = [font for font in manager.ttflist if "DejaVu" in font.name]
    monkeypatch.setattr(manager, "ttflist", known)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    caches = (_text._families, _text._font, _text._other_family, _text._pixels, _text._tell)
    for cache in caches:
        cache.cache_clear()
    yield manager
    for cache in caches:
        cache.cache_clear()


def test_a_character_that_the_font_lacks_is_taken_from_another(tmp_path, fonts):
    font_of(tmp_path / "squares.ttf", CHINESE)
    fonts.addfont(tmp_path / "squares.ttf")
    figure = Figure(figsize=(2, 1), dpi=100)
    text = figure.text(0.1, 0.1, CHINESE, fontsize=36)
    assert _text.literal(figure) == frozenset()
    assert text.get_text() == CHINESE
    # 36 points are 50 pixels; the square is black.
    assert (saved(figure) < 0.1).all(axis=-1).sum() == pytest.approx(50 * 50, rel=0.05)


def test_a_character_that_no_font_has_is_replaced_and_told_once(fonts, caplog):
    with caplog.at_level(logging.WARNING, "saliency_jax"):
        for _ in range(2):
            figure = plots.grid([[plots.image(np.zeros((4, 4, 3)), f"a{CHINESE}b")]])
    saved(figure)
    assert [text.get_text() for text in figure.texts if "a" in text.get_text()] == ["a\ufffdb"]
    assert _text.literal(figure) == {CHINESE}
    (message,) = caplog.messages
    assert message.startswith(f"No font that is installed has {CHINESE} (U+4E2D); ")


def test_lines_break_where_they_are_full_also_between_wide_characters(fonts):
    for text in ("W" * 50, "il" * 90, f"{CHINESE}" * 30, "one two three four five six seven"):
        lines = _text.wrapped(text, 100).split("\n")
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(_text.text_width(line) <= 100 for line in lines)
        # Full: the first piece of the next line would not have fitted.
        for line, following in itertools.pairwise(lines):
            first = following.split(" ")[0] if " " in text else following[0]
            assert _text.text_width(f"{line} {first}" if " " in text else line + first) > 100


def test_a_name_that_its_bar_does_not_hold_ends_before_the_share():
    names = ["W" * 80, "the international classification " * 5, "lemon"]
    figure = plots.grid([[plots.Ranking(names, [1.0, 0.5, 0.2])]], cell_width=200)
    renderer = FigureCanvasAgg(figure).get_renderer()
    written, shares = figure.axes[0].texts[::2], figure.axes[0].texts[1::2]
    for name, share in zip(written, shares, strict=True):
        assert not name.get_window_extent(renderer).overlaps(share.get_window_extent(renderer))
    for first, second in itertools.pairwise(written):
        assert not first.get_window_extent(renderer).overlaps(second.get_window_extent(renderer))
    assert written[0].get_text().endswith("\N{HORIZONTAL ELLIPSIS}")
    assert written[2].get_text() == "lemon"


@pytest.mark.parametrize(
    ("names", "fractions", "message"),
    [([], [], "number of names to be at least 1"), (["a"], [0.1, 0.2], "expected 1 fractions")],
)
def test_a_ranking_that_does_not_fit_is_refused(names, fractions, message):
    with pytest.raises(ValueError, match=message):
        plots.Ranking(names, fractions)


KINDS = {
    "bfloat16": lambda values: jnp.asarray(values, jnp.bfloat16),
    "float16": lambda values: values.astype(np.float16),
    "float32 in JAX": jnp.asarray,
    "big-endian": lambda values: values.astype(">f4"),
    "long double": lambda values: values.astype(np.longdouble),
    "Fortran": np.asfortranarray,
}


@pytest.mark.usefixtures("entry_checks")
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_kind_have_the_same_colours(kind):
    # Eighths are exact in all of them.
    values = np.arange(8).reshape(2, 4) / 8
    same = KINDS[kind](values.astype(np.float32))
    image = np.repeat(values[..., None], 3, axis=-1)
    for drawn, expected in (
        (plots.saliency_map(same), plots.saliency_map(values)),
        (plots.signed_map(same - same.mean()), plots.signed_map(values - values.mean())),
        (plots.image(KINDS[kind](image.astype(np.float32))), plots.image(image)),
        (plots.overlay(image, same), plots.overlay(image, values)),
    ):
        np.testing.assert_array_equal(drawn.pixels, expected.pixels)
        assert drawn.note == expected.note
    curve = plots.Curve("a", same[0], same[0], same[0], same[1])
    (line,) = plots.curves({"a": [curve]}, "x").axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), values[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("draw", [plots.saliency_map, plots.signed_map])
def test_a_map_that_is_not_finite_is_refused(draw, value):
    with pytest.raises(ValueError, match="to be finite, got 1 infinite or nan among its 4 values"):
        draw(np.array([[0.0, 1.0], [value, 2.0]]))


def test_equal_values_single_pixels_and_the_ends_of_the_number_range_are_drawn():
    for values in (np.full((3, 3), 2.0), np.ones((1, 1)), np.full((2, 2), 1.7e308)):
        np.testing.assert_array_equal(
            plots.saliency_map(values).pixels, np.broadcast_to(BRIGHTEST, (*values.shape, 3))
        )
    smallest = plots.saliency_map(np.array([[0.0, 5e-324]]), percentile=100)
    np.testing.assert_array_equal(smallest.pixels[0], [BLACK, BRIGHTEST])
    saved(plots.grid([[smallest]]))


@pytest.mark.parametrize("shape", [(1, 3000, 1), (3000, 1, 3)])
def test_a_picture_of_one_row_or_column_is_a_stripe(shape):
    figure = plots.grid([[plots.image(np.zeros(shape))]], cell_width=96)
    height, width, _ = saved(figure).shape
    assert max(height, width) < 1000
    box = figure.axes[0].get_window_extent()
    assert min(box.width, box.height) >= 3
    dark = (saved(figure) == 0).all(axis=-1).sum()
    assert dark == pytest.approx(box.width * box.height, rel=0.01)


def test_a_figure_larger_than_can_be_drawn_is_refused():
    cell = plots.image(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="of at most 65535 pixels on a side, got 81616 x 220"):
        plots.grid([[cell]] * 400)


def test_more_curves_than_colours_differ_in_their_lines():
    x = np.arange(3)
    names = [f"_{name}" for name in "abcdefghijklmno"]
    figure = plots.curves({"all": [plots.Curve(name, x, x, x, x) for name in names]}, "x")
    kinds = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(kinds) == len(names)
    # Matplotlib by itself leaves out names that begin with an underscore.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
