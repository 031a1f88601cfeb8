"""Drawn crops through every engine that runs here, each in a process of its own, compared with each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.core.files import scratch_folder
from reid_edge.core.progress import phase
from reid_edge.device.host import Host
from reid_edge.device.python import last_json

from .builtin_model import write_builtin_model
from .facts import CHILD, DoctorFacts
from .findings import Finding, Level

__all__ = ["EngineTrial", "planned_trials", "run_self_test"]

CROPS = 24
_SECONDS = 600.0
_CPU = "CPUExecutionProvider"
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
_REINSTALL = "pip install --force-reinstall"


@dataclass(frozen=True)
class EngineTrial:
    """An engine to try: ``limits`` names the row of the gate's limits that its embeddings are held to.

    ``build`` makes a TensorRT engine of the model first. ``remedy`` is for one that fails or disagrees.
    """

    title: str
    model: Path
    backend: str
    limits: str
    remedy: str
    provider: str | None = None
    build: bool = False

    def request(self, crops: Path, out: Path) -> dict[str, Any]:
        """What the child process is asked."""
        asked = {"do": "embed", "model": str(self.model), "crops": str(crops), "out": str(out), "backend": self.backend}
        return (
            asked | ({"providers": [self.provider]} if self.provider else {}) | ({"build": True} if self.build else {})
        )


def planned_trials(facts: DoctorFacts, model: Path, *, builtin: bool) -> list[EngineTrial]:
    """Every engine that may run ``model`` here; the first one that runs is the reference for the others.

    TensorRT is tried on a ``builtin`` model, for which an engine is built in seconds, and on the engine of a user.
    """
    if model.suffix.lower() != ".onnx":
        file = model.with_suffix(".onnx")
        beside = _onnx_trials(facts, file)[:1] if file.is_file() else []
        remedy = f"reid-edge export {file} --engine --out {model.parent}"
        return [*beside, EngineTrial("TensorRT", model, "tensorrt", "engine", remedy)]
    trials = _onnx_trials(facts, model)
    for name, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
        if builtin and facts.has_gpu and facts.loads(module) and facts.python and facts.python.package("onnx"):
            title = "TensorRT" if name == "tensorrt" else "TensorRT-RTX"
            trials.append(EngineTrial(title, model, name, "engine", f"{_REINSTALL} {name} cuda-bindings", build=True))
    return trials


def run_self_test(host: Host, facts: DoctorFacts, model: Path | None = None) -> Iterator[Finding]:
    """The findings on every engine; ``model`` is a file of the user's (None: the built-in one)."""
    with scratch_folder() as scratch:
        path = model or write_builtin_model(scratch)
        trials = planned_trials(facts, path, builtin=model is None)
        crops = scratch / "crops.npy"
        drawn = _ask(host, {"do": "draw", "model": str(path), "out": str(crops), "count": CROPS})
        if "crops" not in drawn:
            yield _no_crops(drawn)
            return
        yield _found("crops", f"{drawn['crops']} drawn, written as JPEG, decoded and resized")
        yield from _try_all(host, trials, crops, str(drawn.get("precision", "fp32")))


def _no_crops(answer: Mapping[str, Any]) -> Finding:
    if answer.get("kind") == "ModelError":
        return _found("model", str(answer["error"]), Level.WRONG, "reid-edge export CHECKPOINT --out DIR")
    return _found("crops", str(answer["error"]), Level.WRONG, "pip install --force-reinstall ./reid-edge")


def _try_all(host: Host, trials: list[EngineTrial], crops: Path, precision: str) -> Iterator[Finding]:
    reference: Path | None = None
    for index, trial in enumerate(trials):
        out = crops.with_name(f"trial{index}") / "embeddings.npy"
        out.parent.mkdir()
        with phase(f"self-test on {trial.title}"):
            answer = _ask(host, trial.request(crops, out))
        if "provider" not in answer:
            yield _found(trial.title, str(answer["error"]), Level.WRONG, trial.remedy)
            continue
        yield _judged(trial, answer, out, reference, precision)
        reference = reference or out
    if reference is None:
        yield _found("engines", "no engine runs the model", Level.WRONG, "pip install onnxruntime")


def _judged(
    trial: EngineTrial, answer: Mapping[str, Any], out: Path, reference: Path | None, precision: str
) -> Finding:
    """Whether its embeddings are the reference's, within the limits that the gate has for such an engine."""
    times = f"{answer['alone_ms']:.2f} ms a crop, {answer['each_ms']:.2f} in eights"
    if reference is None:
        return _found(trial.title, f"the reference; {times}")
    import numpy as np

    from reid_edge.export.parity.compare import compare
    from reid_edge.export.parity.limits import THRESHOLDS

    limits = THRESHOLDS["engine" if trial.limits == "fp32" and precision != "fp32" else trial.limits]
    compared = compare(np.load(reference), np.load(out))
    if not (compared.cosine_min >= limits.cosine_min and compared.max_error <= limits.max_error):
        differs = f"cosine {compared.cosine_min:.6f}, error {compared.max_error:.2g}"
        allowed = f"allowed {limits.cosine_min:g} and {limits.max_error:g}"
        return _found(trial.title, f"disagrees with the reference: {differs} ({allowed})", Level.WRONG, trial.remedy)
    return _found(trial.title, f"worst cosine {compared.cosine_min:.6f}; {times}")


def _onnx_trials(facts: DoctorFacts, model: Path) -> list[EngineTrial]:
    """ONNX Runtime on each provider that runs, and OpenVINO."""
    trials = []
    for provider in facts.providers or ():
        if not provider.reason:
            limits, package = ("fp32", "onnxruntime") if provider.name == _CPU else ("engine", "onnxruntime-gpu")
            title, remedy = f"ONNX Runtime, {provider.title}", f"{_REINSTALL} --no-deps {package}"
            trials.append(EngineTrial(title, model, "onnxruntime", limits, remedy, provider=provider.name))
    if facts.loads("openvino"):
        trials.append(EngineTrial("OpenVINO", model, "openvino", "fp32", f"{_REINSTALL} openvino"))
        if _BF16_FLAGS & facts.cpu_flags:
            trials.append(EngineTrial("OpenVINO, bf16", model, "openvino:bf16", "bf16", f"{_REINSTALL} openvino"))
    return trials


def _ask(host: Host, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a child process; one that has none says how the process ended."""
    output = host.run([host.python, "-m", CHILD, json.dumps(request)], _SECONDS)
    words = (output.errors.strip().splitlines() or ["no message"])[-1][:300]
    ended = f"exit status {output.code}: {words}" if output.code is not None else f"over {_SECONDS:g} seconds"
    return last_json(output) or {"error": f"the process ended without an answer ({ended})"}


def _found(part: str, shown: str, level: Level = Level.OK, remedy: str = "") -> Finding:
    return Finding("self-test", part, level, shown, remedy)
