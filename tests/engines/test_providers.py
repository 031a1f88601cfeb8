"""Each provider that cannot run says why, in place of running on the CPU without a word."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from reid_edge.engines import ort
from reid_edge.engines.ort import PROVIDERS, provider_reports


def test_the_model_that_is_tried_is_sound_and_computes_relu() -> None:
    onnx.checker.check_model(onnx.load_from_string(ort._ONE_RELU), full_check=True)
    session = onnxruntime.InferenceSession(ort._ONE_RELU, providers=["CPUExecutionProvider"])
    for given, expected in ((-3.0, 0.0), (2.5, 2.5)):
        assert session.run(None, {"x": np.array([given], np.float32)})[0].tolist() == [expected]


def test_every_provider_is_reported_and_what_the_wheel_lacks_names_the_remedy() -> None:
    reports = {report.name: report for report in provider_reports()}
    assert tuple(reports) == PROVIDERS
    assert reports["CPUExecutionProvider"].can_run
    missing = set(PROVIDERS) - set(onnxruntime.get_available_providers())
    for name in missing:
        assert not reports[name].can_run
        assert name in reports[name].reason and "onnxruntime-gpu" in reports[name].reason


def test_a_provider_that_is_listed_and_executes_nothing_is_not_taken_for_one_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ONNX Runtime leaves out a provider whose libraries do not load, and runs the model on the CPU."""
    wheel = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: wheel)
    cuda = next(report for report in provider_reports() if report.name == "CUDAExecutionProvider")
    if "CUDAExecutionProvider" not in wheel[:-1]:
        assert not cuda.can_run and "onnxruntime.ai" in cuda.reason
