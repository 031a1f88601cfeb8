"""The gate: it lets the same embeddings through, and catches each way in which an export has gone wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD, ModelCard
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.export.parity.gate import check_parity, embed_in_batches

Embed = Callable[[NDArray[np.uint8]], NDArray[Any]]

HEIGHT, WIDTH, STRIPES = 32, 16, 8
DIM = 3 * STRIPES


class Formula:
    """An engine whose network is a function of the batch; it remembers the sizes of its batches."""

    max_batch = 256

    def __init__(self, embed: Embed) -> None:
        self.card = ModelCard("formula", DIM, input_hw=(HEIGHT, WIDTH))
        self.sizes: list[int] = []
        self._embed = embed

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(images))
        return self._embed(images).astype(np.float32)

    def __enter__(self) -> Formula:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def normalised(images: NDArray[Any]) -> NDArray[Any]:
    return (images / 255 - IMAGENET_MEAN) / IMAGENET_STD


def unit(features: NDArray[Any]) -> NDArray[Any]:
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def striped(pixels: NDArray[Any]) -> NDArray[Any]:
    """The mean colours of each stripe, [N, 24]."""
    return pixels.reshape(len(pixels), STRIPES, -1, 3).mean(axis=2).reshape(len(pixels), DIM)


def right(images: NDArray[np.uint8]) -> NDArray[Any]:
    return unit(striped(normalised(images)))


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    """64 crops uint8 [64, 32, 16, 3], each with clothing of its own colours."""
    rng = np.random.default_rng(0)
    stripes = rng.integers(0, 256, (64, STRIPES, 1, 1, 3))
    noise = rng.integers(-20, 20, (64, STRIPES, HEIGHT // STRIPES, WIDTH, 3))
    return np.clip(stripes + noise, 0, 255).astype(np.uint8).reshape(64, HEIGHT, WIDTH, 3)


@pytest.fixture(scope="module")
def reference(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return right(crops).astype(np.float32)


def test_the_same_embeddings_pass(crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    parity = check_parity(reference, Formula(right), crops)
    assert parity.cosine_min == pytest.approx(1)
    assert (parity.max_error, parity.batch_error, parity.ranking, parity.not_finite) == (0, 0, 1, 0)
    assert (parity.crops, parity.batches) == (64, (1, 2, 8, 32, 64, 256))


def test_every_batch_size_is_run_with_a_ragged_one_after_it(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    candidate = Formula(right)
    check_parity(reference, candidate, crops, batches=(1, 8, 32))
    assert candidate.sizes == [32, 32, 1, 1, 8, 5, 32]


def test_crops_fewer_than_the_largest_batch_are_repeated(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    candidate = Formula(right)
    parity = check_parity(reference[:3], candidate, crops[:3], batches=(1, 8))
    assert max(candidate.sizes) == 8 and parity.crops == 3


def double_normalised(images: NDArray[np.uint8]) -> NDArray[Any]:
    return unit(striped(normalised(255 * normalised(images))))


def not_normalised(images: NDArray[np.uint8]) -> NDArray[Any]:
    return unit(striped(images / 255))


def bgr(images: NDArray[np.uint8]) -> NDArray[Any]:
    return right(images[..., ::-1])


def no_l2_norm(images: NDArray[np.uint8]) -> NDArray[Any]:
    return striped(normalised(images))


def batch_statistics(images: NDArray[np.uint8]) -> NDArray[Any]:
    """Batch norm left in training mode; a batch of one is its own mean."""
    features = striped(normalised(images))
    return unit(features - 0.5 * features.mean(axis=0))


def slightly_off(images: NDArray[np.uint8]) -> NDArray[Any]:
    """One weight of the last layer is wrong by 0.2 %: less than FP16's rounding of many."""
    return unit(striped(normalised(images)) * np.where(np.arange(DIM) == 3, 1.002, 1))


