"""Which Jetson this is: its board, its Jetson Linux (L4T) and its JetPack."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .host import Host

__all__ = ["JETSON_PACKAGES", "Jetson", "parse_dpkg", "parse_l4t", "read_jetson"]

JETSON_PACKAGES = ("nvidia-jetpack", "nvidia-l4t-core", "python3-libnvinfer", "libnvinfer-bin")
"""Debian packages whose versions say what is installed on a Jetson."""


@dataclass(frozen=True)
class Jetson:
    """A Jetson. ``l4t`` is "36.4.3", ``packages`` are the versions of `JETSON_PACKAGES` that are installed."""

    board: str
    l4t: str
    packages: dict[str, str]

    @property
    def jetpack(self) -> str:
        """The version of the ``nvidia-jetpack`` package without its build, "6.2"; empty where it is not installed."""
        return re.split(r"[+~-]", self.packages.get("nvidia-jetpack", ""))[0]

    @property
    def major(self) -> int:
        """The first number of ``l4t``: 35 is JetPack 5, 36 is 6, 38 and 39 are 7; 0 where it is unknown."""
        return int(self.l4t.partition(".")[0] or 0)


def read_jetson(host: Host) -> Jetson | None:
    """The Jetson that ``host`` is, by its device tree or its ``/etc/nv_tegra_release``; None for other machines."""
    board = " ".join(host.read("proc/device-tree/model").split())[:100]
    l4t = parse_l4t(host.read("etc/nv_tegra_release"))
    if not l4t and "Jetson" not in board:
        return None
    installed = parse_dpkg(host.run(["dpkg", "-l", *JETSON_PACKAGES], 10).text)
    return Jetson(board, l4t or _l4t_of_package(installed), installed)


def parse_l4t(text: str) -> str:
    """The version in ``/etc/nv_tegra_release``; empty where it has none.

    >>> parse_l4t("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64")
    '36.4.3'
    """
    found = re.search(r"\bR(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3}){0,2})", text)
    return f"{found[1]}.{found[2]}" if found else ""


def parse_dpkg(text: str) -> dict[str, str]:
    """The versions of the installed packages in the table of ``dpkg -l``.

    >>> parse_dpkg("ii  nvidia-jetpack  6.2+b77  arm64  NVIDIA Jetpack Meta Package")
    {'nvidia-jetpack': '6.2+b77'}
    """
    rows = re.findall(r"^[ih]i +([a-z0-9][a-z0-9.+-]{0,99})(?::\w+)? +(\d[\w.+:~-]{0,99})", text, re.M)
    return dict(rows)


def _l4t_of_package(installed: dict[str, str]) -> str:
    """Of ``nvidia-l4t-core``, whose version begins with Jetson Linux's: "36.3.0-20240719161631"."""
    return installed.get("nvidia-l4t-core", "").partition("-")[0]
