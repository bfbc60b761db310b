"""Text as it is written: never as mathematics, and in a font that has its characters."""

import contextlib
import functools
import itertools
import logging
import re
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

# What stands for a character that cannot be shown.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Control characters, and halves of characters, which names of files that are no UTF-8 have.
_UNPRINTABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# Fonts of mere boxes; fonts of TeX, whose letters are not where Unicode has them.
_NO_TEXT = re.compile(r"\.?Last ?Resort.*|cm[a-z]+10|STIXNonUnicode|STIXSize.*", re.IGNORECASE)
# Of the figures' texts, in points, and of the figures, in pixels an inch.
FONT_SIZE, DPI = 8.5, 100
# The height of a line of them in pixels.
LINE = 17
_MOST_NAMED = 20

_logger = logging.getLogger("saliency_jax")
_unshown: "weakref.WeakKeyDictionary[Figure, set[str]]" = weakref.WeakKeyDictionary()


class Face(NamedTuple):
    """What a text's font is chosen by, apart from its characters."""

    families: tuple[str, ...] = ("sans-serif",)
    weight: Any = "normal"
    style: Any = "normal"

    def properties(self, families: Sequence[str] = ()) -> FontProperties:
        names = list(families or self.families)
        return FontProperties(family=names, style=self.style, weight=self.weight, size=FONT_SIZE)


NORMAL, BOLD = Face(), Face(weight="bold")


def printable(text: str) -> str:
    """The text with its control characters and halves of characters replaced."""
    return _UNPRINTABLE.sub(REPLACEMENT, text)


def one_line(text: str) -> str:
    """The text on one line, with single spaces."""
    return printable(" ".join(text.split()))


def columns(text: str) -> int:
    """How wide a terminal writes a text: Chinese characters take two columns, accents none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if _is_wide(character) else 1
        for character in text
    )


def literal(figure: Figure) -> frozenset[str]:
    """Has a figure's texts, ticks of numbers excepted, drawn as they are written.

    A character that the text's own font lacks is drawn in another that is installed; one that no
    font has is replaced, with a word in the log.

    Returns:
      The characters of this figure that no font has.
    """
    unshown = _unshown.setdefault(figure, set())
    before = set(unshown)
    numbers = set()
    for axis in figure.findobj(Axis):
        numbers.add(axis.offsetText)
        if isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
            _fix_names(axis, unshown)
        else:
            ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
            numbers |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text in numbers:
            continue
        text.set_parse_math(False)
        text.set_usetex(False)
        face = _face(text)
        shown, families, missing = _shown(text.get_text(), face)
        unshown |= missing
        if shown != text.get_text():
            text.set_text(shown)
        if families != face.families:
            text.set_fontfamily(list(families))
    if unshown - before:
        _tell(note(unshown - before))
    return frozenset(unshown)


@functools.cache
def _tell(text: str) -> None:
    """Once: a run draws many figures of the same names."""
    _logger.warning(text)


def note(unshown: Iterable[str]) -> str:
    """Says which characters no font has; empty if all are shown."""
    ordered = sorted(unshown)
    if not ordered:
        return ""
    named = ", ".join(
        f"{character} (U+{ord(character):04X})" for character in ordered[:_MOST_NAMED]
    )
    more = len(ordered) - _MOST_NAMED
    return (
        f"No font that is installed has {named}{f' and {more} more' if more > 0 else ''}; figures "
        f"show {REPLACEMENT} instead."
    )


def text_width(text: str, face: Face = NORMAL) -> float:
    """The width of a text's widest line in pixels."""
    return max(_pixels(line, face) for line in text.split("\n"))


def wrapped(text: str, available: int | float, face: Face = NORMAL) -> str:
    """The text in lines that are no wider than that many pixels.

    Lines break at spaces, behind hyphens and between wide characters, and within a word that is too
    long.
    """
    lines = [""]
    for part in _parts(printable(text)):
        if text_width(lines[-1] + part.rstrip(), face) <= available:
            lines[-1] += part
            continue
        if lines[-1]:
            lines.append("")
        for character in part:
            longer = lines[-1] + character
            if lines[-1] and text_width(longer.rstrip(), face) > available:
                lines.append("")
                longer = character
            lines[-1] = longer
    return "\n".join(line.rstrip() for line in lines)


