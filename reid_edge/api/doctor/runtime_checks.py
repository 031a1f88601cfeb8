"""Judge ONNX Runtime: which of its wheels is installed, and which of its providers run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reid_edge.device.python import Package, PythonFacts

from .facts import DoctorFacts, ProviderFact
from .findings import Finding, Level

__all__ = ["check_runtime"]

_CPU, _CUDA, _TENSORRT_RTX = "CPUExecutionProvider", "CUDAExecutionProvider", "NvTensorRTRTXExecutionProvider"
_SETUP = "pip install --upgrade 'onnxruntime-gpu[cuda,cudnn]'"
_JETPACK = "sudo apt install nvidia-jetpack"
"""JetPack's CUDA, cuDNN and TensorRT, which wheels for a Jetson load; PyPI's are for other machines."""
_PART = "ONNX Runtime"


def check_runtime(facts: DoctorFacts, python: PythonFacts) -> Iterator[Finding]:
    """The findings on ONNX Runtime; without it files run on OpenVINO, and engines on TensorRT."""
    wheels = [package for package in python.starting_with("onnxruntime") if _is_runtime(package)]
    if len(wheels) > 1:
        yield _two_wheels(facts, wheels)
        return
    if facts.providers is None:
        yield _not_loaded(facts, wheels)
        return
    name = " ".join((wheels[0].version, f"({wheels[0].name})")) if wheels else "of the system"
    running = [provider.title for provider in facts.providers if not provider.reason]
    yield _found(f"{name}, runs on {', '.join(running) or 'nothing'}")
    yield from _gpu_providers(facts, wheels)


def _is_runtime(package: Package) -> bool:
    """Whether it holds the module ``onnxruntime``, as plug-ins and extensions do not."""
    return bool(re.fullmatch(r"onnxruntime(-gpu|-openvino|-directml|-rocm|-migraphx|-training|-qnn)?", package.name))


def _two_wheels(facts: DoctorFacts, wheels: list[Package]) -> Finding:
    names = [wheel.name for wheel in wheels]
    # PyPI has no onnxruntime-gpu for a Jetson, where engines of TensorRT are what runs on the GPU.
    kept = "onnxruntime-gpu" if facts.gpus and not facts.jetson and "onnxruntime-gpu" in names else "onnxruntime"
    version = next((f"=={wheel.version}" for wheel in wheels if wheel.name == kept), "")
    remedy = f"pip uninstall -y {' '.join(names)} && pip install {kept}{version}"
    return _found(f"{' and '.join(names)} overwrite each other: one folder for both", Level.WRONG, remedy)


def _not_loaded(facts: DoctorFacts, wheels: list[Package]) -> Finding:
    if wheels:
        again = f"pip install --force-reinstall --no-deps {wheels[0].name}"
        return _found(f"{wheels[0].name} does not load ({facts.runtime_error})", Level.WRONG, again)
    others = facts.loads("openvino") or facts.loads("tensorrt")
    level = Level.NOTE if others else Level.WRONG
    wheel = "onnxruntime-gpu" if facts.gpus and not facts.jetson else "onnxruntime"
    return _found("not installed: it runs .onnx files, and checks exports", level, f"pip install {wheel}")


def _gpu_providers(facts: DoctorFacts, wheels: list[Package]) -> Iterator[Finding]:
    """The other providers, where there is a GPU or something for one is installed; each that fails says why."""
    if not facts.has_gpu and any(wheel.name == "onnxruntime-gpu" for wheel in wheels):
        remedy = "pip uninstall -y onnxruntime-gpu && pip install onnxruntime"
        yield _found("onnxruntime-gpu, and no GPU", Level.NOTE, remedy)
    for provider in facts.providers or ():
        if provider.name == _CPU or not provider.reason:
            continue
        if provider.installed:
            yield _failing(facts, provider)
        elif facts.gpus and not facts.jetson and provider.name == _CUDA:
            remedy = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
            yield _found("runs on the CPU alone, beside an idle GPU", Level.NOTE, remedy)


def _failing(facts: DoctorFacts, provider: ProviderFact) -> Finding:
    """A provider that is installed and runs nothing: wrong for CUDA beside a GPU, expected without one."""
    shown = f"{provider.title} runs nothing ({provider.reason})"
    if not facts.has_gpu:
        return _found(shown)
    level = Level.WRONG if provider.name == _CUDA else Level.NOTE
    if provider.name == _TENSORRT_RTX:
        return _found(shown, level, "pip install --upgrade onnxruntime-ep-nv-tensorrt-rtx")
    return _found(shown, level, _JETPACK if facts.jetson else _SETUP)


def _found(shown: str, level: Level = Level.OK, remedy: str = "") -> Finding:
    return Finding("libraries", _PART, level, shown, remedy)
