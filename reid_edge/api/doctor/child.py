"""What is tried in a process of its own: a wheel or a driver that ends it then costs one line of the report.

``python -m reid_edge.api.doctor.child REQUEST`` takes an object of JSON and prints one. ``do`` names a function here,
and the rest is what it takes; the answer is what that returns, or ``error``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reid_edge.core.files import scratch_folder
from reid_edge.errors import DeviceError, ReidEdgeError

__all__ = ["JOBS", "main"]

_RUNS = 20
_BATCH = 8


def main(arguments: Sequence[str]) -> int:
    """Do one job and print its answer."""
    parent = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a library's prints are no answer
        try:
            request = json.loads(arguments[0])
            answer = JOBS[request.pop("do")](**request)
        except ReidEdgeError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        except Exception as error:  # whatever a library raises
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    print(json.dumps(answer), file=parent, flush=True)
    return 0


def providers() -> dict[str, Any]:
    """The execution providers of ONNX Runtime, each with the reason why it runs nothing here."""
    from reid_edge.engines.ort import import_onnxruntime, provider_reports

    reports = [[report.name, report.reason, report.installed] for report in provider_reports()]
    return {"providers": reports, "version": str(import_onnxruntime().__version__)}


def gpu() -> dict[str, Any]:
    """The GPU as an engine's card names it, asked through the CUDA binding that engines use."""
    from reid_edge.engines.cuda import open_cuda

    cuda = open_cuda()
    try:
        facts = cuda.gpu.facts()
    finally:
        cuda.close()
    return {"gpu": f"{facts['name']}, compute capability {facts['compute_capability']}, CUDA {facts['driver']}"}


def draw(model: str, out: str, count: int) -> dict[str, Any]:
    """Draw people and prepare ``count`` crops for a model: drawn, written as JPEG, decoded and resized."""
    import numpy as np

    from reid_edge.data.datasets import crops_in
    from reid_edge.data.images import read_crops
    from reid_edge.data.synthetic.dataset import synthesize

    card = _card(Path(model))
    with scratch_folder() as scratch:
        identities = max(2, count // 4)
        people = synthesize(scratch / "people", identities=1, test_identities=identities, cameras=2, progress=False)
        paths = crops_in(people)
        crops = read_crops([paths[i * len(paths) // count] for i in range(count)], card.input_hw, card.resize)
    np.save(out, crops)
    return {"crops": len(crops), "precision": card.precision}


def embed(
    model: str, crops: str, out: str, backend: str, providers: Sequence[str] | None = None, build: bool = False
) -> dict[str, Any]:
    """Embed the crops through one engine, and time it with one crop and with eight.

    With ``build`` a TensorRT engine is built from ``model`` first, beside ``out``.
    """
    import numpy as np

    from reid_edge.engines.registry import open_engine

    images = np.load(crops)
    path = _built(Path(model), Path(out).parent, backend) if build else Path(model)
    with open_engine(path, backend=None if build else backend, providers=providers) as engine:
        count = min(engine.max_batch, len(images))
        parts = [engine.run(images[at : at + count]) for at in range(0, len(images), count)]
        np.save(out, np.concatenate(parts))
        eight = images[: min(_BATCH, count)]
        alone, many = (_milliseconds(partial(engine.run, batch)) for batch in (images[:1], eight))
        return {"provider": engine.provider, "alone_ms": alone, "each_ms": many / len(eight)}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"providers": providers, "gpu": gpu, "draw": draw, "embed": embed}
"""What a request may ask to ``do``."""


def _card(path: Path) -> Any:
    """The card of a model file, by its suffix."""
    if path.suffix.lower() == ".onnx":
        from reid_edge.engines.onnx_file import checked_file

        with checked_file(path) as file:
            return file.card
    from reid_edge.engines.engine_card import EngineCard

    return EngineCard.read(path).model


def _built(path: Path, folder: Path, backend: str) -> Path:
    """The engine of an ONNX file by the TensorRT called ``backend``; needs the onnx package."""
    from reid_edge.export.engines.build import engine_from_onnx
    from reid_edge.export.engines.options import EngineOptions

    if backend not in ("tensorrt", "tensorrt-rtx"):
        raise DeviceError(f"{backend} builds no engines: give tensorrt or tensorrt-rtx")
    return engine_from_onnx(path, folder, EngineOptions(backend=backend, batches=(1, _BATCH, _BATCH))).path


def _milliseconds(run: Callable[[], object]) -> float:
    """The median of some runs, after one to warm up."""
    run()
    taken = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2] * 1e3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
