"""Scoring at the size of public tests: LaST's beside the machine's own matrix product, Market-1501's re-ranked.

::

    python -m scoring.speed_trial --json scoring-speed.json

Embeddings are drawn, 512-d, from persons as clusters. Memory is the peak of the process beyond what it held before.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.files import write_text
from reid_edge.core.threads import usable_cores
from reid_edge.scoring.distances import block_rows
from reid_edge.scoring.metrics import score, score_blocks
from reid_edge.scoring.rerank import reranked

LAST = (10_176, 125_353, 5_806)
MARKET = (3_368, 15_913, 750)
DIM = 512


def drawn(queries: int, gallery: int, persons: int, noise: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings [Q + G, D] and the person of each."""
    rng = np.random.default_rng(0)
    pids = rng.integers(0, persons, queries + gallery)
    centres = rng.standard_normal((persons, DIM), dtype=np.float32)
    rows = rng.standard_normal((len(pids), DIM), dtype=np.float32)
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        rows[part] = noise * rows[part] + centres[pids[part]]
        rows[part] /= np.linalg.norm(rows[part], axis=1, keepdims=True)
    return rows, pids


def measured(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, the peak of resident MB beyond the start, and what the work gave."""
    peak, done, before = [_resident_mb()], threading.Event(), _resident_mb()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    return seconds, peak[0] - before, found


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def last(noise: float, share: float) -> dict[str, Any]:
    """LaST's test size, or a ``share`` of its queries, in turns with the product alone at its best block."""
    queries, gallery, persons = int(LAST[0] * share), *LAST[1:]
    rows, pids = drawn(queries, gallery, persons, noise)
    asked, known = rows[:queries], rows[queries:]
    own = np.arange(len(rows))  # every crop its own camera, as LaST has it

    def product() -> None:
        for start in range(0, queries, block_rows(gallery)):
            asked[start : start + block_rows(gallery)] @ known.T

    def scored() -> Any:
        return score(asked, pids[:queries], own[:queries], known, pids[queries:], own[queries:])

    product()
    turns = [(measured(product)[0], *measured(scored)) for _ in range(3)]
    best = min(turns, key=lambda turn: turn[1] / turn[0])
    return {
        "queries": queries,
        "gallery": gallery,
        "mAP": turns[0][3].mAP,
        "product_s": best[0],
        "seconds": best[1],
        "times": float(np.median([turn[1] / turn[0] for turn in turns])),
        "extra_mb": max(turn[2] for turn in turns),
    }


def market() -> dict[str, Any]:
    """Market-1501's size, ranked plainly and re-ranked."""
    queries, gallery, persons = MARKET
    rows, pids = drawn(queries, gallery, persons, noise=2.5)
    cameras = np.random.default_rng(1).integers(0, 6, len(rows))
    labels = pids[:queries], cameras[:queries], pids[queries:], cameras[queries:]
    plain_s, plain_mb, plain = measured(lambda: score(rows[:queries], *labels[:2], rows[queries:], *labels[2:]))
    seconds, extra_mb, found = measured(lambda: score_blocks(reranked(rows, queries), *labels, distance="re-ranked"))
    return {
        "queries": queries,
        "gallery": gallery,
        "mAP": plain.mAP,
        "mAP_reranked": found.mAP,
        "plain_s": plain_s,
        "plain_mb": plain_mb,
        "seconds": seconds,
        "extra_mb": extra_mb,
    }


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="of LaST's queries")
    given = parser.parse_args()
    found = {
        "threads": usable_cores(),
        "last": {str(noise): last(noise, given.share) for noise in (2.0, 3.0)},
        "market": market(),
    }
    write_text(given.json, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
