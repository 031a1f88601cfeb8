"""A TensorRT engine from one of our ONNX files: one code path for TensorRT 10.3 to 11 and TensorRT-RTX.

Networks are strongly typed: precision is what the ONNX file says (FP16 casts, INT8 Q/DQ), and no builder flag,
calibrator or layer is told another. TensorRT 11 and RTX know nothing else.

An engine belongs to the TensorRT, the GPU and the driver that built it. Beside it stands a JSON card with all that it
depends on (`EngineCard`); an engine whose card says otherwise is refused with the command that builds it again.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.card import ModelCard
from reid_edge.cuda import Gpu, find_gpu
from reid_edge.engine_card import EngineCard
from reid_edge.errors import InputError, ModelError
from reid_edge.files import written_whole
from reid_edge.tensorrt_api import Backend, Log, layer_lines, load_backend, required, strongly_typed_flag

from .graph import read_ours

__all__ = ["BuildOptions", "Built", "engine_from_onnx", "parse_batches"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    ``batches`` are the least, the usual (which kernels are tuned for) and the largest batch; ``workspace_mib`` bounds
    scratch memory (None: TensorRT's default, all there is); ``version_compatible`` engines run on newer runtimes too,
    slower; ``dla`` is the deep-learning accelerator's core, on the Jetsons and versions that have one;
    ``timing_cache`` is a file that makes the next build quick; ``force`` builds even when the engine is up to date.
    """

    backend: str | None = None
    batches: tuple[int, int, int] = (1, 16, 64)
    workspace_mib: int | None = None
    version_compatible: bool = False
    dla: int | None = None
    timing_cache: Path | None = None
    force: bool = False

    def facts(self) -> dict[str, Any]:
        """What an engine depends on, for its card."""
        return {
            "batches": list(self.batches),
            "workspace_mib": self.workspace_mib,
            "version_compatible": self.version_compatible,
            "dla": self.dla,
        }


@dataclass(frozen=True)
class Built:
    """An engine file: its card, what building took in seconds (0: it was up to date) and its compiled layers' types.

    ``layers`` counts (layer type, types read -> types written); ``source`` says where they were read: the engine's
    inspector where there is a GPU, else the build log.
    """

    path: Path
    card: EngineCard
    bytes: int
    seconds: float
    layers: dict[str, int]
    source: str

    def kernels(self, kind: str) -> int:
        """How many compiled convolutions and matrix products read ``kind``: Float, Half or Int8."""
        return sum(n for name, n in self.layers.items() if _is_product(name) and f" {kind}" in name.split("->")[0])


def parse_batches(text: str) -> tuple[int, int, int]:
    """Read "1:16:64". Raises InputError unless these are three growing whole numbers from 1 up.

    >>> parse_batches("1:16:64")
    (1, 16, 64)
    """
    parts = text.split(":")
    if len(parts) == 3 and all(part.isdigit() for part in parts):
        least, usual, most = (int(part) for part in parts)
        if 1 <= least <= usual <= most:
            return least, usual, most
    raise InputError(f"batches {text!r} are not LEAST:USUAL:MOST: write them as 1:16:64")


def engine_from_onnx(path: Path | str, out: Path | str, options: BuildOptions, say: Say = print) -> Built:
    """Build the engine of one of our ONNX files into the folder ``out``, as ``NAME.engine`` with ``NAME.engine.json``.

    An engine that is there and depends on the same things is left as it is. Raises InputError for an option that this
    version lacks, ModelError with all of the parser's or builder's errors when it fails, MissingExtraError without
    TensorRT.
    """
    path = Path(path)
    model, card = read_ours(path)
    backend = load_backend(options.backend)
    if not (gpu := find_gpu()) and backend.name == "tensorrt":
        raise InputError("TensorRT builds on the GPU that it builds for, and none was found: run this on the device")
    wanted = _card(path, card, backend, gpu, options)
    target = Path(out) / f"{path.stem}.engine"
    known = EngineCard.beside(target)
    if known and known.key == wanted.key and target.is_file() and not options.force:
        say(f"{target} is up to date")
        return Built(target, known, target.stat().st_size, 0.0, known.layers, "card")
    started = time.perf_counter()
    log = Log()
    plan = _built(model.SerializeToString(), card, backend, options, log, say)
    layers, source = _layers(plan, backend, log, gpu)
    seconds = time.perf_counter() - started
    done = wanted.with_(layers=layers)
    with written_whole(target) as beside:
        beside.write_bytes(plan)
        with written_whole(EngineCard.path_for(target)) as card_beside:
            card_beside.write_text(done.to_json(), encoding="utf-8")
    return Built(target, done, len(plan), seconds, layers, source)


