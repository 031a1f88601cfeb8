"""`ModelInspection`: what one model file costs, by its graph, by a builder, and by the rooflines of devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.card import ModelCard
from reid_edge.export.engines.count import KernelCount
from reid_edge.export.graph.traffic import LayerCost, bytes_by_type, macs_by_type

from .estimate import Roofline

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ModelInspection", "cost_table", "roofline_table"]

_MICRO, _MEGA = 1e3, 1e6


@dataclass(frozen=True, kw_only=True)
class ModelInspection:
    """What a model file costs in one batch of ``batch`` crops.

    ``layers`` are nodes that are expected to run as one kernel, with their multiply-accumulates and bytes, which follow
    from the graph. ``kernels`` are what a builder made of it, None where ``no_kernels`` says why not. ``rooflines`` are
    estimates for devices: least times by data sheets, of layers that were not run.
    """

    path: Path
    card: ModelCard
    batch: int
    layers: tuple[LayerCost, ...]
    kernels: KernelCount | None
    no_kernels: str
    rooflines: tuple[Roofline, ...]

    def __repr__(self) -> str:
        kernels = f"{self.kernels.total} kernels" if self.kernels else "kernels not counted"
        moved = sum(self.bytes.values()) / _MEGA
        return f"<ModelInspection: {self.path.name}, {kernels}, {self.total_macs / _MEGA:.1f} M MACs, {moved:.1f} MB>"

    @property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates by the type that they are computed in."""
        return macs_by_type(self.layers)

    @property
    def total_macs(self) -> int:
        """All multiply-accumulates."""
        return sum(self.macs.values())

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes that are moved, weights and activations, by the type that they are stored in."""
        return bytes_by_type(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: totals, kernels, layers and estimates."""
        return {
            "path": str(self.path),
            "precision": self.card.precision,
            "batch": self.batch,
            "kernels": self.kernels.total if self.kernels else None,
            "kernels_by_type": dict(self.kernels.layers) if self.kernels else {},
            "builder": self.kernels.builder if self.kernels else None,
            "no_kernels": self.no_kernels or None,
            "macs": self.macs,
            "bytes": self.bytes,
            "layers": [layer.to_dict() for layer in self.layers],
            "estimates": [each.to_dict() for each in self.rooflines],
        }


def cost_table(found: ModelInspection) -> Table:
    """A row per type: the multiply-accumulates computed in it, and the bytes stored in it."""
    table = _table(f"{found.path.name}, batch {found.batch}", ["M MACs", "MB moved"])
    macs, moved = found.macs, found.bytes
    for kind in sorted({*macs, *moved}, key=lambda each: (each.startswith(("int", "uint")), each)):
        cells = (macs.get(kind, 0) / _MEGA, moved.get(kind, 0) / _MEGA)
        table.add_row(kind.upper(), *(f"{value:,.2f}" if value else "-" for value in cells))
    table.add_row("all", f"{found.total_macs / _MEGA:,.2f}", f"{sum(moved.values()) / _MEGA:,.2f}")
    return table


def roofline_table(estimate: Roofline, top: int = 10) -> Table:
    """The ``top`` layers by estimated time on a device, the sum of the others, and all."""
    device = estimate.device
    shares = ", ".join(f"{bound} {share:.0%}" for bound, share in estimate.shares.items())
    title = f"{device.title} ({device.mode}), estimated from its data sheet; bound by {shares}"
    table = _table(title, ["us", "%", "M MACs", "KB"], "layer")
    table.add_column("bound by")
    slowest = estimate.slowest(top)
    for each in slowest:
        table.add_row(each.layer.name, *_cells(estimate, [each]), each.bound)
    if others := estimate.slowest(len(estimate.layers))[top:]:
        table.add_row(f"{len(others)} others", *_cells(estimate, others), "")
    table.add_row(f"all {len(estimate.layers)} layers", *_cells(estimate, estimate.layers), "")
    return table


def _cells(estimate: Roofline, layers: Sequence[Any]) -> list[str]:
    time = sum(each.time_us for each in layers)
    macs, moved = (sum(getattr(each.layer, name) for each in layers) for name in ("macs", "bytes"))
    return [f"{time:.1f}", f"{time / estimate.time_us:.0%}", f"{macs / _MEGA:,.2f}", f"{moved / _MICRO:,.0f}"]


def _table(title: str, columns: Sequence[str], first: str = "type") -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", padding=0, min_width=min(80, len(title)))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
