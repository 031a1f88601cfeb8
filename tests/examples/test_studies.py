"""The studies in examples/studies run on drawn people, and their figures are those of plain definitions."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import reid_edge
from reid_edge.data.images import read_crops

STUDY = Path(__file__).parents[2] / "examples" / "studies" / "distances.py"


@pytest.fixture(scope="module")
def distances() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distances_study", STUDY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_study_runs_as_it_says(workshop: Path) -> None:
    out = workshop / "distances.json"
    command = [sys.executable, str(STUDY), str(workshop / "people"), str(out), str(workshop / "tiny.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert list(rows) == ["tiny euclidean", "tiny cosine", "tiny correlation"]
    for name in ("cosine", "correlation"):
        for title, sign in (("R1", 1), ("mAP", 1), ("EER", -1), ("FNMR", -1)):
            gain = rows[f"tiny {name}"][f"{title} gain"]
            difference = rows[f"tiny {name}"][title] - rows["tiny euclidean"][title]
            assert gain["value"] == pytest.approx(sign * difference, abs=1e-9)
            assert gain["low"] <= gain["value"] + 1e-9 and gain["value"] <= gain["high"] + 1e-9
    assert len(done.stdout.splitlines()) == 2 and "against euclidean: R1 " in done.stdout
    usage = subprocess.run([sys.executable, str(STUDY)], capture_output=True, text=True)
    assert usage.returncode == 1 and "python examples/studies/distances.py " in usage.stderr


def test_raw_features_are_those_before_the_norm(distances: ModuleType, workshop: Path, tmp_path: Path) -> None:
    paths = sorted((workshop / "people/query").glob("*.jpg"))
    crops = np.stack(read_crops(paths, (64, 32)))
    for name in ("tiny.onnx", "small_fp32.onnx"):
        with reid_edge.Embedder(workshop / name) as embedder:
            if embedder.card.input_hw != (64, 32):
                continue
            unit = embedder.embed(paths)
        raw = distances.raw_features(distances.without_norm(workshop / name, tmp_path / name), crops)
        norms = np.linalg.norm(raw, axis=1, keepdims=True)
        assert not np.allclose(norms, 1, atol=0.01)
        np.testing.assert_allclose(raw / norms, unit, atol=1e-5)


def test_error_rates_are_those_of_all_thresholds(distances: ModuleType, workshop: Path) -> None:
    """Whole numbers as distances, few enough for a bin each; beside a plain loop over thresholds."""
    split = reid_edge.open_dataset(workshop / "people").split
    matrix = np.random.default_rng(0).integers(0, 40, (len(split.query), len(split.gallery))).astype(np.float32)
    genuine, impostor = [], []
    for row, crop in zip(matrix, split.query, strict=True):
        for value, other in zip(row, split.gallery, strict=True):
            if other.pid != crop.pid:
                impostor.append(value)
            elif other.camid != crop.camid:
                genuine.append(value)
    counts = distances.counts_by_person(matrix, split.query, split.gallery)
    assert [part.sum() for part in counts] == [len(genuine), len(impostor)]
    rates = [(np.mean(np.array(impostor) <= t), np.mean(np.array(genuine) > t)) for t in range(-1, 40)]
    eer, fnmr = distances.error_rates(*(part.sum(axis=0) for part in counts))
    fmr, missed = next(pair for pair in rates if pair[0] >= pair[1])
    assert eer == pytest.approx((fmr + missed) / 2)
    assert fnmr == pytest.approx(min(missed for fmr, missed in rates if fmr <= 1e-3))
