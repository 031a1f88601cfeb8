"""`reid-edge export`: a model to files and engines that agree with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .parts import choices
from .parts.choices import value_of
from .parts.console import show, tell, write_json
from .parts.options import CHECKS, MOST_SEED, Arch, Gates, Json, Layout, Resize, ScoredData, Threads, writable_folder

if TYPE_CHECKING:
    from reid_edge.export.engines.options import EngineOptions
    from reid_edge.export.report import ExportReport

__all__ = ["EXAMPLES", "export"]

EXAMPLES = "export runs/osnet/model.pth --out models --fp16 --int8 --calibrate Market-1501 --data Market-1501"

WRITTEN = "What to write"
INT8 = "INT8"
ENGINE = "TensorRT engine"


def export(
    model_file: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A checkpoint, a torchreid or torchvision .pth, or an exported FP32 .onnx."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            callback=writable_folder,
            help="Folder for NAME_fp32.onnx, NAME_fp16.onnx, NAME_int8.onnx.",
            rich_help_panel=WRITTEN,
        ),
    ] = Path(),
    name: Annotated[
        str | None, typer.Option(help="File name stem; the architecture's name by default.", rich_help_panel=WRITTEN)
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Also write the FP16 file.", rich_help_panel=WRITTEN)] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write the INT8 file; needs --calibrate.", rich_help_panel=WRITTEN)
    ] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Also build a TensorRT engine of every file.", rich_help_panel=WRITTEN)
    ] = False,
    program: Annotated[
        choices.Program | None,
        typer.Option("--for", help="Also write the files that this program needs.", rich_help_panel=WRITTEN),
    ] = None,
    input_format: Annotated[
        choices.InputFormat | None,
        typer.Option(
            help="Input of the graph: uint8 [N, H, W, 3], or float32 [N, 3, H, W]; both RGB, 0..255. "
            "nchw-float with --for deepstream, else nhwc-uint8.",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    optimize_for: Annotated[
        choices.OptimizeFor,
        typer.Option(
            help="Form of OSNet's FP16 and INT8 files: streams merged for tensor cores (gpu: fewest "
            "multiply-accumulates, gpu-latency: fewest kernels), or as trained (cpu, none). auto: with --engine on a "
            "GPU the fastest there, else as trained. Files for a CPU, the FP32 one too, stay as trained.",
            rich_help_panel=WRITTEN,
        ),
    ] = choices.OptimizeFor.AUTO,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Data set whose training crops give the activation ranges; not needed after train --qat.",
            rich_help_panel=INT8,
        ),
    ] = None,
    for_runtime: Annotated[
        choices.Runtime,
        typer.Option(help="Runtime of the INT8 file; the two need different files.", rich_help_panel=INT8),
    ] = choices.Runtime.TENSORRT,
    method: Annotated[
        choices.Method, typer.Option(help="How activation ranges are chosen.", rich_help_panel=INT8)
    ] = choices.Method.MSE,
    calibration_crops: Annotated[
        int, typer.Option(min=1, help="How many training crops calibrate.", rich_help_panel=INT8)
    ] = 512,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the choice of calibration crops.", rich_help_panel=INT8)
    ] = 0,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="Layer or block to keep in float, a file that --sensitivity wrote, default (depthwise convolutions "
            "and gates) or none; repeatable. Without it they are searched.",
            rich_help_panel=INT8,
        ),
    ] = None,
    unquantized: Annotated[
        choices.Unquantized,
        typer.Option(help="Precision of layers left unquantised in the file for TensorRT.", rich_help_panel=INT8),
    ] = choices.Unquantized.FP16,
    quantize_residuals: Annotated[
        bool,
        typer.Option("--quantize-residuals", help="Also round the skip input of residual adds.", rich_help_panel=INT8),
    ] = False,
    sensitivity: Annotated[
        choices.SensitivityBy | None,
        typer.Option(help="Measure the accuracy that each layer or block loses in INT8.", rich_help_panel=INT8),
    ] = None,
    data: ScoredData = None,
    gate: Gates = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Keep an INT8 file for the CPU that is slower than FP32, and an INT8 engine slower than the FP16 one; "
            "rebuild engines that are up to date.",
            rich_help_panel=CHECKS,
        ),
    ] = False,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Batches of the engines, and of the files for --for; repeatable. [default: 1:16:64]",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    backend: Annotated[
        choices.Backend | None,
        typer.Option(help="TensorRT package; the first installed one by default.", rich_help_panel=ENGINE),
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, metavar="MIB", help="Scratch memory of an engine.", rich_help_panel=ENGINE)
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File of kernel timings that makes the next build quick.", rich_help_panel=ENGINE),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Engine that newer TensorRTs run too, slower.", rich_help_panel=ENGINE
        ),
    ] = False,
    dla: Annotated[
        int | None, typer.Option(min=0, help="Core of the deep-learning accelerator to use.", rich_help_panel=ENGINE)
    ] = None,
    arch: Arch = None,
    resize: Resize = None,
    layout: Layout = None,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Write self-describing ONNX files, each only after its embeddings agree with those of the model in FP32."""
    from reid_edge.api.export_model import export_model
    from reid_edge.engines.lanes.profiles import whole
    from reid_edge.export.engines.options import parse_profile
    from reid_edge.export.handover.programs import HandOver
    from reid_edge.export.int8.plan import Int8Options
    from reid_edge.export.parity.limits import Checks, parse_gates

    profiles = tuple(parse_profile(one) for one in profile or ["1:16:64"])
    quantizing = Int8Options(
        calibrate=calibrate,
        layout=value_of(layout),
        count=calibration_crops,
        seed=seed,
        method=value_of(method),
        keep=tuple(keep) if keep else None,
        for_runtime=value_of(for_runtime),
        unquantized=value_of(unquantized),
        quantize_residuals=quantize_residuals,
    )
    report = export_model(
        model_file,
        out,
        precisions=("fp32", *(["fp16"] if fp16 else []), *(["int8"] if int8 else [])),
        arch=arch,
        name=name,
        data=data,
        layout=value_of(layout),
        resize=value_of(resize),
        input_format=value_of(input_format),
        optimize_for=value_of(optimize_for),
        int8=quantizing,
        engine=_engine(profiles, backend, workspace, timing_cache, version_compatible, dla, force) if engine else None,
        checks=Checks(gates=parse_gates(gate or []), force=force),
        hand_over=HandOver(program=value_of(program), batches=whole(profiles)) if program else None,
        sensitivity=value_of(sensitivity),
        threads=threads,
    )
    _show(report)
    write_json(json_file, report.to_dict())
    report.raise_if_refused()


