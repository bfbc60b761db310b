"""Which runs are there, and what does each show?

  python experiments/gallery.py
  python experiments/gallery.py --folder results --output results/gallery

One page of all finished runs in a folder, the newest first: the question of each, its first
picture, its models and the command that repeats it. Pressing one opens its own page, so the gallery
stays beside the runs, or is moved with them. Nothing is computed; a hundred runs take seconds.

The gallery's folder then holds `config.json` and `index.html`.
"""

import base64
import dataclasses
import html
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lab import frame
from lab.frame import Output, Run
from PIL import Image

from saliency_jax.runs import Link, Section, Table, plots

# Height and width of the pictures at most, and of small ones enlarged at least.
SIDE = 240
# A page says what it is in its head, before its pictures.
HEAD = 20_000


@dataclasses.dataclass(frozen=True)
class Settings(Output):
    folder: Path = Path("runs")
    """Where the runs are, each in a folder of its own."""


class Finished(NamedTuple):
    """A run that is there.

    Attributes:
      folder: where.
      title: of its page.
      question: what the page answers; "" if that is not said.
      config: what `config.json` holds.
      picture: the first one of its page, or none.
    """

    folder: Path
    title: str
    question: str
    config: dict[str, Any]
    picture: plots.Picture | None


@frame.experiment("Runs")
def main(settings: Settings, run: Run) -> list[Section]:
    found = sorted(finished(settings.folder), key=lambda one: one.config["date"], reverse=True)
    if not found:
        raise ValueError(f"expected --folder to hold finished runs, got none in {settings.folder}")
    start = run.path.absolute().parent / "gallery"
    by_title: dict[str, list[Finished]] = {}
    for one in found:
        by_title.setdefault(one.title, []).append(one)
    header = ["run", "what", "date", "models", "command"]
    rows = [[one.folder.name, one.title, date(one), models(one), command(one)] for one in found]
    sections = [
        Section(title, ones[0].question, links=[link(one, start) for one in ones])
        for title, ones in by_title.items()
    ]
    return [*sections, Section("All runs", table=Table(header, rows))]


def finished(folder: Path) -> Iterator[Finished]:
    """The runs in a folder but for galleries."""
    for path in sorted(folder.glob("*/index.html")):
        config = path.with_name("config.json")
        if path.parent.name.startswith(".") or not config.exists():
            continue
        page = path.read_text(encoding="utf-8")
        title = re.search(r"<title>(.*?)</title>", page[:HEAD], re.DOTALL)
        question = re.search(r'<meta name="description" content="(.*?)">', page[:HEAD], re.DOTALL)
        read = {**json.loads(config.read_text(encoding="utf-8"))}
        if title is None or title[1] == main.title or "date" not in read:
            continue
        yield Finished(
            path.parent,
            html.unescape(title[1]),
            html.unescape(question[1]) if question else "",
            read,
            first_picture(page),
        )


def first_picture(page: str) -> plots.Picture | None:
    """The first picture inside a page, of a size for the gallery."""
    found = re.search(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)
    if found is None:
        return None
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as opened:
        image = opened.convert("RGB")
    # Of a figure of many rows the first ones.
    image = image.crop((0, 0, image.width, min(image.height, image.width)))
    zoom = SIDE // max(image.size)
    if zoom > 1:
        image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
    image.thumbnail((SIDE, SIDE))
    return plots.image(np.asarray(image, np.float32) / 255)


def link(one: Finished, start: Path) -> Link:
    """The way to a run's page from the gallery's folder."""
    address = Path(os.path.relpath((one.folder / "index.html").absolute(), start)).as_posix()
    text = " \N{MIDDLE DOT} ".join(filter(None, (date(one), models(one))))
    return Link(address, one.folder.name, text, one.picture)


def date(one: Finished) -> str:
    return one.config["date"][:16].replace("T", " ")


def models(one: Finished) -> str:
    named = one.config.get("settings", {}).get("model", ())
    return ", ".join([named] if isinstance(named, str) else map(str, named or ()))


def command(one: Finished) -> str:
    return one.config.get("command", "")


if __name__ == "__main__":
    main.from_command_line()
