"""What a measured time means: bounds, steadiness, disturbance, turns, trtexec's files; nothing here waits or times."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_edge.benchmarks.timing.disturbance import Counters, Disturbance, parse_cpu_times, parse_pressure
from reid_edge.benchmarks.timing.journal import Journal
from reid_edge.benchmarks.timing.measurement import Measurement
from reid_edge.benchmarks.timing.percentiles import Percentiles, order_bounds, thinned
from reid_edge.benchmarks.timing.rates import matmul_model, matmul_rates
from reid_edge.benchmarks.timing.steady import is_steady, warm_up
from reid_edge.benchmarks.timing.trtexec import TrtexecTimes, read_trtexec
from reid_edge.benchmarks.timing.turns import RawTurn, merged
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

# Bounds of percentiles


def _coverage(number: int, share: float, low: int | None, high: int | None) -> float:
    """P(low <= B < high) of B ~ binomial(number, share), term by term."""
    first, last = low or 0, number if high is None else high - 1
    return sum(math.comb(number, k) * share**k * (1 - share) ** (number - k) for k in range(first, last + 1))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("number", [6, 20, 100, 368, 500])
def test_bounds_hold_the_true_percentile_often_enough_and_no_tighter_ones_do(number: int, share: float) -> None:
    """The values are their own ranks, so that the bounds are order statistics; each side errs with at most 2.5 %."""
    low, high = (None if bound is None else int(bound) for bound in order_bounds(range(1, number + 1), share))
    assert _coverage(number, share, low, high) >= 0.95 - 1e-12
    if low is not None:
        assert 1 - _coverage(number, share, low + 1, None) > 0.025
    if high is not None:
        assert 1 - _coverage(number, share, None, high - 1) > 0.025


def test_how_many_times_it_takes_to_bound_a_percentile() -> None:
    """0.9^n and 0.99^n are at most 2.5 % from 36 and 368 values on; two-sided for the median from 6."""
    for rank, number in (("p50", 6), ("p90", 36), ("p99", 368)):
        assert Percentiles.of(range(number - 1)).bounds[rank][1] is None
        assert Percentiles.of(range(number)).bounds[rank][1] is not None


def test_bounds_cover_on_drawn_times() -> None:
    """Of 2,000 draws of 100 times the bounds of p90 hold the true one in at least 95 %, less three standard errors."""
    draws = np.random.default_rng(0).exponential(size=(2000, 100))
    true = -math.log(0.1)
    held = [low <= true <= high for low, high in (order_bounds(np.sort(draw), 0.9) for draw in draws) if low and high]
    assert len(held) == 2000 and np.mean(held) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_a_thinned_sample_keeps_the_ends_and_the_percentiles() -> None:
    times = np.random.default_rng(0).gamma(4.0, size=20_000)
    kept = thinned(times)
    assert len(kept) == 500 and (kept[0], kept[-1]) == pytest.approx((times.min(), times.max()), abs=1e-6)
    assert np.percentile(kept, 90) == pytest.approx(np.percentile(times, 90), rel=0.01)


# Warm-up


class _Runs:
    """Runs that take the milliseconds planned for them, the last for ever, on a clock that they move."""

    def __init__(self, *plan: float) -> None:
        self.plan, self.now, self.count = plan, 0.0, 0

    def __call__(self) -> float:
        time_ms = self.plan[min(self.count, len(self.plan) - 1)]
        self.now += time_ms / 1e3
        self.count += 1
        return time_ms

    def clock(self) -> float:
        return self.now


def test_a_warm_up_ends_when_three_windows_agree() -> None:
    """Each run is longer than a window of 0.1 s: 130, 120, 120 ms are over 5 % apart, the next three are not."""
    runs = _Runs(200.0, 150.0, 130.0, 120.0)
    warmed = warm_up(runs, 10.0, runs.clock)
    assert warmed.steady and warmed.batches == runs.count == 6


def test_short_batches_are_judged_by_the_median_of_a_window() -> None:
    """Of 30 ms each four fill a window; a slow one among them changes no median."""
    runs = _Runs(30.0, 30.0, 70.0, 30.0)
    warmed = warm_up(runs, 10.0, runs.clock)
    assert warmed.steady and warmed.batches == runs.count == 3 + 4 + 4


def test_a_warm_up_that_never_settles_ends_and_says_so() -> None:
    runs = _Runs(*(float(110 + 50 * (step % 2)) for step in range(1000)))
    warmed = warm_up(runs, 2.0, runs.clock)
    assert not warmed.steady and 2.0 <= warmed.seconds < 2.3


def test_slow_batches_are_warmed_up_three_times_at_least() -> None:
    runs = _Runs(5000.0)
    warmed = warm_up(runs, 1.0, runs.clock)
    assert (warmed.batches, warmed.steady) == (3, True)


@pytest.mark.parametrize(("medians", "steady"), [([1, 1.04, 1.05], True), ([1, 1.06, 1], False), ([9, 1, 1, 1], True)])
def test_steady_is_within_five_per_cent(medians: list[float], steady: bool) -> None:
    assert is_steady(medians) is steady


# Disturbance

# https://man7.org/linux/man-pages/man5/proc_stat.5.html says what the columns are.
STAT = "cpu  30 0 10 900 50 0 10 4 5 0\ncpu0 20 0 5 450 25 0 5 3 5 0\ncpu1 10 0 5 450 25 0 5 1 0 0\nintr 9\n"
# https://github.com/jamespwilliams/psitop/issues/2 (Debian, Linux 5.10: no line "full").
PRESSURE = "some avg10=0.10 avg60=0.21 avg300=0.25 total=73759571709 \n"


def test_busy_time_is_of_the_cpus_that_may_be_used() -> None:
    """CPU 0: user 20, system 5, softirq 5 ticks; its guest's 5 are in user already, its 25 of iowait are idle."""
    assert parse_cpu_times(STAT, [0], 100) == pytest.approx((0.30, 0.03))
    assert parse_cpu_times(STAT, [0, 1], 100) == pytest.approx((0.50, 0.04))
    assert parse_cpu_times("", [0], 100) == (None, None)
    assert parse_cpu_times(STAT, [7], 100) == (None, None)


