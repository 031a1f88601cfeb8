"""No rewrite that was tried is worth keeping: what each gives is equal, and the builder's kernels are no fewer."""

from __future__ import annotations

import pytest

from reid_edge.engines.tensorrt_api import load_backend
from reid_edge.errors import MissingExtraError
from reid_edge.export.parity.limits import THRESHOLDS
from rewrites.tried import TRIED

SAVED = {"projections in expansions": 3, "projections in expansions with fewer bytes": 2}
"""Kernels that a rewrite saves; docs/measurements/kernels.md says why it is not made all the same."""


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, rewrites in TRIED.items() if rewrites])
def test_rewrites_are_exact_and_save_no_kernels(name: str) -> None:
    """When this fails with a newer builder, one of them has begun to pay."""
    pytest.importorskip("torch", reason="needs the train extra")
    try:
        load_backend("tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")
    from rewrites.count import rows_of

    exported, *rows = list(rows_of(name))
    assert len(rows) == len(TRIED[name])
    for row in rows:
        assert 0 < row["max_error"] < THRESHOLDS["fp32"].max_error, row["rewrite"]
        assert row["kernels"] >= exported["kernels"] - SAVED.get(row["rewrite"], 0), row["rewrite"]
