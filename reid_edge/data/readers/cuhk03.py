"""CUHK03 (Li et al., "DeepReID", CVPR 2014) in the new protocol, CUHK03-NP.

The protocol is that of Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
"""

from __future__ import annotations

import re

from .market_folders import MarketFolders

__all__ = ["Cuhk03Detected", "Cuhk03Labeled"]

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
