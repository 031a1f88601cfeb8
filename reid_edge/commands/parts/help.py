"""Help as plain text: panels of options, the whole width for their explanation, and an example to copy.

Typer's own table spends half of 80 columns on the types of options, and rich, which draws it, takes longer to import
than the rest of ``reid-edge --help`` together. Every ``rich_help_panel`` is a heading here.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from textwrap import wrap
from typing import Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["HelpCommand", "HelpGroup", "example", "metavar_of"]

_HELP_COLUMN = 30
_WIDEST = 100
_NO_BREAK = "\N{NO-BREAK SPACE}"
_NAMES: dict[Any, str] = {bool: "", int: "N", float: "X", Path: "PATH", str: "TEXT"}


class HelpCommand(TyperCommand):
    """A command whose help is written by this module; its epilog is an example made by `example`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, panels and the example."""
        formatter.write(_command_help(self, ctx, f"{ctx.command_path} {_usage(self)}"))


class HelpGroup(TyperGroup):
    """A group of commands, listed under the panels they were registered with; without a command it shows help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, options and the commands by panel."""
        formatter.write(_command_help(self, ctx, f"{ctx.command_path} [OPTIONS] COMMAND ..."))
        listed = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        panels = _by_panel(((name, command) for name, command in listed if command), "Commands", lambda row: row[1])
        for title, rows in panels:
            summaries = ((name, _plain((command.help or "").partition("\n\n")[0])) for name, command in rows)
            formatter.write(_section(title, summaries, column=17))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, but ``reid-edge`` or ``reid-edge data`` alone shows help and exits with 2."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)


def example(commands: str) -> str:
    r"""The epilog of a command, from ``commands``, one a line: a long one goes on behind a backslash.

    >>> example("bench a.onnx\nbench b.onnx")
    'Example:\n  reid-edge bench a.onnx\n  reid-edge bench b.onnx'
    """
    return "Example:\n  " + "\n  ".join(map(_shell_lines, commands.splitlines()))


def _shell_lines(command: str) -> str:
    words = f"reid-edge {command}".replace(" --", "\0--").split("\0")  # an option stays with its value
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > 70:
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n  ".join(lines)


def metavar_of(annotation: Any) -> str:
    """What stands for an option's value: the words of a choice, N for a whole number, PATH, TEXT, nothing for a flag.

    >>> metavar_of(int | None), metavar_of(list[Path]), metavar_of(bool)
    ('N', 'PATH', '')
    """
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation)
    if get_origin(annotation) is tuple:
        return " ".join(metavar_of(each) for each in get_args(annotation))
    inner = [each for each in get_args(annotation) if each is not type(None)]
    return metavar_of(inner[0]) if inner else _NAMES.get(annotation, "TEXT")


def _command_help(command: Any, ctx: Any, usage: str) -> str:
    parameters = [each for each in command.get_params(ctx) if not getattr(each, "hidden", False)]
    hints = _hints(command)
    text = _filled(f"Usage: {usage}", 0, 7) + "\n\n" + _paragraphs(inspect.cleandoc(command.help or ""))
    for title, rows in _by_panel(parameters, "Options", lambda row: row):
        text += _section(title, (_row(each, hints) for each in rows))
    return text + (f"\n{command.epilog}\n" if command.epilog else "")


def _by_panel(rows: Iterable[Any], default: str, owner: Callable[[Any], Any]) -> Iterator[tuple[str, list[Any]]]:
    """Rows by their panel, the panels in the order of their first row; arguments first, the default panel last."""
    panels: dict[str, list[Any]] = {"Arguments": []}
    for row in rows:
        argument = getattr(owner(row), "param_type_name", "") == "argument"
        panel = getattr(owner(row), "rich_help_panel", None)
        title = panel if isinstance(panel, str) else "Arguments" if argument else default
        panels.setdefault(title, []).append(row)
    last = panels.pop(default, [])
    yield from ((title, found) for title, found in (*panels.items(), (default, last)) if found)


def _usage(command: Any) -> str:
    """Arguments and required options by name, then what may follow."""
    hints = _hints(command)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    named = [_argument(each) if each.required else f"[{_argument(each)}]" for each in arguments]
    options = [each for each in command.params if each.param_type_name == "option" and each.required]
    return " ".join([*named, *(_left(each, hints).replace(" ", _NO_BREAK) for each in options), "[OPTIONS]"])


def _argument(parameter: Any) -> str:
    dots = "..." if parameter.nargs == -1 else ""
    return f"{(parameter.metavar or parameter.name.upper()).removesuffix('...')}{dots}"


def _hints(command: Any) -> dict[str, Any]:
    """The types of a command's parameters by name, as its function declares them."""
    return get_type_hints(inspect.unwrap(command.callback)) if command.callback else {}


def _left(parameter: Any, hints: dict[str, Any]) -> str:
    """An option's names and what stands for its value."""
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=lambda name: name[:2] != "--"))
    # A parameter of Typer's own (--help, completion) has no annotation here, and is a flag.
    return f"{names} {parameter.metavar or metavar_of(hints.get(parameter.name, bool))}".rstrip()


def _row(parameter: Any, hints: dict[str, Any]) -> tuple[str, str]:
    """The left column and the explanation of an option or argument."""
    help_text = _plain(parameter.help or "")
    if parameter.param_type_name == "argument":
        return _argument(parameter), help_text
    facts = [f"[{fact}]" for fact in ("required" if parameter.required else "", _default(parameter)) if fact]
    kept_whole = [fact.replace(" ", _NO_BREAK) for fact in facts]
    return _left(parameter, hints), " ".join([help_text, *kept_whole]).strip()


def _default(parameter: Any) -> str:
    value = parameter.default
    if isinstance(getattr(parameter, "show_default", None), str):
        return f"default: {parameter.show_default}"
    if value is None or isinstance(value, bool) or value in ((), [], "") or callable(value):
        return ""
    return f"default: {getattr(value, 'value', value)}"


def _section(title: str, rows: Iterable[tuple[str, str]], column: int = _HELP_COLUMN) -> str:
    """A heading and its rows; an explanation starts below a left side that reaches into its column."""
    text = "\n" + typer.style(f"{title}:", bold=True) + "\n"
    for left, right in rows:
        body = _filled(right, column, column)
        fits = len(left) + 4 <= column
        head = "" if fits else _filled(left.replace("|", " | ") if len(left) + 2 > _width() else left, 2, 6) + "\n"
        text += head + (f"  {left}".ljust(column) + body.lstrip() if fits else body).rstrip() + "\n"
    return text


def _paragraphs(text: str) -> str:
    return "\n".join(f"{_filled(_plain(part), 2, 2)}\n" for part in text.split("\n\n") if part)


def _plain(text: str) -> str:
    """One line without the backticks of docstrings."""
    return " ".join(text.replace("`", "").split())


def _filled(text: str, first: int, following: int) -> str:
    lines = wrap(
        text,
        _width(),
        initial_indent=" " * first,
        subsequent_indent=" " * following,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return "\n".join(lines).replace(_NO_BREAK, " ")


def _width() -> int:
    return max(60, min(_WIDEST, shutil.get_terminal_size().columns))