WRONG = [double_normalised, not_normalised, bgr, no_l2_norm, batch_statistics, slightly_off]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_fp32_catches(wrong: Embed, crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    with pytest.raises(GateError, match="fp32 differs from the reference on 64 crops"):
        check_parity(reference, Formula(wrong), crops)


@pytest.mark.parametrize("wrong", WRONG[:-1], ids=lambda wrong: wrong.__name__)
def test_fp16_catches(wrong: Embed, crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    with pytest.raises(GateError, match="fp16 differs from the reference on 64 crops"):
        check_parity(reference, Formula(wrong), crops, "fp16")


def test_fp16_lets_rounding_through_that_fp32_does_not(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    rounded = Formula(lambda images: right(images).astype(np.float16))
    assert check_parity(reference, rounded, crops, "fp16").max_error < 3e-4
    with pytest.raises(GateError):
        check_parity(reference, rounded, crops, "fp32")


def test_a_crop_that_depends_on_its_neighbours_is_caught_though_each_embedding_is_close(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    def leaning(images: NDArray[np.uint8]) -> NDArray[Any]:
        return right(images) + 0.006 / len(images) * np.eye(DIM)[0]

    with pytest.raises(GateError, match=r"crops: batch_error 0\.005\d* \(at most 0\.005\): leave out --fp16"):
        check_parity(reference, Formula(leaning), crops, "fp16")


def test_an_embedding_that_depends_on_the_place_in_the_batch_is_caught(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    def tilted(images: NDArray[np.uint8]) -> NDArray[Any]:
        return right(images) + 0.0002 * np.arange(len(images))[:, None] * np.eye(DIM)[0]

    with pytest.raises(GateError, match="batch_error"):
        check_parity(reference, Formula(tilted), crops, "fp16")


def test_two_crops_are_a_batch_too(crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    """`verify` embeds two at once."""

    def turning_pairs(images: NDArray[np.uint8]) -> NDArray[Any]:
        return right(images)[::-1] if len(images) == 2 else right(images)

    with pytest.raises(GateError, match="batch_error"):
        check_parity(reference, Formula(turning_pairs), crops)


@pytest.mark.parametrize("rows, above", [((5, 6), 32), ((20, 40), 34), ((200, 201), 64)])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_that_change_places_in_large_batches_are_caught(
    rows: tuple[int, int], above: int, precision: str, crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    """Of 64 crops the reference knows no row 200: the batch is filled up, and run in two orders."""

    def swapping(images: NDArray[np.uint8]) -> NDArray[Any]:
        embeddings = right(images)
        if len(images) > above:
            embeddings[[*rows]] = embeddings[[*rows[::-1]]]
        return embeddings

    with pytest.raises(GateError, match="batch_error"):
        check_parity(reference, Formula(swapping), crops, precision)


def test_batches_go_up_to_the_largest_that_an_engine_takes(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    for largest, batches in ((256, (1, 2, 8, 32, 64, 256)), (64, (1, 2, 8, 32, 64)), (5, (1, 2, 5))):
        candidate = Formula(right)
        candidate.max_batch = largest
        assert check_parity(reference, candidate, crops).batches == batches and max(candidate.sizes) == largest


def test_a_model_that_maps_crops_to_one_point_is_called_that(crops: NDArray[np.uint8]) -> None:
    """Embeddings 0.01 around a point: rounding to 0.004 decides how they rank."""

    def collapsed(images: NDArray[np.uint8]) -> NDArray[Any]:
        return unit(0.01 * right(images) + np.eye(DIM)[0])

    reference = collapsed(crops).astype(np.float32)
    assert check_parity(reference, Formula(collapsed), crops).spread < 0.02
    rounded = Formula(lambda images: np.round(collapsed(images) * 256) / 256)
    for precision in ("fp32", "fp16", "int8"):
        with pytest.raises(
            GateError, match=r"relative_error .*maps nearly all crops to one point \(their cosine is 0\.9999"
        ):
            check_parity(reference, rounded, crops, precision)


def test_nan_is_caught_and_counted(crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    def overflowing(images: NDArray[np.uint8]) -> NDArray[Any]:
        embeddings = right(images)
        embeddings[images[:, 0, 0, 0] == crops[5, 0, 0, 0]] = np.nan
        return embeddings

    count = int((crops[:, 0, 0, 0] == crops[5, 0, 0, 0]).sum())
    with pytest.raises(GateError, match=f"{count} embeddings not finite"):
        check_parity(reference, Formula(overflowing), crops, "fp16")


def test_a_reference_that_is_not_finite_lets_nothing_through(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    with pytest.raises(GateError, match="cosine_min nan"):
        check_parity(np.full_like(reference, np.nan), Formula(right), crops)


def test_an_engine_that_fails_on_a_batch_fails_the_gate(
    crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> None:
    def frozen(images: NDArray[np.uint8]) -> NDArray[Any]:
        if len(images) != 32:
            raise ModelError(f"got {len(images)}, expected 32")
        return right(images)

    with pytest.raises(GateError, match=r"got 256, expected 32 \(batches of 256\)"):
        check_parity(reference, Formula(frozen), crops)


def test_a_single_crop_is_refused(crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    with pytest.raises(InputError, match="1 crops are too few"):
        check_parity(reference[:1], Formula(right), crops[:1])


def test_embedding_in_batches_keeps_the_order(crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    engine = Formula(right)
    np.testing.assert_array_equal(embed_in_batches(engine, crops, 10), reference)
    assert engine.sizes == [10] * 6 + [4]


def test_the_parity_is_plain_json(crops: NDArray[np.uint8], reference: NDArray[np.float32]) -> None:
    parity = check_parity(reference, Formula(right), crops)
    read = json.loads(json.dumps(parity.to_dict()))
    assert read == parity.to_dict()
    assert read["ranking"] == 1 and read["batches"] == [1, 2, 8, 32, 64, 256]
