"""The JSON Schema (draft 2020-12) of the version of ``bench.json`` that is written here."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from reid_edge.benchmarks.results import VERSION

__all__ = ["bench_schema"]


def bench_schema() -> dict[str, Any]:
    """What a validator takes, e.g. jsonschema's ``validate`` with the content of a file.

    >>> bench_schema()["title"]
    'bench.json of reid-edge, version 2'
    """
    text = files(__package__).joinpath(f"bench-{VERSION}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
