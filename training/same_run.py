"""Whether a checkpoint is of the run that resumes it: the same number of processes, and the same settings."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from reid_edge.errors import InputError
from reid_edge.training.parallel import World
from reid_edge.training.recipe.config import SCHEDULE_SETTINGS, TrainConfig

__all__ = ["check_processes", "check_settings"]


def check_processes(saved: dict[str, Any], world: World, source: str) -> None:
    """Raise InputError, with the command to go on, unless as many processes as these saved the state ``saved``."""
    before, now = int(saved.get("processes", world.size)), world.size  # earlier versions did not keep it
    if before != now:
        command = f"{World(size=before).command} --resume --out {shlex.quote(str(Path(source).parent))}"
        raise InputError(f"{source} was trained with --nproc-per-node {before}, now {now}: go on with  {command}")


def check_settings(saved: dict[str, Any], config: TrainConfig, identities: int, source: str) -> int | None:
    """Raise InputError with the settings that differ from the saved ones; the schedule may, where epochs are added.

    Returns the saved number of epochs where ``config`` has more, else None.
    """
    before = TrainConfig.from_dict(saved["config"])
    stretched_from = before.epochs if config.epochs > before.epochs else None
    if stretched_from is not None:
        before = replace(before, **{name: getattr(config, name) for name in SCHEDULE_SETTINGS})
    stored = {**before.to_dict(), "identities": saved["identities"]}
    given = {**config.to_dict(), "identities": identities}
    if differing := [f"{k} was {stored[k]!r}, now {given[k]!r}" for k in given if given[k] != stored[k]]:
        raise InputError(
            f"{source} was trained with other settings ({'; '.join(differing)}): repeat its settings to resume"
        )
    return stretched_from
