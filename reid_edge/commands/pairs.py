"""`reid-edge pairs` and `reid-edge verify`: the probability that two crops show one person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.core.progress import phase

from .parts import choices
from .parts.console import say, show, show_notices, tell, write_json
from .parts.options import MODEL, OUTPUT, Arch, Data, Json, Layout, Model, Part, Seed, Threads, writable_folder

__all__ = ["VERIFY_EXAMPLES", "pairs", "verify"]

VERIFY_EXAMPLES = "verify a.jpg b.jpg --model models/osnet_x0_25_fp32.onnx --head pair_head.npz"

PAIR_HEAD = "Pair head"


def pairs(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file: .onnx, engine, checkpoint, or .pth with --arch.")
    ],
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            callback=writable_folder,
            help="Folder for pair_head.npz, pairs.json and the reliability diagram.",
            rich_help_panel=OUTPUT,
        ),
    ],
    arch: Arch = None,
    fit_on: Annotated[
        choices.FitOn,
        typer.Option(help="Split to fit on; test if the model was trained on train.", rich_help_panel=PAIR_HEAD),
    ] = choices.FitOn.TRAIN,
    calibration: Annotated[
        choices.Calibration, typer.Option(help="How probabilities are calibrated.", rich_help_panel=PAIR_HEAD)
    ] = choices.Calibration.TEMPERATURE,
    seed: Seed = 0,
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    threads: Threads = None,
) -> None:
    """Train and calibrate a Siamese pair head for a model, and keep it if it beats the calibrated cosine."""
    from reid_edge.api.models import open_model, require_model
    from reid_edge.data.datasets import open_dataset
    from reid_edge.embedder.embedder import Embedder

    require_model(model, arch)
    dataset = open_dataset(data, choices.value_of(layout), part.value)
    with phase("loading PyTorch"):
        from reid_edge.training.models.torch_engine import limit_torch_threads
        from reid_edge.training.pairs.report import HEAD_NAME, make_pair_head, pair_table

        limit_torch_threads(threads)
    show_notices(dataset.notices)
    with open_model(model, arch, threads) as engine, Embedder(engine) as embedder:
        if fit_on == "train" and embedder.card.trained_on.startswith(f"{dataset.name}:"):
            show_notices(
                ["the model was trained on these identities: use --fit-on test, or probabilities are overconfident"]
            )
        report = make_pair_head(embedder, dataset, out, fit_on=fit_on.value, calibration=calibration.value, seed=seed)
    show(pair_table(report))
    say(f"chosen: {report.choice}")
    say(f"wrote {out / HEAD_NAME}; next:")
    say(f"  reid-edge verify A.jpg B.jpg --model {model} --head {out / HEAD_NAME}")


def verify(
    first: Annotated[Path, typer.Argument(help="A crop.")],
    second: Annotated[Path, typer.Argument(help="The crop to compare it with.")],
    model: Model,
    head: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Pair head made by reid-edge pairs for this model.", rich_help_panel=MODEL),
    ],
    prior: Annotated[
        float,
        typer.Option(
            help="Prior probability of one person; for a search about 1 / identities in the gallery.",
            rich_help_panel=MODEL,
        ),
    ] = 0.5,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Print the probability that two crops show one person."""
    from reid_edge.pair_head import verify as verify_pair

    verdict = verify_pair(first, second, model, head, prior=prior, threads=threads)
    outcome = "one person" if verdict.same else "two people"
    probability = f"probability of one person {verdict.probability:.4f} at a prior of {prior:g}"
    tell(f"{outcome}: {probability} (cosine {verdict.cosine:.4f})", json_file)
    write_json(json_file, verdict.to_dict())
