"""Run the steps of examples/deploy/Dockerfile in a Debian root, where no Docker is: as root, with debootstrap.

    python tests/packaging/container.py [--root build/container] [--keep] [-- ARGUMENTS OF THE ENTRYPOINT]

Each instruction does what Docker's reference says of it (https://docs.docker.com/reference/dockerfile), for those that
the file uses. The root sees this machine's network and the folder ``build/container.data`` as /data.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import string
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
DOCKERFILE = CHECKOUT / "examples/deploy/Dockerfile"
MIRROR = os.environ.get("MIRROR", "http://deb.debian.org/debian")
BORROWED = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")  # the network of this machine


def steps(text: str) -> list[tuple[str, str]]:
    """Instruction and arguments of each step; comments are dropped, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    pairs = [line.partition(" ") for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, _, rest in pairs]


class Container:
    """A root folder, and the environment, user and folder that the steps so far have set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self.user, self.folder = "root", "/"
        self.entrypoint: list[str] = []
        self.command: list[str] = []

    def do(self, name: str, rest: str) -> None:
        """One step."""
        print(f"== {name} {rest}", flush=True)
        getattr(self, f"_{name.lower()}")(rest)

    def run(self, arguments: list[str]) -> int:
        """What ``docker run IMAGE ARGUMENTS`` runs."""
        return self._inside([*self.entrypoint, *(arguments or self.command)])

    def _from(self, image: str) -> None:
        suite = image.removeprefix("debian:").removesuffix("-slim")
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(self.root), MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _run(self, line: str) -> None:
        if status := self._inside(["/bin/sh", "-c", line]):
            sys.exit(f"the step ended with {status}")

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        found = [path for source in sources for path in glob.glob(str(CHECKOUT / source))]
        assert found, f"nothing to copy: {sources}: build the wheel first"
        place = self.root / target.strip("/")
        place.mkdir(parents=True, exist_ok=True)
        for path in found:
            shutil.copy(path, place)

    def _env(self, rest: str) -> None:
        values = string.Template(rest).safe_substitute(self.environment)
        self.environment.update(pair.split("=", 1) for pair in values.split())

    def _user(self, name: str) -> None:
        self.user = name
        self.environment["HOME"] = f"/home/{name}"

    def _workdir(self, folder: str) -> None:
        self.folder = folder
        (self.root / folder.strip("/")).mkdir(parents=True, exist_ok=True)

    def _entrypoint(self, words: str) -> None:
        self.entrypoint = json.loads(words)

    def _cmd(self, words: str) -> None:
        self.command = json.loads(words)

    def _inside(self, command: list[str]) -> int:
        borrowed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environment = {**borrowed, **self.environment}
        words = ["env", "-i", f"--chdir={self.folder}", *(f"{k}={v}" for k, v in environment.items()), *command]
        return subprocess.run(["chroot", f"--userspec={self.user}", str(self.root), *words], check=False).returncode


def main() -> int:
    """Make the root, run the steps, and the entrypoint with the arguments after ``--``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=CHECKOUT / "build/container")
    parser.add_argument("--keep", action="store_true", help="leave the root where it is")
    parser.add_argument("arguments", nargs="*", help="of the entrypoint")
    options = parser.parse_args()
    root, data = options.root.resolve(), options.root.resolve().with_suffix(".data")
    if str(root) in Path("/proc/mounts").read_text():
        sys.exit(f"{root} has mounts of a run that was killed: umount -R them first")
    shutil.rmtree(root, ignore_errors=True)
    data.mkdir(parents=True, exist_ok=True)
    container = Container(root)
    (first, image), *rest = steps(DOCKERFILE.read_text())
    with ExitStack() as stack:
        if not options.keep:
            stack.callback(shutil.rmtree, root, ignore_errors=True)
        container.do(first, image)
        for folder, place in (("/proc", "proc"), ("/dev", "dev"), (str(data), "data")):
            (root / place).mkdir(exist_ok=True)
            subprocess.run(["mount", "--rbind", "--make-rslave", folder, str(root / place)], check=True)
            stack.callback(subprocess.run, ["umount", "-R", "-l", str(root / place)], check=True)
        for file in filter(os.path.exists, BORROWED):
            (root / file.strip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file.strip("/"))
        for name, line in rest:
            container.do(name, line)
        return container.run(options.arguments)


if __name__ == "__main__":
    sys.exit(main())
