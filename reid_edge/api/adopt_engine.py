"""An engine that another tool built, taken over: checked as `export_model` checks its own, and given its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.files import require_file
from reid_edge.core.progress import phase
from reid_edge.engines.tensorrt_api import require_backend

if TYPE_CHECKING:
    from reid_edge.data.datasets import Dataset
    from reid_edge.export.parity.limits import Checks
    from reid_edge.export.parity.recheck import Verified
    from reid_edge.scoring.test_set import TestSet

__all__ = ["adopt_engine"]


def adopt_engine(
    engine: Path | str,
    onnx: Path | str,
    *,
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    backend: str | None = None,
    checks: Checks | None = None,
) -> Verified:
    """Compare an engine with the ONNX file of reid-edge that it was built from, and write the card that opens it.

    The crops are those of ``data``, or drawn ones; ``backend`` is TensorRT's package (None: the first installed). A
    refused engine gets no card, and its row says why. Raises ModelError for an engine that does not load here or is of
    another model, InputError without a GPU, MissingExtraError without TensorRT.
    """
    from reid_edge.export.parity.limits import Checks

    checks = checks or Checks()
    limits = checks.limits()
    require_backend(backend)
    engine = require_file(engine, "a TensorRT engine")
    onnx = require_file(onnx, "the ONNX file that it was built from")

    from reid_edge.export.engines.adopt import adopt_file
    from reid_edge.export.source import open_data

    with phase(f"adopting {engine.name}"), open_data(data, layout, crops=checks.crops) as opened:
        return adopt_file(engine, onnx, opened.crops, limits, backend)
