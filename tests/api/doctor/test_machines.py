"""Three recorded machines, replayed whole, and what changes when one thing on them does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.machines import recordings
from helpers.machines.container import CONTAINER
from helpers.machines.desktop import DESKTOP, QUERY, SMI_CSV
from helpers.machines.orin_nano import MENDED, ORIN_NANO
from helpers.machines.replay import CHILD, PROBE, RecordedMachine, answer

from reid_edge.api.doctor.findings import DoctorReport, Level
from reid_edge.api.doctor.run import doctor
from reid_edge.device.host import CommandOutput, Host


def _report(machine: RecordedMachine, root: Path) -> DoctorReport:
    return doctor(host=machine.host(root), self_test=False)


def _remedies(report: DoctorReport, level: Level) -> dict[str, str]:
    return {finding.part: finding.remedy for finding in report.of_level(level)}


def _python(machine: RecordedMachine, **changes: Any) -> dict[str, str]:
    """The answer of the machine's Python with some parts changed."""
    return {PROBE: answer(**{**json.loads(machine.commands[PROBE]), **changes})}


def _packages(machine: RecordedMachine, more: Mapping[str, str], less: str = "") -> dict[str, str]:
    """The packages of the machine with ``more`` by name and version, without those of ``less``."""
    known = json.loads(machine.commands[PROBE])["packages"]
    kept = {name: found for name, found in known.items() if name not in less.split()}
    return _python(machine, packages={**kept, **{name: [[version, "/site"]] for name, version in more.items()}})


def test_an_orin_nano_in_a_slow_mode_with_wheels_of_pip(tmp_path: Path) -> None:
    report = _report(ORIN_NANO, tmp_path)
    assert _remedies(report, Level.WRONG) == {
        "OpenCV": "pip uninstall -y opencv-python-headless",
        "ONNX Runtime": "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime==1.22.0",
        "TensorRT": "pip uninstall -y tensorrt tensorrt-cu12 tensorrt-cu12-bindings tensorrt-cu12-libs",
    }
    notes = _remedies(report, Level.NOTE)
    assert notes.keys() == {"power mode", "clocks", "memory"}
    assert (notes["power mode"], notes["clocks"]) == ("sudo nvpmodel -m 2", "sudo jetson_clocks")
    assert "swapon" in notes["memory"]
    found = {finding.part: finding.found for finding in report.findings}
    assert found["board"].startswith("NVIDIA Jetson Orin Nano") and found["board"].endswith("Super")
    assert found["JetPack"] == "6.2 (Jetson Linux 36.4.3)"
    assert found["power mode"] == "15W (0), and MAXN_SUPER (2) is the fastest"
    assert found["clocks"] == (
        "follow the load: CPU 730 to 1498 of 1728 MHz (schedutil); GPU 306 to 612 of 1020 MHz (nvhost_podgov)"
    )
    assert found["heat"] == "tj at 54 C, 12.5 W, GPU 63 % busy"


def test_the_same_board_after_every_command_of_the_report(tmp_path: Path) -> None:
    report = _report(MENDED, tmp_path)
    assert not report.wrong and not report.notes
    found = {finding.part: finding.found for finding in report.findings}
    assert found["power mode"] == "MAXN_SUPER (2), the fastest"
    assert found["OpenCV"] == "4.8.0, reads video with FFMPEG and GStreamer"
    assert (found["TensorRT"], found["CUDA binding"]) == ("10.3.0", "cuda-bindings 12.6.2")


def test_a_desktop_with_a_gpu(tmp_path: Path) -> None:
    report = _report(DESKTOP, tmp_path)
    assert not report.wrong and not report.notes
    found = {finding.part: finding.found for finding in report.findings}
    assert found["GPU"] == (
        "NVIDIA RTX 5880 Ada Generation, 51.5 GB, compute capability 8.9, driver 570.86.15, CUDA 12.8"
    )
    assert found["ONNX Runtime"] == "1.22.0 (onnxruntime-gpu), runs on CPU, CUDA, TensorRT"
    assert "power mode" not in found and "board" not in found


