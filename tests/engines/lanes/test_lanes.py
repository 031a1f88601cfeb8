"""Buffers, contexts, graphs and their lifetimes without a GPU: the real bindings on a double of the CUDA driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cuda_driver import ROOT, built_driver, environment_on

from reid_edge.engines.lanes.profiles import choose_profile

CASES = [str(Path(__file__).with_name(name)) for name in ("cases.py", "engine_cases.py")]


def test_the_cases_hold_on_the_double_of_the_driver(tmp_path: Path) -> None:
    """In a process of its own: elsewhere in this one the machine must stay without a GPU."""
    library = built_driver(tmp_path)
    command = [sys.executable, "-m", "pytest", *CASES, "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = subprocess.run(command, env=environment_on(library), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("profiles", "count", "chosen"),
    [
        ([(1, 16, 64)], 1, (0, 1)),
        ([(1, 16, 64)], 64, (0, 64)),
        ([(4, 16, 64)], 3, (0, 4)),
        ([(1, 1, 8), (9, 32, 64)], 8, (0, 8)),
        ([(1, 1, 8), (9, 32, 64)], 9, (1, 9)),
        ([(9, 32, 64), (1, 1, 8)], 2, (1, 2)),
        ([(1, 1, 16), (1, 64, 64)], 16, (0, 16)),  # 15 from the first optimum, 48 from the second
        ([(1, 1, 40), (1, 64, 64)], 40, (1, 40)),  # 39 and 24
        ([(1, 1, 4), (16, 32, 64)], 5, (1, 16)),  # a gap: padded to the next profile
        ([(8, 8, 8), (1, 1, 64)], 7, (1, 7)),  # no padding before a nearer optimum
        ([(1, 4, 8), (1, 4, 8)], 4, (0, 4)),
    ],
)
def test_the_profile_that_fits_best_is_chosen(
    profiles: list[tuple[int, int, int]], count: int, chosen: tuple[int, int]
) -> None:
    assert choose_profile(profiles, count) == chosen


@pytest.mark.parametrize("count", [0, 65])
def test_no_profile_takes_nothing_or_too_much(count: int) -> None:
    with pytest.raises(ValueError, match=f"takes {count}"):
        choose_profile([(1, 1, 8), (9, 32, 64)], count)
