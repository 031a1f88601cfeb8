"""One measurement in its own process, so that the peak memory is of this measurement alone.

``in_child`` starts ``python -m reid_edge.benchmarks.worker``, a fresh interpreter and not a fork; the job goes in as
JSON on standard input, with the parent's process id, as a child whose parent was killed ends by itself. Each line of
standard output is JSON: ``{"share": X, "note": text}`` while it measures, and at its end the reply, ``{"result": ...}``
or ``{"error": message, "kind": class name}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import IO, Any

from reid_edge import errors
from reid_edge.core.threads import THREAD_VARIABLES, usable_cores

from .latency import OnProgress, measure_turn
from .timing.rates import measure_rates

__all__ = ["in_child", "main"]

_BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def in_child(
    job: Mapping[str, Any],
    what: str,
    blas_threads: int | None = None,
    on_progress: OnProgress = lambda share, note: None,
) -> Any:
    """Run ``job`` (``{"do": name, ...arguments}``) in a child process and return its result.

    An error of `reid_edge.errors` in the child is raised here too, with the same class; any other end of the child is a
    ReidEdgeError that names ``what`` was being done. ``on_progress`` gets what `measure_turn` says meanwhile.
    """
    environment = dict.fromkeys(THREAD_VARIABLES, str(usable_cores())) | os.environ
    if blas_threads is not None:
        environment |= dict.fromkeys(_BLAS_THREADS, str(blas_threads))
    with _started(json.dumps({**job, "parent": os.getpid()}), environment) as (child, complaints):
        reply: dict[str, Any] = {}
        for line in child.stdout or ():
            reply = json.loads(line)
            if "share" in reply:
                on_progress(reply["share"], reply["note"])
        child.wait()
        complaints.seek(0)
        if "error" in reply:
            raise getattr(errors, reply["kind"])(reply["error"])
        if "result" not in reply:
            raise errors.ReidEdgeError(_death(child.returncode, complaints.read(), what))
        return reply["result"]


@contextlib.contextmanager
def _started(job: str, environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The child, which has its job and is killed when the block raises, and a file of what it complains about."""
    command = [sys.executable, "-m", __name__]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        ) as child,
    ):
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(job)
            yield child, complaints
        except BaseException:
            child.kill()
            raise


def main() -> int:
    """Do the job on standard input, print the reply and return the exit code."""
    job = json.load(sys.stdin)
    threading.Thread(target=_end_without, args=(job.pop("parent"),), daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as parent:
        os.dup2(2, 1)  # what libraries print, from C too, is not the reply

        def say(share: float, note: str) -> None:
            print(json.dumps({"share": share, "note": note}), file=parent, flush=True)

        reply = _reply(job, say)
        print(json.dumps(reply), file=parent)
    return 1 if "error" in reply else 0


def _end_without(parent: int) -> None:
    """End this process soon after its parent, also where that was killed: nobody waits for the measurement."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _reply(job: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    try:
        return {"result": _do(on_progress, **job)}
    except errors.ReidEdgeError as error:
        kind = type(error).__name__ if isinstance(error, errors.InputError) else "ReidEdgeError"
        return {"error": str(error), "kind": kind}


def _do(on_progress: OnProgress, do: str, **arguments: Any) -> Any:
    if do == "latency":
        return asdict(measure_turn(**arguments, on_progress=on_progress))
    assert do == "rates", do
    return measure_rates(**arguments)


def _death(code: int, complaints: str, what: str) -> str:
    """One line about a child that ended without a reply."""
    if code < 0:
        killed = f"the process was killed by signal {-code}"
        return f"{what}: {killed}: out of memory? try a smaller --batch (batches=)"
    last = (complaints.strip().splitlines() or ["no message"])[-1]
    return f"{what} failed with exit code {code} ({last}): try  reid-edge eval  on the same model"


if __name__ == "__main__":
    sys.exit(main())
