"""Tracks instead of frames: the best crops of a track are embedded and kept, and their mean stands for the person."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import InputError

from .boxes import BoxCrops, cut_boxes, xyxy_of
from .embedder import Embedder
from .quality import measure_quality

__all__ = ["Track", "Tracks"]

_LEAST_WEIGHT = 1e-6  # a track may have no crop that is worth anything


@dataclass
class Track:
    """One track: its best crops so far, as embeddings.

    ``first`` and ``last`` are the numbers of the updates that saw it, counted from 0; ``seen`` is how many did.
    ``scores`` and ``embeddings`` [k, D], best first, are at most ``Tracks.best`` rows.
    """

    id: int
    first: int
    last: int
    seen: int = 0
    scores: list[float] = field(default_factory=list)
    embeddings: list[NDArray[np.float32]] = field(default_factory=list, repr=False)

    @property
    def embedding(self) -> NDArray[np.float32]:
        """The mean of the kept embeddings, weighted by their scores: float32 [D], of L2 norm 1, the caller's own.

        ``docs/measurements/tracks.md`` has what best crops and weights are worth.
        """
        weights = np.maximum(self.scores, _LEAST_WEIGHT)  # [k]
        mean = weights @ np.asarray(self.embeddings, np.float64) / weights.sum()
        norm = float(np.linalg.norm(mean))
        if norm < 1e-6:  # of opposite embeddings: no direction is their mean
            return np.array(self.embeddings[0])
        return np.asarray(mean / norm, np.float32)

    def _keep(self, score: float, embedding: NDArray[np.float32], best: int) -> None:
        place = next((row for row, kept in enumerate(self.scores) if score > kept), len(self.scores))
        self.scores.insert(place, score)
        self.embeddings.insert(place, embedding)
        del self.scores[best:], self.embeddings[best:]


class Tracks:
    """What a tracker's ids look like: give it every frame with its boxes and ids, compare its tracks.

    >>> frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    >>> with Embedder(model_file) as embedder:
    ...     tracks = Tracks(embedder)
    ...     ended = tracks.update(frame, boxes=[[10, 10, 60, 150], [100, 10, 160, 190]], ids=[7, 9], color="bgr")
    >>> sorted(tracks.tracks), tracks.embeddings.shape, ended
    ([7, 9], (2, 24), [])

    A crop is embedded only if its quality (`reid_edge.embedder.quality`) puts it among the ``best`` of its track: a
    track that has good crops already costs no inference. ``best=None`` embeds and keeps every crop. Memory is ``best``
    embeddings a track; a track that was not seen in the last ``expire_after`` updates is forgotten, and returned by the
    update that forgets it.

    An Embedder is not needed where every update brings its embeddings.
    """

    def __init__(self, embedder: Embedder | None = None, *, best: int | None = 4, expire_after: int = 300) -> None:
        if best is not None and best < 1:
            raise InputError(f"best={best} keeps no crop of a track: give 1 or more, or None for all")
        if expire_after < 1:
            raise InputError(f"expire_after={expire_after} forgets a track at once: give 1 or more updates")
        self.tracks: dict[int, Track] = {}
        self.embedded = 0
        self._embedder = embedder
        self._best = best
        self._expire_after = expire_after
        self._updates = 0

    def update(self, frame: Any, boxes: Any, ids: Any, embeddings: Any = None, *, color: str = "rgb") -> list[Track]:
        """Take in one frame; returns the tracks that have ended, oldest first.

        ``frame``, ``boxes`` and ``color`` are those of `reid_edge.embedder.boxes.cut_boxes`; ``ids`` int [N] has one id
        a box, negative for a box that is no track yet, or is None where the tracker has none. ``embeddings`` float
        [N, D] are those that the tracker was given, if any; a row that is not finite counts as missing. Call it for
        frames without boxes too, since time is counted in updates.

        Raises InputError for ids or embeddings that do not fit the boxes, and without an Embedder for missing
        embeddings.
        """
        xyxy = xyxy_of(boxes)
        of_box, given = _ids(ids, len(xyxy)), _embeddings(embeddings, len(xyxy))
        cut = cut_boxes(frame, xyxy, color)
        scores = measure_quality(cut, xyxy).score
        named = {row: int(of_box[box]) for row, box in enumerate(cut.kept) if of_box[box] >= 0}
        wanted = [row for row, number in named.items() if self._is_among_best(number, float(scores[row]))]
        embedded = self._embedded(cut, wanted, given)  # before anything changes: it may raise
        for number in named.values():
            self._see(number)
        for row, embedding in zip(wanted, embedded, strict=True):
            track = self.tracks[named[row]]
            track._keep(float(scores[row]), embedding, self._best or len(track.scores) + 1)
        self._updates += 1
        return self._forget()

    @property
    def ids(self) -> list[int]:
        """The ids of the rows of `embeddings`, in the order in which the tracks began."""
        return list(self.tracks)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """One row a track, float32 [T, D], of L2 norm 1, in the order of `ids`: to enrol, search or compare."""
        rows = [track.embedding for track in self.tracks.values()]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def __repr__(self) -> str:
        kept = sum(len(track.scores) for track in self.tracks.values())
        return f"<Tracks: {len(self.tracks)} tracks, {kept} crops kept, {self.embedded} embedded>"

    def _see(self, number: int) -> None:
        track = self.tracks.setdefault(number, Track(number, self._updates, self._updates))
        track.last, track.seen = self._updates, track.seen + 1

    def _is_among_best(self, number: int, score: float) -> bool:
        scores = self.tracks[number].scores if number in self.tracks else []
        return self._best is None or len(scores) < self._best or score > scores[-1]

    def _embedded(self, cut: BoxCrops, rows: list[int], given: NDArray[np.float32] | None) -> list[NDArray[np.float32]]:
        """The embeddings of some crops: those that were given, and the others by the Embedder."""
        found = {row: given[cut.kept[row]].copy() for row in rows} if given is not None else {}
        found = {row: each for row, each in found.items() if np.isfinite(each).all()}
        missing = [row for row in rows if row not in found]
        if missing:
            if self._embedder is None:
                raise InputError("no embeddings were given and there is no Embedder: make it with Tracks(embedder)")
            self.embedded += len(missing)
            made = self._embedder.embed([cut.crops[row] for row in missing])
            found.update(zip(missing, made, strict=True))
        return [found[row] for row in rows]

    def _forget(self) -> list[Track]:
        oldest = self._updates - self._expire_after
        ended = [track for track in self.tracks.values() if track.last < oldest]
        for track in ended:
            del self.tracks[track.id]
        return ended


def _ids(ids: Any, boxes: int) -> NDArray[np.int64]:
    """One id a box, int64 [N]; -1 for all where there are none."""
    if ids is None:
        return np.full(boxes, -1, np.int64)
    array = np.asarray(_on_cpu(ids))
    if array.shape != (boxes,) or (array.size and array.dtype.kind not in "iuf"):
        raise InputError(f"ids of shape {list(array.shape)} for {boxes} boxes: give one whole number a box, or None")
    if not np.array_equal(array, np.floor(array)):
        raise InputError("an id is not a whole number: give the tracker's ids")
    return array.astype(np.int64)


def _embeddings(embeddings: Any, boxes: int) -> NDArray[np.float32] | None:
    if embeddings is None:
        return None
    array = np.asarray(_on_cpu(embeddings), np.float32)
    if array.ndim != 2 or len(array) != boxes:
        raise InputError(f"embeddings of shape {list(array.shape)} for {boxes} boxes: give one row a box")
    return array


def _on_cpu(values: Any) -> Any:
    """A torch tensor, also on a GPU, as NumPy reads it; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