def test_waiting_time_is_the_total_of_some() -> None:
    assert parse_pressure(PRESSURE) == pytest.approx(73759.571709)
    assert parse_pressure("full avg10=0.00 total=9") is None


BEFORE = Counters(at=0.0, cpus=2, own=1.0, busy=10.0, steal=0.0, waiting=0.0, switches=0)


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        ({"busy": 12.0}, ()),  # 2 s busy of which 2 s are its own
        ({"busy": 12.6}, ("other processes used 15% of the CPUs",)),  # 0.6 s of 2 s on 2 CPUs
        ({"busy": 12.0, "steal": 0.1}, ("the hypervisor took 2% of the CPUs",)),
        ({"busy": 12.0, "waiting": 1.0}, ("some task waited for a CPU 50% of the time",)),
        ({"busy": 12.0, "switches": 900}, ("it was displaced 450 times a second",)),
        ({"busy": None, "steal": None, "waiting": None, "switches": None}, ()),  # not Linux
    ],
)
def test_what_disturbed_a_measurement(after: dict[str, Any], reasons: tuple[str, ...]) -> None:
    after = {"steal": 0.0, "waiting": 0.0, "switches": 0, **after}
    found = Disturbance.between(BEFORE, replace(BEFORE, at=2.0, own=3.0, **after))
    assert found.reasons == reasons


def test_threads_of_ones_own_are_no_disturbance_and_a_short_time_says_nothing() -> None:
    crowded = replace(BEFORE, at=2.0, own=5.0, busy=14.0, waiting=2.0, switches=5000)
    assert Disturbance.between(BEFORE, crowded, streams=4).reasons == ()
    short = replace(BEFORE, at=0.2, own=1.1, busy=10.4)
    assert Disturbance.between(BEFORE, short).reasons == ()


# Turns

FACTS = asdict(EngineFacts("onnxruntime", "CPUExecutionProvider", {"onnxruntime": "1.22.0"}, 1, "ab" * 32))


def _turn(*inference: float, **fields: Any) -> RawTurn:
    turn = RawTurn(
        started="2026-01-01T00:00:00+00:00",
        batch=4,
        preprocess=[1.0] * len(inference),
        inference=list(inference),
        wall_s=(sum(inference) + len(inference)) / 1e3,
        load_ms=30.0,
        first_run_ms=9.0,
        peak_memory_bytes=90,
        engine=FACTS,
        warm_up={"batches": 9, "seconds": 0.5, "steady": True},
        stages={"decode": [0.5] * len(inference), "compute": list(inference)},
    )
    return replace(turn, **fields)


