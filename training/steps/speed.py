"""What keeps a device busy: losses that are read some steps at a time, and the precision that steps are faster in."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from reid_edge.training.models.reid_model import ReidModel

__all__ = ["LossLog", "amp_dtype", "faster_in_bf16", "gains"]

_STEPS = 10
"""Steps between two reads from a GPU: waiting for each leaves it idle while the next step is prepared."""

_FEWEST_PIXELS = 1 << 20
"""Smaller batches stay in float32 unmeasured: half of 64 crops of 256 x 128, where bfloat16 gained nothing."""

_LEAST_GAIN = 1.1
_ROUNDS = 3


class LossLog:
    """The losses of the last steps, still on their device: of one step on a CPU, which waits for nothing, else of ten.

    >>> log = LossLog(torch.device("cpu"))
    >>> log.add({"id": torch.tensor(2.0), "triplet": torch.tensor(0.5)})
    >>> log.due, log.read(), len(log)
    (True, [{'id': 2.0, 'triplet': 0.5}], 0)
    """

    def __init__(self, device: torch.device, steps: int | None = None) -> None:
        self.steps = steps or (1 if device.type == "cpu" else _STEPS)
        self._rows: list[dict[str, Tensor]] = []

    def add(self, losses: dict[str, Tensor]) -> None:
        """Keep the losses of a step; nothing is waited for."""
        self._rows.append(losses)

    @property
    def due(self) -> bool:
        """Whether it is time to read."""
        return len(self._rows) >= self.steps

    def read(self) -> list[dict[str, float]]:
        """The losses of all steps since the last read, oldest first: one wait for the device."""
        rows, self._rows = self._rows, []
        if not rows:
            return []
        values = torch.stack([value for row in rows for value in row.values()]).tolist()
        each = iter(values)
        return [{name: next(each) for name in row} for row in rows]

    def __len__(self) -> int:
        return len(self._rows)


def amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, None for float32 throughout, as for "auto" on a CPU that was not measured."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        # Before Ampere bfloat16 is emulated: "supported", and slower than float32.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def faster_in_bf16(model: ReidModel, batch: int, input_hw: tuple[int, int]) -> float | None:
    """How many times as fast a CPU takes forward and backward in mixed bfloat16 as in float32; None if not measured.

    The two take turns on a copy of ``model``: the median of three ratios, some seconds in all. A batch of few pixels is
    not measured.
    """
    if batch * input_hw[0] * input_hw[1] < _FEWEST_PIXELS:
        return None
    own = copy.deepcopy(model).train()
    images = torch.zeros(batch, 3, *input_hw).to(memory_format=torch.channels_last)

    def step(mixed: bool) -> Callable[[], None]:
        def run() -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                features = own(images)
            (features.feature.float().sum() + features.embedding.float().sum()).backward()

        return run

    seconds = [[_seconds(step(mixed)) for mixed in (False, True)] for _ in range(_ROUNDS + 1)][1:]  # one to warm up
    return statistics.median(plain / mixed for plain, mixed in seconds)


def gains(ratio: float | None) -> bool:
    """Whether a ratio of `faster_in_bf16` is worth the lost digits."""
    return ratio is not None and ratio >= _LEAST_GAIN


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
