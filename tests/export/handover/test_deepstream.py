"""DeepStream's tracker configuration: keys of NVIDIA's tables, and a threshold from labelled crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from helpers.small_network import CARD, SIDE, network, random_weights

from reid_edge.api.export_model import export_model
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import InputError
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.handover.deepstream import deepstream_yaml
from reid_edge.export.handover.programs import HandOver, chosen_input_format, input_format_for, write_handover
from reid_edge.export.handover.threshold import similarity_at, similarity_threshold
from reid_edge.scoring.test_set import TestSet

# The keys of the ReID table in the DeepStream Developer Guide, "Gst-nvtracker".
REID_KEYS = """reidType batchSize workspaceSize reidFeatureSize reidHistorySize inferDims networkMode inputOrder
colorFormat offsets netScaleFactor keepAspc useVPICropScaler addFeatureNormalization outputReidTensor onnxFile
modelEngineFile""".split()

SECTIONS = "BaseConfig TargetManagement TrajectoryManagement DataAssociator StateEstimator VisualTracker ReID".split()


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small_fp32.onnx"
    write_onnx(network(random_weights()), CARD, path)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(
        tmp_path_factory.mktemp("drawn") / "set", identities=1, test_identities=12, cameras=2, size_hw=(32, 32)
    )


def parsed(text: str) -> dict[str, Any]:
    assert text.startswith("%YAML:1.0\n"), "OpenCV's reader, which DeepStream used, wants it"
    content = yaml.safe_load(text.partition("\n")[2])
    assert list(content) == SECTIONS
    return dict(content)


def test_a_whole_configuration_in_which_the_model_has_an_effect(fp32: Path, tmp_path: Path) -> None:
    hand_over = HandOver(program="deepstream", batches=(1, 8, 32))
    report = export_model(fp32, tmp_path / "out", precisions=("fp32", "fp16"), name="n", hand_over=hand_over)
    report.raise_if_refused()
    path = tmp_path / "out" / "n_fp16_nchw_tracker.yml"
    assert path in report.handover
    content = parsed(path.read_text())
    trajectories, reid = content["TrajectoryManagement"], content["ReID"]
    assert trajectories["enableReAssoc"] == 1 and trajectories["matchingScoreWeight4ReidSimilarity"] > 0
    assert "minMatchingScore4ReidSimilarity" not in trajectories, "nothing was measured"
    assert "reid-edge export MODEL --for deepstream --data DATASET" in path.read_text()
    assert list(reid) == REID_KEYS
    assert reid["reidType"] == 2, "re-association only: NvDCF does not associate by embeddings"
    assert reid["inferDims"] == [3, SIDE, SIDE] and reid["reidFeatureSize"] == 8
    assert (reid["networkMode"], reid["batchSize"], reid["keepAspc"], reid["useVPICropScaler"]) == (1, 32, 0, 0)
    assert (reid["offsets"], reid["netScaleFactor"], reid["colorFormat"]) == ([0, 0, 0], 1, 0)
    assert reid["onnxFile"] == "n_fp16_nchw.onnx", "relative to the configuration: the folder can move"
    assert "networkMode: 2" in deepstream_yaml(CARD.with_(precision="int8"), Path("m.onnx"), 4)


def test_labelled_crops_give_the_threshold(fp32: Path, people: Path, tmp_path: Path) -> None:
    report = export_model(fp32, tmp_path, hand_over="deepstream", data=people, name="n")
    report.raise_if_refused()
    content = parsed(report.handover[0].read_text())
    (file,) = [row.path for row in report.files]
    with TestSet.open(people) as test, OnnxEngine(file) as engine:
        crops = [*test.dataset.split.query, *test.dataset.split.gallery]
        embeddings = engine.run(test.batch([crop.path for crop in crops], (SIDE, SIDE)))
        impostors = sorted(
            float(embeddings[i] @ embeddings[j])
            for i in range(len(crops))
            for j in range(i)
            if crops[i].pid != crops[j].pid
        )
        assert len(impostors) >= 1000, "or one in a thousand cannot be told"
        expected = impostors[-1 - len(impostors) // 1000]
        assert similarity_threshold(file, test) == pytest.approx(expected, abs=1e-6)
    written = content["TrajectoryManagement"]["minMatchingScore4ReidSimilarity"]
    assert written == pytest.approx(expected, abs=6e-5)


def test_the_threshold_of_four_persons() -> None:
    """At angles 0, 30, 60 and 120 degrees, two crops of the second: cosines of two persons 0.866 to -0.5."""
    angles = np.radians([0, 30, 30, 60, 120]).astype(np.float32)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    identities = np.array([1, 2, 2, 3, 4])
    # sorted: 0-30 and 30-60 (four times 0.866), 0-60, 60-120 (twice 0.5), 30-120 (twice 0), 0-120 (-0.5)
    assert similarity_at(rows, identities, rate=4 / 9) == pytest.approx(0.5, abs=1e-6)
    assert similarity_at(rows, identities, rate=6 / 9) == pytest.approx(0, abs=1e-6)
    assert similarity_at(rows, identities, rate=1e-3) is None, "nine pairs do not tell one in a thousand"


def test_paths_with_quotes_stay_one_value(tmp_path: Path) -> None:
    content = parsed(deepstream_yaml(CARD, Path('../a "b"\\c: #.onnx'), 4, 0.25))
    assert content["ReID"]["onnxFile"] == '../a "b"\\c: #.onnx'
    assert content["TrajectoryManagement"]["minMatchingScore4ReidSimilarity"] == 0.25


def test_unknown_programs_and_the_wrong_input_format_are_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'jetson' is unknown: give one of deepstream, triton, trtexec"):
        input_format_for("jetson")
    with pytest.raises(
        InputError, match=r"triton feeds nhwc-uint8: leave --input-format nchw-float \(input_format=\) out"
    ):
        chosen_input_format("nchw-float", "triton")
    with pytest.raises(InputError, match="deepstream feeds nchw-float: export it with --input-format nchw-float"):
        write_handover(fp32, tmp_path, "deepstream", (1, 8, 32))
    assert onnx.load(fp32).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
