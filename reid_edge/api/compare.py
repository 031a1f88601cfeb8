"""Two reports of bench compared, with rules that the new one must keep: for a project's own CI."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from reid_edge.benchmarks.compare.comparison import BenchComparison, compare_reports
from reid_edge.benchmarks.compare.rules import Rule, parse_rule
from reid_edge.benchmarks.results import BenchReport

__all__ = ["compare_benchmarks"]


def compare_benchmarks(
    old: BenchReport | Path | str,
    new: BenchReport | Path | str | None = None,
    *,
    rules: Sequence[Rule | str] = (),
    allow: Collection[str] = (),
    strict: bool = False,
) -> BenchComparison:
    """Compare two reports of bench row by row, or without ``new`` the models of one run with its first model.

    Rows belong together by model, precision, batch, backend and provider. ``rules`` are written as
    ``"p50_rise>10%"`` or ``"map_drop>0.5"`` (`reid_edge.benchmarks.compare.rules.parse_rule`). A rule is broken where
    the whole 95 % interval lies above its limit, and the result's ``failures`` say so; where the limit lies within
    the interval the verdict is "unsure", which is a failure with ``strict`` alone.

    Intervals of p50 are by turns, paired within one run (`reid_edge.benchmarks.compare.ratios`), else by the bounds of
    each p50; those of accuracies by a bootstrap over identities, paired by query. Where the files have none of these,
    the values alone decide.

    ``allow`` names what may differ between the reports: "machine", "data" (crops, distance, threads), "missing" (rows
    of the old report).

    Raises InputError for a file that is no report, for reports that differ in what is not allowed or have no row in
    common, and for a rule that cannot be read or has no figures in any row.

    >>> from reid_edge import BenchOptions, bench
    >>> report = bench(model_file, options=BenchOptions(batches=(1,), repeats=2, min_seconds=0))
    >>> compare_benchmarks(report, report, rules=["size_rise>0%"]).failures
    ()
    """
    parsed = [parse_rule(rule) if isinstance(rule, str) else rule for rule in rules]
    reports = [each if isinstance(each, BenchReport) else BenchReport.read(each) for each in (old, new) if each]
    return compare_reports(
        reports[0], reports[1] if len(reports) > 1 else None, rules=parsed, allow=allow, strict=strict
    )
