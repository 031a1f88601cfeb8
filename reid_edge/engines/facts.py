"""Who computed embeddings: what every row of figures must say of the engine that gave it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["EngineFacts", "board_versions"]


@dataclass(frozen=True)
class EngineFacts:
    """What an open engine runs on.

    ``provider`` is what really executes the model, e.g. "CPUExecutionProvider" or "TensorRT 10.3.0"; ``versions`` are
    those of the libraries, by name; ``threads`` are the CPU threads of one operator, None where no CPU computes;
    ``sha256`` is the model file's, empty for a model that is in no file. ``nodes`` counts the graph's nodes by the
    provider that executes them; it is empty for a backend that does not say. ``computes`` is the precision that the
    backend was asked for in place of the file's, e.g. "bf16", else empty. ``concurrent_runs`` is how many calls of
    `run` at once pay off: 1 where one call uses all of its threads, the number of contexts on a GPU.
    """

    backend: str
    provider: str
    versions: Mapping[str, str]
    threads: int | None
    sha256: str
    nodes: Mapping[str, int] = field(default_factory=dict)
    computes: str = ""
    concurrent_runs: int = 1

    def to_dict(self) -> dict[str, Any]:
        """What figures depend on, JSON-able: everything but ``concurrent_runs``."""
        return {name: value for name, value in asdict(self).items() if name != "concurrent_runs"}

    def __str__(self) -> str:
        """One line, with the first twelve digits of the hash.

        >>> print(EngineFacts("onnxruntime", "CPUExecutionProvider", {"onnxruntime": "1.22.0"}, 4, "ab" * 32))
        CPUExecutionProvider, onnxruntime 1.22.0, 4 threads, sha256 abababababab
        """
        versions = [f"{name} {version}" for name, version in self.versions.items()]
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}" if self.threads else ""
        sha256 = f"sha256 {self.sha256[:12]}" if self.sha256 else ""
        return ", ".join(part for part in (self.provider, *versions, self.computes, threads, sha256) if part)


def board_versions(root: Path | str = "/") -> dict[str, str]:
    """The version of Jetson Linux below ``root``, as {"L4T": "36.3.0"}; empty on other machines."""
    try:
        text = (Path(root) / "etc/nv_tegra_release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = re.search(r"R(\d+)\b.*?REVISION: ([\d.]+)", text)
    return {"L4T": f"{found[1]}.{found[2]}"} if found else {}
