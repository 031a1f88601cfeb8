"""A model scored so that its errors can be looked at: CMC, distances of pairs, and the ranked lists of lowest AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import phase, track
from reid_edge.data.datasets import Dataset, require
from reid_edge.data.records import Crop
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.registry import open_engine
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.features import ids_of
from reid_edge.scoring.matches import Matches
from reid_edge.scoring.metrics import Metrics, score_blocks
from reid_edge.scoring.test_set import TestSet

from .occlusion import Occlusion, occlusion_maps
from .ranked_lists import ProtocolRanker, RankedList

__all__ = ["NamedMap", "PairSample", "ScoredModel", "score_model"]

_MOST_PAIRS = 2_000_000


@dataclass(frozen=True, eq=False)
class PairSample:
    """Distances between queries and gallery, as the protocol pairs them.

    ``genuine`` float32 [M] are those of all pairs that show one person; ``impostor`` float32 [N] those of pairs that
    show two, an even sample of ``impostor_pairs``.
    """

    genuine: NDArray[np.float32]
    impostor: NDArray[np.float32]
    impostor_pairs: int


@dataclass(frozen=True, eq=False)
class NamedMap:
    """What of a query speaks for its match with a gallery crop; ``rank`` is that crop's."""

    crop: Crop
    rank: int
    occlusion: Occlusion


@dataclass(frozen=True, eq=False)
class ScoredModel:
    """What a model scored on a data set; ``lists`` are those of the queries with the lowest AP, worst first.

    ``maps`` are those of the first few lists, in their order: for the closest crop, and for the closest right one.
    """

    name: str
    path: Path
    metrics: Metrics
    pairs: PairSample
    lists: tuple[RankedList, ...]
    maps: tuple[tuple[NamedMap, ...], ...] = ()


def score_model(
    model: Path | str,
    data: TestSet,
    *,
    distance: str = "cosine",
    worst: int = 100,
    top: int = 10,
    activation_maps: int = 0,
    threads: int | None = None,
    backend: str | None = None,
) -> ScoredModel:
    """Score ``model`` on the queries and gallery of ``data``, and rank the gallery for the ``worst`` queries by AP.

    The scores are those of `reid_edge.evaluate`. ``top`` is the length of a list; ``activation_maps`` is how many of
    the lists get maps (`occlusion_maps`), which is 128 crops more to embed for each; the other arguments are those of
    `reid_edge.open_engine`. Raises what `reid_edge.evaluate` raises.
    """
    dataset, path = data.dataset, Path(model)
    require(dataset, "query", "gallery")
    distance_by_name(distance)
    paths = [crop.path for crop in (*dataset.split.query, *dataset.split.gallery)]
    with (
        phase(f"ranking with {path.name}"),
        open_engine(path, threads=threads, backend=backend) as engine,
        Embedder(engine) as embedder,
    ):
        crops = data.decoded(paths, embedder.card.input_hw, embedder.resize, progress=True)
        study = _Study(dataset, embedder.embed(crops, progress=True), distance, top)
        lists = study.worst_lists(worst)
        maps = [
            study.maps(found.query, embedder, crops)
            for found in track(lists[:activation_maps], "covering parts of queries")
        ]
    return ScoredModel(path.stem, path, study.metrics, study.pairs, tuple(lists), tuple(maps))


class _Study:
    """The embeddings of a data set, scored in one pass over their distances."""

    def __init__(self, dataset: Dataset, embeddings: NDArray[np.float32], distance: str, top: int) -> None:
        queries = len(dataset.split.query)
        self._dataset, self._asked, self._known = dataset, embeddings[:queries], embeddings[queries:]
        self._ranker = ProtocolRanker(dataset, top)
        measure, ids = distance_by_name(distance), ids_of(dataset)
        labels = [each[part] for part in (slice(queries), slice(queries, None)) for each in ids]
        self._block = measure.against(self._known)
        pairs = _Pairs(Matches(*labels))

        def distances(rows: slice) -> NDArray[np.float32]:
            block = self._block(self._asked[rows])
            pairs.add(rows.start, block)
            return block

        self.metrics = score_blocks(distances, *labels, distance=measure.name, max_rank=50, progress=True)
        self.pairs, self._valid = pairs.sample(), pairs.valid

    def worst_lists(self, number: int) -> list[RankedList]:
        """The lists of the queries with the lowest AP, worst first."""
        scores = self.metrics.average_precision
        lists = []
        for place in np.argsort(scores, kind="stable")[:number].tolist():
            query = self._valid[place]
            row = self._block(self._asked[query : query + 1])[0]
            lists.append(self._ranker.ranked(self._dataset.split.query[query], row, float(scores[place])))
        return lists

    def maps(self, query: Crop, embedder: Embedder, crops: Sequence[NDArray[np.uint8]]) -> tuple[NamedMap, ...]:
        """Maps of a query, for its closest crop and, where that is wrong, for the closest right one at any rank."""
        split = self._dataset.split
        at = split.query.index(query)
        whole = ProtocolRanker(self._dataset, len(split.gallery)).ranked(
            query, self._block(self._asked[at : at + 1])[0]
        )
        first_right = next(rank for rank, (crop, _) in enumerate(whole.ranked, start=1) if crop.pid == query.pid)
        ranks = sorted({1, first_right})
        shown = [whole.ranked[rank - 1][0] for rank in ranks]
        others = self._known[[split.gallery.index(crop) for crop in shown]]
        maps = occlusion_maps(embedder.embed, crops[at], others)
        return tuple(NamedMap(*each) for each in zip(shown, ranks, maps, strict=True))


class _Pairs:
    """Collects the distances of pairs while blocks of them pass by; ``valid`` are the queries that have a match."""

    def __init__(self, matches: Matches) -> None:
        self.valid: list[int] = []
        self._matches = matches
        self._step = max(1, -(-matches.queries * matches.gallery // _MOST_PAIRS))
        self._genuine: list[NDArray[np.float32]] = []
        self._impostor: list[NDArray[np.float32]] = []
        self._impostors = 0

    def add(self, start: int, block: NDArray[np.float32]) -> None:
        """Count the pairs of the queries from ``start`` on; ``block`` [n, G] is only read."""
        for query, row in enumerate(block, start):
            hits, dropped = self._matches.of(query)
            if not len(hits):
                continue
            self.valid.append(query)
            self._genuine.append(row[hits])
            others = np.delete(row, np.concatenate([hits, dropped]))
            self._impostor.append(others[-self._impostors % self._step :: self._step])
            self._impostors += len(others)

    def sample(self) -> PairSample:
        """All of them."""
        return PairSample(np.concatenate(self._genuine), np.concatenate(self._impostor), self._impostors)
