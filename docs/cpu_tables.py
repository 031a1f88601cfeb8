"""What `tables` says of CPUs: crops a second from JPEG files, and what bf16 costs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

__all__ = ["BF16", "JPEG", "bf16", "jpeg"]

Rows = dict[str, dict[str, Any]]

JPEG = {
    "model": "",
    "batch": "d",
    **dict.fromkeys(("by hand", "reid-edge", "reid-edge, OpenVINO bf16"), ",.0f"),
    **dict.fromkeys(("reid-edge to by hand", "bf16 to by hand"), ".2f"),
}
BF16 = {
    "model": "",
    "cosine, minimum": ".4f",
    "1st percentile": ".4f",
    "mAP": ".2f",
    "mAP lost": ".2f",
    "R1 lost": ".2f",
}
_MODELS = {"msmt17": "OSNet x0.25 of MSMT17", "finetuned": "the same, fine-tuned"}


def jpeg(work: Path) -> Rows:
    """Medians over rounds, and of the ratios within a round."""
    found: Rows = {}
    for row in json.loads((work / "jpeg.json").read_text(encoding="utf-8"))["rows"]:
        speeds: dict[str, list[float]] = row["crops_per_s"]
        ratios = {
            title: statistics.median(a / b for a, b in zip(speeds[name], speeds["by hand"], strict=True))
            for title, name in (("reid-edge to by hand", "reid-edge"), ("bf16 to by hand", "reid-edge, OpenVINO bf16"))
        }
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        found[f"{row['model']} {row['batch']}"] = {"model": row["model"], "batch": row["batch"], **medians, **ratios}
    return found


def bf16(work: Path) -> Rows:
    """What `verify-export` says of each model's own FP32 file, run in bf16."""
    found: Rows = {}
    for name, title in _MODELS.items():
        ((_, row),) = json.loads((work / f"{name}-bf16.json").read_text(encoding="utf-8")).items()
        lost = {f"{metric} lost": _interval(row["lost"][key]) for metric, key in (("mAP", "mAP"), ("R1", "rank1"))}
        found[name] = {
            "model": title,
            "cosine, minimum": row["cosine_min"],
            "1st percentile": row["cosine_p1"],
            "mAP": 100 * row["metrics"]["mAP"],
            **lost,
        }
    return found


def _interval(found: dict[str, float]) -> dict[str, float]:
    """Points, of a fraction with the ends of its interval."""
    return {name: 100 * found[key] for name, key in (("value", "mean"), ("low", "low"), ("high", "high"))}
