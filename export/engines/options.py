"""What an engine is to be built with, and for which batches."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reid_edge.engines.lanes.profiles import MOST_PROFILES, Profile, whole
from reid_edge.engines.tensorrt_api import require_backend
from reid_edge.errors import InputError

__all__ = ["EngineOptions", "parse_profile"]

_MAX_BATCH = 65_535
_MAX_WORKSPACE_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How to build an engine.

    ``backend`` is one of `tensorrt_api.BACKENDS` (None: the first that is installed); ``batches`` are the minimum, the
    optimum (which kernels are tuned for) and the maximum batch; ``profiles`` are several such triples in its place, for
    example (1, 1, 8) and (9, 32, 64): kernels are chosen for each, and a run takes the one that fits its batch best
    (`lanes.profiles.choose_profile`); ``batches`` spans them then. ``workspace_mib`` bounds scratch memory (None:
    TensorRT's default, all there is); ``version_compatible`` engines run on newer runtimes too, slower; ``dla`` is the
    core of the deep-learning accelerator, on the Jetsons and versions that have one, for the engines of FP16 and INT8
    files (it computes no FP32); ``timing_cache`` is a file that makes the next build quick; ``force`` builds even when
    the engine is up to date.
    """

    backend: str | None = None
    batches: Profile = (1, 16, 64)
    workspace_mib: int | None = None
    version_compatible: bool = False
    dla: int | None = None
    timing_cache: Path | None = None
    force: bool = False
    profiles: tuple[Profile, ...] = ()

    def __post_init__(self) -> None:
        if self.profiles:
            object.__setattr__(self, "batches", whole(self.profiles))

    def check(self) -> None:
        """Raise InputError for what no model and no version could be built with."""
        require_backend(self.backend)
        for profile in self.all_profiles:
            _check_batches(profile, profile)
        if len(self.all_profiles) > MOST_PROFILES:
            raise InputError(f"an engine has at most {MOST_PROFILES} profiles: leave some --profile (profiles=) out")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= _MAX_WORKSPACE_MIB:
            raise InputError(f"{self.workspace_mib} MiB of workspace are not between 1 and {_MAX_WORKSPACE_MIB}")
        if self.dla is not None and len({size for profile in self.all_profiles for size in profile}) > 1:
            raise InputError(
                "the deep-learning accelerator takes an FP16 or INT8 .onnx and one batch size: give such a file, and "
                "--profile 8:8:8 (batches=) for example"
            )

    def check_for(self, precisions: Collection[str]) -> None:
        """Raise InputError for what no file of these ``precisions`` can be built with."""
        if self.dla is not None and set(precisions) <= {"fp32"}:
            raise InputError(
                "the deep-learning accelerator computes FP16 and INT8: add --fp16 or --int8 (precisions=), "
                "give an .onnx of one of them, or leave --dla (dla=) out"
            )
        self.check()

    def for_precision(self, precision: str) -> EngineOptions:
        """The options for one file of several: an FP32 file's engine runs on the GPU, whatever ``dla`` says."""
        return replace(self, dla=None) if precision == "fp32" else self

    @property
    def distinct_batches(self) -> tuple[int, ...]:
        """The batches of the profiles, smallest first, each once."""
        return tuple(sorted({size for profile in self.all_profiles for size in profile}))

    @property
    def all_profiles(self) -> tuple[Profile, ...]:
        """The profiles to build: `profiles`, or one of `batches`."""
        return self.profiles or (self.batches,)

    def facts(self) -> dict[str, Any]:
        """What an engine depends on, for its card."""
        return {
            "batches": list(self.batches),
            "workspace_mib": self.workspace_mib,
            "version_compatible": self.version_compatible,
            "dla": self.dla,
            **({"profiles": [list(profile) for profile in self.profiles]} if len(self.profiles) > 1 else {}),
        }


def parse_profile(text: str) -> tuple[int, int, int]:
    """Read "1:16:64" (MIN:OPT:MAX). Raises InputError unless these are whole numbers from 1 up that do not decrease.

    >>> parse_profile("1:16:64")
    (1, 16, 64)
    """
    if not re.fullmatch(r"[0-9]{1,5}:[0-9]{1,5}:[0-9]{1,5}", text):
        raise InputError(_not_a_profile(text))
    smallest, usual, largest = (int(part) for part in text.split(":"))
    return _check_batches((smallest, usual, largest), text)


def _check_batches(batches: tuple[int, int, int], given: object) -> tuple[int, int, int]:
    smallest, usual, largest = batches
    if not 1 <= smallest <= usual <= largest <= _MAX_BATCH:
        raise InputError(_not_a_profile(given))
    return batches


def _not_a_profile(given: object) -> str:
    return f"profile {given!r} is not MIN:OPT:MAX, up to {_MAX_BATCH}: write it as 1:16:64"
