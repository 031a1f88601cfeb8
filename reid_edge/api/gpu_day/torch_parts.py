"""What torch measures: the peaks of the GPU, and the files' graphs with CUDA graphs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.files import write_text
from reid_edge.errors import ReidEdgeError

from .files import FOLDER, files_in, least_ms
from .gpus import require_onnx, torch_device
from .parts import DayOptions, DayRow

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["graphs", "peak_rows", "peaks", "timed_ms"]

_PEAKS = "peak.json"
_SIZE = {"cuda": 8192, "cpu": 512}
_COPIED = {"cuda": 1 << 30, "cpu": 1 << 24}
_ROUND = 10


def peaks(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row a precision: the best rate of a square matrix product, and of a copy (read and written bytes), measured.

    FP32 is FP32: without TF32, as in the engines. INT8's rate is torch's integer product, where it has one.
    """
    device = torch_device(options.device)

    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.empty(_COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_ms = timed_ms(lambda: target.copy_(source), device, options.seconds)
    gb_per_s = 2 * source.numel() / copy_ms / 1e6
    rows: list[DayRow] = []
    for precision, kind in (("fp32", torch.float32), ("fp16", torch.float16), ("int8", torch.int8)):
        try:
            tflops = _product_tflops(kind, device, options.seconds)
        except (RuntimeError, NotImplementedError) as error:
            yield {"precision": precision, "cannot_multiply": str(error).splitlines()[0][:200]}
            continue
        rows.append({"precision": precision, "tflops": float(f"{tflops:.4g}"), "gb_per_s": float(f"{gb_per_s:.4g}")})
        yield rows[-1]
    write_text(folder / _PEAKS, json.dumps(rows, indent=1) + "\n")


def peak_rows(folder: Path) -> dict[str, DayRow]:
    """The rows of the part "peak" by precision; none where it did not end."""
    try:
        rows = json.loads((folder / _PEAKS).read_text(encoding="utf-8"))
        return {row["precision"]: row for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def graphs(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row for each file and batch: milliseconds a batch on the device, and the roofline's.

    On a GPU the operators are captured in a CUDA graph and replayed, so that launching them from Python costs nothing;
    crops are on the device already.
    """
    device = torch_device(options.device)
    require_onnx()

    import torch

    from reid_edge.export.graph.io import read_graph

    from .torch_graph import torch_forward

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    found = peak_rows(folder)
    for row in files_in(folder):
        try:
            forward = torch_forward(read_graph(folder / FOLDER / row["file"])[0], device)
        except ReidEdgeError as error:
            yield {"file": row["file"], "refused": str(error)}
            continue
        for batch in options.batches:
            images = torch.randint(0, 256, (batch, *options.input_hw, 3), dtype=torch.uint8, device=device)
            with torch.inference_mode():
                run = _replayed(forward, images) if device.type == "cuda" else lambda: forward(images)  # noqa: B023
                measured = timed_ms(run, device, options.seconds)
            least = least_ms(row, batch, found.get(row["precision"]))
            yield {**_named(row), "batch": batch, "ms": round(measured, 4), "roofline_ms": least}


def timed_ms(run: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """The median time of ``run`` over ``seconds``, in ms; on a GPU by its own clock, ten runs between two readings."""
    for _ in range(3):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        if device.type == "cuda":
            first, last = _clock(), _clock()
            first.record()
            for _ in range(_ROUND):
                run()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last) / _ROUND)
        else:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def _replayed(forward: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Any]:
    """``forward`` of ``images`` as a CUDA graph: captured after a warm-up on a side stream, as torch's notes ask."""
    import torch

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            forward(images)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        captured.kept = forward(images)  # type: ignore[attr-defined]  # its memory is the graph's
    return captured.replay


def _clock() -> torch.cuda.Event:
    import torch

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _named(row: DayRow) -> DayRow:
    return {name: row[name] for name in ("arch", "form", "precision")}


def _product_tflops(kind: torch.dtype, device: torch.device, seconds: float) -> float:
    """The rate of a square matrix product, in TFLOP/s (two operations a multiply-accumulate)."""
    import torch

    size = _SIZE[device.type]
    if kind == torch.int8:
        left, right = (torch.randint(-100, 100, (size, size), dtype=kind, device=device) for _ in range(2))
        run: Callable[[], Any] = lambda: torch._int_mm(left, right)  # noqa: E731
    else:
        left, right = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
        run = lambda: left @ right  # noqa: E731
    return 2 * size**3 / timed_ms(run, device, seconds) / 1e9
