"""A folder in which the blocks of the pages run: drawn people under the names of the pages, and models of them."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shell import run_bash

SHORT: dict[str, Any] = {"input_hw": (64, 32), "identities_per_batch": 4, "crops_per_identity": 2, "pad": 2}
"""What every training of a page is cut to, with one epoch; its options are parsed and checked before."""


_GRAPHS: dict[object, Any] = {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    _quick(monkeypatch)


def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short trainings, and one PyTorch export for each model: same data and seed give the same weights on each page."""
    loop = pytest.importorskip("reid_edge.training.loop", reason="the pages train, which needs the train extra")
    exporter = pytest.importorskip("reid_edge.export.graph.from_torch", reason="the pages export")
    train, onnx_from_model = loop.train, exporter.onnx_from_model

    def short(config: Any, *arguments: Any, **options: Any) -> Any:
        return train(replace(config.for_epochs(1), **SHORT), *arguments, **options)

    def remembered(model: Any, card: Any) -> Any:
        key = card.weights_sha256, card.architecture, card.input_hw
        if key not in _GRAPHS:
            _GRAPHS[key] = onnx_from_model(model, card)
        return _GRAPHS[key]

    monkeypatch.setattr(loop, "train", short)
    monkeypatch.setattr(exporter, "onnx_from_model", remembered)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages start from. Each page gets a copy."""
    torch = pytest.importorskip("torch", reason="the pages train, which needs the train extra")
    pytest.importorskip("onnxscript", reason="the pages export, which needs the export extra")
    from helpers.graphs.foreign import write_foreign

    from reid_edge.data.synthetic.dataset import synthesize
    from reid_edge.training.models.registry import build_model

    home = tmp_path_factory.mktemp("pages")
    people = synthesize(
        home / "Market-1501", identities=8, test_identities=6, cameras=3, size_hw=(64, 32), progress=False
    )
    torch.manual_seed(0)
    state = build_model("osnet_x0_25", 1041).state_dict()
    torchreid = OrderedDict((name.removeprefix("backbone."), value) for name, value in state.items())
    torch.save(torchreid, home / "osnet_x0_25_msmt17.pth")
    write_foreign(home / "osnet_ain.onnx")
    crops = sorted((people / "query").glob("*.jpg"))
    of_person = {crop.name[:4]: crop for crop in crops}
    (home / "gallery").mkdir()
    for crop in crops:
        shutil.copy(crop, home / "gallery")
    for name, crop in zip(("anna", "ben", "unknown", "query", "a", "b"), of_person.values(), strict=False):
        shutil.copy(crop, home / f"{name}.jpg")
    with pytest.MonkeyPatch.context() as monkeypatch:
        _quick(monkeypatch)
        made = run_bash(
            "reid-edge train --arch osnet_x0_25 --data Market-1501 --out runs/osnet\n"
            "reid-edge export runs/osnet/model.pth --out models --fp16 --data Market-1501\n",
            home,
            tmp_path_factory.mktemp("programs"),
        )
    assert made[0] == 0, made[1]
    return home
