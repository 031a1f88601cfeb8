"""Several processes, one batch: data-parallel training under ``torchrun``.

A batch of P x K crops is cut by people: rank r of N gets P/N people with all their crops, so no person is on two
ranks. The ID loss is the mean over every rank's crops, as the mean of equal parts. Batch-hard mining, center loss and
distillation look at the features of *all* ranks (`World.gathered`): the hardest negative may be on another GPU. Batch
norm uses each rank's own crops, as `torch.nn.parallel.DistributedDataParallel` does; so N ranks are not one rank with
N times the crops, and one rank is exactly a run without ``torchrun``.

Each rank computes those common losses whole, with a gradient through its own rows only. DDP averages the ranks'
gradients, so they enter N times (`World.size`); the centers get the whole gradient on every rank, and stay equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from reid_edge.errors import InputError

__all__ = ["ALONE", "World", "world"]

# One rank scores the model while the others wait for it.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The processes that train together; ``rank`` 0 reads, writes and speaks for all."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, batch: NDArray[np.int64], crops_per_person: int) -> NDArray[np.int64]:
        """The part of a batch of P x K indices (K in a row) that is this rank's: P/N people with all their crops.

        Raises InputError when P is no multiple of N.
        """
        people = batch.reshape(-1, crops_per_person)
        if len(people) % self.size:
            raise InputError(
                f"{len(people)} people in a batch cannot be shared by {self.size} processes: give -P a multiple of it"
            )
        each = len(people) // self.size
        return people[self.rank * each : (self.rank + 1) * each].reshape(-1)

    def gathered(self, rows: Tensor) -> Tensor:
        """Every rank's rows [N, ...] in the order of the ranks; the gradient flows through this rank's own."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` over the ranks, without gradient."""
        values = values.detach().clone()
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return values

    def any(self, flag: bool) -> bool:
        """Whether any rank says so: they must agree before one of them leaves the loop."""
        if self.size == 1:
            return flag
        said = torch.tensor(float(flag), device=_device())
        return bool(self.mean(said) > 0)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """What the leader prepares (a cache, a file) the others find ready."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


ALONE = World()
"""One process, without torchrun."""


@contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """The processes that torchrun started, joined over NCCL on GPUs and gloo on CPUs; `ALONE` without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    on_gpu = torch.cuda.is_available() and device != "cpu"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield World(distributed.get_rank(), size)
        # A gloo thread may still hold the last operation's tensors; were Python to end under it, it would abort.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
