"""Every program in examples/ runs as its first lines say, on drawn people, in a process of its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from reid_edge.data.synthetic.video import draw_video
from reid_edge.embedder.embedder import Embedder

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


def _run(program: str, *arguments: Path | str) -> str:
    (path,) = EXAMPLES.glob(f"{program}_*.py")
    command = [sys.executable, str(path), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def gallery(workshop: Path) -> Path:
    """What example 1 writes."""
    out = workshop / "gallery.npz"
    queries = len(list((workshop / "people/query").glob("*.jpg")))
    assert (
        _run("1", workshop / "people/query", workshop / "tiny.onnx", out)
        == f"{out}: {queries} crops, 24 numbers each\n"
    )
    return out


def test_a_query_is_closest_to_itself(workshop: Path, gallery: Path) -> None:
    query = min((workshop / "people/query").glob("*.jpg"))
    lines = _run("2", query, gallery, workshop / "tiny.onnx").splitlines()
    assert re.fullmatch(rf"1\. {query.name}  -?0\.000", lines[0])
    assert len(lines) == 5


@pytest.mark.skipif(find_spec("torch") is None, reason="needs the train extra")
def test_a_folder_of_crops_becomes_a_model(workshop: Path) -> None:
    printed = _run("3", workshop / "people", workshop / "run", "1")
    assert "people: 32 crops of 4 persons\n" in printed and re.search(r"^mAP [\d.]+ on", printed, re.M), printed
    assert (workshop / "run" / "model.pth").is_file()


def test_a_model_is_exported_and_measured(workshop: Path) -> None:
    lines = _run("4", workshop / "small_fp32.onnx", workshop / "people", workshop / "models").splitlines()
    rows = [line.split() for line in lines[-2:]]
    assert [row[:2] for row in rows] == [["fp16", "1"], ["fp16", "8"]]
    assert all(0 < float(row[4]) <= 100 for row in rows)
    assert [path.name for path in (workshop / "models").iterdir()] == ["tiny_fp16.onnx"]


def test_a_person_of_one_camera_is_searched_in_the_other(workshop: Path) -> None:
    """As if the crops had been read from their files, without frames and boxes."""
    queries = sorted((workshop / "people/query").glob("*.jpg"))
    a, b = ([path for path in queries if f"_c{camera}s" in path.name] for camera in (1, 2))
    with Embedder(workshop / "tiny.onnx") as embedder:
        closest = np.argmax(embedder.embed(a) @ embedder.embed(b).T, axis=1)
    expected = [(int(path.name[:4]), int(b[row].name[:4])) for path, row in zip(a, closest, strict=True)]
    lines = _run("5", workshop / "people", workshop / "tiny.onnx").splitlines()
    found = [re.findall(r"person (\d+)", line) for line in lines[:-1]]
    assert [(int(pid), int(label)) for pid, label in found] == expected and len(expected) == 4
    assert lines[-1] == f"{sum(pid == label for pid, label in expected)} of 4 found"


def test_persons_of_a_video_are_known_again(workshop: Path) -> None:
    """Every fifth of the 100 frames is looked at, and who was seen before is not new; without boxes, the middle is."""
    lines = _run("6", workshop / "tiny.onnx").splitlines()
    new = [re.fullmatch(r" +[\d.]+ s: person (\d+) is new", line) for line in lines[:-1]]
    assert [int(found[1]) for found in new if found] == list(range(1, len(new) + 1))
    assert 1 <= len(new) < 20 and lines[-1] == f"20 frames, {len(new)} persons, 0 frames dropped"
    draw_video(workshop / "door.avi", seconds=1, persons=2, size_hw=(120, 160))
    assert _run("6", workshop / "tiny.onnx", workshop / "door.avi").splitlines()[-1].startswith("5 frames, 1 persons, ")


def test_a_track_stays_on_its_person(workshop: Path) -> None:
    """Three persons cross and come back in 120 frames. The tracks of three who never changed are at most nine."""
    lines = _run("7", workshop / "tiny.onnx").splitlines()
    found = [re.fullmatch(r"track (\d+), (\d+) frames: (a new person|closest is track \d+, .*)", x) for x in lines[:-1]]
    frames = {int(each[1]): int(each[2]) for each in found if each}
    assert sorted(frames) == list(range(1, len(lines))) and 3 <= len(frames) <= 9 and sum(frames.values()) <= 360
    assert min(frames[number] for number in (1, 2, 3)) >= 30, "a track is lost while its person is in view"
    assert sum(each[3] == "a new person" for each in found if each) == 3
    again, right = map(int, re.findall(r"of (\d+) that came back, (\d+) are", lines[-1])[0])
    assert again == len(frames) - 3 and right >= again / 2


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_says_how_to_run_it(program: Path) -> None:
    """Alone it shows its first lines, with a command that names it; README lists it."""
    text = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""
    assert f"\n    python examples/{program.name} " in text
    assert f"]({program.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert done.returncode == 1 and f"python examples/{program.name} " in done.stderr
