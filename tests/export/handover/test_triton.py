"""Triton's model repository, read by the schema that Triton's own client carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from helpers.small_network import CARD, SIDE

from reid_edge.api.export_model import export_model
from reid_edge.engines.tensorrt_api import load_backend
from reid_edge.errors import InputError, MissingExtraError
from reid_edge.export.engines.options import EngineOptions
from reid_edge.export.handover.programs import HandOver
from reid_edge.export.handover.triton import triton_config


@pytest.fixture
def schema() -> Any:
    return pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")


def parsed(text: str, schema: Any) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def test_out_is_the_repository(fp32: Path, tmp_path: Path, schema: Any) -> None:
    report = export_model(fp32, tmp_path / "out", hand_over=HandOver(program="triton", batches=(1, 8, 32)))
    folder = tmp_path / "out" / "small_fp32"
    assert report.handover == (folder / "1" / "model.onnx", folder / "config.pbtxt")
    config = parsed((folder / "config.pbtxt").read_text(), schema)
    assert (config.name, config.backend, config.platform, config.max_batch_size) == (
        "small_fp32",
        "onnxruntime",
        "",
        32,
    )
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    for own, theirs in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [value.name for value in own] == [value.name for value in theirs]
        assert list(own[0].dims) == theirs[0].shape[1:]
    assert (config.input[0].data_type, config.output[0].data_type) == (schema.TYPE_UINT8, schema.TYPE_FP32)
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32]
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, schema.ModelInstanceGroup.KIND_AUTO)
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8, 32]
    for warmup in config.model_warmup:
        assert list(warmup.inputs) == ["images"] and warmup.inputs["images"].zero_data
        assert list(warmup.inputs["images"].dims) == [SIDE, SIDE, 3]
        assert warmup.inputs["images"].data_type == schema.TYPE_UINT8


def test_an_engine_is_a_second_model(fp32: Path, tmp_path: Path, schema: Any) -> None:
    try:
        load_backend("tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")
    options = EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 8))
    report = export_model(fp32, tmp_path / "out", engine=options, hand_over="triton")
    plan = tmp_path / "out" / "small_fp32_tensorrt" / "1" / "model.plan"
    assert plan in report.handover and plan.read_bytes() == report.engines[0].path.read_bytes()
    config = parsed((plan.parent.parent / "config.pbtxt").read_text(), schema)
    assert (config.name, config.platform, config.max_batch_size) == ("small_fp32_tensorrt", "tensorrt_plan", 8)
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert len([path for path in report.handover if path.name == "config.pbtxt"]) == 2


def test_an_engine_that_takes_no_single_crop_is_refused_early(fp32: Path, tmp_path: Path) -> None:
    options = EngineOptions(backend="tensorrt-rtx", batches=(2, 4, 8))
    with pytest.raises(InputError, match="Triton also sends single crops to an engine"):
        export_model(fp32, tmp_path / "out", engine=options, hand_over="triton")
    assert not (tmp_path / "out").exists()


def test_equal_batches_and_odd_names_parse(schema: Any) -> None:
    config = parsed(triton_config(CARD, 'a "b" \\ ü', (8, 8, 8)), schema)
    assert config.name == 'a "b" \\ ü'
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert [warmup.batch_size for warmup in config.model_warmup] == [8]
