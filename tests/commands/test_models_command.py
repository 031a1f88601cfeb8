"""`reid-edge models`: architectures and weights, as tables of 80 columns and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid_edge.cli import main
from reid_edge.training.models.names import ARCHITECTURE_NAMES
from reid_edge.training.pretrained.rows import WEIGHTS


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    assert ended.value.code in (0, None)


def test_tables_and_json_hold_every_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("--json", str(tmp_path / "models.json"))
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*ARCHITECTURE_NAMES, *WEIGHTS))
    assert all(row.terms in printed for row in WEIGHTS.values())
    written = json.loads((tmp_path / "models.json").read_text())
    assert [each["name"] for each in written["architectures"]][: len(ARCHITECTURE_NAMES)] == list(ARCHITECTURE_NAMES)
    (resnet,) = [each for each in written["weights"] if each["name"] == "resnet50_imagenet"]
    assert resnet["url"] == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    assert resnet["sha256"] == "0676ba61" and resnet["licence"] == "BSD-3-Clause" and "how" in resnet