def test_a_row_is_all_of_its_turns() -> None:
    """Inference of 2, 4, 6 and 8 ms after 1 ms each: 16 crops in 24 ms."""
    row = merged([_turn(2.0, 4.0), _turn(6.0, 8.0, peak_memory_bytes=95, load_ms=99.0)])
    assert row.samples == 4 and row.inference_ms.p50 == 5.0 and row.end_to_end_ms.p50 == 6.0
    assert row.crops_per_s == pytest.approx(16 / 0.024) and row.inference_crops_per_s == pytest.approx(16 / 0.020)
    assert (row.load_ms, row.first_run_ms, row.peak_memory_bytes) == (30.0, 9.0, 95)
    assert list(row.stages) == ["decode", "compute"] and row.stages["compute"].n == 4
    assert [turn.p50_ms for turn in row.turns] == [4.0, 8.0]
    assert row.latencies_ms == (3.0, 5.0, 7.0, 9.0)
    assert row.warm_up is not None and (row.warm_up.batches, row.warm_up.steady) == (18, True)
    assert row.energy is None and row.streamed is None


def test_streams_share_the_wall_clock() -> None:
    """Two threads, each two batches of 4 crops in 10 ms: 16 crops in the 10 ms that passed."""
    row = merged([_turn(4.0, 4.0, 4.0, 4.0, streams=2, wall_s=0.010)])
    assert row.crops_per_s == pytest.approx(1600) and row.inference_crops_per_s == pytest.approx(2 * 16 / 0.016)


def test_energy_is_over_all_crops_and_of_one_source() -> None:
    """3 J and 5 J over 8 and 8 crops are 500 mJ each; a turn without, or of another source, leaves none."""
    one, two = _turn(2.0, 4.0, joules=3.0, energy_source="rapl"), _turn(2.0, 4.0, joules=5.0, energy_source="rapl")
    energy = merged([one, two]).energy
    assert energy is not None and (energy.mj_per_crop, energy.joules, energy.source) == (500.0, 8.0, "rapl")
    assert energy.watts == pytest.approx(8.0 / energy.seconds)
    assert merged([one, replace(two, joules=None)]).energy is None
    assert merged([one, replace(two, energy_source="nvml")]).energy is None


def test_a_disturbed_turn_marks_its_row() -> None:
    row = merged([_turn(2.0), _turn(2.0, disturbed=["other processes used 50% of the CPUs"], attempts=2)])
    assert row.disturbed == ("other processes used 50% of the CPUs",) and row.attempts == 2
    assert [bool(turn.disturbed) for turn in row.turns] == [False, True]


def test_a_row_reads_back_from_json() -> None:
    turn = _turn(2.0, 4.0, joules=3.0, energy_source="rapl", streamed_ms=[5.0, 6.0], streamed_crops_per_s=40.0)
    clocks = {
        "cpu_mhz": 1.0,
        "gpu_mhz": None,
        "memory_mhz": None,
        "celsius": 50.0,
        "throttled": ["x"],
        "power_mode": "",
    }
    row = merged([replace(turn, clocks=clocks, disturbed=["y"])])
    assert row.streamed is not None and row.streamed.crops_per_s == pytest.approx(40.0)
    assert Measurement.from_dict(json.loads(json.dumps(asdict(row)))) == row


# The journal

HEADER = {"models": [["ab" * 32, None]], "settings": {"repeats": 2}}


