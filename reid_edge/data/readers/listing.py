"""What a reader gives: crops with their persons and cameras, in three splits (also in `reid_edge.data.records`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Crop", "Listing", "Split"]


@dataclass(frozen=True)
class Crop:
    """One person crop on disk, with the ids of its person and its camera."""

    path: Path
    pid: int
    camid: int


@dataclass(frozen=True)
class Split:
    """The three parts of a re-identification data set; any may be empty."""

    train: tuple[Crop, ...] = ()
    query: tuple[Crop, ...] = ()
    gallery: tuple[Crop, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a reader found: the crops, how many were dropped as junk, and files whose names do not parse.

    ``names`` are those of person ids, where the data set names its persons instead of numbering them. ``trials`` are
    all divisions that the protocol scores, ``split`` being the first, where there is more than one; ``notices`` say
    what a user of this folder should know.
    """

    split: Split
    junk: int = 0
    unparsed: tuple[Path, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    trials: tuple[Split, ...] = ()
    notices: tuple[str, ...] = ()
