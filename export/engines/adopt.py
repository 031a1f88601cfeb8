"""A card for an engine that reid-edge did not build (trtexec, Triton's tools), after the gate of every export."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file, scratch_folder, sha256_of, write_text
from reid_edge.engines.cuda import open_cuda
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.gpu import Cuda
from reid_edge.engines.lanes.profiles import Profile
from reid_edge.engines.tensorrt import TensorRTEngine
from reid_edge.engines.tensorrt_api import Backend, Log, load_backend, load_plan
from reid_edge.engines.tensorrt_plan import profiles_of
from reid_edge.errors import DeviceError, GateError, InputError, ModelError
from reid_edge.export.graph.io import read_graph
from reid_edge.export.parity.crops import ParityCrops
from reid_edge.export.parity.limits import Thresholds
from reid_edge.export.parity.recheck import Verified, check_engine

from .kernels import compiled_layers
from .options import EngineOptions

__all__ = ["adopt_file"]


def adopt_file(
    path: Path,
    onnx: Path,
    crops: ParityCrops,
    limits: Mapping[str, Thresholds] | None = None,
    backend_name: str | None = None,
) -> Verified:
    """Compare an engine file with ONNX Runtime on the ONNX file that it was built from; write its card if they agree.

    The row of a refused one says why; no card is written then, and the engine stays. Raises ModelError for an engine
    that does not load or is of another model, InputError without a GPU to run it on.
    """
    path, onnx = require_file(path, "a TensorRT engine"), require_file(onnx, "the ONNX file that it was built from")
    _, model = read_graph(onnx)
    cuda, backend = _device(), load_backend(backend_name)
    try:
        plan = path.read_bytes()
        card = EngineCard(
            model=model,
            onnx_sha256=sha256_of(onnx),
            backend=backend.name,
            version=backend.version,
            gpu=cuda.gpu.facts(),
            engine_sha256=hashlib.sha256(plan).hexdigest(),
        )
        log = Log()
        with cuda.active():
            card = card.with_(options=EngineOptions(profiles=_profiles(plan, backend, log, path)).facts())
            layers, _ = compiled_layers(plan, backend, log, card, has_gpu=True)
        card = card.with_(layers=layers)
    finally:
        cuda.close()
    found = _verified(path, onnx, card, crops, limits)
    if not found.refused:
        write_text(EngineCard.path_for(path), card.to_json())
    return found


def _verified(
    path: Path, onnx: Path, card: EngineCard, crops: ParityCrops, limits: Mapping[str, Thresholds] | None
) -> Verified:
    """The gate, on a copy with the card: the engine has none of its own until it passes."""
    images, precision = crops.of(card.model), card.model.precision
    with scratch_folder(path.parent) as scratch:
        copy = scratch / path.name
        shutil.copyfile(path, copy)
        EngineCard.path_for(copy).write_text(card.to_json(), encoding="utf-8")
        try:
            with TensorRTEngine(copy) as engine:
                parity = check_engine(engine, onnx, images, limits, tuple(sorted({*card.batches})))
        except (GateError, ModelError) as error:
            return Verified(path, precision, None, GateError(str(error).replace(str(copy), str(path))))
    return Verified(path, precision, parity)


def _device() -> Cuda:
    try:
        return open_cuda()
    except DeviceError as error:
        raise InputError(f"an engine is adopted by running it, and there is no GPU here: {error}") from None


def _profiles(plan: bytes, backend: Backend, log: Log, path: Path) -> tuple[Profile, ...]:
    """The batches of an engine's profiles."""
    owners: list[Any] = [log.logger(backend)]
    engine = load_plan(plan, backend, owners[0], {}, owners)
    if engine is None:
        said = "; ".join(log.errors()) or "no reason"
        raise ModelError(f"{backend.name} {backend.version} cannot load {path} ({said}): build it with this version")
    names = sorted(engine.get_tensor_name(i) for i in range(engine.num_io_tensors))
    if names != ["embeddings", "images"]:
        raise ModelError(f"{path} has tensors {', '.join(names)}: give an engine of a file of reid-edge export")
    return profiles_of(engine)
