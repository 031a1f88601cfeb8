"""What a camera does to a scene: its place, its colours, its optics and its compression.

Cameras differ far more than the persons they see. This makes re-identification hard, and a network has to learn to
ignore it: two strangers seen by one camera share background, colour cast and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.opencv import import_opencv

from .figure import Image
from .person import Colour

__all__ = ["Camera", "draw_cameras", "occlude"]

_SCENE_MARGIN = 3  # a scene is this many crops wide


@dataclass(frozen=True, eq=False)
class Camera:
    """One fixed camera.

    ``scene`` uint8 [H, W, 3] is its view without persons. ``mixing`` float32 [3, 3] mixes its colour channels and
    ``tones`` uint8 [256, 3] is its response to each: white balance, exposure, gamma, contrast. ``sharpness`` is the
    share of the crop's pixels, per side, that it resolves; ``blur`` and ``noise`` are standard deviations in pixels and
    in levels of 255; ``quality`` is JPEG's. ``yaw`` is the angle (radians) at which it sees most persons, ``light``
    the side (-1..1) from which they are lit.
    """

    scene: Image
    mixing: NDArray[np.float32]
    tones: Image
    sharpness: float
    blur: float
    noise: float
    quality: int
    yaw: float
    light: float

    def backdrop(self, image_hw: tuple[int, int], rng: np.random.Generator) -> Image:
        """A random part of the scene, uint8 [h, w, 3]: a copy to draw on."""
        height, width = image_hw
        top = rng.integers(0, self.scene.shape[0] - height + 1)
        left = rng.integers(0, self.scene.shape[1] - width + 1)
        part: Image = self.scene[top : top + height, left : left + width].copy()
        return part

    def photograph(self, drawing: Image, size_hw: tuple[int, int], rng: np.random.Generator) -> bytes:
        """Turn a drawing at least as large as ``size_hw`` into this camera's JPEG file."""
        cv2 = import_opencv()
        height, width = size_hw
        small = (round(width * self.sharpness), round(height * self.sharpness))
        image = cv2.resize(_shaken(drawing, rng), small, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        image = cv2.LUT(cv2.transform(image, self.mixing), _exposed(self.tones, rng)[None])
        image = cv2.GaussianBlur(image, (0, 0), self.blur)
        grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(self.noise)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
        done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        assert done
        return bytes(data)


def draw_cameras(count: int, image_hw: tuple[int, int], rng: np.random.Generator) -> list[Camera]:
    """``count`` cameras for drawings of ``image_hw`` pixels, with settings spread evenly over their ranges."""

    def spread(low: float, high: float) -> NDArray[np.float64]:
        return low + (high - low) * (rng.permutation(count) + rng.uniform(0.2, 0.8, count)) / count

    settings = {
        "sharpness": spread(0.55, 1.0),
        "blur": spread(0.3, 0.9),
        "noise": spread(1.5, 6),
        "quality": spread(45, 90).astype(int),
        "yaw": spread(0, np.pi),
        "light": spread(-1, 1),
    }
    tones = zip(
        spread(0.75, 1.3), spread(0.75, 1.1), spread(-15, 15), spread(-0.18, 0.18), spread(-0.18, 0.18), strict=True
    )
    saturation = spread(0.6, 1.15)
    return [
        Camera(
            scene=_scene(image_hw, rng),
            mixing=_mixing(saturation[index]),
            tones=_tones(*tone),
            **{name: values[index].item() for name, values in settings.items()},
        )
        for index, tone in enumerate(tones)
    ]


def occlude(image: Image, probability: float, rng: np.random.Generator) -> None:
    """Draw a pole or a box in front of the scene, in place, with this probability."""
    cv2 = import_opencv()
    if rng.random() >= probability:
        return
    height, width = image.shape[:2]
    left = int(rng.uniform(-0.1, 0.9) * width)
    if rng.random() < 0.5:
        top, wide = 0, rng.uniform(0.08, 0.2)
    else:
        top, wide = int(rng.uniform(0.6, 0.85) * height), rng.uniform(0.4, 1.0)
    cv2.rectangle(image, (left, top), (left + int(wide * width), height), _grey(rng, 25), -1)


def _tones(gamma: float, contrast: float, offset: float, warmth: float, tint: float) -> Image:
    """A response curve for each channel, uint8 [256, 3]; ``warmth`` and ``tint`` are a light's log gains."""
    gains = np.exp([warmth, tint / 2, -warmth])
    gains /= gains.mean()
    light = np.linspace(0, 1, 256)[:, None] ** gamma * gains
    return np.clip(255 * (0.5 + contrast * (light - 0.5)) + offset, 0, 255).astype(np.uint8)


def _mixing(saturation: float) -> NDArray[np.float32]:
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    return (saturation * np.eye(3) + (1 - saturation) * grey).astype(np.float32)


def _exposed(tones: Image, rng: np.random.Generator) -> Image:
    """The response curves under the light of one moment."""
    exposed: Image = np.clip(tones * rng.normal(1.0, 0.08) + rng.normal(0, 4), 0, 255).astype(np.uint8)
    return exposed


def _shaken(image: Image, rng: np.random.Generator) -> Image:
    """In one of five crops, blurred along the direction of walking."""
    cv2 = import_opencv()
    length = int(rng.integers(3, 10))
    return cv2.blur(image, (length, 1)).astype(np.uint8, copy=False) if rng.random() < 0.2 else image


def _scene(image_hw: tuple[int, int], rng: np.random.Generator) -> Image:
    """A wall or hedge with objects in front of it above, ground with joints below, all slightly out of focus."""
    cv2 = import_opencv()
    height, width = round(1.15 * image_hw[0]), _SCENE_MARGIN * image_hw[1]
    horizon = round(height * rng.uniform(0.35, 0.7))
    scene = np.empty((height, width, 3), dtype=np.uint8)
    scene[:horizon], scene[horizon:] = _grey(rng), _grey(rng)
    for _ in range(14):
        left, tall, wide = rng.integers(0, width), rng.uniform(0.1, 0.6) * height, rng.uniform(0.05, 0.5) * image_hw[1]
        base = horizon + int(rng.uniform(-0.1, 0.15) * height)
        cv2.rectangle(scene, (int(left), int(base - tall)), (int(left + wide), base), _grey(rng, 20), -1)
    for row in np.linspace(horizon, height, int(rng.integers(2, 7))):
        cv2.line(scene, (0, int(row)), (width, int(row + rng.uniform(-20, 20))), _grey(rng), 2)
    grain = rng.normal(0, 1, (height // 4, width // 4, 3)).astype(np.float32) * rng.uniform(4, 18)
    grainy: Image = np.clip(scene + cv2.resize(grain, (width, height)), 0, 255).astype(np.uint8)
    blurred: Image = cv2.GaussianBlur(grainy, (0, 0), 0.006 * height)
    return blurred


def _grey(rng: np.random.Generator, vividness: float = 10) -> Colour:
    """A colour of walls and roads: grey with a tint."""
    red, green, blue = np.clip(rng.uniform(50, 210) + rng.normal(0, vividness, 3), 0, 255)
    return int(red), int(green), int(blue)
