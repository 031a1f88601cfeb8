"""What an export wrote, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .parity import TOP_K

if TYPE_CHECKING:
    from rich.table import Table

    from .build import Built
    from .parity import Parity
    from .verify import Verified
    from .write import Exported

__all__ = ["built_table", "exported_table", "verified_table"]


_AGREEMENT = ("cosine, least", "p1", "mean", "largest error", "relative", f"same top {TOP_K}")


def _agreement(parity: Parity | None) -> list[str]:
    """The cells under `_AGREEMENT`."""
    if parity is None:
        return ["-"] * len(_AGREEMENT)
    cosines = parity.cosine_min, parity.cosine_p1, parity.cosine_mean
    errors = parity.max_error, parity.relative_error
    return [*(f"{cosine:.6f}" for cosine in cosines), *(f"{error:.1e}" for error in errors), f"{parity.ranking:.1%}"]


def verified_table(files: Sequence[Verified]) -> Table:
    """A row per file: how far it is from the reference, also between batches, and the verdict."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="agreement with the reference", title_justify="left")
    table.add_column("file", overflow="fold")
    for title in ("precision", *_AGREEMENT, "between batches", "verdict"):
        table.add_column(title, justify="right")
    for file in files:
        apart = f"{file.parity.batch_error:.1e}" if file.parity else "-"
        verdict = "refused" if file.refused else "passed"
        table.add_row(str(file.path), file.precision, *_agreement(file.parity), apart, verdict)
    return table


def exported_table(files: Sequence[Exported]) -> Table:
    """A row per file: its size, how long it took, how far it is from FP32, and its scores where there was data."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    scored = any(file.metrics for file in files)
    table = Table(box=SIMPLE_HEAD, title="agreement with the model in FP32", title_justify="left")
    table.add_column("file", overflow="fold")
    titles = ["MB", "seconds", *_AGREEMENT]
    for title in [*titles, *(["R1", "mAP", "mAP lost"] if scored else []), "verdict"]:
        table.add_column(title, justify="right")
    for file in files:
        cells = [f"{file.bytes / 1e6:.2f}" if file.bytes else "-", f"{file.seconds:.1f}"]
        cells += _agreement(file.parity)
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
