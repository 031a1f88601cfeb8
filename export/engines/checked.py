"""Engines that were built and, where there is a GPU, agree with ONNX Runtime on the file that they were built from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from .faster import engine_beside, require_faster_engine, time_beside
from .options import EngineOptions

__all__ = ["build_engines", "verify_or_remove"]

logger = logging.getLogger(__name__)


def build_engines(
    files: Sequence[Path],
    out: Path | str,
    options: EngineOptions,
    crops: ParityCrops,
    limits: Mapping[str, Thresholds] | None = None,
    keep_slower: bool = False,
) -> tuple[list[Built], list[Verified]]:
    """Build an engine of each ONNX file into ``out`` and check those that a GPU here can run (`check_engine`).

    The engines that were written, and what verification found; a refused engine is removed and does not stop the
    others. So is, unless ``keep_slower``, one in INT8 that is slower than the FP16 engine beside it. Raises what
    `engine_from_onnx` raises.
    """
    built: list[Built] = []
    verified: list[Verified] = []
    for file in files:
        with checked_file(file) as opened:
            precision = opened.card.precision
        with phase(f"building the engine of {file.name}"):
            engine = engine_from_onnx(file, out, options.for_precision(precision))
        if engine.card.gpu:
            with phase(f"checking {engine.path.name}"):
                found = _verified(file, engine, crops.of(engine.card.model), limits)
                verified.append(found if keep_slower else _faster(found, crops.of(engine.card.model)))
        if not engine.card.gpu or not verified[-1].refused:
            if engine.seconds:
                logger.info("wrote %s", engine.path)
            built.append(engine)
            for note in engine.notes:
                logger.warning("%s: %s", engine.path.name, note)
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
        _remove(engine_file)
        if isinstance(error, ReidEdgeError) and not isinstance(error, DeviceError):
            raise GateError(f"{engine_file} was built, and removed again: {error}") from None
        raise
    return Verified(engine_file, built.model.precision, parity)


def _faster(found: Verified, crops: NDArray[np.uint8]) -> Verified:
    """What was found of an engine; one in INT8 that is slower than the FP16 engine beside it is removed and refused."""
    fp16 = engine_beside(found.path) if found.precision == "int8" and not found.refused else None
    if fp16 is None:
        return found
    times = time_beside(found.path, fp16, crops)
    logger.info("%s beside FP16: %s", found.path.name, times)
    try:
        require_faster_engine(times, found.path.name)
    except GateError as error:
        _remove(found.path)
        return replace(found, refused=error)
    return found


def _remove(engine_file: Path) -> None:
    engine_file.unlink(missing_ok=True)
    EngineCard.path_for(engine_file).unlink(missing_ok=True)


def _verified(file: Path, engine: Built, crops: NDArray[np.uint8], limits: Mapping[str, Thresholds] | None) -> Verified:
    """Compare an engine with ONNX Runtime on its own file; the row of a refused one says why."""
    try:
        return verify_or_remove(engine.path, open_engine(engine.path), file, crops, limits)
    except GateError as error:
        return Verified(engine.path, engine.card.model.precision, None, error)
