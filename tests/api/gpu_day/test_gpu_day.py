"""The day with a GPU, on a machine without one: each part ends with its reason, and what needs torch alone is right."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.api.gpu_day import whole_runs
from reid_edge.api.gpu_day.__main__ import main
from reid_edge.api.gpu_day.checks import counted
from reid_edge.api.gpu_day.child import run_part
from reid_edge.api.gpu_day.day import DAY_NAME, gpu_day
from reid_edge.api.gpu_day.files import least_ms
from reid_edge.api.gpu_day.parts import PARTS, CannotRunError, DayOptions, rows_of
from reid_edge.api.gpu_day.whole_runs import whole_rows
from reid_edge.engines.cuda import find_gpu
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

SMALL = DayOptions(architectures=("osnet_x0_25",), batches=(1, 2), input_hw=(64, 32), seconds=0.01, device="cpu")


def test_without_a_gpu_it_runs_to_its_end_and_every_part_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_gpu():
        pytest.skip("this machine has a GPU")
    assert main(["--out", str(tmp_path / "day"), "--batch", "1", "--longer", "20"]) == 0
    content = json.loads((tmp_path / "day" / DAY_NAME).read_text())
    assert list(content["parts"]) == list(PARTS) and content["machine"]["cores"] >= 1
    for name, part in content["parts"].items():
        assert part["status"] == "cannot" and part["rows"] == [], name
        assert any(word in part["reason"] for word in ("driver", "GPU", "pip install", "has ", "TensorRT")), part
    assert str(tmp_path / "day" / DAY_NAME) in capsys.readouterr().out


def test_without_a_driver_torch_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes ten seconds where two cores are busy, and the day must end within a minute there."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(ctypes, "CDLL", _no_library)
    for part in ("peak", "torch", "training"):
        with pytest.raises(CannotRunError, match="no NVIDIA driver"):
            list(rows_of(part, tmp_path, DayOptions()))


def _no_library(name: str) -> None:
    raise OSError(name)


def test_a_dry_run_lists_parts_and_minutes_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", "--out", str(tmp_path / "day")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*PARTS, "together,"]
    assert sum(part.minutes for part in PARTS.values()) < 10 and not (tmp_path / "day").exists()


def test_a_part_that_is_done_is_not_run_again_unless_it_is_asked_for(tmp_path: Path) -> None:
    done = {"status": "done", "reason": "", "seconds": 1.0, "rows": [{"tflops": 1.0}]}
    other = {"status": "failed", "reason": "x", "seconds": 1.0, "rows": []}
    (tmp_path / DAY_NAME).write_text(json.dumps({"parts": {"tests-pycuda": done, "tests-cuda-bindings": other}}))
    found = gpu_day(tmp_path, only=["tests-pycuda"], options=SMALL)
    assert found["parts"] == {"tests-cuda-bindings": other, "tests-pycuda": done}
    again = gpu_day(tmp_path, only=["tests-pycuda"], again=True, options=SMALL)["parts"]
    assert again["tests-cuda-bindings"] == other and again["tests-pycuda"]["options"]["batches"] == [1, 2]
    assert again["tests-pycuda"] != done
    (tmp_path / DAY_NAME).write_text("[damaged")
    assert set(gpu_day(tmp_path, only=["tests-pycuda"], options=SMALL)["parts"]) == {"tests-pycuda"}


def test_bad_use_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for options, said in (
        (DayOptions(batches=(0,)), "give --batch .* and --size .* whole numbers"),
        (DayOptions(seconds=float("inf")), "cannot be measured for"),
        (DayOptions(architectures=("resnet",)), "resnet"),
        (DayOptions(device="tpu"), "device 'tpu' is unknown"),
    ):
        with pytest.raises(InputError, match=said):
            gpu_day(tmp_path / "day", options=options)
    with pytest.raises(InputError, match="cannot take 0 times as long"):
        gpu_day(tmp_path / "day", longer=0)
    with pytest.raises(InputError, match="part 'everything' is unknown"):
        gpu_day(tmp_path / "day", only=["everything"])
    assert not (tmp_path / "day").exists()
    assert main(["--out", str(tmp_path / "day"), "--batch", "0"]) == 2


def test_a_part_that_fails_or_is_late_ends_alone(tmp_path: Path) -> None:
    late = run_part("tests-pycuda", tmp_path, SMALL, minutes=1e-4)
    assert (late["status"], late["rows"]) == ("out of time", [])
    absent = replace(SMALL, data=str(tmp_path / "absent"))
    failed = run_part("training", tmp_path, absent)
    assert failed["status"] == "failed" and "absent" in failed["reason"] and "exit code 1" in failed["reason"]


def test_the_roofline_by_hand() -> None:
    """10 MMAC at 1 TFLOP/s take 0.02 ms, for 8 crops 0.16; their bytes at 100 GB/s 0.03 ms, and 0.1."""
    row = {"macs": 10**7, "crop_bytes": 10**6, "weight_bytes": 2 * 10**6}
    peak = {"tflops": 1.0, "gb_per_s": 100.0}
    assert [least_ms(row, batch, peak) for batch in (1, 8)] == [pytest.approx(0.03), pytest.approx(0.16)]
    assert least_ms(row, 1, None) is None


def test_a_report_of_tests_is_counted(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.a" name="one"/><testcase classname="tests.a" name="two"/>'
        '<testcase classname="tests.b" name="bad"><failure message="assert 1\n == 2">long</failure></testcase>'
        '<testcase classname="tests.b" name="out"><skipped message="needs pycuda"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert counted(tmp_path / "report.xml") == {
        "passed": 2,
        "failed": ["tests.b.bad: assert 1 == 2"],
        "skipped": {"needs pycuda": 1},
    }


def test_what_torch_times_is_what_the_file_computes() -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from helpers.small_network import images_of, network, random_weights, run

    from reid_edge.api.gpu_day.torch_graph import torch_forward
    from reid_edge.api.gpu_day.torch_parts import timed_ms
    from reid_edge.export.graph.fp16 import fp16_from_fp32

    graph, images, device = network(random_weights()), images_of(3), torch.device("cpu")
    forward = torch_forward(graph, device)
    with torch.inference_mode():
        np.testing.assert_allclose(forward(torch.from_numpy(images)).numpy(), run(graph, images), atol=1e-5)
        half = torch_forward(fp16_from_fp32(graph), device)(torch.from_numpy(images))
        assert half.dtype == torch.float32
        np.testing.assert_allclose(half.numpy(), run(graph, images), atol=5e-3)
    calls: list[int] = []
    assert timed_ms(lambda: calls.append(len(calls)), device, 1e-9) > 0 and len(calls) == 4, "three to warm up"
    pooled = graph.copy()
    next(node for node in pooled.graph.node if node.op_type == "Sigmoid").op_type = "Erf"
    from reid_edge.export.graph.graph import Graph

    with pytest.raises(CannotRunError, match="no form in torch of Erf"):
        torch_forward(Graph(pooled), device)


def test_graphs_are_timed_beside_the_roofline(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from helpers.streams_network import STREAMS_CARD, streams_network

    from reid_edge.api.gpu_day.files import FOLDER
    from reid_edge.api.gpu_day.torch_parts import graphs, peaks
    from reid_edge.export.graph.io import write_onnx

    crops = np.random.default_rng(0).integers(0, 256, (4, 64, 32, 3), dtype=np.uint8)
    write_onnx(streams_network(crops), STREAMS_CARD, tmp_path / FOLDER / "streams.onnx")
    row = {"file": "streams.onnx", "arch": "streams", "form": "plain", "precision": "fp32"}
    row |= {"macs": 10**6, "crop_bytes": 10**5, "weight_bytes": 10**4}
    (tmp_path / FOLDER / "files.json").write_text(json.dumps([row, {**row, "precision": "int8"}]))
    assert [each["roofline_ms"] for each in graphs(tmp_path, SMALL)] == [None, None], "no peak was measured"
    rates = {each["precision"]: each for each in peaks(tmp_path, SMALL)}
    assert rates["fp32"]["tflops"] > 0 and rates["fp32"]["gb_per_s"] > 0
    timed = list(graphs(tmp_path, SMALL))
    assert [(each["arch"], each["batch"]) for each in timed] == [("streams", 1), ("streams", 2)]
    assert all(each["ms"] > 0 for each in timed)
    assert timed[1]["roofline_ms"] == least_ms(row, 2, rates["fp32"])


@pytest.mark.long
def test_the_parts_that_need_torch_alone_measure_on_a_cpu(tmp_path: Path) -> None:
    """Files, their graphs in torch against ONNX Runtime, and training."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.api.gpu_day.files import FOLDER, files_in, written
    from reid_edge.api.gpu_day.torch_graph import torch_forward
    from reid_edge.api.gpu_day.training_part import speeds
    from reid_edge.engines.onnxruntime import OnnxEngine
    from reid_edge.export.graph.io import read_graph

    rows = list(written(tmp_path, SMALL))
    assert [row["precision"] for row in rows[:3]] == ["fp32", "fp16", "int8"]
    assert rows[0]["macs"] == rows[1]["macs"] and rows[0]["crop_bytes"] == 2 * rows[1]["crop_bytes"]
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), dtype=np.uint8)
    for row in files_in(tmp_path):
        path = tmp_path / FOLDER / row["file"]
        with OnnxEngine(path) as engine, torch.inference_mode():
            found = torch_forward(read_graph(path)[0], torch.device("cpu"))(torch.from_numpy(crops)).numpy()
            np.testing.assert_allclose(found, engine.run(crops), atol=1e-5 if row["precision"] == "fp32" else 2e-2)
    (speed,) = speeds(tmp_path, SMALL)
    assert speed["arch"] == "osnet_x0_25" and speed["images_per_second"] > 0 and 0 < speed["waiting"] < 1


