"""MSMT17 (Wei et al., "Person Transfer GAN to Bridge Domain Gap", CVPR 2018), versions 1 and 2."""

from __future__ import annotations

import os
from pathlib import Path

from reid_edge.errors import DatasetError

from .base import DatasetReader
from .files import whole_number
from .listing import Crop, Listing, Split

__all__ = ["Msmt17"]

_LISTS = {"train": ("train", "val"), "query": ("query",), "gallery": ("gallery",)}


class Msmt17(DatasetReader):
    """MSMT17: lists of paths with their persons; train and test persons are both numbered from 0.

    ``list_val.txt`` is trained on too, as in the published 32,621. Paths in the lists are below train or test.
    """

    name = "msmt17"
    title = "MSMT17"
    nested = ("MSMT17_V1", "MSMT17_V2", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2")
    markers = ("list_query.txt", "list_gallery.txt", "test|mask_test_v2")
    one_numbering = False
    published = {"test": (32_621, 11_659, 82_161)}

    def read(self, home: Path, part: str) -> Listing:
        """Read the four lists."""
        unparsed: list[Path] = []
        splits: list[tuple[Crop, ...]] = []
        for split, lists in _LISTS.items():
            choices = ("train", "mask_train_v2") if split == "train" else ("test", "mask_test_v2")
            folder = next((home / choice for choice in choices if (home / choice).is_dir()), home / choices[0])
            crops: list[Crop] = []
            for name in lists:
                _read_list(home / f"list_{name}.txt", folder, crops, unparsed)
            splits.append(tuple(crops))
        return Listing(Split(*splits), 0, tuple(unparsed))


def _read_list(path: Path, folder: Path, crops: list[Crop], unparsed: list[Path]) -> None:
    """Append the crops of one list, and the files without a camera in their name to ``unparsed``."""
    if not path.is_file():
        return
    text = os.fsdecode(path.read_bytes())  # file names, which need not be UTF-8
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        name, _, last = line.strip().rpartition(" ")
        pid = whole_number(last)
        if not name or pid is None or pid < 0:
            raise DatasetError(f"{path}, line {number}: {line[:80]!a} is not 'path pid': get the list again")
        tokens = Path(name).name.split("_")
        camid = whole_number(tokens[2]) if len(tokens) > 2 else None
        if camid is None:
            unparsed.append(folder / name)
        else:
            crops.append(Crop(folder / name, pid, camid))
