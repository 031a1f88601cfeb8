"""The journal of a run of bench: every finished turn with all of its times, so that an interrupted run continues.

It lies beside the report as ``bench.json.partial`` and is deleted when the report is complete. The first line says what
is measured (models by their hash, data, options, machine); each further line is a turn or a score. From a line on that
was cut off by the end of the process, or holds no figures, the rest is dropped and measured again.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reid_edge.core.files import is_standard_output
from reid_edge.errors import InputError

from .turns import RawTurn

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 30
_NO_ENTRY = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, InputError)
"""What a line raises that holds neither a turn nor a score."""


class Journal:
    """What was measured so far for ``report`` (None, or standard output: nothing is kept).

    A journal with another ``header`` is of another run: it is replaced, which is said. ``check_queries`` raises for
    what are no scores of queries.
    """

    def __init__(
        self,
        report: Path | str | None,
        header: Mapping[str, Any],
        check_queries: Callable[[Mapping[str, Any]], Any] = lambda raw: None,
    ) -> None:
        self._check_queries = check_queries
        self._header = json.loads(json.dumps({"journal": 1, **header}))
        keeps = report is not None and not is_standard_output(report) and not _is_device(Path(report))
        self.path = Path(f"{report}.partial") if keeps else None
        self.turns: dict[str, RawTurn] = {}
        self.scores: dict[str, dict[str, Any]] = {}
        if self.path and _is_device(self.path):
            raise InputError(f"{self.path} is no file, and the measured times are kept there: move it away")
        if self.path and self.path.is_file():
            self._read(self.path)
        self._begun = bool(self.turns or self.scores)

    def add_turn(self, key: str, turn: RawTurn) -> None:
        """Keep a finished turn."""
        self._append({"turn": key, "times": asdict(turn)})
        self.turns[key] = turn

    def add_score(self, key: str, score: dict[str, Any]) -> None:
        """Keep a model's score."""
        self._append({"score": key, "is": score})
        self.scores[key] = score

    def finished(self) -> None:
        """The report is complete: the journal goes."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        """One more line, behind the header; a journal of another run is replaced by the first."""
        if self.path is None:
            return
        lines = [entry] if self._begun else [self._header, entry]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a" if self._begun else "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        self._begun = True

    def _read(self, path: Path) -> None:
        """Take over what an interrupted run measured, if it measured the same; else say that it is left."""
        if path.stat().st_size > _MOST_BYTES:
            logger.warning("%s is over %d GiB: starting anew", path, _MOST_BYTES >> 30)
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        header, *lines = text.split("\n")
        ended = bool(lines) and not lines[-1]  # another line must not be written behind one that has no end
        lines = [line for line in lines if line]
        if differ := self._differences(header):
            logger.warning("%s is of another run (%s differ): starting anew", path, ", ".join(differ))
            return
        whole = next((number for number, line in enumerate(lines) if not self._take(line)), len(lines))
        if whole < len(lines) or not ended:
            logger.warning("%s is damaged from line %d on: that is measured again", path, whole + 2)
            path.write_text("\n".join([header, *lines[:whole]]) + "\n", encoding="utf-8")
        if self.turns or self.scores:
            logger.info("%s: continuing the interrupted run, %d turns are there already", path, len(self.turns))

    def _take(self, line: str) -> bool:
        with contextlib.suppress(*_NO_ENTRY):
            entry = json.loads(line)
            if "turn" in entry:
                self.turns[str(entry["turn"])] = RawTurn.from_dict(entry["times"])
            else:
                self.scores[str(entry["score"])] = _score(entry["is"], self._check_queries)
            return True
        return False

    def _differences(self, line: str) -> list[str]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return ["its first line"]
        if not isinstance(found, dict) or found.keys() != self._header.keys():
            return ["its first line"]
        return [name for name, value in self._header.items() if found[name] != value]


def _score(raw: Mapping[str, Any], check_queries: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
    """A model's score: two fractions, and of each query what `reid_edge.benchmarks.queries` keeps."""
    if not all(isinstance(raw[name], int | float) and 0 <= raw[name] <= 1 for name in ("rank1", "mAP")):
        raise ValueError("a score is no fraction")
    if "queries" in raw:
        check_queries(raw["queries"])
    return dict(raw)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()
