"""What the site shows that stands elsewhere: rooms, experiments, pictures, the repository's texts.

Nothing is written twice. A page of the API is made of a room's export list and its docstrings, a
page of an experiment of the script's docstring, a table's times of what a benchmark's docstring
has measured; texts and pictures of the repository become pages and files of the site, and links
between them work in both places. MkDocs calls the hooks, `on_...`, and Griffe `Dialect`.
"""

import ast
import inspect
import itertools
import posixpath
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "saliency_jax"
# Of the repository, beside the pages in docs/: what becomes which page.
TEXTS = {
    "experiments/README.md": "experiments/index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
} | {
    path.relative_to(ROOT).as_posix(): f"cards/{path.parent.name}.md"
    for path in sorted(PACKAGE.glob("models/bundled/*/card.md"))
}
SCRIPTS = {
    path.relative_to(ROOT).as_posix(): path.relative_to(ROOT).with_suffix(".md").as_posix()
    for folder in ("experiments", "experiments/benchmarks")
    for path in sorted((ROOT / folder).glob("[!_]*.py"))
}
PICTURES = {
    path.relative_to(ROOT).as_posix(): f"pictures/{path.name}"
    for path in sorted(ROOT.glob("experiments/pictures/*.png"))
}
PAGES = {f"docs/{path.name}": path.name for path in sorted(ROOT.glob("docs/*.md"))}
PLACES = PAGES | TEXTS | SCRIPTS | PICTURES
LISTS = ("Args", "Attributes", "Raises")
SECTIONS = "|".join((*LISTS, "Returns", "Example", "Reference"))
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
MEASURED = "experiments/benchmarks/attribution_memory.py"


def docstring_of(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def exports(room: str) -> list[str]:
    """What a room or module exports, in its order: what it imports as such, and what it defines.

    Of a module that it exports also what that exports.
    """
    names = []
    path = PACKAGE / f"{room}.py"
    is_module = path.exists()
    for node in ast.walk(
        ast.parse((path if is_module else PACKAGE / room / "__init__.py").read_text())
    ):
        if isinstance(node, ast.ImportFrom) and node.level:
            for alias in (alias for alias in node.names if alias.asname):
                names.append(alias.name)
                if node.module is None:
                    names += [f"{alias.name}.{name}" for name in exports(f"{room}/{alias.name}")]
    if is_module:
        kinds = (ast.FunctionDef, ast.ClassDef)
        defined = [node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)]
        names += [node.name for node in defined if not node.name.startswith("_")]
    return names


def rooms() -> list[str]:
    """In the order in which the package names them, then the others."""
    taught = re.findall(r"^ *from \. import (\w+)", (PACKAGE / "__init__.py").read_text(), re.M)
    packages = (path.parent.name for path in PACKAGE.glob("[!_]*/__init__.py"))
    modules = (path.stem for path in PACKAGE.glob("[!_]*.py"))
    return taught + sorted({*packages, *modules} - {*taught})


ROOMS = {room: exports(room) for room in rooms()}
# What a text may call a thing, and its name in full.
NAMES = {
    f"{package}{name}": f"saliency_jax.{name}"
    for room, exported in ROOMS.items()
    for name in (room, *(f"{room}.{name}" for name in exported))
    for package in ("", "saliency_jax.")
    if package or "." in name
}


def outside_fences(change: Callable[[str], str], text: str) -> str:
    """The text, changed but for its blocks of code."""
    ends = [0, *(end for fence in FENCE.finditer(text) for end in fence.span()), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(ends)]
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


