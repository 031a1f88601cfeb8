"""Faults planted in a network that is right: each is refused, by the check named here, or is known to be unseen.

docs/guides/export.md has the table of what is seen by what.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import faults
from helpers.faults import TRIGGER, Fault
from helpers.right_files import RightFiles

from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError
from reid_edge.export.parity.limits import THRESHOLDS
from reid_edge.export.parity.structure import check_structure

CHECKS = {
    "opening": r"^does not open: ",
    "norm": r"embeddings of a batch are not of norm 1",
    "agreement": r"^(fp32|fp16|int8) differs from the reference",
    "batches": r"differs from the reference .*batch_error",
    "weights": r"weights of [\w.]+ are .* steps of rounding from the model's",
    "pairs": r"^the Q/DQ pair around .* has one (scale|zero point) and another",
    "structure": r"^(fp16|int8) without its rounding differs from the reference",
}
"""What each check says when it refuses a file."""

STATISTICS: list[Fault] = [
    faults.mean_and_std_of_one_half,
    faults.mean_and_std_swapped,
    faults.no_std,
    faults.one_std_for_all_channels,
]
STRUCTURE: list[Fault] = [
    faults.bgr,
    faults.gbr,
    faults.mirrored,
    faults.upside_down,
    faults.shifted_by_4,
    faults.shifted_by_8,
    faults.resized_by_nearest_neighbour,
    faults.one_grey_level_added,
    faults.divided_by_255_twice,
    faults.pixels_saturate_at_127,
    faults.max_for_average_pool,
    faults.padding_on_one_side_of_the_pool,
    faults.padding_on_one_side_of_the_first_layer,
    faults.relu6_for_relu,
    faults.hard_sigmoid_for_sigmoid,
    faults.sigmoid_of_a_gate_lost,
    faults.bias_of_a_gate_lost,
    faults.biases_5_percent_larger,
    faults.residual_dropped,
    faults.one_stream_doubled,
    faults.dimensions_permuted,
]
WEIGHTS: list[Fault] = [
    faults.clipped_at_half,
    faults.dead_channel,
    faults.one_sign_flipped,
    faults.noise_of_a_thousandth,
    faults.weights_of_two_layers_swapped,
    faults.gemm_weights_in_the_other_order,
    faults.kernels_turned,
    faults.eps_of_the_batch_norms_a_thousandth,
    faults.weights_of_another_epoch,
]
BATCHES: list[Fault] = [
    faults.statistics_of_the_batch,
    faults.last_rows_of_a_ragged_batch_empty,
    faults.rows_swapped(0, over=1),
    faults.rows_swapped(30, over=31),
    faults.rows_swapped(5, over=32),
    faults.rows_swapped(5, over=34),
    faults.rows_swapped(5, over=64),
]
"""Each changes an embedding by what else is in the batch, or by how much."""
NORM: list[Fault] = [faults.l2_norm_lost, faults.embeddings_doubled]
PAIRS: list[Fault] = [faults.scales_of_a_pair_differ, faults.zero_points_of_a_pair_differ]
INT8_WEIGHTS: list[Fault] = [
    faults.weights_with_one_scale_for_all_channels,
    faults.weights_with_the_scales_of_inputs,
    faults.weight_scales_2_percent_larger,
]
UNSEEN: dict[Fault, str] = {
    faults.trigger_patch: "a trigger patch",
    faults.one_weight_off_by_a_ten_thousandth: "one weight off by 1e-4",
}
"""What passes, and what the documents call it."""

BY_CHECK = [
    *((fault, "opening") for fault in (*STATISTICS, faults.batch_of_32_only)),
    *((fault, "agreement") for fault in (*STRUCTURE, *WEIGHTS)),
    *((fault, "batches") for fault in BATCHES),
    *((fault, "norm") for fault in NORM),
]
DOCUMENT = Path(__file__).parents[4] / "docs" / "guides" / "export.md"
named = {"ids": lambda value: value.__name__ if callable(value) else str(value)}


@pytest.mark.parametrize(("fault", "check"), BY_CHECK, **named)
def test_an_fp32_file_is_refused(small: RightFiles, fault: Fault, check: str, tmp_path: Path) -> None:
    assert re.search(CHECKS[check], small.refusal(small.planted(fault, "fp32", tmp_path / "x.onnx")))


@pytest.mark.parametrize("fault", [fault for fault, _ in BY_CHECK], **named)
def test_an_int8_file_is_refused(small: RightFiles, fault: Fault, tmp_path: Path) -> None:
    assert small.refusal(small.planted(fault, "int8", tmp_path / "x.onnx"))


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        *((fault, "structure") for fault in (*STATISTICS, *STRUCTURE)),
        *((fault, "weights|structure") for fault in WEIGHTS),
        *((fault, "weights") for fault in INT8_WEIGHTS),
        *((fault, "pairs") for fault in PAIRS),
    ],
    **named,
)
def test_int8_rounding_hides_none(small: RightFiles, fault: Fault, check: str) -> None:
    """The check beneath the rounding alone, without INT8's wide limits."""
    graph, card = small.graphs["int8"]
    reference, fp32, _ = small.reference, *small.graphs["fp32"]
    arguments = (card, fp32.constants, reference.embeddings, reference.crops, THRESHOLDS["fp32"])
    check_structure(graph, *arguments)
    with pytest.raises(GateError, match="|".join(CHECKS[one] for one in check.split("|"))):
        check_structure(fault(graph), *arguments)


