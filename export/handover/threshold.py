"""The similarity above which two crops are taken for one person, from labelled crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.parity.gate import embed_in_batches
from reid_edge.scoring.test_set import TestSet

__all__ = ["FALSE_MATCH_RATE", "similarity_at", "similarity_threshold"]

FALSE_MATCH_RATE = 1e-3
"""The share of pairs of two identities that may pass the threshold."""

_CROPS = 1000
"""Half a million pairs, of which 500 may pass; crops are spread evenly over the query and gallery."""


def similarity_threshold(path: Path, test: TestSet) -> float | None:
    """The cosine similarity of an ONNX file at `FALSE_MATCH_RATE`, over the labelled test crops of a data set.

    None where the data set has too few pairs of two identities to tell.
    """
    crops = [crop for crop in (*test.dataset.split.query, *test.dataset.split.gallery) if crop.pid >= 0]
    if not crops:
        return None
    crops = [crops[i * len(crops) // _CROPS] for i in range(_CROPS)] if len(crops) > _CROPS else crops
    with OnnxEngine(path, providers=["CPUExecutionProvider"]) as engine:
        pixels = test.batch([crop.path for crop in crops], engine.card.input_hw, engine.card.resize, progress=True)
        embeddings = embed_in_batches(engine, pixels, 32)
    return similarity_at(embeddings, np.array([crop.pid for crop in crops]))


def similarity_at(
    embeddings: NDArray[np.float32], identities: NDArray[np.int64], rate: float = FALSE_MATCH_RATE
) -> float | None:
    """The lowest similarity that at most ``rate`` of the pairs of two identities exceed; None for under 1 / rate pairs.

    ``embeddings`` float32 [N, D] have rows of L2 norm 1, ``identities`` [N] name their persons.

    >>> angles = np.radians([0, 60, 90], dtype=np.float32)  # cosines 0.5, 0.866 and 0
    >>> rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> round(similarity_at(rows, np.array([1, 2, 3]), rate=1 / 3), 3)
    0.5
    """
    first, second = np.triu_indices(len(embeddings), 1)
    apart = identities[first] != identities[second]
    impostors = np.sort((embeddings @ embeddings.T)[first[apart], second[apart]])  # [P]
    passing = int(len(impostors) * rate * (1 + 1e-9))
    return float(impostors[-1 - passing]) if passing else None
