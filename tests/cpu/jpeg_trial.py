"""Crops a second from JPEG files on one core: reid-edge beside ONNX Runtime and OpenCV called by hand.

    python -m cpu.jpeg_trial FOLDER --json jpeg.json        # FOLDER has .jpg crops; models get random weights

The ways take turns within a round, on the same files, in one process that is bound to one core; a ratio is taken within
a round. "by hand" is what a careful engineer writes in ten lines: `cv2.imread`, `cv2.resize`, one array, `session.run`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from reid_edge.core.progress import track
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.ort import import_onnxruntime
from reid_edge.engines.registry import open_engine

MODELS = ("osnet_x0_25", "mobilenetv3_large", "resnet50_bot")
BATCHES = (1, 8, 32)
Way = Callable[[Sequence[Path]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each way in each round")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.jpg"))[:256]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        cases = [(name, batch) for name in given.models for batch in BATCHES]
        models = {name: random_model(name, Path(folder)) for name in given.models}
        ways = {name: open_ways(path, stack) for name, path in models.items()}
        for name, batch in track(cases, "timing"):
            speeds = in_turns(ways[name], files, batch, given.rounds, given.seconds)
            rows.append({"model": name, "batch": batch, "crops_per_s": speeds})
    given.json.write_text(json.dumps({"files": len(files), "rounds": given.rounds, "rows": rows}, indent=1) + "\n")


def random_model(name: str, folder: Path) -> Path:
    """A model with random weights as an FP32 file: its speed is that of a trained one."""
    import torch

    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.export.graph.io import write_onnx
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    model = build_model(name)
    card = card_of(model, input_hw=(256, 128))
    write_onnx(onnx_from_model(model, card), card, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def open_ways(path: Path, stack: ExitStack) -> dict[str, Way]:
    """Every way to the embeddings of some files, with one thread; bf16 where the CPU has it."""
    import openvino

    ours = stack.enter_context(Embedder(path, threads=1))
    ways: dict[str, Way] = {"by hand": by_hand(path), "reid-edge": ours.embed}
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        engine = stack.enter_context(open_engine(path, backend="openvino:bf16", threads=1))
        ways["reid-edge, OpenVINO bf16"] = Embedder(engine).embed
    return ways


def by_hand(path: Path) -> Way:
    """ONNX Runtime and OpenCV, without this package."""
    import cv2

    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    cv2.setNumThreads(1)

    def embed(files: Sequence[Path]) -> object:
        crops = [cv2.resize(cv2.imread(str(file)), (128, 256))[..., ::-1] for file in files]
        return session.run(None, {"images": np.stack(crops)})[0]

    return embed


def in_turns(
    ways: dict[str, Way], files: Sequence[Path], batch: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Crops a second of each way in each round, after one round that warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            speed = _speed(ways[name], files, batch, seconds)
            if number:
                found[name].append(speed)
    return found


def _speed(way: Way, files: Sequence[Path], batch: int, seconds: float) -> float:
    """Crops a second; batches walk over the files in a circle."""
    done, began, spent = 0, time.perf_counter(), 0.0
    while spent < seconds:
        way([files[(done + one) % len(files)] for one in range(batch)])
        done += batch
        spent = time.perf_counter() - began
    return done / spent


if __name__ == "__main__":
    main()
