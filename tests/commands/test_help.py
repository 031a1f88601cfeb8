"""Help that reads at 80 columns, commands that only parse, call and print, and how much is said."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.tiny_onnx import write_tiny_model

import reid_edge.commands
from reid_edge.cli import app, main
from reid_edge.commands.parts.help import HelpCommand, example
from reid_edge.core import progress
from reid_edge.core.log import show_messages
from reid_edge.data.synthetic.dataset import synthesize

HELP_WIDTH = 40
"""Columns that an explanation has at least, when it wraps at all."""

LONGEST_BODY = 40


def _commands() -> Iterator[str]:
    """The names of all commands, groups unfolded."""
    for info in app.registered_commands:
        yield str(info.name)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for info in group.typer_instance.registered_commands:
            yield f"{group.name} {info.name}"


COMMANDS = list(_commands())


def _help(command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("command", ["", "data", *COMMANDS])
def test_help_fits_the_terminal(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _help(command, columns, monkeypatch, capsys)
    assert max(len(line) for line in text.splitlines()) <= columns
    assert text.startswith(f"Usage: reid-edge {command}".rstrip())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_of_the_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _help(command, 80, monkeypatch, capsys)
    _, found, shown = text.partition("\nExample:\n")
    assert found and shown.replace("\\\n", "").split()[:2] == ["reid-edge", command.split()[0]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_at_reading_width(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An explanation that goes on to a second line filled the first one: one more word would not have fitted."""
    lines = _help(command, 80, monkeypatch, capsys).partition("\nExample:\n")[0].splitlines()
    option = re.compile(r"  (-\S+.*?|[A-Z_]+(?:\.\.\.)?)(?:  +(\S.*))?$")
    starts = [index for index, line in enumerate(lines) if option.match(line) and not line.startswith("   ")]
    assert starts
    for index in starts:
        match = option.match(lines[index])
        assert match
        explained = match[2] or lines[index + 1].strip()
        assert explained, f"{command}: {lines[index]!r} explains nothing"
        first = index if match[2] else index + 1
        following = lines[first + 1].strip() if first + 1 < len(lines) and lines[first + 1].startswith(" " * 30) else ""
        if following:
            word = following.partition("]")[0] if following.startswith("[") else following.split()[0]
            assert len(explained) + 1 + len(word) > HELP_WIDTH, lines[index]


def test_options_stand_under_headings_and_choices_are_spelt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _help("eval", 80, monkeypatch, capsys)
    headings = re.findall(r"^(\w[\w ]*):$", text, re.M)
    assert headings[0] == "Arguments" and headings[-2:] == ["Options", "Example"]
    assert {"Model", "Data", "Device", "Output"} <= set(headings)
    assert "--resize opencv|pillow-bilinear|opencv-fast\n" in text
    assert text.startswith("Usage: reid-edge eval MODEL... [OPTIONS]\n")
    assert re.search(r"--batch N +Crops in a batch\. \[default: 32\]", text)
    assert re.search(r"--data DATASET(?:.|\n)*?\[required\]", _help("pairs", 80, monkeypatch, capsys))


def test_a_long_example_breaks_before_an_option() -> None:
    lines = example("export model.pth --out " + "x" * 30 + " --int8 --calibrate Market-1501 --data D").splitlines()
    assert lines[:2] == ["Example:", f"  reid-edge export model.pth --out {'x' * 30} --int8 \\"]
    assert lines[2:] == ["    --calibrate Market-1501 --data D"]


def test_a_group_alone_shows_its_help_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["data"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "Usage: reid-edge" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonesuch"], "nonesuch"),
        (["pairs", "a.onnx"], "--data"),
        (["eval"], "MODEL"),
        (["eval", "a.onnx", "--data", "d", "--wrong"], "--wrong"),
        (["eval", "a.onnx", "--data", "d", "--batch", "0"], "--batch"),
        (["-v", "-q", "eval", "a.onnx", "--data", "d"], "--quiet"),
    ],
)
def test_bad_use_is_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("reid-edge: ") and len(shown.err.strip().splitlines()) == 1
    assert expected in shown.err and not shown.out


def test_quiet_leaves_results_and_verbose_adds_details(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = synthesize(tmp_path / "set", identities=2, test_identities=3, cameras=2, size_hw=(64, 32))
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(64, 32))
    log = logging.getLogger("reid_edge.somewhere")
    for flag, wrote, details in ((None, True, False), ("-q", False, False), ("-v", True, True)):
        command = ["eval", str(model), "--data", str(people), "--json", str(tmp_path / "eval.json")]
        with pytest.raises(SystemExit) as ended:
            main([flag, *command] if flag else command)
        assert ended.value.code == 0
        log.debug("a detail")
        log.warning("a warning")
        shown = capsys.readouterr()
        assert "rank-1" in shown.out
        assert (f"wrote {tmp_path / 'eval.json'}" in shown.out) is wrote
        assert ("a detail" in shown.out) is details
        assert shown.err == "note: a warning\n"


def test_quiet_shows_no_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    for verbosity, shown in ((0, True), (-1, False), (1, True)):
        show_messages(verbosity)
        assert list(progress.track(range(3), "counting")) == [0, 1, 2]
        assert ("counting: " in capsys.readouterr().err) is shown


def _bodies() -> Iterator[tuple[str, int]]:
    """Every function of the commands, with the lines of its body: signature and docstring do not count."""
    for path in sorted(Path(reid_edge.commands.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                yield f"{path.stem}.{node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_commands_parse_call_and_print() -> None:
    too_long = {name for name, lines in _bodies() if lines > LONGEST_BODY}
    assert not too_long, "what is longer than this does work that belongs in reid_edge.api"


def test_every_command_has_this_help() -> None:
    infos = [*app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        infos += group.typer_instance.registered_commands
    assert len(infos) == len(COMMANDS) >= 13
    assert all(info.cls is HelpCommand and info.epilog and info.rich_help_panel for info in infos)
