"""Two reports of bench compared: matching, intervals, rules, exit codes. Reports are written by hand, none measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_edge.api.compare import compare_benchmarks
from reid_edge.benchmarks.compare.comparison import BenchComparison
from reid_edge.benchmarks.compare.measures import MEASURES
from reid_edge.benchmarks.compare.ratios import LEAST_PAIRED, LEAST_UNPAIRED, Ratio, paired_ratio, unpaired_ratio
from reid_edge.benchmarks.compare.rules import Rule, parse_rule
from reid_edge.benchmarks.machine import describe_machine
from reid_edge.benchmarks.queries import QueryScores
from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.benchmarks.timing.measurement import Energy, Measurement, Turn
from reid_edge.benchmarks.timing.percentiles import Percentiles
from reid_edge.cli import main
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

SETTINGS = {"data": "Market-1501", "part": "test", "distance": "cosine", "files": 256, "threads": 1}
CPU = "CPUExecutionProvider"
TURNS = (10.0, 10.1, 9.9, 10.2, 10.0, 9.8, 10.1, 10.0)


def row(model: str = "osnet_fp32", *, p50: float = 10.0, turns: Sequence[float] = (), **fields: Any) -> BenchRow:
    """A row whose p50 is ``p50`` ms, known to within 1 %."""
    own = {name: fields.pop(name) for name in ("energy", "disturbed", "streams") if name in fields}
    provider, batch = fields.pop("provider", CPU), fields.pop("batch", 1)
    bounds = {"p50": (0.99 * p50, 1.01 * p50), "p90": (1.9 * p50, 2.1 * p50), "p99": (2.5 * p50, None)}
    times = Percentiles(p50, 2 * p50, 3 * p50, 400, fields.pop("bounds", bounds))
    measured = Measurement(
        samples=400,
        preprocess_ms=times,
        inference_ms=times,
        end_to_end_ms=times,
        crops_per_s=1000 * batch / p50,
        inference_crops_per_s=1000 * batch / p50,
        load_ms=30.0,
        first_run_ms=9.0,
        peak_memory_bytes=90_000_000,
        engine=EngineFacts("onnxruntime", provider, {"onnxruntime": "1.22.0"}, 1, fields.pop("sha256", "ab" * 32)),
        turns=tuple(Turn("2026-01-01T00:00:00+00:00", 50, each, 30.0, 9.0) for each in turns),
        **own,
    )
    facts: dict[str, Any] = {"precision": "fp32", "rank1": 0.9, "mAP": 0.8, **fields}
    return BenchRow(
        model,
        f"m/{model}.onnx",
        900_000,
        "osnet_x0_25",
        facts.pop("precision"),
        512,
        80_000_000,
        batch,
        measured,
        **facts,
    )


def report(*rows: BenchRow, **fields: Any) -> BenchReport:
    machine = replace(describe_machine(), cpu="a CPU", cores=4, load_average=0.1, gpus=(), board=None, power_mode=None)
    plain = BenchReport("reid-edge 0", "2026-01-01", machine, dict(SETTINGS), (), None, rows or (row(),))
    return replace(plain, **fields)


def verdicts(found: BenchComparison) -> list[str]:
    return [each.verdict for each in found.judged]


# Rules


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("p50_rise>10%", Rule("p50_rise", 10, "%")),
        (" p99_rise > 2.5 ms ", Rule("p99_rise", 2.5, "ms")),
        ("map_drop>0.5", Rule("map_drop", 0.5, "points")),
        ("rank1_drop>0.5points", Rule("rank1_drop", 0.5, "points")),
        ("energy_rise>3mJ", Rule("energy_rise", 3, "mJ")),
        ("throughput_drop>100crops/s", Rule("throughput_drop", 100, "crops/s")),
    ],
)
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("p50_rise>10", "write p50_rise>10% or p50_rise>10ms"),
        ("map_drop>5%", "write map_drop>5points"),
        ("p50_rise>1s", "has the unit s"),
        ("p50_rize>1%", "did you mean p50_rise"),
        ("p50_rise<1%", "is not NAME>LIMIT"),
        ("p50_rise>-1%", "is not NAME>LIMIT"),
        ("p50_rise>nan%", "is not NAME>LIMIT"),
        ("p50_rise>1e9%", "is not NAME>LIMIT"),
        ("__import__('os')>1", "is not NAME>LIMIT"),
        ("", "is not NAME>LIMIT"),
        ("p50_rise>" + "9" * 10_000 + "%", "is not NAME>LIMIT"),
    ],
)
def test_a_rule_that_cannot_be_read_says_how_to_write_it(text: str, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy.replace(">", ".")) as caught:
        parse_rule(text)
    assert len(str(caught.value)) < 300


# Ratios


def signed_rank_interval(logs: Sequence[float]) -> tuple[float, float]:
    """By its definition: the shifts that Wilcoxon's test does not refuse, all 2^n signs counted."""
    count = len(logs)
    sums = sorted(sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in product((0, 1), repeat=count))
    walsh = sorted((logs[i] + logs[j]) / 2 for i in range(count) for j in range(i, count))
    below = max(k for k in range(len(walsh)) if sum(each < k for each in sums) <= 0.025 * len(sums))
    return walsh[below - 1], walsh[len(walsh) - below]


