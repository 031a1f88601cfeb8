"""Axes of charts: where a value is drawn, and which values are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .elements import element
from .tables import short

__all__ = ["Axis", "Frame"]


@dataclass(frozen=True)
class Axis:
    """A direction of a chart: its ``title``, the values marked on it, ascending, and whether it is logarithmic."""

    title: str
    ticks: tuple[float, ...]
    logarithmic: bool = False

    @classmethod
    def percent(cls, title: str) -> Axis:
        """0 to 100."""
        return cls(title, (0, 20, 40, 60, 80, 100))

    @classmethod
    def counted(cls, title: str, values: Iterable[float]) -> Axis:
        """Whole numbers from the least value to the largest.

        >>> Axis.counted("epoch", [1, 20]).ticks, Axis.counted("epoch", [7]).ticks
        ((1, 5, 10, 15, 20), (7,))
        """
        known = list(values)
        first, last = min(known), max(known)
        step = max(1, round(_step((last - first) / 4)))
        inner = tuple(tick for tick in range(0, math.floor(last) + 1, step) if tick - first >= step / 2)
        return cls(title, (first, *inner))

    @classmethod
    def from_zero(cls, title: str, values: Iterable[float]) -> Axis:
        """0 to a round value not below the largest.

        >>> Axis.from_zero("loss", [0.3, 1.7]).ticks
        (0.0, 0.5, 1.0, 1.5, 2.0)
        """
        return cls(title, tuple(_linear_ticks(0, max(values, default=0) or 1)))

    @classmethod
    def around(cls, title: str, values: Iterable[float]) -> Axis:
        """Round values around those given; where the first is not 0 the title says the range.

        >>> Axis.around("mAP, %", [61.5, 68])
        Axis(title='mAP, %, from 60 to 68', ticks=(60.0, 62.0, 64.0, 66.0, 68.0), logarithmic=False)
        """
        known = list(values)
        low, high = min(known), max(known)
        ticks = _linear_ticks(low, high if high > low else low + 1)
        return cls(f"{title}, from {short(ticks[0])} to {short(ticks[-1])}" if ticks[0] else title, tuple(ticks))

    @classmethod
    def powers(cls, title: str, values: Iterable[float]) -> Axis:
        """A logarithmic axis around values above 0: 1, 2 and 5 of each power of ten; over three powers, those alone.

        >>> Axis.powers("ms", [0.3, 7]).ticks
        (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
        """
        known = list(values)
        return cls(title, tuple(_log_ticks(min(known), max(known))), logarithmic=True)

    def share(self, value: float) -> float:
        """How far along the axis a value is: 0 at the first tick, 1 at the last; where those are one, the middle."""
        by = math.log if self.logarithmic else float
        origin, length = by(self.ticks[0]), by(self.ticks[-1]) - by(self.ticks[0])
        return (by(value) - origin) / length if length else 0.5


@dataclass(frozen=True)
class Frame:
    """The drawing of a chart: ``width`` x ``height``, in pixels of a phone, with room for the marks of two axes."""

    across: Axis
    up: Axis
    width: int = 360
    height: int = 240
    left: int = 44
    right: int = 10
    top: int = 10
    bottom: int = 40

    def x(self, value: float) -> float:
        """From the left edge."""
        return round(self.left + (self.width - self.left - self.right) * self.across.share(value), 1)

    def y(self, value: float) -> float:
        """From the upper edge."""
        floor = self.height - self.bottom
        return round(floor + (self.top - floor) * self.up.share(value), 1)

    def grid(self) -> list[Element]:
        """Lines and figures of the ticks, and the title of the axis across."""
        right, floor = self.width - self.right, self.height - self.bottom
        drawn = []
        for tick, text in zip(self.up.ticks, _marks(self.up.ticks), strict=True):
            y = self.y(tick)
            drawn.append(element("line", x1=self.left, y1=y, x2=right, y2=y, class_="grid"))
            drawn.append(element("text", text, x=self.left - 6, y=y + 4, text_anchor="end"))
        for tick in self.across.ticks:
            drawn.append(element("text", _mark(tick), x=self.x(tick), y=floor + 17, text_anchor="middle"))
        middle = (self.left + right) / 2
        return [*drawn, element("text", self.across.title, x=middle, y=self.height - 6, text_anchor="middle")]

    def svg(self, *drawn: Element, words: str) -> Element:
        """The drawing as one picture, which ``words`` say to those who do not see it."""
        box = f"0 0 {self.width} {self.height}"
        return element("svg", *self.grid(), *drawn, viewBox=box, role="img", aria_label=words)


def _marks(ticks: tuple[float, ...]) -> list[str]:
    """Ticks with as many digits as tell them apart.

    >>> _marks((40.41, 40.44)), _marks((0.0, 20.0))
    (['40.41', '40.44'], ['0', '20'])
    """
    texts = [short(tick) for tick in ticks]
    return texts if len(set(texts)) == len(texts) else [f"{tick:.2f}" for tick in ticks]


def _mark(tick: float) -> str:
    """A tick in few signs.

    >>> _mark(0.0001), _mark(0.05), _mark(20.0)
    ('1e-4', '0.05', '20')
    """
    return f"{tick:.0e}".replace("e-0", "e-") if 0 < tick < 1e-3 else short(tick)


def _linear_ticks(low: float, high: float) -> list[float]:
    """Round values around a range, five or so.

    >>> _linear_ticks(0, 100), _linear_ticks(0.1, 0.3), _linear_ticks(0, 0)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.1, 0.15, 0.2, 0.25, 0.3], [0.0])
    """
    step = _step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * count, 9) for count in range(first, last + 1)]


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
