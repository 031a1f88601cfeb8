"""The crops that calibrate INT8: chosen from a data set's training crops, decoded once, hashed once.

Test crops are never looked at: activation ranges fitted to the crops that a model is scored on flatter it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset
from reid_edge.data.images import read_crops
from reid_edge.data.records import Crop
from reid_edge.errors import DatasetError, InputError

__all__ = ["NO_CROPS", "CalibrationCrops", "ReadCrops", "calibration_crops", "crops_sha256"]

NO_CROPS = "calibrate INT8 on training crops: give --calibrate (calibrate=) a data set that has some"

ReadCrops: TypeAlias = Callable[[Sequence[Path | str], tuple[int, int], str], NDArray[np.uint8]]
"""As `reid_edge.data.images.read_crops`: paths, input size and resize method to uint8 [N, H, W, 3]."""


@dataclass(frozen=True)
class CalibrationCrops:
    """Crops of the data set named ``source``, in the order drawn from ``seed``, as a model takes them.

    ``input_hw`` and ``resize`` are the model's, as on its card. ``read`` decodes: a caller that holds decoded crops of
    the same size gives a function that looks there first.
    """

    crops: tuple[Crop, ...] = field(repr=False)
    source: str
    seed: int
    input_hw: tuple[int, int]
    resize: str
    read: ReadCrops = field(default=read_crops, repr=False)

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """The crops as uint8 [N, H, W, 3] RGB, decoded the first time. Raises ImageError for one that cannot be."""
        with phase(f"decoding {len(self.crops)} calibration crops"):
            return self.read([crop.path for crop in self.crops], self.input_hw, self.resize)

    @cached_property
    def sha256(self) -> str:
        """`crops_sha256`; the files are read the first time."""
        return crops_sha256(self.crops)

    def note(self, method: str) -> str:
        """What a ModelCard says of its calibration: the method, which crops, their source, seed and hash."""
        identities, cameras = len({crop.pid for crop in self.crops}), len({crop.camid for crop in self.crops})
        which = f"{len(self.crops)} training crops of {identities} identities, {cameras} cameras"
        return f"{method} on {which}, {self.source}, seed {self.seed}, crops sha256 {self.sha256[:16]}"


def calibration_crops(dataset: Dataset, count: int = 512, seed: int = 0) -> tuple[Crop, ...]:
    """``count`` training crops (all, if there are fewer), balanced over identities and cameras as far as possible.

    Identities take turns in an order drawn from ``seed``; each gives a crop of the camera that was taken least so far.
    Raises DatasetError for a data set without training crops, InputError for a count below 1.
    """
    if count < 1:
        raise InputError(f"{count} calibration crops show no activation range: give 1 or more, 512 are good")
    if not dataset.split.train:
        raise DatasetError(f"{dataset.root} ({dataset.layout}) has no training crops: {NO_CROPS}")
    rng = np.random.default_rng(seed)
    train = dataset.split.train
    left: dict[int, list[Crop]] = {}
    for i in rng.permutation(len(train)):  # also the order of the identities, and of the crops of each
        left.setdefault(train[i].pid, []).append(train[i])
    taken = {crop.camid: 0 for crop in train}
    chosen: list[Crop] = []
    while left and len(chosen) < count:
        for pid in list(left)[: count - len(chosen)]:
            crop = min(left[pid], key=lambda crop: taken[crop.camid])
            left[pid].remove(crop)
            taken[crop.camid] += 1
            chosen.append(crop)
            if not left[pid]:
                del left[pid]
    return tuple(chosen)


def crops_sha256(crops: Sequence[Crop]) -> str:
    """SHA-256 over the bytes of the crops' files, in their order: a crop is known by its bytes, not by its path."""
    digest = hashlib.sha256()
    for crop in crops:
        digest.update(hashlib.sha256(crop.path.read_bytes()).digest())
    return digest.hexdigest()
