"""A data set to a trained model: what ``reid-edge train`` does, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.card import ModelCard
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset, mixed
from reid_edge.data.opencv import import_opencv
from reid_edge.errors import InputError
from reid_edge.training.history import EpochReport, percentages, read_history
from reid_edge.training.options import RunOptions, StartFrom, Teacher
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.run_record import CHECKPOINT_NAME, RunRecord, RunRequest

from .models import open_model
from .train_plan import Data, planned_run, recipe_in

__all__ = ["TrainReport", "train_model"]


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainReport:
    """A finished run: the file of its ``model`` and the ``card`` in it, its ``history``, an epoch a row.

    ``folder`` also holds the checkpoint, the recipe and the curves. ``data`` is the set it was evaluated on.
    """

    model: Path
    card: ModelCard
    history: tuple[EpochReport, ...]
    folder: Path
    data: Path

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The test scores after the last epoch (`Metrics.to_dict`); None when the data has no query crops."""
        return self.history[-1].metrics

    def __repr__(self) -> str:
        scores = percentages(self.metrics, ", ")
        return f"<TrainReport: {self.model}, {self.card.architecture}, {len(self.history)} epochs{scores}>"


def train_model(
    data: Data | Sequence[Data] | None = None,
    out: Path | str | None = None,
    *,
    arch: str | None = None,
    recipe: str | None = None,
    config: TrainConfig | Path | str | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    start: StartFrom | None = None,
    teacher: Teacher | None = None,
    layout: str | None = None,
    run: RunOptions | None = None,
) -> TrainReport:
    """Train a model on ``data`` into the folder ``out``: ``model.pth``, and what `training.run_folder` writes.

    ``data`` is a data set's path in ``layout`` (None: auto-detected) or an open `Dataset`, or several: the model is
    trained on all of them, their identities being different ones, and evaluated on the first. Settings come from
    `training_config`.

    With ``RunOptions(resume=True)`` the run in ``out`` goes on, and needs nothing else: its folder holds its settings,
    and where its data, teacher and first weights are. What is repeated must agree, files and data by their content,
    so that those that moved are given at their new place. More ``epochs`` than the run had stretch its learning-rate
    schedule, and also go on with a finished run.

    Raises InputError for bad use, DatasetError and ModelError for data and files that cannot be used, GateError when a
    loss or a weight is not finite, and Stopped on SIGTERM and ctrl-C, after the checkpoint is written.

    >>> from reid_edge import RunOptions
    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> drawn = synthesize(scratch / "drawn", identities=4, test_identities=2, size_hw=(64, 32), progress=False)
    >>> small = {"input_hw": (64, 32), "identities_per_batch": 2, "crops_per_identity": 2}
    >>> report = train_model(drawn, scratch / "run", arch="osnet_x0_25", epochs=1, settings=small)
    >>> report.model.name, report.card.architecture, len(report.history), sorted(report.history[0].losses)
    ('model.pth', 'osnet_x0_25', 1, ['center', 'id', 'triplet'])
    >>> longer = train_model(out=scratch / "run", epochs=2, run=RunOptions(resume=True))
    >>> [epoch.of_epochs for epoch in longer.history]
    [1, 2]
    """
    if out is None:
        raise InputError("give out (--out DIR): the folder of the run")
    out, run = Path(out), run or RunOptions()
    asked = RunRequest(
        arch=arch,
        recipe=recipe,
        config=recipe_in(config, arch),
        epochs=epochs,
        settings=settings or {},
        start=start or StartFrom(),
        teacher=teacher,
        layout=layout,
        run=run,
    )
    record, datasets = planned_run(asked, [data] if isinstance(data, Data) else data or [], out)
    return _trained(record, datasets, out, resume=run.resume)


def _trained(record: RunRecord, datasets: list[Dataset], out: Path, *, resume: bool) -> TrainReport:
    """Carry out a planned run."""
    if record.config.resize == "opencv":
        import_opencv()  # where it is missing, that is said before torch is imported, which takes seconds
    with phase("loading PyTorch"):
        from reid_edge.training.loop import train
        from reid_edge.training.models.checkpoint import load_checkpoint
        from reid_edge.training.models.torch_engine import limit_torch_threads
        from reid_edge.training.run_folder import HISTORY_NAME

    config, start, run = record.config, record.start, record.run
    assert run.device and run.eval_every and run.max_bad_crops is not None, "a record has no gaps"
    limit_torch_threads(run.threads)
    teacher = record.teacher or (Teacher(model=start.qat, arch=config.arch) if start.qat else None)
    begun = resume and (out / CHECKPOINT_NAME).exists()  # it holds the weights, and the ranges of INT8
    calibrated = _calibrated(start, config.arch, datasets[0], run.threads) if start.qat and not begun else None
    model = train(
        config,
        mixed(datasets),
        out,
        weights=None if begun else start.file,
        teacher=open_model(teacher.model, teacher.arch, run.threads) if teacher else None,
        quantization=calibrated,
        resume=resume,
        device=run.device,
        eval_every=run.eval_every,
        max_bad_crops=run.max_bad_crops,
        record=record,
    )
    history = read_history(out / HISTORY_NAME)
    return TrainReport(
        model=model, card=load_checkpoint(model).card, history=history, folder=out, data=datasets[0].root
    )


def _calibrated(start: StartFrom, arch: str, dataset: Dataset, threads: int | None) -> dict[str, Any]:
    """The INT8 activation ranges of the layers of ``start.qat`` on the training crops of ``dataset``, and a note."""
    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.export.graph.merge_streams import merge_streams
    from reid_edge.export.int8.convert import trained_ranges
    from reid_edge.export.int8.plan import Int8Options, plan_int8
    from reid_edge.training.models.checkpoint import load_model

    network, card = load_model(Path(start.qat or ""), arch)
    graph = onnx_from_model(network, card)
    if start.merged_streams:
        merged, card = merge_streams(graph, "gpu-latency"), card.with_(optimized_for="gpu-latency")
        if merged is None:
            raise InputError(f"{arch} has no parallel streams: leave --merged-streams (merged_streams=) out")
        graph = merged
    options = Int8Options(threads=threads, quantize_residuals=start.quantize_residuals)
    return trained_ranges(graph, plan_int8(graph, card, options, dataset))
