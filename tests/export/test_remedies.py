"""Errors of what Python can call too: where one names an option of the command line, it names Python's as well."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import reid_edge

ROOMS = ("export", "benchmarks", "engines", "api")
LEFT = {"demo.py", "train_model.py", "train_plan.py", "api_check.py", "trtexec.py", "deepstream.py"}
"""A study, two scripts, files of another program; and training, whose errors have a form of their own."""

FLAG = re.compile(r"(?<!reid-edge )--[a-z]")


def texts(node: ast.AST) -> Iterator[str]:
    """The texts in a part of a program; an expression within one is "{}"."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for part in ast.iter_child_nodes(node):
            yield from texts(part)


def said(path: Path) -> Iterator[str]:
    """What is raised in a file, and the remedies that it holds."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "remedy"):
            yield from texts(node)


def test_a_remedy_names_the_option_and_the_argument() -> None:
    """As in "add --calibrate DATASET (calibrate=)"; a whole command, "run  reid-edge export ...", is one as it is."""
    house = Path(reid_edge.__file__).parent
    found = 0
    for room in ROOMS:
        for path in (house / room).rglob("*.py"):
            for text in said(path) if path.name not in LEFT else []:
                if FLAG.search(text) and "reid-edge " not in text:
                    found += 1
                    assert re.search(r"[a-z_]=(True)?[),]", text), f"{path}: {text!r} names no argument"
    assert found > 10, "the texts are looked at"
