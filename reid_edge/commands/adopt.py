"""What other programs made: `reid-edge adopt` for an engine of trtexec, `reid-edge import` for an ONNX embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import GateError

from .parts import choices
from .parts.choices import value_of
from .parts.console import show, tell, write_json
from .parts.options import MODEL, ComparedData, Gates, Json, Layout, Threads, writable_folder

__all__ = ["EXAMPLES", "adopt", "import_model"]

EXAMPLES = "adopt models/osnet_x0_25_fp16_trtexec.engine --onnx models/osnet_x0_25_fp16.onnx"

EXPECTED = "What the foreign graph expects"
WRITTEN = "What to write"

_Numbers = tuple[float, float, float]


def adopt(
    engine: Annotated[Path, typer.Argument(metavar="ENGINE", help="Engine that trtexec built.")],
    onnx: Annotated[
        Path, typer.Option(help="The file of reid-edge export that it was built from.", rich_help_panel=MODEL)
    ],
    backend: Annotated[
        choices.Backend | None,
        typer.Option(help="TensorRT package; the first installed one by default.", rich_help_panel=MODEL),
    ] = None,
    data: ComparedData = None,
    layout: Layout = None,
    gate: Gates = None,
) -> None:
    """Check an engine of trtexec against its ONNX file, and write the card that it needs to be opened.

    Needs the GPU that the engine was built for. Exit code 1 if the two disagree.
    """
    from reid_edge.api.adopt_engine import adopt_engine
    from reid_edge.engines.engine_card import EngineCard
    from reid_edge.export.parity.limits import Checks, parse_gates
    from reid_edge.export.tables import verified_table

    checks = Checks(gates=parse_gates(gate or []))
    row = adopt_engine(engine, onnx, data=data, layout=value_of(layout), backend=value_of(backend), checks=checks)
    show(verified_table([row]))
    if row.refused:
        raise GateError(f"{engine} gets no card: {row.refused}")
    tell(f"wrote {EngineCard.path_for(engine)}")


def import_model(
    model_file: Annotated[Path, typer.Argument(metavar="FOREIGN.onnx", help="FP32 ONNX embedder of another project.")],
    out: Annotated[
        Path,
        typer.Option(callback=writable_folder, help="Folder for NAME_fp32.onnx.", rich_help_panel=WRITTEN),
    ] = Path(),
    name: Annotated[
        str | None,
        typer.Option(help="File name stem and architecture; the foreign file's by default.", rich_help_panel=WRITTEN),
    ] = None,
    preset: Annotated[
        choices.Preset | None,
        typer.Option(help="Project that exported it, for all of the values below.", rich_help_panel=EXPECTED),
    ] = None,
    input_format: Annotated[
        choices.ForeignFormat, typer.Option(help="Input of the graph: float32 [N, 3, H, W].", rich_help_panel=EXPECTED)
    ] = choices.ForeignFormat.NCHW_FLOAT,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Height and width, where the graph takes any.", rich_help_panel=EXPECTED),
    ] = None,
    scale: Annotated[
        choices.Scale | None, typer.Option(help="Largest pixel, before mean and std.", rich_help_panel=EXPECTED)
    ] = None,
    mean: Annotated[
        _Numbers | None,
        typer.Option(metavar="X X X", help="Subtracted, in the units of --scale.", rich_help_panel=EXPECTED),
    ] = None,
    std: Annotated[
        _Numbers | None, typer.Option(metavar="X X X", help="Divided by, likewise.", rich_help_panel=EXPECTED)
    ] = None,
    channels: Annotated[
        choices.Channels | None,
        typer.Option(help="Order of channels, of --mean and --std too.", rich_help_panel=EXPECTED),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Output, or value inside the graph, with the embeddings.", rich_help_panel=EXPECTED
        ),
    ] = None,
    resize: Annotated[
        choices.Resize | None,
        typer.Option(help="Resize of the crops; the preset's by default, else opencv.", rich_help_panel=EXPECTED),
    ] = None,
    data: ComparedData = None,
    layout: Layout = None,
    gate: Gates = None,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Wrap another project's ONNX embedder: uint8 crops in, preprocessing and L2 norm inside, any batch, and a card.

    It is written only after it gives the original's embeddings. export, eval, bench and the others then take it.
    """
    from reid_edge.api.import_model import import_model as import_foreign
    from reid_edge.export.parity.limits import Checks, parse_gates
    from reid_edge.export.report import Exported
    from reid_edge.export.tables import exported_table

    report = import_foreign(
        model_file,
        out,
        preset=value_of(preset),
        input_format=value_of(input_format),
        size=size,
        mean=mean,
        std=std,
        scale=int(scale.value) if scale else None,
        channels=value_of(channels),
        resize=value_of(resize),
        embedding=embedding,
        name=name,
        data=data,
        layout=value_of(layout),
        checks=Checks(gates=parse_gates(gate or [])),
        threads=threads,
    )
    row = Exported(report.path, "fp32", report.bytes, report.seconds, report.parity)
    show(exported_table([row]), json_file)
    for note in report.notes:
        tell(f"{report.path.name}: {note}", json_file)
    write_json(json_file, report.to_dict())
