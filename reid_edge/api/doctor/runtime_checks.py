"""Judge ONNX Runtime: which of its wheels is installed, and which of its providers run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reid_edge.device.python import Package, PythonFacts

from .facts import DoctorFacts
from .findings import Finding, Level

__all__ = ["check_runtime"]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SETUP = "pip install --upgrade 'onnxruntime-gpu[cuda,cudnn]'"
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
    running = [provider.name for provider in facts.providers if not provider.reason]
    yield _found(f"{name}, runs on {', '.join(map(_short, running)) or 'nothing'}")
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
    """CUDA and TensorRT within ONNX Runtime, where there is a GPU or a wheel for one."""
    for_gpu = any(wheel.name == "onnxruntime-gpu" for wheel in wheels)
    if for_gpu and not facts.has_gpu:
        yield _found(
            "onnxruntime-gpu, and no GPU", Level.NOTE, "pip uninstall -y onnxruntime-gpu && pip install onnxruntime"
        )
        return
    if not facts.has_gpu:
        return
    for provider in facts.providers or ():
        if provider.name == _CPU or not provider.reason:
            continue
        if not for_gpu and not facts.jetson and provider.name == _CUDA:
            remedy = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
            yield _found("runs on the CPU alone, beside an idle GPU", Level.NOTE, remedy)
        elif for_gpu:
            level = Level.WRONG if provider.name == _CUDA else Level.NOTE
            yield _found(f"{_short(provider.name)} runs nothing ({provider.reason})", level, _SETUP)


def _short(provider: str) -> str:
    """The name without its suffix, as people say it.

    >>> _short("TensorrtExecutionProvider"), _short("CPUExecutionProvider")
    ('TensorRT', 'CPU')
    """
    return provider.removesuffix("ExecutionProvider").replace("Tensorrt", "TensorRT")


def _found(shown: str, level: Level = Level.OK, remedy: str = "") -> Finding:
    return Finding("libraries", _PART, level, shown, remedy)
