"""Line charts as SVG: a legend in words and the same figures as a table beside each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .elements import element
from .tables import figure_table, short

__all__ = ["Series", "line_chart"]

# In units of the drawing, which are pixels on a phone.
_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 350, 10, 200
_MARKER = 4
_DASHES = ("none", "6 3", "2 3", "8 3 2 3")
_MARKERS = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True)
class Series:
    """One line of a chart: its points (x, y) in the order in which they are joined."""

    label: str
    points: Sequence[tuple[float, float]]


def line_chart(
    lines: Sequence[Series], *, title: str, across: str, up: str, upright: tuple[float, float] | None = None
) -> Element:
    """A figure of lines that differ in colour, dashes and markers; ``across`` and ``up`` name the axes.

    ``upright`` is the range of the vertical axis; without it the axis is logarithmic and as long as the values need,
    which must then be above 0. Each line needs at least one point.
    """
    points = [point for line in lines for point in line.points]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low, high = upright or (min(y for _, y in points), max(y for _, y in points))
    ticks_x, ticks_y = _count_ticks(first, last), _linear_ticks(low, high) if upright else _log_ticks(low, high)
    at_x = _scale(first, last, _LEFT, _RIGHT, float)
    at_y = _scale(ticks_y[0], ticks_y[-1], _BOTTOM, _TOP, float if upright else math.log)
    drawn = [_line(line, row, at_x, at_y) for row, line in enumerate(lines)]
    svg = element(
        "svg",
        *_grid(ticks_x, ticks_y, at_x, at_y),
        *drawn,
        element("text", across, x=(_LEFT + _RIGHT) / 2, y=_HEIGHT - 6, text_anchor="middle"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title}: {up} by {across}. {'; '.join(map(_in_words, lines))}.",
    )
    legend = element("p", *(_legend(line.label, row) for row, line in enumerate(lines)), class_="legend")
    caption = element("figcaption", element("b", title), element("span", up, class_="quiet"), legend)
    return element("figure", caption, svg, _details(lines, title, across))


def _in_words(line: Series) -> str:
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    return f"{line.label}: {short(y0)} at {short(x0)}, {short(y1)} at {short(x1)}"


def _details(lines: Sequence[Series], title: str, across: str) -> Element:
    values = [dict(line.points) for line in lines]
    rows = [
        [short(x), *(short(each[x]) if x in each else "" for each in values)]
        for x in sorted({x for each in values for x in each})
    ]
    table = figure_table([across, *(line.label for line in lines)], rows, f"{title}, in figures")
    return element("details", element("summary", "as a table"), table)


def _line(line: Series, row: int, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> Element:
    places = [(round(at_x(x), 1), round(at_y(y), 1)) for x, y in line.points]
    path = element("polyline", points=" ".join(f"{x},{y}" for x, y in places), stroke_dasharray=_dashes(row))
    # Of many points every fifth has a marker, so that dashes stay visible.
    marked = places if len(places) <= 8 else [*places[:1], *places[4::5]]
    return element("g", path, *(_marker(row, x, y) for x, y in marked), class_=f"line line{row % len(_MARKERS)}")


def _dashes(row: int) -> str:
    return _DASHES[row % len(_DASHES)]


def _marker(row: int, x: float, y: float) -> Element:
    shape, r = _MARKERS[row % len(_MARKERS)], _MARKER
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=r - 0.5)
    if shape == "square":
        return element("rect", x=x - r + 1, y=y - r + 1, width=2 * r - 2, height=2 * r - 2)
    corners = [(0, -r), (r, r - 1), (-r, r - 1)] if shape == "triangle" else [(0, -r), (r, 0), (0, r), (-r, 0)]
    return element("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners))


def _legend(label: str, row: int) -> Element:
    sample = element("line", x1=1, y1=6, x2=27, y2=6, stroke_dasharray=_dashes(row))
    drawn = element("g", sample, _marker(row, 14, 6), class_=f"line line{row % len(_MARKERS)}")
    return element("span", element("svg", drawn, viewBox="0 0 28 12", class_="sample", aria_hidden="true"), label)


def _grid(
    ticks_x: Sequence[float],
    ticks_y: Sequence[float],
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
) -> list[Element]:
    drawn = []
    for tick in ticks_y:
        y = round(at_y(tick), 1)
        drawn.append(element("line", x1=_LEFT, y1=y, x2=_RIGHT, y2=y, class_="grid"))
        drawn.append(element("text", short(tick), x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for tick in ticks_x:
        x = round(at_x(tick), 1)
        drawn.append(element("text", short(tick), x=x, y=_BOTTOM + 17, text_anchor="middle"))
    return drawn


def _scale(low: float, high: float, start: float, end: float, by: Callable[[float], float]) -> Callable[[float], float]:
    """From a value to its place: ``low`` is at ``start`` and ``high`` at ``end``; where they are one, at ``start``."""
    origin, length = by(low), by(high) - by(low) or 1
    return lambda value: start + (end - start) * (by(value) - origin) / length


def _count_ticks(first: float, last: float) -> list[float]:
    """Whole numbers from the first count to the last, five or so; the first is among them.

    >>> _count_ticks(1, 20), _count_ticks(0, 16), _count_ticks(1, 3), _count_ticks(7, 7)
    ([1, 5, 10, 15, 20], [0, 5, 10, 15], [1, 2, 3], [7])
    """
    step = max(1, round(_step((last - first) / 4)))
    return [first, *(tick for tick in range(0, math.floor(last) + 1, step) if tick - first >= step / 2)]


def _linear_ticks(low: float, high: float) -> list[float]:
    """Round values around a range, five or so.

    >>> _linear_ticks(0, 100), _linear_ticks(0.1, 0.3)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.1, 0.15, 0.2, 0.25, 0.3])
    """
    step = _step((high - low) / 5)
    return [round(step * count, 9) for count in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _step(rough: float) -> float:
    """A round number near a positive one: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough or 1))
    return next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.8)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten around a range; over three powers or more, the powers alone.

    >>> _log_ticks(0.3, 7), _log_ticks(0.002, 9)
    ([0.2, 0.5, 1.0, 2.0, 5.0, 10.0], [0.001, 0.01, 0.1, 1.0, 10.0])
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = [float(f"{unit}e{power}") for power in powers for unit in ((1, 2, 5) if high < 1000 * low else (1,))]
    first = max(row for row, step in enumerate(steps) if step <= low)
    last = next((row for row, step in enumerate(steps) if step >= high), len(steps) - 1)
    return steps[first : last + 1]