def _card(path: Path, card: ModelCard, backend: Backend, gpu: Gpu | None, options: BuildOptions) -> EngineCard:
    return EngineCard(
        model=card,
        onnx_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        backend=backend.name,
        version=backend.version,
        gpu=gpu.described() if gpu else "",
        options=options.facts(),
    )


def _built(onnx: bytes, card: ModelCard, backend: Backend, options: BuildOptions, log: Log, say: Say) -> bytes:
    api = backend.api
    logger = log.logger(backend)
    builder = api.Builder(logger)
    network = builder.create_network(strongly_typed_flag(backend))
    parser = api.OnnxParser(network, logger)
    if not parser.parse(onnx):
        said = [str(parser.get_error(i)).strip() for i in range(parser.num_errors)]
        raise ModelError(f"{backend.name} {backend.version} cannot read this graph: {'; '.join(said)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    image = (*card.input_hw, 3) if card.layout == "nhwc-uint8" else (3, *card.input_hw)
    profile.set_shape("images", *((batch, *image) for batch in options.batches))
    config.add_optimization_profile(profile)
    _configure(config, builder, backend, options)
    cache = _timing_cache(config, options)
    say(f"building with {backend.name} {backend.version}, batches {':'.join(map(str, options.batches))}")
    monitor = _watched(config, backend, say)
    plan = builder.build_serialized_network(network, config)
    del monitor
    if plan is None:
        raise ModelError(
            f"{backend.name} {backend.version} could not build it: {'; '.join(log.errors()) or 'no reason'}"
        )
    if cache is not None and options.timing_cache is not None:
        with written_whole(options.timing_cache) as beside:
            beside.write_bytes(bytes(cache.serialize()))
    return bytes(plan)


def _configure(config: Any, builder: Any, backend: Backend, options: BuildOptions) -> None:
    api = backend.api
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.version_compatible:
        config.set_flag(required(api.BuilderFlag, "VERSION_COMPATIBLE", backend, "version-compatible engines"))
    if options.timing_cache and backend.name == "tensorrt-rtx":
        raise InputError("TensorRT-RTX times kernels when an engine first runs: leave --timing-cache out")
    if options.dla is not None:
        if options.dla >= (cores := int(getattr(builder, "num_DLA_cores", 0))):
            raise InputError(f"{backend.name} {backend.version} finds {cores} DLA cores here: leave --dla out")
        kind = required(api, "DeviceType", backend, "deep-learning accelerator (DLA)")
        config.default_device_type = required(kind, "DLA", backend, "deep-learning accelerator (DLA)")
        config.set_flag(required(api.BuilderFlag, "GPU_FALLBACK", backend, "deep-learning accelerator (DLA)"))
        config.DLA_core = options.dla


def _timing_cache(config: Any, options: BuildOptions) -> Any | None:
    """The kernels' times that an earlier build measured; another machine's are ignored by TensorRT itself."""
    if options.timing_cache is None:
        return None
    known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _watched(config: Any, backend: Backend, say: Say) -> Any | None:
    """Say how far a long build is, where this version tells; the object must live as long as the build."""
    base: Any = getattr(backend.api, "IProgressMonitor", None)
    if base is None or not hasattr(config, "progress_monitor"):
        return None

    class Monitor(base):  # type: ignore[misc]  # a class of the module found at run time
        def __init__(self) -> None:
            super().__init__()
            self.said = time.monotonic()
            self.phases: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.phases[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if time.monotonic() - self.said > 2:
                self.said = time.monotonic()
                say(f"{phase}: {step + 1}/{self.phases.get(phase, 0)}")
            return True

        def phase_finish(self, phase: str) -> None:
            self.phases.pop(phase, None)

    monitor = Monitor()
    config.progress_monitor = monitor
    return monitor


def _layers(plan: bytes, backend: Backend, log: Log, gpu: Gpu | None) -> tuple[dict[str, int], str]:
    text, source = "\n".join(message for _, message in log.lines), "build log"
    if gpu:
        runtime = backend.api.Runtime(log.logger(backend))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ModelError(f"{backend.name} cannot load what it built: {'; '.join(log.errors())}")
        inspector = engine.create_engine_inspector()
        said = inspector.get_engine_information(backend.api.LayerInformationFormat.ONELINE)
        if layer_lines(said):
            text, source = said, "inspector"
    lines = layer_lines(text)
    counted = Counter(f"{kind} {'/'.join(reads)} -> {'/'.join(writes)}" for _, kind, reads, writes in lines)
    return dict(counted.most_common()), source


def _is_product(name: str) -> bool:
    """Whether a compiled layer multiplies matrices: TensorRT's words for convolutions and what it makes of them."""
    return name.lower().startswith(("correlation", "conv", "gemm", "matmul", "matrix", "caskconv", "caskgemm", "fc"))
