"""Tracks: which crops are kept, what stands for a track, and when it is forgotten; answers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model
from numpy.typing import NDArray

from reid_edge.embedder.boxes import cut_boxes
from reid_edge.embedder.embedder import Embedder
from reid_edge.embedder.quality import CropQuality, box_iou, covered_shares, measure_quality, sharpness
from reid_edge.embedder.tracks import Track, Tracks
from reid_edge.errors import InputError

FRAME = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
BOX = [100, 40, 148, 160]  # 120 high, 48 wide: a person's shape


def _at(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


def _degrees(embedding: NDArray[np.float32]) -> float:
    return float(np.degrees(np.arctan2(embedding[1], embedding[0])))


def test_intersections_by_hand() -> None:
    found = box_iou([[0, 0, 10, 10]], [[0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10], [3, 3, 3, 9]])
    np.testing.assert_allclose(found, [[1, 25 / 175, 0, 0]], rtol=1e-6)
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert covered_shares([[0, 0, 10, 10], [0, 0, 20, 20], [8, 0, 10, 10]]).tolist() == [1.0, 0.25, 1.0]
    assert covered_shares([]).shape == (0,) and covered_shares([[0, 0, 5, 5]]).tolist() == [0.0]


def test_intersections_beside_counted_pixels() -> None:
    boxes = np.random.default_rng(1).integers(0, 30, (12, 2, 2)).cumsum(axis=1).reshape(12, 4)
    grid = np.zeros((12, 70, 70), bool)
    for mask, (left, top, right, bottom) in zip(grid, boxes, strict=True):
        mask[top:bottom, left:right] = True
    flat = grid.reshape(12, -1).astype(float)
    shared, areas = flat @ flat.T, flat.sum(axis=1)
    union = areas[:, None] + areas - shared
    np.testing.assert_allclose(box_iou(boxes, boxes), shared / np.maximum(union, 1e-9), atol=1e-6)
    np.fill_diagonal(shared, 0)
    np.testing.assert_allclose(covered_shares(boxes), shared.max(axis=1) / np.maximum(areas, 1e-9), atol=1e-6)


def test_each_fault_lowers_the_score() -> None:
    good = {"height": 128, "width": 50, "sharpness": 1200}
    (best,) = CropQuality.of(**{name: [value] for name, value in good.items()}).score
    assert best == pytest.approx(0.75)  # 1200 / (1200 + 400)
    for fault, factor in (
        ({"sharpness": 400}, 0.5 / 0.75),
        ({"overlap": 0.4}, 0.6),
        ({"cut": True}, 0.5),
        ({"width": 160}, 0.5),  # lying or two persons: 0.8 of 1.6
        ({"width": 16}, 0.5),  # a sliver: 8 of 4
    ):
        (score,) = CropQuality.of(**{**{name: [value] for name, value in good.items()}, **fault}).score
        assert score == pytest.approx(best * factor), fault


def test_a_blurred_crop_is_less_sharp_and_an_enlarged_one_is_not_sharper() -> None:
    import cv2

    crop = FRAME[:128, :64]
    blurred = cv2.GaussianBlur(crop, (0, 0), 1.5)
    assert sharpness(blurred) < 0.1 * sharpness(crop)
    large = cv2.resize(blurred, (128, 256), interpolation=cv2.INTER_CUBIC)
    assert sharpness(large) == pytest.approx(sharpness(blurred), rel=0.5)


def test_quality_is_of_the_crops_that_were_kept() -> None:
    boxes = [[-40, 0, -10, 50], [-10, 0, 30, 100], BOX]
    quality = measure_quality(cut_boxes(FRAME, boxes), boxes)
    assert quality.height.tolist() == [100, 120] and quality.width.tolist() == [30, 48]
    assert quality.cut.tolist() == [True, False] and quality.aspect.tolist() == pytest.approx([100 / 30, 2.5])


def test_the_mean_of_a_track_is_of_unit_length() -> None:
    tracks = Tracks(best=None)
    for degrees in (0, 20, 40):
        tracks.update(FRAME, [BOX], [3], [_at(degrees)])
    assert _degrees(tracks.embeddings[0]) == pytest.approx(20)
    assert np.linalg.norm(tracks.embeddings[0]) == pytest.approx(1)


def test_the_best_crops_are_kept_whenever_they_come() -> None:
    """Heights of 24 to 96 pixels: the larger the crop of this frame, the sharper. Embeddings tell which were kept."""
    heights = (48, 96, 24, 72)
    boxes = [[100, 40, 100 + height * 0.4, 40 + height] for height in heights]
    scores = [float(measure_quality(cut_boxes(FRAME, [box]), [box]).score[0]) for box in boxes]
    best = sorted(np.argsort(scores)[-2:].tolist())
    tracks = Tracks(best=2)
    for number, box in enumerate(boxes):
        tracks.update(FRAME, [box], [1], [_at(40 * number)])
    track = tracks.tracks[1]
    assert track.scores == sorted((scores[number] for number in best), reverse=True)
    kept = sorted(round(_degrees(embedding)) % 360 for embedding in track.embeddings)
    assert kept == [40 * number for number in best]


def test_a_better_crop_weighs_more() -> None:
    """Weights 3 and 1 of unit vectors at 0 and 90 degrees: the mean is at atan(1 / 3). Worthless crops count alike."""
    rows = [np.array(_at(degrees), np.float32) for degrees in (0, 90)]
    assert _degrees(Track(1, 0, 0, scores=[0.6, 0.2], embeddings=rows).embedding) == pytest.approx(18.4349, abs=1e-3)
    assert _degrees(Track(1, 0, 0, scores=[0.0, 0.0], embeddings=rows).embedding) == pytest.approx(45)
    opposite = [np.array(_at(degrees), np.float32) for degrees in (10, 190)]
    assert _degrees(Track(1, 0, 0, scores=[0.3, 0.3], embeddings=opposite).embedding) == pytest.approx(10)


def test_tracks_beside_a_naive_account() -> None:
    """Random boxes, ids and gaps: all crops remembered, sorted and averaged by loops."""
    rng = np.random.default_rng(4)
    tracks, seen, last = Tracks(best=3, expire_after=4), {}, {}
    for update in range(60):
        ids = rng.permutation(6)[: rng.integers(0, 5)] + 10 * (update // 20)
        corners = rng.integers(0, 120, (len(ids), 2))
        boxes = np.concatenate([corners, corners + rng.integers(20, 110, (len(ids), 2))], axis=1)
        embeddings = rng.normal(size=(len(ids), 8)).astype(np.float32)
        ended = tracks.update(FRAME, boxes, ids, embeddings)
        scores = measure_quality(cut_boxes(FRAME, boxes), boxes).score
        for number, score, embedding in zip(ids.tolist(), scores.tolist(), embeddings, strict=True):
            seen.setdefault(number, []).append((score, embedding))
            last[number] = update
        gone = {number for number, at in last.items() if update - at >= 4 and number in seen}
        assert {track.id for track in ended} == gone
        for number in gone:
            del seen[number]
        assert set(tracks.ids) == set(seen)
        for number, row in zip(tracks.ids, tracks.embeddings, strict=True):
            best = sorted(seen[number], key=lambda crop: -crop[0])[:3]
            mean = sum(score * embedding for score, embedding in best)
            np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_an_update_that_is_refused_changes_nothing() -> None:
    tracks = Tracks()
    with pytest.raises(InputError):
        tracks.update(FRAME, [BOX], [1])
    assert tracks.ids == [] and tracks.embeddings.shape == (0, 0)


def test_only_crops_among_the_best_are_embedded(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    small = [100, 40, 110, 65]
    with Embedder(model, threads=1) as embedder:
        tracks = Tracks(embedder, best=1)
        tracks.update(FRAME, [BOX], [1])
        for _ in range(5):
            tracks.update(FRAME, [small], [1])
        assert tracks.embedded == 1
        np.testing.assert_allclose(tracks.embeddings, embedder.embed(FRAME, boxes=[BOX]), atol=1e-6)
        tracks.update(FRAME, [small], [2])
        assert tracks.ids == [1, 2] and tracks.embedded == 2
        np.testing.assert_allclose(tracks.embeddings[1:], embedder.embed(FRAME, boxes=[small]), atol=1e-6)


def test_a_track_that_is_gone_is_handed_over_and_forgotten() -> None:
    tracks = Tracks(expire_after=2)
    assert tracks.update(FRAME, [BOX], [5], [_at(10)]) == []
    assert tracks.update(FRAME, [], []) == []
    (ended,) = tracks.update(FRAME, [], [])
    assert (ended.id, ended.first, ended.last, ended.seen) == (5, 0, 0, 1)
    assert _degrees(ended.embedding) == pytest.approx(10)
    assert tracks.ids == [] and tracks.embeddings.shape == (0, 0)


def test_boxes_without_a_track_and_outside_of_the_frame_are_left_out() -> None:
    tracks = Tracks()
    boxes = [BOX, [400, 0, 450, 90], [0, 0, 40, 100]]
    tracks.update(FRAME, boxes, [-1, 4, 6], [_at(0), _at(30), _at(60)])
    assert tracks.ids == [6] and _degrees(tracks.embeddings[0]) == pytest.approx(60)
    tracks.update(FRAME, boxes, None)
    assert tracks.tracks[6].seen == 1


def test_an_embedding_is_the_tracks_own() -> None:
    given = np.array([_at(0)], np.float32)
    tracks = Tracks()
    tracks.update(FRAME, [BOX], [1], given)
    given[:] = 7
    tracks.embeddings[:] = 9
    assert _degrees(tracks.embeddings[0]) == pytest.approx(0)


def test_what_does_not_fit_is_refused() -> None:
    tracks = Tracks()
    for ids, embeddings, match in (
        ([1, 2], None, "ids of shape"),
        ([1.5], None, "whole number"),
        ([1], [[1.0, 0.0], [0.0, 1.0]], "one row a box"),
        ([1], None, "no Embedder"),
        ([1], [[np.nan, 0.0]], "no Embedder"),
    ):
        with pytest.raises(InputError, match=match):
            tracks.update(FRAME, [BOX], ids, embeddings)
    for options in ({"best": 0}, {"expire_after": 0}):
        with pytest.raises(InputError):
            Tracks(**options)
