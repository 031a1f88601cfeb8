"""Are these two crops one person? A Siamese pair head turns two embeddings into a probability."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.core.arrays import read_arrays, write_arrays
from reid_edge.core.files import require_file
from reid_edge.data.images import Source
from reid_edge.embedder.embedder import Embedder
from reid_edge.scoring.distances import as_embeddings

from .errors import InputError

__all__ = ["PairHead", "Verdict", "verify"]

_VERSION = 2
_NAMES = ("model", "weight", "bias", "line", "knots", "facts")


@dataclass(frozen=True)
class PairHead:
    """The probability that two embeddings are of one person.

    Both pass through the same linear map (``weight`` float32 [E, D], ``bias`` float32 [E]) and are L2-normalised
    (Bromley et al., *Signature Verification using a "Siamese" Time Delay Neural Network*, NIPS 1993). Their cosine
    times ``scale`` plus ``offset`` is the log-odds that they are of one person rather than of two random ones, at equal
    prior probability. ``knots`` float32 [2, K] calibrates them where K is above 0: log-odds in the first row
    (ascending) become those in the second, with linear interpolation in between.

    ``model`` is the `ModelCard.weights_sha256` of the model it was trained with; ``facts`` records how it was made.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: float
    offset: float
    knots: NDArray[np.float32] = field(default_factory=lambda: np.empty((2, 0), np.float32))
    model: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        compared, dim = self.weight.shape
        return f"<PairHead: {dim} dimensions to {compared}{f', model {self.model:.12}' if self.model else ''}>"

    @classmethod
    def of_cosine(cls, dim: int) -> PairHead:
        """The head that leaves embeddings unchanged and whose log-odds are their cosine."""
        return cls(np.eye(dim, dtype=np.float32), np.zeros(dim, np.float32), 1.0, 0.0)

    def project(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Map embeddings [N, D] to the vectors that are compared: float32 [N, E], rows of L2 norm 1.

        Raises InputError for embeddings with another number of dimensions.
        """
        rows = as_embeddings(embeddings, "the embeddings")
        if rows.shape[1] != self.weight.shape[1]:
            raise InputError(
                f"the embeddings have {rows.shape[1]} dimensions and the pair head takes {self.weight.shape[1]}: "
                "give the model that it was trained with"
            )
        mapped = rows @ self.weight.T + self.bias
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        return np.asarray(mapped / np.maximum(norms, 1e-12), np.float32)

    def log_odds_of(self, cosines: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Calibrated log-odds, at a prior of one half, of cosines of `project`'s rows; any shape."""
        raw = np.asarray(cosines, np.float64) * self.scale + self.offset
        return np.interp(raw, self.knots[0], self.knots[1]) if self.knots.shape[1] else raw

    def probability(self, first: ArrayLike, second: ArrayLike, prior: float = 0.5) -> NDArray[np.float64]:
        """The probability [N] that row i of ``first`` [N, D] and row i of ``second`` [N, D] are of one person.

        ``prior`` is how often two compared crops are of one person: one half by default, about
        1 / (identities in the gallery) for crops drawn at random. Raises InputError for a prior outside (0, 1), and for
        embeddings of other dimensions or numbers.
        """
        _check_prior(prior)
        one, other = self.project(first), self.project(second)
        if len(one) != len(other):
            raise InputError(f"{len(one)} embeddings against {len(other)}: give as many second embeddings as first")
        odds = self.log_odds_of(np.einsum("nd,nd->n", one, other)) + np.log(prior / (1 - prior))
        return np.asarray(0.5 * (1 + np.tanh(odds / 2)))  # the logistic function, without overflow

    def save(self, path: Path | str) -> None:
        """Write the head to ``path`` (.npz), sealed, whole or not at all. It holds no pickles."""
        arrays: dict[str, ArrayLike] = {
            "model": self.model,
            "weight": self.weight.astype(np.float32),
            "bias": self.bias.astype(np.float32),
            "line": np.array([self.scale, self.offset], np.float64),
            "knots": self.knots.astype(np.float32),
            "facts": json.dumps(self.facts),
        }
        write_arrays(path, _VERSION, arrays)

    @classmethod
    def load(cls, path: Path | str) -> PairHead:
        """Read what `save` wrote; the file is untrusted input. A file of an earlier version gives a note.

        Raises InputError when it is missing, was changed since, is of another version or something else.
        """
        path = require_file(path, "a pair head")
        try:
            _, arrays = read_arrays(path, {1: _NAMES, _VERSION: _NAMES})
            model, weight, bias, line, knots, facts = (arrays[name] for name in _NAMES)
            _check(model, weight, bias, line, knots, facts)
            parsed = json.loads(str(facts))
            if not isinstance(parsed, dict):
                raise ValueError("its facts are not a JSON object")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not a pair head ({error}): make one with reid-edge pairs") from None
        return cls(weight, bias, float(line[0]), float(line[1]), knots, str(model), parsed)


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`: the calibrated ``probability``, the plain ``cosine``, and the assumed ``prior``."""

    probability: float
    cosine: float
    prior: float

    def to_dict(self) -> dict[str, float | bool]:
        """JSON-able."""
        return {"probability": self.probability, "same": self.same, "cosine": self.cosine, "prior": self.prior}

    @property
    def same(self) -> bool:
        """Whether one person is more probable than two."""
        return self.probability >= 0.5


def verify(
    first: Source,
    second: Source,
    model: Path | str | Embedder,
    head: Path | str | PairHead,
    *,
    prior: float = 0.5,
    threads: int | None = None,
) -> Verdict:
    """The probability that two crops show one person.

    ``model`` is a model file or an open Embedder, ``head`` the file that ``reid-edge pairs`` made for that model or an
    opened one; for ``prior`` see `PairHead.probability`. Raises InputError for a head of another model, and what
    embedding raises.
    """
    _check_prior(prior)
    for crop in (first, second):
        if isinstance(crop, Path | str):
            require_file(crop, "a crop")
    head = head if isinstance(head, PairHead) else PairHead.load(head)
    embedder = model if isinstance(model, Embedder) else Embedder(model, threads=threads)
    try:
        card = embedder.card
        if head.model and card.weights_sha256 and head.model != card.weights_sha256:
            raise InputError(
                f"the pair head was trained with model {head.model:.12}, and this is {card.weights_sha256:.12}: "
                "give that model, or make a head for this one with reid-edge pairs"
            )
        pair = embedder.embed([first, second])
    finally:
        if embedder is not model:
            embedder.close()
    probability = float(head.probability(pair[:1], pair[1:], prior)[0])
    return Verdict(probability, float(pair[0] @ pair[1]), prior)


def _check_prior(prior: float) -> None:
    if not 0 < prior < 1:
        raise InputError(f"the prior is {prior}: give a probability between 0 and 1, both excluded")


def _check(
    model: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    line: NDArray[Any],
    knots: NDArray[Any],
    facts: NDArray[Any],
) -> None:
    """Raise ValueError unless the arrays have the types and shapes that `PairHead.save` writes, and are finite."""
    for text in (model, facts):
        if text.shape != () or text.dtype.kind != "U":
            raise ValueError("its entries have wrong types")
    if weight.dtype != np.float32 or weight.ndim != 2 or bias.dtype != np.float32 or bias.shape != weight.shape[:1]:
        raise ValueError("weight and bias do not fit each other")
    if line.dtype != np.float64 or line.shape != (2,):
        raise ValueError("scale and offset are missing")
    if knots.dtype != np.float32 or knots.ndim != 2 or len(knots) != 2 or np.any(np.diff(knots[0]) < 0):
        raise ValueError("the knots of its calibration do not ascend")
    if not all(np.isfinite(each).all() for each in (weight, bias, line, knots)):
        raise ValueError("it holds values that are not finite")
