"""All that waits for a GPU, part by part, into one JSON file that goes on where it was left."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from datetime import datetime, timezone
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any

from reid_edge import __version__
from reid_edge.benchmarks.machine import describe_machine
from reid_edge.core.files import write_text
from reid_edge.core.names import require_name
from reid_edge.core.progress import phase
from reid_edge.engines.cuda import find_gpu
from reid_edge.errors import InputError

from .child import run_part
from .parts import PARTS, DayOptions

__all__ = ["DAY_NAME", "day_lines", "gpu_day"]

DAY_NAME = "gpu-day.json"
"""The file to keep, or to send."""

logger = logging.getLogger(__name__)

_PACKAGES = "torch onnx onnxruntime onnxruntime-gpu tensorrt tensorrt-rtx-cu13-bindings cuda-bindings pycuda".split()


def gpu_day(
    out: Path | str,
    *,
    only: Collection[str] = (),
    again: bool = False,
    longer: float = 1.0,
    options: DayOptions | None = None,
) -> dict[str, Any]:
    """Run all parts, or ``only`` some, and write ``out/gpu-day.json`` after each; the content of that file.

    A part that is in the file already is left out unless it is to run ``again``, or did not end. One that cannot run
    says why in the file, and so does one that fails or takes longer than its minutes, times ``longer``; none of them
    ends the others. Raises InputError for an unknown part and for sizes that cannot be measured.

    >>> found = gpu_day(scratch / "day", only=["tests-pycuda"], options=DayOptions(batches=(1,)))
    >>> sorted(found["parts"]["tests-pycuda"])
    ['budget_minutes', 'options', 'reason', 'rows', 'seconds', 'status']
    """
    out, options = Path(out), options or DayOptions()
    options.check()
    for name in only:
        require_name(name, PARTS, "part")
    if not 0 < longer < inf:
        raise InputError(f"parts cannot take {longer:g} times as long: give --longer (longer=) a number above 0")
    chosen = [name for name in PARTS if not only or name in only]
    content = _earlier(out / DAY_NAME)
    content |= {
        "made_with": f"reid-edge {__version__}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine().to_dict(),
        "gpu": _gpu(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }
    parts: dict[str, Any] = content.setdefault("parts", {})
    waiting = [name for name in chosen if again or parts.get(name, {}).get("status") != "done"]
    for name in (name for name in chosen if name not in waiting):
        logger.info("%s is in %s already: --again runs it again", name, out / DAY_NAME)
    out.mkdir(parents=True, exist_ok=True)
    with phase("a day with a GPU", len(waiting)) as line:
        for name in waiting:
            minutes = PARTS[name].minutes * longer
            with phase(f"{name}, at most {minutes:g} min") as rows:
                found = run_part(name, out, options, minutes, lambda row, line=rows: line.advance())  # type: ignore[misc]
            parts[name] = {**found, "options": options.to_dict()}
            content["parts"] = {each: parts[each] for each in PARTS if each in parts}
            write_text(out / DAY_NAME, json.dumps(content, indent=1) + "\n")
            reason = f": {found['reason']}" if found["reason"] else f", {len(found['rows'])} rows"
            logger.info("%s: %s in %.0f s%s", name, found["status"], found["seconds"], reason)
            line.advance(note=name)
    return content


def day_lines(only: Collection[str] = ()) -> list[str]:
    """What would run: a line a part with its most minutes, and their sum.

    >>> for line in day_lines(["peak", "torch"]):
    ...     print(line)
    peak                   0.4 min   matrix products and copies, for the roofline
    torch                  1.0 min   the files' graphs in torch, with CUDA graphs
    together, at most      1.4 min
    """
    chosen = {name: part for name, part in PARTS.items() if not only or name in only}
    lines = [f"{name:<22} {part.minutes:>3.1f} min   {part.what}" for name, part in chosen.items()]
    return [*lines, f"{'together, at most':<22} {sum(part.minutes for part in chosen.values()):>3.1f} min"]


def _gpu() -> dict[str, Any] | None:
    gpu = find_gpu()
    return gpu.facts() if gpu else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _earlier(path: Path) -> dict[str, Any]:
    """The file of an earlier run; empty where there is none, or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    parts = content.get("parts") if isinstance(content, dict) else None
    known = isinstance(parts, dict) and all(isinstance(part, dict) for part in parts.values())
    return content if known else {}
