"""Small sets of many trials: VIPeR, CUHK01 and GRID.

Folders, names and trials are those that torchreid reads (``torchreid/data/datasets/image/{viper,cuhk01,grid}.py`` of
https://github.com/KaiyangZhou/deep-person-reid).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reid_edge.errors import DatasetError, MissingExtraError

from .listing import Crop, Split
from .trials import TrialReader, both_ways, named_crops, names_fit

__all__ = ["Cuhk01", "Grid", "Viper"]

_VIPER_NAME = re.compile(r"([0-9]{3})_[0-9]{1,3}\.")
_VIPER_CAMERAS = {"cam_a": 1, "cam_b": 2}
_CUHK01_NAME = re.compile(r"([0-9]{4})([0-9]{3})\.")
_GRID_NAME = re.compile(r"([0-9]{4})_([0-9])_")
_GRID_PARTITIONS = "features_and_partitions.mat"


class Viper(TrialReader):
    """VIPeR: 632 persons, each with one crop in ``cam_a`` and one in ``cam_b``, as in ``cam_a/001_45.bmp``.

    Gray et al., "Evaluating Appearance Models for Recognition, Reacquisition, and Tracking", PETS 2007. Ten random
    halves, each tested from camera a to b and from b to a.
    """

    name = "viper"
    title = "VIPeR"
    nested = ("VIPeR", "viper/VIPeR", "viper")
    markers = ("cam_a", "cam_b")
    published = {"test": (632, 316, 316)}

    def confidence(self, home: Path) -> int:
        """1 where file names are VIPeR's: other sets call a folder ``cam_a`` too."""
        return int(names_fit(home / "cam_a", _VIPER_NAME))

    def crops(self, home: Path, unparsed: list[Path]) -> Iterator[Crop]:
        """Camera a, then camera b."""
        for folder, camera in _VIPER_CAMERAS.items():
            for path, (pid,) in named_crops(home / folder, _VIPER_NAME, unparsed):
                yield Crop(path, pid, camera)

    def divide(self, home: Path, crops: Sequence[Crop]) -> tuple[Split, ...]:
        """Ten halves, both ways."""
        return both_ways(crops, (1, 2))


class Cuhk01(TrialReader):
    """CUHK01: 971 persons, two crops each from two cameras, ``campus/0001001.png`` to ``campus/0001004.png``.

    Li et al., "Human Reidentification with Transferred Metric Learning", ACCV 2012. The first four digits are the
    person; crops 1 and 2 are of one camera, 3 and 4 of the other. 485 persons are trained on, 486 tested: ten random
    divisions, both ways between the cameras.
    """

    name = "cuhk01"
    title = "CUHK01"
    nested = ("CUHK01", "cuhk01")
    markers = ("campus",)
    published = {"test": (1_940, 972, 972)}

    def confidence(self, home: Path) -> int:
        """1 where file names are CUHK01's: a folder may be called ``campus`` elsewhere."""
        return int(names_fit(home / "campus", _CUHK01_NAME))

    def crops(self, home: Path, unparsed: list[Path]) -> Iterator[Crop]:
        """All of ``campus``."""
        for path, (pid, number) in named_crops(home / "campus", _CUHK01_NAME, unparsed):
            yield Crop(path, pid, 1 + (number - 1) // 2)

    def divide(self, home: Path, crops: Sequence[Crop]) -> tuple[Split, ...]:
        """Ten halves, both ways."""
        return both_ways(crops, (1, 2))


class Grid(TrialReader):
    """GRID: 250 persons with a crop in ``probe`` and one in ``gallery``, ``0001_1_25004_107_32_106_221.jpeg``.

    Loy et al., "Multi-Camera Activity Correlation Analysis", CVPR 2009. Person and camera start the names; person 0 is
    nobody that was a probe, 775 distractors in every gallery. The ten divisions (125 persons to train on) are the
    authors' own, in ``features_and_partitions.mat``.
    """

    name = "grid"
    title = "GRID"
    nested = ("underground_reid", "grid/underground_reid", "GRID/underground_reid")
    markers = ("probe", "gallery")
    distractor = 0
    published = {"test": (250, 125, 900)}
    origin = f"the authors' own of {_GRID_PARTITIONS}"

    def confidence(self, home: Path) -> int:
        """1 where file names are GRID's: any set may have folders of these names."""
        return int(names_fit(home / "probe", _GRID_NAME))

    def crops(self, home: Path, unparsed: list[Path]) -> Iterator[Crop]:
        """The probes, then the gallery."""
        for folder in ("probe", "gallery"):
            for path, (pid, camera) in named_crops(home / folder, _GRID_NAME, unparsed):
                yield Crop(path, pid, camera)

    def divide(self, home: Path, crops: Sequence[Crop]) -> tuple[Split, ...]:
        """The authors' partitions. Raises DatasetError without their file, MissingExtraError without scipy."""
        probes = [crop for crop in crops if crop.path.parent.name == "probe"]
        others = [crop for crop in crops if crop.path.parent.name == "gallery"]
        trials = []
        for trained in _training_persons(home / _GRID_PARTITIONS):
            train = tuple(crop for crop in crops if crop.pid in trained)
            tested = (tuple(crop for crop in each if crop.pid not in trained) for each in (probes, others))
            trials.append(Split(train, *tested))
        return tuple(trials)


def _training_persons(path: Path) -> list[frozenset[int]]:
    """The persons to train on in each trial: the third field of each cell of ``trainIdxAll``."""
    if not path.is_file():
        raise DatasetError(f"{path} is missing and holds the divisions of GRID: get it from the data set's archive")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtraError("scipy", "reading GRID's partitions") from None
    try:
        cells = loadmat(path, variable_names=["trainIdxAll"])["trainIdxAll"][0]
        found = [_whole_numbers(cell[0][0][2][0]) for cell in cells]
    except Exception:  # noqa: BLE001 - whatever scipy raises for a damaged file
        found = []
    if not found or not all(found):
        raise DatasetError(f"{path} holds no trainIdxAll of GRID's form: get it again from the data set's archive")
    return found


def _whole_numbers(values: Any) -> frozenset[int]:
    return frozenset(int(value) for value in values)
