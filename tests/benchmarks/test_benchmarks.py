"""The benchmark's arithmetic, its child processes and its report; nothing here depends on how fast anything is."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_onnx import tiny_model, write_tiny_model
from rich.console import Console

from reid_edge.benchmarks.details import detail_lines
from reid_edge.benchmarks.latency import Percentiles, measure_latency, measure_turn, peak_memory_bytes
from reid_edge.benchmarks.machine import Machine, describe_machine
from reid_edge.benchmarks.options import BenchOptions
from reid_edge.benchmarks.report import report_table
from reid_edge.benchmarks.results import BenchReport, BenchRow, Change
from reid_edge.benchmarks.run import bench
from reid_edge.benchmarks.session import Session
from reid_edge.benchmarks.timing.measurement import Clocks, Energy, Measurement, Streamed, Turn, WarmUp
from reid_edge.benchmarks.timing.turns import RawTurn
from reid_edge.benchmarks.worker import _death, in_child
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import DatasetError, ImageError, InputError, ModelError, ReidEdgeError
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet

HW = (64, 32)
BARE = {"repeats": 2, "min_seconds": 0.0}
QUICK = BenchOptions(batches=(1, 3), threads=1, repeats=3, min_seconds=0.0, turns=1, retries=0, gallery=20)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=2, test_identities=3, cameras=2, size_hw=HW)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    first = write_tiny_model(folder / "first.onnx", input_hw=HW, macs=1_000_000)
    return [first, write_tiny_model(folder / "blind.onnx", input_hw=HW, stripes=1, embedding_dim=2, seed=3)]


@pytest.fixture(scope="module")
def report(models: list[Path], people: Path) -> BenchReport:
    return bench(models, people, options=QUICK)


def _times(p50: float) -> Percentiles:
    return Percentiles(p50, 2 * p50, 3 * p50)


def _row(
    batch: int = 1,
    inference: float = 4.0,
    end_to_end: float = 5.0,
    provider: str = "CPUExecutionProvider",
    **fields: Any,
) -> BenchRow:
    measured = Measurement(
        samples=7,
        preprocess_ms=_times(end_to_end - inference),
        inference_ms=_times(inference),
        end_to_end_ms=_times(end_to_end),
        crops_per_s=1000 * batch / end_to_end,
        inference_crops_per_s=1000 * batch / inference,
        load_ms=30.0,
        first_run_ms=9.0,
        peak_memory_bytes=90_000_000,
        engine=EngineFacts("onnxruntime", provider, {"onnxruntime": "1.22.0", "L4T": "36.3.0"}, 4, "0123456789ab" * 5),
    )
    row = BenchRow("osnet_fp32", "m/osnet_fp32.onnx", 900_000, "osnet_x0_25", "fp32", 512, 80_000_000, batch, measured)
    return replace(row, **fields)


def _machine(**facts: Any) -> Machine:
    return replace(describe_machine(), **{"load_average": 0.1, "cores": 4, **facts})


def _report(*rows: BenchRow, **fields: Any) -> BenchReport:
    settings = {"files": 24, "data": "Market-1501"}
    return replace(BenchReport("reid-edge 0", "2026-01-01", _machine(), settings, (), 100.0, rows), **fields)


def _printed(report: BenchReport, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(report_table(report))
    return out.getvalue()


# Arithmetic


def test_percentiles_of_a_worked_list() -> None:
    """Eleven values 0, 10 .. 100: p90 is the value at index 9, p99 lies 0.9 of the way from index 9 to 10."""
    times = Percentiles.of([100, 0, 90, 10, 80, 20, 70, 30, 60, 40, 50])
    assert (times.p50, times.p90, times.p99) == pytest.approx((50, 90, 99))


def test_percentiles_of_one_value_are_that_value() -> None:
    bare = {"p50": (None, None), "p90": (None, None), "p99": (7.5, None)}  # one value is below p99 with 99 %
    assert Percentiles.of([7.5]) == Percentiles(7.5, 7.5, 7.5, 1, bare)


def test_percentiles_between_two_values_are_interpolated() -> None:
    times = Percentiles.of([20.0, 10.0])
    assert (times.p50, times.p90, times.p99) == pytest.approx((15.0, 19.0, 19.9))


def test_the_change_is_per_crop_and_in_points() -> None:
    first = _row(batch=1, inference=4.0, end_to_end=5.0, rank1=0.80, mAP=0.60)
    other = _row(batch=8, inference=16.0, end_to_end=20.0, rank1=0.75, mAP=0.625)
    change = Change.between(first, other)
    assert change.inference == pytest.approx(16 / 8 / 4)
    assert change.end_to_end == pytest.approx(20 / 8 / 5)
    assert change.rank1_points == pytest.approx(-5.0)
    assert change.mAP_points == pytest.approx(2.5)


def test_the_first_row_does_not_differ_from_itself() -> None:
    report = _report(_row(rank1=0.5, mAP=0.5), _row(batch=8))
    assert report.change(report.rows[0]) == Change(1.0, 1.0, 0.0, 0.0)


def test_without_accuracy_there_is_no_change_of_it() -> None:
    assert Change.between(_row(), _row(rank1=0.5, mAP=0.5)).rank1_points is None


def test_the_roofline_counts_two_operations_a_mac() -> None:
    """80 MMACs at 250 crops/s are 2 x 0.08 x 250 = 40 GFLOP/s, and 0.4 of a peak of 100."""
    row = _row(inference=4.0)
    assert row.gflops == pytest.approx(40.0)
    assert _report(row).of_peak(row) == pytest.approx(0.4)
    assert replace(row, macs=0).gflops is None
    assert _report(row, sgemm_gflops=None).of_peak(row) is None


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_only_float32_on_the_cpu_is_a_share_of_a_float32_peak_of_the_cpu(precision: str) -> None:
    rounded, gpu = _row(precision=precision), _row(provider="CUDAExecutionProvider")
    report = _report(_row(), rounded, gpu)
    assert [report.of_peak(row) for row in report.rows] == [pytest.approx(0.4), None, None]
    assert [row["of_peak"] for row in report.to_dict()["rows"]][1:] == [None, None]
    assert "of the 100 that a matrix product in fp32 reached" in _printed(report, 200)
    assert "matrix product" not in _printed(_report(rounded, gpu), 200)


# The machine


def test_a_bare_system_is_still_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = describe_machine(tmp_path)
    assert machine.cores >= 1 and machine.cpu and machine.os and machine.python
    assert (machine.memory_bytes, machine.board, machine.power_mode, machine.governor) == (None,) * 4
    assert (machine.frequency_mhz, machine.clocks_pinned, machine.gpus) == (None, None, ())
    assert json.loads(json.dumps(machine.to_dict())) == machine.to_dict()
    assert "cores usable" in _printed(_report(_row(), machine=machine), 200)


def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def _command(folder: Path, name: str, output: str, code: int = 0) -> None:
    _write(folder, name, f"#!/bin/sh\nprintf '{output}'\nexit {code}\n")
    (folder / name).chmod(0o755)


def _jetson(root: Path, low: int) -> None:
    """A system tree as an Orin shows it: two clusters, a board name that ends in NUL, an ARM cpuinfo."""
    _write(root, "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    _write(root, "proc/cpuinfo", "processor\t: 0\nCPU part\t: 0xd42\n")
    _write(root, "proc/meminfo", "MemFree: 1 kB\nMemTotal:        8000000 kB\n")
    _write(root, "etc/os-release", 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n')
    for policy, high in ((0, 1_510_000), (4, 1_728_000)):
        folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
        _write(root, f"{folder}/scaling_governor", "schedutil\n")
        for name, value in (("cur", high), ("min", min(low, high)), ("max", high)):
            _write(root, f"{folder}/scaling_{name}_freq", f"{value}\n")


def test_a_jetson_shows_its_board_clocks_and_power_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _jetson(tmp_path, low=115_000)
    _command(tmp_path / "bin", "nvpmodel", "NV Power Mode: 15W\\n0\\n")
    _command(tmp_path / "bin", "lscpu", "Architecture: aarch64\\nModel name:  Cortex-A78AE\\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    machine = describe_machine(tmp_path)
    assert (machine.board, machine.power_mode) == ("NVIDIA Jetson Orin Nano", "15W")
    assert (machine.cpu, machine.os) == ("Cortex-A78AE", "Ubuntu 22.04.4 LTS")
    assert machine.memory_bytes == 8_000_000 * 1024
    assert (machine.governor, machine.max_frequency_mhz, machine.clocks_pinned) == ("schedutil", 1728.0, False)
    printed = _printed(_report(_row(), machine=machine), 200)
    assert "NVIDIA Jetson Orin Nano" in printed and "power mode 15W" in printed and "clocks not pinned" in printed


def test_jetson_clocks_is_seen_as_pinned_clocks(tmp_path: Path) -> None:
    _jetson(tmp_path, low=9_999_999)
    assert describe_machine(tmp_path).clocks_pinned is True


def test_gpus_and_their_driver_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _command(tmp_path, "nvidia-smi", "name, driver_version\\nNVIDIA A2, 550.54\\nNVIDIA L4, 550.54\\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_machine(tmp_path).gpus == ("NVIDIA A2, driver 550.54", "NVIDIA L4, driver 550.54")


def test_a_broken_nvidia_smi_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _command(tmp_path, "nvidia-smi", "NVIDIA-SMI has failed, driver not loaded\\n", code=9)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_machine(tmp_path).gpus == ()


def test_a_container_bounds_cores_and_memory(tmp_path: Path) -> None:
    _write(tmp_path, "proc/meminfo", "MemTotal: 8000000 kB\n")
    _write(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    _write(tmp_path, "sys/fs/cgroup/memory.max", "2000000\n")
    machine = describe_machine(tmp_path)
    assert (machine.cores, machine.memory_bytes) == (1, 2_000_000)
    _write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    _write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    machine = describe_machine(tmp_path)
    assert (machine.cores, machine.memory_bytes) == (len(os.sched_getaffinity(0)), 8_000_000 * 1024)


@pytest.mark.parametrize(("load", "busy"), [(2.0, False), (2.1, True), (None, False)])
def test_a_busy_machine_is_a_warning(load: float | None, busy: bool) -> None:
    """Busy is a load above half of four cores."""
    report = _report(_row(), machine=_machine(load_average=load, cores=4))
    assert bool(report.warnings) is busy
    assert ("warning: this machine was busy" in _printed(report, 200)) is busy
    assert report.to_dict()["machine"]["busy"] is busy


def test_beating_the_ceiling_is_a_warning() -> None:
    """40 GFLOP/s under a measured peak of 39: the peak is wrong. An INT8 model is not compared with it."""
    assert _report(_row(), sgemm_gflops=41.0).warnings == ()
    assert "matrix product" in _report(_row(), sgemm_gflops=39.0).warnings[0]
    assert _report(_row(precision="int8"), sgemm_gflops=39.0).warnings == ()


# Measuring


def test_batches_walk_over_the_files_in_a_circle(models: list[Path], people: Path) -> None:
    """Four a batch from three files: had the circle not closed, the batch would be short or empty."""
    crops = sorted((people / "query").glob("*.jpg"))[:3]
    measured = measure_latency(models[0], crops, 4, repeats=5, min_seconds=0.0, threads=1)
    assert measured.samples == 5
    assert measured.inference_ms.p50 <= measured.inference_ms.p90 <= measured.inference_ms.p99
    assert measured.end_to_end_ms.p50 >= max(measured.preprocess_ms.p50, measured.inference_ms.p50)
    assert measured.crops_per_s < measured.inference_crops_per_s


def test_measuring_goes_on_for_the_seconds_asked(models: list[Path], people: Path) -> None:
    """After one batch alone it would end with the 0.3 s of warm-up."""
    crops = sorted((people / "query").glob("*.jpg"))
    begin = time.perf_counter()
    measure_latency(models[0], crops, 1, repeats=1, min_seconds=1.0, threads=1)
    assert time.perf_counter() - begin >= 1.3


def test_a_child_reports_its_own_memory_not_its_parents(models: list[Path], people: Path) -> None:
    """Linux hands ``ru_maxrss`` down from a large parent to its child; the report must not."""
    held = np.ones(300 << 20, np.uint8)
    crops = [str(path) for path in (people / "query").glob("*.jpg")]
    job = {"do": "latency", "model": str(models[0]), "paths": crops, "batch": 1, "threads": 1, **BARE}
    child, own = in_child(job, "measuring")["peak_memory_bytes"], peak_memory_bytes()
    assert own is not None and own >= held.nbytes
    assert 10 << 20 < child < held.nbytes


def test_measuring_imports_no_torch(models: list[Path], people: Path) -> None:
    crop = next((people / "query").glob("*.jpg"))
    code = (
        "import sys, reid_edge.benchmarks.run, reid_edge.benchmarks.worker\n"
        "assert not {'onnxruntime', 'rich', 'cv2'} & set(sys.modules), 'imported before they are needed'\n"
        "from reid_edge.benchmarks.latency import measure_latency\n"
        "measure_latency(sys.argv[1], [sys.argv[2]], 1, repeats=1, min_seconds=0)\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(models[0]), str(crop)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in loaded
    assert not {"torch", "torchvision", "onnx"} & set(loaded)


def test_what_the_child_refuses_is_raised_here_as_one_line(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    job = {"do": "latency", "model": str(models[0]), "paths": [str(tmp_path / "text.jpg")], "batch": 1, **BARE}
    with pytest.raises(ImageError, match=r"text\.jpg") as caught:
        in_child(job, "measuring")
    assert "\n" not in str(caught.value)


def test_a_child_that_dies_is_one_line(models: list[Path]) -> None:
    with pytest.raises(ReidEdgeError, match=r"^timing x failed with exit code 1 \(TypeError.*nonsense") as caught:
        in_child({"do": "latency", "nonsense": 1}, "timing x")
    assert "\n" not in str(caught.value)


def test_a_child_that_is_killed_suggests_a_smaller_batch() -> None:
    message = _death(-9, "noise\n", "measuring x at batch 4096")
    assert message.startswith("measuring x at batch 4096: ") and "smaller --batch" in message and "\n" not in message


# The whole


def test_a_row_for_each_model_and_batch_in_the_order_given(report: BenchReport, models: list[Path]) -> None:
    assert [(row.model, row.batch) for row in report.rows] == [("first", 1), ("first", 3), ("blind", 1), ("blind", 3)]
    assert [row.file_bytes for row in report.rows[::2]] == [path.stat().st_size for path in models]
    assert all(row.measured.samples == 3 for row in report.rows)
    assert report.rows[0].gflops is not None and report.rows[2].gflops is None


def test_a_row_says_what_computed_it(report: BenchReport, models: list[Path]) -> None:
    for row, written in zip(report.rows, report.to_dict()["rows"], strict=True):
        assert (written["backend"], written["provider"], written["threads"]) == (
            "onnxruntime",
            "CPUExecutionProvider",
            1,
        )
        assert written["versions"] == {"onnxruntime": onnxruntime.__version__}
        assert written["sha256"] == hashlib.sha256(Path(row.path).read_bytes()).hexdigest()
    assert report.rows[0].measured.engine.sha256 != report.rows[2].measured.engine.sha256


@pytest.mark.parametrize("width", [80, 220])
def test_the_table_says_what_computed_each_model_once(width: int) -> None:
    printed = " ".join(_printed(_report(_row(), _row(batch=8)), width).split())
    line = "osnet_fp32: CPUExecutionProvider, onnxruntime 1.22.0, L4T 36.3.0, 4 threads, sha256 0123456789ab"
    assert printed.count(line) == 1


def test_accuracy_is_the_evaluations_and_the_same_in_each_row_of_a_model(
    report: BenchReport, models: list[Path], people: Path
) -> None:
    for index, model in enumerate(models):
        metrics = evaluate(model, people).metrics
        for row in report.rows[2 * index : 2 * index + 2]:
            assert (row.rank1, row.mAP) == (metrics.rank(1), metrics.mAP)


def test_an_open_data_set_is_measured_as_its_folder(report: BenchReport, models: list[Path], people: Path) -> None:
    options = replace(QUICK, batches=(1,), repeats=1)
    with TestSet.open(people) as data:
        for given in (data, data.dataset):
            again = bench(models[0], given, options=options)
            assert (again.rows[0].rank1, again.rows[0].mAP) == (report.rows[0].rank1, report.rows[0].mAP)
            assert all(again.settings[name] == report.settings[name] for name in ("data", "part", "files"))


def test_the_json_reads_back_and_holds_every_figure(report: BenchReport) -> None:
    content = report.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    row = content["rows"][3]
    assert {"p50", "p90", "p99", "n", "bounds"} == set(row["end_to_end_ms"])
    assert row["change"]["rank1_points"] == pytest.approx(100 * (row["rank1"] - content["rows"][0]["rank1"]))
    assert content["settings"]["threads"] == 1 and content["settings"]["batches"] == [1, 3]
    assert (content["settings"]["repeats"], content["settings"]["min_seconds"]) == (3, 0.0)


@pytest.mark.parametrize("width", [80, 220])
def test_each_row_is_one_line(report: BenchReport, width: int) -> None:
    lines = [line.split() for line in _printed(report, width).splitlines()]
    rows = [line for line in lines if line[:1] in (["first"], ["blind"])]
    assert [row[:3] for row in rows] == [[name, "fp32", batch] for name in ("first", "blind") for batch in ("1", "3")]
    assert all(len(row) == 10 for row in rows)


@pytest.mark.parametrize("width", [80, 100, 220])
def test_no_figure_is_cut_from_eighty_columns_up(width: int) -> None:
    row = _row(batch=32, inference=11830.0, end_to_end=11900.0, rank1=0.915, mAP=0.756)
    name = "mobilenetv3_large_distilled_from_resnet50"
    energy = Energy(1234.5, "VDD_IN", 1.0, 1.0)
    marked = replace(row.measured, energy=energy, streams=16, disturbed=("other processes used 50% of the CPUs",))
    other = replace(row, model=f"{name}_int8", path="b.onnx", precision="int8", rank1=1.0, mAP=0.2, measured=marked)
    printed = _printed(_report(row, other), width)
    words = set(printed.split())
    assert {"11900", "35700", "91.5", "75.6", "100.0", "x1.00", "1234", "32x16~", f"{name}_int8:"} <= words
    assert "mobilenetv3_..from_resnet50" in words and "…" not in printed
    assert max(map(len, printed.splitlines())) <= width


def test_details_show_every_part_of_a_row() -> None:
    times = Percentiles(3.0, 4.0, 5.0, 400, {"p50": (2.9, 3.1), "p90": (3.9, 4.2), "p99": (4.5, None)})
    row = _row(rank1=0.5, mAP=0.5)
    measured = replace(
        row.measured,
        stages={"decode": times, "host_to_device": times},
        warm_up=WarmUp(12, 0.5, False),
        streamed=Streamed(321.0, times, 8),
        energy=Energy(12.5, "VDD_IN", 5.0, 2.0, 1.5),
        clocks=Clocks(1500.0, 600.0, 2133.0, 61.0, ("software power cap",), "15W (0)"),
        disturbed=("other processes used 50% of the CPUs",),
        turns=(Turn("2026", 3, 4.5, 1.0, 1.0), Turn("2026", 3, 5.5, 1.0, 1.0)),
    )
    lines = detail_lines(_report(row), replace(row, measured=measured))
    text = "\n".join(lines)
    for part in (
        "decode         3.00 [2.90, 3.10]    4.00 [3.90, 4.20]    5.00 [4.50, -]",
        "to the device",
        "streamed: 321 crops/s",
        "opened in 30.0 ms, first run 9.00 ms; warm-up 12 batches, 0.5 s, never steady",
        "40.0 GFLOP/s, 40% of the 100 of a matrix product",
        "12.50 mJ a crop by VDD_IN: 2.5 W, 1.5 W when waiting",
        "CPU 1500 MHz, GPU 600 MHz, memory 2133 MHz, 61 C, power mode 15W (0), lowered by software power cap",
        "turns' p50: 4.50, 5.50 ms",
        "disturbed: other processes used 50% of the CPUs",
    ):
        assert part in text, part


def test_details_of_many_batches_fit_eighty_columns() -> None:
    """From 368 batches on every percentile has both bounds; these are of four and of five figures."""
    times = Percentiles(1234.0, 12345.0, 12345.0, 400, dict.fromkeys(("p50", "p90", "p99"), (1234.0, 12345.0)))
    row = _row()
    measured = replace(row.measured, stages={"device_to_host": times}, streamed=Streamed(321.0, times, 8))
    assert max(map(len, detail_lines(_report(row), replace(row, measured=measured)))) <= 80


def test_rows_of_one_name_say_what_differs() -> None:
    """By backend, and models of the same name by their folder."""
    name = "mobilenetv3_large_distilled_from_resnet50"
    row = _row(model=f"{name}_fp32", path=f"first/{name}_fp32.onnx")
    openvino = replace(row.measured, engine=replace(row.measured.engine, backend="openvino"))
    other = replace(row, model="osnet", path="a/osnet.onnx")
    report = _report(row, replace(row, measured=openvino), other, replace(other, path="b/osnet.onnx"))
    printed = _printed(report, 80)
    names = [line.partition(" fp32 ")[0].rstrip() for line in printed.splitlines() if line.endswith(" x1.00")]
    assert names == ["mobile..esnet50 onnxruntime", "mobilene..resnet50 openvino", "a/osnet", "b/osnet"]
    assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed


def test_what_holds_the_machine_back_comes_first() -> None:
    report = _report(_row(), slow=("this board is in power mode 15W",), complete=False)
    assert report.warnings[0] == "this board is in power mode 15W" and "interrupted" in report.warnings[1]
    assert _printed(report, 200).startswith("warning: this board is in power mode 15W")


def test_a_share_of_the_peak_is_of_the_rows_own_type_and_device() -> None:
    """40 GFLOP/s, of 50 in INT8 and of 80 in bf16 on the CPU, of 160 in FP16 on a GPU."""
    rates = {"int8": 50.0, "bf16": 80.0, "fp32": 90.0, "gpu_fp16": 160.0}
    gpu = replace(_row(provider="TensorRT 10.3.0"), precision="fp16")
    rows = [_row(), _row(precision="int8"), _row(precision="bf16"), _row(precision="fp16"), gpu]
    report = _report(*rows, rates=rates)
    assert [report.of_peak(row) for row in rows] == [0.4, pytest.approx(0.8), 0.5, None, 0.25]


def test_stages_are_timed_and_a_gallery_is_searched(report: BenchReport) -> None:
    for row in report.rows:
        assert list(row.measured.stages) == ["decode", "resize", "compute", "rank"]
        assert all(times.n >= 1 and times.p50 > 0 for times in row.measured.stages.values())
        assert row.measured.streamed is not None and row.measured.streamed.crops_per_s > 0
        assert len(row.measured.turns) == 1 and row.measured.warm_up is not None


def test_an_interrupted_bench_leaves_its_rows_and_continues(models: list[Path], tmp_path: Path) -> None:
    """Stopped while the third of four turns is measured: two rows are in the file, and only two turns are run again."""
    file = tmp_path / "bench.json"
    options = replace(QUICK, batches=(1,), turns=2, repeats=2, stream=False)
    turns: list[str] = []

    class Stopped(Session):
        def _measure(self, turn: Any) -> RawTurn:
            turns.append(turn.key())
            if len(turns) == 3:
                raise KeyboardInterrupt
            return super()._measure(turn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reid_edge.benchmarks.run.Session", Stopped)
        with pytest.raises(KeyboardInterrupt):
            bench(models, options=options, save=file)
        left = BenchReport.read(file)
        assert not left.complete and [row.model for row in left.rows] == ["first", "blind"]
        report = bench(models, options=options, save=file)
    assert turns == ["0/1/1/0", "1/1/1/0", "0/1/1/1", "0/1/1/1", "1/1/1/1"]
    assert report.complete and [len(row.measured.turns) for row in report.rows] == [2, 2]
    assert report.rows[0].measured.turns[0] == left.rows[0].measured.turns[0]
    assert BenchReport.read(file).to_dict() == report.to_dict() and list(tmp_path.iterdir()) == [file]


def test_streams_are_rows_of_their_own(models: list[Path], people: Path) -> None:
    crops = sorted((people / "query").glob("*.jpg"))[:3]
    turn = measure_turn(models[0], crops, 2, repeats=5, min_seconds=0.0, threads=1, streams=2)
    assert turn.streams == 2 and len(turn.inference) == 6 and not turn.streamed_ms


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.256, "0.26"), (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (123456.0, "123456")],
)
def test_figures_have_three_digits_and_no_exponent(value: float, shown: str) -> None:
    assert shown in _printed(_report(_row(inference=value / 2, end_to_end=value)), 220).split()


def test_without_data_the_accuracy_is_empty(models: list[Path]) -> None:
    report = bench(models[0], options=replace(QUICK, batches=(2,), repeats=1))
    assert (report.rows[0].rank1, report.rows[0].mAP) == (None, None)
    assert "synthetic" in report.settings["data"]
    printed = _printed(report, 220)
    assert "x1.00" in printed and " R1 " not in printed.partition("files of")[0].partition("mAP")[2]


# Bad use


def test_a_missing_model_is_one_line_before_anything_is_measured(models: list[Path], people: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx does not exist") as caught:
        bench([models[0], people / "gone.onnx"], people)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_ours_is_refused(tmp_path: Path, people: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(tiny_model(), str(other))
    with pytest.raises(ModelError, match="reid-edge export"):
        bench([other], people)


def test_a_missing_data_set_is_refused(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises((InputError, DatasetError), match="gone"):
        bench(models, tmp_path / "gone")


@pytest.mark.parametrize(
    "bad",
    [
        {"batches": ()},
        {"batches": (4, 0)},
        {"repeats": 0},
        {"min_seconds": -1.0},
        {"turns": 0},
        {"streams": (0,)},
        {"distance": "nearness"},
    ],
    ids=str,
)
def test_settings_that_measure_nothing_are_refused(models: list[Path], people: Path, bad: dict[str, Any]) -> None:
    distance = bad.pop("distance", "cosine")
    with pytest.raises(InputError):
        bench(models, people, options=BenchOptions(**bad), distance=distance)


def test_a_checkpoint_is_refused_with_the_command_that_exports_it(people: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pth"
    checkpoint.write_bytes(b"weights")
    with pytest.raises(ModelError, match=f"reid-edge export {checkpoint}"):
        bench(checkpoint, people)


def test_no_models_is_refused(people: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        bench([], people)


# The file


def test_a_report_reads_back_from_its_json(report: BenchReport, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(report.to_dict()))
    again = BenchReport.read(file)
    assert again.to_dict() == report.to_dict()
    assert again.rows == report.rows


def test_a_file_of_version_1_still_reads(tmp_path: Path) -> None:
    """As 0.1 wrote it: without a version, stages, bounds and turns."""
    file = Path(__file__).parent / "bench_version_1.json"
    old = BenchReport.read(file)
    assert [(row.model, row.batch, row.precision) for row in old.rows] == [("first", 1, "fp32"), ("first", 3, "fp32")]
    assert old.rows[0].measured.end_to_end_ms.p50 == json.loads(file.read_text())["rows"][0]["end_to_end_ms"]["p50"]
    assert (old.rows[0].measured.stages, old.rows[0].measured.energy, old.complete) == ({}, None, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"rows": 3}', "[" * 5000, '"bench"'])
def test_another_file_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        BenchReport.read(file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
