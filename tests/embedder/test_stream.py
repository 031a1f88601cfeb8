"""Streams: the same embeddings as one call, in order, whatever is slow, wrong or stopped."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.embedder.embedder import Embedder
from reid_edge.embedder.stream import StreamResult
from reid_edge.engines.base import check_batch
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import DeviceError, ImageError, InputError, ModelError

HW = (32, 16)


class ColourEngine:
    """The mean colour of each crop, normalised; black crops fail. It may be slow, and run several batches at once."""

    backend = provider = "numpy"
    max_batch = 256

    def __init__(self, concurrent_runs: int = 1, slow: Callable[[], float] = lambda: 0.0) -> None:
        self.card = ModelCard("colour", 3, input_hw=HW)
        self.facts = EngineFacts("numpy", "numpy", {}, 1, "", concurrent_runs=concurrent_runs)
        self.batches: list[int] = []
        self.running = self.most_running = 0
        self._slow = slow
        self._lock = threading.Lock()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_batch(images, self.card, self.max_batch)
        with self._lock:
            self.batches.append(len(images))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        time.sleep(self._slow())
        with self._lock:
            self.running -= 1
        colours = images.mean(axis=(1, 2), dtype=np.float64)
        if not colours.any(axis=1).all():
            raise ModelError("a black crop: use another")
        return np.asarray(colours / np.linalg.norm(colours, axis=1, keepdims=True), np.float32)

    def __enter__(self) -> ColourEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before, threading.enumerate()


def _crops(number: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(1, 256, (number, 20, 10, 3), np.uint8))


def _frames(number: int) -> list[tuple[NDArray[np.uint8], list[list[float]]]]:
    """Frames with 0 to 4 boxes, some outside of them."""
    rng = np.random.default_rng(number)
    frames = rng.integers(1, 256, (number, 60, 80, 3), np.uint8)
    return [
        (frame, [[x, y, x + 20, y + 30] for x, y in rng.uniform(-30, 90, (k % 5, 2))]) for k, frame in enumerate(frames)
    ]


@pytest.mark.parametrize("concurrent_runs", [1, 3])
@pytest.mark.parametrize("max_batch", [1, 4, 32])
def test_crops_give_what_one_call_gives_in_order(concurrent_runs: int, max_batch: int) -> None:
    crops = _crops(50)
    embedder = Embedder(ColourEngine(concurrent_runs))
    results = list(embedder.stream(iter(crops), max_batch=max_batch))
    assert [result.index for result in results] == list(range(50))
    assert all(result.item is crop for result, crop in zip(results, crops, strict=True))
    np.testing.assert_array_equal(np.concatenate([result.embeddings for result in results]), embedder.embed(crops))
    assert all(result.error is None and result.kept.tolist() == [0] for result in results)


def test_frames_give_what_embed_gives_for_their_boxes() -> None:
    embedder = Embedder(ColourEngine())
    frames = _frames(23)
    results = list(embedder.stream(iter(frames), "bgr", max_batch=7))
    assert {len(result.embeddings) for result in results} > {0, 1, 2}
    for (frame, boxes), result in zip(frames, results, strict=True):
        expected = embedder.embed(frame, "bgr", boxes=boxes, details=True)
        for field in ("embeddings", "kept", "clipped", "too_small"):
            np.testing.assert_array_equal(getattr(result, field), getattr(expected, field))


@pytest.mark.parametrize("seed", range(6))
def test_random_delays_and_errors_touch_no_other_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items: list[Any] = list(_crops(60, seed))
    wrong = {int(n): kind for n, kind in zip(rng.choice(60, 9, False), ["file", "black", "boxes"] * 3, strict=True)}
    for number, kind in wrong.items():
        items[number] = {
            "file": Path(f"/none/{number}.jpg"),
            "black": np.zeros((20, 10, 3), np.uint8),
            "boxes": (items[number], [[5, 5, 1, 1]]),
        }[kind]
    delays = rng.uniform(0, 0.002, 200).tolist()
    engine = ColourEngine(int(rng.integers(1, 4)), slow=lambda: delays.pop())

    def source() -> Iterator[Any]:
        for item in items:
            time.sleep(float(rng.uniform(0, 0.001)))
            yield item

    results = list(Embedder(engine).stream(source(), max_batch=int(rng.integers(1, 9))))
    assert [result.index for result in results] == list(range(60))
    kinds = {"file": ImageError, "black": ModelError, "boxes": InputError}
    for result, item in zip(results, items, strict=True):
        if result.index in wrong:
            assert type(result.error) is kinds[wrong[result.index]] and result.embeddings.shape == (0, 3)
        else:
            np.testing.assert_array_equal(result.embeddings, Embedder(ColourEngine()).embed(item))
    assert "/none/" in str(next(r.error for r in results if wrong.get(r.index) == "file"))


def test_a_frame_keeps_the_rows_of_its_other_boxes() -> None:
    frame = np.full((40, 60, 3), 9, np.uint8)
    frame[:, 20:40] = 0
    (result,) = Embedder(ColourEngine()).stream([(frame, [[0, 0, 20, 40], [20, 0, 40, 40], [40, 0, 60, 40]])])
    assert isinstance(result.error, ModelError)
    assert result.kept.tolist() == [0, 2] and len(result.embeddings) == 2


def test_the_source_is_read_only_so_far_ahead() -> None:
    read = 0

    def source() -> Iterator[NDArray[np.uint8]]:
        nonlocal read
        for crop in _crops(500):
            read += 1
            yield crop

    with closing(Embedder(ColourEngine(), batch=4).stream(source())) as results:
        next(results)
        most = 0
        for _ in range(20):  # nothing is consumed meanwhile
            time.sleep(0.005)
            most = max(most, read)
    assert 1 <= most <= 1 + 2 * 4


def test_a_slow_source_is_not_waited_for_to_fill_a_batch() -> None:
    given = threading.Event()

    def source() -> Iterator[NDArray[np.uint8]]:
        for crop in _crops(3):
            yield crop
            assert given.wait(60), "the result of a crop waited for the next one"
            given.clear()

    results = Embedder(ColourEngine()).stream(source(), max_latency_ms=None)
    for result in results:
        assert len(result.embeddings) == 1
        given.set()


def test_batches_fill_when_the_engine_is_what_is_slow() -> None:
    engine = ColourEngine(slow=lambda: 0.02)
    list(Embedder(engine).stream(_crops(64), max_batch=8, max_latency_ms=None))
    assert len(engine.batches) <= 12 and max(engine.batches) == 8


def test_runs_overlap_where_that_pays_off() -> None:
    both = threading.Barrier(2, timeout=60)  # broken unless the first two runs meet
    first_two = [both.wait, both.wait]

    def meet() -> float:
        if first_two:
            first_two.pop()()
        return 0.0

    engine = ColourEngine(2, slow=meet)
    assert len(list(Embedder(engine).stream(_crops(8), max_batch=1))) == 8
    assert engine.most_running == 2


@pytest.mark.parametrize("concurrent_runs", [1, 3])
@pytest.mark.parametrize("max_batch", [1, 4])
def test_no_more_runs_at_once_than_pay_off(concurrent_runs: int, max_batch: int) -> None:
    """Also while the next batch is copied together."""
    engine = ColourEngine(concurrent_runs, slow=lambda: 0.001)
    assert len(list(Embedder(engine).stream(_crops(60), max_batch=max_batch))) == 60
    assert engine.most_running <= concurrent_runs


class Closable:
    """A source that says whether it was closed, and may fail."""

    def __init__(self, items: list[Any], error: BaseException | None = None) -> None:
        self.items, self.error, self.closed = iter(items), error, False

    def __iter__(self) -> Closable:
        return self

    def __next__(self) -> Any:
        try:
            return next(self.items)
        except StopIteration:
            if self.error is not None:
                raise self.error from None
            raise

    def close(self) -> None:
        self.closed = True


def _taken(results: Iterator[StreamResult]) -> list[int]:
    return [result.index for result in results]


def test_what_the_source_raises_comes_after_all_before_it() -> None:
    source = Closable(_crops(30), OSError("the camera is gone"))
    taken = []
    with pytest.raises(OSError, match="the camera is gone"):
        for result in Embedder(ColourEngine(slow=lambda: 0.001)).stream(source, max_batch=4):
            taken.append(result.index)
    assert taken == list(range(30)) and source.closed


def test_leaving_early_closes_the_source_and_ends_the_threads() -> None:
    source = Closable(_crops(300))
    with closing(Embedder(ColourEngine(2)).stream(source)) as results:
        assert next(results).index == 0
    assert source.closed
    with pytest.raises(StopIteration):
        next(results)


def test_an_error_of_the_consumer_ends_the_threads() -> None:
    source = Closable(_crops(300))
    with pytest.raises(KeyboardInterrupt), closing(Embedder(ColourEngine()).stream(source)) as results:
        for _ in results:
            raise KeyboardInterrupt
    assert source.closed


class Failing(ColourEngine):
    """Its fifth run fails as a GPU does."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(self.batches) == 4:
            raise DeviceError("CUDA_ERROR_ILLEGAL_ADDRESS: start it again")
        return super().run(images)


