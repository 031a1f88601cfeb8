"""The rules of an audited run, its hashes, and the outputs of a report; reports are written by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.benchmarks.audit.__main__ import main as check
from reid_edge.benchmarks.audit.artefacts import audited, recheck, write_audited
from reid_edge.benchmarks.audit.rules import audit_options, broken_rules, early_stopping_queries
from reid_edge.benchmarks.machine import describe_machine
from reid_edge.benchmarks.options import BenchOptions
from reid_edge.benchmarks.outputs.columns import csv_text, markdown_text
from reid_edge.benchmarks.queries import QueryScores
from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.benchmarks.run import bench
from reid_edge.benchmarks.schema.published import bench_schema
from reid_edge.benchmarks.timing.measurement import Clocks, Measurement, WarmUp
from reid_edge.benchmarks.timing.percentiles import Percentiles
from reid_edge.cli import main
from reid_edge.core.files import sha256_of
from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

HW = (64, 32)
SETTINGS = {"data": "Market-1501", "files": 256, "batches": [8], "repeats": 20, "min_seconds": 612.0}


def row(
    path: str = "m/osnet.onnx", *, batch: int = 8, samples: int = 3072, sha256: str = "ab" * 32, **fields: Any
) -> BenchRow:
    """A row that keeps every rule: 24,576 crops at 40 a second, 614 s."""
    times = Percentiles(200.0, 210.0, 220.0, samples)
    facts: dict[str, Any] = {
        "crops_per_s": 40.0,
        "clocks": Clocks(cpu_mhz=2600.0),
        "warm_up": WarmUp(10, 2.0, steady=True),
        **{name: fields.pop(name) for name in ("crops_per_s", "clocks", "warm_up", "disturbed") if name in fields},
    }
    measured = Measurement(
        samples=samples,
        preprocess_ms=times,
        inference_ms=times,
        end_to_end_ms=times,
        inference_crops_per_s=50.0,
        load_ms=30.0,
        first_run_ms=9.0,
        peak_memory_bytes=90_000_000,
        engine=EngineFacts("onnxruntime", "CPUExecutionProvider", {"onnxruntime": "1.22.0"}, 1, sha256),
        **facts,
    )
    scores = {"rank1": 0.5, "mAP": 0.75, **fields}
    return BenchRow(Path(path).stem, path, 900_000, "osnet_x0_25", "fp32", 512, 0, batch, measured, **scores)


def report(*rows: BenchRow, **fields: Any) -> BenchReport:
    rows = rows or (row(),)
    machine = replace(describe_machine(), cores=4, load_average=0.1, frequency_mhz=None)
    key = QueryScores.key(rows[0].measured.engine)
    queries = QueryScores((1, 2), {key: (0.5, 1.0)}, {key: (2, 1)})
    plain = BenchReport("reid-edge 0", "2026-01-01", machine, SETTINGS, (), None, rows, queries=queries)
    return replace(plain, **fields)


# Rules


@pytest.mark.parametrize(("share", "published"), [(0.90, 64), (0.99, 662)])
def test_early_stopping_asks_for_as_many_as_mlperf(share: float, published: int) -> None:
    """662 is MultiStream's min_query_count in loadgen/mlperf.conf; both by the binomial sum that the rules define."""
    chances = [
        sum(comb(n, t) * (1 - share) ** t * share ** (n - t) for t in (0, 1)) for n in (published - 1, published)
    ]
    assert chances[0] > 0.01 >= chances[1]
    assert early_stopping_queries(share) == published


def test_a_run_that_keeps_every_rule() -> None:
    assert broken_rules(report()) == ()
    single = row(batch=1, samples=24_000)
    assert broken_rules(report(single)) == ()


WRONG: Mapping[str, Mapping[str, Any]] = {
    "307 s were measured, of at least 600": {"crops_per_s": 80.0},
    "24568 crops were measured, of at least 24576": {"samples": 3071},
    "600 batches were measured, of at least 662 for a p99": {"samples": 600, "batch": 64},
    "no clock is recorded": {"clocks": Clocks()},
    "clocks were lowered: thermal": {"clocks": Clocks(cpu_mhz=1.0, throttled=("thermal",))},
    "it was disturbed: other work": {"disturbed": ("other work",)},
    "the warm-up ended before times were steady": {"warm_up": WarmUp(10, 2.0, steady=False)},
    "no accuracy was measured: give --data": {"mAP": None},
    "its mAP is not the mean of its queries": {"mAP": 0.76},
    "the file's SHA-256 is not recorded": {"sha256": ""},
}


