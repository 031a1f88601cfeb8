"""Jobs of a plan, each in a folder of its own, so that a second call does only the jobs that are not done.

``job.json``, a job's settings, is written when it begins, ``result.json`` when it ends. A job with a result is not
repeated, and an interrupted training continues from its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.api.train_model import train_model
from reid_edge.core.files import write_text
from reid_edge.data.datasets import Dataset
from reid_edge.data.images import Source
from reid_edge.data.records import Split
from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.scoring.evaluation import evaluate
from reid_edge.training.models.checkpoint import load_model
from reid_edge.training.models.torch_engine import TorchEngine, device_for
from reid_edge.training.options import RunOptions, StartFrom
from reid_edge.training.recipe.config import renamed_settings
from reid_edge.training.run_folder import MODEL_NAME

from .plan import Job

__all__ = ["DISTANCES_COMPARED", "Lab"]

DISTANCES_COMPARED = ("euclidean", "cosine", "correlation")
"""The distances that the paper compares."""

_BATCH = 64


@dataclass(frozen=True)
class Lab:
    """Where jobs run: their folders are below ``out``.

    ``datasets`` are by option, ``weights`` (a file and its SHA-256) by the architecture that starts from them.
    """

    out: Path
    datasets: Mapping[str, Dataset]
    weights: Mapping[str, tuple[Path, str]]
    device: str = "auto"

    def check(self, job: Job) -> None:
        """Raise InputError when the job's folder was made with other settings."""
        folder = self.out / job.folder
        begun, settings = _read(folder / "job.json"), self._settings(job)
        if begun is not None and (differing := _differing(renamed_settings(begun.get("settings", {})), settings)):
            raise InputError(
                f"{folder} was made with other settings ({differing}): repeat its settings, or give another --out"
            )

    def result(self, job: Job) -> dict[str, Any] | None:
        """What a finished job wrote; None when it is not done, or the model that it started from has changed.

        Raises InputError for a damaged file.
        """
        found = _read(self.out / job.folder / "result.json")
        if found is None or (job.config is not None and not (self.out / job.folder / MODEL_NAME).exists()):
            return None
        return found if found.get("from") == self._weights_in(job.after) else None

    def run(self, job: Job) -> None:
        """Do a job, a training from its checkpoint where there is one, and write its result.

        Raises InputError for a fine-tuning that began from other weights than it would now, and any error of training
        and evaluation.
        """
        folder = self.out / job.folder
        earlier, start = _read(folder / "job.json"), self._weights_in(job.after)
        if job.config is not None and earlier is not None and earlier.get("from") != start:
            raise InputError(f"{folder} began from another model than is in {job.after} now: delete it to repeat it")
        begun = {"settings": self._settings(job), "from": start}
        _write(folder / "job.json", begun)
        _write(folder / "result.json", begun | (self._evaluate(job) if job.config is None else self._train(job)))

    def _weights_in(self, folder: str | None) -> str | None:
        """The hash of a finished training's weights; None when the model that it started from has changed since."""
        found = _read(self.out / folder / "result.json") if folder else None
        if found is None or found.get("from") != self._weights_in(found.get("settings", {}).get("after")):
            return None
        return found.get("weights_sha256")

    def _settings(self, job: Job) -> dict[str, Any]:
        """Everything that decides a job's figures, as JSON reads it back."""
        dataset = self.datasets[job.data]
        settings: dict[str, Any] = {"data": dataset.name, "part": dataset.part, "after": job.after}
        if job.config is None:
            settings |= {"queries": len(dataset.split.query), "gallery": len(dataset.split.gallery)}
        else:
            settings |= {"crops": len(dataset.split.train), **job.config.to_dict()}
            settings["weights"] = self.weights[job.arch][1] if job.after is None and job.arch in self.weights else ""
        return dict(json.loads(json.dumps(settings)))

    def _train(self, job: Job) -> dict[str, Any]:
        assert job.config is not None
        dataset, folder = self.datasets[job.data], self.out / job.folder
        weights = self.weights[job.arch][0] if job.arch in self.weights else None
        weights = self.out / job.after / MODEL_NAME if job.after else weights
        # Without queries training evaluates nothing: that is a job of its own. The notices are already logged.
        split = Split(train=dataset.split.train)
        crops = replace(dataset, listing=replace(dataset.listing, split=split), notices=())
        start, run = StartFrom(weights=weights), RunOptions(resume=True, device=self.device)
        report = train_model(crops, folder, config=job.config, start=start, run=run)
        return {
            "weights_sha256": report.card.weights_sha256,
            "seconds": sum(epoch.seconds for epoch in report.history),
            "images_per_second": float(np.mean([epoch.images_per_second for epoch in report.history])),
            "device": str(device_for(self.device)),
        }

    def _evaluate(self, job: Job) -> dict[str, Any]:
        assert job.after is not None
        network, card = load_model(self.out / job.after / MODEL_NAME)
        with TorchEngine(network, card, device_for(self.device)) as engine, _EmbedsOnce(engine, batch=_BATCH) as once:
            scored = [evaluate(once, self.datasets[job.data], name, progress=True) for name in DISTANCES_COMPARED]
        return {
            "resize": scored[0].resize,
            "same_camera_filter": scored[0].same_camera_filter,
            "test_time": dict(scored[0].settings),
            "images_per_second": scored[0].images_per_second,  # the other two reuse its embeddings
            "distances": {r.distance: {**r.metrics.to_dict(), "cmc": r.metrics.cmc.tolist()} for r in scored},
            "device": str(device_for(self.device)),
        }


class _EmbedsOnce(Embedder):
    """An Embedder for several evaluations of one data set: the first one embeds, the others reuse its embeddings."""

    _kept: NDArray[np.float32] | None = None

    def _embed(self, sources: Source | Iterable[Source], color: str, progress: bool) -> NDArray[np.float32]:
        if self._kept is None:
            self._kept = super()._embed(sources, color, progress)
        return self._kept


def _differing(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    names = [name for name in {**stored, **given} if stored.get(name) != given.get(name)]
    return "; ".join(f"{name} was {stored.get(name)!r}, now {given.get(name)!r}" for name in names)


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no file. Raises InputError for anything else in it."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: delete it to repeat its job")
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
