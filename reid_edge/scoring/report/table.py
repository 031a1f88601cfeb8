"""Evaluations as a table for a terminal: a row each, all that the figures depend on around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reid_edge.scoring.evaluation import Evaluation
from reid_edge.scoring.roc import FALSE_ACCEPT_RATES
from reid_edge.scoring.trials import protocol_note

from .comparison import names_of, tricks_of

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["evaluation_table", "evaluations_table", "roc_table"]


def evaluation_table(result: Evaluation) -> Table:
    """The figures in per cent, under what they were measured on; the 95 % interval of mAP below it."""
    metrics, interval = result.metrics, result.intervals["mAP"]
    table = _table(f"{result.model} on {result.dataset} ({result.part})")
    table.caption = (
        f"mAP 95 % [{100 * interval.low:.1f}, {100 * interval.high:.1f}], over {interval.identities} identities\n"
        f"{result.distance} distance, {result.resize} resize, {tricks_of(result) or 'no test-time tricks'}\n"
        f"{result.engine}{protocol_note(metrics)}"
    )
    ranks = _ranks(result)
    for title in (*(f"rank-{k}" for k in ranks), "mAP", "mINP", "queries with\na match", "gallery", "crops/s"):
        table.add_column(title, justify="right")
    counts = f"{metrics.valid_queries} of {metrics.queries}", f"{metrics.gallery}", f"{result.images_per_second:.0f}"
    table.add_row(*_figures(result, ranks), *counts)
    return table


def evaluations_table(results: Sequence[Evaluation]) -> Table:
    """Several evaluations of one test set, named by what they differ in; figures in per cent."""
    first = results[0]
    models = {each.model for each in results}
    table = _table(f"{first.model if len(models) == 1 else f'{len(models)} models'} on {first.dataset} ({first.part})")
    metrics, resizes = first.metrics, ", ".join(sorted({each.resize for each in results}))
    table.caption = (
        f"{metrics.valid_queries} of {metrics.queries} queries with a match, {metrics.gallery} gallery crops\n"
        f"{', '.join(dict.fromkeys(each.distance for each in results))} distance, {resizes} resize; "
        f"95 % over {first.intervals['mAP'].identities} identities"
    )
    table.add_column("", overflow="fold")
    ranks = _ranks(first)
    for title in (*(f"rank-{k}" for k in ranks), "mAP", "mINP", "mAP 95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, result in zip(names_of(list(results)), results, strict=True):
        interval = result.intervals["mAP"]
        ends = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
        table.add_row(name, *_figures(result, ranks), ends)
    return table


def roc_table(results: Sequence[Evaluation]) -> Table:
    """EER, AUC and TAR@FAR of those evaluations that have a ROC, in per cent, and the threshold at each FAR."""
    table = _table("One threshold for all pairs, of one person or of two (cameras as in the ranking)")
    table.add_column("", overflow="fold")
    for title in ("EER", "AUC", *(f"TAR at FAR\n{100 * far:g} % (at)" for far in FALSE_ACCEPT_RATES)):
        table.add_column(title, justify="right")
    for name, result in zip(names_of(list(results)), results, strict=True):
        if (roc := result.roc) is not None:
            rates = (f"{100 * roc.tar_at(far):.1f} ({roc.threshold_at(far):.4g})" for far in FALSE_ACCEPT_RATES)
            table.add_row(name, f"{100 * roc.eer:.2f}", f"{100 * roc.auc:.2f}", *rates)
    return table


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, title_justify="left", caption_justify="left", padding=0, title=title)


def _ranks(result: Evaluation) -> list[int]:
    """The ranks that are shown: 1, 5, 10, 20, and the last where more was asked for."""
    last = len(result.metrics.cmc)
    return [k for k in (1, 5, 10, 20, *((last,) if last > 20 else ())) if k <= last]


def _figures(result: Evaluation, ranks: Sequence[int]) -> list[str]:
    metrics = result.metrics
    return [f"{100 * value:.1f}" for value in (*map(metrics.rank, ranks), metrics.mAP, metrics.mINP)]
