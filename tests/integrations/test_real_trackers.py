"""Hooks inside the real packages, where they are installed: supervision and trackers, boxmot, ultralytics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data.synthetic.video import draw_frames
from reid_edge.embedder.embedder import Embedder
from reid_edge.embedder.tracks import Tracks
from reid_edge.errors import InputError
from reid_edge.integrations.boxmot import BoxmotReid
from reid_edge.integrations.supervision import with_embeddings
from reid_edge.integrations.ultralytics import UltralyticsReid, use_reid

FRAMES = list(draw_frames(6, persons=3, size_hw=(240, 320), seed=1))

# They warn of their own dependencies.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    path = write_tiny_model(tmp_path_factory.mktemp("trackers") / "tiny.onnx", input_hw=(64, 32))
    with Embedder(path, threads=1) as opened:
        yield opened


def _needed(*packages: str) -> Any:
    found = [pytest.importorskip(name, reason=f"runs inside {name}", exc_type=ImportError) for name in packages]
    return found[0] if len(found) == 1 else found


def test_rows_follow_detections_through_roboflows_trackers(embedder: Embedder) -> None:
    supervision, trackers = _needed("supervision", "trackers")
    tracker, tracks = trackers.ByteTrackTracker(minimum_consecutive_frames=1), Tracks(best=2)
    for frame, boxes in FRAMES:
        found = supervision.Detections(xyxy=boxes[::-1], confidence=np.array([0.9, 0.4, 0.8]))
        tracked = tracker.update(with_embeddings(found, frame, embedder))
        given = tracked.data["embedding"]
        for row, box in zip(given, tracked.xyxy, strict=True):
            np.testing.assert_allclose(row, embedder.embed(frame, "bgr", boxes=[box])[0], atol=1e-6)
        tracks.update(frame, tracked, tracked.tracker_id, given, color="bgr")
        few = tracked[tracked.confidence > 0.5]  # filters keep rows too
        assert len(few.data["embedding"]) == len(few)
    assert len(tracks.ids) >= 2 and tracks.embedded == 0


@pytest.mark.parametrize("name", ["BotSort", "StrongSort", "DeepOcSort"])
def test_boxmot_tracks_with_these_embeddings(embedder: Embedder, name: str) -> None:
    boxmot = _needed("boxmot")
    asked: list[Any] = []

    class Recorded(BoxmotReid):
        def get_features(self, boxes: Any, image: Any) -> Any:
            asked.append((boxes.copy(), image, super().get_features(boxes, image)))
            return asked[-1][2]

    tracker, tracks = getattr(boxmot, name)(reid_model=Recorded(embedder)), Tracks(embedder, best=2)
    for frame, boxes in FRAMES:
        inside = np.clip(boxes, 0, [320, 240, 320, 240])
        rows = tracker.update(np.column_stack([inside, [0.9] * 3, [0] * 3]), frame)
        np.testing.assert_allclose(asked[-1][0], inside, atol=1e-3)
        np.testing.assert_array_equal(asked[-1][1], frame)
        tracks.update(frame, rows[:, :4], rows[:, 4], color="bgr")
    assert len(asked) == len(FRAMES) and len(tracks.ids) == 3
    with pytest.raises(TypeError, match="ReID"):
        boxmot.ByteTrack(reid_model=BoxmotReid(embedder))


@pytest.mark.parametrize("name", ["botsort", "deepocsort", "tracktrack"])
def test_ultralytics_tracks_with_these_embeddings(embedder: Embedder, tmp_path: Path, name: str) -> None:
    """A YOLO of random weights: its boxes are nonsense, and are tracked and embedded all the same."""
    ultralytics = _needed("ultralytics")
    given = Path(ultralytics.__file__).parent / f"cfg/trackers/{name}.yaml"
    lines = [line.split("#")[0].rstrip() for line in given.read_text(encoding="utf-8").splitlines()]
    low = ("track_high_thresh:", "new_track_thresh:")
    lines = [f"{line.split(':')[0]}: 0.0" if line.startswith(low) else line for line in lines]
    (tmp_path / "tracker.yaml").write_text("\n".join(lines), encoding="utf-8")
    model, tracks = ultralytics.YOLO("yolov8n.yaml"), Tracks()
    use_reid(model, embedder)
    options = {"persist": True, "conf": 1e-6, "max_det": 4, "imgsz": 160, "verbose": False, "device": "cpu"}
    for frame, _ in FRAMES[:2]:
        (result,) = model.track(frame, tracker=str(tmp_path / "tracker.yaml"), **options)
    (tracker,) = model.predictor.trackers
    assert isinstance(tracker.encoder, UltralyticsReid)
    kept = tracker.tracked_stracks
    assert kept and all(track.curr_feat.shape == (24,) for track in kept)
    tracks = Tracks(embedder)
    tracks.update(result.orig_img, result, result.boxes.id, color="bgr")
    assert tracks.ids == [int(number) for number in result.boxes.id]


def test_ultralytics_byte_track_takes_no_embeddings(embedder: Embedder) -> None:
    model = _needed("ultralytics").YOLO("yolov8n.yaml")
    use_reid(model, embedder)
    with pytest.raises(InputError, match=r"BYTETracker takes no embeddings: .*botsort"):
        model.track(FRAMES[0][0], tracker="bytetrack.yaml", imgsz=160, verbose=False, device="cpu")
