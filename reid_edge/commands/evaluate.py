"""`reid-edge eval`: a model and a data set to CMC, mAP and mINP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parts import choices
from .parts.console import show, show_notices, write_json
from .parts.options import Arch, Batch, Data, Distance, EngineBackend, Json, Layout, Part, Resize, Threads

__all__ = ["evaluate"]


def evaluate(
    model_file: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file: .onnx, engine, checkpoint, or .pth with --arch.")
    ],
    data: Data,
    arch: Arch = None,
    resize: Resize = None,
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    distance: Distance = "cosine",
    batch: Batch = 32,
    threads: Threads = None,
    backend: EngineBackend = None,
    json_file: Json = None,
) -> None:
    """Score a model by the data set's protocol: CMC (ranks 1, 5, 10, 20), mAP and mINP."""
    from reid_edge import evaluate as evaluate_model
    from reid_edge.scoring.evaluation import evaluation_table

    result = evaluate_model(
        model_file,
        data,
        arch=arch,
        distance=distance,
        layout=choices.value_of(layout),
        part=part.value,
        resize=choices.value_of(resize),
        batch=batch,
        threads=threads,
        backend=backend,
        progress=True,
    )
    show_notices(result.notices)
    show(evaluation_table(result), json_file)
    write_json(json_file, result.to_dict())
