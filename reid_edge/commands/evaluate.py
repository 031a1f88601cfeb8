"""`reid-edge eval`: models and a data set to CMC, mAP and mINP, and which model is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .parts import choices
from .parts.console import given, show, show_notices, tell, write_json
from .parts.options import (
    OUTPUT,
    Arch,
    Batch,
    EngineBackend,
    Json,
    Layout,
    OptionalData,
    Part,
    Resize,
    Threads,
    writable,
)

if TYPE_CHECKING:
    from reid_edge.scoring.expansion import QueryExpansion
    from reid_edge.scoring.rerank import Rerank

__all__ = ["evaluate"]

SCORING = "Scoring"


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Model files (.onnx, engine, checkpoint, or .pth with --arch), or features that were kept (.npz).",
        ),
    ],
    data: OptionalData = None,
    arch: Arch = None,
    resize: Resize = None,
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    distance: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="euclidean, cosine, cityblock, minkowski[:p] or correlation; repeatable.",
            rich_help_panel=SCORING,
        ),
    ] = ["cosine"],  # noqa: B006 - Typer copies it
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Average with the embedding of the mirrored crop.", rich_help_panel=SCORING),
    ] = False,
    query_expansion: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Average queries with their K nearest.", rich_help_panel=SCORING),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="A", help="Query expansion weighs by cosine^A; 0 if not given.", rich_help_panel=SCORING
        ),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.", rich_help_panel=SCORING)
    ] = False,
    k1: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Neighbours of --rerank; 20 if not given.", rich_help_panel=SCORING),
    ] = None,
    k2: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Crops that --rerank averages; 6 if not given.", rich_help_panel=SCORING),
    ] = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            min=0,
            max=1,
            metavar="X",
            help="Weight of the original distance in --rerank; 0.3 if not given.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    max_rank: Annotated[
        int, typer.Option(min=1, metavar="N", help="The last rank of CMC.", rich_help_panel=SCORING)
    ] = 20,
    roc: Annotated[
        bool, typer.Option("--roc", help="Also EER, AUC and TAR@FAR of a threshold.", rich_help_panel=SCORING)
    ] = False,
    batch: Batch = 32,
    threads: Threads = None,
    backend: EngineBackend = None,
    save_features: Annotated[
        Path | None,
        typer.Option(
            callback=writable,
            metavar="FILE",
            help="Keep the embeddings in this .npz, which stands for the model in later calls.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Score models by the data set's protocol: CMC (ranks 1, 5, 10, 20), mAP and mINP, with 95 % intervals.

    Each of several models, distances or settings is compared with the first.
    """
    from reid_edge.api.evaluate_models import evaluate_models
    from reid_edge.scoring.report.table import evaluation_table, evaluations_table, roc_table

    found = evaluate_models(
        models,
        data,
        distances=tuple(dict.fromkeys(distance)),
        flip=flip,
        query_expansion=_expansion(query_expansion, alpha),
        rerank=_rerank(rerank, k1, k2, lambda_),
        max_rank=max_rank,
        roc=roc,
        save_features=save_features,
        layout=choices.value_of(layout),
        part=part.value,
        progress=True,
        **given({"arch": arch, "resize": choices.value_of(resize), "threads": threads, "backend": backend}),
        batch=batch,
    )
    show_notices(tuple(dict.fromkeys(notice for each in found.results for notice in each.notices)))
    show(evaluation_table(found.results[0]) if len(found.results) == 1 else evaluations_table(found.results), json_file)
    for comparison in found.comparisons:
        tell(str(comparison), json_file)
    if roc:
        show(roc_table(found.results), json_file)
    write_json(json_file, found.to_dict())


def _expansion(k: int | None, alpha: float | None) -> QueryExpansion | None:
    """The options of query expansion, None where it is off."""
    from reid_edge.errors import InputError
    from reid_edge.scoring.expansion import QueryExpansion

    if k is None:
        if alpha is not None:
            raise InputError("--alpha is a weight of query expansion: add --query-expansion K")
        return None
    return QueryExpansion(k=k, alpha=alpha or 0.0)


def _rerank(on: bool, k1: int | None, k2: int | None, lambda_: float | None) -> Rerank | None:
    """The options of re-ranking, None where it is off."""
    from reid_edge.errors import InputError
    from reid_edge.scoring.rerank import Rerank

    parameters = given({"k1": k1, "k2": k2, "lambda_": lambda_})
    if parameters and not on:
        raise InputError("--k1, --k2 and --lambda are parameters of re-ranking: add --rerank")
    return Rerank(**parameters) if on else None
