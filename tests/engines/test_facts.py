"""What computed the embeddings: the provider that executes, the versions, the threads, the file."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import onnxruntime
import pytest
from helpers.tiny_onnx import write_tiny_model
from PIL import Image

from reid_edge.core.threads import usable_cores
from reid_edge.engines.facts import EngineFacts, board_versions
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import InputError, ModelError

HW = (32, 16)
CPU = "CPUExecutionProvider"
IDLE = "AzureExecutionProvider"
"""In the CPU's wheel, and executes no node of our models: what a GPU's provider does without its libraries."""

needs_idle = pytest.mark.skipif(
    IDLE not in onnxruntime.get_available_providers()
    or not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason=f"needs an ONNX Runtime with {IDLE} that says what executes each node",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW)


def test_an_onnx_engine_says_what_runs_it(model: Path) -> None:
    with OnnxEngine(model, threads=3) as engine:
        facts = engine.facts
    assert (facts.backend, facts.provider, facts.threads) == ("onnxruntime", CPU, 3)
    assert facts.versions == {"onnxruntime": onnxruntime.__version__}
    assert facts.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert set(facts.nodes) <= {CPU}


def test_nothing_asked_is_all_usable_cores(model: Path) -> None:
    with OnnxEngine(model) as engine:
        assert engine.facts.threads == usable_cores()


@needs_idle
def test_the_nodes_of_the_graph_are_counted(model: Path) -> None:
    """Cast, Transpose, Sub, Div, AveragePool, Flatten, ReduceL2, Max, Div."""
    with OnnxEngine(model) as engine:
        assert engine.facts.nodes == {CPU: 9}


@needs_idle
def test_a_provider_that_was_asked_for_and_executes_nothing_is_an_error(model: Path) -> None:
    with pytest.raises(ModelError, match=f"{IDLE} executes nothing .* on {CPU}: install .*allow_fallback") as caught:
        OnnxEngine(model, providers=[IDLE, CPU]).__enter__()
    assert "\n" not in str(caught.value)


@needs_idle
def test_a_fallback_that_is_allowed_is_a_note(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "reid_edge"):
        with OnnxEngine(model, providers=[IDLE, CPU], allow_fallback=True) as engine:
            assert engine.facts.provider == engine.provider == CPU
    assert [IDLE in record.getMessage() for record in caplog.records] == [True]


def test_a_provider_that_is_not_installed_may_fall_back_too(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="no provider AbacusExecutionProvider"):
        OnnxEngine(model, providers=["AbacusExecutionProvider", CPU]).__enter__()
    with caplog.at_level(logging.WARNING, "reid_edge"):
        with OnnxEngine(model, providers=["AbacusExecutionProvider", CPU], allow_fallback=True) as engine:
            assert engine.provider == CPU
    assert ["AbacusExecutionProvider" in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(InputError, match="no provider AbacusExecutionProvider"):
        OnnxEngine(model, providers=["AbacusExecutionProvider"], allow_fallback=True).__enter__()


def test_the_cpu_that_was_asked_for_needs_no_note(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with OnnxEngine(model, providers=[CPU]):
        assert not caplog.records


def test_a_line_of_facts() -> None:
    facts = EngineFacts("tensorrt", "TensorRT 10.3.0", {"tensorrt": "10.3.0", "L4T": "36.3.0"}, None, "f" * 64)
    assert str(facts) == "TensorRT 10.3.0, tensorrt 10.3.0, L4T 36.3.0, sha256 ffffffffffff"
    assert EngineFacts(**asdict(facts)) == facts


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic, EABI: aarch64\n", {"L4T": "36.3.0"}),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n", {"L4T": "35.4.1"}),
        ("", {}),
        ("a desktop", {}),
    ],
)
def test_the_version_of_jetson_linux(tmp_path: Path, text: str, versions: dict[str, str]) -> None:
    assert board_versions(tmp_path) == {}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(text)
    assert board_versions(tmp_path) == versions


def _embed(folder: Path, model: Path) -> set[str]:
    """The files that ``reid-edge embed`` leaves in its home, its scratch folder and where it runs."""
    places = {name: folder / name for name in ("home", "scratch", "here")}
    for place in places.values():
        place.mkdir(parents=True)
    Image.new("RGB", (16, 32), (200, 30, 60)).save(folder / "crop.png")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    kept.pop("CI", None)  # ONNX Runtime takes it for a wish for privacy
    environment = kept | {"HOME": str(places["home"]), "TMPDIR": str(places["scratch"])}
    command = ["embed", str(folder / "crop.png"), "--model", str(model), "--out", str(folder / "gallery.npz")]
    subprocess.run(
        [sys.executable, "-m", "reid_edge", *command],
        cwd=places["here"],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert (folder / "gallery.npz").is_file()
    return {str(path.relative_to(folder)) for place in places.values() for path in place.rglob("*") if path.is_file()}


def test_embedding_writes_nothing_but_its_output(tmp_path: Path, model: Path) -> None:
    written = _embed(tmp_path, model)
    assert not {name for name in written if not name.startswith("home/.cache/reid-edge/")}


def test_the_user_may_turn_telemetry_on(model: Path) -> None:
    code = (
        "import os; from reid_edge.engines.ort import import_onnxruntime; import_onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    for given, found in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == found
