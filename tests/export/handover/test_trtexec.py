"""The script for trtexec, run by a real shell with a trtexec that prints what it was given."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.small_network import CARD, network, random_weights

from reid_edge.cli import main
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.handover.programs import write_handover
from reid_edge.export.handover.trtexec import trtexec_command


def run_script(script: Path, tools: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    tools.mkdir(exist_ok=True)
    (tools / "trtexec").write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    (tools / "trtexec").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    return subprocess.run([script], capture_output=True, text=True, cwd=cwd, env={"PATH": path, "CDPATH": "/"})


def test_the_command_has_the_shapes_and_keeps_the_types() -> None:
    words = shlex.split(trtexec_command(CARD, Path("m.onnx"), (1, 8, 32), "10.3.0"))
    assert words == [
        "trtexec",
        "--onnx=m.onnx",
        "--saveEngine=m_trtexec.engine",
        "--stronglyTyped",
        "--noTF32",
        "--minShapes=images:1x16x16x3",
        "--optShapes=images:8x16x16x3",
        "--maxShapes=images:32x16x16x3",
    ]
    assert "--stronglyTyped" not in trtexec_command(CARD, Path("m.onnx"), (1, 8, 32), "11.4.0")
    planar = CARD.with_(input_format="nchw-float")
    assert "--maxShapes=images:32x3x16x16" in trtexec_command(planar, Path("m.onnx"), (1, 8, 32))


def test_the_script_runs_from_anywhere_also_after_a_move(tmp_path: Path) -> None:
    """A folder's name is no command: the shell reads each path back as one word."""
    folder = tmp_path / "a b;touch x"
    folder.mkdir()
    write_onnx(network(random_weights()), CARD, folder / "m'n.onnx")
    (script,) = write_handover(folder / "m'n.onnx", folder, "trtexec", (1, 4, 8))
    assert script.stat().st_mode & 0o777 == 0o755
    moved = Path(shutil.move(folder, tmp_path / "moved $HOME")) / script.name
    ran = run_script(moved, tmp_path / "tools", tmp_path)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0 and lines[:3] == [
        str(moved.parent),
        "--onnx=m'n.onnx",
        "--saveEngine=m'n_trtexec.engine",
    ]
    command = lines[-1].partition(":  ")[2]
    assert shlex.split(command) == ["reid-edge", "adopt", "m'n_trtexec.engine", "--onnx", "m'n.onnx"]
    assert not (tmp_path / "x").exists() and not (moved.parent / "x").exists()


def test_a_failing_trtexec_fails_the_script(tmp_path: Path) -> None:
    write_onnx(network(random_weights()), CARD, tmp_path / "m.onnx")
    (script,) = write_handover(tmp_path / "m.onnx", tmp_path / "out", "trtexec", (1, 4, 8))
    assert "--onnx=../m.onnx" in script.read_text()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "trtexec").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "tools" / "trtexec").chmod(0o755)
    env = {"PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}"}
    ran = subprocess.run([script], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert ran.returncode == 3 and "adopt" not in ran.stdout


def test_the_export_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_onnx(network(random_weights()), CARD, tmp_path / "m.onnx")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "m.onnx"), "--for", "trtexec", "--out", str(tmp_path / "out")])
    assert ended.value.code == 0 and "m_trtexec.sh" in capsys.readouterr().out.replace("\n", "")
    assert os.access(tmp_path / "out" / "m_trtexec.sh", os.X_OK)
