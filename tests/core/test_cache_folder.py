"""Where the package keeps what it can compute again."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_edge.core.cache import cache_folder


def test_the_cache_folder_is_the_first_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for own, shared, expected in (
        ("/own", "/shared", "/own"),
        ("", "/shared", "/shared/reid-edge"),
        (None, "/shared", "/shared/reid-edge"),
        (None, "", "/home/someone/.cache/reid-edge"),
        (None, None, "/home/someone/.cache/reid-edge"),
    ):
        for name, value in (("REID_EDGE_CACHE", own), ("XDG_CACHE_HOME", shared)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        assert cache_folder() == Path(expected)
