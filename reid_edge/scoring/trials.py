"""Protocols of small data sets: the mean over several trials, and CMC with one random gallery crop of each person.

A small set's persons are divided into training and test several times (VIPeR, CUHK01, GRID, CUHK03's classic protocol).
Each division is a trial, scored by itself; what counts is the mean and the deviation over trials. A model that was
trained on one of them has seen persons that others test on, so that it is scored on the trials with its own training
crops alone.

*Single gallery shot* (Li et al., "DeepReID", CVPR 2014; ``eval_cuhk03`` in ``torchreid/metrics/rank.py`` of
https://github.com/KaiyangZhou/deep-person-reid): after a query's own camera is dropped, one crop of each person is
drawn for it and ranked. Others draw ten times and average; here the mean over all draws is computed. A match that is
drawn stands behind person i with probability ``p_i``, the share of i's crops that are closer. Persons are drawn
independently, so the number before it is a Poisson-binomial variable, and CMC at k its probability of being below k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.data.datasets import Dataset
from reid_edge.data.records import Crop, Split
from reid_edge.errors import InputError

from .distances import block_rows
from .matches import Matches
from .metrics import Metrics

__all__ = [
    "TrialMetrics",
    "TrialRows",
    "crop_ids",
    "mean_of_trials",
    "pooled",
    "protocol_note",
    "single_gallery_shot_cmc",
    "trained_on",
    "trial_rows",
]


TrialRows: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int64]]"
"""The rows of a trial's queries and of its gallery."""


@dataclass(frozen=True, eq=False, repr=False)
class TrialMetrics(Metrics):
    """The mean over ``trials``; `deviation` is between them.

    ``queries`` and ``valid_queries`` count those of all trials, ``gallery`` the crops of the largest gallery, and what
    there is for each query is trial after trial. With ``single_gallery_shot`` the figures of CMC are so; the others are
    always of the whole gallery.
    """

    trials: tuple[Metrics, ...]
    single_gallery_shot: bool

    @property
    def deviation(self) -> dict[str, float]:
        """Standard deviation between trials (n - 1) of rank-1, mAP and mINP, as fractions; 0 for one trial.

        Trials share persons, so this is the spread that the field prints and no confidence interval.
        """
        figures = {
            "rank1": [trial.rank(1) for trial in self.trials],
            "mAP": [trial.mAP for trial in self.trials],
            "mINP": [trial.mINP for trial in self.trials],
        }
        return {name: float(np.std(each, ddof=1)) if len(each) > 1 else 0.0 for name, each in figures.items()}

    def to_dict(self) -> dict[str, Any]:
        """The figures of `Metrics.to_dict`, then the protocol: number of trials, their deviation, how CMC counts."""
        protocol = {"trials": len(self.trials), "deviation": self.deviation}
        return {**super().to_dict(), **protocol, "single_gallery_shot": self.single_gallery_shot}


def pooled(dataset: Dataset) -> Dataset:
    """The data set with the queries and the gallery of all its trials, each crop once: what to embed.

    One without trials is returned as it is.
    """
    trials = dataset.listing.trials
    if not trials:
        return dataset
    query = tuple(dict.fromkeys(crop for trial in trials for crop in trial.query))
    gallery = tuple(dict.fromkeys(crop for trial in trials for crop in trial.gallery))
    split = replace(dataset.split, query=query, gallery=gallery)
    return replace(dataset, listing=replace(dataset.listing, split=split))


def trial_rows(dataset: Dataset, card_says: str) -> tuple[TrialRows, ...]:
    """The rows of each trial's queries and gallery in the embeddings of a `pooled` data set, its queries first.

    Of a model that was trained on the set, ``card_says``, those trials alone that have its training crops. () for a set
    without trials.
    """
    split = dataset.split
    query_row = {crop: row for row, crop in enumerate(split.query)}
    gallery_row = {crop: row for row, crop in enumerate(split.gallery, len(split.query))}
    return tuple(
        (
            np.array([query_row[crop] for crop in trial.query], np.int64),
            np.array([gallery_row[crop] for crop in trial.gallery], np.int64),
        )
        for trial in _fair_trials(dataset, card_says)
    )


def trained_on(dataset: Dataset, card_says: str) -> bool:
    """Whether a model card's ``trained_on`` names this data set, alone or among others ("A + B: 9 crops of ...")."""
    return dataset.name in card_says.partition(":")[0].split(" + ")


