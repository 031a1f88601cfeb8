"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)."""

from __future__ import annotations

import re

from .market_folders import MarketFolders

__all__ = ["Market1501"]


class Market1501(MarketFolders):
    """Market-1501, and any other data in its folders with its file names, such as the built-in drawn set."""

    name = "market1501"
    title = "Market-1501"
    nested = ("Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "Market-1501", "market1501")
    pattern = re.compile(r"([-\d]+)_c(\d+)")
    folder_word = "market"
    common_form = True
    distractor = 0
    published = {"test": (12_936, 3_368, 15_913)}
