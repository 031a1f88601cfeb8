"""NVIDIA's GPUs as ``nvidia-smi`` lists them: name, driver, memory, and whether heat or power slows them down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .host import Host

__all__ = ["SmiGpu", "parse_cuda_version", "parse_gpus", "read_cuda_version", "read_gpus"]

_BASE = ("name", "driver_version", "memory.total")
_MORE = (
    "compute_cap",
    "temperature.gpu",
    "clocks_throttle_reasons.hw_slowdown",
    "clocks_throttle_reasons.sw_thermal_slowdown",
)
"""A driver refuses the whole query for one column that it does not know; 470 does not know compute_cap."""

_MOST_GPUS = 64


@dataclass(frozen=True)
class SmiGpu:
    """A GPU. Empty text and None stand for what the driver does not say, on a Jetson nearly everything."""

    name: str
    driver: str
    memory_bytes: int | None = None
    compute_capability: str = ""
    temperature_c: int | None = None
    slowed: bool = False


def read_gpus(host: Host) -> tuple[SmiGpu, ...]:
    """The GPUs that the driver finds; empty without a driver, a GPU or nvidia-smi."""
    for columns in (_BASE + _MORE, _BASE):
        printed = host.run(["nvidia-smi", f"--query-gpu={','.join(columns)}", "--format=csv"], 20)
        if gpus := parse_gpus(printed.text):
            return gpus
    return ()


def read_cuda_version(host: Host) -> str:
    """The newest CUDA that the driver runs, "12.6"; empty where it is unknown."""
    return parse_cuda_version(host.run(["nvidia-smi"], 20).text)


def parse_gpus(text: str) -> tuple[SmiGpu, ...]:
    r"""The rows of ``nvidia-smi --query-gpu=... --format=csv``, whose first line names the columns.

    >>> parse_gpus("name, driver_version, memory.total [MiB]\nNVIDIA GeForce RTX 4090, 570.86.15, 24564 MiB\n")
    (SmiGpu(name='NVIDIA GeForce RTX 4090', driver='570.86.15', memory_bytes=25757220864, ...
    """
    lines = [line.split(", ") for line in text.splitlines() if ", " in line][: _MOST_GPUS + 1]
    header, *rows = lines or [[]]
    names = [re.sub(r" \[.*", "", name.strip()) for name in header]
    if "name" not in names:
        return ()
    return tuple(_gpu(dict(zip(names, row, strict=False))) for row in rows if len(row) == len(names))


def parse_cuda_version(text: str) -> str:
    """The version in the banner of ``nvidia-smi``.

    >>> parse_cuda_version("| NVIDIA-SMI 540.4.0      Driver Version: 540.4.0      CUDA Version: 12.6     |")
    '12.6'
    """
    found = re.search(r"CUDA Version: (\d{1,3}\.\d{1,3})", text)
    return found[1] if found else ""


def _gpu(row: Mapping[str, str]) -> SmiGpu:
    memory, heat = (_number(row.get(name, "")) for name in ("memory.total", "temperature.gpu"))
    return SmiGpu(
        name=row["name"].strip()[:100],
        driver=_known(row.get("driver_version", "")),
        memory_bytes=None if memory is None else memory << 20,
        compute_capability=_known(row.get("compute_cap", "")),
        temperature_c=heat,
        # "clocks_event_reasons" since driver 535; "Not Active" otherwise.
        slowed=any(value.strip() == "Active" for name, value in row.items() if "reasons." in name),
    )


def _known(value: str) -> str:
    """A version, or nothing for "N/A", "[N/A]" and "[Not Supported]"."""
    value = value.strip()
    return value if re.fullmatch(r"\d[\w.]{0,40}", value) else ""


def _number(value: str) -> int | None:
    found = re.match(r"\s*(\d{1,12})\b", value)
    return int(found[1]) if found else None
