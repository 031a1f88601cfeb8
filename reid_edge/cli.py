"""The command line: which commands there are, and which exit code an error becomes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from .commands import (
    adopt,
    bench,
    compare,
    cross_domain,
    data,
    evaluate,
    export,
    models,
    pairs,
    report,
    search,
    studies,
    train,
    verify_export,
)
from .commands.added import Command, add_command, add_registered
from .commands.parts.help import HelpGroup
from .core.log import printable, show_messages
from .core.names import did_you_mean
from .core.signals import Terminated, terminable
from .core.threads import limit_threads
from .errors import InputError, MissingExtraError, ReidEdgeError

__all__ = ["app", "main"]

app = typer.Typer(
    cls=HelpGroup,
    help="Person re-identification from labelled crops to a verified engine.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    cls=HelpGroup, help="Check a data set, or draw the built-in synthetic one.", rich_markup_mode=None
)
app.add_typer(data_app, name="data", rich_help_panel="Data sets")

# What needs a module that may be missing.
_PURPOSES = {
    "torch": "training, and reading checkpoints,",
    "torchvision": "training",
    "tomlkit": "reading and writing recipes",
    "onnx": "writing ONNX files",
    "onnxscript": "writing ONNX files",
    "pyarrow": "reading Parquet manifests",
    "matplotlib": "drawing plots",
    "scipy": "isotonic calibration",
}

# Bad options and arguments: the base of what Typer exports, as the click inside Typer is private.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

_REMEDIES: dict[int | None, str] = {
    errno.EEXIST: "it is a file where a folder is needed, name another place",
    errno.ENOTDIR: "it is a file where a folder is needed, name another place",
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "give a shorter one",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name another place",
}

_NOT_A_CHOICE = re.compile("'([^']*)' is not one of (.*)")
_WITHOUT_VALUE = re.compile("--[a-z-]+=")

_INTERRUPTED, _CLOSED_PIPE = 130, 141  # 128 + the signal's number, as shells say it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a gate failed, 2 bad use or bad input, 128 + N ended by signal N.

    Signals are ctrl-C (130), SIGTERM (143), and a pipe that its reader closed, as ``head`` does (141, in silence).
    """
    limit_threads()
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # None where it is closed
    with contextlib.suppress(AttributeError):  # a test's own stream
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with terminable():
        sys.exit(_exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def _exit_code(arguments: list[str]) -> int:
    """Run a command, say in one line what went wrong, and give the exit code."""
    try:
        if faulty := [word for word in arguments if "\0" in word or not word or _WITHOUT_VALUE.fullmatch(word)]:
            raise InputError(f"argument {faulty[0]!r} is empty or no text: give it a value, or leave it out")
        add_registered(app)
        code = app(args=arguments, prog_name="reid-edge", standalone_mode=False) or 0
        sys.stdout.flush()
        return _ended("interrupted", code) if code == _INTERRUPTED else code  # Typer's word for a KeyboardInterrupt
    except _UsageError as error:
        return _ended(_usage_message(error), 2)
    except typer.Abort:
        return _ended("aborted", 1)
    except ReidEdgeError as error:
        return _ended(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in _PURPOSES:
            raise
        return _ended(str(MissingExtraError(module, _PURPOSES[module])), 2)
    except Terminated as error:
        return _ended("stopped by SIGTERM", int(str(error.code)))
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):  # of which Typer makes exit code 1
            raise
        return _ended("", _CLOSED_PIPE)
    except OSError as error:
        return _ended("", _CLOSED_PIPE) if isinstance(error, BrokenPipeError) else _ended(_os_message(error), 2)
    except KeyboardInterrupt:
        return _ended("interrupted", _INTERRUPTED)


def _ended(message: str, code: int) -> int:
    """Show the message, if any, and make sure that Python has nothing left to write: it would complain at its exit."""
    with contextlib.suppress(OSError):
        if message:
            print(f"reid-edge: {printable(message)}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _usage_message(error: Exception) -> str:
    """One line, with the command that explains the options."""
    said = (
        " ".join(str(getattr(error, "format_message", error.__str__)()).split())
        .rstrip(".")
        .replace("Value error, ", "")
    )
    context = getattr(error, "ctx", None)
    unknown = _NOT_A_CHOICE.search(said)
    near = did_you_mean(unknown[1], re.findall("'([^']*)'", unknown[2])) if unknown else ""
    return f"{said}: see  {context.command_path if context else 'reid-edge'} --help{near}"


def _os_message(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left to write{where}: free some, or write elsewhere; what was there before is untouched"
    remedy = f": {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
    return f"{error.strerror or error}{where}{remedy}"


def _show_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"reid-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also show details of what is being done.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results and warnings only.")] = False,
) -> None:
    if verbose and quiet:
        raise InputError("--verbose and --quiet exclude each other: give one of them")
    show_messages(1 if verbose else -1 if quiet else 0)


_COMMANDS = (
    (app, "Models", "train", train.train, train.EXAMPLES),
    (app, "Models", "export", export.export, export.EXAMPLES),
    (app, "Models", "import", adopt.import_model, "import osnet.onnx --preset torchreid --out models"),
    (app, "Models", "verify-export", verify_export.verify_export, verify_export.EXAMPLES),
    (app, "Models", "adopt", adopt.adopt, adopt.EXAMPLES),
    (app, "Models", "inspect-model", bench.inspect_model, bench.INSPECT_EXAMPLES),
    (app, "Models", "models", models.models, models.EXAMPLES),
    (app, "Scores", "eval", evaluate.evaluate, "eval models/osnet_x0_25_fp32.onnx --data Market-1501 --json eval.json"),
    (app, "Scores", "bench", bench.bench, bench.EXAMPLES),
    (app, "Scores", "report", report.report, report.EXAMPLES),
    (app, "Scores", "compare", compare.compare, compare.EXAMPLES),
    (app, "Scores", "pairs", pairs.pairs, "pairs models/osnet_x0_25_fp32.onnx --data Market-1501 --out pairs"),
    (app, "Crops", "embed", search.embed, "embed crops/ --model models/osnet_x0_25_fp32.onnx --out gallery.npz"),
    (app, "Crops", "rank", search.rank, "rank query.jpg --gallery crops/ --model models/osnet_x0_25_fp32.onnx"),
    (app, "Crops", "verify", pairs.verify, pairs.VERIFY_EXAMPLES),
    (app, "Device", "doctor", bench.doctor, bench.DOCTOR_EXAMPLES),
    (app, "Studies", "demo", studies.demo, "demo --out demo"),
    (app, "Studies", "cross-domain", cross_domain.cross_domain, cross_domain.EXAMPLES),
    (app, "Studies", "reproduce", studies.reproduce, "reproduce --market Market-1501 --last LaST --out reproduction"),
    (data_app, "Commands", "inspect", data.inspect, "data inspect Market-1501"),
    (data_app, "Commands", "synthesize", data.synthesize, "data synthesize drawn --identities 200 --seed 1"),
)
"""What there is: the group, its panel in the group's help, the name, the function and examples, one a line."""

for _group, _panel, _name, _function, _example in _COMMANDS:
    add_command(_group, _name, Command(_function, _example, _panel))