def _engine(
    profiles: tuple[tuple[int, int, int], ...],
    backend: choices.Backend | None,
    workspace: int | None,
    timing_cache: Path | None,
    version_compatible: bool,
    dla: int | None,
    force: bool,
) -> EngineOptions:
    """The options of the engine's panel."""
    from reid_edge.export.engines.options import EngineOptions

    return EngineOptions(
        backend=value_of(backend),
        profiles=profiles,
        workspace_mib=workspace,
        version_compatible=version_compatible,
        dla=dla,
        timing_cache=timing_cache,
        force=force,
    )


def _show(report: ExportReport) -> None:
    """The tables of an export, and what to do with the files for other programs."""
    from reid_edge.export.tables import built_table, exported_table, scores_table, search_table, verified_table

    if report.files:
        show(exported_table(report.files))
    if any(file.metrics for file in report.files):
        show(scores_table(report.files))
    for file in report.files:
        if file.int8 and len(file.int8.trials) > 1:
            show(search_table(file, file.int8))
        if file.int8 and not file.refused:
            tell(f"{file.path.name}: {file.int8.summary()}")
        if file.note:
            tell(f"{file.path.name}: {file.note}")
    if report.engines:
        show(built_table(report.engines))
    if report.verified:
        show(verified_table(report.verified))
    for path in report.handover:
        tell(f"wrote {path}")
