"""Does this file still give what that model gave? The gate of every export, for any two models: ``verify-export``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.engine import Engine
from reid_edge.engine_card import EngineCard
from reid_edge.errors import GateError, InputError

from .parity import THRESHOLDS, Embeddings, Parity, Thresholds, check_parity

__all__ = ["Verified", "verify", "verify_or_remove"]

_BATCHES = (1, 8, 32)


@dataclass(frozen=True)
class Verified:
    """What was found of one file: its agreement, or why it is refused."""

    path: Path
    precision: str
    parity: Parity | None
    refused: GateError | None = None


def verify(
    path: Path,
    candidate: Engine,
    reference: Embeddings,
    crops: NDArray[np.uint8],
    limits: Mapping[str, Thresholds] | None = None,
) -> Verified:
    """Compare an engine, not yet open, with ``reference`` float32 [N, D] on ``crops`` uint8 [N, H, W, 3].

    Batches are the profile's of a TensorRT engine, else 1, 8 and 32, each with a ragged one after it. Raises InputError
    when the candidate takes crops of another size, ModelError when it does not open.
    """
    with candidate:
        card = candidate.card
        if card.input_hw != crops.shape[1:3]:
            sizes = f"{card.input_hw} and the reference {crops.shape[1:3]}"
            raise InputError(f"{path} takes crops of {sizes}: name the model that it was exported from")
        if card.embedding_dim != reference.shape[1]:
            dims = f"{card.embedding_dim} numbers and the reference {reference.shape[1]}"
            return Verified(path, card.precision, None, GateError(f"{path} gives {dims}: it is of another model"))
        built = EngineCard.beside(path)
        batches = tuple(sorted({*built.batches})) if built else _BATCHES
        try:
            parity = check_parity(
                reference, candidate, crops, card.precision, batches, (limits or THRESHOLDS)[card.precision]
            )
        except GateError as error:
            return Verified(path, card.precision, None, error)
    return Verified(path, card.precision, parity)


def verify_or_remove(
    engine_file: Path,
    candidate: Engine,
    reference: Embeddings,
    crops: NDArray[np.uint8],
    limits: Mapping[str, Thresholds] | None = None,
) -> Verified:
    """`verify` an engine that was just built; one that disagrees is removed with its card, and GateError raised."""
    found = verify(engine_file, candidate, reference, crops, limits)
    if found.refused:
        engine_file.unlink(missing_ok=True)
        EngineCard.path_for(engine_file).unlink(missing_ok=True)
        raise GateError(f"{engine_file} was built, and removed again: {found.refused}")
    return found