def test_a_device_that_fails_ends_the_stream() -> None:
    source = Closable(_crops(300))
    with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
        _taken(Embedder(Failing()).stream(source, max_batch=1))
    assert source.closed


def test_an_engine_that_fails_on_everything_ends_the_stream() -> None:
    def black() -> Iterator[NDArray[np.uint8]]:
        while True:
            yield np.zeros((20, 10, 3), np.uint8)

    taken = []
    with pytest.raises(ModelError, match="a black crop"):
        for result in Embedder(ColourEngine()).stream(black(), max_batch=8):
            assert isinstance(result.error, ModelError)
            taken.append(result.index)
    assert len(taken) <= 64 + 8


def test_what_is_wrong_with_the_program_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_edge.embedder.stream.crops_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _taken(Embedder(ColourEngine()).stream(_crops(3)))


def test_odd_streams() -> None:
    embedder = Embedder(ColourEngine())
    assert list(embedder.stream([])) == []
    assert len(list(embedder.stream(_crops(1)))) == 1
    (result,) = embedder.stream([(1, 2, 3)])  # type: ignore[list-item]
    assert "a tuple of 3: give a crop, or a frame and its boxes" in str(result.error)
    with pytest.raises(TypeError):
        _taken(embedder.stream(7))  # type: ignore[arg-type]
    for wrong in ({"max_latency_ms": 0}, {"max_batch": 0}, {"color": "green"}):
        with pytest.raises(InputError):
            embedder.stream([], **wrong)


def test_few_items_are_alive_at_once() -> None:
    alive = peak = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def source() -> Iterator[NDArray[np.uint8]]:
        nonlocal alive, peak
        base = _crops(1)[0]
        for _ in range(2_000):
            crop = base.copy()
            weakref.finalize(crop, gone)
            alive += 1
            peak = max(peak, alive)
            yield crop

    for result in Embedder(ColourEngine(), batch=8).stream(source()):
        assert result.error is None
    assert 1 < peak <= 2 * 8 + 8  # what is in flight, and what threads and generators have in hand
