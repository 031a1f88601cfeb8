"""Which gallery crops are a query's matches: the same person in another camera; those in its own camera are dropped.

A negative person id is not an identity: such a crop matches nothing, and as a query it is not counted. In the gallery
it is a distractor; where the protocol ignores such crops (Market-1501's -1), the reader of the data set drops them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.errors import InputError

__all__ = ["Matches"]


class Matches:
    """Finds each query's matches and the crops to drop for it, by sorting the gallery once.

    ``queries`` and ``gallery`` are the numbers of crops, ``query_pids`` int64 [Q] the persons. Raises InputError for
    ids that are not whole numbers, one of a person and one of a camera for each crop.

    >>> matches = Matches([7], [0], [7, 7, 5, 7], [0, 1, 1, 2])
    >>> matches.of(0)
    (array([1, 3]), array([0]))
    """

    def __init__(
        self, query_pids: ArrayLike, query_camids: ArrayLike, gallery_pids: ArrayLike, gallery_camids: ArrayLike
    ) -> None:
        self.query_pids, self._query_camids = _labels(query_pids, query_camids, "query")
        pids, self._gallery_camids = _labels(gallery_pids, gallery_camids, "gallery")
        self.queries, self.gallery = len(self.query_pids), len(pids)
        self._by_pid = np.argsort(pids, kind="stable")  # [G]; the crops of a person side by side, in order
        self._first = np.searchsorted(pids, self.query_pids, "left", self._by_pid)
        end = np.searchsorted(pids, self.query_pids, "right", self._by_pid)
        self._end = np.where(self.query_pids < 0, self._first, end)

    def of(self, query: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Gallery rows of the query's person, ascending: the matches, and those of the query's camera, to drop."""
        same = self._by_pid[self._first[query] : self._end[query]]
        own_camera = self._gallery_camids[same] == self._query_camids[query]
        return same[~own_camera], same[own_camera]


def _labels(pids: ArrayLike, camids: ArrayLike, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    arrays = np.asarray(pids), np.asarray(camids)
    for array in arrays:
        if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iu":
            raise InputError(
                f"the {what} ids must be whole numbers, one per crop and at least one, not {array.dtype} "
                f"{list(array.shape)}: read them with reid_edge.data.datasets"
            )
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(
            f"{len(arrays[0])} {what} person ids but {len(arrays[1])} camera ids: give one of each per crop"
        )
    return arrays[0].astype(np.int64), arrays[1].astype(np.int64)
