"""The whole pipeline on drawn people, from crops to one page."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.files import write_text
from reid_edge.data.opencv import import_opencv
from reid_edge.errors import GateError, InputError, MissingExtraError, Stopped
from reid_edge.training.models.names import check_architecture

if TYPE_CHECKING:
    from rich.table import Table

    from reid_edge.api.demo.page import DemoReport
    from reid_edge.data.datasets import Dataset
    from reid_edge.export.report import ExportReport
    from reid_edge.scoring.evaluation import Evaluation
    from reid_edge.scoring.test_set import TestSet
    from reid_edge.training.history import EpochReport
    from reid_edge.training.recipe.config import TrainConfig

__all__ = ["GAIN_POINTS", "advise_demo", "demo_config", "run_demo"]

logger = logging.getLogger(__name__)

GAIN_POINTS = 30.0
"""The trained model must beat the untrained one by this many points of rank-1, or the demonstration fails."""

_ARCH = "mobilenetv3_large"
_EPOCHS = 16
_INPUT_HW = (128, 64)
# For two minutes from random weights: no erasing, half the padding for half the height and width, and no triplet loss.
# Batch-hard triplets pull a network that tells nobody apart yet to one point (Hermans et al., 2017): their loss stays
# above its margin, and the few crops that stay away have features 30 times as large, which INT8 cannot hold beside the
# others (docs/measurements/models.md).
_SHORT_RUN: dict[str, Any] = {"erase": 0.0, "pad": 5, "triplet_weight": 0.0}
_QUERIES_SHOWN = 5


def run_demo(
    out: Path,
    *,
    arch: str = _ARCH,
    epochs: int | None = None,
    seed: int = 0,
    program: str = "reid-edge",
    show: Callable[[Any], None] = print,
) -> Path:
    """Draw people, train, export, evaluate, benchmark and rank; write every file to ``out``, and return the page.

    The crops are drawn at 128 x 64 pixels and the network takes that size, which is four times faster than 256 x 128
    and enough for drawn people. A finished training is not repeated. ``show`` prints the tables, ``program`` is how the
    reader of the page starts reid-edge.

    Raises ModelError for an unknown ``arch``, InputError for an ``out`` that holds another demonstration, and
    MissingExtraError, all before any work; Stopped on SIGTERM and ctrl-C in training, with which the same call goes on;
    GateError when an FP32 or FP16 file differs from PyTorch (INT8 has as many layers in float as its gate needs, and is
    refused where half in INT8 would not pass) and, with the page written, when training gained fewer than `GAIN_POINTS`
    points of rank-1.
    """
    check_architecture(arch)
    config = demo_config(arch, epochs or _EPOCHS, seed)
    _require_same(out, config)
    _require_installed()
    began = time.perf_counter()
    logger.info("1/5 drawing people")
    from reid_edge.benchmarks.options import BenchOptions
    from reid_edge.benchmarks.ranked_lists import rank_by_protocol
    from reid_edge.benchmarks.run import bench
    from reid_edge.data.synthetic.dataset import synthesize
    from reid_edge.scoring.test_set import TestSet

    from .page import DemoReport
    from reid_edge.api.evaluate import evaluate

    with TestSet.open(synthesize(out / "people", seed=seed)) as data:
        logger.info("2/5 training %s (%dx%d input) from random weights", arch, *_INPUT_HW)
        with advise_demo(out, arch, epochs, seed, program):
            untrained, history = _train(out / "run", data.dataset, config)
        logger.info("3/5 exporting FP32, FP16 and INT8, each compared with PyTorch")
        export = _export(out, data)
        logger.info("4/5 evaluating, benchmarking and ranking")
        files = [file.path for file in export.files if not file.refused]
        query = data.dataset.split.query
        report = DemoReport(
            arch=arch,
            seed=seed,
            dataset=data.dataset,
            untrained=untrained,
            trained=evaluate(files[0], data, progress=True),
            history=history,
            export=export,
            bench=bench(files, data, options=BenchOptions(batches=(1, 8), min_seconds=0.5, turns=1)),
            rankings=rank_by_protocol(files[0], data.dataset, query[:: -(-len(query) // _QUERIES_SHOWN)]),
            seconds=time.perf_counter() - began,
        )
    return _finish(report, out, program, show)


def demo_config(arch: str, epochs: int, seed: int) -> TrainConfig:
    """The settings of the demonstration's training."""
    from reid_edge.api.train_plan import training_config

    return training_config(arch=arch, epochs=epochs, settings={"seed": seed, "input_hw": _INPUT_HW, **_SHORT_RUN})


def _require_same(out: Path, config: TrainConfig) -> None:
    """Raise InputError where ``out`` holds a run with other settings: it would be shown as this one."""
    from reid_edge.training.run_record import read_record

    record = read_record(out / "run")
    if record is not None and record.config != config:
        own = record.config
        raise InputError(
            f"{out} holds a demonstration with --arch {own.arch} --epochs {own.epochs} --seed {own.seed}: "
            "give the same options, or another --out"
        )


