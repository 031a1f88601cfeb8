"""What one export gave: files, engines, and what of them was refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.errors import GateError
from reid_edge.scoring.metrics import Metrics

if TYPE_CHECKING:
    from .engines.build import Built
    from .graph.traffic import GraphCost
    from .int8.in_float import Int8Layers
    from .int8.sensitivity import Sensitivity
    from .parity.gate import Parity
    from .parity.recheck import Verified
    from .parity.scores import ScoreLoss

__all__ = ["ExportReport", "Exported"]


@dataclass(frozen=True)
class Exported:
    """A file that passed the gates, or one that did not: then ``refused`` says why, and it was not written.

    ``seconds`` include checks and scores. ``metrics`` are the file's scores and ``lost`` is what it loses against the
    FP32 model; None without a data set. ``int8`` says which layers of an INT8 file are in float, and why. ``note`` is
    for users, as the times of an INT8 file for the CPU. ``cost`` is what a crop costs.
    """

    path: Path
    precision: str
    bytes: int = 0
    seconds: float = 0.0
    parity: Parity | None = None
    metrics: Metrics | None = None
    lost: ScoreLoss | None = None
    int8: Int8Layers | None = None
    note: str = ""
    refused: GateError | None = None
    cost: GraphCost | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: all of the above, mAP and CMC as fractions."""
        return {
            "path": str(self.path),
            "precision": self.precision,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "parity": self.parity.to_dict() if self.parity else None,
            "metrics": self.metrics.to_dict() if self.metrics else None,
            "lost": self.lost.to_dict() if self.lost else None,
            "int8": self.int8.to_dict() if self.int8 else None,
            "note": self.note,
            "refused": str(self.refused) if self.refused else None,
            "cost": asdict(self.cost) if self.cost else None,
        }


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What `export_model` wrote and refused, in the order in which it happened.

    ``files`` are the ONNX files, also refused ones; ``engines`` those that were written; ``verified`` what was found of
    engines that ran, also of refused ones, which were removed; ``handover`` the files for another program;
    ``sensitivity`` says what each layer or block loses in INT8, where that was measured.
    """

    files: tuple[Exported, ...] = ()
    engines: tuple[Built, ...] = ()
    verified: tuple[Verified, ...] = ()
    handover: tuple[Path, ...] = ()
    sensitivity: Sensitivity | None = None

    def __repr__(self) -> str:
        made = [*(f.path for f in self.files if not f.refused), *(e.path for e in self.engines), *self.handover]
        refused = [*(f.path for f in self.files if f.refused), *(row.path for row in self.verified if row.refused)]
        lists = [", ".join(path.name for path in paths) or "nothing" for paths in (made, refused)]
        return f"<ExportReport: wrote {lists[0]}; refused {lists[1]}>"

    @property
    def refused(self) -> tuple[GateError, ...]:
        """Why files and engines were refused; empty when all passed."""
        reasons = [*(file.refused for file in self.files), *(row.refused for row in self.verified)]
        return tuple(reason for reason in reasons if reason)

    def raise_if_refused(self) -> None:
        """Raise GateError, with every reason, unless all files and engines passed."""
        if self.refused:
            raise GateError("; ".join(map(str, self.refused)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: files and engines with their figures, refusals as text."""
        return {
            "files": [row.to_dict() for row in self.files],
            "engines": [one.to_dict() for one in self.engines],
            "verified": [{"path": str(row.path), **row.to_dict()} for row in self.verified],
            "handover": [str(path) for path in self.handover],
            "sensitivity": asdict(self.sensitivity) if self.sensitivity else None,
        }
