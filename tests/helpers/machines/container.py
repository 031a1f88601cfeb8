"""A container on a CPU: half a core of four, 1 GiB, no sysfs of clocks, and ``pip install 'reid-edge[cpu]'``."""

from __future__ import annotations

from helpers.machines import recordings as recorded
from helpers.machines.replay import CHILD, PROBE, RecordedMachine, answer

__all__ = ["CONTAINER"]

_SITE = "/opt/reid-edge/lib/python3.11/site-packages"
_NAMES = {"numpy": "2.4.6", "onnxruntime": "1.32.0", "opencv-python-headless": "5.0.0.93", "reid-edge": "0.1.0"}

CONTAINER = RecordedMachine(
    {
        "proc/cpuinfo": "model name\t: AMD EPYC 9R14\nflags\t\t: fpu avx2\n",
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/memory.max": "1073741824\n",
        "sys/fs/cgroup/memory.current": "104857600\n",
        "sys/devices/system/cpu/online": "0-3\n",
        "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    },
    {
        PROBE: answer(
            version="3.11.2",
            prefix="/opt/reid-edge",
            virtual=True,
            sees_system=False,
            packages={name: [[version, _SITE]] for name, version in _NAMES.items()},
            places={name: [_SITE] for name in ("cv2", "numpy", "onnxruntime")},
        ),
        f"{PROBE} numpy": answer(version="2.4.6"),
        f"{PROBE} cv2": answer(version="5.0.0", build=recorded.OPENCV_WHEEL),
        f'{CHILD} {{"do": "providers"}}': answer(
            providers=[
                ["CPUExecutionProvider", "", True],
                ["CUDAExecutionProvider", "ONNX Runtime 1.32.0 here has no CUDAExecutionProvider", False],
            ]
        ),
    },
)
