"""A drawn video: persons walk through the view of one camera, each with the box that a detector would give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.files import written_whole
from reid_edge.data.opencv import import_opencv
from reid_edge.errors import InputError

from .camera import draw_cameras
from .figure import Image, Pose, draw_person
from .person import Person, dressed_people

__all__ = ["draw_frames", "draw_video"]

_STRIDES_A_SECOND = 0.9
_HALF_WIDTH = 0.28  # of a box, in body heights: feet at the end of a stride reach a little further


@dataclass(frozen=True)
class _Walker:
    """``start`` column in pixels at the first frame, ``speed`` pixels a second, negative to the left."""

    person: Person
    start: float
    speed: float
    ground: float
    scale: float
    phase: float

    def pose(self, time_s: float, width: int) -> Pose:
        """Where the person is; who leaves on one side comes back on the other."""
        reach = width + self.scale
        x = (self.start + self.speed * time_s + self.scale / 2) % reach - self.scale / 2
        phase = self.phase + 2 * np.pi * _STRIDES_A_SECOND * time_s
        return Pose(x, self.ground, self.scale, np.pi / 2 * np.sign(self.speed), phase)


def draw_frames(
    count: int, *, persons: int = 4, size_hw: tuple[int, int] = (480, 640), fps: float = 25.0, seed: int = 0
) -> Iterator[tuple[Image, NDArray[np.float64]]]:
    """``count`` frames, each uint8 [H, W, 3] BGR with float64 [persons, 4]: left, top, right, bottom of each person.

    A box may reach over the frame's edge, as a detector's does. The same arguments give the same frames.

    >>> frames = list(draw_frames(2, persons=3, size_hw=(120, 160)))
    >>> frames[0][0].shape, frames[0][1].shape
    ((120, 160, 3), (3, 4))
    """
    height, width = size_hw
    if count < 1 or persons < 1 or min(size_hw) < 32 or not fps > 0:
        raise InputError(f"{count} frames of {height}x{width} with {persons} persons cannot be drawn: give more")
    rng = np.random.default_rng(seed)
    (camera,) = draw_cameras(1, size_hw, rng)
    empty = camera.backdrop(size_hw, rng)
    walkers = sorted(_walkers(persons, size_hw, rng), key=lambda walker: walker.ground)  # the nearest is drawn last
    for number in range(count):
        frame = empty.copy()
        boxes = [_drawn(frame, walker.person, walker.pose(number / fps, width)) for walker in walkers]
        yield np.ascontiguousarray(frame[..., ::-1]), np.array(boxes, np.float64)


def draw_video(
    out: Path | str,
    *,
    seconds: float = 4.0,
    persons: int = 4,
    size_hw: tuple[int, int] = (480, 640),
    fps: float = 25.0,
    seed: int = 0,
) -> list[NDArray[np.float64]]:
    """Write a video of `draw_frames` and return the boxes of each frame. ``out`` ends in ``.avi`` (motion JPEG).

    ``out`` appears whole or not at all. Raises InputError where OpenCV cannot write it.

    >>> boxes = draw_video(scratch / "drawn.avi", seconds=0.2, persons=2, size_hw=(120, 160))
    >>> len(boxes), boxes[0].shape
    (5, (2, 4))
    """
    cv2 = import_opencv()
    out = Path(out)
    if out.suffix != ".avi":
        raise InputError(f"{out}: drawn video is motion JPEG: give a name that ends in .avi")
    frames = draw_frames(max(1, round(seconds * fps)), persons=persons, size_hw=size_hw, fps=fps, seed=seed)
    boxes = []
    with written_whole(out) as beside:
        writer = cv2.VideoWriter(str(beside), cv2.VideoWriter_fourcc(*"MJPG"), fps, size_hw[::-1])
        try:
            if not writer.isOpened():
                raise InputError(f"this OpenCV ({cv2.__version__}) writes no motion JPEG: install another")
            for frame, found in frames:
                writer.write(frame)
                boxes.append(found)
        finally:
            writer.release()
    return boxes


def _walkers(count: int, size_hw: tuple[int, int], rng: np.random.Generator) -> Iterator[_Walker]:
    height, width = size_hw
    for person in dressed_people(count, rng):
        nearness = rng.uniform(0, 1)
        scale = height * (0.35 + 0.3 * nearness) * person.height
        speed = float(rng.choice([-1, 1])) * scale * rng.uniform(0.55, 0.85)
        ground = height * (0.62 + 0.33 * nearness)
        yield _Walker(person, rng.uniform(0, width), speed, ground, scale, rng.uniform(0, 2 * np.pi))


def _drawn(frame: Image, person: Person, pose: Pose) -> list[float]:
    """Draw one person into ``frame``; the box. Only the part of the frame around the person is touched."""
    box = [
        pose.x - _HALF_WIDTH * pose.scale,
        pose.ground - 1.04 * pose.scale,
        pose.x + _HALF_WIDTH * pose.scale,
        pose.ground + 0.03 * pose.scale,
    ]
    margin = 0.1 * pose.scale
    left, top = max(0, int(box[0] - margin)), max(0, int(box[1] - margin))
    right, bottom = int(box[2] + margin) + 1, int(box[3] + margin) + 1
    part = np.ascontiguousarray(frame[top:bottom, left:right] if right > 0 else frame[:0])
    if part.size:
        draw_person(part, person, Pose(pose.x - left, pose.ground - top, pose.scale, pose.yaw, pose.phase, pose.light))
        frame[top:bottom, left:right] = part
    return box
