"""DukeMTMC-reID (Zheng et al., ICCV 2017, after Ristani et al., ECCV Workshops 2016), withdrawn in 2019."""

from __future__ import annotations

import re

from .market_folders import MarketFolders

__all__ = ["DukeMtmc"]


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
