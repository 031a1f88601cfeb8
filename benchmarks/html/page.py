"""The page: sections under a headline, in one file that loads nothing, with a script that sorts and filters."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element

from reid_edge.core.files import write_text

from .elements import element, html_of
from .tables import facts

__all__ = ["commands_section", "write_page"]


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
    says what made the page. Names and texts may hold anything: none becomes markup, and a browser runs no script but
    the page's own, which its policy names by hash.
    """
    for number, section in enumerate(sections, start=1):
        section.set("id", f"part-{number}")
    banner = element("header", element("h1", title), element("p", lead), *([facts(figures)] if figures else []))
    body = element(
        "body",
        element("a", "skip to the figures", href="#part-1", class_="skip"),
        banner,
        *([_contents(sections)] if len(sections) > 2 else []),
        element("main", *sections),
        *([element("footer", footer)] if footer else []),
        _verbatim("script", "page.js"),
    )
    write_text(path, "<!DOCTYPE html>\n" + html_of(element("html", _head(title), body, lang="en")) + "\n")
    return Path(path)


def commands_section(commands: Sequence[tuple[str, str]], *, title: str, text: str) -> Element:
    """What to type next: each command under what it does."""
    steps = [
        element("li", element("span", what), element("pre", element("code", command), tabindex="0"))
        for what, command in commands
    ]
    return element("section", element("h2", title), element("p", text), element("ol", *steps, class_="commands"))


def _head(title: str) -> Element:
    digest = base64.b64encode(hashlib.sha256(_file("page.js").encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        _verbatim("style", "page.css"),
    )


def _contents(sections: Sequence[Element]) -> Element:
    links = [
        element("li", element("a", section.findtext("h2", ""), href=f"#{section.get('id')}")) for section in sections
    ]
    return element("nav", element("ul", *links, role="list"), aria_label="On this page")


def _verbatim(tag: str, name: str) -> Element:
    """A file of this folder as an element; style and script alone are not escaped where the page is written."""
    made = element(tag)
    made.text = _file(name)
    return made


@cache
def _file(name: str) -> str:
    return "\n" + Path(__file__).with_name(name).read_text(encoding="utf-8")
