"""Person re-identification from labelled crops to a verified engine on a Jetson.

>>> import reid_edge
>>> gallery = reid_edge.Gallery()

The names below are imported when they are first used: ``import reid_edge`` itself loads neither torch nor onnxruntime.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import ModelCard
    from .datasets import open_dataset
    from .embedder import Embedder
    from .engine import open_engine
    from .errors import ReidEdgeError
    from .evaluation import evaluate
    from .gallery import Gallery
    from .records import Crop, Ranking, Split
    from .verification import PairHead, verify

    __version__: str

__all__ = [
    "Crop",
    "Embedder",
    "Gallery",
    "ModelCard",
    "PairHead",
    "Ranking",
    "ReidEdgeError",
    "Split",
    "__version__",
    "evaluate",
    "open_dataset",
    "open_engine",
    "verify",
]

# Python started in a checkout finds this folder before an installed copy: its other rooms are beside it.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "training" / "__init__.py").is_file():
    __path__.append(str(_CHECKOUT))

_HOMES = {
    "Crop": "records",
    "Embedder": "embedder",
    "Gallery": "gallery",
    "ModelCard": "card",
    "PairHead": "verification",
    "Ranking": "records",
    "ReidEdgeError": "errors",
    "Split": "records",
    "evaluate": "evaluation",
    "open_dataset": "datasets",
    "open_engine": "engine",
    "verify": "verification",
}


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
