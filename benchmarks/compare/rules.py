"""Rules that a new report must keep, as they are typed: ``map_drop>0.5``, ``p50_rise>10%``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reid_edge.core.names import require_name
from reid_edge.errors import InputError

from .measures import MEASURES, Measure

__all__ = ["Rule", "parse_rule"]

_FORM = re.compile(r"\s*([a-z0-9_]{1,40})\s*>\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*([A-Za-z/%]{0,10})\s*")


@dataclass(frozen=True)
class Rule:
    """Broken by a row whose ``name`` is worse by more than ``limit``, in ``unit``."""

    name: str
    limit: float
    unit: str

    @property
    def measure(self) -> Measure:
        """What it limits."""
        return MEASURES[self.name]

    def __str__(self) -> str:
        """As `parse_rule` reads it."""
        return f"{self.name}>{self.limit:g}{self.unit if self.unit == '%' else ' ' + self.unit}"


def parse_rule(text: str) -> Rule:
    """A rule ``NAME>LIMIT`` with its unit: %, or ms, MB, mJ, crops/s, points by what the name measures.

    Names are those of `MEASURES`, and all limit how much worse a figure may become: a rise of what should be low, a
    drop of what should be high. Accuracies are in points, also without a unit; any other rule needs one, as 10 may be
    per cent or milliseconds. Raises InputError for anything else.

    >>> parse_rule("p50_rise>10%"), str(parse_rule("map_drop > 0.5"))
    (Rule(name='p50_rise', limit=10.0, unit='%'), 'map_drop>0.5 points')
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise InputError(f"rule {text[:80]!r} is not NAME>LIMIT: write it as p50_rise>10% or map_drop>0.5")
    name, limit, unit = found.groups()
    measure = MEASURES[require_name(name, MEASURES, "rule")]
    unit = unit or (measure.unit if not measure.share else "")
    if unit not in measure.units:
        remedy = " or ".join(f"{name}>{limit}{each}" for each in measure.units)
        raise InputError(f"rule {text.strip()!r} {f'has the unit {unit}' if unit else 'needs a unit'}: write {remedy}")
    return Rule(name, float(limit), unit)
