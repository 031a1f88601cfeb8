"""Packages that a device may bring itself, so that reid-edge does not depend on them: OpenCV and ONNX Runtime."""

from __future__ import annotations

import importlib
from typing import Any

from reid_edge.errors import MissingExtraError

__all__ = ["import_optional"]


def import_optional(module: str, purpose: str, package: str, otherwise: str) -> Any:
    """Import ``module``, or raise MissingExtraError that names ``package`` of PyPI and says what to do ``otherwise``.

    Two packages with the same module overwrite each other, and removing one takes files of both: pip then believes in a
    module that does not import, or imports from an empty folder. One compiled for NumPy 1 does not load with NumPy 2.
    """
    missing, install = module.partition(".")[0], f"pip install {package}  ({otherwise})"
    try:
        found = importlib.import_module(module)
        if found.__file__:
            return found
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != missing:  # something that it needs itself
            raise
    except ImportError as error:
        install = "pip install 'numpy<2'" if "numpy" in str(error) else install
        missing += f", which does not load ({' '.join(str(error).split())[:200]})"
        raise MissingExtraError(missing, purpose, install=install) from None
    from importlib.metadata import packages_distributions  # slow, and for errors alone

    if owners := packages_distributions().get(missing):
        install = f"pip install --force-reinstall --no-deps {owners[0]}"
        missing += f", whose files another package removed from {owners[0]}"
    raise MissingExtraError(missing, purpose, install=install)
