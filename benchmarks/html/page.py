"""The page: sections under a headline, in one file without network, scripts and fonts of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from reid_edge.core.files import write_text

from .elements import element, html_of
from .style import STYLE
from .tables import facts

__all__ = ["commands_section", "write_page"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser loads nothing from outside


def write_page(
    path: Path | str,
    sections: Sequence[Element],
    *,
    title: str,
    lead: str,
    figures: Sequence[tuple[str, str, str]] = (),
    footer: str = "",
) -> Path:
    """Write ``sections`` as one HTML file, whole or not at all, and return its path.

    ``lead`` is a sentence under the headline, ``figures`` are the few that matter (name, figure, remark), ``footer``
    says what made the page. Names and texts may hold anything: none becomes markup.
    """
    style = element("style")
    style.text = STYLE  # as it is: of all elements only this one is not escaped
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        style,
    )
    banner = element("header", element("h1", title), element("p", lead), *([facts(figures)] if figures else []))
    body = element("body", banner, element("main", *sections), *([element("footer", footer)] if footer else []))
    write_text(path, "<!DOCTYPE html>\n" + html_of(element("html", head, body, lang="en")) + "\n")
    return Path(path)


def commands_section(commands: Sequence[tuple[str, str]], *, title: str, text: str) -> Element:
    """What to type next: each command under what it does."""
    steps = [
        element("li", element("span", what), element("pre", element("code", command), tabindex="0"))
        for what, command in commands
    ]
    return element("section", element("h2", title), element("p", text), element("ol", *steps, class_="commands"))
