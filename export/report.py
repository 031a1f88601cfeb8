"""What an export wrote, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .parity import TOP_K

if TYPE_CHECKING:
    from rich.table import Table

    from .onnx import Exported

__all__ = ["exported_table"]


def exported_table(files: Sequence[Exported]) -> Table:
    """A row per file: its size, how long it took, and how far it is from PyTorch in FP32."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="agreement with PyTorch in FP32", title_justify="left")
    table.add_column("file", overflow="fold")
    for title in ("MB", "seconds", "cosine, least", "largest error", f"same top {TOP_K}"):
        table.add_column(title, justify="right")
    for file in files:
        parity = file.parity
        figures = f"{parity.cosine_min:.6f}", f"{parity.max_error:.1e}", f"{parity.ranking:.1%}"
        table.add_row(str(file.path), f"{file.bytes / 1e6:.2f}", f"{file.seconds:.1f}", *figures)
    return table
