"""What a run must keep to count: enough time and batches, an accuracy of the same file, an undisturbed machine.

The rules on time and number are those of MLPerf Inference, for the edge (mlcommons/inference_policies,
inference_rules.adoc, "Scenarios" and the appendix "Early Stopping Criterion"; mlcommons/inference,
loadgen/mlperf.conf): at least 600 s, as many queries as its early stopping asks for at the highest percentile that is
quoted, and 24,576 samples where batches are the point ("Offline"). A row of batch 1 is its "SingleStream".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from reid_edge.benchmarks.compare.matching import name_of
from reid_edge.benchmarks.options import BenchOptions
from reid_edge.benchmarks.queries import QueryScores
from reid_edge.benchmarks.results import BenchReport, BenchRow

__all__ = ["LEAST_OFFLINE_CROPS", "LEAST_SECONDS", "audit_options", "broken_rules", "early_stopping_queries"]

LEAST_SECONDS = 600.0
LEAST_OFFLINE_CROPS = 24_576
_MARGIN = 1.02  # a row's time is that of its batches, without what lies between them
_CONFIDENCE = 0.99
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROUNDING = 1e-4  # of a mean of APs rounded to four places


def early_stopping_queries(share: float) -> int:
    """The fewest queries after which MLPerf quotes the ``share``-quantile of latency: one may lie above, surely.

    The smallest n at which at most one of n over-latency queries has a chance of 1 % or less, where each is one with a
    chance of 1 - ``share``.

    >>> early_stopping_queries(0.90), early_stopping_queries(0.99)
    (64, 662)
    """
    queries = 1
    while share**queries + queries * (1 - share) * share ** (queries - 1) > 1 - _CONFIDENCE:
        queries += 1
    return queries


def audit_options(options: BenchOptions) -> BenchOptions:
    """The options with as much time and as many batches as the rules ask for.

    >>> audit_options(BenchOptions(batches=(1, 32))).repeats
    768
    """
    offline = [-(-LEAST_OFFLINE_CROPS // batch) for batch in options.batches if batch > 1]
    repeats = max(options.repeats, early_stopping_queries(0.99), *offline)
    return replace(options, min_seconds=max(options.min_seconds, LEAST_SECONDS * _MARGIN), repeats=repeats)


def broken_rules(report: BenchReport) -> tuple[str, ...]:
    """The rules that a report breaks, in words; empty for a run that counts."""
    found = [] if report.complete else ["the run was interrupted: rows are missing"]
    if report.machine.busy:
        found.append("the machine was busy before the start")
    found += [f"{name_of(row)}: {reason}" for row in report.rows for reason in _of_row(row, report)]
    return tuple(found)


def _of_row(row: BenchRow, report: BenchReport) -> Iterator[str]:
    yield from _of_amount(row)
    yield from _of_accuracy(row, report.queries)
    measured, clocks = row.measured, row.measured.clocks
    if not _SHA256.fullmatch(row.sha256):
        yield "the file's SHA-256 is not recorded"
    if not (clocks and (clocks.cpu_mhz or clocks.gpu_mhz) or report.machine.frequency_mhz):
        yield "no clock is recorded"
    if clocks and clocks.throttled:
        yield f"clocks were lowered: {', '.join(clocks.throttled)}"
    if measured.disturbed:
        yield f"it was disturbed: {', '.join(measured.disturbed)}"
    if measured.warm_up is None or not measured.warm_up.steady:
        yield "the warm-up ended before times were steady"


def _of_amount(row: BenchRow) -> Iterator[str]:
    """What is too little; more than one stream is "Offline" too, as its latencies are of crops that wait."""
    crops, seconds = row.batch * row.measured.samples, row.batch * row.measured.samples / row.measured.crops_per_s
    least = early_stopping_queries(0.99)
    if seconds < LEAST_SECONDS:
        yield f"{seconds:.0f} s were measured, of at least {LEAST_SECONDS:.0f}"
    if row.measured.samples < least:
        yield f"{row.measured.samples} batches were measured, of at least {least} for a p99"
    if row.batch > 1 and crops < LEAST_OFFLINE_CROPS:
        yield f"{crops} crops were measured, of at least {LEAST_OFFLINE_CROPS}"


def _of_accuracy(row: BenchRow, queries: QueryScores | None) -> Iterator[str]:
    key = QueryScores.key(row.measured.engine)
    if row.mAP is None or row.rank1 is None:
        yield "no accuracy was measured: give --data"
    elif queries is None or key not in queries.average_precision:
        yield "no accuracy is recorded of the file with this SHA-256, on this provider"
    elif abs(_mean(queries.average_precision[key]) - row.mAP) > _ROUNDING:
        yield "its mAP is not the mean of its queries"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
