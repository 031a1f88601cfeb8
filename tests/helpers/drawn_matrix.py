"""The paper's matrix in small: its options, and what is read from its log and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {"identities_per_batch": 3, "crops_per_identity": 2, "input_hw": (64, 32), "pad": 2}
SMALL: dict[str, Any] = {"archs": ("osnet_x0_25",), "epochs": 1, "change": TINY, "device": "cpu"}
STEM = "osnet_x0_25-seed"

Sets = dict[str, Path]


def jobs_in(said: list[str]) -> list[str]:
    return [line.split(": ")[1] for line in said if line.startswith("job ")]


def results_in(out: Path) -> dict[str, int]:
    return {str(path.parent.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("result.json")}
