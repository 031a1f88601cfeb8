"""What the doctor says: findings in three levels, each with the command that mends it, and the report of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

__all__ = ["DoctorReport", "Finding", "Level"]


class Level(str, Enum):
    """How bad it is: ``WRONG`` keeps something from working, ``NOTE`` is optional or costs speed."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was ``found`` of a ``part``, and the ``remedy``, a command or a few words.

    ``group`` is the heading that it stands under: "machine", "libraries" or "self-test".
    """

    group: str
    part: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """All findings of one machine, in the order in which they are read."""

    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What keeps something from working."""
        return self.of_level(Level.WRONG)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What is optional, or costs speed."""
        return self.of_level(Level.NOTE)

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level is level)

    def groups(self) -> Iterator[tuple[str, list[Finding]]]:
        """The findings under their headings, in the order of their first."""
        for group in dict.fromkeys(finding.group for finding in self.findings):
            yield group, [finding for finding in self.findings if finding.group == group]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the findings, and how many are of each level."""
        counts = {level.value: len(self.of_level(level)) for level in Level}
        return {"levels": counts, "findings": [asdict(one) | {"level": one.level.value} for one in self.findings]}

    def __repr__(self) -> str:
        return f"<DoctorReport: {len(self.findings)} findings, {len(self.wrong)} wrong, {len(self.notes)} notes>"