@pytest.mark.parametrize("reason", WRONG)
def test_each_rule_is_found_broken_alone(reason: str) -> None:
    (found,) = broken_rules(report(row(**WRONG[reason])))
    assert found.endswith(f": {reason}")


def test_the_accuracy_is_of_the_timed_file() -> None:
    other = QueryScores.key(row(sha256="cd" * 32).measured.engine)
    (found,) = broken_rules(report(queries=QueryScores((1, 2), {other: (0.5, 1.0)}, {other: (2, 1)})))
    assert "no accuracy is recorded of the file with this SHA-256" in found
    (found,) = broken_rules(report(queries=None))
    assert "no accuracy is recorded" in found


def test_rules_on_the_whole_run() -> None:
    assert broken_rules(report(complete=False)) == ("the run was interrupted: rows are missing",)
    busy = replace(report().machine, load_average=4.0)
    assert broken_rules(report(machine=busy)) == ("the machine was busy before the start",)


def test_the_options_of_an_audit_keep_the_rules() -> None:
    options = audit_options(BenchOptions(batches=(1, 8, 32), repeats=5, min_seconds=1))
    assert options.min_seconds > 600 and options.repeats == 3072
    assert audit_options(BenchOptions(batches=(1,))).repeats == 662
    assert audit_options(BenchOptions(batches=(1,), min_seconds=900, repeats=10_000)) == BenchOptions(
        batches=(1,), min_seconds=900, repeats=10_000
    )


# Hashes


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """An audited report that keeps every rule, of a model and a data set that are there."""
    people = synthesize(tmp_path / "set", identities=2, test_identities=2, cameras=2, size_hw=HW, progress=False)
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=HW)
    whole = report(row(str(model), sha256=sha256_of(model)))
    found = audited(whole, open_dataset(people))
    assert found.broken == ()
    write_audited(tmp_path / "bench.json", whole, found)
    return tmp_path / "bench.json"


def test_a_stranger_can_check_an_audited_file(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check([str(published)]) == 0
    assert capsys.readouterr().out == "every rule is kept, and every hash is right\n"
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "set").rename(elsewhere)
    assert any("data set cannot be checked" in line for line in recheck(published))
    assert recheck(published, data=elsewhere, models=tmp_path) == ()


def test_what_was_changed_afterwards_is_found(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = json.loads(published.read_text())
    raw["rows"][0]["end_to_end_ms"]["p50"] = 100.0
    (tmp_path / "edited.json").write_text(json.dumps(raw))
    assert recheck(tmp_path / "edited.json") == ("the report was changed after it was written",)
    crop = next((tmp_path / "set" / "query").glob("*.jpg"))
    crop.write_bytes(crop.read_bytes() + b"\0")
    assert [line for line in recheck(published) if "holds other crops" in line]
    (tmp_path / "tiny.onnx").write_bytes(b"another model")
    assert [line for line in recheck(published) if "is another file" in line]
    (tmp_path / "tiny.onnx").unlink()
    assert check([str(published)]) == 1
    assert "tiny.onnx is not there" in capsys.readouterr().out


def test_a_model_that_changed_while_it_was_measured_breaks_the_audit(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=HW)
    assert audited(report(row(str(model))), None).broken == (f"{model} changed while it was measured",)


def test_a_file_that_was_not_audited_is_bad_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.json").write_text(json.dumps(report().to_dict()))
    assert check([str(tmp_path / "plain.json")]) == 2
    assert "was not audited" in capsys.readouterr().err
    with pytest.raises(InputError, match="does not exist"):
        recheck(tmp_path / "none.json")


# The command, the schema and the tables, from one small run


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchReport, Path]:
    folder = tmp_path_factory.mktemp("measured")
    people = synthesize(folder / "set", identities=2, test_identities=2, cameras=2, size_hw=HW, progress=False)
    model = write_tiny_model(folder / "tiny.onnx", input_hw=HW, macs=1_000_000)
    options = BenchOptions(batches=(1, 2), repeats=1, min_seconds=0, threads=1, stream=False, gallery=0)
    return bench(model, people, options=options), folder


