"""Tables of an export for a terminal of 80 columns; where it is narrow, file names are broken at their separators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.cells import FileName

from .parity.compare import TOP_K

if TYPE_CHECKING:
    from rich.table import Table

    from .engines.build import Built
    from .parity.gate import Parity
    from .parity.recheck import Verified
    from .report import Exported

__all__ = ["built_table", "exported_table", "scores_table", "verified_table"]

_COSINES = ("cosine\nmin", "\np1", "\nmean")


def verified_table(files: Sequence[Verified]) -> Table:
    """A row per file: its difference from the reference and between batches, and the verdict."""
    titles = (*_COSINES, "relative\nerror", f"same\ntop {TOP_K}", "between\nbatches", "\nverdict")
    table = _table("agreement with the reference", [file.path for file in files], titles)
    for file in files:
        cells = ["-"] * 3
        if file.parity:
            cells = [
                f"{file.parity.relative_error:.1e}",
                f"{file.parity.ranking:.1%}",
                f"{file.parity.batch_error:.1e}",
            ]
        table.add_row(FileName(file.path.name), *_cosines(file.parity), *cells, "refused" if file.refused else "passed")
    return table


def exported_table(files: Sequence[Exported]) -> Table:
    """A row per file: size, seconds, difference from FP32 and the verdict of all gates."""
    titles = ("\nMB", "\ns", *_COSINES, "\nverdict")
    table = _table("agreement with the model in FP32", [file.path for file in files], titles)
    for file in files:
        table.add_row(
            FileName(file.path.name),
            f"{file.bytes / 1e6:.2f}" if file.bytes else "-",
            f"{file.seconds:.1f}",
            *_cosines(file.parity),
            "refused" if file.refused else "passed",
        )
    return table


def scores_table(files: Sequence[Exported | Verified]) -> Table:
    """A row per file that was scored: its scores, what it loses against FP32, and whether the limit on mAP holds."""
    scored = [(file.path, file.metrics, file.lost) for file in files if file.metrics]
    titles = ("\nR1 %", "\nmAP %", "R1 lost\n[95 %]", "mAP lost\n[95 %]")
    table = _table("scores, and points lost against FP32", [path for path, _, _ in scored], titles)
    table.add_column("mAP limit")
    for path, metrics, lost in scored:
        cells = [f"{100 * value:.2f}" for value in (metrics.rank(1), metrics.mAP)]
        losses = [str(loss).replace(" ", "\n", 1) for loss in (lost.rank1, lost.mAP)] if lost else ["-", "-"]
        table.add_row(FileName(path.name), *cells, *losses, f"{100 * lost.limit:.2f}: {lost.verdict}" if lost else "-")
    return table


def built_table(engines: Sequence[Built]) -> Table:
    """A row per engine: size, build time, and how many of its matmul and convolution layers read which type."""
    titles = ("MB", "s", "INT8", "FP16", "FP32", "layers from")
    table = _table(
        "matmul and convolution layers by the type that they read", [engine.path for engine in engines], titles
    )
    for engine in engines:
        counts = [str(engine.kernels(kind)) for kind in ("Int8", "Half", "Float")]
        table.add_row(
            FileName(engine.path.name), f"{engine.bytes / 1e6:.2f}", f"{engine.seconds:.1f}", *counts, engine.source
        )
    return table


def _cosines(parity: Parity | None) -> list[str]:
    """The cells under `_COSINES`."""
    if parity is None:
        return ["-"] * len(_COSINES)
    return [f"{cosine:.5f}" for cosine in (parity.cosine_min, parity.cosine_p1, parity.cosine_mean)]


def _table(title: str, files: Sequence[Path], titles: Sequence[str]) -> Table:
    """An empty table: a column for files' names, whose folders are in the title, and the columns ``titles``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    folders = ", ".join(sorted({str(path.parent) for path in files}))
    table = Table(box=SIMPLE_HEAD, title=f"{title}; files in {folders}", title_justify="left", padding=0)
    table.add_column("file")
    for name in titles:
        table.add_column(name, justify="right", no_wrap=True)
    return table
