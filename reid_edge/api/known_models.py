"""Which architectures can be trained, and which public weights they may start from: what ``reid-edge models`` lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.progress import phase
from reid_edge.core.registry import added_names
from reid_edge.training.models.names import ARCHITECTURE_NAMES
from reid_edge.training.pretrained.locate import cached
from reid_edge.training.pretrained.rows import WEIGHTS, PretrainedWeights

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["KnownArchitecture", "KnownModels", "KnownWeights", "known_models", "models_table"]


@dataclass(frozen=True, kw_only=True)
class KnownArchitecture:
    """An architecture: embedding size, deployable parameters, and MACs of one crop of 256 x 128; None without torch."""

    name: str
    embedding_dim: int | None = None
    parameters: int | None = None
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class KnownWeights:
    """Public weights by ``name``: the row of the table, and ``path``, the file where it is on this machine already."""

    name: str
    row: PretrainedWeights
    path: Path | None

    @property
    def how(self) -> str:
        """How a training gets them: "here", "fetched", or "by hand" where the page asks for a browser."""
        return "here" if self.path else "fetched" if self.row.url else "by hand"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        path = None if self.path is None else str(self.path)
        return {"name": self.name, **asdict(self.row), "how": self.how, "path": path}


@dataclass(frozen=True, kw_only=True)
class KnownModels:
    """The ``architectures`` that can be built and the public ``weights`` that are known for some of them."""

    architectures: tuple[KnownArchitecture, ...]
    weights: tuple[KnownWeights, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "architectures": [asdict(each) for each in self.architectures],
            "weights": [each.to_dict() for each in self.weights],
        }


def known_models() -> KnownModels:
    """What ``arch`` and ``StartFrom(weights=...)`` take by name; nothing is fetched.

    >>> known = known_models()
    >>> {each.name: each.parameters for each in known.architectures}["osnet_x0_25"]
    201864
    >>> [each.name for each in known.weights if each.row.architecture == "mobilenetv3_large"]
    ['mobilenetv3_large_imagenet', 'mobilenetv3_large_imagenet_v2']
    """
    weights = (KnownWeights(name=name, row=row, path=cached(row)) for name, row in WEIGHTS.items())
    with phase("loading PyTorch to count parameters"):
        return KnownModels(architectures=tuple(_architectures()), weights=tuple(weights))


def _architectures() -> Iterator[KnownArchitecture]:
    try:
        import torch

        from reid_edge.training.models.macs import count_macs, count_parameters
        from reid_edge.training.models.registry import build_model
    except ModuleNotFoundError:
        yield from (KnownArchitecture(name=name) for name in (*ARCHITECTURE_NAMES, *added_names("architectures")))
        return
    for name in (*ARCHITECTURE_NAMES, *added_names("architectures")):
        with torch.device("meta"):  # shapes alone: nothing is computed
            model = build_model(name)
            yield KnownArchitecture(
                name=name,
                embedding_dim=model.embedding_dim,
                parameters=count_parameters(model),
                macs=count_macs(model),
            )


def models_table(known: KnownModels) -> RenderableType:
    """Two tables for 80 columns, and the terms of the data that weights were trained on."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    sizes = Table("architecture", box=SIMPLE_HEAD, show_edge=False)
    for column in ("embedding", "parameters", "MACs of 256 x 128"):
        sizes.add_column(column, justify="right")
    for each in known.architectures:
        counts = (each.embedding_dim, each.parameters, each.macs)
        sizes.add_row(each.name, *("-" if count is None else f"{count:,}" for count in counts))
    files = Table("weights", "trained on", "licence", "how", box=SIMPLE_HEAD, show_edge=False)
    for one in known.weights:
        files.add_row(one.name, one.row.trained_on, one.row.licence, one.how)
    terms = dict.fromkeys(f"{one.row.trained_on}: {one.row.terms}" for one in known.weights)
    return Group(sizes, "", files, "", *terms)
