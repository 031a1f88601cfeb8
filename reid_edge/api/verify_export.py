"""The gate of export alone: files and engines against the model that they were exported from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.progress import phase
from reid_edge.errors import InputError

from .models import is_checkpoint, open_model, require_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reid_edge.data.datasets import Dataset
    from reid_edge.export.graph.graph import Graph
    from reid_edge.export.parity.limits import Checks
    from reid_edge.export.parity.recheck import Reference, Verified
    from reid_edge.export.source import ExportData
    from reid_edge.scoring.test_set import TestSet

__all__ = ["verify_export"]


def verify_export(
    files: Path | str | Sequence[Path | str],
    reference: Path | str,
    *,
    arch: str | None = None,
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    checks: Checks | None = None,
    threads: int | None = None,
    backend: str | None = None,
) -> list[Verified]:
    """Compare ONNX files and engines with the model that they were exported from: a row each, also of refused ones.

    ``reference`` is a checkpoint, a foreign ``.pth`` with its ``arch``, or an FP32 ONNX file. The crops are those of
    ``data``, or drawn ones; where ``data`` has queries and a gallery, files must be shown to keep the reference's mAP.
    ``backend`` names what runs the files (`reid_edge.open_engine`); in "openvino:bf16" they are held to the limits of
    bf16. Nothing is removed. A file that is damaged or of another model is a refused row. Raises InputError for a file
    that is missing, ModelError for one of an unknown kind and for a ``reference`` that does not open.

    >>> (row,) = verify_export(model_file, model_file)
    >>> row.refused, row.parity.max_error, row.parity.crops
    (None, 0.0, 512)
    """
    from reid_edge.export.parity.limits import Checks

    checks = checks or Checks()
    limits = checks.limits()
    reference = require_model(reference, arch, "the reference model")
    paths = [require_model(file, backend=backend) for file in ([files] if isinstance(files, Path | str) else files)]

    from reid_edge.export.parity.recheck import verify_file
    from reid_edge.export.source import open_data

    with phase(f"comparing with {reference.name}"), open_data(data, layout, crops=checks.crops) as opened:
        expected = _expected(reference, arch, opened, threads)
        return [verify_file(path, open_model(path, None, threads, backend), expected, limits) for path in paths]


_FACTS = ("architecture", "mean", "std", "weights_sha256")


def _expected(reference: Path, arch: str | None, opened: ExportData, threads: int | None) -> Reference:
    """What the files must agree with: the reference's embeddings and scores, its weights, and what its card says."""
    from reid_edge.export.parity.gate import embed_in_batches
    from reid_edge.export.parity.recheck import Reference
    from reid_edge.scoring.evaluation import evaluate

    with open_model(reference, arch, threads) as engine:
        card = engine.card
        if card.precision != "fp32":
            raise InputError(f"{reference} is {card.precision}, and files are compared with FP32: give that model")
        crops = opened.crops.of(card)
        embeddings = embed_in_batches(engine, crops, 32)
        scores = evaluate(engine, opened.scored, progress=True).metrics if opened.scored else None
    # A checkpoint may be exported with another resize.
    names = [*_FACTS, *([] if is_checkpoint(reference) else ["resize"])]
    return Reference(
        embeddings=embeddings,
        crops=crops,
        weights=cache(partial(_weights, reference, arch)),
        facts={name: getattr(card, name) for name in names},
        test=opened.scored,
        resize=card.resize,
        scores=scores,
    )


def _weights(reference: Path, arch: str | None, form: str) -> Mapping[str, NDArray[Any]]:
    """The constants of the FP32 graph of a model by name, as its exported files of a form have them."""
    from reid_edge.export.graph.merge_streams import merge_streams

    graph = _graph(reference, arch)
    merged = merge_streams(graph, form) if form else None
    return (merged or graph).constants


def _graph(reference: Path, arch: str | None) -> Graph:
    if is_checkpoint(reference):
        from reid_edge.export.graph.from_torch import onnx_from_model
        from reid_edge.training.models.checkpoint import load_model

        return onnx_from_model(*load_model(reference, arch))
    from reid_edge.export.graph.io import read_graph

    return read_graph(reference)[0]
