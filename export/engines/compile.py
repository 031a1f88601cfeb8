"""A graph to TensorRT's plan: parser, builder configuration, timing cache and progress of one build."""

from __future__ import annotations

import logging
from typing import Any

from reid_edge.card import ModelCard
from reid_edge.core.files import written_whole
from reid_edge.core.progress import Phase, phase
from reid_edge.engines.lanes.profiles import Profile
from reid_edge.engines.tensorrt_api import Backend, Log, required, strongly_typed_flag
from reid_edge.errors import InputError, ModelError

from .options import EngineOptions

__all__ = ["compiled"]

logger = logging.getLogger(__name__)


def compiled(onnx: bytes, card: ModelCard, backend: Backend, options: EngineOptions, log: Log) -> bytes:
    """The serialized engine of an ONNX file's bytes; TensorRT's messages are kept in ``log``.

    Raises ModelError with all of the parser's or builder's errors, InputError for an option that this version lacks.
    """
    api = backend.api
    receiver = log.logger(backend)
    builder = api.Builder(receiver)
    network = builder.create_network(strongly_typed_flag(backend))
    parser = api.OnnxParser(network, receiver)
    if not parser.parse(onnx):
        errors = [str(parser.get_error(i)).strip() for i in range(parser.num_errors)]
        raise ModelError(f"{backend.name} {backend.version} cannot read this graph: {'; '.join(errors)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    for batches in options.all_profiles:
        config.add_optimization_profile(_profile(builder, card, batches))
    _configure(config, builder, backend, options)
    cache = _timing_cache(config, options)
    written = " and ".join(":".join(map(str, batches)) for batches in options.all_profiles)
    logger.info("building with %s %s, batches %s", backend.name, backend.version, written)
    with phase("TensorRT") as line:
        monitor = _watched(config, backend, line)
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


def _profile(builder: Any, card: ModelCard, batches: Profile) -> Any:
    """Batches that the engine takes, in the graph's input format."""
    profile = builder.create_optimization_profile()
    image = (*card.input_hw, 3) if card.input_format == "nhwc-uint8" else (3, *card.input_hw)
    profile.set_shape("images", *((batch, *image) for batch in batches))
    return profile


def _configure(config: Any, builder: Any, backend: Backend, options: EngineOptions) -> None:
    api = backend.api
    if (tf32 := getattr(api.BuilderFlag, "TF32", None)) is not None:
        config.clear_flag(tf32)  # on by default, with 10 bits of precision: FP32 is what others are compared with
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.version_compatible:
        config.set_flag(required(api.BuilderFlag, "VERSION_COMPATIBLE", backend, "version-compatible engines"))
    if options.dla is not None:
        if options.dla >= (cores := int(getattr(builder, "num_DLA_cores", 0))):
            raise InputError(f"{backend.name} {backend.version} finds {cores} DLA cores here: leave --dla (dla=) out")
        kind = required(api, "DeviceType", backend, "deep-learning accelerator (DLA)")
        config.default_device_type = required(kind, "DLA", backend, "deep-learning accelerator (DLA)")
        config.set_flag(required(api.BuilderFlag, "GPU_FALLBACK", backend, "deep-learning accelerator (DLA)"))
        config.DLA_core = options.dla


def _timing_cache(config: Any, options: EngineOptions) -> Any | None:
    """The kernel timings of an earlier build; TensorRT itself ignores those of another machine."""
    if options.timing_cache is None:
        return None
    known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):  # damaged, or of another TensorRT
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _watched(config: Any, backend: Backend, line: Phase) -> Any | None:
    """Show the progress of a long build, where this version reports it; the object must live as long as the build."""
    base: Any = getattr(backend.api, "IProgressMonitor", None)
    if base is None or not hasattr(config, "progress_monitor"):
        return None

    class Monitor(base):  # type: ignore[misc]  # a class of the module found at run time
        def __init__(self) -> None:
            super().__init__()
            self.phases: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.phases[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            line.advance(note=f"{phase}: {step + 1}/{self.phases.get(phase, 0)}")
            return True

        def phase_finish(self, phase: str) -> None:
            self.phases.pop(phase, None)

    monitor = Monitor()
    config.progress_monitor = monitor
    return monitor
