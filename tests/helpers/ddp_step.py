"""Run by torchrun: two optimisation steps on this rank's share of a batch; rank 0 saves what came of them."""

import sys
from dataclasses import replace

import torch
from torch import nn

from reid_edge.training.loop import train_step
from reid_edge.training.parallel import ALONE, World, world
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.trainer import Trainer

# Plain SGD, so that a difference in a gradient is one in the weights; a batch norm that is fixed, so that an output
# does not depend on the other crops in the batch, and N ranks must give what one gives.
CONFIG = TrainConfig(
    arch="osnet_x0_25",
    optimizer="sgd",
    momentum=0.0,
    learning_rate=0.5,
    weight_decay=0.0,
    identities_per_batch=4,
    crops_per_identity=2,
    precision="fp32",
    center_weight=0.01,
    distill_weight=0.5,
)


def steps(world: World = ALONE) -> dict[str, torch.Tensor]:
    """Weights, centers and the reported losses after two steps on eight random crops of four identities."""
    trainer = Trainer(replace(CONFIG), identities=4, device="cpu", world=world)
    trainer.model.train()
    for module in trainer.model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    random = torch.Generator().manual_seed(5)
    images, teacher = torch.randn(8, 3, 64, 32, generator=random), torch.randn(8, 6, generator=random)
    labels = torch.arange(4).repeat_interleave(2)
    own = torch.from_numpy(world.share(torch.arange(8).numpy(), 2))
    trainer.set_learning_rate(1.0)
    for _ in range(2):
        losses = train_step(trainer, images[own], labels[own], teacher[own])
    reached = {f"loss/{name}": value for name, value in losses.items()}
    return {**reached, "centers": trainer.centers.centers.detach(), **trainer.model.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with world("cpu") as together:
        reached = steps(together)
        everywhere = together.all_gather(reached["centers"][None])
        assert all(torch.equal(everywhere[0], other) for other in everywhere), "the ranks' centers came apart"
        if together.is_main:
            torch.save(reached, sys.argv[1])
