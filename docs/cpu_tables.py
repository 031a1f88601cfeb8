"""What `tables` says of CPUs: crops a second from JPEG files, bf16, options of sessions, limits on cores."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "BF16",
    "COLD_START",
    "JPEG",
    "LIMITS",
    "SESSION",
    "SESSION_MEMORY",
    "bf16",
    "cold_start",
    "jpeg",
    "limits",
    "session",
    "session_memory",
]

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
SESSIONS = {
    "osnet_x0_25": "OSNet x0.25",
    "session_fp32": "the same, of MSMT17",
    "mobilenetv3_large": "MobileNetV3-L",
    "resnet50_bot": "ResNet50",
}
"""The models of the trial by the stems of their files."""
SESSION = {
    "option": "",
    **dict.fromkeys(SESSIONS.values(), ".2f"),
    **dict.fromkeys(("CPU time, least", "most"), ".2f"),
}
SESSION_MEMORY = {"model": "", **dict.fromkeys(("default", "no arena", "no memory pattern"), ".0f")}
LIMITS = {
    "limit": "",
    "model": "",
    "threads": "d",
    **dict.fromkeys(("crops/s", "with threads=1", "ONNX Runtime's own number"), ",.0f"),
    **dict.fromkeys(("to threads=1", "its own to threads=1"), ".2f"),
}
COLD_START = {"model": "", **dict.fromkeys(("seconds, median", "least", "most", "CPU seconds, median"), ".2f")}
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


def session(file: str) -> Callable[[Path], Rows]:
    """The ratios of a run of the trial, which is in ``file``."""
    return lambda work: _ratios(json.loads((work / file).read_text(encoding="utf-8")))


def _ratios(trial: dict[str, Any]) -> Rows:
    """Medians of ratios to the default within a round: speed with 1 crop and with 8, and CPU time over all models."""
    found: Rows = {}
    rows = trial["rows"]
    for option, default in trial["defaults"].items():
        speeds = {
            SESSIONS[model]: [_to_other(row["crops_per_s"], option, default) for row in rows if row["model"] == model]
            for model in SESSIONS
        }
        cpu = [_to_other(row["cpu_ms"], option, default) for row in rows]
        found[option] = {"option": option, **speeds, "CPU time, least": min(cpu), "most": max(cpu)}
    return found


def session_memory(work: Path) -> Rows:
    """The peak of a process, MiB, by option."""
    peaks = json.loads((work / "session.json").read_text(encoding="utf-8"))["peak_mib"]
    return {SESSIONS[model]: {"model": SESSIONS[model], **peaks[model]} for model in SESSIONS}


def _to_other(values: dict[str, list[float]], option: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(values[option], values[other], strict=True))


def limits(work: Path) -> Rows:
    """Medians over rounds, and of the ratios within a round; the limits that could not be made have no rows."""
    names = {"chosen": "crops/s", "one": "with threads=1", "ONNX Runtime's": "ONNX Runtime's own number"}
    found: Rows = {}
    for row in json.loads((work / "limits.json").read_text(encoding="utf-8"))["rows"]:
        speeds: dict[str, list[float]] = row["crops_per_s"]
        found[f"{row['limit']} {row['model']}"] = {
            **{name: row[name] for name in ("limit", "model", "threads")},
            **{title: statistics.median(speeds[name]) for name, title in names.items()},
            "to threads=1": _to_other(speeds, "chosen", "one"),
            "its own to threads=1": _to_other(speeds, "ONNX Runtime's", "one"),
        }
    return found


def cold_start(work: Path) -> Rows:
    """Wall time and CPU time of whole processes."""
    found: Rows = {}
    for model, spent in json.loads((work / "cold.json").read_text(encoding="utf-8"))["seconds"].items():
        wall, cpu = zip(*spent, strict=True)
        found[model] = {
            "model": model,
            "seconds, median": statistics.median(wall),
            "least": min(wall),
            "most": max(wall),
            "CPU seconds, median": statistics.median(cpu),
        }
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
