"""Commands and Python in README and docs, also where no test runs them: every command, option and name exists."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, blocks, commands, prose

import reid_edge
from reid_edge.cli import app


def _unknown(command: str) -> list[str]:
    """The words of a command line that the command line does not know: subcommands and options."""
    words = shlex.split(command, comments=True)[1:]
    node: Any = typer.main.get_command(app)
    while hasattr(node, "commands") and words and not words[0].startswith("-"):
        if words[0] not in node.commands:
            return [words[0]]
        node = node.commands[words.pop(0)]
    known = {option for parameter in node.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
    return [option for option in options if option not in known | {"--help", "-h"}]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    wrong = {command: words for command in commands(page.read_text(encoding="utf-8")) if (words := _unknown(command))}
    assert not wrong


def test_a_wrong_command_would_be_found() -> None:
    block = "```bash\nreid-edge eval a.onnx \\\n  --model osnet\n```\n"
    text = f"{block}then `reid-edge data look here` and `reid-edge bench a -q`"
    assert [_unknown(command) for command in commands(text)] == [["--model"], ["look"], ["-q"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_python_of_a_page_uses_public_names(page: Path) -> None:
    python = [block for block in blocks(page.read_text(encoding="utf-8")) if block.language == "python"]
    for block in python:
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reid_edge":
                assert node.attr in reid_edge.__all__, f"{page.name}: reid_edge.{node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_modules_and_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in set(re.findall(r"\breid_edge(?:\.[a-z_0-9]+)+", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))):
        path = ROOT.joinpath(*module.split("."))
        is_module = path.is_dir() or path.with_suffix(".py").is_file()
        in_module = path.parent.with_suffix(".py").is_file() or module.split(".")[1] in reid_edge.__all__
        assert is_module or in_module, f"{page.name}: {module}"
    for name in set(re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", text)):
        assert (ROOT / name).is_file() or (ROOT / "reid_edge" / name).is_file(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if "://" not in target:
            name, _, heading = target.partition("#")
            there = (page.parent / name).resolve() if name else page
            assert there.exists() or there == ROOT / "docs/images/first.png", f"{page.name}: {target}"
            if heading:
                assert heading in _headings(there), f"{page.name}: {target}"


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}
