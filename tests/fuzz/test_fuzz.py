"""A thousand damaged files of every kind that reid-edge reads: refused in a line, or read as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.fuzzer import fuzz
from fuzz.targets import KINDS

COUNT = 1000


@pytest.mark.parametrize("name", KINDS)
def test_no_damaged_file_gives_other_results_or_a_traceback(name: str, tmp_path: Path) -> None:
    if KINDS[name].needs:
        pytest.importorskip(KINDS[name].needs, reason=f"files of kind {name} need another extra")
    tally = fuzz(KINDS[name], tmp_path, COUNT)
    assert tally.bad == 0, tally.examples
    assert tally.refused > COUNT // 4  # or the damage does not reach the reader
    assert tally.refused + tally.same + tally.valid == COUNT