def test_an_interrupted_run_continues_where_it_was(tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    first = Journal(report, HEADER)
    first.add_score("0", {"rank1": 0.5, "mAP": 0.25})
    first.add_turn("0/1/1/0", _turn(2.0, 4.0))
    with open(f"{report}.partial", "a") as file:
        file.write('{"turn": "0/1/1/1", "times": {"started": "20')  # the process was killed here
    again = Journal(report, HEADER)
    assert merged([*again.turns.values()]) == merged([_turn(2.0, 4.0)]) and again.scores == {
        "0": {"rank1": 0.5, "mAP": 0.25}
    }
    again.add_turn("0/1/1/1", _turn(6.0, 8.0))
    assert list(Journal(report, HEADER).turns) == ["0/1/1/0", "0/1/1/1"]
    again.finished()
    assert not Path(f"{report}.partial").exists()


@pytest.mark.parametrize("change", [{"models": [["cd" * 32, None]]}, {"settings": {"repeats": 3}}])
def test_another_model_or_setting_starts_anew_and_says_so(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    report = tmp_path / "bench.json"
    Journal(report, HEADER).add_turn("0/1/1/0", _turn(2.0))
    again = Journal(report, {**HEADER, **change})
    assert again.turns == {} and f"({next(iter(change))} differ): starting anew" in caplog.text
    again.add_turn("0/1/1/0", _turn(7.0))
    assert Journal(report, {**HEADER, **change}).turns["0/1/1/0"].inference == [7.0] and len(caplog.records) == 1


def test_a_file_that_is_no_journal_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "bench.json.partial").write_text("no journal\n")
    assert Journal(tmp_path / "bench.json", HEADER).turns == {}


@pytest.mark.parametrize(
    "change",
    [
        {"inference": ["4.0"]},
        {"inference": []},
        {"inference": [0.0]},
        {"load_ms": math.nan},
        {"preprocess": [None]},
        {"stages": {"compute": ["x"]}},
        {"engine": {}},
        {"warm_up": {"batches": None, "seconds": 1.0, "steady": True}},
        {"clocks": {"throttled": 3}},
        {"clocks": {"cpu_mhz": "fast", "throttled": []}},
        {"disturbed": [1]},
        {"joules": "1"},
        {"peak_memory_bytes": -1},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_line_without_figures_is_measured_again(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What a journal gives is merged, printed and written to the report: nothing in it may fail there."""
    report, kept = tmp_path / "bench.json", tmp_path / "bench.json.partial"
    Journal(report, HEADER).add_turn("0/1/1/0", _turn(2.0))
    whole = kept.read_text()
    damaged = json.dumps({"turn": "0/1/1/1", "times": {**asdict(_turn(2.0)), **change}})
    kept.write_text(f"{whole}{damaged}\n{damaged}\n")
    assert list(Journal(report, HEADER).turns) == ["0/1/1/0"] and "damaged from line 3 on" in caplog.text
    assert kept.read_text() == whole


@pytest.mark.parametrize("score", [3, {}, {"rank1": 0.5}, {"rank1": "x", "mAP": 1}, {"rank1": 2, "mAP": math.nan}])
def test_a_score_that_is_no_fraction_is_scored_again(tmp_path: Path, score: Any) -> None:
    report = tmp_path / "bench.json"
    Journal(report, HEADER).add_score("0", {"rank1": 0.5, "mAP": 0.25})
    with open(f"{report}.partial", "a") as file:
        file.write(json.dumps({"score": "1", "is": score}) + "\n")
    assert list(Journal(report, HEADER).scores) == ["0"]


def test_a_last_line_without_its_end_is_kept_and_the_next_one_stands_alone(tmp_path: Path) -> None:
    report, kept = tmp_path / "bench.json", tmp_path / "bench.json.partial"
    Journal(report, HEADER).add_turn("0/1/1/0", _turn(2.0))
    kept.write_text(kept.read_text().removesuffix("\n"))  # the disk was full by one byte
    Journal(report, HEADER).add_turn("0/1/1/1", _turn(4.0))
    assert list(Journal(report, HEADER).turns) == ["0/1/1/0", "0/1/1/1"]


def test_a_folder_in_the_journals_place_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "bench.json.partial").mkdir()
    with pytest.raises(InputError, match=r"bench\.json\.partial is no file.*: move it away"):
        Journal(tmp_path / "bench.json", HEADER)


def test_without_a_report_nothing_is_kept(tmp_path: Path) -> None:
    for report in (None, "/dev/stdout", "/dev/null"):
        journal = Journal(report, HEADER)
        journal.add_turn("0/1/1/0", _turn(2.0))
        journal.finished()
        assert journal.path is None


# trtexec

# The first layers of build2/googlenet_mark_plans/profiles/googlenet_gpu_mark_at_67.profile in
# https://github.com/ismetdagli/HaX-CoNN, written by trtexec on a Jetson.
PROFILE = """\
[
  { "count" : 12443 }
, { "name" : "conv1/7x7_s2 + conv1/relu_7x7 input reformatter 0", "timeMs" : 280.135, "averageMs" : 0.0225135, \
"percentage" : 1.14527 }
, { "name" : "conv1/7x7_s2 + conv1/relu_7x7", "timeMs" : 1040.91, "averageMs" : 0.0836546, "percentage" : 4.25554 }
, { "name" : "pool1/3x3_s2", "timeMs" : 327.916, "averageMs" : 0.0263535, "percentage" : 1.34061 }
, { "name" : "conv2/3x3 + conv2/relu_3x3", "timeMs" : 1517.29, "averageMs" : 0.121939, "percentage" : 6.2031 }
]
"""
# In the form of samples/common/sampleReporting.cpp of https://github.com/NVIDIA/TensorRT (exportJSONTrace), with
# figures made up here: no recorded one was found in public.
TIMES = """\
[
  { "startEnqMs" : 100.0, "endEnqMs" : 100.4, "startH2dMs" : 100.0, "endH2dMs" : 100.5, "startComputeMs" : 100.5, \
"endComputeMs" : 102.5, "startD2hMs" : 102.5, "endD2hMs" : 102.75, "h2dMs" : 0.5, "computeMs" : 2.0, "d2hMs" : 0.25, \
"latencyMs" : 2.75 }
, { "startEnqMs" : 102.0, "endEnqMs" : 102.4, "startH2dMs" : 102.0, "endH2dMs" : 102.5, "startComputeMs" : 102.5, \
"endComputeMs" : 104.75, "startD2hMs" : 104.75, "endD2hMs" : 105.0, "h2dMs" : 0.5, "computeMs" : 2.25, "d2hMs" : 0.25, \
"latencyMs" : 3.0 }
]
"""


def test_trtexecs_times_are_percentiles_by_its_own_words(tmp_path: Path) -> None:
    """Two inferences from 100 to 105 ms are 400 a second."""
    (tmp_path / "times.json").write_text(TIMES)
    found = read_trtexec(tmp_path / "times.json")
    assert found.samples == 2 and found.per_second == pytest.approx(400)
    assert {name: each.p50 for name, each in found.times.items()} == pytest.approx(
        {"h2d_ms": 0.5, "compute_ms": 2.125, "d2h_ms": 0.25, "latency_ms": 2.875}
    )
    assert "GPU compute p50 2.125 p99 2.248" in found.lines()[0] and "400.0 batches/s" in found.lines()[0]
    assert TrtexecTimes.from_dict(json.loads(json.dumps(asdict(found)))) == found


def test_a_recorded_profile_gives_its_slowest_layers(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(PROFILE)
    found = read_trtexec(tmp_path / "profile.json")
    assert found.samples == 12443 and found.times == {}
    assert found.layers[0][:2] == ("conv2/3x3 + conv2/relu_3x3", 0.121939)
    assert found.total_ms == pytest.approx(0.2544606)
    assert "conv2/3x3 + conv2/relu_3x3 0.122 ms (48%)" in found.lines()[0]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[1]", '[{"latencyMs": 1}]', '[{"computeMs": "x"}]', '[{"computeMs": NaN}]', "[" * 5000,
     '[{"count": 1}, {"averageMs": true, "name": "x"}]', '[{"computeMs": 1}, {}]'],
)  # fmt: skip
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(InputError, match="--exportTimes=FILE") as caught:
        read_trtexec(tmp_path / "other.json")
    assert "\n" not in str(caught.value)


# Rates


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_the_products_that_are_timed_are_right(name: str) -> None:
    """The files written without the onnx package are valid, and multiply."""
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(matmul_model(name, 3))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(matmul_model(name, 3), providers=["CPUExecutionProvider"])
    types = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(uint8)": np.uint8,
        "tensor(int8)": np.int8,
    }
    left, right = (np.arange(9).reshape(3, 3).astype(types[each.type]) for each in session.get_inputs())
    (product,) = session.run(None, {"a": left, "b": right})
    np.testing.assert_array_equal(product, np.arange(9).reshape(3, 3) @ np.arange(9).reshape(3, 3))


def test_a_provider_that_is_not_there_has_no_rates() -> None:
    assert matmul_rates(("fp32",), "NoSuchExecutionProvider") == {}
