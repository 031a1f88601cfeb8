"""A few kills of quick runs; ``make kill`` does hundreds, of training, export and benchmarks too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_runs_leave_whole_files_and_the_next_run_cleans_up() -> None:
    """In a process of its own, as one with threads is not to be forked."""
    command = [sys.executable, "-m", "kill.kill_trial", "--kills", "9", "--jobs", "embed", "gallery"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
