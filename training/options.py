"""What a run is asked to do beside its recipe: the weights it starts from, a teacher, and how it is carried out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reid_edge.errors import InputError

__all__ = ["DEFAULT_RUN", "RunOptions", "StartFrom", "Teacher"]


@dataclass(frozen=True, kw_only=True)
class StartFrom:
    """The weights that training starts from; random ones when all are None. At most one is given.

    ``weights`` is a reid-edge checkpoint, or a torchvision or torchreid state dict; or the name of public weights that
    ``reid-edge models`` lists ("imagenet": those of the architecture), which are fetched once and kept. ``finetune`` is
    the same with the recipe "finetune". ``qat`` is a model to fine-tune with INT8 fake quantisation, by the recipe
    "qat": its activation ranges are calibrated on the training crops, and it is its own teacher in FP32, so that no
    labels are needed; with ``merged_streams`` it rounds where the INT8 files of merged streams do (``export
    --optimize-for gpu``), with ``quantize_residuals`` what its blocks add to their outputs is rounded too.
    """

    weights: Path | str | None = None
    finetune: Path | str | None = None
    qat: Path | str | None = None
    merged_streams: bool = False
    quantize_residuals: bool = False

    def __post_init__(self) -> None:
        if sum(path is not None for path in (self.weights, self.finetune, self.qat)) > 1:
            raise InputError("weights, finetune and qat exclude each other: give one of them")
        if self.merged_streams and not self.qat:
            raise InputError("--merged-streams (merged_streams=) is for --qat FILE (qat=): leave it out")
        if self.quantize_residuals and not self.qat:
            raise InputError("--quantize-residuals (quantize_residuals=) is for --qat FILE (qat=): leave it out")

    @property
    def file(self) -> Path | None:
        """The file, whichever way it is used."""
        path = self.weights or self.finetune or self.qat
        return None if path is None else Path(path)

    @property
    def option(self) -> str:
        """The option that gives the file."""
        return "--finetune" if self.finetune else "--qat" if self.qat else "--weights"

    @property
    def recipe(self) -> str | None:
        """The recipe that the way of starting implies, if it does."""
        return "finetune" if self.finetune else "qat" if self.qat else None

    def absolute(self) -> StartFrom:
        """The same with an absolute path."""
        if self.file is None:
            return self
        return self.at(self.file.resolve())

    def at(self, path: Path) -> StartFrom:
        """The same with the file at ``path``."""
        moved: dict[str, Any] = {self.option.removeprefix("--"): str(path)}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A model whose similarities between the crops of a batch are learned too (knowledge distillation).

    ``model`` is a checkpoint, an ONNX file, a foreign ``.pth`` of the architecture ``arch``, or the name of public
    weights.
    """

    model: Path | str
    arch: str | None = None

    def absolute(self) -> Teacher:
        """The same with an absolute path."""
        return Teacher(model=str(Path(self.model).resolve()), arch=self.arch)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; none of these is a setting of the recipe, and a resumed run may change them.

    ``resume`` continues the run in the output folder, if there is one. ``device`` is "auto", "cpu", "cuda" or another
    of torch. The model is evaluated on query and gallery crops every ``eval_every`` epochs and after the last. Up to
    ``max_bad_crops`` unreadable training crops are left out. ``threads`` bounds torch's CPU threads in the whole
    process. None is what the run had that is resumed; else "auto", 10, 10, and torch's own number of threads, at most
    the usable cores.
    """

    resume: bool = False
    device: str | None = None
    eval_every: int | None = None
    max_bad_crops: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.eval_every is not None and self.eval_every < 1:
            raise InputError("eval_every must be at least 1")
        if self.threads is not None and self.threads < 1:
            raise InputError("threads must be at least 1, or None for torch's own choice")

    def over(self, earlier: RunOptions) -> RunOptions:
        """``earlier``, replaced by what is given here; ``resume`` is not kept.

        >>> RunOptions(resume=True, eval_every=2).over(RunOptions(device="cpu", eval_every=10))
        RunOptions(resume=False, device='cpu', eval_every=2, max_bad_crops=None, threads=None)
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(earlier, **given | {"resume": False})


DEFAULT_RUN = RunOptions(device="auto", eval_every=10, max_bad_crops=10)
"""What holds where neither the caller nor the run that is resumed says otherwise."""
