"""``python -m reid_edge.api.gpu_day --out DIR``: the one command for a day with a GPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reid_edge.core.log import show_messages
from reid_edge.errors import ReidEdgeError

from .day import DAY_NAME, day_lines, gpu_day
from .parts import PARTS, DayOptions

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 0 also when some cannot run here, as the file says why, and 2 for bad use."""
    given = _arguments(arguments)
    if given.dry_run:
        print("\n".join(day_lines(given.only)))
        return 0
    show_messages()
    options = DayOptions(
        architectures=tuple(given.arch or DayOptions.architectures),
        batches=tuple(given.batch or DayOptions.batches),
        input_hw=tuple(given.size),
        seconds=given.seconds,
        data=given.data and str(given.data.resolve()),
        layout=given.layout,
        device=given.device,
    )
    try:
        gpu_day(given.out, only=given.only, again=given.again, longer=given.longer, options=options)
    except KeyboardInterrupt:
        print(f"interrupted: {given.out / DAY_NAME} has the parts that ended", file=sys.stderr)
        return 130
    except ReidEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(given.out / DAY_NAME)
    return 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reid_edge.api.gpu_day", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("gpu-day"), help=f"folder for {DAY_NAME} and the models (default: gpu-day)")
    add("--only", action="append", default=[], choices=list(PARTS), metavar="PART", help="run this part; repeatable")
    add("--again", action="store_true", help="also run parts that the file has")
    add("--longer", type=float, default=1.0, metavar="FACTOR", help="give each part as many times its minutes")
    add("--dry-run", action="store_true", help="list the parts and their minutes, and stop")
    add("--data", type=Path, help="data set to train on (default: drawn people)")
    add("--layout", help="its layout (default: auto-detected)")
    add("--arch", action="append", help="architecture; repeatable (default: all three)")
    add("--batch", type=int, action="append", help="batch; repeatable (default: 1, 8, 64)")
    add("--size", type=int, nargs=2, default=DayOptions.input_hw, metavar=("H", "W"), help="pixels of a crop")
    add("--seconds", type=float, default=DayOptions.seconds, help="how long each row is timed (default: 0.5)")
    add("--device", default="cuda", help="torch's device; cpu tries the parts that need torch alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
