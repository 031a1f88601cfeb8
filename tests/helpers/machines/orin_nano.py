"""A Jetson Orin Nano Super with JetPack 6.2 in its 15 W mode, and pip's wheels over what JetPack brought.

Recorded, with its page in `recordings`: Jetson Linux, the modes, tegrastats, nvidia-smi's banner, OpenCV's build. The
rest is put together after them: memory and swap are those of tegrastats' line, clocks those that the mode allows.
"""

from __future__ import annotations

from helpers.machines import recordings as recorded
from helpers.machines.replay import CHILD, PROBE, RecordedMachine, answer

__all__ = ["MENDED", "ORIN_NANO"]

_VENV, _SYSTEM = "/home/reid/venv/lib/python3.10/site-packages", "/usr/lib/python3.10/dist-packages"
_POLICY, _GPU = "sys/devices/system/cpu/cpufreq/policy0", "sys/class/devfreq/17000000.gpu"

_FILES = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nv_tegra_release": recorded.L4T_36,
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimddp\nCPU part\t: 0xd42\n",
    "sys/devices/system/cpu/online": "0-5\n",
    "proc/meminfo": (
        "MemTotal:        7802880 kB\nMemFree:          210000 kB\nMemAvailable:    1469440 kB\n"
        "SwapTotal:       3901440 kB\nSwapFree:        3030016 kB\n"
    ),
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n"
    + "".join(f"/dev/zram{index} partition\t650240\t145237\t5\n" for index in range(6)),
    f"{_POLICY}/scaling_governor": "schedutil\n",
    f"{_POLICY}/scaling_cur_freq": "729600\n",
    f"{_POLICY}/scaling_min_freq": "729600\n",
    f"{_POLICY}/scaling_max_freq": "1497600\n",
    f"{_POLICY}/cpuinfo_max_freq": "1728000\n",
    f"{_GPU}/governor": "nvhost_podgov\n",
    f"{_GPU}/cur_freq": "612000000\n",
    f"{_GPU}/min_freq": "306000000\n",
    f"{_GPU}/max_freq": "612000000\n",
    f"{_GPU}/available_frequencies": "306000000 408000000 510000000 612000000 714000000 816000000 918000000 1020000000\n",
    "usr/lib/python3.10/dist-packages/cv2/__init__.py": "",
}

_WHEELS = {
    "numpy": [["1.26.4", _VENV]],
    "onnx": [["1.17.0", _VENV]],
    "onnxruntime": [["1.22.0", _VENV]],
    "onnxruntime-gpu": [["1.22.0", _VENV]],
    "opencv-python-headless": [["4.11.0.86", _VENV]],
    "tensorrt": [["10.9.0.34", _VENV], ["10.3.0", _SYSTEM]],
    "tensorrt-cu12": [["10.9.0.34", _VENV]],
    "tensorrt-cu12-bindings": [["10.9.0.34", _VENV]],
    "tensorrt-cu12-libs": [["10.9.0.34", _VENV]],
    "cuda-bindings": [["12.6.2", _VENV]],
}
_PYTHON = {"version": "3.10.12", "prefix": "/home/reid/venv", "virtual": True, "sees_system": True}
_PLACES = {"cv2": [_VENV, _SYSTEM], "tensorrt": [_VENV, _SYSTEM], "numpy": [_VENV], "onnxruntime": [_VENV]}
_NO_CUDA = "ONNX Runtime 1.22.0 here has no CUDAExecutionProvider: install onnxruntime-gpu in place of onnxruntime"

ORIN_NANO = RecordedMachine(
    _FILES,
    {
        "dpkg -l nvidia-jetpack nvidia-l4t-core python3-libnvinfer libnvinfer-bin": recorded.DPKG.partition("un ")[0]
        + "ii  nvidia-jetpack      6.2+b77                arm64  NVIDIA Jetpack Meta Package\n"
        + "ii  nvidia-l4t-core     36.4.3-20250107174145  arm64  NVIDIA Core Package\n"
        + "ii  python3-libnvinfer  10.3.0.30-1+cuda12.5   arm64  Python 3 bindings for TensorRT standard runtime\n",
        "nvpmodel -q": "NV Power Mode: 15W\n0\n",
        "nvpmodel -p --verbose": recorded.verbose_modes(["15W", "25W", "MAXN_SUPER"]),
        "tegrastats --interval 200": recorded.ORIN_NANO + "\n",
        "nvidia-smi": recorded.SMI_JETPACK_6,
        "lscpu": "Architecture: aarch64\nModel name:   Cortex-A78AE\n",
        PROBE: answer(**_PYTHON, packages=_WHEELS, places=_PLACES),
        f"{PROBE} numpy": answer(version="1.26.4", file=f"{_VENV}/numpy/__init__.py"),
        f"{PROBE} cv2": answer(version="4.11.0", file=f"{_VENV}/cv2/__init__.py", build=recorded.OPENCV_WHEEL),
        f"{PROBE} tensorrt": answer(error="ImportError: libnvinfer.so.10: cannot open shared object file"),
        f"{PROBE} cuda.bindings.driver": answer(version="12.6.2", file=f"{_VENV}/cuda/bindings/driver.so"),
        f'{CHILD} {{"do": "providers"}}': answer(
            providers=[["CPUExecutionProvider", "", True], ["CUDAExecutionProvider", _NO_CUDA, False]], version="1.22.0"
        ),
        f'{CHILD} {{"do": "gpu"}}': answer(gpu="Orin, compute capability 8.7, CUDA 12.6"),
    },
)
"""As it was found."""

_MENDED_PACKAGES = {
    **{name: found for name, found in _WHEELS.items() if name in ("numpy", "onnx", "onnxruntime", "cuda-bindings")},
    "tensorrt": [["10.3.0", _SYSTEM]],
}

MENDED = ORIN_NANO.with_(
    {f"{_POLICY}/scaling_min_freq": "1728000\n", f"{_POLICY}/scaling_max_freq": "1728000\n"}
    | {f"{_GPU}/min_freq": "1020000000\n", f"{_GPU}/max_freq": "1020000000\n"}
    | {"proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/swapfile file\t8388604\t0\t-2\n"}
    | {"proc/meminfo": "MemTotal: 7802880 kB\nMemAvailable: 4469440 kB\nSwapTotal: 8388604 kB\nSwapFree: 8388604 kB\n"},
    {
        "nvpmodel -q": "NV Power Mode: MAXN_SUPER\n2\n",
        PROBE: answer(
            **_PYTHON, packages=_MENDED_PACKAGES, places={**_PLACES, "cv2": [_SYSTEM], "tensorrt": [_SYSTEM]}
        ),
        f"{PROBE} cv2": answer(version="4.8.0", file=f"{_SYSTEM}/cv2/__init__.py", build=recorded.OPENCV_DEBIAN),
        f"{PROBE} tensorrt": answer(version="10.3.0", file=f"{_SYSTEM}/tensorrt/__init__.py"),
    },
)
"""After every command of the report."""
