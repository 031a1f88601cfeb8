"""The pair head at run time: probabilities worked by hand, files that are not ours, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.log import logged
from helpers.mutations import mutations
from helpers.reference_readers import reference_head, sealed
from helpers.tiny_onnx import write_tiny_model

from reid_edge import Embedder, PairHead, verify
from reid_edge.cli import main
from reid_edge.errors import InputError

A, B = [[1.0, 0.0]], [[0.6, 0.8]]  # cosine 0.6


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def _head(**change: object) -> PairHead:
    settings = {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32), "scale": 10.0, "offset": -5.0}
    return PairHead(**{**settings, **change})  # type: ignore[arg-type]


def test_the_probability_is_the_logistic_of_the_scaled_cosine() -> None:
    # 10 * 0.6 - 5 = 1
    assert _head().probability(A, B) == pytest.approx([_logistic(1.0)])


def test_the_map_is_applied_to_both_sides_and_normalised() -> None:
    # The map doubles the second axis: (1, 0) stays, (0.6, 1.6) has norm sqrt(2.92).
    head = _head(weight=np.diag([1.0, 2.0]).astype(np.float32))
    odds = 10 * 0.6 / math.sqrt(2.92) - 5
    assert head.probability(A, B) == pytest.approx([_logistic(odds)], rel=1e-5)
    assert head.probability(B, A) == pytest.approx(head.probability(A, B))


def test_the_bias_is_added_before_normalising() -> None:
    # (1, 0) and (0.6, 0.8) become (1, 1) and (0.6, 1.8): cosine 2.4 / (sqrt 2 * sqrt 3.6).
    head = _head(bias=np.array([0.0, 1.0], np.float32))
    assert head.probability(A, B) == pytest.approx([_logistic(10 * 2.4 / math.sqrt(7.2) - 5)], rel=1e-5)


def test_the_prior_shifts_the_odds() -> None:
    # A prior of 1 in 10 divides the odds by 9.
    odds = math.exp(1.0) / 9
    assert _head().probability(A, B, prior=0.1) == pytest.approx([odds / (1 + odds)])


def test_knots_replace_the_odds_and_end_flat() -> None:
    head = _head(knots=np.array([[0.0, 2.0], [-4.0, 4.0]], np.float32))
    assert head.probability(A, B) == pytest.approx([0.5])  # 1 is half-way from 0 to 2
    assert head.probability(A, A) == pytest.approx([_logistic(4.0)])  # 5 is beyond the last


def test_odds_that_overflow_are_probabilities_still() -> None:
    found = _head(scale=1e4, offset=0.0).probability([[1.0, 0.0]] * 2, [[1.0, 0.0], [-1.0, 0.0]])
    assert found.tolist() == [1.0, 0.0]


def test_a_file_reads_back_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    head = _head(
        weight=rng.normal(size=(3, 2)).astype(np.float32),
        bias=rng.normal(size=3).astype(np.float32),
        knots=np.array([[0.0, 1.0], [0.5, 3.0]], np.float32),
        model="abc",
        facts={"dataset": "drawn", "people": 3},
    )
    head.save(tmp_path / "h.npz")
    again = PairHead.load(tmp_path / "h.npz")
    assert (again.model, again.facts, again.scale, again.offset) == ("abc", head.facts, 10.0, -5.0)
    for name in ("weight", "bias", "knots"):
        np.testing.assert_array_equal(getattr(again, name), getattr(head, name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": np.full((2, 2), np.nan, np.float32)}, "not finite"),
        ({"bias": np.zeros(3, np.float32)}, "do not fit"),
        ({"knots": np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)}, "ascend"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    _head(**change).save(tmp_path / "h.npz")
    with pytest.raises(InputError, match=said):
        PairHead.load(tmp_path / "h.npz")


def test_a_file_of_before_is_read_with_a_note(tmp_path: Path) -> None:
    arrays = {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32), "line": np.array([10.0, -5.0])}
    texts = {"model": np.array("m1"), "facts": np.array('{"seed": 1}')}
    np.savez(tmp_path / "old.npz", version=np.array(1), knots=np.empty((2, 0), np.float32), **arrays, **texts)
    with logged() as notes:
        head = PairHead.load(tmp_path / "old.npz")
    assert head.probability(A, B) == pytest.approx([_logistic(1.0)]) and head.facts == {"seed": 1}
    assert len(notes) == 1 and "has no seal" in notes[0]


def test_a_weight_in_fortran_order_is_saved(tmp_path: Path) -> None:
    weight = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    _head(weight=weight, bias=np.zeros(3, np.float32)).save(tmp_path / "h.npz")
    assert PairHead.load(tmp_path / "h.npz").weight.tolist() == weight.tolist()


def test_no_damaged_head_gives_another_probability(tmp_path: Path) -> None:
    path = tmp_path / "h.npz"
    _head(facts={"dataset": "drawn"}).save(path)
    for kind, damaged in mutations(path.read_bytes(), 0, count=300):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a pair head") as caught:
            PairHead.load(path)
        assert "\n" not in str(caught.value), kind


def test_what_is_accepted_under_a_right_seal_is_read_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "h.npz"
    _head(knots=np.array([[0.0, 2.0], [-4.0, 4.0]], np.float32), facts={"dataset": "drawn"}).save(path)
    accepted = 0
    for kind, damaged in mutations(path.read_bytes(), 1, count=600):
        path.write_bytes(sealed(damaged))
        try:
            head = PairHead.load(path)
        except InputError:
            continue
        accepted += 1
        expected = reference_head(path.read_bytes())
        assert (head.model, head.facts) == (expected.model, expected.facts), kind
        told = expected.probability(np.float32([1, 0]), np.float32([0.6, 0.8]))
        assert head.probability(A, B) == pytest.approx([told], rel=1e-5), kind
    assert accepted, "a seal that is mended at its own place is right"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "gallery.npz", embeddings=np.zeros((1, 2)))
    pickled = np.array([{"a": 1}], object)
    np.savez(tmp_path / "pickle.npz", version=pickled)
    for name in ("text", "gallery", "pickle"):
        with pytest.raises(InputError, match="is not a pair head"):
            PairHead.load(tmp_path / f"{name}.npz")


def test_bad_use_is_told() -> None:
    with pytest.raises(InputError, match="prior"):
        _head().probability(A, B, prior=1.0)
    with pytest.raises(InputError, match="3 dimensions"):
        _head().probability([[1.0, 0.0, 0.0]], B)
    with pytest.raises(InputError, match="give as many"):
        _head().probability(A * 2, B)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    paths = [root / f"{name}.png" for name in "ab"]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (64, 32, 3), np.uint8))
    return paths


def test_verify_embeds_both_and_asks_the_head(model: Path, crops: list[Path]) -> None:
    with Embedder(model) as embedder:
        pair, dim = embedder.embed(crops), embedder.card.embedding_dim
        cosine = float(pair[0] @ pair[1])
        head = PairHead(np.eye(dim, dtype=np.float32), np.zeros(dim, np.float32), 3.0, -1.0)
        verdict = verify(crops[0], crops[1], embedder, head, prior=0.2)
    assert verdict.cosine == pytest.approx(cosine, abs=1e-6)
    assert verdict.probability == pytest.approx(_logistic(3 * cosine - 1 - math.log(4)), abs=1e-5)


def test_a_head_of_another_model_is_refused(model: Path, crops: list[Path]) -> None:
    with Embedder(model) as embedder:
        assert embedder.card.weights_sha256
        head = PairHead.of_cosine(embedder.card.embedding_dim)
        other = PairHead(head.weight, head.bias, 1.0, 0.0, model="0" * 64)
        with pytest.raises(InputError, match="was trained with model 000000000000"):
            verify(crops[0], crops[1], embedder, other)


def test_the_command_prints_and_writes_the_verdict(
    model: Path, crops: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Embedder(model) as embedder:
        PairHead.of_cosine(embedder.card.embedding_dim).save(tmp_path / "head.npz")
    asked = ["verify", *crops, "--model", model, "--head", tmp_path / "head.npz", "--json", tmp_path / "v.json"]
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in asked])
    assert not ended.value.code
    told = json.loads((tmp_path / "v.json").read_text())
    assert told["probability"] == pytest.approx(_logistic(told["cosine"]))
    assert f"probability of one person {told['probability']:.4f}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in [*asked, "--prior", "0"]])
    assert ended.value.code == 2
