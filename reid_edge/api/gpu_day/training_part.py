"""How fast a model trains here, and how much of the time it waits for crops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize

from .gpus import torch_device
from .parts import DayOptions, DayRow

__all__ = ["speeds"]

_WARM_UP = 3
_SECONDS = 10
"""Of the timing of one model, for each second of ``DayOptions.seconds``."""


def speeds(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row for each architecture, trained by its own recipe: images a second, and the share of time that is data.

    ``waiting`` is the share of a step until the augmented batch is on the device. Both halves end with a wait for the
    device, so that neither hides in the other: a run without these waits is a little faster.
    """
    given = open_dataset(options.data, options.layout) if options.data else None
    device = torch_device(options.device)

    import torch

    from reid_edge.training.batches.augment import augment
    from reid_edge.training.data import identities_of, prepare_data
    from reid_edge.training.loop import train_step
    from reid_edge.training.recipe.recipes import recipe_for
    from reid_edge.training.trainer import Trainer

    dataset = given or open_dataset(synthesize(folder / "people", identities=32, test_identities=2))

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for arch in options.architectures:
        config = replace(recipe_for(arch), input_hw=options.input_hw)
        trainer = Trainer(config, identities_of(dataset, config), options.device)
        data = prepare_data(dataset, trainer)
        batches = data.batches(config, 0)
        trainer.begin_epoch()
        trainer.set_learning_rate(0.1)
        waited: list[float] = []
        total: list[float] = []
        while len(total) < _WARM_UP + 1 or sum(total[_WARM_UP:]) < _SECONDS * options.seconds:
            started = now()
            images, labels, _ = data.gather(batches[len(total) % len(batches)], trainer.device)
            batch = augment(images, config, np.random.default_rng([0, len(total)]))
            ready = now()
            train_step(trainer, batch, labels)
            waited.append(ready - started)
            total.append(now() - started)
        waits, times = waited[_WARM_UP:], total[_WARM_UP:]
        yield {
            "arch": arch,
            "precision": config.precision,
            "batch": len(labels),
            "steps": len(times),
            "images_per_second": round(len(labels) * len(times) / sum(times), 1),
            "waiting": round(sum(waits) / sum(times), 4),
            "crops_on_device": data.images.device.type == "cuda",
        }