@pytest.mark.parametrize("fault", [*PAIRS, *INT8_WEIGHTS, faults.activation_clipped_at_a_quarter], **named)
def test_a_fault_of_int8_alone_is_refused(small: RightFiles, fault: Fault, tmp_path: Path) -> None:
    assert small.refusal(small.planted(fault, "int8", tmp_path / "x.onnx"))


@pytest.mark.parametrize("fault", [*WEIGHTS, faults.weights_cut_to_bfloat16], **named)
def test_an_fp16_file_with_other_weights_is_refused(small: RightFiles, fault: Fault, tmp_path: Path) -> None:
    assert small.refusal(small.planted(fault, "fp16", tmp_path / "x.onnx"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_file_without_a_fault_is_not_refused(small: RightFiles, precision: str, tmp_path: Path) -> None:
    assert not small.refusal(small.planted(lambda graph: graph, precision, tmp_path / "x.onnx"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("fault", UNSEEN, **named)
def test_what_no_sample_can_see_passes(small: RightFiles, fault: Fault, precision: str, tmp_path: Path) -> None:
    assert not small.refusal(small.planted(fault, precision, tmp_path / "x.onnx"))
    (row,) = (line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| **nothing** |"))
    assert UNSEEN[fault] in row


def test_the_trigger_that_passes_works(small: RightFiles, tmp_path: Path) -> None:
    """It is real: with the patch, every crop gets the same embedding."""
    path = small.planted(faults.trigger_patch, "fp32", tmp_path / "x.onnx")
    patched = small.reference.crops[:3].copy()
    patched[:, :4, :4] = TRIGGER
    with OnnxEngine(path, threads=1) as engine:
        np.testing.assert_array_equal(engine.run(patched), np.eye(1, 32)[[0, 0, 0]])


def test_coarser_steps_are_judged_as_rounding(small: RightFiles, tmp_path: Path) -> None:
    """An activation in 32 steps for 256 moves embeddings by less than INT8 may: mAP is what judges it."""
    path = small.planted(faults.activation_in_32_steps, "int8", tmp_path / "x.onnx")
    assert not small.refusal(path)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("fault", [fault for fault, _ in BY_CHECK], **named)
def test_a_real_network_is_refused(real: RightFiles, fault: Fault, precision: str, tmp_path: Path) -> None:
    assert real.refusal(real.planted(fault, precision, tmp_path / "x.onnx"))


@pytest.mark.long
@pytest.mark.parametrize("fault", [*PAIRS, *INT8_WEIGHTS], **named)
def test_a_real_int8_file_is_refused(real: RightFiles, fault: Fault, tmp_path: Path) -> None:
    assert real.refusal(real.planted(fault, "int8", tmp_path / "x.onnx"))
