"""DukeMTMC-reID (Zheng et al., ICCV 2017, after Ristani et al., ECCV Workshops 2016), withdrawn in 2019.

Its crops are also those of Occluded-Duke (Miao et al., "Pose-Guided Feature Alignment for Occluded Person
Re-Identification", ICCV 2019).
"""

from __future__ import annotations

import re
from pathlib import Path

from .market_folders import MarketFolders

__all__ = ["DukeMtmc", "OccludedDuke"]


class DukeMtmc(MarketFolders):
    """DukeMTMC-reID: Market-1501's folders, and file names with a frame, as in ``0005_c2_f0046182.jpg``."""

    name = "dukemtmc"
    title = "DukeMTMC-reID"
    nested: tuple[str, ...] = ("DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID")
    pattern = re.compile(r"(\d+)_c(\d+)")
    folder_word = "duke"
    own_name = re.compile(r"\d+_c\d_f\d+")
    distractor = 0
    notices = (
        "DukeMTMC-reID was withdrawn by its authors over the privacy of the people in it: "
        "think twice before you use it, and do not pass it on",
    )
    published = {"test": (16_522, 2_228, 17_661)}


class OccludedDuke(DukeMtmc):
    """The crops of DukeMTMC-reID, split anew so that every query is occluded, by the protocol of DukeMTMC-reID.

    Only the folder's name tells it from DukeMTMC-reID, or the lists of names from which its authors' script makes it.
    The counts are those of the lists, in which no crop is a distractor or junk
    (https://github.com/lightas/Occluded-DukeMTMC-Dataset).
    """

    name = "occluded-duke"
    title = "Occluded-Duke"
    nested = ("Occluded_Duke", "Occluded-DukeMTMC-Dataset/Occluded_Duke", "occluded_duke")
    folder_word = "occluded"
    must_be_named = True
    published = {"test": (15_618, 2_210, 17_661)}

    def _is_named(self, home: Path) -> bool:
        return super()._is_named(home) or (home / "query.list").is_file()
