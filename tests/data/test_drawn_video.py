"""Drawn video: persons are where their boxes say, frames repeat, and the file holds what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_edge.data.synthetic.video import draw_frames, draw_video
from reid_edge.embedder.video import open_video
from reid_edge.errors import InputError

SIZE = {"size_hw": (120, 160)}


def test_nearly_all_that_changes_from_frame_to_frame_is_inside_the_boxes() -> None:
    (first, boxes_a), (second, boxes_b) = draw_frames(2, persons=3, fps=5.0, seed=4, **SIZE)
    outside = np.ones((120, 160), bool)
    for left, top, right, bottom in np.concatenate([boxes_a, boxes_b]):
        outside[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : max(0, int(right) + 1)] = False
    changed = (first != second).any(axis=2)
    assert changed.sum() > 300 and (changed & outside).sum() < 0.01 * changed.sum()


def test_persons_walk_and_keep_their_rows() -> None:
    boxes = np.array([found for _, found in draw_frames(10, persons=5, seed=1, **SIZE)])  # [10, 5, 4]
    steps = np.diff(boxes[..., 0], axis=0)  # [9, 5]
    assert (np.abs(np.median(steps, axis=0)) > 0.1).all()
    np.testing.assert_allclose(boxes[1:, :, 1], boxes[:-1, :, 1])
    assert (boxes[..., 2] > 0).all() and (boxes[..., 0] < 160).all(), "somebody is out of sight"


def test_the_same_seed_gives_the_same_frames() -> None:
    frames = [[frame for frame, _ in draw_frames(3, seed=seed, **SIZE)] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (np.array(frames[0]) != np.array(frames[2])).any()


def test_a_file_holds_the_frames(tmp_path: Path) -> None:
    boxes = draw_video(tmp_path / "drawn.avi", seconds=0.5, fps=10.0, **SIZE)
    drawn = list(draw_frames(5, fps=10.0, **SIZE))
    np.testing.assert_array_equal(boxes, [found for _, found in drawn])
    with open_video(tmp_path / "drawn.avi") as video:
        read = [frame.image for frame in video]
        assert video.fps == 10
    assert len(read) == 5
    for got, (frame, _) in zip(read, drawn, strict=True):
        assert np.abs(got.astype(int) - frame).mean() < 6  # of 255, by JPEG
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.avi"]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends in .avi"):
        draw_video(tmp_path / "drawn.mp4")
    with pytest.raises(InputError, match="0 frames"):
        next(draw_frames(0))
