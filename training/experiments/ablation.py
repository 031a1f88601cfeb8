"""What each trick is worth: ``python -m reid_edge.training.ablation --model NAME --data PATH --out DIR --epochs N``.

One training with every trick on, then one with each of them off, and one with each of what the recipes leave off on;
all from the same start, over the same batches, scored after the last epoch. Each is a run of its own below ``out``, so
that the command goes on where it was interrupted, and ``--seed`` again adds runs to those that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from reid_edge.datasets import Dataset, mixed, open_dataset
from reid_edge.engine import open_engine
from reid_edge.errors import InputError
from reid_edge.files import written_whole

from .config import TrainConfig
from .loop import train
from .models import ARCHITECTURES
from .recipes import RECIPES, recipe_for

__all__ = ["ROWS", "Row", "changed", "full_recipe", "main", "table"]

_SHOWN = ("rank1", "mAP", "mINP")
_ALL = "all tricks"


@dataclass(frozen=True)
class Row:
    """One change of the full recipe; ``options`` are the architecture's, which is left out if it has no such option."""

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
    "with more people": Row(),
}
"""By the name in the table. The last two need a teacher and a second data set, and are left out without."""


def full_recipe(model: str, epochs: int, recipe: str) -> TrainConfig:
    """A model's recipe with every trick on: BNNeck for an OSNet too, last stride 1 where the architecture has one."""
    config = recipe_for(model, epochs, recipe)
    every = {"neck": True, "last_stride": 1}
    known = ARCHITECTURES[model].options
    return replace(config, options=config.options | {name: every[name] for name in every if name in known})


def changed(full: TrainConfig, row: Row) -> TrainConfig | None:
    """The recipe of a row, or None where the architecture lacks what it changes."""
    if not set(row.options) <= set(ARCHITECTURES[full.model].options):
        return None
    return replace(full, options=full.options | dict(row.options), **row.change)


def table(scores: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Markdown: per row and seed its figures, and the mean change against all tricks over the seeds they share.

    ``scores`` are fractions by row, seed and figure.
    """
    full = scores.get(_ALL, {})
    lines = ["| recipe | seeds | R1 | mAP | mINP | change of R1 | of mAP |", "|---|---|---|---|---|---|---|"]
    for name, seeds in scores.items():
        figures = [" ".join(f"{100 * each[figure]:.2f}" for each in seeds.values()) for figure in _SHOWN]
        shared = sorted(set(seeds) & set(full)) if name != _ALL else []
        changes = [
            f"{100 * fmean(seeds[seed][figure] - full[seed][figure] for seed in shared):+.2f}" if shared else "-"
            for figure in _SHOWN[:2]
        ]
        lines.append(f"| {' | '.join([name, ' '.join(map(str, seeds)), *figures, *changes])} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not there yet, and print the table, which ``out/ablation.md`` keeps."""
    asked = _parser().parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    dataset = open_dataset(asked.data)
    bigger = mixed([dataset, *(open_dataset(path) for path in asked.more)]) if asked.more else None
    height, width = asked.size
    full = full_recipe(asked.model, asked.epochs, asked.recipe)
    full = replace(full, input_hw=(height, width), pad=round(full.pad * height / 256), precision=asked.precision)
    for seed in asked.seed or [0]:
        for name in asked.row or ROWS:
            if name not in ROWS:
                raise InputError(f"row {name!r} is unknown: give one of {', '.join(ROWS)}")
            row = changed(replace(full, seed=seed), ROWS[name])
            needed = {"with a teacher": asked.teacher, "with more people": bigger}.get(name, name)
            if row is not None and needed is not None:
                _train(row, bigger if name == "with more people" and bigger else dataset, name, asked)
                written = table(_scores(asked.out))
                with written_whole(asked.out / "ablation.md") as beside:
                    beside.write_text(written, encoding="utf-8")
    print(written, end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--weights", type=Path, help="what all start from; random by default")
    parser.add_argument("--teacher", type=Path, help="an ONNX file of ours, for the row with a teacher")
    parser.add_argument("--more", type=Path, action="append", default=[], help="data for the row with more people")
    parser.add_argument("--seed", type=int, action="append", help="again for more; 0 by default")
    parser.add_argument("--row", action="append", help=f"only these of: {', '.join(ROWS)}")
    parser.add_argument("--threads", type=int)
    return parser


def _train(config: TrainConfig, dataset: Dataset, name: str, asked: argparse.Namespace) -> None:
    out = _folder(asked.out, name, config.seed)
    if (out / "model.pth").exists():
        return
    print(f"{name}, seed {config.seed}", flush=True)
    teacher = open_engine(asked.teacher) if name == "with a teacher" else None
    train(config, dataset, out, weights=asked.weights, teacher=teacher, resume=True, eval_every=config.epochs)


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '_')}-{seed}"


def _scores(out: Path) -> dict[str, dict[int, dict[str, float]]]:
    """What the finished runs below ``out`` scored, in the order of `ROWS`."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name in ROWS:
        for path in sorted(out.glob(_folder(Path(), name, 0).name[:-1] + "*/model.pth")):
            history = json.loads((path.parent / "history.json").read_text(encoding="utf-8"))
            found.setdefault(name, {})[int(path.parent.name.rpartition("-")[2])] = history[-1]["metrics"]
    return found


if __name__ == "__main__":
    main()
