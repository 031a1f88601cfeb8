"""What an export wrote, as tables that a terminal of 80 columns holds: where it is narrow, files' names are folded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .parity import TOP_K

if TYPE_CHECKING:
    from rich.table import Table

    from .build import Built
    from .parity import Parity
    from .verify import Verified
    from .write import Exported

__all__ = ["built_table", "exported_table", "verified_table"]

_COSINES = ("cosine\nleast", "\np1", "\nmean")


def verified_table(files: Sequence[Verified]) -> Table:
    """A row per file: how far it is from the reference, also between batches, and the verdict."""
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
        table.add_row(file.path.name, *_cosines(file.parity), *cells, "refused" if file.refused else "passed")
    return table


def exported_table(files: Sequence[Exported]) -> Table:
    """A row per file: its size, how long it took, how far it is from FP32, and its scores where there was data."""
    scored = any(file.metrics for file in files)
    titles = ("\nMB", "\ns", *_COSINES, *(("\nR1 %", "\nmAP %", "mAP\nlost") if scored else ()), "\nverdict")
    table = _table("agreement with the model in FP32", [file.path for file in files], titles)
    for file in files:
        scores = []
        if scored:
            found = (file.metrics.rank(1), file.metrics.mAP) if file.metrics else ()
            scores = [f"{100 * value:.2f}" for value in found] or ["-", "-"]
            scores.append("-" if file.lost is None else f"{100 * file.lost:+.2f}")
        table.add_row(
            file.path.name,
            f"{file.bytes / 1e6:.2f}" if file.bytes else "-",
            f"{file.seconds:.1f}",
            *_cosines(file.parity),
            *scores,
            "refused" if file.refused else "passed",
        )
    return table


def built_table(engines: Sequence[Built]) -> Table:
    """A row per engine: size, build time, and how many of its convolutions and matrix products read which type."""
    titles = ("MB", "s", "INT8", "FP16", "FP32", "layers from")
    table = _table("convolutions and matrix products by what they read", [engine.path for engine in engines], titles)
    for engine in engines:
        counts = [str(engine.kernels(kind)) for kind in ("Int8", "Half", "Float")]
        table.add_row(engine.path.name, f"{engine.bytes / 1e6:.2f}", f"{engine.seconds:.1f}", *counts, engine.source)
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
    table.add_column("file", overflow="fold")
    for name in titles:
        table.add_column(name, justify="right", no_wrap=True)
    return table
