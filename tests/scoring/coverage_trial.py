"""How often the 95 % interval of mAP holds the truth: test sets drawn from populations whose true mAP is known.

::

    python -m scoring.coverage_trial --json coverage.json

The truth is the mean over 20,000 test sets of the same size; of 1,000 further ones the intervals are made. Both the
queries and the gallery are drawn anew each time, so that an interval must cover what it does not look at too: other
strangers in the gallery.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.files import write_text
from reid_edge.core.progress import track
from reid_edge.scoring.bootstrap import interval_of, paired_loss

CAMERAS = 4
DIM = 12
FAR = 1e4  # beyond every distance here


@dataclass(frozen=True)
class Population:
    """Persons as clusters; ``noise`` spreads their crops, and ``average`` is the share that look like most others."""

    identities: int
    noise: float
    average: float = 0.0

    def test_set(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """The average precision [Q] of two models, of which the second sees less noise, and the persons int [Q]."""
        count = self.identities
        centres = rng.normal(size=(count, DIM)) * np.where(rng.random(count) < self.average, 0.4, 1.0)[:, None]
        spread = np.exp(0.4 * rng.normal(size=count))
        seen = rng.random((count, CAMERAS)).argsort(axis=1) < rng.integers(2, CAMERAS + 1, count)[:, None]
        person, camera = np.nonzero(seen)
        shots = 1 + rng.integers(1, 4, len(person))
        first = np.cumsum(shots) - shots
        person, camera = np.repeat(person, shots), np.repeat(camera, shots)
        cameras, noise = rng.normal(size=(CAMERAS, DIM)), rng.normal(size=(len(person), DIM))
        return (
            *(
                average_precision(
                    centres[person] + level * spread[person][:, None] * noise + 0.3 * cameras[camera],
                    person,
                    camera,
                    first,
                )
                for level in (self.noise, 0.9 * self.noise)
            ),
            person[first],
        )


def average_precision(
    rows: NDArray[np.float64], person: NDArray[np.int64], camera: NDArray[np.int64], query: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AP of each query against all other crops that are no queries, by euclidean distance; there are no ties."""
    gallery = np.setdiff1d(np.arange(len(rows)), query)
    squares = np.einsum("nd,nd->n", rows, rows)
    apart = squares[gallery] - 2 * rows[query] @ rows[gallery].T  # [Q, G], but for the query's own square
    same = person[query][:, None] == person[gallery]
    junk = same & (camera[query][:, None] == camera[gallery])
    apart[junk] = FAR
    apart += 2 * FAR * np.arange(len(query))[:, None]  # rows after one another: one search for all
    of, at = np.nonzero(same & ~junk)
    hits = np.sort(apart[of, at])  # still by row
    ranks = np.sort(apart, axis=1).ravel().searchsorted(hits) - of * len(gallery) + 1
    counts = np.bincount(of)
    number = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return np.asarray(np.bincount(of, number / ranks) / counts)


POPULATIONS = {
    "24 identities": Population(24, 0.9),
    "60 identities": Population(60, 0.9),
    "60 identities, 3 of 10 look like most others": Population(60, 0.9, average=0.3),
}


def coverage(population: Population, truths: int = 20_000, draws: int = 1_000, seed: int = 0) -> dict[str, Any]:
    """The true mAP and the true gain, and the share of ``draws`` intervals that hold each."""
    rng = np.random.default_rng(seed)
    true_map, true_gain = np.mean(
        [
            (one.mean(), other.mean() - one.mean())
            for one, other, _ in (population.test_set(rng) for _ in range(truths))
        ],
        axis=0,
    )
    held, held_gain, width = [], [], []
    for _ in range(draws):
        one, other, persons = population.test_set(rng)
        interval, loss = interval_of(one, persons), paired_loss(other, one, persons)
        held.append(interval.low <= true_map <= interval.high)
        held_gain.append(loss.low <= true_gain <= loss.high)
        width.append(interval.high - interval.low)
    return {
        "mAP": float(true_map),
        "gain": float(true_gain),
        "held": float(np.mean(held)),
        "gain held": float(np.mean(held_gain)),
        "width": float(np.mean(width)),
    }


def main() -> None:
    """Write the coverage of every population."""
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    out = parser.parse_args().json
    found = {name: coverage(POPULATIONS[name]) for name in track(POPULATIONS, "populations")}
    write_text(out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
