"""The code of every page in docs/extend runs: files, programs, what they print, and the command line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.drawn_layouts import touch_crops

import reid_edge

ROOT = Path(__file__).parents[2]
EXTEND = ROOT / "docs" / "extend"
PAGES = sorted(path.stem for path in EXTEND.glob("*.md") if path.stem != "index")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def _blocks(page: str, language: str) -> list[str]:
    text = (EXTEND / f"{page}.md").read_text(encoding="utf-8")
    return [body for found, body in _BLOCK.findall(text) if found == language]


def _child(folder: Path, code: Sequence[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run([sys.executable, *code], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _write_files(page: str, folder: Path) -> str:
    """Write the files of a page, those whose first line is their name, and return the program that is left."""
    program = ""
    for body in _blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", body):
            (folder / name[1]).write_text(body, encoding="utf-8")
        else:
            program += body
    return program


def _announce(page: str, folder: Path) -> None:
    """What an installed package leaves in the environment."""
    (toml,) = _blocks(page, "toml")
    match = re.fullmatch(r'\[project\.entry-points\."(reid_edge\.\w+)"\]\n([\w-]+) = "(\w+:\w+)"\n', toml)
    assert match, toml
    place = folder / f"{page}-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {page}\nVersion: 1.0\n", encoding="utf-8")
    (place / "entry_points.txt").write_text(f"[{match[1]}]\n{match[2]} = {match[3]}\n", encoding="utf-8")


@pytest.fixture
def folder(workshop: Path, tmp_path: Path) -> Iterator[Path]:
    """What the pages need: people, two doors, an exported model and a gallery."""
    (tmp_path / "people").symlink_to(workshop / "people")
    touch_crops(tmp_path / "station", ["entrance/1-1.jpg", "entrance/2-1.jpg"])
    touch_crops(tmp_path / "station", [f"exit/{name}.jpg" for name in ("1-1", "1-2", "2-1", "3-1")])
    (tmp_path / "models").mkdir()
    shutil.copy(workshop / "small_fp32.onnx", tmp_path / "models" / "osnet_x0_25_fp32.onnx")
    gallery = reid_edge.Gallery()
    gallery.enrol([[1, 0], [0, 1], [-1, 0]], ["ann", "bob", "cid"])
    gallery.save(tmp_path / "gallery.npz")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, folder: Path) -> None:
    if page == "model" and find_spec("torch") is None:
        pytest.skip("needs the train extra")
    program = _write_files(page, folder)
    printed = _child(folder, ["-c", program])
    for line in re.findall(r"^# (.*)$", program, re.M):
        expected = re.escape(line).replace(re.escape("..."), ".*")
        assert re.search(f"^{expected}$", printed, re.M), f"{line!r} is not in {printed!r}"


def test_the_command_line_knows_what_packages_announce(folder: Path) -> None:
    for page in PAGES:
        _write_files(page, folder)
        _announce(page, folder)
    names = (
        "import sys\n"
        "from reid_edge.commands.parts.choices import Layout, Method\n"
        "from reid_edge.training.models.names import check_architecture\n"
        "check_architecture('tinynet')\n"
        "print(Layout('doors'), Method('four-sigma'), {'doors', 'four_sigma', 'tinynet', 'torch'} & set(sys.modules))"
    )
    assert _child(folder, ["-c", names]) == "doors four-sigma set()\n"
    shown = {}
    for command in ("data inspect station", *_commands("command")):
        shown[command] = _child(folder, ["-m", "reid_edge", *shlex.split(command)])
    assert "Doors" in shown["data inspect station"] or "doors" in shown["data inspect station"]
    assert re.search(r"^Crops:\n(?:  .*\n)*  far +List the pairs of crops", shown["--help"], re.M)
    assert shown["far gallery.npz --top 1"] == "2.000  ann  cid\n"


def _commands(page: str) -> list[str]:
    (body,) = _blocks(page, "bash")
    return [line.removeprefix("reid-edge ") for line in body.splitlines()]


def test_a_package_that_cannot_be_imported_stops_nothing_but_itself(folder: Path) -> None:
    """It may have been installed by somebody else, months ago, for another version."""
    for page in ("data_set", "command"):
        _announce(page, folder)
    (folder / "doors.py").write_text("import nowhere")
    (folder / "far.py").write_text("from reid_edge.commands.added import Commando")
    assert re.search(
        r"^  far +Cannot be imported: run it to see why", _child(folder, ["-m", "reid_edge", "--help"]), re.M
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    said = {}
    for command in ("data inspect people", "data inspect people --layout doors", "far gallery.npz --top 1"):
        run = [sys.executable, "-m", "reid_edge", *command.split()]
        done = subprocess.run(run, capture_output=True, text=True, cwd=folder, env=environment)
        said[command.split()[-1]] = done.returncode, done.stderr
    assert said["people"][0] == 0 and said["people"][1].startswith("note: reid_edge.layouts: doors = 'doors:DOORS'")
    assert said["doors"][0] == 2 and "of the package data_set cannot be imported" in said["doors"][1]
    assert said["1"][0] == 2 and "of the package command cannot be imported" in said["1"][1]
    assert all(error.count("\n") == 1 for _, error in said.values()), said
