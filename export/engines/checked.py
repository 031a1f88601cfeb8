"""Engines that were built and, where there is a GPU, agree with ONNX Runtime on the file that they were built from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import phase
from reid_edge.engines.base import Engine
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.onnx_file import checked_file
from reid_edge.engines.registry import open_engine
from reid_edge.errors import DeviceError, GateError, ReidEdgeError
from reid_edge.export.parity.crops import ParityCrops
from reid_edge.export.parity.limits import Thresholds
from reid_edge.export.parity.recheck import Verified, check_engine

from .build import Built, engine_from_onnx
from .options import EngineOptions

__all__ = ["build_engines", "verify_or_remove"]

logger = logging.getLogger(__name__)


def build_engines(
    files: Sequence[Path],
    out: Path | str,
    options: EngineOptions,
    crops: ParityCrops,
    limits: Mapping[str, Thresholds] | None = None,
) -> tuple[list[Built], list[Verified]]:
    """Build an engine of each ONNX file into ``out`` and check those that a GPU here can run (`check_engine`).

    The engines that were written, and what verification found; a refused engine is removed and does not stop the
    others. Raises what `engine_from_onnx` raises.
    """
    built: list[Built] = []
    verified: list[Verified] = []
    for file in files:
        with checked_file(file) as found:
            precision = found.card.precision
        with phase(f"building the engine of {file.name}"):
            engine = engine_from_onnx(file, out, options.for_precision(precision))
        if engine.card.gpu:
            with phase(f"checking {engine.path.name}"):
                verified.append(_verified(file, engine, crops.of(engine.card.model), limits))
        if not engine.card.gpu or not verified[-1].refused:
            if engine.seconds:
                logger.info("wrote %s", engine.path)
            built.append(engine)
    if built and not verified:
        logger.warning(
            "no GPU here: the engines were not run, and are not verified: run  reid-edge verify-export  on the device"
        )
    return built, verified


def verify_or_remove(
    engine_file: Path,
    candidate: Engine,
    onnx_file: Path,
    crops: NDArray[np.uint8],
    limits: Mapping[str, Thresholds] | None = None,
) -> Verified:
    """`check_engine` for an engine that was just built of ``onnx_file``, in its profile's batches.

    One that disagrees, or does not open, is removed with its card; raises GateError then, DeviceError when the GPU
    failed.
    """
    built = EngineCard.read(engine_file)
    try:
        with candidate:
            parity = check_engine(candidate, onnx_file, crops, limits, tuple(sorted({*built.batches})))
    except BaseException as error:
        engine_file.unlink(missing_ok=True)
        EngineCard.path_for(engine_file).unlink(missing_ok=True)
        if isinstance(error, ReidEdgeError) and not isinstance(error, DeviceError):
            raise GateError(f"{engine_file} was built, and removed again: {error}") from None
        raise
    return Verified(engine_file, built.model.precision, parity)


def _verified(file: Path, engine: Built, crops: NDArray[np.uint8], limits: Mapping[str, Thresholds] | None) -> Verified:
    """Compare an engine with ONNX Runtime on its own file; the row of a refused one says why."""
    try:
        return verify_or_remove(engine.path, open_engine(engine.path), file, crops, limits)
    except GateError as error:
        return Verified(engine.path, engine.card.model.precision, None, error)
