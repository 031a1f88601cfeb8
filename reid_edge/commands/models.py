"""`reid-edge models`: the architectures and the public weights that are known by name."""

from __future__ import annotations

from .parts.console import show, write_json
from .parts.options import Json

__all__ = ["EXAMPLES", "models"]

EXAMPLES = """models
models --json models.json"""


def models(json_file: Json = None) -> None:
    """List the architectures, and the public weights that --weights and --finetune take by name."""
    from reid_edge.api.known_models import known_models, models_table

    known = known_models()
    show(models_table(known), json_file)
    write_json(json_file, known.to_dict())
