"""What every test and every example in a docstring may rely on.

Examples may use ``scratch``, a temporary folder, ``model_file``, a small ONNX file, and ``foreign_file``, one that
another project could have exported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import settings

# CI draws the same examples each time, so that it never fails by chance; by hand they are drawn anew.
settings.register_profile("ci", derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True, scope="session")
def _names_of_examples(doctest_namespace: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    if find_spec("onnx") is None:
        return
    from helpers.graphs.foreign import write_foreign
    from helpers.tiny_onnx import write_tiny_model

    scratch = tmp_path_factory.mktemp("examples")
    doctest_namespace["scratch"] = scratch
    doctest_namespace["model_file"] = write_tiny_model(scratch / "model.onnx")
    doctest_namespace["foreign_file"] = write_foreign(scratch / "foreign.onnx")


@pytest.fixture(autouse=True)
def _silent_again() -> Iterator[None]:
    """Each test starts as a library, without handlers: a command that ran before, in a fixture too, shows messages."""
    _as_a_library()
    yield
    _as_a_library()


def _as_a_library() -> None:
    logger = logging.getLogger("reid_edge")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
