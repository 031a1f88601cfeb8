"""Training speed beside torchreid's, in one run.

::

    python -m reid_edge.training.experiments.versus_torchreid Market-1501

Both train OSNet x0.25 at 256 x 128 on batches of 16 identities x 4 crops with flip, crop and erasing, triplet and
smoothed cross entropy; torchreid by its own data manager and engine (``pip install torchreid gdown scipy h5py``, MIT),
once with each number of loader processes, of which the fastest counts. They take turns, so that a busy moment slows all
of them; the medians of the rounds are compared. reid-edge reads decoded crops, as it does from the second epoch on.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_edge.core.files import scratch_folder
from reid_edge.core.progress import track
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.training.batches.augment import augment
from reid_edge.training.batches.cache import cache_decoded
from reid_edge.training.batches.sampler import pk_batches
from reid_edge.training.loop import train_step
from reid_edge.training.models.torch_engine import limit_torch_threads
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.recipe.recipes import recipe_for
from reid_edge.training.trainer import Trainer

__all__ = ["main"]

_CROPS = 64

Step = Callable[[], None]


def main() -> None:
    """Print the images per second of both, and the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a data set in Market-1501's layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of 64 crops in a round")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    limit_torch_threads(given.threads)
    dataset = open_dataset(given.data)
    sides = {f"reid-edge {precision}": _reid_edge(dataset, precision) for precision in ("fp32", "bf16")}
    with scratch_folder() as home:
        (home / "market1501").mkdir()
        (home / "market1501" / "Market-1501-v15.09.15").symlink_to(dataset.root.resolve())
        sides |= {f"torchreid, {workers} loader processes": _torchreid(home, workers) for workers in (0, 1, 2)}
        speeds = _in_turns(sides, given.rounds, given.steps)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; images/s: median (lowest to highest)")
    for name, values in speeds.items():
        print(f"{name:30} {medians[name]:6.1f} ({min(values):.1f} to {max(values):.1f})")
    peer = max(value for name, value in medians.items() if name.startswith("torchreid"))
    for name, value in medians.items():
        if name.startswith("reid-edge"):
            print(f"{name}: {value / peer:.2f} times torchreid's fastest")


def _in_turns(sides: dict[str, Step], rounds: int, steps: int) -> dict[str, list[float]]:
    """Images per second of every side in every round, after one step to warm up."""
    for step in sides.values():
        step()
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for name in track([name for _ in range(rounds) for name in sides], "training in turns"):
        began = time.perf_counter()
        for _ in range(steps):
            sides[name]()
        speeds[name].append(steps * _CROPS / (time.perf_counter() - began))
    return speeds


def _reid_edge(dataset: Dataset, precision: str) -> Step:
    config = TrainConfig.from_dict({**recipe_for("osnet_x0_25").to_dict(), "precision": precision})
    crops = dataset.split.train
    _, labels = np.unique([crop.pid for crop in crops], return_inverse=True)
    trainer = Trainer(config, identities=int(labels.max()) + 1, device="cpu")
    trainer.set_learning_rate(0.1)
    trainer.model.train()
    images = torch.from_numpy(cache_decoded(crops, config.input_hw, config.resize).images)
    rng = np.random.default_rng(0)
    batches = cycle(pk_batches(labels, config.identities_per_batch, config.crops_per_identity, rng))

    def step() -> None:
        rows = next(batches)
        batch = augment(images[torch.from_numpy(rows)], config, rng)
        train_step(trainer, batch, torch.from_numpy(labels[rows]))

    return step


def _torchreid(home: Path, workers: int) -> Step:
    """Torchreid's own data manager and triplet engine on the same crops, in the folder that it keeps data sets in."""
    with warnings.catch_warnings(), redirect_stdout(None):
        warnings.simplefilter("ignore")
        import torchreid  # type: ignore[import-not-found]

        manager = torchreid.data.ImageDataManager(
            root=str(home),
            sources="market1501",
            transforms=["random_flip", "random_crop", "random_erase"],
            use_gpu=False,
            batch_size_train=_CROPS,
            workers=workers,
            num_instances=4,
            train_sampler="RandomIdentitySampler",
        )
        model = torchreid.models.build_model("osnet_x0_25", manager.num_train_pids, loss="triplet", pretrained=False)
        optimizer = torchreid.optim.build_optimizer(model, optim="amsgrad", lr=1.5e-4)
        engine = torchreid.engine.ImageTripletEngine(manager, model, optimizer, use_gpu=False)
    model.train()
    batches = _forever(manager.train_loader)

    def step() -> None:
        engine.forward_backward(next(batches))

    return step


def _forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
