"""A desktop with a GPU, an ONNX Runtime for it and TensorRT from PyPI.

Name, driver and compute capability of the GPU are recorded (`recordings.TWO_GPUS`), OpenVINO's version and OpenCV's
build too; the rest is put together.
"""

from __future__ import annotations

from helpers.machines import recordings as recorded
from helpers.machines.replay import CHILD, PROBE, RecordedMachine, answer

__all__ = ["DESKTOP", "QUERY", "SMI_CSV"]

_SITE = "/home/reid/venv/lib/python3.12/site-packages"
QUERY = (
    "nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,temperature.gpu,"
    "clocks_throttle_reasons.hw_slowdown,clocks_throttle_reasons.sw_thermal_slowdown --format=csv"
)
SMI_CSV = (
    "name, driver_version, memory.total [MiB], compute_cap, temperature.gpu, clocks_throttle_reasons.hw_slowdown, "
    "clocks_throttle_reasons.sw_thermal_slowdown\n"
    "NVIDIA RTX 5880 Ada Generation, 570.86.15, 49140 MiB, 8.9, 41, Not Active, Not Active\n"
)

_NAMES = {
    "numpy": "2.2.4",
    "onnx": "1.17.0",
    "onnxruntime-gpu": "1.22.0",
    "opencv-python-headless": "4.11.0.86",
    "tensorrt": "10.9.0.34",
    "tensorrt-cu12": "10.9.0.34",
    "tensorrt-cu12-libs": "10.9.0.34",
    "cuda-bindings": "12.8.0",
    "torch": "2.6.0",
}

DESKTOP = RecordedMachine(
    {
        "proc/cpuinfo": "model name\t: AMD Ryzen 9 7950X 16-Core Processor\nflags\t\t: fpu avx512f avx512_bf16\n",
        "sys/devices/system/cpu/online": "0-31\n",
        "proc/meminfo": "MemTotal: 65536000 kB\nMemAvailable: 60000000 kB\nSwapTotal: 2097148 kB\nSwapFree: 2097148 kB\n",
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone0/temp": "47000\n",
    },
    {
        QUERY: SMI_CSV,
        "nvidia-smi": "| NVIDIA-SMI 570.86.15      Driver Version: 570.86.15      CUDA Version: 12.8     |\n",
        PROBE: answer(
            version="3.12.3",
            prefix="/home/reid/venv",
            virtual=True,
            sees_system=False,
            packages={name: [[version, _SITE]] for name, version in _NAMES.items()},
            places={name: [_SITE] for name in ("cv2", "tensorrt", "numpy", "onnxruntime")},
        ),
        f"{PROBE} numpy": answer(version="2.2.4"),
        f"{PROBE} cv2": answer(version="4.11.0", build=recorded.OPENCV_WHEEL),
        f"{PROBE} tensorrt": answer(version="10.9.0.34"),
        f"{PROBE} cuda.bindings.driver": answer(version="12.8.0"),
        f'{CHILD} {{"do": "providers"}}': answer(
            providers=[[f"{name}ExecutionProvider", "", True] for name in ("CPU", "CUDA", "Tensorrt")]
        ),
        f'{CHILD} {{"do": "gpu"}}': answer(gpu="NVIDIA RTX 5880 Ada Generation, compute capability 8.9, CUDA 12.8"),
    },
)
