"""What data sets with several trials share: the trials that a user's torchreid drew, or the same ones everywhere."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from reid_edge.errors import DatasetError

from .base import DatasetReader
from .files import images_below
from .listing import Crop, Listing, Split

__all__ = ["RANDOM_TRIALS", "TrialReader", "both_ways", "half_to_test", "named_crops", "names_fit", "read_splits"]

RANDOM_TRIALS = 10
"""How often the persons are divided anew, as VIPeR, GRID and CUHK01 are scored."""

_MOST_BYTES = 256 << 20
"""Of a list of splits: CUHK03's of 20 trials, with long paths, is 50 MB."""


class TrialReader(DatasetReader):
    """A data set without one division into training and test: it is scored on each of several, and the mean counts.

    Where torchreid's list of splits (``splits_file``) lies beside the crops or one folder above, its trials are used,
    so that figures compare with those of that installation; else `divide` makes them. Crops are trained on as the first
    trial has them.
    """

    splits_file: str = "splits.json"
    """What torchreid calls its list of splits."""

    origin: str = "drawn here: another program's differ, unless its list of splits lies beside the crops"
    """Where the trials of `divide` come from, for a notice."""

    def read(self, home: Path, part: str) -> Listing:
        """List the crops, then divide them."""
        unparsed: list[Path] = []
        crops = tuple(self.crops(home, unparsed))
        if not crops:
            return Listing(Split(), 0, tuple(unparsed))
        written = next((folder / self.splits_file for folder in (home, home.parent) if self._lists(folder)), None)
        trials = read_splits(written, crops) if written else self.divide(home, crops)
        notice = f"{len(trials)} trials, {f'as {written} lists them' if written else self.origin}"
        return Listing(trials[0], 0, tuple(unparsed), trials=trials, notices=(notice,))

    @abstractmethod
    def crops(self, home: Path, unparsed: list[Path]) -> Iterator[Crop]:
        """Every crop below ``home``; files whose names do not parse go to ``unparsed``."""

    @abstractmethod
    def divide(self, home: Path, crops: Sequence[Crop]) -> tuple[Split, ...]:
        """The trials, at least one."""

    def _lists(self, folder: Path) -> bool:
        return (folder / self.splits_file).is_file()


def half_to_test(persons: Sequence[int], trial: int) -> frozenset[int]:
    """The half of ``persons`` that is tested on in a trial; of an odd number the larger half.

    The SHA-256 of trial and person decides: the same trials on every machine.

    >>> sorted(half_to_test(range(5), trial=0)), sorted(half_to_test(range(5), trial=1))
    ([0, 1, 3], [0, 2, 4])
    """
    order = sorted(persons, key=lambda pid: sha256(f"{trial} {pid}".encode()).digest())
    return frozenset(order[len(order) // 2 :])


def both_ways(crops: Sequence[Crop], cameras: tuple[int, int]) -> tuple[Split, ...]:
    """Ten divisions of the persons into halves, each tested from one camera to the other and back: 20 trials.

    Trials 2 i and 2 i + 1 train on the same crops, in torchreid's order.
    """
    persons = sorted({crop.pid for crop in crops})
    trials = []
    for trial in range(RANDOM_TRIALS):
        tested = half_to_test(persons, trial)
        train = tuple(crop for crop in crops if crop.pid not in tested)
        seen = [tuple(c for c in crops if c.pid in tested and c.camid == camera) for camera in cameras]
        trials += [Split(train, seen[0], seen[1]), Split(train, seen[1], seen[0])]
    return tuple(trials)


def read_splits(path: Path, crops: Sequence[Crop]) -> tuple[Split, ...]:
    """The trials of torchreid's JSON: a list of objects whose train, query and gallery list ``[path, pid, camid]``.

    Only folder and file name of a path count, and only crops of ``crops`` are given, with their own ids: the list may
    come from another machine, and nothing that it names elsewhere is opened. Source of the form:
    ``torchreid/data/datasets/image/viper.py`` of https://github.com/KaiyangZhou/deep-person-reid.

    Raises DatasetError for another form, and for a list that names a crop which is not there.
    """
    known = {(crop.path.parent.name, crop.path.name): crop for crop in crops}
    trials = tuple(
        Split(*(_listed(entry, name, known, path) for name in ("train", "query", "gallery")))
        for entry in _entries(path)
    )
    if not all(trial.query and trial.gallery for trial in trials) or not trials:
        raise _bad_list(path, "has no trials, or one without query or gallery crops")
    return trials


def _entries(path: Path) -> list[Any]:
    try:
        size = path.stat().st_size
        entries = json.loads(path.read_bytes()) if size <= _MOST_BYTES else None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise _bad_list(path, "is no list of splits in JSON")
    return entries


def _listed(entry: Any, name: str, known: dict[tuple[str, str], Crop], path: Path) -> tuple[Crop, ...]:
    rows = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(rows, list):
        raise _bad_list(path, f"has a trial without {name!r}")
    found = []
    for row in rows:
        if not (isinstance(row, list) and row and isinstance(row[0], str)):
            raise _bad_list(path, f"has a row in {name!r} that is not [path, pid, camid]")
        listed = PurePosixPath(row[0].replace("\\", "/"))
        crop = known.get((listed.parent.name, listed.name))
        if crop is None:
            raise _bad_list(path, f"names {f'{listed.parent.name}/{listed.name}'[:80]!a}, which is not there")
        found.append(crop)
    return tuple(found)


def _bad_list(path: Path, what: str) -> DatasetError:
    return DatasetError(f"{path} {what}: let torchreid write it again, or move it away to have trials drawn here")


def named_crops(folder: Path, pattern: re.Pattern[str], unparsed: list[Path]) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The images of ``folder`` with the numbers that ``pattern`` finds in their names; others go to ``unparsed``."""
    for path in images_below(folder):
        if match := pattern.match(path.name):
            yield path, tuple(map(int, match.groups()))
        else:
            unparsed.append(path)


def names_fit(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Whether the first image of ``folder`` has a name that ``pattern`` matches."""
    return any(pattern.match(path.name) for path in images_below(folder)[:1])
