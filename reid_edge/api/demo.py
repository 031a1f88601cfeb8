"""The main job on the built-in people, from drawn crops to a benchmark table and a picture of a ranked list."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GateError
from .files import written_whole

if TYPE_CHECKING:
    from rich.table import Table

    from .evaluation import Evaluation

__all__ = ["GAIN_POINTS", "run_demo"]

GAIN_POINTS = 30.0
"""The trained model must beat the untrained one by this many points of rank-1, or the demonstration fails."""

_EPOCHS = 16
_INPUT_HW = (128, 64)
# Two minutes from random weights: no erasing, and half the padding for half the pixels.
_SHORT_RUN: dict[str, Any] = {"erase": 0.0, "pad": 5}
_QUERIES_DRAWN = 5


def run_demo(
    out: Path,
    *,
    model: str = "mobilenetv3_large",
    epochs: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
    show: Callable[[Any], None] = print,
) -> None:
    """Draw people, train, export, evaluate, benchmark and rank; everything lands in ``out``.

    The crops are drawn at 128 x 64 pixels and the network reads them so, which is four times quicker than 256 x 128 and
    enough for drawn people. A finished demonstration is repeated from its files. Raises GateError when training gained
    fewer than `GAIN_POINTS` points of rank-1, or an export differs from PyTorch.
    """
    from .benchmarks.report import report_table
    from .benchmarks.run import bench
    from .synthetic import synthesize

    began = time.perf_counter()
    say("1/5 drawing people")
    people = synthesize(out / "people", seed=seed)
    say(f"2/5 training {model} ({_INPUT_HW[0]}x{_INPUT_HW[1]} input) from random weights")
    untrained, trained = _train(out, people, model, epochs or _EPOCHS, seed, say)
    say("3/5 exporting FP32 and FP16, each compared with PyTorch")
    files = _export(trained, out / "models", people)
    say("4/5 evaluating and benchmarking")
    report = bench(files, people, (1, 8), min_seconds=0.5)
    exported = _evaluate_onnx(files[0], people)
    say("5/5 ranking")
    picture = _rank(people, files[0], out / "ranked.png")
    show(report_table(report))
    show(_summary(untrained, exported))
    say(f"crops in {people}, models in {out / 'models'}, ranked lists in {picture}")
    _finish(out, untrained, exported, report.to_dict(), time.perf_counter() - began, say)


def _train(
    out: Path, people: Path, model: str, epochs: int, seed: int, say: Callable[[str], None]
) -> tuple[Evaluation, Path]:
    """The untrained network's score, and the trained model's file."""
    from dataclasses import replace

    from .datasets import open_dataset
    from .evaluation import evaluate
    from .training.checkpoint import card_of
    from .training.inference import TorchEngine
    from .training.loop import MODEL_NAME, train
    from .training.recipes import recipe_for
    from .training.run import Run

    dataset = open_dataset(people)
    config = replace(recipe_for(model, epochs), seed=seed, input_hw=_INPUT_HW, **_SHORT_RUN)
    fresh = Run(config, people=2).model.eval()
    card = card_of(fresh, input_hw=config.input_hw, resize=config.resize)
    with TorchEngine(fresh, card) as engine:
        untrained = evaluate(engine, dataset)
    say(f"before training: rank-1 {100 * untrained.metrics.rank(1):.1f}, mAP {100 * untrained.metrics.mAP:.1f}")
    run = out / "run"
    if not (run / MODEL_NAME).exists():
        train(config, dataset, run, resume=True, eval_every=max(1, epochs // 2), say=say)
    return untrained, run / MODEL_NAME


def _export(trained: Path, models: Path, people: Path) -> list[Path]:
    from .export.onnx import export_model, parity_crops
    from .training.checkpoint import load_model

    network, card = load_model(trained)
    exported = export_model(network, card, models, parity_crops(card, people), precisions=("fp32", "fp16"))
    return [file.path for file in exported]


def _evaluate_onnx(model: Path, people: Path) -> Evaluation:
    from .evaluation import evaluate

    return evaluate(model, people)


def _rank(people: Path, model: Path, picture: Path) -> Path:
    from .datasets import crops_in
    from .ranking import draw_ranking, rank_files

    crops = crops_in(people / "query")
    queries = crops[:: max(1, len(crops) // _QUERIES_DRAWN)][:_QUERIES_DRAWN]
    draw_ranking(rank_files(queries, people / "bounding_box_test", model), picture)
    return picture


def _summary(untrained: Evaluation, trained: Evaluation) -> Table:
    from rich.table import Table

    table = Table("model", "rank-1", "rank-5", "mAP", "mINP", title="drawn people, never seen in training")
    for name, result in (("untrained", untrained), ("trained, exported", trained)):
        metrics = result.metrics
        shown = (metrics.rank(1), metrics.rank(5), metrics.mAP, metrics.mINP)
        table.add_row(name, *(f"{100 * value:.1f}" for value in shown))
    return table


def _finish(
    out: Path,
    untrained: Evaluation,
    trained: Evaluation,
    bench: dict[str, Any],
    seconds: float,
    say: Callable[[str], None],
) -> None:
    gain = 100 * (trained.metrics.rank(1) - untrained.metrics.rank(1))
    content = {
        "untrained": untrained.to_dict(),
        "trained": trained.to_dict(),
        "rank1_gain_points": gain,
        "bench": bench,
        "seconds": seconds,
    }
    with written_whole(out / "demo.json") as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if gain < GAIN_POINTS:
        raise GateError(f"training gained {gain:.1f} points of rank-1, under {GAIN_POINTS:g}: give --epochs more")
    say(f"training gained {gain:.1f} points of rank-1; everything took {seconds:.0f} s")
