"""Hooks of trackers without their packages: rows, colours, boxes outside of the frame, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.integrations.boxmot import BoxmotReid
from reid_edge.integrations.rows import embedding_rows
from reid_edge.integrations.supervision import with_embeddings
from reid_edge.integrations.ultralytics import UltralyticsReid, use_reid

FRAME = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)  # BGR
BOXES = np.array([[10, 10, 40, 90], [500, 10, 540, 90], [60, 20, 100, 110]], np.float32)  # the second is outside


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    path = write_tiny_model(tmp_path_factory.mktemp("hooks") / "tiny.onnx", input_hw=(64, 32))
    with Embedder(path, threads=1) as opened:
        yield opened


def _by_hand(embedder: Embedder) -> list[Any]:
    """The crops of the boxes in the frame, cut and turned to RGB by slices."""
    crops = [FRAME[10:90, 10:40, ::-1], FRAME[20:110, 60:100, ::-1]]
    return [embedder.embed([np.ascontiguousarray(crop)])[0] for crop in crops]


def test_every_box_has_a_row(embedder: Embedder) -> None:
    rows = embedding_rows(embedder, FRAME, BOXES)
    np.testing.assert_allclose(rows[[0, 2]], _by_hand(embedder), atol=1e-6)
    assert rows.dtype == np.float32 and np.isnan(rows[1]).all()
    assert embedding_rows(embedder, FRAME, []).shape == (0, 24)
    red_first = embedding_rows(embedder, np.ascontiguousarray(FRAME[..., ::-1]), BOXES, "rgb")
    np.testing.assert_allclose(red_first, rows, atol=1e-6)


def test_detections_keep_their_other_rows(embedder: Embedder) -> None:
    detections = SimpleNamespace(xyxy=BOXES, data={"name": ["a", "b", "c"]})
    assert with_embeddings(detections, FRAME, embedder) is detections
    assert detections.data["name"] == ["a", "b", "c"]
    np.testing.assert_allclose(detections.data["embedding"][[0, 2]], _by_hand(embedder), atol=1e-6)


def test_a_model_of_boxmot_gives_rows_that_it_takes(embedder: Embedder) -> None:
    rows = BoxmotReid(embedder).get_features(BOXES, FRAME)
    np.testing.assert_allclose(rows[[0, 2]], _by_hand(embedder), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.isfinite(rows).all() and (rows[1] == rows[1, 0]).all() and rows[1, 0] < 0
    with pytest.raises(InputError, match=r"\[3, 5\]"):
        BoxmotReid(embedder).get_features(np.ones((3, 5)), FRAME)


def test_an_encoder_of_ultralytics_takes_centres_and_sizes(embedder: Embedder) -> None:
    centres = [[25, 50, 30, 80, 0], [520, 50, 40, 80, 1], [80, 65, 40, 90, 2]]
    first, outside, last = UltralyticsReid(embedder)(FRAME, np.array(centres, np.float32))
    np.testing.assert_allclose([first, last], _by_hand(embedder), atol=1e-6)
    assert outside is None
    assert UltralyticsReid(embedder)(FRAME, np.empty((0, 5))) == []
    with pytest.raises(InputError, match="obb"):
        UltralyticsReid(embedder)(FRAME, np.ones((2, 6)))


class _Model:
    """The documented part of an ultralytics model that `use_reid` calls."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[Any], None]] = {}

    def add_callback(self, event: str, function: Callable[[Any], None]) -> None:
        self.callbacks[event] = function


def test_encoders_are_set_in_trackers_that_have_one(embedder: Embedder) -> None:
    model, tracking = _Model(), SimpleNamespace(mode="track")
    use_reid(model, embedder)
    (set_encoders,) = model.callbacks.values()
    tracker = SimpleNamespace(encoder=None, args=SimpleNamespace(with_reid=False, model="auto"))
    set_encoders(SimpleNamespace(args=SimpleNamespace(mode="predict"), trackers=[tracker]))
    assert tracker.encoder is None
    set_encoders(SimpleNamespace(args=tracking, trackers=[tracker]))
    assert isinstance(tracker.encoder, UltralyticsReid) and tracker.args.with_reid and tracker.args.model != "auto"
    with pytest.raises(InputError, match="takes no embeddings"):
        set_encoders(SimpleNamespace(args=tracking, trackers=[SimpleNamespace()]))