def _require_installed() -> None:
    """Raise MissingExtraError for what training and export need: people are not drawn for nothing."""
    for module, purpose in (("torch", "training"), ("torchvision", "training"), ("onnx", "writing ONNX files")):
        if find_spec(module) is None:
            raise MissingExtraError(module, purpose)
    import_opencv()


@contextmanager
def advise_demo(out: Path, arch: str, epochs: int | None, seed: int, program: str) -> Iterator[None]:
    """A training that is stopped here goes on with the demonstration's own command."""
    try:
        yield
    except Stopped as stopped:
        options = ("arch", arch, _ARCH), ("epochs", epochs, None), ("seed", seed, 0)
        changed = "".join(f" --{name} {value}" for name, value, usual in options if value != usual)
        command = f"{program} demo --out {shlex.quote(str(out))}{changed}"
        raise Stopped(f"stopped while training, all saved: go on with  {command}", stopped.exit_code - 128) from None


def _train(folder: Path, dataset: Dataset, config: TrainConfig) -> tuple[Evaluation, tuple[EpochReport, ...]]:
    """The untrained network's scores, and the history of the run in ``folder``, now finished."""
    from reid_edge.training.history import read_history
    from reid_edge.training.options import RunOptions
    from reid_edge.training.run_folder import HISTORY_NAME, MODEL_NAME

    from reid_edge.api.train_model import train_model

    untrained = _untrained(config, dataset)
    metrics = untrained.metrics
    logger.info("before training: rank-1 %.1f, mAP %.1f", 100 * metrics.rank(1), 100 * metrics.mAP)
    if not (folder / MODEL_NAME).exists():
        run = RunOptions(resume=True, eval_every=max(1, config.epochs // 4))
        train_model(dataset, folder, config=config, run=run)
    return untrained, read_history(folder / HISTORY_NAME)


def _untrained(config: TrainConfig, dataset: Dataset) -> Evaluation:
    """The scores of the network as training begins: random weights of the seed."""
    from reid_edge.scoring.evaluation import evaluate
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.torch_engine import TorchEngine
    from reid_edge.training.trainer import Trainer

    network = Trainer(config, identities=2).model.eval()
    with TorchEngine(network, card_of(network, input_hw=config.input_hw, resize=config.resize)) as engine:
        return evaluate(engine, dataset, progress=True)


def _export(out: Path, data: TestSet) -> ExportReport:
    """The files of every precision; only INT8 may be refused."""
    from reid_edge.export.int8.plan import Int8Options
    from reid_edge.training.run_folder import MODEL_NAME

    from reid_edge.api.export_model import export_model

    report = export_model(
        out / "run" / MODEL_NAME,
        out / "models",
        precisions=("fp32", "fp16", "int8"),
        data=data,
        int8=Int8Options(calibrate=data.dataset.root),
    )
    for file in report.files:
        if file.refused and file.precision != "int8":
            raise file.refused
        if file.int8 and not file.refused:
            logger.info("%s: %s", file.path.name, file.int8.summary())
        if file.refused:
            logger.info("refused and not written, %s: %s", file.path, file.refused)
    return report


def _finish(report: DemoReport, out: Path, program: str, show: Callable[[Any], None]) -> Path:
    """Print the tables, write ``demo.json`` and the page; raise GateError when training gained too little."""
    from .page import write_demo_page

    show(_speeds(report))
    show(_scores(report))
    for warning in report.bench.warnings:
        logger.warning("%s", warning)
    logger.info("5/5 writing the page")
    write_text(out / "demo.json", json.dumps(report.to_dict(), indent=1) + "\n")
    page = write_demo_page(report, out / "index.html", program)
    gained = f"training gained {report.gain_points:.1f} points of rank-1"
    if report.gain_points < GAIN_POINTS:
        raise GateError(f"{gained}, under {GAIN_POINTS:g}: give more --epochs")
    logger.info("%s; this run took %.0f s", gained, report.seconds)
    logger.info("scores move by a few points with seed, threads and processor: here %s", report.conditions)
    return page


def _scores(report: DemoReport) -> Table:
    table = _table("drawn people, none of them trained on", ("model", "rank-1", "rank-5", "mAP", "mINP"))
    for name, result in (("untrained", report.untrained), ("trained, exported", report.trained)):
        metrics = result.metrics
        figures = (metrics.rank(1), metrics.rank(5), metrics.mAP, metrics.mINP)
        table.add_row(name, *(f"{100 * value:.1f}" for value in figures))
    return table


def _speeds(report: DemoReport) -> Table:
    from reid_edge.benchmarks.html.models import BENCH_TITLES, bench_cells

    table = _table(f"{report.arch}: a batch, from files to embeddings", BENCH_TITLES[1:])
    for row in report.bench.rows:
        table.add_row(*bench_cells(row)[1:])
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right", no_wrap=True)
    return table
