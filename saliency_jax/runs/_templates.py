"""The templates of pages and of their parts, one look for all of them."""

import functools
from typing import Any

import jinja2

from ._text import printable


def rendered(template: str, **values: Any) -> str:
    """A template of this folder, every text in it escaped and printable."""
    return printable(_environment().get_template(template).render(**values))


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("saliency_jax.runs", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
