"""``torchrun --nproc-per-node N -m reid_edge.training ...`` is ``reid-edge train ...`` in N processes."""

from __future__ import annotations

import os
import sys

from reid_edge.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # only the main process prints
    main(["train", *sys.argv[1:]])
