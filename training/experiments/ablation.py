"""Ablation: the worth of each part of a recipe.

::

    python -m reid_edge.training.experiments.ablation --arch NAME --data PATH --out DIR --epochs N

One training with every trick, one without each of them, and one with each addition that is off by default; all from
the same start, over the same batches, evaluated after the last epoch. Each is a run of its own below ``out``, so that
an interrupted command continues when it is repeated, and another ``--seed`` adds runs to the existing ones.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from reid_edge.api.train_model import train_model
from reid_edge.core.files import write_text
from reid_edge.core.log import show_messages
from reid_edge.data.datasets import Dataset, mixed, open_dataset
from reid_edge.errors import InputError
from reid_edge.training.history import read_history
from reid_edge.training.models.registry import ARCHITECTURES
from reid_edge.training.models.torch_engine import limit_torch_threads
from reid_edge.training.options import RunOptions, StartFrom, Teacher
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.recipe.recipes import RECIPES, recipe_for
from reid_edge.training.run_folder import HISTORY_NAME, MODEL_NAME

__all__ = ["ROWS", "Row", "changed", "full_recipe", "main", "table"]

logger = logging.getLogger(__name__)

_FIGURES = ("rank1", "mAP", "mINP")
_ALL = "all tricks"


@dataclass(frozen=True)
class Row:
    """One change of the full recipe. An architecture without one of the ``options`` has no such row."""

    change: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


ROWS = {
    _ALL: Row(),
    "no warm-up": Row({"warmup_epochs": 0}),
    "no random erasing": Row({"erase": 0.0}),
    "no label smoothing": Row({"label_smoothing": 0.0}),
    "last stride 2": Row(options={"last_stride": 2}),
    "no BNNeck": Row(options={"neck": False}),
    "no center loss": Row({"center_weight": 0.0}),
    "no triplet loss": Row({"triplet_weight": 0.0}),
    "with EMA 0.99": Row({"ema_decay": 0.99}),
    "with GeM": Row(options={"pooling": "gem"}),
    "with a teacher": Row(),
    "with more identities": Row(),
}
"""By the name in the table. The last two need a teacher and a second data set, and are left out without them."""


def full_recipe(arch: str, epochs: int, recipe: str) -> TrainConfig:
    """An architecture's recipe with every trick: BNNeck for OSNet too, last stride 1 where it is an option."""
    config = recipe_for(arch, epochs, recipe)
    every = {"neck": True, "last_stride": 1}
    known = ARCHITECTURES[arch].options
    return replace(config, options=config.options | {name: every[name] for name in every if name in known})


def changed(full: TrainConfig, row: Row) -> TrainConfig | None:
    """The recipe of a row, or None where the architecture lacks what it changes."""
    if not set(row.options) <= set(ARCHITECTURES[full.arch].options):
        return None
    return replace(full, options=full.options | dict(row.options), **row.change)


def table(scores: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Markdown: the figures of each row and seed, and the mean change from all tricks over the seeds that both have.

    ``scores`` are fractions by row, seed and figure.
    """
    full = scores.get(_ALL, {})
    lines = ["| recipe | seeds | R1 | mAP | mINP | change of R1 | of mAP |", "|---|---|---|---|---|---|---|"]
    for name, seeds in scores.items():
        figures = [" ".join(f"{100 * each[figure]:.2f}" for each in seeds.values()) for figure in _FIGURES]
        shared = sorted(set(seeds) & set(full)) if name != _ALL else []
        changes = [
            f"{100 * fmean(seeds[seed][figure] - full[seed][figure] for seed in shared):+.2f}" if shared else "-"
            for figure in _FIGURES[:2]
        ]
        lines.append(f"| {' | '.join([name, ' '.join(map(str, seeds)), *figures, *changes])} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the rows that are not done, and print the table, which is also in ``out/ablation.md``."""
    given = _parser().parse_args(arguments)
    show_messages()
    limit_torch_threads(given.threads)
    dataset = open_dataset(given.data)
    bigger = mixed([dataset, *(open_dataset(path) for path in given.more)]) if given.more else None
    height, width = given.size
    full = full_recipe(given.arch, given.epochs, given.recipe)
    full = replace(full, input_hw=(height, width), pad=round(full.pad * height / 256), precision=given.precision)
    for seed in given.seed or [0]:
        for name in given.row or ROWS:
            if name not in ROWS:
                raise InputError(f"row {name!r} is unknown: give one of {', '.join(ROWS)}")
            row = changed(replace(full, seed=seed), ROWS[name])
            needed = {"with a teacher": given.teacher, "with more identities": bigger}.get(name, name)
            if row is not None and needed is not None:
                _train(row, bigger if name == "with more identities" and bigger else dataset, name, given)
                written = table(_scores(given.out))
                write_text(given.out / "ablation.md", written)
    print(written, end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--weights", type=Path, help="weights that all start from; random by default")
    parser.add_argument("--teacher", type=Path, help="a checkpoint or ONNX file, for the row with a teacher")
    parser.add_argument(
        "--more", type=Path, action="append", default=[], help="data for the row with more identities; repeatable"
    )
    parser.add_argument("--seed", type=int, action="append", help="repeatable; 0 by default")
    parser.add_argument("--row", action="append", help=f"only these rows (repeatable) of: {', '.join(ROWS)}")
    parser.add_argument("--threads", type=int)
    return parser


def _train(config: TrainConfig, dataset: Dataset, name: str, given: argparse.Namespace) -> None:
    out = _folder(given.out, name, config.seed)
    if (out / MODEL_NAME).exists():
        return
    logger.info("%s, seed %d", name, config.seed)
    teacher = Teacher(model=given.teacher) if name == "with a teacher" else None
    run = RunOptions(resume=True, eval_every=config.epochs)
    train_model(dataset, out, config=config, start=StartFrom(weights=given.weights), teacher=teacher, run=run)


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '_')}-{seed}"


def _scores(out: Path) -> dict[str, dict[int, dict[str, float]]]:
    """The scores of the finished runs below ``out``, in the order of `ROWS`."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name in ROWS:
        for path in sorted(out.glob(_folder(Path(), name, 0).name[:-1] + f"*/{MODEL_NAME}")):
            metrics = read_history(path.parent / HISTORY_NAME)[-1].metrics
            assert metrics is not None, "the last epoch of a row is evaluated"
            found.setdefault(name, {})[int(path.parent.name.rpartition("-")[2])] = metrics
    return found


if __name__ == "__main__":
    main()
