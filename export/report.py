"""What an export wrote, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .parity import TOP_K

if TYPE_CHECKING:
    from rich.table import Table

    from .build import Built
    from .write import Exported

__all__ = ["built_table", "exported_table"]


def exported_table(files: Sequence[Exported]) -> Table:
    """A row per file: its size, how long it took, how far it is from FP32, and its scores where there was data."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    scored = any(file.metrics for file in files)
    table = Table(box=SIMPLE_HEAD, title="agreement with the model in FP32", title_justify="left")
    table.add_column("file", overflow="fold")
    titles = ["MB", "seconds", "cosine, least", "p1", "mean", "largest error", f"same top {TOP_K}"]
    for title in [*titles, *(["R1", "mAP", "mAP lost"] if scored else []), "verdict"]:
        table.add_column(title, justify="right")
    for file in files:
        cells = [f"{file.bytes / 1e6:.2f}" if file.bytes else "-", f"{file.seconds:.1f}"]
        if parity := file.parity:
            cosines = parity.cosine_min, parity.cosine_p1, parity.cosine_mean
            cells += [*(f"{cosine:.6f}" for cosine in cosines), f"{parity.max_error:.1e}", f"{parity.ranking:.1%}"]
        else:
            cells += ["-"] * 5
        if scored:
            scores = (
                [f"{value:.2%}" for value in (file.metrics.rank(1), file.metrics.mAP)] if file.metrics else ["-"] * 2
            )
            cells += [*scores, "-" if file.lost is None else f"{file.lost * 100:+.2f}"]
        table.add_row(str(file.path), *cells, "refused" if file.refused else "passed")
    return table


def built_table(engines: Sequence[Built]) -> Table:
    """A row per engine: size, build time, and how many of its convolutions and matrix products read which type."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="engines: convolutions and matrix products by what they read")
    table.title_justify = "left"
    table.add_column("engine", overflow="fold")
    for title in ("MB", "seconds", "INT8", "FP16", "FP32", "layers from"):
        table.add_column(title, justify="right")
    for engine in engines:
        counts = [str(engine.kernels(kind)) for kind in ("Int8", "Half", "Float")]
        table.add_row(str(engine.path), f"{engine.bytes / 1e6:.2f}", f"{engine.seconds:.1f}", *counts, engine.source)
    return table
