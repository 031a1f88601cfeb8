"""Measure again what README and docs say: one file of ``docs/measured`` for each table.

::

    python docs/measure.py --list                                        # parts, what each needs, how long it takes
    python docs/measure.py gate decoding                                 # these parts
    python docs/measure.py published --data market1501-dev=~/dev --data osnet_x0_25_msmt17.pth=~/osnet.pth

Commands run in ``--work``, where the data of a part are links, so that they read as the pages show them. A command that
has ended well is not repeated: delete the folder to begin anew. What each part is stands in `parts.PARTS`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tables import TABLES

from reid_edge.benchmarks.machine import describe_machine
from reid_edge.core.files import write_text

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
PARTS: dict[str, dict[str, Any]] = tomlkit.parse((ROOT / "docs/measure.toml").read_text(encoding="utf-8")).unwrap()


def main() -> int:
    """Measure the parts that were named; 1 when data are missing or a command fails."""
    given = _arguments()
    if given.list or not given.parts:
        print("\n".join(_lines()))
        return 0
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = dict(each.split("=", 1) for each in given.data)
    for name in given.parts:
        for source in sorted({source for each in _with_models(name) for source in PARTS[each].get("needs", [])}):
            if not _linked(work / source, data.get(source)):
                print(f"{name} needs {source}: give --data {source}=PATH", file=sys.stderr)
                return 1
        for each in _with_models(name):
            if not _done(each, PARTS[each], work):
                return 1
        _write(name, PARTS[name], work)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help="see --list")
    parser.add_argument("--list", action="store_true", help="print the parts, and stop")
    parser.add_argument("--work", type=Path, default=ROOT / "measured", help="folder for models and logs")
    data = os.environ.get("MEASURE_DATA", "").split()
    parser.add_argument("--data", action="append", default=data, metavar="NAME=PATH", help="also $MEASURE_DATA")
    return parser.parse_args()


def _lines() -> Iterator[str]:
    for name, part in PARTS.items():
        needs = (
            ", ".join([*part.get("needs", []), *(f"the models of {each}" for each in part.get("after", []))])
            or "no data"
        )
        yield f"{name:<22} {part['minutes']:>5} min   {needs}"


def _with_models(name: str) -> list[str]:
    """A part after those that make its models."""
    return [*(each for before in PARTS[name].get("after", []) for each in _with_models(before)), name]


def _linked(link: Path, target: str | None) -> bool:
    if target and not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(Path(target).expanduser().resolve())
    return link.exists()


def _done(name: str, part: Mapping[str, Any], work: Path) -> bool:
    """Run the commands of a part that have not ended well before."""
    done = work / "done.json"
    ended: list[str] = json.loads(done.read_text()) if done.exists() else []
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    for command in part.get("commands", []):
        if command in ended:
            continue
        print(f"{name}: {command}", flush=True)
        code = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=work, env=environment).returncode
        if code:
            print(f"{name}: exit code {code}", file=sys.stderr)
            return False
        ended.append(command)
        write_text(done, json.dumps(ended, indent=1) + "\n")
    return True


def _write(name: str, part: Mapping[str, Any], work: Path) -> None:
    """One file for each table of a part, written whole."""
    for table in part["tables"]:
        columns, rows = TABLES[table]
        shown = {key: {each: row[each] for each in columns if each in row} for key, row in rows(work).items()}
        content = {"part": name, **_about(part), "columns": columns, "rows": shown}
        path = ROOT / "docs" / "measured" / f"{table}.json"
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        print(f"wrote {path}; python docs/render.py puts it into the pages")


def _about(part: Mapping[str, Any]) -> Mapping[str, Any]:
    machine = describe_machine()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{machine.cores} cores of {machine.cpu}" + (", busy with other work" if machine.busy else ""),
        "versions": {name: version for name in part.get("versions", []) if (version := _version(name))},
        "data": part.get("data", ""),
        "seed": part.get("seed"),
        "commands": part.get("commands", []),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
