"""Tables and lists of figures."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from .elements import element

__all__ = ["facts", "figure_table", "number", "short", "verdict"]


def figure_table(
    titles: Sequence[str], rows: Sequence[Sequence[Element | str]], caption: str, *, sortable: bool = False
) -> Element:
    """A table whose first column names the row; it scrolls within its own frame where the page is narrow.

    A cell is text, an element, or a `number`, by whose value a ``sortable`` table sorts its rows.
    """
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    body = [element("tr", element("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows]
    table = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    if sortable and len(rows) > 1:
        table.set("class", "sortable")
    # The frame can be scrolled with the keyboard, so it has a name and a place in the tab order.
    return element("div", table, class_="scroll", role="region", aria_label=caption, tabindex="0")


def _cell(content: Element | str) -> Element:
    return content if isinstance(content, Element) and content.tag == "td" else element("td", content)


def number(value: float | None, text: str) -> Element:
    """A cell that shows ``text`` and sorts by ``value``; a dash where there is none.

    >>> from .elements import html_of
    >>> html_of(number(0.25, "25.0")), html_of(number(None, ""))
    ('<td data-value="0.25">25.0</td>', '<td>-</td>')
    """
    return element("td", "-") if value is None else element("td", text, data_value=repr(float(value)))


def facts(rows: Sequence[tuple[str, str, str]]) -> Element:
    """A strip of large figures: what it is, the figure, and a remark below it."""
    cells = [
        element("div", element("dt", name), element("dd", element("strong", value), element("span", remark)))
        for name, value, remark in rows
    ]
    return element("dl", *cells, class_="facts")


def verdict(passed: bool, text: str) -> Element:
    """A right or wrong mark with its words: the sign says it to those who do not see the colour."""
    return element("span", f"{'✓' if passed else '✗'} {text}", class_="right" if passed else "wrong")


def short(value: float) -> str:
    """Three significant digits without trailing zeros or an exponent.

    >>> short(20.0), short(0.5), short(54.4866), short(1234.0)
    ('20', '0.5', '54.5', '1234')
    """
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or not value else f"{value:.6f}".rstrip("0")
