"""CUHK03 (Li et al., "DeepReID", CVPR 2014): the new protocol, CUHK03-NP, and the classic one of 20 trials.

The new protocol is that of Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reid_edge.errors import DatasetError

from .listing import Crop, Split
from .market_folders import MarketFolders
from .trials import TrialReader, named_crops

__all__ = ["Cuhk03ClassicDetected", "Cuhk03ClassicLabeled", "Cuhk03Detected", "Cuhk03Labeled"]

_CLASSIC_NAME = re.compile(r"([1-5])_([0-9]{3,4})_([12])_[0-9]{2}\.")

_FOLDERS = ("", "cuhk03-np/", "CUHK03-NP/")


class _Cuhk03(MarketFolders):
    """One set of boxes around the persons: file names have person, camera (1 or 2) and number: ``0001_c1_1.png``.

    Persons are 1 to 1467; none is a distractor or junk. Matches by the query's camera are junk, as in Market-1501.
    Source of names, rule and counts: https://github.com/zhunzhong07/person-re-ranking/tree/master/CUHK03-NP
    """

    pattern = re.compile(r"(\d+)_c(\d)")
    own_name = re.compile(r"\d+_c[12]_\d+\.")
    must_be_named = True


class Cuhk03Labeled(_Cuhk03):
    """CUHK03-NP with boxes drawn by hand."""

    name = "cuhk03-labeled"
    title = "CUHK03-NP (labeled)"
    nested = tuple(f"{folder}labeled" for folder in _FOLDERS)
    folder_word = "labeled"
    published = {"test": (7_368, 1_400, 5_328)}


class Cuhk03Detected(_Cuhk03):
    """CUHK03-NP with boxes found by a detector, the harder one."""

    name = "cuhk03-detected"
    title = "CUHK03-NP (detected)"
    nested = tuple(f"{folder}detected" for folder in _FOLDERS)
    folder_word = "detected"
    published = {"test": (7_365, 1_400, 5_332)}


class _Cuhk03Classic(TrialReader):
    """The crops of ``cuhk-03.mat`` as torchreid writes them out: ``1_001_2_06.png`` is pair, person, view, number.

    Persons are numbered anew in each of the five camera pairs. In each trial the 100 test persons are all queries and
    all gallery, and a query's own view is dropped; its first match is sought among one random crop of every person.
    Names, trials and rule as in ``torchreid/data/datasets/image/cuhk03.py`` (``cuhk03_classic_split``) and
    ``torchreid/metrics/rank.py`` (``eval_cuhk03``) of https://github.com/KaiyangZhou/deep-person-reid.
    """

    nested = ("cuhk03", "CUHK03")
    single_gallery_shot = True
    boxes: str

    @property
    def markers(self) -> tuple[str, ...]:
        """The extracted crops and the list of trials, which torchreid writes together."""
        return (f"images_{self.boxes}", self.splits_file)

    def is_public(self, home: Path) -> bool:
        """False: the number of crops differs from trial to trial."""
        return False

    def crops(self, home: Path, unparsed: list[Path]) -> Iterator[Crop]:
        """Every extracted crop; person 12 of pair 3 is 30012, its views are cameras 5 and 6."""
        for path, (pair, pid, view) in named_crops(home / f"images_{self.boxes}", _CLASSIC_NAME, unparsed):
            yield Crop(path, 10_000 * pair + pid, 2 * (pair - 1) + view)

    def divide(self, home: Path, crops: Sequence[Crop]) -> tuple[Split, ...]:
        """Raises DatasetError: the trials are the authors' own, and never drawn here."""
        raise DatasetError(f"{home / self.splits_file} is no file: let torchreid write it from cuhk-03.mat")


class Cuhk03ClassicLabeled(_Cuhk03Classic):
    """CUHK03, classic protocol, boxes drawn by hand."""

    name = "cuhk03-classic-labeled"
    title = "CUHK03 (classic, labeled)"
    boxes = "labeled"
    splits_file = "splits_classic_labeled.json"


class Cuhk03ClassicDetected(_Cuhk03Classic):
    """CUHK03, classic protocol, boxes found by a detector."""

    name = "cuhk03-classic-detected"
    title = "CUHK03 (classic, detected)"
    boxes = "detected"
    splits_file = "splits_classic_detected.json"
