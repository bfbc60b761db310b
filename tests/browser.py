"""A real browser for tests of pages: Chromium of the system, driven by Playwright.

Tests that need it are skipped, with the reason, where either is missing.
"""

import base64
import contextlib
import html
import io
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP = {"viewport": {"width": 1280, "height": 1400}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LARGEST = 5_000_000
ADDRESSES = "images => images.map(image => image.src)"
# Of each text: the colours of ink and paper, the paper being the nearest one that is not clear.
TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    let element = walker.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!text || style.visibility === "hidden" || !element.checkVisibility()) continue;
    let papers = [];
    for (; element && !papers.length; element = element.parentElement) {
      const {backgroundColor, backgroundImage} = getComputedStyle(element);
      papers = backgroundImage.match(/rgba?\\([^)]*\\)/g) ?? [];
      if (!papers.length && backgroundColor !== "rgba(0, 0, 0, 0)") papers = [backgroundColor];
    }
    for (const paper of papers) found.push([text.slice(0, 40), style.color, paper]);
  }
  return found;
}"""


@contextlib.contextmanager
def found() -> Iterator[Any]:
    """The browser, or the reason why there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        yield f"no browser is installed: none of {', '.join(NAMES)} is found"
        return
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        yield "Playwright is not installed"
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened() -> Iterator[Any]:
    """The browser; skips the test where there is none."""
    with found() as browser:
        if isinstance(browser, str):
            pytest.skip(browser)
        yield browser


@contextlib.contextmanager
def page_of(
    browser: Any, file: Path, visited: Sequence[Path] = (), **options: Any
) -> Iterator[Any]:
    """A page of a file, on a device; at its end nothing must have been complained of or fetched.

    But for the pages that are visited from it.
    """
    complaints: list[str] = []
    context = browser.new_context(**{**DESKTOP, **options})
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    downloads: list[str] = []
    page.on("download", lambda download: downloads.append(download.url))
    address = file.resolve().as_uri()
    page.goto(address)
    yield page
    context.close()
    assert complaints == []
    assert [url for url in fetched if not url.startswith(("data:", "file:", "about:"))] == []
    assert {url for url in fetched if url.startswith("file:")} <= {
        address,
        *downloads,
        *(other.resolve().as_uri() for other in visited),
    }


@contextlib.contextmanager
def page_at(browser: Any, address: str, allowed: str = "\0", **options: Any) -> Iterator[Any]:
    """A page of a server, on a device, which asks no other and which nothing is complained of.

    But for what is allowed, a part of the text.
    """
    complaints: list[str] = []
    fetched: list[str] = []
    context = browser.new_context(**{**DESKTOP, **options})
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert [text for text in complaints if allowed not in text] == []
    assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []


def screenshot(locator: Any) -> np.ndarray:
    """(h, w, 3), an element as it is on the screen, from 0 to 255."""
    locator.scroll_into_view_if_needed()
    # Browsers draw a picture at whole pixels, wherever the text before it ends.
    clip = {side: round(length) for side, length in locator.bounding_box().items()}
    content = locator.page.screenshot(clip=clip)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def luminance(color: str) -> float:
    """The relative luminance of "rgb(r, g, b)", as WCAG 2 has it."""
    channels = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    """WCAG's contrast of two colours, from 1 to 21."""
    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def pictures_in(page: Path) -> list[tuple[str, np.ndarray]]:
    """The alternative text and the pixels of each picture of a page's views, from the top down."""
    pixels: dict[str, np.ndarray] = {}
    shown = []
    for element in re.findall(r"<img width[^>]*>", page.read_text(encoding="utf-8")):
        said = {
            key: html.unescape(value) for key, value in re.findall(r'([\w-]+)="([^"]*)"', element)
        }
        if "src" in said:
            content = base64.b64decode(said["src"].partition(",")[2])
            pixels[said["id"]] = np.asarray(Image.open(io.BytesIO(content)))
        shown.append((said["alt"], pixels[said.get("id") or said["data-same"]]))
    return shown


def check_pages(browser: Any, folder: Path) -> None:
    """What must hold of the pages of all runs below a folder, if there is a browser."""
    for path in sorted(folder.rglob("index.html")):
        if not isinstance(browser, str) and path.with_name("config.json").exists():
            assert path.stat().st_size < LARGEST
            with page_of(browser, path) as page:
                check(page)
                for slider in page.get_by_role("slider").all():
                    shown = []
                    for end in ("Home", "End"):
                        slider.press(end)
                        shown.append(page.locator("img:visible").evaluate_all(ADDRESSES))
                    assert shown[0] != shown[1]
                check(page)


def check(page: Any) -> None:
    """What must hold of any page, as it is now."""
    for text, ink, paper in page.evaluate(TEXTS):
        assert contrast(ink, paper) >= 4.5, (text, ink, paper)
    for image in page.locator("img").all():
        assert image.get_attribute("alt") is not None
    broken = "() => [...document.images].filter(one => !one.naturalWidth).map(one => one.alt)"
    assert page.evaluate(broken) == []
    # Nothing but what scrolls by itself is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))"
    )
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    unnamed = """() => [...document.querySelectorAll("button, input, a, [role=region]")]
      .filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length))
      .map(one => one.outerHTML)"""
    assert page.evaluate(unnamed) == []
