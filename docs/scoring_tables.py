"""What `tables` says of evaluation: what tricks of the test are worth, how intervals cover, and what scoring costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["COVERAGE", "SCORING_SPEED", "TRICKS", "coverage", "scoring_speed", "tricks"]

Rows: TypeAlias = "dict[str, dict[str, Any]]"

TRICKS = {
    "trick": "",
    **dict.fromkeys(("R1", "mAP", "mINP"), ".1f"),
    "mAP gained, 95 %": "",
    **dict.fromkeys(("EER, %", "TAR at FAR 0.1 %, %"), ".1f"),
}
COVERAGE = {
    "population": "",
    "true mAP": ".1f",
    "width of an interval": ".1f",
    "hold the mAP, %": ".1f",
    "true gain of B": ".1f",
    "hold the gain, %": ".1f",
}
SCORING_SPEED = {
    "what": "",
    **dict.fromkeys(("queries", "gallery"), ",d"),
    "mAP": ".0f",
    "seconds": ".1f",
    "times the product alone": ".2f",
    "MB above the features": ".0f",
}

NAMES = {
    "flip": "flip averaging",
    "expansion": "query expansion, k 5",
    "alpha": "query expansion, k 5, alpha 3",
    "rerank": "re-ranking",
    "all": "flip averaging and re-ranking",
}


def tricks(work: Path) -> Rows:
    """The development crops by one model: plainly, and with each trick."""
    found: Rows = {}
    for file, name in NAMES.items():
        content = json.loads((work / f"{file}.json").read_text(encoding="utf-8"))
        plain, tricked = content["evaluations"]
        gain = content["comparisons"][0]["mAP"]
        ends = f"{100 * gain['mean']:+.1f} [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}]"
        found.setdefault("plain", _row("none", plain, ""))
        found[file] = _row(name, tricked, ends)
    return found


def _row(name: str, figures: dict[str, Any], gained: str) -> dict[str, Any]:
    roc = figures["roc"]
    return {
        "trick": name,
        "R1": 100 * figures["rank1"],
        "mAP": 100 * figures["mAP"],
        "mINP": 100 * figures["mINP"],
        "mAP gained, 95 %": gained,
        "EER, %": 100 * roc["eer"],
        "TAR at FAR 0.1 %, %": 100 * roc["tar_at_far"]["0.001"],
    }


def coverage(work: Path) -> Rows:
    """How often intervals hold the truth."""
    content = json.loads((work / "coverage.json").read_text(encoding="utf-8"))
    return {
        name: {
            "population": name,
            "true mAP": 100 * each["mAP"],
            "width of an interval": 100 * each["width"],
            "hold the mAP, %": 100 * each["held"],
            "true gain of B": 100 * each["gain"],
            "hold the gain, %": 100 * each["gain held"],
        }
        for name, each in content.items()
    }


def scoring_speed(work: Path) -> Rows:
    """LaST's size beside the matrix product, and Market-1501's with re-ranking."""
    content = json.loads((work / "scoring-speed.json").read_text(encoding="utf-8"))
    found: Rows = {}
    for noise, each in content["last"].items():
        found[f"last {noise}"] = {
            "what": "LaST's gallery, a tenth of its queries",
            **{name: each[name] for name in ("queries", "gallery", "seconds")},
            "mAP": 100 * each["mAP"],
            "times the product alone": each["times"],
            "MB above the features": each["extra_mb"],
        }
    each = content["market"]
    sizes = {name: each[name] for name in ("queries", "gallery")}
    for what, prefix, score in (("Market-1501's size", "plain", "mAP"), ("the same, re-ranked", "", "mAP_reranked")):
        seconds, extra = (f"{prefix}_s", f"{prefix}_mb") if prefix else ("seconds", "extra_mb")
        found[f"market {prefix}".strip()] = {
            "what": what,
            **sizes,
            "mAP": 100 * each[score],
            "seconds": each[seconds],
            "MB above the features": each[extra],
        }
    return found
