"""Bash in which ``reid-edge`` and ``python -m reid_edge...`` run in this process: torch is imported once for all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from reid_edge.cli import main

__all__ = ["run_bash"]

_CLIENT = """#!{python} -SE
import json, os, socket, sys
if os.path.basename(sys.argv[0]) == "python" and not " ".join(sys.argv[1:]).startswith("-m reid_edge"):
    os.execv({python!r}, sys.argv)
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    server.sendall(json.dumps([os.getcwd(), *sys.argv]).encode())
    server.shutdown(socket.SHUT_WR)
    code, out, err = json.loads(b"".join(iter(lambda: server.recv(65536), b"")))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


def run_bash(code: str, folder: Path, programs: Path) -> tuple[int, str]:
    """Run ``code`` in ``folder`` and stop at its first error: its exit code, and all it printed.

    ``programs`` is a folder for the two programs; its path must be short, as a socket is in it.
    """
    with socket.socket(socket.AF_UNIX) as server:
        address = programs / "socket"
        address.unlink(missing_ok=True)
        server.bind(str(address))
        server.listen()
        server.settimeout(0.05)
        for name in ("reid-edge", "python"):
            (programs / name).write_text(_CLIENT.format(python=sys.executable, address=str(address)))
            (programs / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        command = ["bash", "-euo", "pipefail", "-c", code]
        with (programs / "printed").open("w+") as printed:
            shell = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed
            )
            while shell.poll() is None:
                with contextlib.suppress(TimeoutError):
                    _answer(server.accept()[0])
            printed.seek(0)
            return shell.returncode, printed.read()


def _answer(client: socket.socket) -> None:
    """Run the program that a client asks for."""
    with client:
        client.settimeout(None)
        folder, program, *arguments = json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
        client.sendall(json.dumps(_run(Path(program).name, folder, arguments)).encode())


def _run(program: str, folder: str, arguments: list[str]) -> tuple[int, str, str]:
    run: Callable[[], object] = lambda: main(arguments)  # noqa: E731
    if program == "python":
        for name in (arguments[1], f"{arguments[1]}.__main__"):
            sys.modules.pop(name, None)  # a test may have imported it, of which runpy warns
        run = lambda: runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)  # noqa: E731
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", [program, *arguments[2:]] if program == "python" else sys.argv),
        ):
            run()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        code = 1
        err.write(traceback.format_exc())
    finally:
        os.chdir(before)
    return code, out.getvalue(), err.getvalue()
