"""`reid-edge demo` and `reid-edge reproduce`: whole studies as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import InputError

from .parts import choices
from .parts.console import given, program_name, say, show, tell
from .parts.options import DATA, DEVICE, MOST_SEED, RECIPE, WHAT, Seed, Threads, writable_folder

__all__ = ["demo", "reproduce"]


def demo(
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", callback=writable_folder, help="Folder for every file of the demonstration."),
    ] = Path("demo"),
    arch: Annotated[str, typer.Option(metavar="NAME", help="Architecture to train.")] = "mobilenetv3_large",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train; fewer are faster.", show_default="16")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Run the whole pipeline on drawn people, and show it on one page: draw, train, export, benchmark, rank."""
    from reid_edge.api.demo.demo import run_demo
    from reid_edge.api.demo.page import next_command

    page = run_demo(out, arch=arch, epochs=epochs, seed=seed, program=program_name(), show=show)
    tell("next, your own folder:")
    tell(f"  {next_command(arch, program_name())}")
    tell(f"all of this on one page: {page}")


def reproduce(
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            callback=writable_folder,
            help="Folder for the runs, table1.md, table1.csv and the CMC figures.",
        ),
    ] = Path("reproduction"),
    market: Annotated[Path | None, typer.Option(help="Market-1501.", rich_help_panel=DATA)] = None,
    duke: Annotated[
        Path | None, typer.Option(help="DukeMTMC-reID; adds fine-tuning in both directions.", rich_help_panel=DATA)
    ] = None,
    last: Annotated[Path | None, typer.Option(help="LaST, to score on.", rich_help_panel=DATA)] = None,
    part: Annotated[
        choices.Part, typer.Option("--split", help="Part of LaST; the paper's is val.", rich_help_panel=DATA)
    ] = choices.Part.VAL,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Architecture, one of the paper's three; all by default. Repeatable.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Weights that an architecture starts from, a file or public ones by name; random if not given. "
            "Repeatable.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    recipe: Annotated[
        list[choices.Recipe] | None,
        typer.Option(
            help="Recipe, the paper's or the architecture's default; repeatable.",
            show_default="seed",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Fewer epochs than the recipe's, for a trial.", rich_help_panel=RECIPE)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_SEED, help="Seed of every random draw.", show_default="0", rich_help_panel=RECIPE),
    ] = None,
    identities: Annotated[
        int | None, typer.Option("--identities", "-P", help="Identities in a batch.", rich_help_panel=RECIPE)
    ] = None,
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="Input height and width in pixels.", rich_help_panel=RECIPE)
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.", rich_help_panel=DEVICE)
    ] = "auto",
    threads: Threads = None,
) -> None:
    """Repeat the seed paper's experiments on the data given: its Table I beside the figures measured here, and CMC."""
    from reid_edge.training.experiments.plan import ARCHS
    from reid_edge.training.experiments.reproduce import reproduce as run_matrix

    starts = dict(each.partition("=")[::2] for each in weights or [])
    if not all(starts.values()):
        raise InputError("give --weights NAME=FILE, for example --weights resnet50_bot=resnet50.pth")
    written = run_matrix(
        out,
        market=market,
        duke=duke,
        last=last,
        last_part=part.value,
        archs=tuple(arch or ARCHS),
        recipes=tuple(each.value for each in recipe or [choices.Recipe.SEED]),
        epochs=epochs,
        weights={name: Path(path) for name, path in starts.items()},
        change=given({"seed": seed, "identities_per_batch": identities, "input_hw": size}),
        device=device,
        threads=threads,
    )
    for path in written:
        say(f"wrote {path}")
