"""The page of a run: one file that needs no other, with its pictures and sounds inside."""

import dataclasses
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ._cells import Picture
from ._media import QUALITIES, Media
from ._table import Table
from ._templates import rendered
from ._view import View

# What a page may have in bytes: it is sent to telephones.
LARGEST = 5_000_000

_logger = logging.getLogger("saliency_jax")


@dataclasses.dataclass(frozen=True)
class Link:
    """A way from one page to another.

    Attributes:
      address: of the other page, from the folder of this one.
      title: what is pressed.
      text: a line below it.
      picture: beside it, or none.
    """

    address: str
    title: str
    text: str = ""
    picture: Picture | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a run's page.

    Attributes:
      title: its heading.
      text: what it shows, in a sentence or two.
      figures: names of figures that were saved in the folder, as `save_figure` and
        `save_animation` return them.
      table: a table, or none. Its rows can be sorted by any column.
      sounds: names of sounds that were saved in the folder, as `save_sound` returns them.
      views: pictures to look at closely, as `plots.explore` returns them.
      links: to other pages.
    """

    title: str
    text: str = ""
    figures: Sequence[str] = ()
    table: Table | None = None
    sounds: Sequence[str] = ()
    views: Sequence[View] = ()
    links: Sequence[Link] = ()


def page(
    title: str,
    sections: Sequence[Section],
    text: str,
    *,
    about: str,
    media: Mapping[str, bytes],
    arrays: Sequence[tuple[str, int, str]],
    note: str,
    config: Mapping[str, Any],
) -> str:
    """The page as HTML, its pictures as fine as its largest size allows.

    Args:
      title, sections, text, about: as `RunFolder.save_page` takes them.
      media: the content of each figure and sound by the name of its file.
      arrays: files of arrays, their sizes in bytes, and what they hold.
      note: a word on what the figures cannot show, or "".
      config: what `RunFolder.save_config` wrote; empty if nothing.
    """
    for quality in QUALITIES:
        pictures = Media(quality)
        made = rendered(
            "page.html.jinja",
            title=title,
            text=text,
            about=_paragraphs(about),
            sections=sections,
            figure_file=figure_file,
            media=pictures,
            figure=lambda name, pictures=pictures: pictures.figure(
                media[figure_file(name)], _kind(figure_file(name))
            ),
            sound=lambda name, pictures=pictures: pictures.figure(
                media[sound_file(name)], "audio/wav"
            ),
            arrays=[(file, _size(size), held) for file, size, held in arrays],
            note=note,
            config=config,
        )
        if len(made.encode()) <= LARGEST:
            return made
    sizes = _size(len(made.encode())), _size(LARGEST)
    _logger.warning("the page %r has %s, more than %s: show fewer figures", title, *sizes)
    return made


def figure_file(name: str) -> str:
    """The file of a figure: animations are named with their ending."""
    return name if name.endswith(".gif") else f"{name}.png"


def sound_file(name: str) -> str:
    return f"{name}.wav"


def _kind(file: str) -> str:
    return f"image/{file.rpartition('.')[2]}"


def _paragraphs(text: str) -> list[str]:
    """A text's paragraphs, commands among them as they stand, the others on one line."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return [
        paragraph if paragraph.startswith("  ") else " ".join(paragraph.split())
        for paragraph in paragraphs
        if paragraph.strip()
    ]


def _size(number: int) -> str:
    """A number of bytes as people read it."""
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"
