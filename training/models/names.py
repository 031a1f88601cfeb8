"""The architectures by name, known without PyTorch: for help, completion and a check before anything is loaded."""

from __future__ import annotations

import re

from reid_edge.core.names import did_you_mean
from reid_edge.core.registry import added_names
from reid_edge.errors import InputError, ModelError

__all__ = ["ARCHITECTURE_NAMES", "DEVICES", "check_architecture", "check_device", "osnet_width"]

ARCHITECTURE_NAMES = (
    "resnet50_bot",
    "osnet_x0_25",
    "osnet_x0_5",
    "osnet_x0_75",
    "osnet_x1_0",
    "osnet_ibn_x1_0",
    "osnet_ain_x0_25",
    "osnet_ain_x0_5",
    "osnet_ain_x0_75",
    "osnet_ain_x1_0",
    "mobilenetv3_large",
    # What *Person Re-identification using Siamese Networks* built, parameter for parameter: kept as history.
    "resnet50_seed",
    "osnet_x0_25_seed",
    "mobilenetv3_large_seed",
)
"""The own rows of `registry.ARCHITECTURES`. OSNet takes other widths too: see `osnet_width`."""


DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
"""The kinds of device that a training runs on; a number may follow, as in cuda:1."""


def osnet_width(name: str) -> float | None:
    """The width in an OSNet's name, or None for another architecture or a width that cannot be built.

    Widths are 0.25 to 4, and 64 times the width is a whole number of channels.

    >>> osnet_width("osnet_x1_25"), osnet_width("osnet_x0_1"), osnet_width("resnet50_bot")
    (1.25, None, None)
    """
    match = re.fullmatch(r"osnet_x(\d)_(\d{1,6})", name)
    width = float(f"{match[1]}.{match[2]}") if match else 0.0
    return width if 0.25 <= width <= 4 and (64 * width).is_integer() else None


def check_architecture(name: str) -> None:
    """Raise ModelError, listing the known names, unless ``name`` is an architecture that can be built."""
    names = (*ARCHITECTURE_NAMES, *added_names("architectures"))
    if name not in names and osnet_width(name) is None:
        others = f"or OSNet of another width up to x4_0{did_you_mean(name, names)}"
        raise ModelError(f"unknown architecture {name!r}: use one of {', '.join(names)}, {others}")


def check_device(name: str) -> None:
    """Raise InputError unless ``name`` is one of `DEVICES`, perhaps with a number; whether it is here, torch knows."""
    kind, colon, number = name.partition(":")
    if kind not in DEVICES or (colon and not number.isdecimal()):
        near = did_you_mean(kind, DEVICES)
        raise InputError(f"device {name!r} cannot be used: give auto, cpu, cuda or cuda:N{near}")
