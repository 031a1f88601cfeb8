"""Every code block of README and docs runs, or carries a reason that stands here."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, ROOT, Block, blocks
from shell import run_bash

from reid_edge.data.decoding import read

REASONS = {
    "device": "needs a GPU, a Jetson, a CPU with bf16 or several processes",
    "hours": "a whole study",
    "measured": "written by docs/render.py: what `make measured` runs",
    "network": "installs packages, or fetches weights",
    "tracker": "needs a package of trackers; tests/integrations/test_real_trackers.py has the same calls",
}
NOT_RUN = {
    "README.md": {"network": 2},
    "bench.md": {"device": 2},
    "compare.md": {"hours": 2, "network": 1},
    "cpu.md": {"device": 1},
    "export.md": {"device": 1},
    "gpu_frames.md": {"device": 1},
    "jetson.md": {"device": 6},
    "market1501.md": {"hours": 1},
    "providers.md": {"device": 1},
    "trackers.md": {"tracker": 3},
    "training.md": {"device": 1, "network": 1},
}
"""How many blocks of each page are not run, for each reason; those of measurements are "measured" alone."""
BLOCKS = {page: list(blocks(page.read_text(encoding="utf-8"), page.name)) for page in PAGES}
RUN = [page for page in PAGES if any(not block.reason for block in BLOCKS[page])]


def test_what_is_not_run_says_why() -> None:
    found = {
        page.name: Counter(block.reason for block in BLOCKS[page] if block.reason)
        for page in PAGES
        if page.parent.name != "measurements"
    }
    assert {name: dict(reasons) for name, reasons in found.items() if reasons} == NOT_RUN
    for page in PAGES:
        if page.parent.name == "measurements":
            assert {block.reason for block in BLOCKS[page]} <= {"measured"}, page
    assert {reason for reasons in found.values() for reason in reasons} | {"measured"} == set(REASONS)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(prepared, tmp_path / "page")
    programs = tmp_path / "programs"
    programs.mkdir()
    for run in re.findall(r"reid-edge train .*--out (\S+)", "\n".join(block.code for block in BLOCKS[page])):
        shutil.rmtree(folder / run, ignore_errors=True)
    monkeypatch.chdir(folder)
    names = _camera(folder)
    for block in BLOCKS[page]:
        if not block.reason:
            _run(block, folder, programs, names)


def _run(block: Block, folder: Path, programs: Path, names: dict[str, object]) -> None:
    where = f"{block.page}, line {block.line}"
    if block.language == "bash":
        code, printed = run_bash(block.code, folder, programs)
        assert code == 0, f"{where}: exit code {code}\n{printed}"
    else:
        assert block.language == "python", f"{where}: no test runs {block.language or 'a block without a language'}"
        lines = "\n" * block.line + block.code  # so that a traceback names the line of the page
        exec(compile(lines, block.page, "exec"), names)


def _camera(folder: Path) -> dict[str, object]:
    """A frame with a person in it, and the box: the names that pages use without saying where they come from."""
    person = read(folder / "unknown.jpg")  # uint8 [H, W, 3] RGB
    height, width, _ = person.shape
    frame = np.zeros((height + 20, width + 30, 3), np.uint8)
    frame[10 : 10 + height, 15 : 15 + width] = person[..., ::-1]
    return {"frame": frame, "top": 10, "bottom": 10 + height, "left": 15, "right": 15 + width}


def test_a_wrong_block_would_be_found(tmp_path: Path) -> None:
    bash = Block("page.md", 3, "bash", "echo so far\nreid-edge eval missing.onnx --data missing\necho never\n", "")
    with pytest.raises(AssertionError, match=r"page.md, line 3: exit code 2\n *so far\n.*missing.onnx") as caught:
        _run(bash, tmp_path, tmp_path, {})
    assert "never" not in str(caught.value)
    with pytest.raises(AssertionError, match="no test runs toml"):
        _run(Block("page.md", 1, "toml", "a = 1", ""), tmp_path, tmp_path, {})


def test_pages_are_found() -> None:
    assert {ROOT / "README.md", ROOT / "docs/index.md", ROOT / "docs/guides/export.md"} <= set(PAGES)