def test_a_container_on_a_cpu_is_healthy(tmp_path: Path) -> None:
    """A healthy installation for a CPU: only what trains and exports is missing."""
    report = _report(CONTAINER, tmp_path)
    assert not report.wrong
    assert _remedies(report, Level.NOTE) == {"extras": "pip install onnx onnxscript torch torchvision tomlkit scipy"}
    found = {finding.part: finding.found for finding in report.findings}
    assert found["memory"] == "1.1 GB (the container's limit), 1.0 GB free, no swap"
    assert found["GPU"] == "none of NVIDIA's"
    assert not {"TensorRT", "CUDA binding", "JetPack", "OpenVINO"} & found.keys()


def test_a_container_is_asked_nothing_that_only_a_jetson_has(tmp_path: Path) -> None:
    machine = CONTAINER.with_()
    _report(machine, tmp_path)
    assert PROBE in machine.asked
    assert not [words for words in machine.asked if words.startswith(("nvpmodel", "tegrastats", "dpkg"))]


CUDA_FAILS = "libcudnn.so.9: cannot open shared object file: install the libraries it needs"
OLD_TENSORRT = {f"{PROBE} tensorrt": answer(version="8.6.2")}
JETSON_VENV = {"virtual": True, "sees_system": False}


@pytest.mark.parametrize(
    ("machine", "files", "commands", "part", "level", "remedy"),
    [
        (MENDED, {}, {f"{PROBE} tensorrt": answer(error="ImportError: libnvinfer.so.10")}, "TensorRT", Level.WRONG, "--reinstall"),
        (MENDED, {}, OLD_TENSORRT, "TensorRT", Level.WRONG, "flash JetPack"),
        (DESKTOP, {}, OLD_TENSORRT, "TensorRT", Level.WRONG, "pip install --upgrade tensorrt"),
        (MENDED, {"etc/nv_tegra_release": recordings.L4T_35}, {}, "JetPack", Level.WRONG, "flash JetPack"),
        (MENDED, {}, {"nvpmodel -q": "NVPM WARN: power mode is not set!\n"}, "power mode", Level.NOTE, "sudo nvpmodel -q"),
        (MENDED, {}, {f'{CHILD} {{"do": "gpu"}}': answer(error="CUDA_ERROR_NO_DEVICE")}, "CUDA binding", Level.WRONG, "<13'"),
        (DESKTOP, {}, {f"{PROBE} cuda.bindings.driver": answer(error="ImportError")}, "CUDA binding", Level.WRONG, "<13'"),
        (DESKTOP, {}, {QUERY: SMI_CSV.replace("Not Active, Not", "Active, Not")}, "GPU", Level.NOTE, "PERFORMANCE"),
        (CONTAINER, {}, {f"{PROBE} cv2": answer(error="ImportError: libGL.so.1")}, "OpenCV", Level.WRONG, "--force-reinstall"),
        (CONTAINER, {}, {f"{PROBE} cv2": answer(error="numpy.core.multiarray failed")}, "OpenCV", Level.WRONG, "'numpy<2'"),
        (CONTAINER, {}, {f"{PROBE} numpy": answer(error="ImportError: libopenblas")}, "NumPy", Level.WRONG, "numpy"),
        (CONTAINER, {}, {PROBE: "no answer\n"}, "Python", Level.WRONG, "reid-edge"),
        (CONTAINER, {"sys/fs/cgroup/memory.max": "300000000"}, {}, "memory", Level.NOTE, "more memory"),
        (
            DESKTOP,
            {"sys/class/thermal/thermal_zone0/trip_point_0_type": "passive"}
            | {"sys/class/thermal/thermal_zone0/trip_point_0_temp": "47000"},
            {},
            "heat",
            Level.NOTE,
            "cool it",
        ),
    ],
)  # fmt: skip
def test_one_thing_is_wrong(
    machine: RecordedMachine,
    files: dict[str, str],
    commands: dict[str, str],
    part: str,
    level: Level,
    remedy: str,
    tmp_path: Path,
) -> None:
    """And nothing else becomes so."""
    before = _report(machine, tmp_path / "before")
    report = _report(machine.with_(files, commands), tmp_path / "after")
    assert remedy in _remedies(report, level)[part]
    assert {finding.part for finding in report.wrong} <= {part}
    assert {finding.part for finding in report.notes} <= {part, *(finding.part for finding in before.notes)}


