"""Person re-identification from labelled crops to a verified engine on a Jetson.

The main job is seven names: `train_model`, `export_model`, `evaluate` and `bench` make a model and measure it,
`open_engine`, `Embedder` and `Gallery` run it on the device.

>>> import reid_edge
>>> gallery = reid_edge.Gallery()

Names are imported when they are first used: ``import reid_edge`` itself loads neither numpy, torch nor onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_edge.api.cross_domain.report import CrossDomainReport
    from reid_edge.api.cross_domain.run import cross_domain
    from reid_edge.api.doctor.findings import DoctorReport
    from reid_edge.api.doctor.run import doctor
    from reid_edge.api.evaluate import evaluate
    from reid_edge.api.export_model import export_model
    from reid_edge.api.import_model import import_model
    from reid_edge.api.inspect_model import inspect_model
    from reid_edge.api.report import report
    from reid_edge.api.train_model import TrainReport, train_model
    from reid_edge.api.verify_export import verify_export
    from reid_edge.benchmarks.options import BenchOptions
    from reid_edge.benchmarks.results import BenchReport
    from reid_edge.benchmarks.run import bench
    from reid_edge.card import ModelCard
    from reid_edge.data.datasets import open_dataset
    from reid_edge.data.records import Crop, Ranking, Split
    from reid_edge.embedder.embedder import Embedder
    from reid_edge.embedder.video import VideoSource, open_video
    from reid_edge.engines.registry import open_engine
    from reid_edge.errors import ReidEdgeError
    from reid_edge.export.engines.options import EngineOptions
    from reid_edge.export.foreign.imported import ImportReport
    from reid_edge.export.handover.programs import HandOver
    from reid_edge.export.int8.plan import Int8Options
    from reid_edge.export.parity.limits import Checks
    from reid_edge.export.report import ExportReport
    from reid_edge.export.roofline.inspection import ModelInspection
    from reid_edge.gallery.memory import Gallery
    from reid_edge.pair_head import PairHead, verify
    from reid_edge.scoring.evaluation import Evaluation
    from reid_edge.scoring.test_set import TestSet
    from reid_edge.training.options import RunOptions, StartFrom, Teacher

    __version__: str

__all__ = [
    "BenchOptions",
    "BenchReport",
    "Checks",
    "Crop",
    "CrossDomainReport",
    "DoctorReport",
    "Embedder",
    "EngineOptions",
    "Evaluation",
    "ExportReport",
    "Gallery",
    "HandOver",
    "ImportReport",
    "Int8Options",
    "ModelCard",
    "ModelInspection",
    "PairHead",
    "Ranking",
    "ReidEdgeError",
    "RunOptions",
    "Split",
    "StartFrom",
    "Teacher",
    "TestSet",
    "TrainReport",
    "VideoSource",
    "__version__",
    "bench",
    "cross_domain",
    "doctor",
    "evaluate",
    "export_model",
    "import_model",
    "inspect_model",
    "open_dataset",
    "open_engine",
    "open_video",
    "report",
    "train_model",
    "verify",
    "verify_export",
]

_HOMES = {
    "BenchOptions": "benchmarks.options",
    "BenchReport": "benchmarks.results",
    "Checks": "export.parity.limits",
    "Crop": "data.records",
    "CrossDomainReport": "api.cross_domain.report",
    "DoctorReport": "api.doctor.findings",
    "Embedder": "embedder.embedder",
    "EngineOptions": "export.engines.options",
    "Evaluation": "scoring.evaluation",
    "ExportReport": "export.report",
    "Gallery": "gallery.memory",
    "HandOver": "export.handover.programs",
    "ImportReport": "export.foreign.imported",
    "Int8Options": "export.int8.plan",
    "ModelCard": "card",
    "ModelInspection": "export.roofline.inspection",
    "PairHead": "pair_head",
    "Ranking": "data.records",
    "ReidEdgeError": "errors",
    "RunOptions": "training.options",
    "Split": "data.records",
    "StartFrom": "training.options",
    "Teacher": "training.options",
    "TrainReport": "api.train_model",
    "TestSet": "scoring.test_set",
    "VideoSource": "embedder.video",
    "bench": "benchmarks.run",
    "cross_domain": "api.cross_domain.run",
    "doctor": "api.doctor.run",
    "evaluate": "api.evaluate",
    "export_model": "api.export_model",
    "import_model": "api.import_model",
    "inspect_model": "api.inspect_model",
    "open_dataset": "data.datasets",
    "open_engine": "engines.registry",
    "open_video": "embedder.video",
    "report": "api.report",
    "train_model": "api.train_model",
    "verify": "pair_head",
    "verify_export": "api.verify_export",
}
"""The module that each name comes from. No name is that of a sub-package, whose first import would replace it here."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("reid-edge")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
