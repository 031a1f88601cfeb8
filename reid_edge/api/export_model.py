"""A trained model to ONNX files, TensorRT engines and files for other programs, each checked before it has its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.files import require_file
from reid_edge.core.names import did_you_mean
from reid_edge.core.progress import phase
from reid_edge.data.images import check_method
from reid_edge.errors import InputError
from reid_edge.training.models.names import check_architecture

from .models import is_checkpoint

if TYPE_CHECKING:
    from reid_edge.card import ModelCard
    from reid_edge.data.datasets import Dataset
    from reid_edge.export.engines.options import EngineOptions
    from reid_edge.export.handover.programs import HandOver
    from reid_edge.export.int8.plan import Int8Options
    from reid_edge.export.parity.crops import ParityCrops
    from reid_edge.export.parity.limits import Checks
    from reid_edge.export.plan import ExportPlan
    from reid_edge.export.report import ExportReport
    from reid_edge.export.source import ExportSource
    from reid_edge.scoring.test_set import TestSet
    from reid_edge.training.models.reid_model import ReidModel

__all__ = ["export_model", "torch_source"]


def export_model(
    model: Path | str | tuple[ReidModel, ModelCard],
    out: Path | str,
    *,
    precisions: Sequence[str] = ("fp32",),
    arch: str | None = None,
    name: str | None = None,
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    resize: str | None = None,
    input_format: str | None = None,
    optimize_for: str = "auto",
    int8: Int8Options | None = None,
    engine: EngineOptions | None = None,
    checks: Checks | None = None,
    hand_over: HandOver | str | None = None,
    sensitivity: str | None = None,
    threads: int | None = None,
) -> ExportReport:
    """Write ``NAME_PRECISION.onnx`` into the folder ``out`` for each of ``precisions``, each checked first.

    ``model`` is a checkpoint, a foreign ``.pth`` with its ``arch``, a (model, card) pair in memory, or an FP32 ONNX
    file of reid-edge, for which PyTorch is not needed and which counts as the "fp32" of ``precisions``. ``name`` is the
    stem of file names (None: the architecture's name).

    ``data``, with its ``layout``, is the data set that files are compared and scored on (None: drawn crops, no scores);
    ``resize`` replaces the card's; ``input_format`` is "nhwc-uint8" or "nchw-float" (None: what ``hand_over`` needs).
    ``optimize_for`` is the form of FP16 and INT8 files: "gpu" or "gpu-latency" merge OSNet's streams for tensor cores,
    "cpu" and "none" leave the graph as trained, and "auto" takes the fastest where engines are built on a GPU, else as
    trained.
    ``int8`` says how INT8 is made, ``checks`` how strictly files are judged. With ``engine``, TensorRT engines are
    built, and verified where there is a GPU. ``hand_over`` is another program to write files for: "deepstream",
    "triton" or "trtexec", or a `HandOver` with its batches. ``sensitivity`` ("layer" or "block") measures what each
    loses in INT8. ``threads`` bounds the CPU threads of ONNX Runtime.

    A refused file or engine is a row of the report and does not stop the others; `ExportReport.raise_if_refused` makes
    a GateError of it. Raises InputError for bad use, DatasetError and ModelError for data and models that cannot be
    used; what can be known to fail is refused before any work.

    ::

        report = export_model(
            "runs/osnet/model.pth",
            "models",
            precisions=("fp32", "fp16", "int8"),
            data="Market-1501",
            int8=Int8Options(calibrate="Market-1501"),
        )
        report.raise_if_refused()

    An ONNX file for DeepStream, without PyTorch:

    >>> report = export_model(model_file, scratch / "models", hand_over="deepstream", name="small")
    >>> report.refused, [path.name for path in (report.files[0].path, *report.handover)]
    ((), ['small_fp32_nchw.onnx', 'small_fp32_nchw_tracker.yml'])
    """
    path = None if isinstance(model, tuple) else require_file(model, "a model")
    is_onnx = path is not None and not is_checkpoint(path)
    if is_onnx and (arch or resize):
        raise InputError("an ONNX file of reid-edge names its own: leave --arch (arch=) and --resize (resize=) out")
    plan = _plan(precisions, name, input_format, optimize_for, int8, engine, checks, hand_over, sensitivity, threads)
    plan.check()
    if arch:
        check_architecture(arch)
    if resize:
        check_method(resize)
    name = path.name if path else plan.name or "the model"
    with phase(f"exporting {name}"):
        return _exported(model, Path(out), plan, arch=arch, data=data, layout=layout, resize=resize)


def _exported(
    model: Path | str | tuple[ReidModel, ModelCard],
    out: Path,
    plan: ExportPlan,
    *,
    arch: str | None,
    data: Path | str | Dataset | TestSet | None,
    layout: str | None,
    resize: str | None,
) -> ExportReport:
    """Everything that the ``plan`` asks for, with the data sets open."""
    from reid_edge.engines.ort import import_onnxruntime
    from reid_edge.export.engines.build import builder_for
    from reid_edge.export.graph.merge_streams import FORMS
    from reid_edge.export.pipeline import export_file, export_source
    from reid_edge.export.source import open_data

    if plan.engine:
        builder_for(plan.engine)
    calibrates = plan.sensitivity or "int8" in plan.precisions
    with open_data(
        data,
        layout,
        calibrate=plan.int8.calibrate if calibrates else None,
        calibration_layout=plan.int8.layout,
        crops=plan.checks.crops,
    ) as opened:
        import_onnxruntime()  # which every file is compared in
        if not isinstance(model, tuple) and not is_checkpoint(model):
            return export_file(Path(model), out, plan, opened)
        network, card = model if isinstance(model, tuple) else _loaded(Path(model), arch)
        plan.check_for(card)
        if plan.optimize_for not in FORMS:  # merged streams are layers of the graph alone
            _check_layers(network, plan.int8.named_layers)
        source = torch_source(network, card.with_(resize=resize) if resize else card, opened.crops)
        return export_source(source, out, plan, opened)


def _check_layers(network: ReidModel, keep: Sequence[str]) -> None:
    """Raise InputError for a layer to keep in float that the network has not; writing its graph takes seconds."""
    modules = [name for name, _ in network.named_modules()]
    for name in keep:
        if name not in modules:
            raise InputError(f"this model has no layer {name!r} to keep (--keep, keep=){did_you_mean(name, modules)}")


def torch_source(model: ReidModel, card: ModelCard, crops: ParityCrops) -> ExportSource:
    """A PyTorch model as what files are made of, with its own embeddings as what they must agree with."""
    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.export.source import ExportSource, reference_of
    from reid_edge.training.models.torch_engine import TorchEngine

    images = crops.of(card)
    with phase("writing the graph"):
        graph = onnx_from_model(model, card)
    return ExportSource(graph, card, images, reference_of(TorchEngine(model, card), images))


def _plan(
    precisions: Sequence[str],
    name: str | None,
    input_format: str | None,
    optimize_for: str,
    int8: Int8Options | None,
    engine: EngineOptions | None,
    checks: Checks | None,
    hand_over: HandOver | str | None,
    sensitivity: str | None,
    threads: int | None,
) -> ExportPlan:
    """The options with their defaults; a program decides the input format where none is given."""
    from reid_edge.export.handover.programs import HandOver, chosen_input_format
    from reid_edge.export.int8.plan import Int8Options
    from reid_edge.export.parity.limits import Checks
    from reid_edge.export.plan import ExportPlan

    if isinstance(hand_over, str):
        hand_over = HandOver(program=hand_over, batches=engine.batches) if engine else HandOver(program=hand_over)
    int8 = int8 or Int8Options()
    return ExportPlan(
        precisions=tuple(precisions),
        name=name,
        input_format=chosen_input_format(input_format, hand_over.program if hand_over else None),
        optimize_for=optimize_for,
        int8=replace(int8, threads=int8.threads or threads, keep=_named(int8.keep)),
        engine=engine,
        checks=checks or Checks(),
        hand_over=hand_over,
        sensitivity=sensitivity,
        threads=threads,
    )


def _named(keep: Sequence[str] | None) -> tuple[str, ...] | None:
    """The layers to keep in float, with the names in files of ``sensitivity``; None for the default."""
    from reid_edge.export.int8.sensitivity_report import keep_from_json

    if keep is None:
        return None
    if "none" in keep and len(keep) > 1:
        raise InputError("--keep none (keep=) keeps no layer: leave it out, or the others")
    lists = [keep_from_json(name) if name.endswith(".json") else [name] for name in keep if name != "none"]
    return tuple(one for some in lists for one in some)


def _loaded(path: Path, arch: str | None) -> tuple[ReidModel, ModelCard]:
    with phase("loading PyTorch and the model"):
        from reid_edge.training.models.checkpoint import load_model

        return load_model(path, arch)
