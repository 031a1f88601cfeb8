"""Judge what is installed: Python, OpenCV, ONNX Runtime, and what runs engines on a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reid_edge.device.opencv_build import parse_video_readers
from reid_edge.device.python import Package, PythonFacts

from .facts import DoctorFacts
from .findings import Finding, Level
from .runtime_checks import check_runtime

__all__ = ["check_libraries"]

_OLDEST_TENSORRT = (10, 3)
_JETPACK_TENSORRT = "sudo apt install python3-libnvinfer"
_SYSTEM_VENV = "python3 -m venv --system-site-packages ~/reid && ~/reid/bin/pip install ./reid-edge"
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
_SBSA_L4T = 38
"""From JetPack 7 on, NVIDIA's wheels for servers with Arm CPUs are also Jetsons'."""


def check_libraries(facts: DoctorFacts) -> Iterator[Finding]:
    """The findings on Python and its packages, as they are shown."""
    python = facts.python
    if python is None:
        yield found("Python", "its packages cannot be listed", Level.WRONG, "pip install --force-reinstall ./reid-edge")
        return
    yield _python(facts, python)
    yield _numpy(facts)
    yield from _opencv(facts, python)
    yield from check_runtime(facts, python)
    if facts.has_gpu:
        yield _tensorrt(facts, python)
        yield from _cuda_binding(facts)
    yield from _tensorrt_rtx(facts)
    yield from _openvino(facts)
    yield _extras(facts, python)


def found(part: str, shown: str, level: Level = Level.OK, remedy: str = "") -> Finding:
    """A finding of this group."""
    return Finding("libraries", part, level, shown, remedy)


def _python(facts: DoctorFacts, python: PythonFacts) -> Finding:
    shown = f"{python.version} in {python.prefix}"
    if facts.jetson and python.virtual and not python.sees_system:
        hidden = f"{shown}: a virtual environment that hides JetPack's TensorRT and OpenCV"
        return found("Python", hidden, Level.WRONG, _SYSTEM_VENV)
    return found("Python", shown)


def _numpy(facts: DoctorFacts) -> Finding:
    numpy = facts.imports.get("numpy")
    if numpy is None or numpy.error:
        said = numpy.error if numpy else "not installed"
        return found("NumPy", said, Level.WRONG, "pip install --force-reinstall numpy")
    return found("NumPy", numpy.version)


def _opencv(facts: DoctorFacts, python: PythonFacts) -> Iterator[Finding]:
    wheels = python.starting_with("opencv-")
    install = "sudo apt install python3-opencv" if facts.jetson else "pip install opencv-python-headless"
    cv2 = facts.imports.get("cv2")
    if len(wheels) > 1:
        names = " and ".join(wheel.name for wheel in wheels)
        both = f"{names} overwrite each other"
        yield found("OpenCV", both, Level.NOTE, f"{_uninstall(*wheels)} && {install}")
    if cv2 is None:
        yield found("OpenCV", "not installed, and crops are resized with it", Level.WRONG, install)
    elif cv2.error:
        remedy = (
            "pip install 'numpy<2'"
            if "numpy" in cv2.error.lower()
            else f"pip install --force-reinstall {_name(wheels)}"
        )
        yield found("OpenCV", f"does not load ({cv2.error})", Level.WRONG, remedy)
    else:
        yield _video(facts, wheels, cv2.version, parse_video_readers(cv2.build))


def _video(facts: DoctorFacts, wheels: tuple[Package, ...], version: str, readers: dict[str, bool]) -> Finding:
    """What this OpenCV reads; on a Jetson a wheel in front of JetPack's has no GStreamer, which reads its cameras."""
    reads = [name for name, there in readers.items() if there]
    lacks = [name for name, there in readers.items() if not there]
    shown = f"{version}, reads video with {' and '.join(reads) or 'nothing'}" + (f", not {lacks[-1]}" if lacks else "")
    if facts.jetson and readers and not readers["GStreamer"]:
        if wheels and facts.system_cv2:
            hides = f"{shown}: {_name(wheels)} hides JetPack's, which reads its cameras"
            return found("OpenCV", hides, Level.WRONG, _uninstall(*wheels))
        return found("OpenCV", f"{shown}, which reads its cameras", Level.NOTE, "sudo apt install python3-opencv")
    return found("OpenCV", shown)


