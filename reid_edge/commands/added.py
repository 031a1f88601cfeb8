"""Commands that programs and other packages add to the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from reid_edge.core.registry import Registry
from reid_edge.errors import InputError

from .parts.help import HelpCommand, example

__all__ = ["ADDED_COMMANDS", "Command", "add_command", "add_registered"]


@dataclass(frozen=True)
class Command:
    """A row of `ADDED_COMMANDS`: what runs, how to call it, and under which heading ``reid-edge --help`` lists it.

    ``function`` has Typer's annotations (`typer.Argument`, `typer.Option`) and a docstring, which is its help.
    ``example`` is a command line without ``reid-edge`` in front. Import what is heavy inside the function: its module
    is imported at every start. With ``takes_anything`` unknown options are arguments.
    """

    function: Callable[..., Any]
    example: str
    panel: str = "Added"
    takes_anything: bool = field(default=False, repr=False)


ADDED_COMMANDS: Registry[Command] = Registry("commands")
"""By the name that is typed; reid-edge's own commands are those of `reid_edge.cli`, and cannot be replaced."""


def add_command(group: typer.Typer, name: str, command: Command) -> None:
    """Add one command, with this package's help, to the command line or a group of it."""
    extra: dict[str, Any] = {}
    if command.takes_anything:
        extra["context_settings"] = {"ignore_unknown_options": True}
    register = group.command(
        name, cls=HelpCommand, epilog=example(command.example), rich_help_panel=command.panel, **extra
    )
    register(command.function)


def add_registered(app: typer.Typer) -> None:
    """Add each of `ADDED_COMMANDS` whose name ``app`` does not have; one that cannot be imported says so when run."""
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for name in ADDED_COMMANDS:
        if name not in known:
            try:
                command = ADDED_COMMANDS[name]
            except InputError as error:
                command = _broken(name, error)
            add_command(app, name, command)


def _broken(name: str, error: InputError) -> Command:
    """In the place of a command that cannot be imported: the other commands are not its package's to stop."""

    def run(arguments: Annotated[list[str] | None, typer.Argument(metavar="...", help="Anything.")] = None) -> None:
        raise error

    run.__doc__ = "Cannot be imported: run it to see why."
    return Command(run, example=name, takes_anything=True)
