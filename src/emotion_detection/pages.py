"""Pages for people, from the Jinja templates in `templates/`: HTML that contacts no host, and Markdown.

render("data.html.j2", title="Pictures of the data", ...)
"""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=jinja2.select_autoescape(["html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **content: object) -> str:
    """Fill a template in; values are escaped where it is HTML, and a name that it lacks is an error."""
    return _ENVIRONMENT.get_template(template).render(**content)


def embedded(picture: Path) -> str:
    """A PNG file as a data URI (RFC 2397), so that a page holds it itself."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
