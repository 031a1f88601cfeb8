"""What `tables` says of models away from home: every model on every data set, plain and normalised by camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["DOMAINS", "domains"]

Rows: TypeAlias = "dict[str, dict[str, Any]]"

DOMAINS = {
    "model": "",
    "scored on": "",
    **dict.fromkeys(("R1", "mAP", "R1, cameras", "mAP, cameras", "mAP behind the set's own model"), ".1f"),
}
_MODELS = {
    "msmt17_fp32": "OSNet x0.25 of MSMT17",
    "ft_fp32": "the same, fine-tuned on market1501-dev",
    "mobilenetv3_large_fp32": "MobileNetV3 of drawn people",
}
_SETS = {
    "market1501-dev": "market1501-dev",
    "people": "drawn people",
    "town": "drawn people, another seed and three cameras",
}


def domains(work: Path) -> Rows:
    """A row for each model and data set, of `cross-domain --json`; a set that the model was trained on is marked."""
    content = json.loads((work / "domains.json").read_text(encoding="utf-8"))
    rows: Rows = {}
    for cell in content["cells"]:
        key = f"{cell['model']} {cell['dataset']}"
        home = ", its own" if cell["home"] else ""
        row = rows.setdefault(key, {"model": _MODELS[cell["model"]], "scored on": _SETS[cell["dataset"]] + home})
        suffix = ", cameras" if cell["setting"] == "cameras" else ""
        row |= {f"R1{suffix}": 100 * cell["rank1"], f"mAP{suffix}": 100 * cell["mAP"]}
    for shift in content["shifts"]:
        lost = shift["mAP_lost"]
        interval = {"value": 100 * lost["mean"], "low": 100 * lost["low"], "high": 100 * lost["high"]}
        rows[f"{shift['foreign']} {shift['dataset']}"]["mAP behind the set's own model"] = interval
    return rows
