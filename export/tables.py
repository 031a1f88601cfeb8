"""Tables of an export for a terminal of 80 columns; where it is narrow, file names are broken at their separators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.cells import FileName

from .engines.kernels import KINDS
from .parity.compare import TOP_K

if TYPE_CHECKING:
    from rich.table import Table

    from .engines.build import Built
    from .int8.in_float import Int8Layers
    from .parity.gate import Parity
    from .parity.recheck import Verified
    from .report import Exported

__all__ = ["built_table", "exported_table", "scores_table", "search_table", "verified_table"]

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
    """A row per file: size, what a crop costs, seconds, difference from FP32 and the verdict of all gates."""
    titles = ("\nMB", "M\nMACs", "MB\nmoved", "\ns", *_COSINES, "\nverdict")
    table = _table("agreement with the model in FP32", [file.path for file in files], titles)
    for file in files:
        table.add_row(
            FileName(file.path.name),
            f"{file.bytes / 1e6:.2f}" if file.bytes else "-",
            *([f"{file.cost.macs / 1e6:.0f}", f"{file.cost.bytes / 1e6:.1f}"] if file.cost else ["-", "-"]),
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


def search_table(file: Exported, layers: Int8Layers) -> Table:
    """A row per set of layers that the search left in float, in the order in which they were tried."""
    titles = ("% of MACs\nin INT8", *_COSINES, "mAP\nlost", "\nverdict")
    table = _table(f"layers in float; {layers.cost()}", [file.path], titles, first="layers\nin float")
    for trial in layers.trials:
        lost = "-" if trial.map_lost is None else f"{100 * trial.map_lost.mean:.2f}"
        cells = [f"{cosine:.5f}" for cosine in (trial.cosine_min, trial.cosine_p1, trial.cosine_mean)]
        table.add_row(str(trial.in_float), f"{100 * trial.share:.0f}", *cells, lost, trial.verdict)
    return table


def built_table(engines: Sequence[Built]) -> Table:
    """A row per engine: size, build time, kernels, how many matmuls and convolutions read and write which type."""
    titles = (
        "\nMB",
        "\ns",
        "\nkernels",
        "read\nINT8",
        "\nFP16",
        "\nFP32",
        "write\nINT8",
        "\nFP16",
        "\nFP32",
        "layers\nfrom",
    )
    table = _table(
        "matmul and convolution layers by what they read and write", [engine.path for engine in engines], titles
    )
    for engine in engines:
        counts = [str(count(kind)) for count in (engine.kernels, engine.kernels_that_write) for kind in KINDS]
        cells = f"{engine.bytes / 1e6:.2f}", f"{engine.seconds:.1f}", str(sum(engine.layers.values()))
        table.add_row(FileName(engine.path.name), *cells, *counts, engine.source)
    return table


def _cosines(parity: Parity | None) -> list[str]:
    """The cells under `_COSINES`."""
    if parity is None:
        return ["-"] * len(_COSINES)
    return [f"{cosine:.5f}" for cosine in (parity.cosine_min, parity.cosine_p1, parity.cosine_mean)]


def _table(title: str, files: Sequence[Path], titles: Sequence[str], first: str = "file") -> Table:
    """An empty table: a column for files' names, whose folders are in the title, and the columns ``titles``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    folders = ", ".join(sorted({str(path.parent) for path in files}))
    table = Table(box=SIMPLE_HEAD, title=f"{title}; files in {folders}", title_justify="left", padding=0)
    table.add_column(first)
    for name in titles:
        table.add_column(name, justify="right", no_wrap=True)
    return table