@pytest.mark.parametrize("count", [LEAST_PAIRED, 9, 12])
def test_a_paired_ratio_is_that_of_all_signs_counted(count: int) -> None:
    random = np.random.default_rng(count)
    old, new = np.exp(random.normal(size=(2, count)))
    low, high = np.exp(signed_rank_interval(np.log(new / old).tolist()))
    found = paired_ratio(old.tolist(), new.tolist())
    assert found is not None and (found.low, found.high, found.turns) == pytest.approx((low, high, count))


@pytest.mark.parametrize(("first", "second"), [(LEAST_UNPAIRED, LEAST_UNPAIRED), (4, 7), (6, 5)])
def test_an_unpaired_ratio_is_that_of_all_orders_counted(first: int, second: int) -> None:
    random = np.random.default_rng(first)
    old, new = np.exp(random.normal(size=first)), np.exp(random.normal(size=second))
    orders = list(combinations(range(first + second), first))
    counts = [sum(chosen) - first * (first - 1) // 2 for chosen in orders]
    below = max(k for k in range(first * second) if sum(each < k for each in counts) <= 0.025 * len(orders))
    ratios = sorted(b / a for a in old for b in new)
    found = unpaired_ratio(old.tolist(), new.tolist())
    assert found is not None and found.value == pytest.approx(np.exp(np.median(np.log(ratios))))
    assert (found.low, found.high) == pytest.approx((ratios[below - 1], ratios[-below]))


def test_too_few_turns_have_no_interval() -> None:
    assert paired_ratio([1.0] * 5, [2.0] * 5) is None
    assert unpaired_ratio([1.0] * 3, [2.0] * 9) is None


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """1,000 runs whose noise has heavy tails; the machine slows both rows of a pair alike."""
    random = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(1000):
        drift = np.exp(random.normal(0, 0.3, 10))
        old, new = np.exp(random.standard_t(2, (2, 10)) * 0.02) * [[1.0], [1.1]]
        found = (paired_ratio(old * drift, new * drift), unpaired_ratio(old, new))
        held += [isinstance(each, Ratio) and each.low <= 1.1 <= each.high for each in found]
    assert ((held > 930) & (held < 990)).all(), held


def test_pairs_see_what_a_drifting_machine_hides_from_samples() -> None:
    drift = np.linspace(1, 3, 12)
    old, new = 10 * drift, 11 * drift
    paired, unpaired = paired_ratio(old.tolist(), new.tolist()), unpaired_ratio(old.tolist(), new.tolist())
    assert paired and unpaired and paired.low > 1.09 and unpaired.low < 1


# Reports


def test_a_slow_down_breaks_its_rule_and_no_other() -> None:
    slower = report(row(p50=11.5))
    found = compare_benchmarks(report(), slower, rules=["p50_rise>10%", "p50_rise>20%", "p50_rise>1ms", "size_rise>0%"])
    assert verdicts(found) == ["broken", "kept", "broken", "kept"]
    assert found.failures[0] == (
        "broken: osnet_fp32, batch 1 on CPUExecutionProvider: "
        "p50 +15.0 % [+12.7, +17.3], by bounds of p50 (p50_rise>10%)"
    )
    better = compare_benchmarks(slower, report(), rules=["p50_rise>0%", "throughput_drop>0%"])
    assert verdicts(better) == ["kept", "kept"] and not better.failures


def test_a_limit_within_the_interval_is_unsure_and_fails_only_when_strict() -> None:
    rules = ["p50_rise>10%"]
    old, new = report(), report(row(p50=11.05))
    assert verdicts(compare_benchmarks(old, new, rules=rules)) == ["unsure"]
    assert not compare_benchmarks(old, new, rules=rules).failures
    assert compare_benchmarks(old, new, rules=rules, strict=True).failures


def test_without_bounds_the_values_decide() -> None:
    """As in files of version 1."""
    old, new = report(row(bounds={})), report(row(p50=11.05, bounds={}))
    (judged,) = compare_benchmarks(old, new, rules=["p50_rise>10%"]).judged
    assert (judged.verdict, judged.found.low, judged.found.basis) == ("broken", None, "")


def test_turns_of_two_runs_are_two_samples_and_of_one_run_pairs() -> None:
    slower = [1.05 * each for each in TURNS]
    old, new = report(row(turns=TURNS)), report(row(p50=10.5, turns=slower))
    (judged,) = compare_benchmarks(old, new, rules=["p50_rise>0%"]).judged
    assert (judged.found.basis, judged.verdict) == ("8 turns", "broken")
    assert judged.found.worse_by == pytest.approx(5, abs=0.5)
    both = report(row(turns=TURNS), row("osnet_int8", precision="int8", p50=10.5, turns=slower))
    (judged,) = compare_benchmarks(both, rules=["p50_rise>4.9%"]).judged
    assert (judged.found.basis, judged.verdict) == ("8 paired turns", "broken")
    assert judged.row == "osnet_int8, batch 1 on CPUExecutionProvider"


def test_cpu_time_tells_what_a_busy_machine_s_clock_hides() -> None:
    """The clock of each turn has noise of a factor of three; CPU time is 10 % more in every one."""
    random = np.random.default_rng(0)
    clock = np.exp(random.normal(2.3, 1, (2, 10)))
    first, second = (
        replace(each, measured=replace(each.measured, turns=tuple(replace(turn, cpu_p50_ms=cpu) for turn in turns)))
        for each, cpu, turns in (
            (one, cpu, one.measured.turns)
            for one, cpu in ((row(turns=clock[0]), 8.0), (row("osnet_b", turns=clock[1]), 8.8))
        )
    )
    found = compare_benchmarks(report(first, second), rules=["p50_rise>3%", "cpu_rise>3%", "cpu_rise>1ms"])
    assert verdicts(found) == ["unsure", "broken", "kept"]
    with pytest.raises(InputError, match="no row has its CPU time"):
        compare_benchmarks(report(row(turns=TURNS)), report(row(turns=TURNS)), rules=["cpu_rise>3%"])


def test_accuracy_is_judged_by_query_where_the_files_have_queries() -> None:
    """60 identities that lose 2 points each; then half lose 20, and half win 15."""
    key = QueryScores.key(row().measured.engine)
    base = np.full(60, 0.8)

    def scored(precision: np.ndarray[Any, Any]) -> BenchReport:
        queries = QueryScores(tuple(range(60)), {key: tuple(precision)}, {key: (1,) * 60})
        return report(row(mAP=float(precision.mean())), queries=queries)

    sure = compare_benchmarks(scored(base), scored(base - 0.02), rules=["map_drop>1.5", "rank1_drop>0"])
    assert verdicts(sure) == ["broken", "kept"]
    assert (sure.judged[0].found.low, sure.judged[0].found.basis) == (pytest.approx(2), "60 identities")
    mixed = base + np.where(np.arange(60) % 2, -0.2, 0.15)
    assert verdicts(compare_benchmarks(scored(base), scored(mixed), rules=["map_drop>1.5"])) == ["unsure"]
    plain = compare_benchmarks(report(row(mAP=0.8)), report(row(mAP=0.7)), rules=["map_drop>9"])
    assert plain.judged[0].found.low is None and verdicts(plain) == ["broken"]


def test_rows_match_by_all_that_makes_them_the_same() -> None:
    others = [row(batch=8), row(precision="int8"), row(provider="CUDAExecutionProvider"), row("resnet", p50=40)]
    found = compare_benchmarks(report(row(), *others), report(*reversed(others), row(p50=11)))
    assert [(pair.old.batch, pair.old.model, pair.new.measured.end_to_end_ms.p50) for pair in found.rows] == [
        (1, "osnet_fp32", 11),
        (8, "osnet_fp32", 10),
        (1, "osnet_fp32", 10),
        (1, "osnet_fp32", 10),
        (1, "resnet", 40),
    ]
    newer = report(row(provider="TensorRT 10.7.0"))
    assert len(compare_benchmarks(report(row(provider="TensorRT 10.3.0")), newer).rows) == 1
    with pytest.raises(InputError, match="no row of the reports agrees"):
        compare_benchmarks(report(row()), report(row("resnet")))


def test_a_row_that_vanished_is_a_failure_unless_allowed() -> None:
    old, new = report(row(), row(batch=8)), report(row())
    missing = ("missing: osnet_fp32, batch 8 on CPUExecutionProvider is in the old report alone",)
    assert compare_benchmarks(old, new, rules=["p50_rise>10%"]).failures == missing
    assert not compare_benchmarks(old, new, rules=["p50_rise>10%"], allow=["missing"]).failures
    assert compare_benchmarks(new, old).only_new == ("osnet_fp32, batch 8 on CPUExecutionProvider",)


def test_other_machines_and_crops_are_refused_by_name() -> None:
    old = report()
    elsewhere = report(machine=replace(old.machine, cpu="another CPU"))
    with pytest.raises(InputError, match="cpu 'a CPU' and 'another CPU'.*--allow machine"):
        compare_benchmarks(old, elsewhere)
    assert compare_benchmarks(old, elsewhere, allow=["machine"]).rows
    crops = report(settings={**SETTINGS, "data": "LaST"})
    with pytest.raises(InputError, match="data 'Market-1501' and 'LaST'.*--allow data"):
        compare_benchmarks(old, crops, allow=["machine"])
    assert compare_benchmarks(old, crops, allow=["data"]).rows
    with pytest.raises(InputError, match="machine, data, missing"):
        compare_benchmarks(old, crops, allow=["everything"])


def test_a_rule_without_figures_is_no_rule_kept() -> None:
    with pytest.raises(InputError, match="no row has its energy"):
        compare_benchmarks(report(), report(), rules=["energy_rise>5%"])
    old, new = (report(row(energy=Energy(mj, "nvml", mj, 1.0))) for mj in (4.0, 5.0))
    assert verdicts(compare_benchmarks(old, new, rules=["energy_rise>5%", "energy_rise>2mJ"])) == ["broken", "kept"]


def test_one_run_with_one_model_has_nothing_to_compare() -> None:
    with pytest.raises(InputError, match=r"give a second report, NEW.json"):
        compare_benchmarks(report(row(), row(batch=8)))


def test_what_was_disturbed_is_noted() -> None:
    found = compare_benchmarks(report(row(disturbed=("other work",))), report(complete=False))
    assert [note.partition(":")[0] for note in found.notes] == ["the old report", "the new report"]
    assert "other work" in found.notes[0] and "interrupted" in found.notes[1]


# The command


def written(folder: Path, name: str, content: BenchReport) -> str:
    (folder / name).write_text(json.dumps(content.to_dict()))
    return str(folder / name)


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["compare", *arguments])
    return int(end.value.code or 0)


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = written(tmp_path, "old.json", report()), written(tmp_path, "new.json", report(row(p50=12)))
    assert ended(old, new) == 0
    assert ended(old, new, "--fail-if", "p50_rise>30%") == 0
    assert ended(old, new, "--fail-if", "p50_rise>10%", "--json", str(tmp_path / "found.json")) == 1
    shown = capsys.readouterr()
    assert "broken: osnet_fp32, batch 1" in shown.err and "+20.0 [+17.6, +22.4]" in shown.out
    assert json.loads((tmp_path / "found.json").read_text())["judged"][0]["verdict"] == "broken"
    assert ended(old, new, "--fail-if", "p50_rise>ten") == 2
    assert ended(old, str(tmp_path / "none.json")) == 2
    assert ended(old, new, "--allow", "all") == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 1}', "[" * 100_000, '{"version": 99}', "\0\1"])
def test_what_is_no_report_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.json").write_text(text)
    assert ended(str(tmp_path / "odd.json")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_report_of_version_1_still_compares() -> None:
    old = Path(__file__).parent / "bench_version_1.json"
    found = compare_benchmarks(old, old, rules=["p50_rise>0%", "memory_rise>0MB"])
    assert found.rows and not found.failures


def test_the_scores_of_queries_are_checked() -> None:
    raw = {"persons": [1, 2], "average_precision": {"k": [0.5, 1.0]}, "first_match": {"k": [1, 2]}}
    assert QueryScores.from_dict(raw).average_precision == {"k": (0.5, 1.0)}
    for wrong in ({"persons": [1]}, {"average_precision": {"k": [0.5, 2.0]}}, {"first_match": {"j": [1, 2]}}):
        with pytest.raises(InputError):
            QueryScores.from_dict({**raw, **wrong})


def test_every_measure_is_named_by_the_way_it_gets_worse() -> None:
    for name, measure in MEASURES.items():
        assert name.endswith("_drop" if measure.sign < 0 else "_rise")
