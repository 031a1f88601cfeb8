"""The command line, as scripts call it: exit codes, one clear line, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.cli import main
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.scoring.evaluation import evaluate


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=6, test_identities=4, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def _first_query(people: Path) -> Path:
    return min((people / "query").glob("*.jpg"))


def test_help_of_every_command_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    for command in (
        "train",
        "reproduce",
        "export",
        "eval",
        "bench",
        "embed",
        "rank",
        "pairs",
        "verify",
        "demo",
        "data inspect",
        "data synthesize",
    ):
        assert run(*command.split(), "--help") == 0
        assert "Example: reid-edge " + command in " ".join(capsys.readouterr().out.split())


def test_eval_writes_the_figures_that_scripts_read(people: Path, model: Path, tmp_path: Path) -> None:
    assert run("eval", model, "--data", people, "--json", tmp_path / "eval.json") == 0
    figures = json.loads((tmp_path / "eval.json").read_text())
    metrics = evaluate(model, people).metrics
    expected = {f"rank{k}": metrics.rank(k) for k in (1, 5, 10)} | {"mAP": metrics.mAP, "mINP": metrics.mINP}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert 0 < figures["mAP"] <= 1
    for name in ("queries", "valid_queries", "gallery"):
        assert isinstance(figures[name], int) and figures[name] > 0


def test_eval_of_kept_features_tricks_and_several_distances(
    people: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, out = tmp_path / "kept.npz", tmp_path / "eval.json"
    assert run("eval", model, "--data", people, "--flip", "--save-features", kept, "--json", out) == 0
    assert "flip" in capsys.readouterr().out
    flipped = json.loads(out.read_text())["evaluations"][1]
    assert flipped["settings"]["flip"] is True
    tricks = ("--flip", "--rerank", "--k1", 3, "--k2", 2, "--lambda", 0.5, "--query-expansion", 2, "--alpha", 1)
    distances = ("--distance", "cosine", "--distance", "cityblock", "--max-rank", 30, "--roc")
    assert run("eval", kept, "--data", people, *tricks, *distances, "--json", out) == 0
    shown = capsys.readouterr().out
    assert "95 % [" in shown and "TAR at FAR" in shown and "re-ranking (k1 3, k2 2, lambda 0.5)" in shown
    content = json.loads(out.read_text())
    assert [each["distance"] for each in content["evaluations"]] == ["cosine", "cosine", "cityblock", "cityblock"]
    settings = content["evaluations"][3]["settings"]
    assert settings["rerank"] == {"k1": 3, "k2": 2, "lambda": 0.5}
    assert settings["query_expansion"] == {"k": 2, "alpha": 1.0}
    assert len(content["comparisons"]) == 3 and 0 <= content["evaluations"][0]["roc"]["eer"] <= 1


def test_eval_of_two_models_says_which_is_better(
    people: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.npz"
    assert run("eval", model, "--data", people, "--save-features", kept) == 0
    assert run("eval", kept, model, "--data", people) == 0
    assert "no difference shown between" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--k1", 5), "add --rerank"),
        (("--alpha", 1), "add --query-expansion"),
        (("--save-features", "kept.bin"), ".npz"),
        (("--resize", "opencv"), "leave --resize"),
        (("--flip",), "was not run on flipped crops"),
    ],
)
def test_eval_says_which_options_go_together(
    people: Path,
    model: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = tmp_path / "kept.npz"
    assert run("eval", model, "--data", people, "--save-features", kept) == 0
    _bad(("eval", kept, *options), message, capsys)
    _bad(("eval", model), "--data DATASET", capsys)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "cityblock", "minkowski:3", "correlation"])
def test_eval_takes_the_five_distances(people: Path, model: Path, distance: str) -> None:
    assert run("eval", model, "--data", people, "--distance", distance) == 0


def test_embed_then_rank_equals_rank_of_the_folder(people: Path, model: Path, tmp_path: Path) -> None:
    gallery = people / "bounding_box_test"
    assert run("embed", gallery, "--model", model, "--out", tmp_path / "g.npz") == 0
    with np.load(tmp_path / "g.npz", allow_pickle=False) as saved:
        assert any(saved[name].dtype == np.float32 and saved[name].ndim == 2 for name in saved.files)
    query = _first_query(people)
    for source, name in ((tmp_path / "g.npz", "a"), (gallery, "b")):
        out = tmp_path / f"{name}.json"
        assert run("rank", query, "--gallery", source, "--model", model, "--top", 5, "--json", out) == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert first == second
    ranked = first["queries"][0]["ranked"]
    assert len(ranked) == 5
    assert [row["distance"] for row in ranked] == sorted(row["distance"] for row in ranked)


def test_embed_and_rank_on_a_backend_that_is_named(
    people: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for number, options in enumerate(([], ["--backend", "onnxruntime"])):
        out, ranked = tmp_path / f"{number}.npz", tmp_path / f"{number}.json"
        assert run("embed", people / "query", "--model", model, "--out", out, *options) == 0
        query = _first_query(people)
        assert run("rank", query, "--gallery", out, "--model", model, "--json", ranked, *options) == 0
        found.append(ranked.read_text())
    assert found[0] == found[1]
    unknown = ("--model", model, "--backend", "abacus")
    _bad(("embed", people / "query", "--out", tmp_path / "g.npz", *unknown), "'abacus' is unknown", capsys)
    _bad(("rank", _first_query(people), "--gallery", people / "query", *unknown), "'abacus' is unknown", capsys)
    assert not (tmp_path / "g.npz").exists()


def test_rank_finds_a_crop_in_its_own_folder_and_draws_it(people: Path, model: Path, tmp_path: Path) -> None:
    query = _first_query(people)
    command = ("rank", query, "--gallery", people / "query", "--model", model, "--top", 3)
    assert run(*command, "--picture", tmp_path / "r.png", "--json", tmp_path / "r.json") == 0
    best = json.loads((tmp_path / "r.json").read_text())["queries"][0]["ranked"][0]
    assert best["crop"] == str(query) and best["distance"] < 1e-5
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"


def test_rank_says_who_is_who_only_in_a_known_layout(
    people: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = _first_query(people)
    assert run("rank", query, "--gallery", people / "query", "--model", model, "--top", 1) == 0
    assert "yes" in capsys.readouterr().out.split()
    loose = tmp_path / "0001_c1 [red]x\n.jpg"
    loose.write_bytes(query.read_bytes())
    assert run("rank", loose, "--gallery", tmp_path, "--model", model, "--picture", tmp_path / "new" / "r.png") == 0
    shown = capsys.readouterr().out
    assert "yes" not in shown.split() and "no" not in shown.split()
    assert "0001_c1 [red]x\\n.jpg" in shown, "a name is shown as it is, on one line"


def test_inspect_names_the_layout(people: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("data", "inspect", people, "--json", tmp_path / "i.json") == 0
    assert "market1501" in capsys.readouterr().out
    assert "market1501" in (tmp_path / "i.json").read_text()


def test_synthesize_twice_is_once(people: Path, tmp_path: Path) -> None:
    command = ("data", "synthesize", tmp_path / "s", "--identities", 4, "--test-identities", 2, "--cameras", 2)
    assert run(*command) == 0
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "s").rglob("*.jpg"))
    assert run(*command) == 0
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "s").rglob("*.jpg"))
    assert run(*command, "--seed", 9) == 2


def test_bench_writes_a_row_for_each_model_and_batch(
    people: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    (tmp_path / "times.json").write_text('[{"computeMs": 2.0, "latencyMs": 3.0}]')
    command = ("bench", model, "--data", people, "--batch", 1, "--batch", 3, "--seconds", 0.1, "--json", out)
    assert run(*command, "--turns", 1, "--details", "--trtexec-json", tmp_path / "times.json") == 0
    written = json.loads(out.read_text())
    assert len(written["rows"]) == 2 and written["complete"] and written["settings"]["turns"] == 1
    assert written["trtexec"][0]["times"]["compute_ms"]["p50"] == 2.0
    printed = capsys.readouterr().out
    assert (
        "trtexec times.json: 1 batches" in printed and "opened in" in printed and not list(tmp_path.glob("*.partial"))
    )


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _bad(arguments: Sequence[object], expected: str, capsys: pytest.CaptureFixture[str], code: int = 2) -> None:
    """The command ends with ``code`` and one line on standard error that holds ``expected``."""
    capsys.readouterr()
    assert run(*arguments) == code
    error = capsys.readouterr().err
    # On a slow machine lines of progress come before it, one every 30 seconds.
    lines = [line for line in error.strip().splitlines() if not re.search(r": \d+/\d+", line)]
    assert error.count("reid-edge: ") == 1 and len(lines) == 1, error
    assert expected in error, error


def test_missing_things_are_named(
    model: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    for command in (
        ("eval", model, "--data", gone),
        ("eval", gone, "--data", people),
        ("bench", gone, "--data", people),
        ("embed", gone, "--model", model, "--out", tmp_path / "x.npz"),
        ("embed", people / "query", "--model", gone, "--out", tmp_path / "x.npz"),
        ("rank", gone, "--gallery", people / "query", "--model", model),
        ("rank", _first_query(people), "--gallery", gone, "--model", model),
        ("data", "inspect", gone),
    ):
        _bad(command, str(gone), capsys)
    assert _files(tmp_path) == []


def test_a_gallery_that_rank_could_not_read_is_not_written(
    people: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gallery", "gallery.txt"):
        _bad(("embed", people / "query", "--model", model, "--out", tmp_path / name), ".npz", capsys)
    assert _files(tmp_path) == []
    (tmp_path / "gallery.txt").touch()
    _bad(("rank", _first_query(people), "--gallery", tmp_path / "gallery.txt", "--model", model), ".npz", capsys)


def test_a_wrong_layout_and_an_empty_split_are_refused(
    model: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other" / "photos").mkdir(parents=True)
    _bad(("eval", model, "--data", tmp_path / "other"), "bounding_box_test", capsys)
    for name in ("bounding_box_train", "bounding_box_test", "query"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    _bad(("eval", model, "--data", tmp_path / "empty"), "quer", capsys)
    _bad(("eval", model, "--data", people, "--layout", "nonesuch"), "nonesuch", capsys)


def test_bad_crops_are_named(model: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = _first_query(people).read_bytes()
    truncated, text, empty = tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "empty.jpg"
    truncated.write_bytes(whole[: len(whole) // 2])
    text.write_text("not a picture")
    empty.touch()
    for path in (truncated, text, empty):
        _bad(("embed", path, "--model", model, "--out", tmp_path / "x.npz"), path.name, capsys)
    assert not (tmp_path / "x.npz").exists()


def test_an_onnx_file_that_is_not_ours_is_refused(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(b"\x08\x07not an onnx file")
    _bad(("eval", foreign, "--data", people), "foreign.onnx", capsys)
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"plan")
    _bad(("eval", engine, "--data", people), "x.engine", capsys)


def test_someone_elses_real_onnx_file_is_refused(
    dev_onnx: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _bad(("eval", dev_onnx, "--data", people), "reid-edge export", capsys)


def test_checkpoints_that_cannot_be_used_are_refused(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.training.models.registry import build_model

    other, bomb, crater = tmp_path / "other.pth", tmp_path / "bomb.pth", tmp_path / "crater"
    torch.save(build_model("mobilenetv3_large").state_dict(), other)
    bomb.write_bytes(pickle.dumps(_Bomb(crater)))
    out = tmp_path / "out"
    _bad(("eval", other, "--data", people), "--arch", capsys)
    _bad(("eval", other, "--data", people, "--arch", "osnet_x0_25"), "osnet_x0_25", capsys)
    _bad(("eval", other, "--data", people, "--arch", "vgg"), "vgg", capsys)
    _bad(("export", bomb, "--arch", "osnet_x0_25", "--out", out), "bomb.pth", capsys)
    _bad(("export", other, "--arch", "mobilenetv3_large", "--int8", "--out", out), "INT8", capsys)
    assert not crater.exists() and not out.exists()


class _Bomb:
    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.crater,)


def test_a_full_disk_leaves_no_part_behind(people: Path, model: Path, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the operating system itself refuses the write."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))\n"
        "from reid_edge.cli import main\n"
        f"main(['embed', {str(people / 'query')!r}, '--model', {str(model)!r}, '--out', {str(tmp_path / 'g.npz')!r}])\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 2, child.stderr
    said = child.stderr.partition("Exception ignored")[0]  # NumPy 1 does not close its zip file when a write fails
    assert "no space left" in said and len(said.strip().splitlines()) == 1
    assert _files(tmp_path) == []


def test_control_c_is_one_line_and_130(tmp_path: Path) -> None:
    """Sent to a command at work: its temporary folder is there, and drawing 9,000 persons takes minutes."""
    command = [sys.executable, "-m", "reid_edge", "data", "synthesize", str(tmp_path / "drawn"), "--identities", "9000"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background jobs ignore
    )
    while not any(tmp_path.iterdir()) and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert error.strip().splitlines()[-1] == "reid-edge: interrupted" and "Traceback" not in error
    assert not (tmp_path / "drawn").exists()


def test_a_missing_extra_names_the_pip_command(people: Path, tmp_path: Path) -> None:
    """An environment without torch, made by hiding it from the import system of a child."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    command = f"train --arch osnet_x0_25 --data {people} --out {tmp_path / 'run'}"
    environment = {**os.environ, "PYTHONPATH": str(hidden)}
    child = subprocess.run(
        [sys.executable, "-m", "reid_edge", *command.split()], capture_output=True, text=True, env=environment
    )
    assert child.returncode == 2
    assert "pip install torch torchvision tomlkit scipy" in child.stderr and len(child.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
