"""Training speed beside torchreid's, in one run: ``python -m reid_edge.training.versus_torchreid Market-1501``.

Both train OSNet x0.25 at 256 x 128 on batches of 16 people x 4 crops with flip, crop and erasing, triplet and smoothed
cross entropy; torchreid by its own data manager and engine (``pip install torchreid gdown scipy h5py``, MIT),
once with each number of loader processes, of which the quickest counts. They take turns, so that a busy moment meets
all; the medians of the rounds are compared. Ours has its crops decoded beforehand, as from the second epoch on.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_edge.datasets import Dataset, open_dataset
from reid_edge.progress import track

from .augment import augmented
from .config import TrainConfig
from .recipes import recipe_for
from .run import Run
from .sampler import pk_batches
from .store import decoded

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
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    dataset = open_dataset(asked.data)
    sides = {f"reid-edge {precision}": _ours(dataset, precision) for precision in ("fp32", "bf16")}
    sides |= {f"torchreid, {workers} loader processes": _theirs(dataset.root, workers) for workers in (0, 1, 2)}
    speeds = _in_turns(sides, asked.rounds, asked.steps)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; images/s: median (lowest to highest)")
    for name, values in speeds.items():
        print(f"{name:30} {medians[name]:6.1f} ({min(values):.1f} to {max(values):.1f})")
    peer = max(value for name, value in medians.items() if name.startswith("torchreid"))
    for name, value in medians.items():
        if name.startswith("reid-edge"):
            print(f"{name}: {value / peer:.2f} times torchreid's quickest")


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


def _ours(dataset: Dataset, precision: str) -> Step:
    config = TrainConfig.from_dict({**recipe_for("osnet_x0_25").to_dict(), "precision": precision})
    crops = dataset.split.train
    _, labels = np.unique([crop.pid for crop in crops], return_inverse=True)
    run = Run(config, people=int(labels.max()) + 1, device="cpu")
    run.set_learning_rate(0.1)
    run.model.train()
    images = torch.from_numpy(decoded(crops, config.input_hw, config.resize).images)
    rng = np.random.default_rng(0)
    batches = cycle(pk_batches(labels, config.people_per_batch, config.crops_per_person, rng))

    def step() -> None:
        chosen = next(batches)
        run.step(augmented(run.gather(images, chosen), config, rng), torch.from_numpy(labels[chosen]))

    return step


def _theirs(root: Path, workers: int) -> Step:
    """The peer's own data manager and triplet engine on the same crops."""
    with warnings.catch_warnings(), redirect_stdout(None):
        warnings.simplefilter("ignore")
        import torchreid  # type: ignore[import-not-found]

        home = Path(tempfile.mkdtemp(prefix="versus"))
        (home / "market1501").mkdir()
        (home / "market1501" / "Market-1501-v15.09.15").symlink_to(root.resolve())
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
