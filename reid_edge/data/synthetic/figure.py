"""How a person is drawn: a walking figure, seen from any side.

The body is a handful of joints in three dimensions: x to the person's left, y up from the ground, z forward, in body
heights. A pose rotates them by its yaw and projects them orthogonally onto the image. Every part (a limb, a coat, a
backpack, a logo on the chest) is one polygon with a depth, and nearer parts are drawn over farther ones. So a backpack
is visible from behind, as a bulge from the side and hardly from the front, without any rule for views.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.opencv import import_opencv

from .person import Colour, Garment, Person

__all__ = ["Image", "Pose", "draw_person"]

Image = NDArray[np.uint8]
"""RGB, HWC, uint8, 0..255."""

_Polygon = NDArray[np.float64]
_Part = tuple[float, _Polygon, "Colour | Image"]  # depth towards the viewer, points [N, 2] in pixels, fill
_Joint = tuple[float, float, float]

_HEAD_Y, _SHOULDER_Y, _CHEST_Y, _HIP_Y = 0.925, 0.81, 0.67, 0.5
_TORSO_DEPTH = 0.065
_SLEEVED_JOINTS = {"long": 2, "short": 1, "none": 0}
_TURNS = np.linspace(-0.5 * np.pi, 1.5 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)  # [16, 2]
_HALF_CIRCLE = _CIRCLE[:9]  # about (1, 0)


@dataclass(frozen=True)
class Pose:
    """Where a person stands in the image and how: lengths in pixels, angles in radians.

    ``x`` and ``ground`` are the column between the feet and the row of the soles, ``scale`` is one body height.
    ``yaw`` 0 faces the viewer, pi / 2 walks to the right. ``phase`` is the stride's, ``light`` -1..1 the side from
    which light comes.
    """

    x: float
    ground: float
    scale: float
    yaw: float
    phase: float
    light: float = 0.0


def draw_person(image: Image, person: Person, pose: Pose) -> None:
    """Draw over ``image`` in place; parts outside of it are cut off."""
    cv2 = import_opencv()
    shade = np.full(image.shape[:2], 255, dtype=np.uint8)
    light = _light(image.shape[1], pose)
    body = _Body(person, pose, (image.shape[0], image.shape[1]))
    for _, points, fill in sorted(body.parts(), key=lambda part: part[0]):
        outline = [np.rint(points).astype(np.int32)]
        if isinstance(fill, tuple):
            cv2.fillPoly(image, outline, fill)
            cv2.fillPoly(shade, outline, 0)
        else:
            inside = np.zeros_like(shade)
            cv2.fillPoly(inside, outline, 255)
            cv2.copyTo(fill, inside, image)
            shade[inside > 0] = 0
    shade = np.maximum(shade, light)
    cv2.multiply(image, cv2.merge([shade, shade, shade]), image, 1 / 255)


def _light(width: int, pose: Pose) -> Image:
    """The brightness of a body at each column, uint8 [1, width]: round, and brighter towards the light."""
    across = (np.arange(width) - pose.x) / (0.16 * pose.scale)
    bright = 235 - 45 * np.minimum(across**2, 1.5) + 55 * pose.light * np.clip(across, -1.2, 1.2)
    light: Image = np.clip(bright, 60, 254).astype(np.uint8)[None]
    return light


class _Body:
    """The polygons of one person in one pose."""

    def __init__(self, person: Person, pose: Pose, image_hw: tuple[int, int]) -> None:
        self._person = person
        self._pose = pose
        self._cos, self._sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self._thick = person.girth / person.height
        self._image_hw = image_hw
        self._upper = self._cloth(person.upper)
        self._lower = self._cloth(person.lower)

    def parts(self) -> Iterator[_Part]:
        yield from self._head()
        yield from self._torso()
        yield from self._bag()
        for side in (1, -1):
            yield from self._leg(side)
            yield from self._arm(side)

    def _place(self, joint: _Joint) -> tuple[float, float, float]:
        """A joint's pixel column and row, and its depth towards the viewer."""
        x, y, z = joint
        column = self._pose.x + self._pose.scale * (x * self._cos + z * self._sin)
        return column, self._pose.ground - self._pose.scale * y, z * self._cos - x * self._sin

    def _limb(self, start: _Joint, end: _Joint, radii: tuple[float, float], fill: Colour | Image) -> _Part:
        """A round-ended limb, ``radii`` in body heights at its two ends."""
        (*a, near), (*b, far) = self._place(start), self._place(end)
        along_x, along_y = b[0] - a[0], b[1] - a[1]
        length = math.hypot(along_x, along_y) or 1.0
        cap = _HALF_CIRCLE @ np.array([[along_x, along_y], [-along_y, along_x]]) * (self._pose.scale / length)
        return (near + far) / 2, np.concatenate([b + radii[1] * cap, a - radii[0] * cap]), fill

    def _round(self, centre: _Joint, radius_x: float, radius_y: float, fill: Colour) -> _Part:
        """An ellipse, its radii in body heights."""
        column, row, depth = self._place(centre)
        radii = self._pose.scale * radius_x, self._pose.scale * radius_y
        return depth, _CIRCLE * radii + (column, row), fill

    def _panel(self, rows: list[tuple[float, float]], z: float, fill: Colour | Image, x: float = 0.0) -> _Part:
        """A patch on a plane across the body, ``z`` forward and ``x`` to the left; rows of (y, half width)."""
        corners = [(x + w, y, z) for y, w in rows] + [(x - w, y, z) for y, w in reversed(rows)]
        return self._place((x, 0.0, z))[2], np.array([self._place(corner)[:2] for corner in corners]), fill

    def _solid(self, rows: list[tuple[float, float, float]], centre: _Joint, fill: Colour | Image) -> _Part:
        """An upright body part with elliptic sections; rows of (y, half width, half depth) about ``centre``."""
        column, _, depth = self._place(centre)
        sides: tuple[list[tuple[float, float]], ...] = [], []
        for y, width, deep in rows:
            half = self._pose.scale * math.hypot(width * self._cos, deep * self._sin)
            for side, sign in zip(sides, (1, -1), strict=True):
                side.append((column + sign * half, self._pose.ground - self._pose.scale * y))
        return depth, np.array(sides[0] + sides[1][::-1]), fill

    def _head(self) -> Iterator[_Part]:
        person, size = self._person, self._person.head / self._person.height
        yield self._limb((0, _HEAD_Y, 0), (0, _SHOULDER_Y, 0), (0.03 * size, 0.035 * size), person.skin)
        yield self._round((0, _HEAD_Y, 0.006), 0.05 * size, 0.065 * size, person.skin)
        if person.hair_style != "bald":
            yield self._round((0, _HEAD_Y + 0.012, -0.018), 0.053 * size, 0.066 * size, person.hair)
            depth, points, fill = self._round(
                (0, _HEAD_Y + 0.04 * size, -0.004), 0.05 * size, 0.033 * size, person.hair
            )
            yield depth + 0.05, points, fill
        if person.hair_style == "long":
            rows = [(_HEAD_Y + 0.03, 0.05 * size, 0.04), (0.77, 0.062 * size, 0.045)]
            yield self._solid(rows, (0, 0, -0.03), person.hair)
        if person.hair_style == "bun":
            yield self._round((0, _HEAD_Y + 0.055 * size, -0.045), 0.03, 0.028, person.hair)
        if person.hat is not None:
            depth, points, fill = self._round((0, _HEAD_Y + 0.045 * size, 0), 0.056 * size, 0.035 * size, person.hat)
            yield depth + 0.08, points, fill
            brim = (0, _HEAD_Y + 0.025 * size, 0.02), (0, _HEAD_Y + 0.02 * size, 0.08)
            yield self._limb(*brim, (0.012, 0.01), person.hat)

    def _torso(self) -> Iterator[_Part]:
        wide, deep, upper = 0.12 * self._thick, _TORSO_DEPTH * self._thick, self._person.upper
        hem = _HIP_Y - (0.08 if upper.pattern == "open" else 0.03)
        rows = [(0.845, 0.045, 0.04), (_SHOULDER_Y, wide, deep), (0.65, 0.85 * wide, deep), (hem, 0.8 * wide, deep)]
        yield self._solid(rows, (0, 0, 0), self._upper)
        if upper.pattern == "open":
            yield self._panel([(0.84, 0.3 * wide), (0.7, 0.28 * wide), (hem, 0.5 * wide)], deep, upper.second)
        if upper.pattern == "logo":
            y, half = _SHOULDER_Y - 0.05, 0.055 + upper.period / 4
            yield self._panel([(y, half), (y - 1.5 * half, half)], deep, upper.second)

    def _bag(self) -> Iterator[_Part]:
        person, wide, deep = self._person, 0.12 * self._thick, _TORSO_DEPTH * self._thick
        if person.bag == "backpack":
            rows = [(0.81, 0.06, 0.04), (0.78, 0.085, 0.05), (0.57, 0.09, 0.06), (0.55, 0.08, 0.05)]
            yield self._solid(rows, (0, 0, -deep - 0.03), person.bag_colour)
            for x in (-0.55 * wide, 0.55 * wide):
                yield self._panel([(0.835, 0.013), (0.62, 0.013)], deep, person.bag_colour, x)
        if person.bag == "shoulder":
            hip = (person.side * (wide + 0.01), 0.5, 0.0)
            for z in (deep, -deep):
                yield self._limb(
                    (-0.6 * person.side * wide, 0.83, z), (hip[0], 0.54, z), (0.011, 0.011), person.bag_colour
                )
            yield self._solid([(0.55, 0.045, 0.075), (0.42, 0.05, 0.085)], hip, person.bag_colour)

    def _leg(self, side: int) -> Iterator[_Part]:
        person, swing = self._person, 0.5 * side * math.sin(self._pose.phase)
        bend = 0.25 + 0.45 * max(0.0, side * math.cos(self._pose.phase))
        hip = (0.05 * side * self._thick, _HIP_Y, 0.0)
        knee = _below(hip, 0.23, swing)
        ankle = _below(knee, 0.235, swing - bend)
        toe = (ankle[0], ankle[1] - 0.012, ankle[2] + 0.075)
        shin = self._lower if person.legwear == "trousers" else person.skin
        thigh = person.skin if person.legwear == "skirt" else self._lower
        widths = [radius * self._thick for radius in (0.058, 0.044, 0.042, 0.03)]
        limbs = [
            self._limb(ankle, toe, (0.024, 0.018), person.shoes),
            self._limb(knee, ankle, (widths[2], widths[3]), shin),
            self._limb(hip, knee, (widths[0], widths[1]), thigh),
        ]
        # The coat hangs over both legs, and both are nearer than the far arm.
        yield from ((0.3 * depth - 0.04, points, fill) for depth, points, fill in limbs)
        if person.legwear == "skirt" and side == 1:
            hem = 0.16 * self._thick
            rows = [(_HIP_Y + 0.06, 0.6 * hem, 0.4 * hem), (0.29, hem, 0.9 * hem)]
            yield -0.01, self._solid(rows, (0, 0, 0), self._lower)[1], self._lower

    def _arm(self, side: int) -> Iterator[_Part]:
        person, swing = self._person, -0.45 * side * math.sin(self._pose.phase)
        shoulder = (side * 0.115 * self._thick, _SHOULDER_Y - 0.02, 0.0)
        elbow = _below((shoulder[0] * 1.12, shoulder[1], 0.0), 0.16, swing)
        wrist = _below(elbow, 0.15, swing + 0.3)
        covered = _SLEEVED_JOINTS[person.sleeves]
        yield self._round(wrist, 0.022, 0.026, person.skin)
        yield self._limb(elbow, wrist, (0.03, 0.024), self._upper if covered > 1 else person.skin)
        yield self._limb(shoulder, elbow, (0.04 * self._thick, 0.034), self._upper if covered else person.skin)
        if person.bag == "hand" and side == person.side:
            rows = [(wrist[1] - 0.03, 0.04, 0.08), (wrist[1] - 0.15, 0.045, 0.09)]
            yield self._solid(rows, wrist, person.bag_colour)

    def _cloth(self, garment: Garment) -> Colour | Image:
        """A garment's fill: a colour, or an image as large as the picture with the pattern in place."""
        height, width = self._image_hw
        up = (self._pose.ground - np.arange(height)[:, None]) / self._pose.scale  # [H, 1]
        across = (np.arange(width)[None] - self._pose.x) / self._pose.scale  # [1, W]
        rows, columns = (up % garment.period) * 2 < garment.period, (across % garment.period) * 2 < garment.period
        patterns = {"rows": rows, "columns": columns, "checks": rows ^ columns, "block": up > _CHEST_Y}
        if garment.pattern not in patterns:
            return garment.colour
        chosen = patterns[garment.pattern]
        dyes = np.array([garment.colour, garment.second], dtype=np.uint8)
        return np.ascontiguousarray(np.broadcast_to(dyes[chosen.astype(np.intp)], (height, width, 3)))


def _below(joint: _Joint, length: float, angle: float) -> _Joint:
    """The next joint of a limb that hangs ``angle`` radians forward of straight down."""
    x, y, z = joint
    return x, y - length * math.cos(angle), z + length * math.sin(angle)