def shortened(text: str, available: int | float, lines: int, face: Face = NORMAL) -> str:
    """The text wrapped into at most that many lines, with an ellipsis for what is left out."""
    made = wrapped(text, available, face).split("\n")
    if len(made) > lines:
        last = made[lines - 1]
        while last and text_width(f"{last}\N{HORIZONTAL ELLIPSIS}", face) > available:
            last = last[:-1].rstrip()
        made = [*made[: lines - 1], f"{last}\N{HORIZONTAL ELLIPSIS}"]
    return "\n".join(made)


def _parts(text: str) -> Iterator[str]:
    """The parts of a text that stay on one line, each with the space after it."""
    # A number stays with its sign.
    joined = re.sub(r" %", "\N{NO-BREAK SPACE}%", " ".join(re.split(r"[ \t\n\r]+", text.strip())))
    words = re.findall(r"[^ ]+ ?", joined)
    for word in itertools.chain(*(re.split(r"(?<=\w-)(?=[^\W\d])", word) for word in words)):
        for wide, characters in itertools.groupby(word, _is_wide):
            group = "".join(characters)
            yield from group if wide else (group,)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _face(text: Text) -> Face:
    return Face(tuple(text.get_fontfamily()), text.get_fontweight(), text.get_fontstyle())


def _fix_names(axis: Axis, unshown: set[str]) -> None:
    """Replaces names at ticks, which are written anew whenever the figure is drawn."""
    places = axis.get_majorticklocs().tolist()
    names = axis.get_major_formatter().format_ticks(places)
    for name in names:
        unshown |= _shown(name, NORMAL)[2]
    shown = [_shown(name, NORMAL)[0] for name in names]
    if shown != list(names):
        axis.set_ticks(places, labels=shown)


def _shown(text: str, face: Face) -> tuple[str, tuple[str, ...], set[str]]:
    """A text as it can be shown, the fonts that it takes, and the characters that none has."""
    shown, families, missing = [], list(face.families), set()
    for character in printable(text):
        if character == "\n" or _has(face.families, face, character):
            shown.append(character)
            continue
        if character.isspace():
            shown.append(" ")
            continue
        family = _other_family(face, character)
        if family is None:
            missing.add(character)
        elif family not in families:
            families.append(family)
        shown.append(REPLACEMENT if family is None else character)
    return "".join(shown), tuple(families), missing


@functools.lru_cache(maxsize=4096)
def _pixels(text: str, face: Face) -> float:
    shown, families, _ = _shown(text, face)
    size = _renderer().get_text_width_height_descent(shown, face.properties(families), ismath=False)
    return float(size[0])


@functools.lru_cache(maxsize=1)
def _renderer() -> RendererAgg:
    """What figures are drawn by: it rounds the width of each letter to whole pixels."""
    return RendererAgg(1, 1, DPI)


@functools.lru_cache(maxsize=4096)
def _other_family(face: Face, character: str) -> str | None:
    """An installed font that has a character."""
    return next((name for name in _families() if _has((name,), face, character)), None)


def _has(families: tuple[str, ...], face: Face, character: str) -> bool:
    font = _font(families, face)
    return font is not None and font.get_char_index(ord(character)) != 0


@functools.cache
def _font(families: tuple[str, ...], face: Face) -> FT2Font | None:
    # It tells of weights that a font does not have.
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return FT2Font(font_manager.findfont(face.properties(families)))
    except (OSError, RuntimeError, ValueError):
        return None
    finally:
        logger.setLevel(level)


@functools.lru_cache(maxsize=1)
def _families() -> tuple[str, ...]:
    """The names of the fonts for text that are installed, those of even strokes first."""
    manager = font_manager.fontManager
    # Those that were installed after matplotlib last looked.
    for path in set(font_manager.findSystemFonts()) - {font.fname for font in manager.ttflist}:
        with contextlib.suppress(Exception):  # Whatever is wrong with another's font.
            manager.addfont(path)
    names = {font.name for font in manager.ttflist if not _NO_TEXT.fullmatch(font.name)}
    return tuple(sorted(names, key=lambda name: ("Sans" not in name, "Mono" in name, name)))
