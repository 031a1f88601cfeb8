"""Accuracy against latency, with the Pareto front marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .axes import Axis, Frame
from .charts import chart_figure, marker
from .elements import element
from .tables import figure_table, number, short

__all__ = ["Dot", "pareto_front", "scatter_chart"]

_COLORS = 6  # of the stylesheet: .dot0 to .dot5
_LABEL_LENGTH, _LINE_HEIGHT = 24, 13


@dataclass(frozen=True)
class Dot:
    """A row as a point: ``x`` above 0, the smaller the better, ``y`` the larger the better.

    ``model`` chooses the colour, ``kind`` (its precision, say) the form.
    """

    model: str
    kind: str
    x: float
    y: float


def pareto_front(dots: Sequence[Dot]) -> list[Dot]:
    """Those that no other beats: none is as good in both and better in one. By ``x``, ascending.

    >>> dots = [Dot("a", "", 1, 50), Dot("b", "", 2, 70), Dot("c", "", 3, 60), Dot("d", "", 2, 65)]
    >>> [dot.model for dot in pareto_front(dots)]
    ['a', 'b']
    """

    def beats(one: Dot, other: Dot) -> bool:
        return one.x <= other.x and one.y >= other.y and (one.x, one.y) != (other.x, other.y)

    front = [dot for dot in dots if not any(beats(other, dot) for other in dots)]
    return sorted(front, key=lambda dot: (dot.x, dot.y))


def scatter_chart(dots: Sequence[Dot], *, title: str, across: str, up: str) -> Element:
    """A figure of the points on a logarithmic axis across; those of the front are filled, joined and named."""
    front = pareto_front(dots)
    frame = Frame(Axis.powers(across, [dot.x for dot in dots]), Axis.around(up, [dot.y for dot in dots]), height=280)
    models, kinds = (list(dict.fromkeys(getattr(dot, name) for dot in dots)) for name in ("model", "kind"))

    def drawn(dot: Dot) -> Element:
        sign = marker(kinds.index(dot.kind), frame.x(dot.x), frame.y(dot.y))
        best = " front" if dot in front else ""
        words = element("title", f"{_name(dot)}: {short(dot.y)} at {short(dot.x)}")
        return element("g", words, sign, class_=f"dot dot{models.index(dot.model) % _COLORS}{best}")

    best = "; ".join(f"{_name(dot)}, {short(dot.y)} at {short(dot.x)}" for dot in front)
    words = f"{title}: {up} by {across}, {len(dots)} points. On the Pareto front: {best}."
    svg = frame.svg(_steps(front, frame), *map(drawn, dots), *_labels(front, frame), words=words)
    legend = element("p", *_legend(models, kinds), class_="legend")
    return chart_figure(title, frame.up.title, legend, svg, _table(dots, front, title, across, up))


def _name(dot: Dot) -> str:
    return f"{dot.model} {dot.kind}".strip()


def _steps(front: Sequence[Dot], frame: Frame) -> Element:
    """The front as stairs: below and to the right of them everything is beaten."""
    places = [(frame.x(front[0].x), frame.y(frame.up.ticks[0]))]
    for dot in front:
        places += [(frame.x(dot.x), places[-1][1]), (frame.x(dot.x), frame.y(dot.y))]
    places.append((frame.width - frame.right, places[-1][1]))
    return element("polyline", points=" ".join(f"{x},{y}" for x, y in places), class_="stairs")


def _labels(front: Sequence[Dot], frame: Frame) -> list[Element]:
    """Names over the stairs, where nothing else is drawn; one that would lie on another is left to the legend."""
    drawn: list[Element] = []
    above = float("inf")
    for dot in front:
        x, y = frame.x(dot.x), frame.y(dot.y) - 8
        if above - y < _LINE_HEIGHT:
            continue
        name = _name(dot)
        text = name if len(name) <= _LABEL_LENGTH else f"{name[: _LABEL_LENGTH - 1]}…"
        anchor, x = ("end", x + 4) if x > frame.width / 2 else ("start", x - 4)
        drawn.append(element("text", text, x=x, y=max(y, frame.top), text_anchor=anchor, class_="name"))
        above = y
    return drawn


def _legend(models: Sequence[str], kinds: Sequence[str]) -> list[Element]:
    signs = [
        (model, element("g", marker(0, 6, 6), class_=f"dot front dot{row % _COLORS}"))
        for row, model in enumerate(models)
    ]
    signs += [(kind, element("g", marker(row, 6, 6), class_="dot")) for row, kind in enumerate(kinds) if kind]
    samples = [
        element("span", element("svg", sign, viewBox="0 0 12 12", class_="sample dotted", aria_hidden="true"), label)
        for label, sign in signs
    ]
    return [*samples, element("span", "filled: on the Pareto front")]


def _table(dots: Sequence[Dot], front: Sequence[Dot], title: str, across: str, up: str) -> Element:
    rows = [
        [_name(dot), number(dot.x, short(dot.x)), number(dot.y, short(dot.y)), "yes" if dot in front else "no"]
        for dot in dots
    ]
    return figure_table(("model", across, up, "on the front"), rows, f"{title}, in figures", sortable=True)
