"""`reid-edge data`: look at a data set, or draw the built-in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parts import choices
from .parts.console import given, say, show, write_json
from .parts.options import DATA, Json, Layout, Part, Seed

__all__ = ["inspect", "synthesize"]


def inspect(
    path: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set folder or a manifest.")],
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    check_images: Annotated[
        bool, typer.Option(help="Decode every crop to find unreadable ones.", rich_help_panel=DATA)
    ] = True,
    json_file: Json = None,
) -> None:
    """Name the layout, count identities, cameras and crops of each split, and list problems."""
    from reid_edge.data.inspection import inspect_dataset, inspection_table

    inspection = inspect_dataset(path, choices.value_of(layout), part.value, check_images=check_images)
    show(inspection_table(inspection), json_file)
    write_json(json_file, inspection.to_dict())


def synthesize(
    out: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder to make; it must not exist, or hold the same set.")
    ],
    identities: Annotated[
        int | None, typer.Option(min=2, help="Identities to train on.", show_default="160", rich_help_panel=DATA)
    ] = None,
    test_identities: Annotated[
        int | None, typer.Option(min=2, help="Other identities to test on.", show_default="80", rich_help_panel=DATA)
    ] = None,
    cameras: Annotated[
        int | None, typer.Option(min=2, help="Cameras that see them, up to 9.", show_default="6", rich_help_panel=DATA)
    ] = None,
    seed: Seed = 0,
) -> None:
    """Draw pedestrians seen by several cameras, in Market-1501's layout: no real person is shown."""
    from reid_edge.data.synthetic.dataset import synthesize as draw

    asked = {"identities": identities, "test_identities": test_identities, "cameras": cameras}
    say(f"wrote {draw(out, seed=seed, **given(asked))}")