@pytest.mark.parametrize(
    ("machine", "python", "part", "level", "remedy"),
    [
        (MENDED, _python(MENDED, **JETSON_VENV), "Python", Level.WRONG, "--system-site-packages"),
        (MENDED, _packages(MENDED, {"opencv-contrib-python": "4.11"}), "OpenCV", Level.OK, ""),
        (CONTAINER, _packages(CONTAINER, {"opencv-python": "5.0"}), "OpenCV", Level.NOTE, "uninstall -y opencv-python"),
        (CONTAINER, _packages(CONTAINER, {"onnxruntime-gpu": "1.32.0"}), "ONNX Runtime", Level.WRONG, "install onnxruntime==1.32.0"),
        (DESKTOP, _packages(DESKTOP, {"onnxruntime": "1.20.0"}), "ONNX Runtime", Level.WRONG, "install onnxruntime-gpu==1.22.0"),
        (DESKTOP, _packages(DESKTOP, {"onnxruntime-ep-nv-tensorrt-rtx-cu13": "0.5.0"}), "ONNX Runtime", Level.OK, ""),
    ],
)  # fmt: skip
def test_one_package_is_wrong(
    machine: RecordedMachine, python: dict[str, str], part: str, level: Level, remedy: str, tmp_path: Path
) -> None:
    report = _report(machine.with_(commands=python), tmp_path)
    found = [finding for finding in report.findings if finding.part == part]
    assert any(finding.level is level and remedy in finding.remedy for finding in found)
    assert {finding.part for finding in report.wrong} == ({part} if level is Level.WRONG else set())


def test_a_gpu_that_onnx_runtime_leaves_idle(tmp_path: Path) -> None:
    """The wheel for CPUs beside a GPU costs speed; the wheel for GPUs that does not reach it is wrong, with its reason."""
    wrong = _report(DESKTOP.with_(commands=_providers(CUDA=CUDA_FAILS, Tensorrt="x")), tmp_path / "gpu")
    assert [finding.part for finding in wrong.wrong] == ["ONNX Runtime"] and CUDA_FAILS in wrong.wrong[0].found
    providers = _providers(absent={"CUDA": "no CUDA in this wheel"})
    cpu = _packages(DESKTOP, {"onnxruntime": "1.22.0"}, less="onnxruntime-gpu")
    idle = _report(DESKTOP.with_(commands={**providers, **cpu}), tmp_path / "cpu")
    assert not idle.wrong
    assert _remedies(idle, Level.NOTE)["ONNX Runtime"] == "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


def _providers(absent: dict[str, str] | None = None, **installed: str) -> dict[str, str]:
    """What the child says of providers by their short names: the CPU's runs, of the others the reasons are given."""
    rows = [["CPUExecutionProvider", "", True]]
    rows += [[f"{name}ExecutionProvider", reason, True] for name, reason in installed.items()]
    rows += [[f"{name}ExecutionProvider", reason, False] for name, reason in (absent or {}).items()]
    return {f'{CHILD} {{"do": "providers"}}': answer(providers=rows)}


def test_on_a_jetson_a_provider_that_fails_counts_whatever_the_wheel_is_called(tmp_path: Path) -> None:
    """NVIDIA's wheels for Jetsons, and those built there, need not be called onnxruntime-gpu."""
    healthy = _report(MENDED.with_(commands=_providers(CUDA="")), tmp_path / "healthy")
    assert not healthy.wrong
    report = _report(MENDED.with_(commands=_providers(CUDA=CUDA_FAILS, Tensorrt="libnvinfer.so.10")), tmp_path / "cuda")
    assert _remedies(report, Level.WRONG) == {"ONNX Runtime": "sudo apt install nvidia-jetpack"}
    assert [CUDA_FAILS in finding.found for finding in report.wrong] == [True]
    assert "TensorRT runs nothing (libnvinfer.so.10)" in {finding.found for finding in report.notes}
    absent = _report(MENDED.with_(commands=_providers({"CUDA": "not in this wheel"})), tmp_path / "absent")
    assert not absent.wrong and not absent.notes, "engines of TensorRT run on the GPU there"


