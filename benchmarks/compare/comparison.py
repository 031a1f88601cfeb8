"""Two reports of bench compared: every pair of rows, and the rules that the new one breaks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.core.names import require_name
from reid_edge.errors import InputError

from .differences import Difference, difference
from .matching import ALLOWED, Matched, check_comparable, match_models, match_rows, name_of
from .measures import MEASURES
from .rules import Rule

__all__ = ["BenchComparison", "Judged", "RowPair", "RuleVerdict", "compare_reports"]

RuleVerdict: TypeAlias = Literal["kept", "unsure", "broken"]
"""Whether a limit is surely kept, surely exceeded, or within the interval of what was measured."""


@dataclass(frozen=True)
class RowPair:
    """A row, the one it belongs to, and how it differs: a difference for each measure that both have, by its name."""

    old: BenchRow
    new: BenchRow
    differences: dict[str, Difference]


@dataclass(frozen=True)
class Judged:
    """What a rule says of a row."""

    row: str
    rule: Rule
    found: Difference
    verdict: RuleVerdict

    def __str__(self) -> str:
        basis = f", by {self.found.basis}" if self.found.basis else ""
        return f"{self.verdict}: {self.row}: {self.rule.measure.title} {self.found}{basis} ({self.rule})"


@dataclass(frozen=True)
class BenchComparison:
    """All pairs of rows, what every rule says of each, and the rows of one report alone.

    ``failures`` are the reasons not to accept the new report, in words; empty for none. ``notes`` are what a reader
    should know.
    """

    rows: tuple[RowPair, ...]
    judged: tuple[Judged, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<BenchComparison: {len(self.rows)} rows, {len(self.failures)} failures>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: each change says how much worse a figure became, in its unit."""
        return {
            "rows": [
                {
                    "row": name_of(pair.new),
                    "old_sha256": pair.old.sha256,
                    "new_sha256": pair.new.sha256,
                    "differences": {name: asdict(each) for name, each in pair.differences.items()},
                }
                for pair in self.rows
            ],
            "judged": [
                {"row": each.row, "rule": str(each.rule), "verdict": each.verdict, **asdict(each.found)}
                for each in self.judged
            ],
            "only_old": list(self.only_old),
            "only_new": list(self.only_new),
            "failures": list(self.failures),
            "notes": list(self.notes),
        }


def compare_reports(
    old: BenchReport,
    new: BenchReport | None = None,
    *,
    rules: Sequence[Rule] = (),
    allow: Collection[str] = (),
    strict: bool = False,
) -> BenchComparison:
    """Compare two reports, or without ``new`` the models of one with its first.

    ``allow`` names what may differ (`matching.ALLOWED`); ``strict`` makes failures of rules whose limit lies within
    the interval. Raises InputError for reports that cannot be compared, and for a rule that no row has figures for.
    """
    for name in allow:
        require_name(name, ALLOWED, "what may differ,")
    matched = match_models(old) if new is None else _matched(old, new, allow)
    reports = (old, old if new is None else new)
    pairs = tuple(RowPair(*rows, _differences(rows, reports)) for rows in matched.pairs)
    judged = tuple(each for rule in rules for each in _judge(rule, matched, reports))
    refused = ("broken", "unsure") if strict else ("broken",)
    failures = [str(each) for each in judged if each.verdict in refused]
    if rules and "missing" not in allow:
        failures += [f"missing: {name} is in the old report alone" for name in matched.only_old]
    return BenchComparison(pairs, judged, matched.only_old, matched.only_new, tuple(failures), _notes(reports))


def _matched(old: BenchReport, new: BenchReport, allow: Collection[str]) -> Matched:
    check_comparable(old, new, allow)
    return match_rows(old, new)


def _differences(rows: tuple[BenchRow, BenchRow], reports: tuple[BenchReport, BenchReport]) -> dict[str, Difference]:
    found = {name: difference(name, rows, reports) for name in MEASURES}
    return {name: each for name, each in found.items() if each}


def _judge(rule: Rule, matched: Matched, reports: tuple[BenchReport, BenchReport]) -> list[Judged]:
    """What a rule says of every pair that has the figure."""
    found = [(rows, difference(rule.name, rows, reports, rule.unit)) for rows in matched.pairs]
    judged = [Judged(name_of(rows[1]), rule, each, _verdict(each, rule)) for rows, each in found if each]
    if not judged:
        raise InputError(
            f"rule {rule}: no row has its {rule.measure.title} in both reports: measure it, or leave it out"
        )
    return judged


def _verdict(found: Difference, rule: Rule) -> RuleVerdict:
    exceeds = found.exceeds(rule.limit)
    return "unsure" if exceeds is None else "broken" if exceeds else "kept"


def _notes(reports: tuple[BenchReport, BenchReport]) -> tuple[str, ...]:
    """Reasons to mistrust the comparison."""
    names = ("the report",) * 2 if reports[0] is reports[1] else ("the old report", "the new report")
    by_name = dict(zip(names, reports, strict=True))
    return tuple(f"{name}: {warning}" for name, report in by_name.items() for warning in report.warnings)
