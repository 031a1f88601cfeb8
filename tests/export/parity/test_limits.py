"""The gate's limits: overridden by name, refused when a name is wrong, and looser the fewer bits a precision has."""

from __future__ import annotations

import pytest

from reid_edge.errors import InputError
from reid_edge.export.parity.limits import THRESHOLDS, Checks, overridden, parse_gates


def test_thresholds_can_be_overridden_by_name() -> None:
    assert overridden({"int8.ranking": 0.5, "int8.tie": 0.1})["int8"] == THRESHOLDS["int8"].but(ranking=0.5, tie=0.1)
    for wrong, said in (
        ({"int8.cosine": 1.0}, "unknown: give one of cosine_min"),
        ({"x.tie": 1.0}, "names no row of limits"),
    ):
        with pytest.raises(InputError, match=said):
            overridden(wrong)
    for gate, said in (
        ("int8.tie=nan", "threshold tie cannot be nan: give a finite number from 0 up"),
        ("int8.max_error=inf", "threshold max_error cannot be inf"),
        ("int8.map_loss=-1", "threshold map_loss cannot be -1"),
        ("int8.cosine_p1=-1.5", "threshold cosine_p1 cannot be -1.5: give a finite number from -1 up"),
    ):
        with pytest.raises(InputError, match=said):
            Checks(gates=parse_gates([gate])).limits()
    assert overridden({"int8.cosine_min": -1})["int8"].cosine_min == -1, "a gate that lets everything pass"
    with pytest.raises(InputError, match="has no number"):
        parse_gates(["int8.tie=small"])


def test_the_limits_of_checks_are_the_thresholds_with_its_gates() -> None:
    assert Checks().limits() == THRESHOLDS
    assert Checks(gates=parse_gates(["fp16.tie=0.5"])).limits() == overridden({"fp16.tie": 0.5})
    with pytest.raises(InputError, match="1 crops are too few to compare rankings on"):
        Checks(crops=1).limits()


def test_fp16_is_allowed_no_less_than_fp32() -> None:
    fp32, fp16 = THRESHOLDS["fp32"], THRESHOLDS["fp16"]
    assert fp16.cosine_min <= fp32.cosine_min and fp16.ranking <= fp32.ranking
    assert fp16.max_error >= fp32.max_error and fp16.batch_error >= fp32.batch_error and fp16.tie >= fp32.tie
