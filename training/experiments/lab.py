"""Jobs of a plan, each in a folder of its own, so that a second call does only what is left.

``job.json``, what was asked, is there from a job's beginning, ``result.json`` from its end on. A job with a result is
not repeated, and an interrupted training goes on from its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.datasets import Dataset
from reid_edge.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.evaluation import evaluate
from reid_edge.files import written_whole
from reid_edge.images import Source
from reid_edge.records import Split

from .checkpoint import load_checkpoint, load_model
from .inference import TorchEngine
from .loop import MODEL_NAME, train
from .plan import Job
from .run import device_for

__all__ = ["DISTANCES_COMPARED", "Lab"]

DISTANCES_COMPARED = ("euclidean", "cosine", "correlation")
"""The paper compares the other two with the first."""

_BATCH = 64


@dataclass(frozen=True)
class Lab:
    """Where jobs run: their folders are below ``out``.

    ``datasets`` are by option, ``weights`` (a file and its SHA-256) by the model that starts from them.
    """

    out: Path
    datasets: Mapping[str, Dataset]
    weights: Mapping[str, tuple[Path, str]]
    device: str
    say: Callable[[str], None]

    def check(self, job: Job) -> None:
        """Raise InputError when the job's folder was made with other settings."""
        folder = self.out / job.folder
        begun, asked = _read(folder / "job.json"), self._settings(job)
        if begun is not None and (differing := _differing(begun.get("settings", {}), asked)):
            raise InputError(f"{folder} was made otherwise ({differing}): repeat its settings, or give another --out")

    def result(self, job: Job) -> dict[str, Any] | None:
        """What a finished job wrote; None when it is to be done, be it that what it stands on has changed.

        Raises InputError for a damaged file.
        """
        found = _read(self.out / job.folder / "result.json")
        if found is None or (job.config is not None and not (self.out / job.folder / MODEL_NAME).exists()):
            return None
        return found if found.get("from") == self._weights_in(job.after) else None

    def run(self, job: Job) -> None:
        """Do a job, a training from its checkpoint where there is one, and write its result.

        Raises InputError for a fine-tuning that began from other weights than it would now, and what training and
        evaluation raise.
        """
        folder = self.out / job.folder
        earlier, start = _read(folder / "job.json"), self._weights_in(job.after)
        if job.config is not None and earlier is not None and earlier.get("from") != start:
            raise InputError(f"{folder} began from another model than {job.after} holds now: delete it to repeat it")
        begun = {"settings": self._settings(job), "from": start}
        _write(folder / "job.json", begun)
        _write(folder / "result.json", begun | (self._evaluate(job) if job.config is None else self._train(job)))

    def _weights_in(self, folder: str | None) -> str | None:
        """The hash of the weights that a finished training reported; None when its own start has changed since."""
        found = _read(self.out / folder / "result.json") if folder else None
        if found is None or found.get("from") != self._weights_in(found.get("settings", {}).get("after")):
            return None
        return found.get("weights_sha256")

    def _settings(self, job: Job) -> dict[str, Any]:
        """All that decides a job's figures, as JSON reads it back."""
        dataset = self.datasets[job.data]
        settings: dict[str, Any] = {"data": dataset.name, "part": dataset.part, "after": job.after}
        if job.config is None:
            settings |= {"queries": len(dataset.split.query), "gallery": len(dataset.split.gallery)}
        else:
            settings |= {"crops": len(dataset.split.train), **job.config.to_dict()}
            settings["weights"] = self.weights[job.model][1] if job.after is None and job.model in self.weights else ""
        return dict(json.loads(json.dumps(settings)))

    def _train(self, job: Job) -> dict[str, Any]:
        assert job.config is not None
        dataset, folder = self.datasets[job.data], self.out / job.folder
        weights = self.weights[job.model][0] if job.model in self.weights else None
        weights = self.out / job.after / MODEL_NAME if job.after else weights
        # Without queries the loop scores nothing: that is an evaluation's job, once.
        crops = replace(dataset, listing=replace(dataset.listing, split=Split(train=dataset.split.train)))
        path = train(job.config, crops, folder, weights=weights, resume=True, device=self.device, say=self.say)
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return {
            "weights_sha256": load_checkpoint(path).card.weights_sha256,
            "seconds": sum(line["seconds"] for line in history),
            "images_per_second": float(np.mean([line["images_per_second"] for line in history])),
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
            "images_per_second": scored[0].images_per_second,  # the others did not embed
            "distances": {r.distance: {**r.metrics.to_dict(), "cmc": r.metrics.cmc.tolist()} for r in scored},
            "device": str(device_for(self.device)),
        }


class _EmbedsOnce(Embedder):
    """An Embedder for several evaluations of one data set, of which the first embeds."""

    _kept: NDArray[np.float32] | None = None

    def embed(
        self, sources: Source | Iterable[Source], channel_order: str = "RGB", progress: bool = False
    ) -> NDArray[np.float32]:
        if self._kept is None:
            self._kept = super().embed(sources, channel_order, progress)
        return self._kept


def _differing(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    names = [name for name in {**stored, **asked} if stored.get(name) != asked.get(name)]
    return "; ".join(f"{name} was {stored.get(name)!r}, now {asked.get(name)!r}" for name in names)


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no file. Raises InputError for anything else in it."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: delete it to have its job repeated")
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with written_whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
