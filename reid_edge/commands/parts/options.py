"""Options that several commands share, each with one meaning, and the panels that help groups them in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import choices

__all__ = [
    "CHECKS",
    "DATA",
    "DEVICE",
    "MODEL",
    "MOST_SEED",
    "MOST_THREADS",
    "OUTPUT",
    "RECIPE",
    "WHAT",
    "ActivationMaps",
    "Arch",
    "Batch",
    "Data",
    "Distance",
    "EngineBackend",
    "EngineBackends",
    "Gates",
    "Html",
    "Json",
    "Layout",
    "Model",
    "OptionalData",
    "Part",
    "Queries",
    "Resize",
    "ScoredData",
    "Seed",
    "Threads",
    "WithCrops",
    "writable",
    "writable_folder",
]

# Titles of panels (`rich_help_panel`): an option stands where a reader looks for it, whichever command it belongs to.
MODEL = "Model"
DATA = "Data"
DEVICE = "Device"
OUTPUT = "Output"
CHECKS = "Checks"
WHAT = "What to train"
RECIPE = "Recipe"

MOST_THREADS = 1024
MOST_SEED = 2**63 - 1


def writable(path: Path | None) -> Path | None:
    """An option's callback that refuses a file which cannot be written: before the work, not after it."""
    from reid_edge.core.files import require_output

    return path if path is None else require_output(path)


def writable_folder(path: Path | None) -> Path | None:
    """The same for a folder, which may not exist yet."""
    from reid_edge.core.files import require_output

    return path if path is None else require_output(path / "file").parent


_DATA_HELP = "Data set: a folder in a known layout, or a CSV or Parquet manifest."

Model = Annotated[
    Path,
    typer.Option("--model", help="Model file: .onnx or engine, written by reid-edge export.", rich_help_panel=MODEL),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        help="Architecture of a torchreid or torchvision .pth, e.g. osnet_x0_25; other files name their own.",
        rich_help_panel=MODEL,
    ),
]
Resize = Annotated[
    choices.Resize | None,
    typer.Option(help="Resize of the crops; the model card's by default.", rich_help_panel=MODEL),
]
Data = Annotated[Path, typer.Option("--data", metavar="DATASET", help=_DATA_HELP, rich_help_panel=DATA)]
OptionalData = Annotated[Path | None, typer.Option("--data", metavar="DATASET", help=_DATA_HELP, rich_help_panel=DATA)]
ComparedData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATASET",
        help="Compare on the crops of this data set; on drawn crops by default.",
        rich_help_panel=DATA,
    ),
]
ScoredData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATASET",
        help="Compare on the crops of this data set, and score R1 and mAP where it has queries and a gallery; "
        "by default drawn crops are compared and nothing is scored.",
        rich_help_panel=DATA,
    ),
]
Layout = Annotated[
    choices.Layout | None,
    typer.Option(help="Layout of the data set; auto-detected by default (except crops).", rich_help_panel=DATA),
]
Part = Annotated[
    choices.Part,
    typer.Option(
        "--split",
        help="Part that queries and gallery are taken from; LaST and person-folders have val.",
        rich_help_panel=DATA,
    ),
]
Distance = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="euclidean, cosine, cityblock, minkowski[:p] or correlation.", rich_help_panel=DATA
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_THREADS, help="CPU threads; all usable cores if not given.", rich_help_panel=DEVICE),
]
EngineBackend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What runs the model: onnxruntime, openvino, openvino:bf16 (faster where the CPU has it) or tensorrt; "
        "by its suffix if not given.",
        rich_help_panel=DEVICE,
    ),
]
EngineBackends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What runs the models, in rows of its own: onnxruntime, openvino, openvino:bf16, tensorrt; repeatable.",
        rich_help_panel=DEVICE,
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Crops in a batch.", rich_help_panel=DEVICE)]
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of every random draw.")]
Json = Annotated[
    Path | None,
    typer.Option("--json", callback=writable, help="Write the figures to this file as JSON.", rich_help_panel=OUTPUT),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", callback=writable, help="Write the page to this file.", rich_help_panel=OUTPUT),
]
Queries = Annotated[
    int,
    typer.Option(
        min=0, max=1000, help="Ranked lists on the page, of the queries of lowest AP.", rich_help_panel=OUTPUT
    ),
]
WithCrops = Annotated[
    bool,
    typer.Option(
        "--with-crops",
        help="Embed crops in the page: they are of people, keep it as private as the data set.",
        rich_help_panel=OUTPUT,
    ),
]
ActivationMaps = Annotated[
    int,
    typer.Option(
        "--activation-maps",
        min=0,
        metavar="N",
        help="Show what of the N worst queries led to their match, by occlusion; with --with-crops.",
        rich_help_panel=OUTPUT,
    ),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="PRECISION.NAME=X",
        help="Override a gate threshold, e.g. int8.cosine_min=0.9; repeatable.",
        rich_help_panel=CHECKS,
    ),
]
