"""One measurement in a process of its own, so that its peak memory is its own.

``in_child`` starts ``python -m reid_edge.benchmarks.worker``, a fresh interpreter and not a fork; the job goes in as
JSON on standard input, the answer comes out as the last line of standard output: ``{"result": ...}``, or
``{"error": message, "kind": class name}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reid_edge import errors

from .latency import measure_latency, sgemm_gflops

__all__ = ["in_child", "main"]

_BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def in_child(job: Mapping[str, Any], what: str, blas_threads: int | None = None) -> Any:
    """Run ``job`` (``{"do": name, ...arguments}``) in a child process and return its result.

    An error the child raised on purpose is raised here again, of the same class; any other end of the child is a
    ReidEdgeError that names ``what`` was being done.
    """
    environment = dict(os.environ)
    if blas_threads is not None:
        environment |= dict.fromkeys(_BLAS_THREADS, str(blas_threads))
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(job), capture_output=True, text=True, env=environment
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise errors.ReidEdgeError(_death(done, what)) from None
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    return answer["result"]


def main() -> int:
    """Do the job on standard input, print the answer and return the exit code."""
    job = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints is not our answer
        answer = _answer(job)
    print(json.dumps(answer))
    return 1 if "error" in answer else 0


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": _do(**job)}
    except errors.ReidEdgeError as error:
        kind = type(error).__name__ if isinstance(error, errors.InputError) else "ReidEdgeError"
        return {"error": str(error), "kind": kind}


def _do(do: str, **arguments: Any) -> Any:
    if do == "latency":
        return asdict(measure_latency(**arguments))
    assert do == "sgemm", do
    return sgemm_gflops(**arguments)


def _death(done: subprocess.CompletedProcess[str], what: str) -> str:
    """One line on a child that died without an answer."""
    if done.returncode < 0:
        return f"{what}: the process was killed by signal {-done.returncode}: out of memory? try a smaller --batch"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"{what} failed with exit code {done.returncode} ({last}): try  reid-edge eval  on the same model"


if __name__ == "__main__":
    sys.exit(main())
