"""`reid_edge.doctor`: ask the machine, judge what it says, and try the engines."""

from __future__ import annotations

from pathlib import Path

from reid_edge.core.files import require_file
from reid_edge.core.progress import phase
from reid_edge.device.host import Host
from reid_edge.errors import ModelError

from .facts import DoctorFacts, read_facts
from .findings import DoctorReport, Finding
from .library_checks import check_libraries
from .machine_checks import check_machine
from .self_test import run_self_test

__all__ = ["doctor", "judge"]

_MODELS = (".onnx", ".engine", ".plan")


def doctor(model: Path | str | None = None, *, self_test: bool = True, host: Host | None = None) -> DoctorReport:
    """What is on this machine, what is missing, and whether every engine that runs here gives the same embeddings.

    The self-test embeds drawn crops with ``model``, an ``.onnx`` file or an engine that ``reid-edge export`` wrote, or
    with a small built-in one; its times are information. Wheels are imported and engines run in processes of their own,
    so that one that crashes is a finding. ``host`` is the machine to ask (None: this one). Nothing is changed.

    Raises InputError for a ``model`` that is missing, ModelError for one of another kind.

    >>> report = doctor(self_test=False)
    >>> sorted({finding.group for finding in report.findings})
    ['libraries', 'machine']
    """
    path = None if model is None else require_file(model, "a model")
    if path is not None and path.suffix.lower() not in _MODELS:
        raise ModelError(f"{path} is none of {', '.join(_MODELS)}: give a file that reid-edge export wrote")
    host = host or Host()
    with phase("asking the machine and its packages"):
        facts = read_facts(host)
    tried = run_self_test(host, facts, path) if self_test else ()
    return DoctorReport((*judge(facts), *tried))


def judge(facts: DoctorFacts) -> list[Finding]:
    """The findings on the machine and its libraries, without running a model."""
    return [*check_machine(facts), *check_libraries(facts)]
