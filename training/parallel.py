"""Several processes, one batch: data-parallel training under ``torchrun``.

A batch of P x K crops is split by identity: rank r of N gets P/N identities with all their crops, so no identity is on
two ranks. The ID loss is the mean over every rank's crops, as the mean of equal parts. Batch-hard mining, center loss
and distillation use the features of *all* ranks (`World.all_gather`): the hardest negative may be on another GPU. Batch
norm uses each rank's own crops, as `torch.nn.parallel.DistributedDataParallel` does; so N ranks do not compute what one
rank with N times the crops would, and one rank computes exactly what a run without ``torchrun`` does.

Each rank computes those common losses whole, with a gradient through its own rows only. DDP averages the ranks'
gradients, so they are multiplied by N (`World.size`); the centers get the whole gradient on every rank, and stay equal.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from reid_edge.errors import InputError
from reid_edge.training.models.reid_model import Features, ReidModel
from reid_edge.training.recipe.config import TrainConfig

__all__ = ["ALONE", "World", "forward_of", "only_main_logs", "with_synchronised_norms", "world"]

# One rank evaluates the model while the others wait for it.
_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The processes that train together; ``rank`` 0, the main process, reads, writes and logs for all."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and logs."""
        return self.rank == 0

    @property
    def command(self) -> str:
        """What begins such a training on the command line."""
        if self.size == 1:
            return "reid-edge train"
        return f"torchrun --nproc-per-node {self.size} -m reid_edge.training"

    def share(self, batch: NDArray[np.int64], crops_per_identity: int) -> NDArray[np.int64]:
        """The rank's part of a batch of P x K indices (K in a row): P/N identities with all their crops.

        Raises InputError when P is not a multiple of N.
        """
        identities = batch.reshape(-1, crops_per_identity)
        if len(identities) % self.size:
            raise InputError(
                f"{len(identities)} identities in a batch cannot be shared by {self.size} processes: "
                "give -P a multiple of it"
            )
        each = len(identities) // self.size
        return identities[self.rank * each : (self.rank + 1) * each].reshape(-1)

    def all_gather(self, rows: Tensor) -> Tensor:
        """Every rank's rows [N, ...] in the order of the ranks, with a gradient through this rank's own."""
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
        """Whether ``flag`` is true on any rank: all must agree before one of them leaves the loop."""
        if self.size == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=_device())) > 0)

    def wait(self) -> None:
        """Block until every rank is here."""
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before the others, which then find its files (a cache, embeddings)."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


ALONE = World()
"""One process, without torchrun."""


@contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """The processes that torchrun started, joined over NCCL on GPUs and gloo on CPUs; `ALONE` without it.

    Within it only the main process logs below ERROR.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    on_gpu = torch.cuda.is_available() and device != "cpu"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    try:
        joined = World(distributed.get_rank(), size)
        with only_main_logs(joined):
            yield joined
        # A gloo thread may still hold the last operation's tensors; were Python to end under it, it would abort.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


@contextmanager
def only_main_logs(world: World) -> Iterator[None]:
    """Raise the package's log level to ERROR in every process but the main one."""
    package = logging.getLogger("reid_edge")
    level = package.level
    if not world.is_main:
        package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(level)


def with_synchronised_norms(model: ReidModel, config: TrainConfig, device: torch.device, world: World) -> ReidModel:
    """The model whose batch norms take the statistics of all ranks' crops, if the recipe says so."""
    if not config.sync_norm or world.size == 1:
        return model
    if device.type != "cuda":
        raise InputError("sync_norm needs a GPU for each process: leave it false on a CPU")
    synchronised: ReidModel = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return synchronised


def forward_of(model: ReidModel, config: TrainConfig, world: World) -> Callable[[Tensor], Features]:
    """The model as a step calls it: over all ranks, compiled, or plain."""
    forward: nn.Module = model
    if world.size > 1:
        forward = nn.parallel.DistributedDataParallel(forward)
    compiled: Callable[[Tensor], Features] = torch.compile(forward) if config.compile else forward
    return compiled


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
