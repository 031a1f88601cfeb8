"""A recorded machine: files below a root, and what each command printed; what was not recorded is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_edge.device.host import CommandOutput, Host

__all__ = ["CHILD", "PROBE", "RecordedMachine", "answer"]

PROBE = "python -m reid_edge.device.python_probe"
CHILD = "python -m reid_edge.api.doctor.child"


@dataclass(frozen=True)
class RecordedMachine:
    """``files`` by their path below the root, ``commands`` by their words with a space between."""

    files: Mapping[str, str]
    commands: Mapping[str, str]
    asked: list[str] = field(default_factory=list)

    def host(self, root: Path) -> Host:
        """The machine, with its files written below ``root``."""
        for name, text in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return Host(root, self._run, "python")

    def with_(
        self, files: Mapping[str, str] | None = None, commands: Mapping[str, str] | None = None
    ) -> RecordedMachine:
        """A machine that differs in some files or commands."""
        return replace(
            self, files={**self.files, **(files or {})}, asked=[], commands={**self.commands, **(commands or {})}
        )

    def _run(self, command: Sequence[str], seconds: float) -> CommandOutput:
        words = " ".join(command)
        self.asked.append(words)
        return CommandOutput(self.commands[words], "", 0) if words in self.commands else CommandOutput()


def answer(**content: Any) -> str:
    """What a child process prints."""
    return json.dumps(content) + "\n"
