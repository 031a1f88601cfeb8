"""What a foreign graph expects of a crop, and what is known of the files that other projects export."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.core.names import require_name
from reid_edge.data.images import check_method
from reid_edge.errors import InputError

__all__ = ["CHANNELS", "FOREIGN_FORMATS", "PRESETS", "SCALES", "Preprocessing", "preprocessing_of"]

FOREIGN_FORMATS = ("nchw-float",)
"""What a foreign graph may take: float32 [N, 3, H, W]."""

CHANNELS = ("rgb", "bgr")
SCALES = (1, 255)
"""The largest pixel that a graph takes, before its mean and std: 0..1 or 0..255."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How pixels become the input of a foreign graph: ``(pixel * scale / 255 - mean) / std`` in order ``channels``.

    ``mean`` and ``std`` are in the units of ``scale`` and in the order of ``channels``; ``size`` is (height, width) in
    pixels, None where the graph itself says; ``resize`` is one of `reid_edge.data.images.RESIZES`.
    """

    scale: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: str = "rgb"
    size: tuple[int, int] | None = None
    resize: str = "opencv"

    def check(self) -> None:
        """Raise InputError for values that no graph can mean."""
        check_method(self.resize)
        require_name(self.channels, CHANNELS, "channel order")
        require_name(str(self.scale), [str(one) for one in SCALES], "scale")
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise InputError(f"--mean (mean=) {self.mean} is not three finite numbers: give one for each channel")
        if len(self.std) != 3 or not all(math.isfinite(one) and one > 0 for one in self.std):
            raise InputError(f"--std (std=) {self.std} is not three numbers above 0: give one for each channel")
        if self.size is not None and not (len(self.size) == 2 and all(16 <= side <= 4096 for side in self.size)):
            raise InputError(f"--size (size=) {self.size} is not a height and a width from 16 to 4096 pixels")

    def on_the_card(self) -> dict[str, tuple[float, ...]]:
        """``mean`` and ``std`` as a ModelCard has them: RGB, on the 0..1 scale.

        >>> Preprocessing(scale=255, mean=(51, 0, 0), std=(255, 1, 1), channels="bgr").on_the_card()["mean"]
        (0.0, 0.0, 0.2)
        """
        order = slice(None, None, -1 if self.channels == "bgr" else 1)
        return {
            "mean": tuple(value / self.scale for value in self.mean)[order],
            "std": tuple(value / self.scale for value in self.std)[order],
        }

    def prepared(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the graph takes for uint8 [N, H, W, 3] RGB: float32 [N, 3, H, W], computed by NumPy in float64.

        >>> red = np.array([[[[255, 0, 0]]]], np.uint8)
        >>> Preprocessing(scale=1, mean=(0.5,) * 3, std=(0.5,) * 3, channels="bgr").prepared(red).ravel().tolist()
        [-1.0, -1.0, 1.0]
        """
        pixels = crops[..., ::-1] if self.channels == "bgr" else crops
        scaled = pixels.astype(np.float64) * (self.scale / 255)
        planar = ((scaled - self.mean) / self.std).transpose(0, 3, 1, 2)
        return np.asarray(planar, np.float32)


PRESETS: Mapping[str, Preprocessing] = {
    # KaiyangZhou/deep-person-reid, torchreid/utils/feature_extractor.py (Resize of Pillow images, ToTensor, Normalize)
    # and tools/export.py, which exports the network alone.
    "torchreid": Preprocessing(
        scale=1, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(256, 128), resize="pillow-bilinear"
    ),
    # mikel-brostrom/boxmot, boxmot/reid/backends/base_backend.py (get_crops: BGR to RGB, / 255, mean, std) and
    # boxmot/reid/core/preprocessing.py (cv2.INTER_LINEAR); its CLIP models have 0.5 for mean and std.
    "boxmot": Preprocessing(scale=1, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(256, 128), resize="opencv"),
    # JDAI-CV/fast-reid, tools/deploy/onnx_export.py exports the meta architecture, whose preprocess_image
    # (fastreid/modeling/meta_arch/baseline.py) subtracts the mean and divides by std: RGB of 0..255 go in. It resizes
    # bicubic (fastreid/data/transforms/build.py, tools/deploy/onnx_inference.py), which is not among RESIZES.
    "fast-reid": Preprocessing(scale=255, mean=(0.0,) * 3, std=(1.0,) * 3, size=(256, 128), resize="pillow-bilinear"),
    # ultralytics/ultralytics, ultralytics/trackers/utils/reid.py (_crops_to_tensor: BGR to RGB, / 255, bilinear
    # without antialiasing; a square of the graph's own side, 224 where it is free).
    "ultralytics": Preprocessing(scale=1, mean=(0.0,) * 3, std=(1.0,) * 3, size=(224, 224), resize="opencv"),
}
"""By project. ``size`` is that of a graph with a free height and width; a graph's own goes before it."""


def preprocessing_of(preset: str | None, given: Mapping[str, Any]) -> Preprocessing:
    """The ``preset``'s values, with those ``given`` (not None) in their place.

    Raises InputError for an unknown preset and, where there is none, for a value that would have to be guessed.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if preset is not None:
        require_name(preset, PRESETS, "preset")
        chosen = replace(PRESETS[preset], **given)
    else:
        missing = [name for name in ("scale", "mean", "std", "channels") if name not in given]
        if missing:
            options = ", ".join(f"--{name} ({name}=)" for name in missing)
            known = ", ".join(PRESETS)
            raise InputError(
                f"what the graph expects of pixels is not in its file: add {options}, or --preset {known} (preset=)"
            )
        chosen = Preprocessing(**given)
    chosen.check()
    return chosen