def _tensorrt(facts: DoctorFacts, python: PythonFacts) -> Finding:
    """TensorRT's Python module, which comes with JetPack on a Jetson and from PyPI elsewhere."""
    module = facts.imports.get("tensorrt")
    wheels = [package for package in python.starting_with("tensorrt") if _is_wheel_of_tensorrt(package)]
    jetson = facts.jetson
    if jetson and wheels and (jetson.major < _SBSA_L4T or not facts.loads("tensorrt")):
        names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels[:1])
        remedy = _uninstall(*wheels) + ("" if "python3-libnvinfer" in jetson.packages else f" && {_JETPACK_TENSORRT}")
        return found("TensorRT", f"{names} of PyPI, which does not run on this Jetson", Level.WRONG, remedy)
    if module is None:
        missing = "not installed: no engine runs on the GPU"
        level, remedy = (
            (Level.WRONG, _JETPACK_TENSORRT) if jetson else (Level.NOTE, "pip install tensorrt cuda-bindings")
        )
        return found("TensorRT", missing, level, remedy)
    if module.error:
        again = (
            _JETPACK_TENSORRT.replace("install", "install --reinstall")
            if jetson
            else "pip install --force-reinstall tensorrt"
        )
        return found("TensorRT", f"does not load ({module.error})", Level.WRONG, again)
    if _numbers(module.version) < _OLDEST_TENSORRT:
        newer = "flash JetPack 6.2 or newer" if jetson else "pip install --upgrade tensorrt"
        return found("TensorRT", f"{module.version}, and 10.3 is the oldest that works", Level.WRONG, newer)
    return found("TensorRT", module.version)


def _is_wheel_of_tensorrt(package: Package) -> bool:
    return not package.of_system and bool(re.fullmatch(r"tensorrt(-cu\d+.*|-libs|-bindings)?", package.name))


def _cuda_binding(facts: DoctorFacts) -> Iterator[Finding]:
    """What copies crops to the GPU, for the engines of TensorRT."""
    if not (facts.loads("tensorrt") or facts.loads("tensorrt_rtx")):
        return
    names = {"cuda.bindings.driver": "cuda-bindings", "pycuda.driver": "pycuda"}
    loaded = [f"{name} {facts.imports[module].version}" for module, name in names.items() if facts.loads(module)]
    versions = "'cuda-bindings>=12.6,<13'" if _cuda_major(facts) == 12 else "cuda-bindings"
    if not loaded:
        yield found("CUDA binding", "not installed: engines run through it", Level.WRONG, f"pip install {versions}")
    elif facts.gpu_error:
        yield found("CUDA binding", f"{loaded[0]}: {facts.gpu_error}", Level.WRONG, f"pip install {versions}")
    else:
        yield found("CUDA binding", loaded[0].strip())


def _cuda_major(facts: DoctorFacts) -> int:
    """Of the driver: JetPack 6 has CUDA 12, JetPack 7 has 13."""
    if facts.cuda:
        return _numbers(facts.cuda)[0]
    return 12 if facts.jetson and facts.jetson.major < _SBSA_L4T else 13


def _tensorrt_rtx(facts: DoctorFacts) -> Iterator[Finding]:
    module = facts.imports.get("tensorrt_rtx")
    if module is not None and module.error:
        yield found("TensorRT-RTX", module.error, Level.NOTE, "pip install --force-reinstall tensorrt-rtx")
    elif module is not None:
        yield found("TensorRT-RTX", module.version)


def _openvino(facts: DoctorFacts) -> Iterator[Finding]:
    module, bf16 = facts.imports.get("openvino"), bool(_BF16_FLAGS & facts.cpu_flags)
    if module is None and bf16 and not facts.has_gpu:
        faster = "not installed: this CPU computes in bf16, up to twice as fast"
        yield found("OpenVINO", faster, Level.NOTE, "pip install openvino")
    elif module is not None and module.error:
        yield found("OpenVINO", module.error, Level.NOTE, "pip install --force-reinstall openvino")
    elif module is not None:
        version = module.version.partition("-")[0]
        yield found("OpenVINO", f"{version}{', and this CPU computes in bf16' if bf16 else ''}")


def _extras(facts: DoctorFacts, python: PythonFacts) -> Finding:
    """What only exports need, and trainings, for which nobody takes a Jetson."""
    needs = {"onnx": "exports", "torch": "trainings and checkpoints"}
    installs = {"onnx": "onnx onnxscript", "torch": "torch torchvision tomlkit scipy"}
    missing = [name for name in needs if not python.package(name) and not (facts.jetson and name == "torch")]
    if missing:
        shown = "; ".join(f"{name} is not installed, for {needs[name]}" for name in missing)
        return found("extras", shown, Level.NOTE, f"pip install {' '.join(installs[name] for name in missing)}")
    versions = (python.package(name) for name in needs)
    return found("extras", ", ".join(f"{package.name} {package.version}" for package in versions if package))


def _uninstall(*packages: Package) -> str:
    return f"pip uninstall -y {' '.join(package.name for package in packages)}"


def _name(wheels: tuple[Package, ...]) -> str:
    return wheels[0].name if wheels else "opencv-python-headless"


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; (0,) for what is none."""
    return tuple(map(int, re.findall(r"\d{1,6}", version)[:2])) or (0,)
