"""A foreign file, and few crops to compare it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.graphs.foreign import write_foreign

from reid_edge.api.import_model import import_model
from reid_edge.export.foreign.imported import ImportReport
from reid_edge.export.parity.limits import Checks


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., ImportReport]:
    """`import_model` on few drawn crops, into a folder of the test."""

    def run(path: Path, **options: Any) -> ImportReport:
        if not {"preset", "scale", "mean", "std", "channels"} & set(options):
            options["preset"] = "torchreid"
        return import_model(path, tmp_path / "out", checks=Checks(crops=8), threads=1, **options)

    return run


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return write_foreign(tmp_path / "net.v2.onnx")
