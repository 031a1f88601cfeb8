"""Occluded-Duke (Miao et al., "Pose-Guided Feature Alignment for Occluded Person Re-Identification", ICCV 2019)."""

from __future__ import annotations

from pathlib import Path

from .dukemtmc import DukeMtmc

__all__ = ["OccludedDuke"]


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
