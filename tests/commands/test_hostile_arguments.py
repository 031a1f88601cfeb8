"""Arguments that nobody should give end in one line and exit code 2; names of any kind are shown as they are."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.cli import main
from reid_edge.core.log import printable
from reid_edge.data.synthetic.dataset import synthesize

COMMANDS = Path(__file__).parents[2] / "reid_edge" / "commands"
LONG = "a" * 300


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a drawn set, a crop and a file that is nothing."""
    home = tmp_path_factory.mktemp("hostile")
    people = synthesize(home / "people", identities=2, test_identities=2, size_hw=(32, 32), progress=False)
    write_tiny_model(home / "m.onnx")
    min((people / "query").glob("*.jpg")).rename(home / "q.jpg")
    (home / "file").write_text("x")
    return home


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


CASES = [
    "bench m.onnx --seconds inf",
    "bench m.onnx --seconds nan",
    "bench m.onnx --seconds -1",
    "bench m.onnx --json file/x.json",
    "bench m.onnx --json people",
    "bench LONG",
    "export m.onnx --fp16 --gate fp16.tie=nan --out x",
    "export m.onnx --fp16 --name SURROGATE --out x",
    "verify-export m.onnx NUL --reference m.onnx",
    "bench no.onnx --json LONG",
    "embed EMPTY --model m.onnx --out x.npz",
    "embed q.jpg --model= --out x.npz",
    "embed q.jpg --model m.onnx --out EMPTY",
    "embed q.jpg --model m.onnx --out file/x.npz",
    "embed q.jpg --model m.onnx --out LONG.npz",
    "embed NUL --model m.onnx --out x.npz",
    "embed SURROGATE --model m.onnx --out x.npz",
    "rank q.jpg --gallery people/query --model m.onnx --picture file/x.png",
    "rank q.jpg --gallery people/query --model m.onnx --distance [/e]",
    "rank q.jpg --gallery NUL --model m.onnx",
    "verify q.jpg q.jpg --model m.onnx --head LONG",
    "eval m.onnx --data LONG",
    "eval m.onnx --data people --threads 99999999999",
    "data inspect [/e]",
    "data inspect LINES",
    "data synthesize file/x",
    "data synthesize x --seed -1",
    "data synthesize x --seed 99999999999999999999",
    "train --arch [/e] --data people --out run",
    "train --arch osnet_x0_25 --data people --out file",
    "train --arch osnet_x0_25 --data people --out LONG",
    "train --arch osnet_x0_25 --data people --out run --seed 99999999999999999999",
    "train --arch osnet_x0_25 --data people --out run --threads 99999999999",
    "export m.onnx --fp16 --out file",
    "export m.onnx --fp16 --seed -1",
    "pairs m.onnx --data people --out file",
    "pairs m.onnx --data people --out p --seed -1",
    "demo --out file",
    "reproduce --out file",
    "ESCAPE",
    "[/e]",
]
_WORDS = {"EMPTY": "", "LONG": LONG, "NUL": "a\0b", "SURROGATE": "\udcff.jpg", "LINES": "a\nb", "ESCAPE": "\x1b[2J"}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(
    case: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    before = sorted(path.name for path in home.iterdir())
    words = [_WORDS.get(word, word.replace("LONG.", f"{LONG}.")) for word in case.split()]
    assert _run(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("reid-edge: ") and shown.err.count("\n") == 1
    assert shown.err.rstrip("\n").isprintable() and shown.out == ""
    assert sorted(path.name for path in home.iterdir()) == before, "it was refused before it wrote"


NAMES = ["a[copy].jpg", "b[bold].jpg", ":smile:.jpg", "c\x1b[2J.jpg", "d\ne.jpg", "\udcff.jpg"]


def test_tables_and_lines_show_names_as_they_are(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither rich's markup nor emoji nor terminal codes, in names of crops, models, folders and data sets."""
    odd = tmp_path / "[" / "e]\x1b[2J"  # so that a path has "[/e]" in it
    (odd / "crops").mkdir(parents=True)
    for name in NAMES:
        (odd / "crops" / name).write_bytes((home / "q.jpg").read_bytes())
    model = str(write_tiny_model(odd / "m[copy].onnx"))
    people = odd / "set[red]"
    people.symlink_to(home / "people")
    crops = [str(odd / "crops" / name) for name in NAMES]
    calls = [
        ["embed", *crops, "--model", model, "--out", str(odd / "g.npz")],
        ["rank", *crops, "--gallery", str(odd / "g.npz"), "--model", model, "--picture", str(odd / "p[red].png")],
        ["eval", model, "--data", str(people)],
        ["data", "inspect", str(people), "--json", str(odd / "i.json")],
        ["verify-export", model, "--reference", model, "--data", str(people)],
        ["bench", model, "--data", str(people), "--batch", "1", "--seconds", "0.1"],
    ]
    shown = ""
    for call in calls:
        assert _run(call) == 0, call
        shown += "".join(capsys.readouterr())
    assert shown.replace("\n", "").isprintable()
    for name in (
        "a[copy].jpg",
        "b[bold].jpg",
        ":smile:.jpg",
        r"c\x1b[2J.jpg",
        r"\udcff.jpg",
        r"[/e]\x1b[2J",
        "set[red]",
    ):
        assert name in shown, name
    assert "m[copy]" in shown


def test_a_pipe_is_not_said_to_be_missing(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.npz")
    for gallery, said in (("pipe", "is a file, not a folder"), ("pipe.npz", "is a device or a pipe, and a gallery is")):
        call = ["rank", str(home / "q.jpg"), "--gallery", str(tmp_path / gallery), "--model", str(home / "m.onnx")]
        assert _run(call) == 2
        assert f"{gallery} {said}" in capsys.readouterr().err


def test_a_file_name_that_is_not_utf8_is_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime does not open it, and no file for another program can name it."""
    odd = tmp_path / "\udcff.onnx"
    odd.write_bytes((home / "m.onnx").read_bytes())
    for call, said in (
        (["eval", str(odd), "--data", str(home / "people")], "is not a UTF-8 name"),
        (["export", str(odd), "--for", "trtexec", "--out", str(tmp_path)], "a file that is not UTF-8"),
    ):
        assert _run(call) == 2
        shown = capsys.readouterr().err
        assert said in shown and shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == [odd]


def test_json_on_standard_output_is_alone_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    for call in (
        "eval m.onnx --data people",
        "rank q.jpg --gallery people/query --model m.onnx",
        "verify-export m.onnx --reference m.onnx --data people",
    ):
        assert _run([*call.split(), "--json", "/dev/stdout"]) == 0
        shown = capfd.readouterr()
        assert json.loads(shown.out) and "─" in shown.err, "the table is on standard error"


def test_a_name_is_one_line_wherever_it_is_printed() -> None:
    assert printable("cam\x1b[2J\n\udcff é [1].jpg") == r"cam\x1b[2J\n\udcff é [1].jpg"


def test_commands_print_through_the_console_alone() -> None:
    """What `console` prints is text; any other ``print`` or ``echo`` of a command may show a file's name raw."""
    for path in COMMANDS.glob("*.py"):
        if path.name not in ("console.py", "help.py"):
            found = re.findall(r"\b(?:print|echo|Console)\(", path.read_text(encoding="utf-8"))
            assert not found, f"{path.name} prints by itself: use tell, say or show of commands/parts/console.py"
