"""A TensorRT engine from an ONNX file: one code path for TensorRT 10.3 to 11 and TensorRT-RTX.

Networks are strongly typed: the precision is the ONNX file's (FP16 casts, INT8 Q/DQ), and no builder flag, calibrator
or layer setting changes it. TensorRT 11 and RTX build no other networks.

An engine belongs to the TensorRT and the GPU that built it. Beside it is a JSON card with all that it depends on
(`EngineCard`); an engine that does not match its card is refused with the command that builds it again. A newer driver
is another key, so that an export tunes kernels again, but no reason to refuse.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.card import ModelCard
from reid_edge.core.files import sha256_of, write_text, written_whole
from reid_edge.engines.cuda import find_gpu, open_cuda
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.gpu import Gpu
from reid_edge.engines.tensorrt_api import Backend, Log, load_backend, placed_layers
from reid_edge.errors import DeviceError, InputError, MissingExtraError
from reid_edge.export.graph.io import read_graph

from .compile import compiled
from .kernels import KINDS, compiled_layers, kernels_reading, kernels_writing, layers_writing
from .options import EngineOptions

__all__ = ["Built", "builder_for", "engine_from_onnx"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """An engine file: its card, how many seconds building took (0: it was up to date) and its compiled layers.

    ``layers`` counts them by kind and types (`kernels.compiled_layers`); ``source`` says where that was read: the
    engine's inspector where there is a GPU, else the build log, or the card of an engine that was up to date.
    """

    path: Path
    card: EngineCard
    bytes: int
    seconds: float
    layers: dict[str, int]
    source: str

    def kernels(self, kind: str) -> int:
        """How many compiled matmul and convolution layers read ``kind``: Float, Half or Int8."""
        return kernels_reading(self.layers, kind)

    def kernels_that_write(self, kind: str) -> int:
        """How many compiled matmul and convolution layers write ``kind``."""
        return kernels_writing(self.layers, kind)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of this engine: layers that left the accelerator, INT8 that gains nothing."""
        return tuple(note for note in (_note_of_dla(self.card), _note_of_int8(self.card)) if note)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: path, bytes, seconds of building, layers by kind and by where they run, notes.

        ``reads`` and ``writes`` count matmul and convolution layers by type, ``all_writes`` layers of any sort.
        """
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "seconds": self.seconds,
            "layers": self.layers,
            "reads": {kind: self.kernels(kind) for kind in KINDS},
            "writes": {kind: self.kernels_that_write(kind) for kind in KINDS},
            "all_writes": {kind: layers_writing(self.layers, kind) for kind in KINDS},
            "placed": self.card.placed,
            "notes": list(self.notes),
        }


def engine_from_onnx(path: Path | str, out: Path | str, options: EngineOptions | None = None) -> Built:
    """Build the engine of an exported ONNX file into the folder ``out``: ``NAME.engine`` with ``NAME.engine.json``.

    An engine that is there and depends on the same things is left as it is. Raises InputError for an option that this
    version lacks, ModelError with all of the parser's or builder's errors when it fails, MissingExtraError without
    TensorRT.
    """
    path, options = Path(path), options or EngineOptions()
    graph, card = read_graph(path)
    backend, gpu = builder_for(options)
    options.check_for([card.precision])
    wanted = _card(path, card, backend, gpu, options)
    target = Path(out) / f"{path.stem}.engine"
    if not options.force and (known := _up_to_date(target, wanted)):
        logger.info("%s is up to date", target)
        return Built(target, known, target.stat().st_size, 0.0, known.layers, "card")
    started = time.perf_counter()
    log = Log()
    plan = compiled(graph.model.SerializeToString(), card, backend, options, log)
    layers, source = compiled_layers(plan, backend, log, wanted, has_gpu=gpu is not None)
    seconds = time.perf_counter() - started
    placed = placed_layers(log.layers())
    done = wanted.with_(layers=layers, placed=placed, engine_sha256=hashlib.sha256(plan).hexdigest())
    _write(plan, done, target)
    return Built(target, done, len(plan), seconds, layers, source)


def builder_for(options: EngineOptions) -> tuple[Backend, Gpu | None]:
    """The TensorRT to build with and the GPU, where there is one; an export asks before it works.

    Raises MissingExtraError without TensorRT, InputError where this one cannot build here.
    """
    backend, gpu = load_backend(options.backend), find_gpu()
    if not gpu and backend.name == "tensorrt":
        raise InputError(f"TensorRT builds on the GPU that it builds for, and there is none: {_why_no_gpu()}")
    if options.timing_cache and backend.name == "tensorrt-rtx":
        raise InputError(
            "TensorRT-RTX times kernels when an engine first runs: leave --timing-cache (timing_cache=) out"
        )
    return backend, gpu


def _card(path: Path, card: ModelCard, backend: Backend, gpu: Gpu | None, options: EngineOptions) -> EngineCard:
    return EngineCard(
        model=card,
        onnx_sha256=sha256_of(path),
        backend=backend.name,
        version=backend.version,
        gpu=gpu.facts() if gpu else {},
        options=options.facts(),
    )


def _up_to_date(target: Path, wanted: EngineCard) -> EngineCard | None:
    """The card of an engine that is there, whole, and depends on the same things; else None."""
    known = EngineCard.beside(target)
    if known is None or known.key != wanted.key or not target.is_file():
        return None
    return known if known.engine_sha256 == sha256_of(target) else None


def _write(plan: bytes, card: EngineCard, target: Path) -> None:
    """Write engine and card; if it is interrupted between the two, the hash shows that they do not belong together."""
    with written_whole(target) as beside:
        beside.write_bytes(plan)
    write_text(EngineCard.path_for(target), card.to_json())


def _why_no_gpu() -> str:
    try:
        open_cuda().close()
    except (DeviceError, MissingExtraError) as error:
        return str(error)
    return "run this on the device"


def _note_of_dla(card: EngineCard) -> str:
    """Where the layers of an engine for the accelerator run; NVIDIA's builder falls back silently.

    TensorRT 10.16, "DLA Runtime Configuration", GPU Fallback Mode.
    """
    if not card.placed:
        return ""
    dla, gpu = card.placed.get("DLA", 0), card.placed.get("GPU", 0)
    return f"{gpu} layers fell back to the GPU, {dla} parts run on the deep-learning accelerator" + (
        "" if dla else ": build it without --dla (dla=)"
    )


def _note_of_int8(card: EngineCard) -> str:
    """TensorRT-RTX's INT8 layers write FP32, so that casts stand between them."""
    reading = kernels_reading(card.layers, "Int8")
    floats = kernels_writing(card.layers, "Float", reading="Int8")
    if card.backend != "tensorrt-rtx" or not floats:
        return ""
    return f"{floats} of {reading} INT8 layers write FP32 on TensorRT-RTX: FP16 is probably faster, benchmark both"