def linked(text: str, page: str, room: str = "") -> str:
    """Prose with links: from names in code to what they name, from papers to arXiv."""

    def link(code: re.Match) -> str:
        name = code[1]
        for known in (name, f"{room}.{name}"):
            if known in NAMES:
                return f"[{code[0]}][{NAMES[known]}]"
        for script in (name, f"experiments/{name}", f"experiments/benchmarks/{name}"):
            if script in SCRIPTS and SCRIPTS[script] != page:
                return f"[{code[0]}]({between(page, SCRIPTS[script])})"
        return code[0]

    text = re.sub(r"(?<![\[`])`([\w./]+)(?:\([^`\n]*\))?`(?![\]`])", link, text)
    text = re.sub(r"(?<!\[)\barXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"\bdoi:(10\.[^\s,)]*\w)", r"[doi:\1](https://doi.org/\1)", text)


def between(page: str, other: str) -> str:
    return posixpath.relpath(other, posixpath.dirname(page) or ".")


# Docstrings: of the dialect of this house, Markdown.


def to_markdown(docstring: str, page: str = "", room: str = "") -> str:
    """A docstring of the house as Markdown: equations, glossaries, examples, sections."""
    texts = re.split(rf"^({SECTIONS}):(?: +|$)", inspect.cleandoc(docstring), flags=re.MULTILINE)
    parts = [*_body(texts[0])]
    for name, text in zip(texts[1::2], texts[2::2], strict=True):
        parts.append(f"**{name}**")
        parts += _body(textwrap.dedent(text.strip("\n")), is_list=name in LISTS)
    return outside_fences(lambda text: linked(text, page, room), "\n\n".join(parts)) + "\n"


def _body(text: str, is_list: bool = False) -> Iterator[str]:
    """Its blocks: prose, equations, lists of names, code."""
    blocks = [block for block in re.split(r"\n\s*\n", text.strip("\n")) if block.strip()]
    # A blank line inside of code, or of a list, does not end it.
    for indented, group in itertools.groupby(blocks, key=lambda block: block[0] == " "):
        if indented:
            yield from _inset(textwrap.dedent("\n\n".join(group)))
            continue
        for block in group:
            if ">>> " in block:
                yield f"```pycon\n{block}\n```"
            elif is_list and (entries := _entries(block)):
                yield entries
            elif _is_equation(block):
                yield f"``` {{ .text .equation }}\n{block}\n```"
            else:
                first, *insets = re.split(r"\n(?=  +(?:python|>>>) )", block, maxsplit=1)
                yield re.sub(r"<(?=[\w/])", "&lt;", first)
                yield from map(_code, map(textwrap.dedent, insets))


def _inset(text: str) -> Iterator[str]:
    entries = None if ">>> " in text else _entries(text)
    yield entries or _code(text)


def _code(text: str) -> str:
    first = text.split(maxsplit=1)[0]
    language = "pycon" if ">>> " in text else "sh" if first == "python" else "python"
    if re.search(r"\S {2,}\S+ {2,}\S", text):
        language = "text"
    return f"```{language}\n{text}\n```"


def _entries(text: str) -> str | None:
    """A list `name, name: text` as one of definitions, or None if it is none."""
    entries = re.split(r"\n(?! |\n)", text)
    found = [re.fullmatch(r"([\w*.`, ]+?): (.+)", entry, re.DOTALL) for entry in entries]
    if not all(found):
        return None
    lines = []
    for entry in filter(None, found):
        names = ", ".join(
            f"**{name}**" if " " in name else f"`{name.strip('`')}`"
            for name in entry[1].split(", ")
        )
        lines.append(f"{names}\n:   {_dedented(entry[2], '    ')}")
    return "\n\n".join(lines)


def _dedented(text: str, indent: str) -> str:
    first, _, rest = text.partition("\n")
    return f"{first}\n{textwrap.indent(textwrap.dedent(rest), indent)}".rstrip()


def _is_equation(block: str) -> bool:
    """Whether a paragraph is one: a few symbols and no words, an equals sign, no sentence more."""
    left, *rest = re.split(r" (?:=|==|~) ", block.split("\n")[0], maxsplit=1)
    has_words = " " in left and re.search(r"[A-Za-z]{3,}(?![\w(\[])", left)
    has_sentences = re.search(r"\.\s+[A-Z][a-z]", block)
    return bool(rest) and len(left.split()) <= 5 and not (has_words or has_sentences)


class Dialect(griffe.Extension):
    """Makes Markdown of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            room = (*obj.canonical_path.split("."), "")[1]
            obj.docstring.value = to_markdown(obj.docstring.value, f"api/{room}.md", room)


# MkDocs.


def on_config(config: Any) -> Any:
    scripts = [page for script, page in SCRIPTS.items() if "benchmarks" not in script]
    benchmarks = [page for script, page in SCRIPTS.items() if "benchmarks" in script]
    listed = {page for entry in config.nav for page in entry.values()}
    config.nav += [page for page in PAGES.values() if page not in listed]
    config.nav += [
        {"Experiments": ["experiments/index.md", *scripts, {"Benchmarks": benchmarks}]},
        {"API": [f"api/{room}.md" for room in ROOMS]},
        {"Contributing": "contributing.md"},
        {"Changes": "changelog.md"},
        {"Cards": [page for page in TEXTS.values() if page.startswith("cards/")]},
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    for source, place in (TEXTS | PICTURES).items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for script, page in SCRIPTS.items():
        content = f"# {Path(script).name}\n\n" + to_markdown(docstring_of(ROOT / script), page)
        files.append(File.generated(config, page, content=content))
    for room, exported in ROOMS.items():
        parts = [
            f"---\ntitle: {room}\n---",
            f"::: saliency_jax.{room}\n    options: {{heading_level: 1, members: false}}",
            *(f"::: saliency_jax.{room}.{name}{_alone(room, name)}" for name in exported),
        ]
        files.append(File.generated(config, f"api/{room}.md", content="\n\n".join(parts) + "\n"))
    return files


def _alone(room: str, name: str) -> str:
    """Of a module its docstring: what it exports follows."""
    return "\n    options: {members: false}" if (PACKAGE / room / f"{name}.py").exists() else ""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    place = page.file.src_uri
    sources = {made: source for source, made in (PAGES | TEXTS).items()}
    if place not in sources:
        return markdown
    if place == "algorithms.md":
        markdown = with_costs(markdown, docstring_of(ROOT / MEASURED))
    folder = posixpath.dirname(sources[place])

    def moved(link: re.Match) -> str:
        path, mark, anchor = link[2].partition("#")
        source = posixpath.normpath(posixpath.join(folder, path))
        there = between(place, PLACES[source]) if path and source in PLACES else path
        return f"{link[1]}({there}{mark}{anchor})"

    def changed(text: str) -> str:
        return linked(re.sub(r"(!?\[[^\]]*\])\(([^)\s]+)\)", moved, text), place)

    return outside_fences(changed, markdown)


def with_costs(markdown: str, measured: str) -> str:
    """The table of methods with links, and with the time and memory that were measured."""
    cost = re.compile(r"^ *(\w+) +([\d.]+|-) +[\d,]+ MiB +([\d,]+ MiB)$", re.MULTILINE)
    costs = {name: (time.replace("-", ""), memory) for name, time, memory in cost.findall(measured)}
    lines = []
    for line in markdown.splitlines():
        row = re.match(r"\| \*\*(\w+)\*\* \| `([\w.]+)` (\|.*)", line)
        if row:
            time, memory = costs.get(row[1], ("", ""))
            line = f"| [**{row[1]}**][saliency_jax.{row[2]}] {row[3]} {time} | {memory} |"
        elif line.startswith("| method "):
            line = line.replace(" function |", "") + " time | memory |"
        elif line.startswith("|---"):
            line += "---|"
        lines.append(line)
    return "\n".join(lines)