def crop_ids(crops: Sequence[Crop], dataset: Dataset, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Person and camera ids [N]; without same-camera filtering every crop, from ``first`` on, is its own camera."""
    pids = np.array([crop.pid for crop in crops], np.int64)
    if not dataset.same_camera_filter:
        return pids, np.arange(first, first + len(crops), dtype=np.int64)
    return pids, np.array([crop.camid for crop in crops], np.int64)


def single_gallery_shot_cmc(
    distances: Callable[[slice], NDArray[np.float32]],
    query_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_pids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    max_rank: int = 20,
) -> NDArray[np.float64]:
    """CMC at 1..``max_rank`` float64 with one random gallery crop of each person, the mean over all draws.

    ``distances(rows)`` is [len(rows), G] for a slice of the queries, smaller for closer; ties are in gallery order.
    Queries without a match in another camera are not counted; a crop with a person id below 0 is a person of its own.
    Raises InputError for ids that do not fit together, distances that are not finite, and when no query has a match.

    The query is person 1. Of person 1 the crops stand first and third, of person 2 second and fourth. Drawn are first
    or third, before or behind what is drawn of person 2: behind in one case of four.

    >>> matrix = np.array([[0.1, 0.3, 0.2, 0.4]])
    >>> single_gallery_shot_cmc(matrix.__getitem__, [1], [0], [1, 1, 2, 2], [1, 1, 1, 1], max_rank=2)
    array([0.75, 1.  ])
    """
    matches = Matches(query_pids, query_camids, gallery_pids, gallery_camids)
    persons = _person_numbers(np.asarray(gallery_pids))  # [G]
    rows = block_rows(matches.gallery)
    total, counted = np.zeros(max_rank), 0
    for start in range(0, matches.queries, rows):
        block = distances(slice(start, min(start + rows, matches.queries)))
        if not np.isfinite(block).all():
            raise InputError("a distance is NaN or infinite: check the embeddings")
        hits = [matches.of(query)[0] for query in range(start, start + len(block))]
        valid = [i for i, each in enumerate(hits) if len(each)]
        if valid:
            ahead = np.concatenate([_shares_ahead(block[i], hits[i], persons) for i in valid])  # [H, P]
            weights = np.concatenate([np.full(len(hits[i]), 1 / len(hits[i])) for i in valid])  # [H]
            total += weights @ _chances(ahead, max_rank)
            counted += len(valid)
    if not counted:
        raise InputError("no query has a match in another camera: check person and camera ids")
    return total / counted


def protocol_note(metrics: Metrics) -> str:
    """A line on the protocol for under a table, "" where it is the usual one."""
    if not isinstance(metrics, TrialMetrics):
        return ""
    deviation = metrics.deviation
    spread = f"deviation of rank-1 {100 * deviation['rank1']:.1f}, mAP {100 * deviation['mAP']:.1f}"
    count = f"mean of {len(metrics.trials)} trials, {spread}" if len(metrics.trials) > 1 else "one trial"
    return f"\n{count}{'; CMC single-gallery-shot' if metrics.single_gallery_shot else ''}"


def _fair_trials(dataset: Dataset, card_says: str) -> tuple[Split, ...]:
    """All trials; for a model that was trained on this data set those with the training crops of the first."""
    trials = dataset.listing.trials
    if not trained_on(dataset, card_says):
        return trials
    return tuple(trial for trial in trials if trial.train == trials[0].train)


def mean_of_trials(trials: Sequence[Metrics], single_gallery_shot: bool) -> TrialMetrics:
    """The mean of what each trial scored."""
    return TrialMetrics(
        cmc=np.mean([trial.cmc for trial in trials], axis=0),
        mAP=float(np.mean([trial.mAP for trial in trials])),
        mINP=float(np.mean([trial.mINP for trial in trials])),
        queries=sum(trial.queries for trial in trials),
        valid_queries=sum(trial.valid_queries for trial in trials),
        gallery=max(trial.gallery for trial in trials),
        distance=trials[0].distance,
        average_precision=np.concatenate([trial.average_precision for trial in trials]),
        first_match=np.concatenate([trial.first_match for trial in trials]),
        persons=np.concatenate([trial.persons for trial in trials]),
        trials=tuple(trials),
        single_gallery_shot=single_gallery_shot,
    )


def _person_numbers(pids: NDArray[Any]) -> NDArray[np.intp]:
    """Persons of gallery crops [G], counted from 0; each crop with an id below 0 is one of its own."""
    pids = np.where(pids < 0, -1 - np.arange(len(pids)), pids)
    return np.unique(pids, return_inverse=True)[1].reshape(-1)


def _shares_ahead(row: NDArray[np.float32], hits: NDArray[np.intp], persons: NDArray[np.intp]) -> NDArray[np.float64]:
    """For each of the matches ``hits``, the share of every other person's crops that stand before it: [H, P]."""
    order = np.argsort(row, kind="stable")
    place = np.empty(len(row), np.intp)
    place[order] = np.arange(len(row))
    crops = np.bincount(persons)  # [P]
    ahead = np.stack([np.bincount(persons[order[: place[hit]]], minlength=len(crops)) for hit in hits]) / crops
    ahead[:, persons[hits[0]]] = 0
    return ahead


def _chances(ahead: NDArray[np.float64], max_rank: int) -> NDArray[np.float64]:
    """The probability [H, max_rank] that fewer than 1, 2, ... persons are drawn before a match, from `_shares_ahead`.

    >>> _chances(np.array([[0.5, 0.0, 1.0]]), 3)
    array([[0. , 0.5, 1. ]])
    """
    before = np.zeros((len(ahead), max_rank))  # [H, n]: exactly n persons are before it
    before[:, 0] = 1
    for share in ahead.T[:, :, None]:  # [H, 1]
        before[:, 1:] += share * (before[:, :-1] - before[:, 1:])
        before[:, :1] *= 1 - share
    return before.cumsum(axis=1)
