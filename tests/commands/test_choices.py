"""The closed lists of options are the library's: help shows them, a shell completes them, a typo is one line."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from reid_edge.benchmarks.compare.matching import ALLOWED
from reid_edge.cli import main
from reid_edge.commands.parts import choices
from reid_edge.commands.parts.choices import Choice, value_of
from reid_edge.data.datasets import LAYOUT_NAMES
from reid_edge.data.images import RESIZES
from reid_edge.data.readers.base import DatasetReader
from reid_edge.data.readers.listing import Listing, Split
from reid_edge.data.readers.registry import READERS, register_reader
from reid_edge.engines.tensorrt_api import BACKENDS
from reid_edge.export.foreign.preprocessing import CHANNELS, FOREIGN_FORMATS, PRESETS, SCALES
from reid_edge.export.graph.input_format import INPUT_FORMATS
from reid_edge.export.handover.programs import PROGRAMS
from reid_edge.export.int8.histogram import METHODS
from reid_edge.export.int8.plan import RUNTIMES, UNQUANTIZED
from reid_edge.export.int8.sensitivity import BY
from reid_edge.export.plan import OPTIMIZE_FOR
from reid_edge.export.roofline.devices import DEVICE_NAMES
from reid_edge.training.recipe.config import TRAIN_PRECISIONS
from reid_edge.training.recipe.recipes import RECIPES

LISTS: list[tuple[type[Choice], Sequence[str]]] = [
    (choices.Layout, LAYOUT_NAMES),
    (choices.Allowed, ALLOWED),
    (choices.Part, sorted({part for reader in READERS for part in reader.parts})),
    (choices.Recipe, RECIPES),
    (choices.Resize, RESIZES),
    (choices.Runtime, RUNTIMES),
    (choices.Unquantized, UNQUANTIZED),
    (choices.Method, list(METHODS)),
    (choices.OptimizeFor, OPTIMIZE_FOR),
    (choices.SensitivityBy, BY),
    (choices.InputFormat, INPUT_FORMATS),
    (choices.ForeignFormat, FOREIGN_FORMATS),
    (choices.Channels, CHANNELS),
    (choices.Scale, [str(scale) for scale in SCALES]),
    (choices.Preset, list(PRESETS)),
    (choices.Program, PROGRAMS),
    (choices.Backend, BACKENDS),
    (choices.Jetson, DEVICE_NAMES),
    (choices.TrainPrecision, TRAIN_PRECISIONS),
]
"""Each enum and the list of the library that it repeats."""

WITH_TORCH = find_spec("torch") is not None
if WITH_TORCH:
    from reid_edge.training.pairs.calibrate import CALIBRATIONS
    from reid_edge.training.pairs.report import FIT_ON

    LISTS += [(choices.Calibration, CALIBRATIONS), (choices.FitOn, FIT_ON)]


@pytest.mark.parametrize(("choice", "names"), LISTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_choice_is_the_librarys_list(choice: type[Choice], names: Sequence[str]) -> None:
    assert {member.value for member in choice} == set(names)


@pytest.mark.skipif(not WITH_TORCH, reason="some lists need the train extra")
def test_every_choice_is_compared_with_a_list() -> None:
    all_of_them = {each for _, each in inspect.getmembers(choices, inspect.isclass) if issubclass(each, Choice)}
    assert {each for each in all_of_them if list(each.__members__)} == {choice for choice, _ in LISTS}


def test_a_choice_reads_as_its_word() -> None:
    word = choices.Resize.PILLOW_BILINEAR
    assert (str(word), f"{word}", f"{word:>16}", value_of(word)) == ("pillow-bilinear",) * 2 + (
        " pillow-bilinear",
        "pillow-bilinear",
    )
    assert word == "pillow-bilinear" and {"pillow-bilinear": 1}[word] == 1
    assert type(value_of(word)) is str and value_of(None) is None


def test_a_word_outside_the_list_is_one_line_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "a.onnx", "--data", "d", "--layout", "market1502"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("reid-edge: ") and len(error.strip().splitlines()) == 1
    assert "'--layout'" in error and "'market1502'" in error and "reid-edge eval --help" in error
    for reader in READERS:
        assert f"'{reader.name}'" in error


def test_a_shell_completes_the_words() -> None:
    asked = {"_REID_EDGE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "reid-edge eval a.onnx --layout m"}
    code = "from reid_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert '"market1501"' in done.stdout and '"msmt17"' in done.stdout and "manifest" in done.stdout, done.stderr
    assert "dukemtmc" not in done.stdout


def test_the_defaults_that_help_shows_are_the_librarys() -> None:
    """``data synthesize`` leaves them to the library, so that a command line without them is the same set."""
    from reid_edge.commands.data import synthesize as command
    from reid_edge.data.synthetic.dataset import synthesize

    library = inspect.signature(synthesize).parameters
    annotations = inspect.get_annotations(command, eval_str=True)
    for name in ("identities", "test_identities", "cameras"):
        (option,) = annotations[name].__metadata__
        assert option.show_default == str(library[name].default)
    assert inspect.signature(command).parameters["seed"].default == library["seed"].default


@pytest.mark.usefixtures("empty_registry")
def test_a_layout_that_a_program_registers_later_is_accepted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """After the command line was imported, as `docs/extend/command.md` does with a command."""

    class Doors(DatasetReader):
        name, title, markers = "doors", "Doors", ("entrance", "exit")

        def read(self, home: Path, part: str) -> Listing:
            return Listing(Split())

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(arguments)
        shown = capsys.readouterr()
        return shown.out + shown.err

    assert "'doors' is not one of" in said("data", "inspect", "none", "--layout", "doors")
    register_reader(Doors())
    assert "none does not exist" in said("data", "inspect", "none", "--layout", "doors")
    assert "did you mean doors?" in said("data", "inspect", "none", "--layout", "door")
    assert "crops | doors" in " ".join(said("data", "inspect", "--help").split())
    assert value_of(choices.Layout("doors")) == "doors" and choices.Layout("doors") == "doors"
