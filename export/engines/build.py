"""A TensorRT engine from one of our ONNX files: one code path for TensorRT 10.3 to 11 and TensorRT-RTX.

Networks are strongly typed: precision is what the ONNX file says (FP16 casts, INT8 Q/DQ), and no builder flag,
calibrator or layer is told another. TensorRT 11 and RTX know nothing else.

An engine belongs to the TensorRT, the GPU and the driver that built it. Beside it stands a JSON card with all that it
depends on (`EngineCard`); an engine whose card says otherwise is refused with the command that builds it again.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.card import ModelCard
from reid_edge.cuda import Gpu, find_gpu, open_cuda
from reid_edge.engine_card import EngineCard
from reid_edge.errors import InputError, MissingExtraError, ModelError
from reid_edge.files import written_whole
from reid_edge.tensorrt_api import Backend, Log, layer_lines, load_backend, load_plan, required, strongly_typed_flag

from .graph import read_ours

__all__ = ["BuildOptions", "Built", "engine_from_onnx", "parse_batches"]

Say = Callable[[str], None]

_MOST_BATCH = 65_535
_MOST_WORKSPACE_MIB = 1 << 20


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
    if re.fullmatch(r"[0-9]{1,5}:[0-9]{1,5}:[0-9]{1,5}", text):
        least, usual, most = (int(part) for part in text.split(":"))
        if 1 <= least <= usual <= most <= _MOST_BATCH:
            return least, usual, most
    raise InputError(f"batches {text!r} are not LEAST:USUAL:MOST, up to {_MOST_BATCH}: write them as 1:16:64")


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
        raise InputError(f"TensorRT builds on the GPU that it builds for, and there is none: {_why_no_gpu()}")
    _check(options, card)
    wanted = _card(path, card, backend, gpu, options)
    target = Path(out) / f"{path.stem}.engine"
    known = EngineCard.beside(target)
    if known and known.key == wanted.key and known.engine_sha256 == _sha256_of(target) and not options.force:
        say(f"{target} is up to date")
        return Built(target, known, target.stat().st_size, 0.0, known.layers, "card")
    started = time.perf_counter()
    log = Log()
    plan = _built(model.SerializeToString(), card, backend, options, log, say)
    layers, source = _layers(plan, backend, log, gpu, wanted)
    seconds = time.perf_counter() - started
    done = wanted.with_(layers=layers, engine_sha256=hashlib.sha256(plan).hexdigest())
    # Whatever happens between the two, a card of another engine is known by its hash.
    with written_whole(target) as beside:
        beside.write_bytes(plan)
    with written_whole(EngineCard.path_for(target)) as beside:
        beside.write_text(done.to_json(), encoding="utf-8")
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


def _check(options: BuildOptions, card: ModelCard) -> None:
    if options.workspace_mib is not None and not 1 <= options.workspace_mib <= _MOST_WORKSPACE_MIB:
        raise InputError(f"{options.workspace_mib} MiB of workspace are not between 1 and {_MOST_WORKSPACE_MIB}")
    if options.dla is not None and card.precision == "fp32":
        raise InputError("the deep-learning accelerator computes FP16 and INT8: give such a file, or leave --dla out")
    if options.dla is not None and len(set(options.batches)) > 1:
        raise InputError("the deep-learning accelerator takes one batch size: give --batch 8:8:8, say")


def _sha256_of(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _why_no_gpu() -> str:
    try:
        open_cuda().close()
    except (InputError, MissingExtraError) as error:
        return str(error)
    return "run this on the device"


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
    if (tf32 := getattr(api.BuilderFlag, "TF32", None)) is not None:
        config.clear_flag(tf32)  # on by default, with 10 bits of precision: FP32 is what others are compared with
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
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):  # damaged, or of another TensorRT
        cache = config.create_timing_cache(b"")
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


def _layers(plan: bytes, backend: Backend, log: Log, gpu: Gpu | None, card: EngineCard) -> tuple[dict[str, int], str]:
    """The compiled layers, counted: from the inspector where there is a GPU and it tells types, else the build log."""
    source, lines = "build log", layer_lines("\n".join(message for _, message in log.lines))
    if gpu:
        told = layer_lines(_inspected(plan, backend, log, card))
        if any(reads for _, kind, reads, _ in told if _is_product(kind)):
            source, lines = "inspector", told
    counted = Counter(f"{kind} {'/'.join(reads)} -> {'/'.join(writes)}" for _, kind, reads, writes in lines)
    return dict(counted.most_common()), source


def _inspected(plan: bytes, backend: Backend, log: Log, card: EngineCard) -> str:
    """What the inspector says of each layer, at the usual batch: without one, dynamic shapes have no types."""
    owners: list[Any] = [log.logger(backend)]
    engine = load_plan(plan, backend, owners[0], card.options, owners)
    if engine is None:
        raise ModelError(f"{backend.name} cannot load what it built: {'; '.join(log.errors())}")
    inspector = engine.create_engine_inspector()
    if (context := engine.create_execution_context()) is not None:
        context.set_input_shape("images", tuple(engine.get_tensor_profile_shape("images", 0)[1]))
        inspector.execution_context = context
    return str(inspector.get_engine_information(backend.api.LayerInformationFormat.ONELINE))


def _is_product(name: str) -> bool:
    """Whether a compiled layer multiplies matrices: TensorRT's words for convolutions and what it makes of them."""
    return name.lower().startswith(("correlation", "conv", "gemm", "matmul", "matrix", "caskconv", "caskgemm", "fc"))