class _Counting:
    """An engine whose whole runs take twice its own time, by a clock that the test moves."""

    def __init__(self, clock: list[float]) -> None:
        self.facts, self._clock = EngineFacts("double", "double", {}, None, "", concurrent_runs=1), clock

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._clock[0] += 0.002
        return np.zeros((len(images), 1), np.float32)

    def run_filled(self, count: int, fill: Callable[[int, int], None]) -> NDArray[np.float32]:
        fill(0, 0)
        self._clock[0] += 0.001
        return np.zeros((count, 1), np.float32)


def test_whole_runs_are_compared_with_the_engines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(whole_runs.time, "perf_counter", lambda: clock[0])
    row = {"arch": "a", "form": "plain", "precision": "fp16"}
    options = replace(SMALL, batches=(1, 8), seconds=1.0)
    largest, single = whole_rows(_Counting(clock), row, options)
    assert largest["own_crops_s"] == pytest.approx(8000, rel=0.01) and largest["threads"] == 1
    assert largest["share"] == pytest.approx(0.5, rel=0.01) and not largest["share_holds"]
    assert (single["p50_ms"], single["spread"]) == (pytest.approx(2.0), pytest.approx(1.0)) and single["spread_holds"]
    assert single["runs"] >= 500 and single["batch"] == 1
