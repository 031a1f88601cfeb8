"""What a Jetson draws: the power monitors of its rails, from sysfs, and where that is closed from tegrastats.

The monitor of a board's input is VDD_IN (Orin Nano, Orin NX, Xavier NX, TX2), VIN (Thor) or POM_5V_IN (Nano). AGX
boards have none: their rails are added up, which leaves out what no monitor sees. So only the same source on the same
kind of board compares, and between boards only VDD_IN.
"""

from __future__ import annotations

from collections.abc import Mapping

from reid_edge.device.host import Host

__all__ = ["INPUTS", "board_power", "read_rails"]

INPUTS = ("VDD_IN", "VIN", "POM_5V_IN")
"""Rails through which a whole board is fed, by the names that NVIDIA gives them."""

_MONITORS = ("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*", "sys/bus/i2c/drivers/ina2xx/*/hwmon/hwmon*")
_MONITORS_4 = "sys/bus/i2c/drivers/ina3221x/*/iio*device*"


def read_rails(host: Host) -> dict[str, float]:
    """Watts now, by rail; empty on other machines.

    - JetPack 5 and later: the kernel's ina3221 (Documentation/hwmon/ina3221.rst): ``in[123]_label``, bus voltage in mV,
      current in mA; of Thor's ina238 (Documentation/hwmon/ina238.rst) ``power1_input`` in microwatts.
    - JetPack 4: NVIDIA's ina3221x: ``rail_name_[012]`` and ``in_power[012]_input`` in mW (Jetson Linux Developer Guide
      32.7, "Software-based Power Consumption Modeling").
    """
    rails: dict[str, float] = {}
    for folder in (folder for pattern in _MONITORS for folder in host.folders(pattern)):
        for channel in (1, 2, 3):
            label = host.read(f"{folder}/in{channel}_label")[:40]
            millivolts, milliamperes = (host.number(f"{folder}/{name}{channel}_input") for name in ("in", "curr"))
            if label and label != "NC" and millivolts is not None and milliamperes is not None:
                rails[label] = millivolts * milliamperes / 1e6
        if (
            host.read(f"{folder}/name") == "ina238"
            and (microwatts := host.number(f"{folder}/power1_input")) is not None
        ):
            rails["VIN"] = microwatts / 1e6
    for folder in host.folders(_MONITORS_4):
        for channel in (0, 1, 2):
            label = host.read(f"{folder}/rail_name_{channel}")[:40]
            milliwatts = host.number(f"{folder}/in_power{channel}_input")
            if label and milliwatts is not None:
                rails[label] = milliwatts / 1e3
    return {name: watts for name, watts in rails.items() if not name.startswith("sum of")}


def board_power(rails: Mapping[str, float]) -> tuple[str, float] | None:
    """The source and the watts of a whole board from its rails; None without any.

    >>> board_power({"VDD_SOC": 1.4, "VDD_IN": 4.8}), board_power({"VDD_GPU_SOC": 2.3, "VIN_SYS_5V0": 4.0})
    (('VDD_IN', 4.8), ('VDD_GPU_SOC+VIN_SYS_5V0', 6.3))
    """
    for name in INPUTS:
        if name in rails:
            return name, rails[name]
    return ("+".join(sorted(rails)), sum(rails.values())) if rails else None
