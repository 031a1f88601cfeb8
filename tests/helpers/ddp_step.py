"""Run by torchrun: two optimisation steps on this rank's share of a batch; rank 0 saves what came of them."""

import sys
from dataclasses import replace

import torch
from torch import nn

from reid_edge.training.config import TrainConfig
from reid_edge.training.parallel import ALONE, World, world
from reid_edge.training.run import Run

# Plain SGD, so that a difference in a gradient is one in the weights; a batch norm that is fixed, so that crops do not
# depend on their batch-mates and N ranks must give what one gives.
CONFIG = TrainConfig(
    model="osnet_x0_25",
    optimizer="sgd",
    momentum=0.0,
    learning_rate=0.5,
    weight_decay=0.0,
    people_per_batch=4,
    crops_per_person=2,
    precision="fp32",
    center_weight=0.01,
    distill_weight=0.5,
)


def steps(world: World = ALONE) -> dict[str, torch.Tensor]:
    """Weights, centers and the reported losses after two steps on eight random crops of four people."""
    run = Run(replace(CONFIG), people=4, device="cpu", world=world)
    run.model.train()
    for module in run.model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    random = torch.Generator().manual_seed(5)
    images, taught = torch.randn(8, 3, 64, 32, generator=random), torch.randn(8, 6, generator=random)
    labels = torch.arange(4).repeat_interleave(2)
    own = torch.from_numpy(world.share(torch.arange(8).numpy(), 2))
    run.set_learning_rate(1.0)
    for _ in range(2):
        losses = run.step(images[own], labels[own], taught[own])
    reached = {f"loss/{name}": torch.tensor(value) for name, value in losses.items()}
    return {**reached, "centers": run.centers.centers.detach(), **run.model.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with world("cpu") as together:
        reached = steps(together)
        everywhere = together.gathered(reached["centers"][None])
        assert all(torch.equal(everywhere[0], other) for other in everywhere), "the ranks' centers came apart"
        if together.leads:
            torch.save(reached, sys.argv[1])
