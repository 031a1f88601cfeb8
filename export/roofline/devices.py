"""Peak throughput and memory bandwidth of Jetson modules, from NVIDIA's data sheets.

Dense figures of the GPU alone: sheets advertise sparse ones, twice as high, and add the deep-learning accelerators.
An operation is half a multiply-accumulate. FP32 is that of the CUDA cores, 2 operations a core and clock: engines are
built without TF32 (`export.engines.compile`). Sources:

- Orin Nano: *Jetson Orin Nano Series Data Sheet*, DS-11105-001: 1024 cores at 625 MHz, 20 dense INT8 TOPS, 68 GB/s; and
  https://developer.nvidia.com/blog/nvidia-jetson-orin-nano-developer-kit-gets-a-super-boost/ for FP16 and the Super
  mode: 1020 MHz, 33 dense INT8 TOPS, 17 FP16 TFLOPS, 102 GB/s.
- Orin NX 16GB: *Jetson Orin NX Series Data Sheet*, DS-10712-001,
  https://developer.nvidia.com/downloads/jetson-orin-nx-module-series-data-sheet: 1024 cores at 918 MHz, 102 GB/s, 50
  dense INT8 TOPS with two accelerators of 10; FP16 is half of the 30 that remain, as on the Orin Nano.
- AGX Orin 64GB: *Jetson AGX Orin Series Data Sheet*, DS-10662-001,
  https://developer.nvidia.com/embedded/downloads: 170 sparse INT8 TOPS and 85 sparse FP16 TFLOPS of the tensor cores,
  5.3 FP32 TFLOPS, 1.3 GHz, 204.8 GB/s.
- AGX Thor, T5000: https://www.nvidia.com/en-us/autonomous-machines/embedded-systems/jetson-thor/: 1035 sparse INT8 TOPS
  and 517 sparse FP16 TFLOPS, 2560 cores at 1.57 GHz, 273 GB/s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DEVICE_LIMITS", "DEVICE_NAMES", "DeviceLimits"]


@dataclass(frozen=True)
class DeviceLimits:
    """What a device reaches at most: ``tera_ops`` a second by type, dense, and ``gb_per_s`` of its memory.

    ``mode`` is the power mode (nvpmodel) of these figures; others are slower.

    >>> nano = DEVICE_LIMITS["orin-nano"]
    >>> nano.compute_us(2_500_000, "fp16"), nano.memory_us(68_000)
    (0.5, 1.0)
    """

    name: str
    title: str
    mode: str
    tera_ops: Mapping[str, float]
    gb_per_s: float

    def compute_us(self, macs: int, precision: str) -> float:
        """Microseconds for ``macs`` multiply-accumulates at the peak of a precision; that of FP32 for unknown ones."""
        return 2 * macs / self.tera_ops.get(precision, self.tera_ops["fp32"]) / 1e6

    def memory_us(self, moved_bytes: int) -> float:
        """Microseconds for bytes at the peak of the memory."""
        return moved_bytes / self.gb_per_s / 1e3


def _limits(
    name: str, title: str, mode: str, *, fp32: float, fp16: float, int8: float, gb_per_s: float
) -> tuple[str, DeviceLimits]:
    return name, DeviceLimits(name, title, mode, {"fp32": fp32, "fp16": fp16, "int8": int8}, gb_per_s)


DEVICE_LIMITS: Mapping[str, DeviceLimits] = dict(
    (
        _limits("orin-nano", "Orin Nano 8GB", "15W", fp32=1.28, fp16=10, int8=20, gb_per_s=68),
        _limits("orin-nano-super", "Orin Nano 8GB Super", "MAXN_SUPER", fp32=2.09, fp16=17, int8=33, gb_per_s=102),
        _limits("orin-nx", "Orin NX 16GB", "MAXN", fp32=1.88, fp16=15, int8=30, gb_per_s=102),
        _limits("agx-orin", "AGX Orin 64GB", "MAXN", fp32=5.3, fp16=42.5, int8=85, gb_per_s=204.8),
        _limits("thor", "AGX Thor T5000", "MAXN", fp32=8.0, fp16=258, int8=517, gb_per_s=273),
    )
)
"""By name, from the smallest."""

DEVICE_NAMES = tuple(DEVICE_LIMITS)
