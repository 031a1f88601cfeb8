"""The boxes of detectors' own classes, where those packages are installed: supervision and ultralytics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reid_edge.embedder.boxes import cut_boxes

FRAME = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
XYXY = np.array([(10, 5, 30, 45), (10.6, -5, 100, 45.2)], np.float32)


def _agrees(boxes: Any) -> None:
    cut = cut_boxes(FRAME, boxes)
    assert cut.kept.tolist() == [0, 1] and cut.clipped.tolist() == [False, True]
    np.testing.assert_array_equal(cut.crops[0], FRAME[5:45, 10:30])
    np.testing.assert_array_equal(cut.crops[1], FRAME[:45, 11:])


def test_detections_of_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    _agrees(supervision.Detections(xyxy=XYXY))
    assert cut_boxes(FRAME, supervision.Detections.empty()).crops == []
    for crop, box in zip(cut_boxes(FRAME, XYXY).crops, XYXY, strict=True):  # the same rounding
        np.testing.assert_array_equal(crop, supervision.crop_image(FRAME, box))


@pytest.mark.parametrize("as_array", [True, False])
def test_results_of_ultralytics(as_array: bool) -> None:
    results = pytest.importorskip("ultralytics.engine.results")
    torch = pytest.importorskip("torch")
    data = torch.cat([torch.from_numpy(XYXY), torch.tensor([[0.9, 0], [0.8, 0]])], dim=1)
    found = results.Results(FRAME, path="frame.jpg", names={0: "person"}, boxes=data)
    _agrees(found.numpy() if as_array else found)
    _agrees(found.boxes)
    none = results.Results(FRAME, path="frame.jpg", names={0: "person"}, boxes=data[:0])
    assert cut_boxes(FRAME, none).crops == []
