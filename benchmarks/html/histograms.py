"""Histograms of times: small ones, many beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from .axes import Axis, Frame
from .elements import element
from .tables import short

__all__ = ["histogram_chart"]

_BINS = 24
_TAIL = 0.005
"""The share of times beyond the axis: one outlier would leave no room for the rest; they are counted in words."""


def histogram_chart(times_ms: Sequence[float], *, title: str, marks: dict[str, float]) -> Element:
    """A figure of how often a time in ms occurred, with ``marks`` (p50, p99) as lines; needs at least one time."""
    times = sorted(times_ms)
    kept = times[: max(1, math.ceil(len(times) * (1 - _TAIL)))]
    across = Axis.around("ms", [*kept, *(mark for mark in marks.values() if mark <= kept[-1] * 1.25)])
    low, high = across.ticks[0], across.ticks[-1]
    counts = [0] * _BINS
    for time in kept:
        counts[min(_BINS - 1, int((time - low) / (high - low) * _BINS))] += 1
    shares = [100 * count / len(times) for count in counts]
    frame = Frame(Axis("ms", across.ticks), Axis.from_zero("%", shares), height=170, left=36)
    beyond = len(times) - len(kept)
    words = f"{title}: {len(times)} times, {', '.join(f'{name} {short(at)} ms' for name, at in marks.items())}"
    tail = f"; {beyond} beyond the axis, up to {short(times[-1])} ms" if beyond else ""
    svg = frame.svg(*_bars(shares, low, high, frame), *_marks(marks, frame), words=f"{words}{tail}.")
    caption = element("figcaption", element("b", title), element("span", f"% of {len(times)} batches{tail}"))
    return element("figure", caption, svg, class_="histogram")


def _bars(shares: Sequence[float], low: float, high: float, frame: Frame) -> list[Element]:
    width, floor = (high - low) / len(shares), frame.y(0)
    drawn = []
    for row, share in enumerate(shares):
        if share:
            left, right = frame.x(low + row * width), frame.x(low + (row + 1) * width)
            size = {"width": round(max(right - left - 1, 1), 1), "height": round(floor - frame.y(share), 1)}
            drawn.append(element("rect", x=left, y=frame.y(share), **size, class_="bar"))
    return drawn


def _marks(marks: dict[str, float], frame: Frame) -> list[Element]:
    drawn = []
    for name, at in marks.items():
        if at <= frame.across.ticks[-1]:
            x = frame.x(at)
            drawn.append(element("line", x1=x, y1=frame.top + 8, x2=x, y2=frame.y(0), class_="mark"))
            drawn.append(element("text", name, x=x, y=frame.top + 4, text_anchor="middle", class_="name"))
    return drawn