def test_bench_keeps_the_scores_of_queries(measured: tuple[BenchReport, Path]) -> None:
    found = measured[0]
    assert found.queries is not None
    (precision,) = found.queries.average_precision.values()
    assert sum(precision) / len(precision) == pytest.approx(found.rows[0].mAP, abs=1e-4)
    (first,) = found.queries.first_match.values()
    assert sum(rank == 1 for rank in first) / len(first) == pytest.approx(found.rows[0].rank1)
    assert all(turn.cpu_p50_ms is not None and turn.cpu_p50_ms >= 0 for turn in found.rows[0].measured.turns)
    assert BenchReport.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_reports_follow_the_published_schema(measured: tuple[BenchReport, Path], published: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="of the dev extra")
    schema = bench_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(measured[0].to_dict())), schema)
    jsonschema.validate(json.loads(published.read_text()), schema)
    wrong = report().to_dict()
    wrong["rows"][0]["end_to_end_ms"]["p50"] = "fast"
    with pytest.raises(jsonschema.ValidationError, match="fast"):
        jsonschema.validate(wrong, schema)


def _undescribed(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], place: str = "") -> list[str]:
    """The places in a value that the schema has no property for."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema and isinstance(value, dict):
        schema = schema["oneOf"][1]
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        inside = [
            each for name in value if name in known for each in _undescribed(value[name], known[name], root, name)
        ]
        return [f"{place}.{name}" for name in value if name not in known] + inside
    if isinstance(value, list) and value:
        return _undescribed(value[0], schema.get("items", {}), root, place)
    return []


def test_the_schema_describes_every_field(measured: tuple[BenchReport, Path]) -> None:
    schema = bench_schema()
    assert _undescribed(measured[0].to_dict(), schema, schema) == []
    assert _undescribed({"new": 1}, schema, schema) == [".new"]


def test_the_audit_of_a_short_run_is_written_and_fails(
    measured: tuple[BenchReport, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command as it is typed, with the options of an audit cut to one batch."""
    folder = measured[1]
    monkeypatch.setattr("reid_edge.benchmarks.audit.rules.audit_options", lambda options: replace(options, repeats=1))
    command = ["bench", str(folder / "tiny.onnx"), "--batch", "1", "--seconds", "0.1", "--turns", "1", "--audit"]
    outputs = [f"--{kind}={tmp_path / 'bench'}.{kind}" for kind in ("json", "csv", "markdown")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--data", str(folder / "set"), *outputs])
    assert ended.value.code == 1
    assert "of at least 600" in capsys.readouterr().out
    found = recheck(tmp_path / "bench.json")
    assert found and not [line for line in found if "changed" in line or "another" in line]
    assert (tmp_path / "bench.csv").read_text().startswith("model,") and (tmp_path / "bench.markdown").is_file()
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2 and "--data DATASET" in capsys.readouterr().err


def test_csv_reads_back_as_it_was_written() -> None:
    odd = row('m/=HYPERLINK("x"),\n.onnx', samples=3)
    first, second = csv.DictReader(io.StringIO(csv_text(report(row(), odd))))
    assert (first["model"], first["batch"], float(first["p50_ms"]), first["mAP"]) == ("osnet", "8", 200.0, "0.75")
    assert first["mj_per_crop"] == "" and first["sha256"] == "ab" * 32
    assert second["model"].startswith("'=HYPERLINK") and second["samples"] == "3"


def test_markdown_is_one_table() -> None:
    text = markdown_text(report(row("m/a|b<c>.onnx")))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0].startswith(
        "| model | precision | batch | p50, ms | p99, ms | crops/s | mJ a crop | R1, % | mAP, % |"
    )
    assert table[2] == "| a\\|b&lt;c> | fp32 | 8 | 200 | 220 | 40.0 | - | 50.0 | 75.0 | 0.90 | `abababababab` |"
    assert len(table) == 3
