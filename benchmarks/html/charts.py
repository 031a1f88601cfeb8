"""Line charts as SVG: a legend in words and the same figures as a table beside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .axes import Axis, Frame
from .elements import element
from .tables import figure_table, short

__all__ = ["Series", "chart_figure", "line_chart", "marker"]

_MARKER = 4
_DASHES = ("none", "6 3", "2 3", "8 3 2 3")
_MARKERS = ("circle", "square", "triangle", "diamond")
_COLORS = 4  # of the stylesheet: .line0 to .line3


@dataclass(frozen=True)
class Series:
    """One line of a chart: its points (x, y) in the order in which they are joined; one point is a marker."""

    label: str
    points: Sequence[tuple[float, float]]


def line_chart(lines: Sequence[Series], *, title: str, across: Axis, up: Axis, table: Element | None = None) -> Element:
    """A figure of lines that differ in colour, dashes and markers, up to sixteen of them.

    Each line needs at least one point. ``table`` are its figures in place of all points.
    """
    frame = Frame(across, up)
    words = f"{title}: {up.title} by {across.title}. {'; '.join(map(_in_words, lines))}."
    drawn = frame.svg(*(_line(line, row, frame) for row, line in enumerate(lines)), words=words)
    legend = element("p", *(_legend(line.label, row) for row, line in enumerate(lines)), class_="legend")
    return chart_figure(title, up.title, legend, drawn, _points_table(lines, title, across) if table is None else table)


def chart_figure(title: str, subtitle: str, legend: Element, drawn: Element, table: Element) -> Element:
    """A drawing under its caption, and its figures as a table to unfold."""
    caption = element("figcaption", element("b", title), element("span", subtitle, class_="quiet"), legend)
    details = element("details", element("summary", "as a table"), table)
    return element("figure", caption, drawn, details)


def _in_words(line: Series) -> str:
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    first = f"{line.label}: {short(y0)} at {short(x0)}"
    return first if len(line.points) == 1 else f"{first}, {short(y1)} at {short(x1)}"


def _points_table(lines: Sequence[Series], title: str, across: Axis) -> Element:
    values = [dict(line.points) for line in lines]
    rows = [
        [short(x), *(short(each[x]) if x in each else "" for each in values)]
        for x in sorted({x for each in values for x in each})
    ]
    return figure_table([across.title, *(line.label for line in lines)], rows, f"{title}, in figures")


def _line(line: Series, row: int, frame: Frame) -> Element:
    places = [(frame.x(x), frame.y(y)) for x, y in line.points]
    path = element("polyline", points=" ".join(f"{x},{y}" for x, y in places), stroke_dasharray=_dashes(row))
    # Of many points some have a marker, so that dashes stay visible.
    step = max(5, len(places) // 5)
    marked = places if len(places) <= 8 else [*places[:1], *places[step - 1 :: step]]
    return element("g", path, *(marker(_form(row), x, y) for x, y in marked), class_=f"line line{row % _COLORS}")


def _form(row: int) -> int:
    """Forms go once round for each round of colours, and one further: sixteen lines are all different."""
    return (row + row // _COLORS) % len(_MARKERS)


def _dashes(row: int) -> str:
    return _DASHES[_form(row)]


def marker(form: int, x: float, y: float) -> Element:
    """A sign at a place: of four forms, that can be told apart without colour."""
    shape, r = _MARKERS[form % len(_MARKERS)], _MARKER
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=r - 0.5)
    if shape == "square":
        return element("rect", x=x - r + 1, y=y - r + 1, width=2 * r - 2, height=2 * r - 2)
    corners = [(0, -r), (r, r - 1), (-r, r - 1)] if shape == "triangle" else [(0, -r), (r, 0), (0, r), (-r, 0)]
    return element("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners))


def _legend(label: str, row: int) -> Element:
    sample = element("line", x1=1, y1=6, x2=27, y2=6, stroke_dasharray=_dashes(row))
    drawn = element("g", sample, marker(_form(row), 14, 6), class_=f"line line{row % _COLORS}")
    return element("span", element("svg", drawn, viewBox="0 0 28 12", class_="sample", aria_hidden="true"), label)
