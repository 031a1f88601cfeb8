"""Damage files of a kind, read each, and count how that ends.

::

    python tests/fuzz/fuzzer.py --count 20000          # the table, every kind
    python tests/fuzz/fuzzer.py --count 1000 model     # one kind
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from helpers.mutations import mutations  # noqa: E402

from fuzz.targets import KINDS, Kind  # noqa: E402
from reid_edge.errors import InputError  # noqa: E402

__all__ = ["Tally", "fuzz"]

SLOW = 5.0
"""Seconds that no file of a few kilobytes may take."""


@dataclass
class Tally:
    """How reading damaged files ended; `bad` are those that a user would not forgive, with their first examples.

    ``refused`` ended in one line; ``same`` gave what the intact file gives; ``valid`` is another valid file, read as
    the reference reads it. ``silent`` gave something else, ``crashed`` raised anything else, ``slow`` took over `SLOW`.
    """

    refused: int = 0
    same: int = 0
    valid: int = 0
    silent: int = 0
    crashed: int = 0
    slow: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """Files that gave other results, a traceback or a wait."""
        return self.silent + self.crashed + self.slow


def fuzz(kind: Kind, folder: Path, count: int, seed: int = 0) -> Tally:
    """Read ``count`` damaged files of a ``kind`` in ``folder``, one after the other.

    The file is there under its own name when its reader crashes the process.
    """
    path = kind.make(folder)
    intact, content = kind.read(path), path.read_bytes()
    tally = Tally()
    for number, (damage, damaged) in enumerate(mutations(content, seed, count)):
        path.write_bytes(damaged)
        started = time.monotonic()
        ending, note = _ending(kind, path, intact)
        if time.monotonic() - started > SLOW:
            ending = "slow"
        setattr(tally, ending, getattr(tally, ending) + 1)
        if ending in {"silent", "crashed", "slow"} and len(tally.examples) < 5:
            tally.examples.append(f"{ending} at {number} ({damage}) {note}".strip())
    path.write_bytes(content)
    return tally


def _ending(kind: Kind, path: Path, intact: Any) -> tuple[str, str]:
    try:
        found = kind.read(path)
    except InputError as error:
        return ("crashed", f"more than a line: {error}") if "\n" in str(error) else ("refused", "")
    except Exception:  # a traceback is what is looked for
        return "crashed", traceback.format_exc(limit=-3)
    if found == intact:
        return "same", ""
    if kind.reference is None:
        return "silent", ""
    try:
        expected = kind.reference(path)
    except Exception as error:
        return "silent", f"the reference refuses it: {error!r}"
    return ("valid", "") if found == expected else ("silent", "the reference reads another value")


def _in_child(name: str, count: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return asdict(fuzz(KINDS[name], Path(folder), count, seed))


def main() -> int:
    """Print the table; 1 when any file ended badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--count", type=int, default=20_000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the table there")
    given = parser.parse_args()
    columns = ("refused", "same", "valid", "silent", "crashed", "slow")
    print(f"{'kind':<14}" + "".join(f"{column:>9}" for column in columns) + f"{'seconds':>9}", flush=True)
    table: dict[str, dict[str, Any]] = {}
    for name in given.kinds:
        started = time.monotonic()
        # A child for each kind: a crash of native code ends that one alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            table[name] = pool.apply(_in_child, (name, given.count, given.seed))
        print(
            f"{name:<14}"
            + "".join(f"{table[name][column]:>9}" for column in columns)
            + f"{time.monotonic() - started:>9.0f}",
            flush=True,
        )
        for example in table[name]["examples"]:
            print(f"    {example}", flush=True)
    totals = Counter({column: sum(row[column] for row in table.values()) for column in columns})
    if given.json:
        content = {"count": given.count, "seed": given.seed, "kinds": table}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if totals["silent"] + totals["crashed"] + totals["slow"] else 0


if __name__ == "__main__":
    sys.exit(main())
