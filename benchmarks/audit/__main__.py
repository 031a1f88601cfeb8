"""Check a file that somebody published, with the models and the data set that it names.

python -m reid_edge.benchmarks.audit bench.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reid_edge.core.log import printable
from reid_edge.errors import ReidEdgeError

from .artefacts import recheck

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check an audited file: 0 where all is right, 1 with a line for each thing that is not, 2 for bad use."""
    parser = argparse.ArgumentParser(
        prog="python -m reid_edge.benchmarks.audit", description="Check an audited report."
    )
    parser.add_argument("report", type=Path)
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="where the model files are; else as recorded")
    parser.add_argument("--data", type=Path, metavar="DATASET", help="where the data set is; else as recorded")
    given = parser.parse_args(arguments)
    try:
        found = recheck(given.report, models=given.models, data=given.data)
    except ReidEdgeError as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    print("\n".join(map(printable, found)) or "every rule is kept, and every hash is right")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
