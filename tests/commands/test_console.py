"""What a command tells its user to type next."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reid_edge.commands.parts.console import program_name


def test_the_program_is_named_as_it_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under make the environment is not active: only the path that make used starts the command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/reid-edge", "demo"])
    assert program_name() == ".venv/bin/reid-edge"
    monkeypatch.setattr(sys, "argv", ["/home/me/reid-edge/reid_edge/__main__.py", "demo"])
    assert program_name() == "python -m reid_edge"
    (tmp_path / "reid-edge").touch(mode=0o755)
    assert program_name() == "reid-edge"
