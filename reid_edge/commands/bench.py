"""What a model costs, measured (`bench`) or estimated (`inspect-model`), and the machine it runs on (`doctor`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import GateError

from .parts import choices
from .parts.choices import value_of
from .parts.console import say, show, tell, write_json
from .parts.options import (
    DEVICE,
    MODEL,
    OUTPUT,
    ActivationMaps,
    Batch,
    Distance,
    EngineBackends,
    Html,
    Json,
    Layout,
    OptionalData,
    Part,
    Queries,
    Threads,
    WithCrops,
)
from .parts.reports import Audit, Csv, Markdown, finish_audit, options_of_audit, write_tables

__all__ = ["DOCTOR_EXAMPLES", "EXAMPLES", "INSPECT_EXAMPLES", "bench", "doctor", "inspect_model"]

EXAMPLES = "bench models/osnet_x0_25_{fp32,fp16}.onnx --data Market-1501 --batch 1 --batch 8"
DOCTOR_EXAMPLES = "doctor\ndoctor --model models/osnet_x0_25_fp32.onnx --json doctor.json"
INSPECT_EXAMPLES = "inspect-model models/osnet_x0_25_fp16.onnx --device orin-nano --device agx-orin --batch 8"


def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX files or engines.")],
    data: OptionalData = None,
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    distance: Distance = "cosine",
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Batch size to time; repeatable.", show_default="1, 8 and 32", rich_help_panel=DEVICE),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Measure each row for at least this long.", rich_help_panel=DEVICE)
    ] = 2.0,
    turns: Annotated[
        int, typer.Option(min=1, help="Measure every row this often, the rows in turns.", rich_help_panel=DEVICE)
    ] = 2,
    streams: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=64,
            help="Threads that run batches side by side; repeatable.",
            show_default="1",
            rich_help_panel=DEVICE,
        ),
    ] = None,
    threads: Threads = None,
    backend: EngineBackends = None,
    trtexec_json: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of trtexec --exportTimes or --exportProfile to stand beside; repeatable.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Show stages, bounds, turns, energy and clocks.", rich_help_panel=OUTPUT)
    ] = False,
    audit: Audit = False,
    csv_file: Csv = None,
    markdown_file: Markdown = None,
    json_file: Json = None,
    html: Html = None,
    queries: Queries = 100,
    with_crops: WithCrops = False,
    activation_maps: ActivationMaps = 0,
) -> None:
    """Time models from file to embedding and score them: a row per model and batch, compared with the first row.

    Without --data, crops are drawn to time the models on, and nothing is scored. With --json FILE a run that was
    interrupted leaves its rows there, and the same command continues it.
    """
    from reid_edge import BenchOptions
    from reid_edge import bench as run_bench
    from reid_edge.api.report import PageOptions, bench_page
    from reid_edge.benchmarks.report import report_table

    page = PageOptions(queries=queries, with_crops=with_crops, activation_maps=activation_maps)
    page.check()
    options = BenchOptions(
        batches=tuple(batch) if batch else BenchOptions.batches,
        min_seconds=seconds,
        threads=threads,
        backends=tuple(backend or ()),
        turns=turns,
        streams=tuple(streams or (1,)),
    )
    if audit:
        options = options_of_audit(options, data, json_file)
    report = run_bench(
        models,
        data,
        options=options,
        distance=distance,
        layout=choices.value_of(layout),
        part=part.value,
        trtexec=trtexec_json or (),
        save=json_file,
    )
    show(report_table(report, details), json_file)
    write_tables(report, csv_file, markdown_file)
    if audit and data and json_file:
        finish_audit(report, data, choices.value_of(layout), part.value, json_file)
    else:
        write_json(json_file, report.to_dict())
    if html:
        say(f"wrote {bench_page(report, html, data=data, layout=choices.value_of(layout), part=part.value, page=page)}")


def inspect_model(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file, written by reid-edge export.")],
    device: Annotated[
        list[choices.Jetson] | None,
        typer.Option(help="Device to estimate for; repeatable. orin-nano if not given.", rich_help_panel=DEVICE),
    ] = None,
    batch: Batch = 1,
    launch_us: Annotated[
        float | None,
        typer.Option(min=0, metavar="US", help="Shortest time of a kernel, in microseconds.", rich_help_panel=DEVICE),
    ] = None,
    backend: Annotated[
        choices.Backend | None,
        typer.Option(help="TensorRT package; the first installed one by default.", rich_help_panel=MODEL),
    ] = None,
    no_kernels: Annotated[
        bool, typer.Option("--no-kernels", help="Build nothing, count no kernels.", rich_help_panel=MODEL)
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Layers to list.", rich_help_panel=OUTPUT)] = 10,
    json_file: Json = None,
) -> None:
    """Show the kernels, multiply-accumulates and bytes of a file, and which layers are bound by what (an estimate)."""
    from reid_edge.api.inspect_model import inspect_model as inspect
    from reid_edge.export.roofline.inspection import cost_table, roofline_table

    found = inspect(
        model,
        devices=[value_of(each) for each in device] if device else ("orin-nano",),
        batch=batch,
        kernels=not no_kernels,
        backend=value_of(backend),
        launch_us=launch_us,
    )
    show(cost_table(found), json_file)
    if found.kernels:
        tell(f"{found.kernels.total} kernels by {found.kernels.builder}", json_file)
    else:
        tell(f"kernels were not counted: {found.no_kernels}", json_file)
    for estimate in found.rooflines:
        show(roofline_table(estimate, top), json_file)
    write_json(json_file, found.to_dict())


def doctor(
    model: Annotated[
        Path | None,
        typer.Option(help="ONNX file or engine to try; a small built-in model by default.", rich_help_panel=MODEL),
    ] = None,
    no_self_test: Annotated[
        bool, typer.Option("--no-self-test", help="Only look: run no engine.", rich_help_panel=MODEL)
    ] = False,
    json_file: Json = None,
) -> None:
    """Look at this machine: board, power mode, clocks, memory, GPU and libraries, and run every engine on drawn crops.

    Each finding is ok, a note (optional, or it costs speed) or wrong, with the command that mends it. Exit code 1 if
    something is wrong. Nothing is changed.
    """
    from reid_edge.api.doctor.run import doctor as examine
    from reid_edge.api.doctor.table import doctor_lines, doctor_table

    report = examine(model, self_test=not no_self_test)
    show(doctor_table(report), json_file)
    for line in doctor_lines(report):
        tell(line, json_file)
    write_json(json_file, report.to_dict())
    if report.wrong:
        parts = ", ".join(dict.fromkeys(finding.part for finding in report.wrong))
        raise GateError(f"something is wrong with {parts}: the report names the commands that mend it")
