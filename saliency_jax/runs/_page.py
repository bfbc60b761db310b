"""The page of a run: one file that needs no other, with its pictures and sounds inside."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ._table import Table
from ._text import printable


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a run's page.

    Attributes:
      title: its heading.
      text: what it shows, in a sentence or two.
      figures: names of figures that were saved in the folder, as `save_figure` and
        `save_animation` return them.
      table: a table, or none.
      sounds: names of sounds that were saved in the folder, as `save_sound` returns them.
    """

    title: str
    text: str = ""
    figures: Sequence[str] = ()
    table: Table | None = None
    sounds: Sequence[str] = ()


def page(
    title: str,
    sections: Sequence[Section],
    text: str,
    *,
    media: Mapping[str, bytes],
    note: str,
    config: Mapping[str, Any],
) -> str:
    """The page as HTML.

    Args:
      title, sections, text: as `RunFolder.save_page` takes them.
      media: the content of each figure and sound by the name of its file.
      note: a word on what the figures cannot show, or "".
      config: what `RunFolder.save_config` wrote; empty if nothing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("saliency_jax.runs", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = environment.get_template("page.html.jinja").render(
        title=title,
        text=text,
        sections=sections,
        figure_file=figure_file,
        sound_file=sound_file,
        data={file: base64.b64encode(content).decode() for file, content in media.items()},
        note=note,
        config=config,
    )
    return printable(made)


def figure_file(name: str) -> str:
    """The file of a figure: animations are named with their ending."""
    return name if name.endswith(".gif") else f"{name}.png"


def sound_file(name: str) -> str:
    return f"{name}.wav"