def test_without_a_gpu_the_providers_that_are_installed_say_why_they_do_not_run(tmp_path: Path) -> None:
    rtx = "finds no device here: it needs an NVIDIA GPU from Ampere on"
    providers = _providers({"CUDA": "no CUDA in this wheel"}, Tensorrt=CUDA_FAILS, NvTensorRTRTX=rtx)
    before = _report(CONTAINER, tmp_path / "before")
    report = _report(CONTAINER.with_(commands=providers), tmp_path / "after")
    shown = [finding for finding in report.findings if finding.part == "ONNX Runtime"]
    assert [(finding.level, finding.found) for finding in shown[1:]] == [
        (Level.OK, f"TensorRT runs nothing ({CUDA_FAILS})"),
        (Level.OK, f"TensorRT-RTX runs nothing ({rtx})"),
    ]
    assert len(report.notes) == len(before.notes) and not report.wrong
    gpu_wheel = {**providers, **_packages(CONTAINER, {"onnxruntime-gpu": "1.32.0"}, less="onnxruntime")}
    both = _remedies(_report(CONTAINER.with_(commands=gpu_wheel), tmp_path / "wheel"), Level.NOTE)
    assert both["ONNX Runtime"] == "pip uninstall -y onnxruntime-gpu && pip install onnxruntime"


def test_a_plug_in_that_fails_beside_a_gpu_is_a_note(tmp_path: Path) -> None:
    providers = _providers(CUDA="", NvTensorRTRTX="the driver is too old")
    report = _report(DESKTOP.with_(commands=providers), tmp_path)
    assert not report.wrong
    assert _remedies(report, Level.NOTE)["ONNX Runtime"] == "pip install --upgrade onnxruntime-ep-nv-tensorrt-rtx"


def test_without_onnx_runtime_something_else_must_run(tmp_path: Path) -> None:
    gone = {f'{CHILD} {{"do": "providers"}}': answer(error="running ONNX files needs onnxruntime")}
    container = CONTAINER.with_(commands={**gone, **_packages(CONTAINER, {}, less="onnxruntime")})
    assert _remedies(_report(container, tmp_path / "none"), Level.WRONG) == {"ONNX Runtime": "pip install onnxruntime"}
    openvino = {
        **_packages(CONTAINER, {"openvino": "2026.4"}, less="onnxruntime"),
        f"{PROBE} openvino": answer(version="1"),
    }
    other = _report(container.with_(commands=openvino), tmp_path / "openvino")
    assert not other.wrong and "ONNX Runtime" in _remedies(other, Level.NOTE)


def test_openvino_is_worth_a_note_where_the_cpu_computes_in_bf16(tmp_path: Path) -> None:
    cpu = {"proc/cpuinfo": "model name\t: AMD EPYC 9R14\nflags\t\t: fpu avx512_bf16\n"}
    report = _report(CONTAINER.with_(cpu), tmp_path)
    assert _remedies(report, Level.NOTE)["OpenVINO"] == "pip install openvino"


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    for index, machine in enumerate((ORIN_NANO, DESKTOP, CONTAINER)):
        for finding in _report(machine, tmp_path / str(index)).findings:
            assert bool(finding.remedy) == (finding.level is not Level.OK), finding


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    """No file and no command: two findings are wrong, none is an error."""
    report = doctor(host=Host(tmp_path, lambda command, seconds: CommandOutput(), "python"), self_test=False)
    assert [finding.part for finding in report.wrong] == ["Python"]


@pytest.mark.parametrize(
    "text", ["\0", "[1]", "{}", "NV Power Mode:", "x" * 100_000, '{"providers": {"a": 1}}', "ii " * 99]
)
def test_a_machine_that_answers_everything_with_the_same_text(text: str, tmp_path: Path) -> None:
    for name in ORIN_NANO.files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    host = Host(tmp_path, lambda command, seconds: CommandOutput(text, text, 0), "python")
    assert doctor(host=host, self_test=False).findings


def test_the_report_as_json(tmp_path: Path) -> None:
    raw = json.loads(json.dumps(_report(ORIN_NANO, tmp_path).to_dict()))
    assert raw["levels"] == {"ok": 9, "note": 3, "wrong": 3}
    assert {
        "group": "machine",
        "part": "power mode",
        "level": "note",
        "found": "15W (0), and MAXN_SUPER (2) is the fastest",
        "remedy": "sudo nvpmodel -m 2",
    } in raw["findings"]
