"""Options resolved once: what is opened, decoded and hashed, and how often."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, SIDE, Array, network
from numpy.typing import NDArray

from reid_edge.data.datasets import open_dataset
from reid_edge.data.images import read_crops
from reid_edge.errors import InputError, ModelError
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.convert import int8_from_fp32, trained_ranges
from reid_edge.export.int8.crops import calibration_crops
from reid_edge.export.int8.plan import Int8Options, Int8Plan, plan_int8
from reid_edge.export.int8.sensitivity_report import write_sensitivity

DEFAULTS = {"backbone.block.0.depthwise", "backbone.block.0.gate.fc"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def planned(weights: dict[str, Array], people: Path, **options: object) -> Int8Plan:
    return plan_int8(network(weights), CARD, Int8Options(calibrate=people, threads=1, **options))  # type: ignore[arg-type]


def test_options_open_nothing() -> None:
    options = Int8Options(calibrate="/no/such/folder", layout="nowhere")
    options.check()
    with pytest.raises(TypeError):
        Int8Options("positional")  # type: ignore[misc]


def test_a_plan_holds_the_crops_and_the_layers(weights: dict[str, Array], people: Path) -> None:
    plan = planned(weights, people, count=7, seed=2, keep=("default", "backbone.conv1"))
    assert plan.crops is not None
    assert plan.crops.crops == calibration_crops(open_dataset(people), 7, 2)
    assert plan.kept == {*DEFAULTS, "backbone.conv1"}
    assert planned(weights, people).kept == DEFAULTS
    assert planned(weights, people, keep=()).kept == set()
    assert planned(weights, people, for_runtime="cpu").method == "minmax"
    assert plan.method == "mse"
    with pytest.raises(InputError, match="has no layer 'nowhere' to keep"):
        planned(weights, people, keep=("nowhere",))
    with pytest.raises(InputError, match="INT8 method 'entropy' is unknown: give one of minmax, percentile, mse"):
        planned(weights, people, method="entropy")


def test_a_data_set_that_is_open_is_not_opened_again(weights: dict[str, Array], people: Path, tmp_path: Path) -> None:
    gone = Path(shutil.copytree(people, tmp_path / "gone"))
    dataset = open_dataset(gone)
    shutil.rmtree(gone)
    plan = plan_int8(network(weights), CARD, Int8Options(calibrate=gone), dataset)
    assert plan.crops is not None and len(plan.crops.crops) == 56
    assert plan_int8(network(weights), CARD, Int8Options(), dataset).crops == plan.crops, "the data set is enough"


def test_crops_are_decoded_and_hashed_once(
    weights: dict[str, Array], people: Path, tmp_path: Path, cache: Path
) -> None:
    """``read`` is what a caller with decoded crops gives. The files are gone after the first use."""
    copies = Path(shutil.copytree(people, tmp_path / "copies"))
    decoded: list[Path | str] = []

    def read(paths: Sequence[Path | str], input_hw: tuple[int, int], resize: str) -> NDArray[np.uint8]:
        decoded.extend(paths)
        return read_crops(paths, input_hw, resize)

    graph = network(weights)
    plan = plan_int8(graph, CARD, Int8Options(calibrate=copies, threads=1), read=read)
    assert not decoded, "decoded before anything needs it"
    ranges = plan.activation_ranges(graph)
    shutil.rmtree(copies)
    assert plan.crops is not None
    assert decoded == [crop.path for crop in plan.crops.crops]
    assert plan.activation_ranges(graph) == ranges, "from the cache folder"
    shutil.rmtree(cache)
    assert plan.activation_ranges(graph) == ranges, "measured again, on the crops in memory"
    assert trained_ranges(graph, plan)["note"].startswith("mse on 56 training crops of 6 identities, 3 cameras")
    int8_from_fp32(graph, CARD, plan)
    assert len(decoded) == 56
    assert plan.crops.images.shape == (56, SIDE, SIDE, 3)


def test_a_trained_model_brings_its_activation_ranges(weights: dict[str, Array], people: Path) -> None:
    graph = network(weights)
    calibrated = planned(weights, people)
    card = CARD.with_(quantization=trained_ranges(graph, calibrated))
    trained = plan_int8(graph, card, Int8Options())
    assert trained.crops is None and trained.kept == calibrated.kept
    measured = calibrated.activation_ranges(graph)
    assert trained.activation_ranges(graph) == {name: measured[name] for name in ("normal", "gated", "vector")}
    uncorrected = replace(calibrated, trained=measured, errors={})  # training has learned its biases
    (first, first_card), (again, again_card) = (int8_from_fp32(graph, card, plan) for plan in (uncorrected, trained))
    assert first.model.SerializeToString(deterministic=True) == again.model.SerializeToString(deterministic=True)
    assert again_card.calibration.replace(", then trained for it", "") == first_card.calibration
    chosen_anew = plan_int8(graph, card, Int8Options(calibrate=people))
    assert chosen_anew.trained is None and chosen_anew.crops is not None


def test_a_card_that_does_not_fit_is_refused(weights: dict[str, Array]) -> None:
    graph = network(weights)
    for layers, said in (
        ({"fc.0": [1.0, 2.0]}, r"do not fit layer fc\.0: add --calibrate"),
        ({"backbone.elsewhere": [1.0]}, "activation ranges for none of its layers"),
    ):
        with pytest.raises(ModelError, match=said):
            plan_int8(graph, CARD.with_(quantization={"layers": layers}), Int8Options())
    with pytest.raises(InputError, match=r"leave --keep \(keep=\) out, or choose again with --calibrate"):
        plan_int8(graph, CARD.with_(quantization={"layers": {"fc.0": [1.0]}}), Int8Options(keep=("fc.0",)))


def test_sensitivity_uses_the_plan(weights: dict[str, Array], people: Path, tmp_path: Path) -> None:
    """Layers kept by default are measured, layers kept by name are not."""
    graph = network(weights)
    images = read_crops([crop.path for crop in open_dataset(people).split.query], CARD.input_hw, CARD.resize)
    result = write_sensitivity(graph, planned(weights, people), images, by="layer", out=tmp_path, name="n")
    assert DEFAULTS <= {one.name for one in result.alone}
    assert (tmp_path / "n_sensitivity.json").read_text() == result.to_json()
    named = planned(weights, people, keep=("default", "fc.0"))
    result = write_sensitivity(graph, named, images, by="layer", out=tmp_path, name="m")
    assert {one.name for one in result.alone} == {"backbone.conv1", "backbone.block.1.conv"}
    assert set(result.always) == {*DEFAULTS, "fc.0"}
    trained = plan_int8(graph, CARD.with_(quantization={"layers": {"fc.0": [3.0]}}), Int8Options())
    with pytest.raises(InputError, match="add --calibrate DATASET"):
        write_sensitivity(graph, trained, images, by="layer", out=tmp_path, name="t")


def test_the_ranges_are_those_of_the_chosen_crops(weights: dict[str, Array], people: Path) -> None:
    graph, plan = network(weights), planned(weights, people, count=5, method="minmax")
    assert plan.crops is not None
    assert plan.activation_ranges(graph) == ranges_over(graph, plan.crops.images, "minmax", 1)
