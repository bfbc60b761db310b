"""The documentation's site: built strictly, read without a network, opened from a disk.

Skipped where MkDocs is not installed: `python -m pip install -e ".[docs]"`.
"""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import browser
import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parent.parent
# What a reader may be sent to; nothing is fetched from there.
HOSTS = {"arxiv.org", "doi.org"}
PAGES = ("index.html", "algorithms.html", "api/attribution.html", "experiments/sanity_checks.html")
# Of attributes that name what a page is made of.
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "srcset"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


class Addresses(HTMLParser):
    """What a page fetches, and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        if tag in FETCHED and given.get(FETCHED[tag]) and given.get("rel") not in ("prev", "next"):
            self.fetched.append(given[FETCHED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


def pages(site: Path) -> dict[Path, Addresses]:
    # The page of a missing address is for servers alone.
    files = sorted(file for file in site.rglob("*.html") if file.name != "404.html")
    return {page: Addresses(page) for page in files}


def test_all_that_a_page_is_made_of_lies_beside_it(site):
    for page, found in pages(site).items():
        for address in found.fetched:
            parts = urlsplit(address)
            assert (parts.scheme, parts.netloc) in (("", ""), ("data", "")), (page, address)
            if not parts.scheme:
                assert (page.parent / parts.path).is_file(), (page, address)
    for sheet in site.rglob("*.css"):
        text = sheet.read_text("utf-8")
        assert not re.search(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", text), sheet


def test_links_lead_to_pages_of_the_site_or_to_papers(site):
    for page, found in pages(site).items():
        for address in found.links:
            parts = urlsplit(address)
            if parts.netloc:
                assert parts.netloc in HOSTS, (page, address)
            elif parts.path:
                assert (page.parent / parts.path).is_file(), (page, address)


def test_docstrings_are_rendered(site):
    text = (site / "api" / "attribution.html").read_text("utf-8")
    found = re.search(r'id="saliency_jax\.attribution\.smoothgrad".*?(?=<h2)', text, re.DOTALL)
    assert found
    assert re.search(r'class="[^"]*equation[^"]*"', found[0])
    assert "<dt><code>noise_scale</code></dt>" in found[0]
    assert 'href="https://arxiv.org/abs/1706.03825"' in found[0]
    assert "&gt;&gt;&gt;" in found[0]
    # Neither a section nor a list is left as the docstring has it.
    assert not re.search(r"\b(?:Args|Returns|Raises|Example|Reference):\s", text)


@pytest.mark.parametrize("device", [browser.DESKTOP, browser.PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_read_from_a_disk(site, a_browser, device, scheme):
    if isinstance(a_browser, str):
        pytest.skip(a_browser)
    context = a_browser.new_context(**device, color_scheme=scheme)
    page, complaints, fetched = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    for name in PAGES:
        page.goto((site / name).as_uri())
        broken = "() => [...document.images].filter(one => !one.naturalWidth).map(one => one.src)"
        assert page.evaluate(broken) == []
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= device["viewport"]["width"], name
        for text, ink, paper in page.evaluate(browser.TEXTS):
            # What is clear in part lies on what it is not asked for.
            if "rgba" not in ink + paper:
                assert browser.contrast(ink, paper) >= 4.5, (name, text, ink, paper)
    context.close()
    assert complaints == []
    assert [address for address in fetched if not address.startswith(("file:", "data:"))] == []


def test_the_search_finds_from_a_disk(site, a_browser):
    if isinstance(a_browser, str):
        pytest.skip(a_browser)
    context = a_browser.new_context(**browser.DESKTOP)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.locator("input.md-search__input").press_sequentially("completeness gap")
    found = page.locator(".md-search-result__link").first
    found.wait_for(timeout=20_000)
    assert "completeness" in page.locator(".md-search-result__list").inner_text().lower()
    context.close()
