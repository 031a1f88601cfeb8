"""The self-test on this machine, and with one engine that disagrees, dies, hangs or cannot open its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

import reid_edge
from reid_edge.api.doctor.facts import DoctorFacts, ProviderFact
from reid_edge.api.doctor.findings import Finding, Level
from reid_edge.api.doctor.self_test import planned_trials, run_self_test
from reid_edge.device.host import CommandOutput, Host, run_command
from reid_edge.device.jetson import Jetson
from reid_edge.device.python import Imported, Package, PythonFacts
from reid_edge.engines.cuda import find_gpu
from reid_edge.errors import InputError, ModelError

CPU = ProviderFact("CPUExecutionProvider")
ONE, TWO = DoctorFacts(providers=(CPU,)), DoctorFacts(providers=(CPU, CPU))
"""One engine, and the same one twice: the second is compared with the first."""


def _faulty(fault: Callable[[dict[str, str]], CommandOutput | None], at: int = 2) -> Host:
    """This machine, whose ``at``-th engine has a fault: what it gives in place of the child's answer."""
    asked: list[str] = []

    def run(command: Sequence[str], seconds: float) -> CommandOutput:
        request = json.loads(command[-1])
        output = run_command(command, seconds)
        if request["do"] == "embed":
            asked.append(request["out"])
            if len(asked) == at:
                return fault(request) or output
        return output

    return Host(run=run)


def _by_part(findings: Sequence[Finding]) -> list[tuple[str, Level]]:
    return [(finding.part, finding.level) for finding in findings]


def test_every_engine_that_runs_here_agrees() -> None:
    """The whole report of this machine, as a user gets it."""
    report = reid_edge.doctor()
    tried = [finding for finding in report.findings if finding.group == "self-test"]
    assert [finding.part for finding in tried[:2]] == ["crops", "ONNX Runtime, CPU"]
    assert {finding.level for finding in tried} == {Level.OK}
    assert "the reference" in tried[1].found
    assert all("worst cosine" in finding.found for finding in tried[2:])


def test_a_model_of_the_user(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "own.onnx", input_hw=(64, 32))
    findings = list(run_self_test(Host(), TWO, model))
    assert _by_part(findings) == [("crops", Level.OK), *[("ONNX Runtime, CPU", Level.OK)] * 2]
    assert "worst cosine 1.000000" in findings[-1].found


def _perturb(request: dict[str, str]) -> None:
    out = request["out"]
    embeddings = np.load(out)
    embeddings[3] = embeddings[4]
    np.save(out, embeddings)


def _not_finite(request: dict[str, str]) -> None:
    embeddings = np.load(request["out"])
    embeddings[0, 0] = np.nan
    np.save(request["out"], embeddings)


@pytest.mark.parametrize("fault", [_perturb, _not_finite])
def test_an_engine_that_disagrees(fault: Callable[[dict[str, str]], None]) -> None:
    *_, last = run_self_test(_faulty(fault), TWO)
    assert last.level is Level.WRONG and "disagrees with the reference" in last.found
    assert last.remedy == "pip install --force-reinstall --no-deps onnxruntime"


def test_an_engine_that_ends_its_process_costs_one_line() -> None:
    """The one after it becomes the reference."""
    died = CommandOutput("", "Illegal instruction\n", -4)
    _, first, second = run_self_test(_faulty(lambda request: died, at=1), TWO)
    assert first.level is Level.WRONG and "exit status -4: Illegal instruction" in first.found
    assert second.level is Level.OK and "the reference" in second.found


def test_an_engine_that_never_answers() -> None:
    _, _, late = run_self_test(_faulty(lambda request: CommandOutput("", "", None)), TWO)
    assert late.level is Level.WRONG and "over 600 seconds" in late.found


def test_no_engine_at_all() -> None:
    *_, last = run_self_test(Host(), DoctorFacts(providers=()))
    assert (last.level, last.remedy) == (Level.WRONG, "pip install onnxruntime")


def test_a_damaged_model_is_the_models_fault(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "own.onnx", input_hw=(64, 32))
    content = bytearray(model.read_bytes())
    content[200] ^= 1
    model.write_bytes(content)
    (finding,) = run_self_test(Host(), ONE, model)
    assert (finding.part, finding.level) == ("model", Level.WRONG)
    assert "damaged" in finding.found and finding.remedy.startswith("reid-edge export")


def test_an_engine_without_its_card(tmp_path: Path) -> None:
    (tmp_path / "own.engine").write_bytes(b"plan")
    (finding,) = run_self_test(Host(), ONE, tmp_path / "own.engine")
    assert finding.level is Level.WRONG and "own.engine" in finding.found


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.onnx"):
        reid_edge.doctor(tmp_path / "missing.onnx")
    (tmp_path / "model.pth").touch()
    with pytest.raises(ModelError, match=r"none of .onnx, .engine, .plan"):
        reid_edge.doctor(tmp_path / "model.pth")


def _jetson(*packages: str) -> DoctorFacts:
    """A Jetson whose TensorRT loads, with packages of Python."""
    python = PythonFacts("3.10.12", "/venv", True, True, {name: (Package(name, "1", "/"),) for name in packages})
    imports = {name: Imported("10.3.0") for name in ("tensorrt", "openvino")}
    flags = frozenset({"bf16"})
    return DoctorFacts(
        jetson=Jetson("", "36.4.3", {}), python=python, imports=imports, cpu_flags=flags, providers=(CPU,)
    )


def test_what_is_tried_on_a_jetson(tmp_path: Path) -> None:
    """TensorRT builds an engine of the built-in model alone, and needs the onnx package for that."""
    model = tmp_path / "m.onnx"
    titles = [trial.title for trial in planned_trials(_jetson("onnx"), model, builtin=True)]
    assert titles == ["ONNX Runtime, CPU", "OpenVINO", "OpenVINO, bf16", "TensorRT"]
    assert planned_trials(_jetson("onnx"), model, builtin=True)[-1].build
    for facts, builtin in ((_jetson(), True), (_jetson("onnx"), False)):
        assert "TensorRT" not in [trial.title for trial in planned_trials(facts, model, builtin=builtin)]


def test_an_engine_is_compared_with_the_file_beside_it(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    assert [trial.title for trial in planned_trials(_jetson(), engine, builtin=False)] == ["TensorRT"]
    (tmp_path / "m.onnx").touch()
    reference, tried = planned_trials(_jetson(), engine, builtin=False)
    assert (reference.model, tried.model, tried.limits) == (tmp_path / "m.onnx", engine, "engine")


def test_providers_that_cannot_run_are_not_tried(tmp_path: Path) -> None:
    facts = DoctorFacts(providers=(CPU, ProviderFact("CUDAExecutionProvider", "no driver")))
    assert [trial.provider for trial in planned_trials(facts, tmp_path / "m.onnx", builtin=True)] == [CPU.name]
    cuda = DoctorFacts(providers=(CPU, ProviderFact("CUDAExecutionProvider")))
    assert planned_trials(cuda, tmp_path / "m.onnx", builtin=True)[1].limits == "engine", "TF32 rounds on a GPU"


@pytest.mark.gpu
def test_on_a_gpu_its_engines_agree() -> None:
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    report = reid_edge.doctor()
    parts = {finding.part for finding in report.findings if finding.group == "self-test"}
    assert parts & {"TensorRT", "TensorRT-RTX", "ONNX Runtime, CUDA"}
    assert not [finding for finding in report.wrong if finding.group == "self-test"]
