"""What every test and every example in a docstring may rely on.

Examples may use ``scratch``, a temporary folder, and ``model_file``, a small ONNX file.
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
    from helpers.tiny_onnx import write_tiny_model

    scratch = tmp_path_factory.mktemp("examples")
    doctest_namespace["scratch"] = scratch
    doctest_namespace["model_file"] = write_tiny_model(scratch / "model.onnx")


@pytest.fixture(autouse=True)
def _silent_again() -> Iterator[None]:
    """A command run in a test shows messages from then on: the next test starts as a library, without handlers."""
    logger = logging.getLogger("reid_edge")
    handlers, level = list(logger.handlers), logger.level
    logger.propagate = True  # a command run by a fixture of more than one test turned it off
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = True
