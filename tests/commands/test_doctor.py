"""`reid-edge doctor` as it is typed: a table that fits 80 columns, whole commands, JSON, exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.machines.container import CONTAINER
from helpers.machines.desktop import DESKTOP
from helpers.machines.orin_nano import ORIN_NANO
from helpers.machines.replay import RecordedMachine
from rich.console import Console

from reid_edge.api.doctor.run import doctor
from reid_edge.api.doctor.table import doctor_lines, doctor_table
from reid_edge.cli import main

ROOT = Path(__file__).parents[2]


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("machine", [ORIN_NANO, DESKTOP, CONTAINER], ids=["orin nano", "desktop", "container"])
def test_the_table_fits_80_columns_and_loses_no_word(machine: RecordedMachine, tmp_path: Path) -> None:
    report = doctor(host=machine.host(tmp_path), self_test=False)
    console = Console(width=80, markup=False, highlight=False, file=io.StringIO())
    with console.capture() as captured:
        console.print(doctor_table(report))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []
    shown = "".join(captured.get().split())
    for finding in report.findings:
        assert finding.part.replace(" ", "") in shown
        assert "..." not in shown and "…" not in shown
    assert [line for line in lines if line.startswith(("Machine", "Libraries"))] == ["Machine", "Libraries"]


def test_what_is_wrong_is_mended_first_and_no_command_is_broken(tmp_path: Path) -> None:
    report = doctor(host=ORIN_NANO.host(tmp_path), self_test=False)
    lines = list(doctor_lines(report))
    remedies = [f"  {finding.part}:  {finding.remedy}" for finding in (*report.wrong, *report.notes)]
    assert [line for line in lines if line.startswith("  ")] == remedies
    assert lines.index("To mend what is wrong:") < lines.index("Worth doing:")
    assert lines[-1] == "3 wrong, 3 notes."


def test_a_healthy_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """This one: it runs these tests, so nothing can be wrong with what it needs."""
    assert _run("--no-self-test", "--json", tmp_path / "doctor.json") == 0
    out = capsys.readouterr().out
    assert "Nothing is wrong" in out and "ONNX Runtime" in out
    raw = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert raw["levels"]["wrong"] == 0
    assert {finding["group"] for finding in raw["findings"]} == {"machine", "libraries"}


def test_json_alone_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert _run("--no-self-test", "--json", "/dev/stdout") == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["findings"]
    assert "Machine" in printed.err


def test_an_opencv_that_does_not_load_is_exit_code_1(tmp_path: Path) -> None:
    """A broken module in front of the real one; the doctor itself needs neither."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, "-m", "reid_edge", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert "wrong" in done.stdout and "libGL.so.1" in done.stdout
    assert "  OpenCV:  pip install --force-reinstall " in done.stdout
    assert done.stderr.startswith("reid-edge: something is wrong with OpenCV, crops: ")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["missing.onnx", "model.pth"])
def test_a_model_that_cannot_be_tried_is_bad_use(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pth").touch()
    assert _run("--model", tmp_path / name) == 2
    assert name in capsys.readouterr().err
