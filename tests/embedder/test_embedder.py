"""The Embedder: any mix of sources, split into batches that fit, to embeddings that are the caller's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from helpers.tiny_onnx import tiny_embeddings, write_tiny_model
from numpy.typing import NDArray
from PIL import Image

from reid_edge.card import ModelCard
from reid_edge.data import decoding, images
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import check_batch
from reid_edge.engines.registry import open_engine
from reid_edge.errors import ImageError, InputError, ModelError

HW = (32, 16)


class ColourEngine:
    """An engine without a network: the mean colour of each crop, normalised. It remembers its batches."""

    def __init__(self, max_batch: int = 256, slow: float = 0.0) -> None:
        self.card = ModelCard("colour", 3, input_hw=HW)
        self.max_batch = max_batch
        self.batches: list[NDArray[np.uint8]] = []
        self.entered = 0
        self._slow = slow

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_batch(batch, self.card, self.max_batch)
        time.sleep(self._slow)
        self.batches.append(batch)
        colours = batch.mean(axis=(1, 2))
        return np.asarray(colours / np.linalg.norm(colours, axis=1, keepdims=True), np.float32)

    def __enter__(self) -> ColourEngine:
        self.entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.entered -= 1


def _frames(number: int, height: int = 20, width: int = 10) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(number).integers(0, 256, (number, height, width, 3), np.uint8))


def _expected(frames: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return ColourEngine().run(images.crops_of(frames, HW))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW)


def test_a_model_file_embeds_files_and_frames_as_defined(model: Path, tmp_path: Path) -> None:
    frames = _frames(3, *HW)
    Image.fromarray(frames[1]).save(tmp_path / "one.png")
    with Embedder(model, threads=1) as embedder:
        embeddings = embedder.embed([frames[0], tmp_path / "one.png", str(tmp_path / "one.png"), frames[2]])
        assert embedder.card.architecture == "tiny"
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, tiny_embeddings(np.stack(frames))[[0, 1, 1, 2]], atol=1e-5)


@pytest.mark.parametrize("number", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize(("batch", "max_batch", "most"), [(4, 256, 4), (32, 4, 4), (1, 9, 1), (64, 64, 64)])
def test_batches_fit_and_the_last_one_is_ragged(number: int, batch: int, max_batch: int, most: int) -> None:
    engine = ColourEngine(max_batch)
    frames = _frames(number)
    embeddings = Embedder(engine, batch=batch).embed(frames)
    sizes = [len(images) for images in engine.batches]
    assert sizes == [most] * (number // most) + [number % most] * (number % most > 0)
    np.testing.assert_array_equal(embeddings, _expected(frames))


def test_one_path_or_one_array_gives_one_row(tmp_path: Path) -> None:
    frame = _frames(1)[0]
    path = tmp_path / "a.png"
    Image.fromarray(frame).save(path)
    embedder = Embedder(ColourEngine())
    for single in (frame, path, str(path)):
        np.testing.assert_array_equal(embedder.embed(single), _expected([frame]))
    assert embedder.embed(frame[:, :, 0]).shape == (1, 3)  # grey


def test_one_array_of_many_and_any_iterable_are_taken() -> None:
    frames = _frames(7)
    embedder = Embedder(ColourEngine(), batch=3)
    for many in (np.stack(frames), tuple(frames), iter(frames), (frame for frame in frames)):
        np.testing.assert_array_equal(embedder.embed(many), _expected(frames))


@pytest.mark.parametrize("nothing", [[], (), iter(()), np.empty((0, 4, 4, 3), np.uint8)])
def test_no_crops_give_no_rows_of_the_right_width(nothing: Any) -> None:
    embeddings = Embedder(ColourEngine()).embed(nothing)
    assert embeddings.shape == (0, 3) and embeddings.dtype == np.float32


def test_frames_of_opencv_are_bgr() -> None:
    red_in_bgr = np.zeros((8, 8, 3), np.uint8)
    red_in_bgr[:, :, 2] = 255
    assert Embedder(ColourEngine()).embed(red_in_bgr, "bgr").tolist() == [[1.0, 0.0, 0.0]]
    with pytest.raises(InputError, match="give one of rgb, bgr"):
        Embedder(ColourEngine()).embed(red_in_bgr, "GBR")


def test_the_card_says_how_to_resize_unless_told_otherwise() -> None:
    frame = _frames(1, 200, 90)[0]
    for card_resize, told, used in [
        ("opencv", None, "opencv"),
        ("pillow-bilinear", None, "pillow-bilinear"),
        ("opencv", "pillow-bilinear", "pillow-bilinear"),
        ("of a later version", "opencv", "opencv"),
    ]:
        engine = ColourEngine()
        engine.card = engine.card.with_(resize=card_resize)
        embedder = Embedder(engine, resize=told)
        assert embedder.resize == used
        embedder.embed(frame)
        np.testing.assert_array_equal(engine.batches[0][0], images.resize(frame, HW, used))


def test_an_unknown_resize_is_told_the_known_ones() -> None:
    with pytest.raises(InputError, match="opencv, pillow-bilinear"):
        Embedder(ColourEngine(), resize="nearest")
    engine = ColourEngine()
    engine.card = engine.card.with_(resize="of a later version")
    with pytest.raises(InputError, match="'of a later version' is unknown: give one of opencv"):
        Embedder(engine).embed(_frames(1))


def test_results_share_no_memory_with_one_another_or_the_engine(model: Path) -> None:
    class Reusing(ColourEngine):
        """Breaks the Engine contract: every answer is written into one buffer, as a peer's engine did."""

        def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            answer = super().run(batch)
            self.buffer = getattr(self, "buffer", np.empty((1, 3), np.float32))
            self.buffer[:] = answer
            return self.buffer

    embedder = Embedder(Reusing(), batch=1)
    frames = _frames(2)
    first = embedder.embed(frames[0])
    kept = first.copy()
    embedder.embed(frames[1])
    np.testing.assert_array_equal(first, kept)

    with Embedder(model, threads=1) as real:
        first = real.embed(frames[0])
        assert not np.shares_memory(first, real.embed(frames[0])) and first.flags.writeable


def test_the_next_batch_is_prepared_while_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = _watch(monkeypatch, "crops_of")
    engine = ColourEngine(slow=0.05)
    Embedder(engine, batch=1).embed(_frames(4))
    assert threads[0] is threading.main_thread()  # nothing to overlap with yet
    assert len(set(threads[1:])) == 1 and threads[1] is not threads[0]


def test_a_single_batch_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = _watch(monkeypatch, "crops_of")
    Embedder(ColourEngine(), batch=4).embed(_frames(4))
    assert threads == [threading.main_thread()]


def _watch(monkeypatch: pytest.MonkeyPatch, name: str) -> list[threading.Thread]:
    """The threads that call a function of the embedder module, in order; the function still does its work."""
    seen: list[threading.Thread] = []
    true: Callable[..., Any] = getattr(images, name)

    def watched(*arguments: Any) -> Any:
        seen.append(threading.current_thread())
        return true(*arguments)

    monkeypatch.setattr(f"reid_edge.embedder.embedder.{name}", watched)
    return seen


def test_frames_are_taken_from_a_generator_only_as_they_are_needed() -> None:
    engine = ColourEngine()
    ahead = []

    def video() -> Iterator[NDArray[np.uint8]]:
        for number, frame in enumerate(_frames(40)):
            ahead.append(number - sum(map(len, engine.batches)))
            yield frame

    Embedder(engine, batch=4).embed(video())
    assert max(ahead) <= 8  # two batches, and not the whole video


def test_a_bad_source_ends_the_call_with_its_own_name(tmp_path: Path) -> None:
    before = threading.active_count()
    embedder = Embedder(ColourEngine(), batch=2)
    frames: list[Any] = list(_frames(5))
    with pytest.raises(ImageError, match=r"none\.jpg does not exist"):
        embedder.embed([*frames, tmp_path / "none.jpg"])
    frames[3] = np.zeros((4, 4))
    with pytest.raises(ImageError, match="image 3 is float64"):  # counted over all batches
        embedder.embed(frames)
    for wrong in (None, 7):
        with pytest.raises(ImageError, match="image 0 is a .*: give a path, a numpy array or a Pillow image"):
            embedder.embed(wrong)  # type: ignore[arg-type]
    assert threading.active_count() == before, threading.enumerate()


def test_an_engine_that_fails_ends_the_call() -> None:
    class Failing(ColourEngine):
        def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise ModelError("out of memory")

    with pytest.raises(ModelError, match="out of memory"):
        Embedder(Failing(), batch=2).embed(_frames(9))


def test_a_model_file_is_opened_once_and_closed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ColourEngine()
    monkeypatch.setattr("reid_edge.embedder.embedder.open_engine", lambda path, **options: engine)
    with Embedder(model) as embedder:
        embedder.embed(_frames(1))
        assert engine.entered == 1
    assert engine.entered == 0
    lazy = Embedder(model)
    assert engine.entered == 0
    lazy.embed(_frames(1))
    lazy.embed(_frames(1))
    assert engine.entered == 1
    lazy.close()
    lazy.close()
    assert (lazy.card, lazy.resize) == (engine.card, "opencv")  # known without opening it again
    assert engine.entered == 0


@pytest.mark.parametrize("is_file", [True, False])
def test_a_closed_embedder_is_not_opened_again(model: Path, is_file: bool) -> None:
    with open_engine(model) as engine:
        embedder = Embedder(model if is_file else engine)
        with embedder:
            pass
        lazy = Embedder(model if is_file else engine)
        lazy.close()  # it never was open
        for closed in (embedder, lazy):
            for use in (lambda: closed.embed([]), lambda: closed.facts, closed.__enter__):  # noqa: B023
                with pytest.raises(InputError, match="this Embedder is closed: make another"):
                    use()
        assert embedder.card.architecture
        with pytest.raises(InputError, match="closed"):
            _ = lazy.card


def test_its_repr_says_what_it_embeds_with(model: Path) -> None:
    embedder = Embedder(model, batch=8)
    assert repr(embedder) == f"<Embedder {str(model)!r}: not open yet>"
    with embedder:
        card = embedder.card
        expected = f"{card.architecture} fp32 on onnxruntime, {card.embedding_dim} dimensions, batches of 8"
        assert repr(embedder) == f"<Embedder {str(model)!r}: {expected}>"
    assert repr(embedder) == f"<Embedder {str(model)!r}: closed>"


def test_the_backend_is_chosen(model: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
    crops = _frames(2)
    with Embedder(model) as usual, Embedder(model, backend="openvino", threads=1) as embedder:
        assert (usual.facts.backend, embedder.facts.backend) == ("onnxruntime", "openvino")
        np.testing.assert_allclose(embedder.embed(crops), usual.embed(crops), atol=1e-5)
    with pytest.raises(InputError, match="'abacus' is unknown"):
        Embedder(model, backend="abacus").embed(crops)


def test_a_model_file_that_cannot_be_used_is_closed_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ColourEngine()
    engine.card = engine.card.with_(resize="of a later version")
    monkeypatch.setattr("reid_edge.embedder.embedder.open_engine", lambda path, **options: engine)
    with pytest.raises(InputError), Embedder(model):
        pass
    assert engine.entered == 0


def test_an_engine_stays_its_makers() -> None:
    with ColourEngine() as engine:
        with Embedder(engine) as embedder:
            embedder.embed(_frames(1))
        assert engine.entered == 1


def test_wrong_options_and_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch of 0"):
        Embedder(ColourEngine(), batch=0)
    with pytest.raises(InputError, match="backend is for model files"):
        Embedder(ColourEngine(), backend="openvino")
    with pytest.raises(InputError, match="threads is for model files"):
        Embedder(ColourEngine(), threads=2)
    lazy = Embedder(tmp_path / "none.onnx")  # nothing is opened yet
    with pytest.raises(InputError, match=r"none\.onnx does not exist"):
        lazy.embed([])


def test_progress_changes_nothing_else() -> None:
    frames = _frames(5)
    np.testing.assert_array_equal(Embedder(ColourEngine(), batch=2).embed(frames, progress=True), _expected(frames))


def test_a_real_crop_is_closest_to_itself_from_its_file_or_as_a_frame(model: Path, dev_crops: Path) -> None:
    paths = sorted(dev_crops.glob("query/*.jpg"))[:40]
    with Embedder(model, batch=16, threads=1) as embedder:
        files = embedder.embed(paths)
        frames = embedder.embed([decoding.read(path)[:, :, ::-1] for path in paths], "bgr")
    np.testing.assert_allclose(files, frames, atol=1e-6)
    assert ((files @ frames.T).argmax(axis=1) == np.arange(40)).all()


BOXES = [(2, 1, 8, 18), (-4.0, 3.2, 5.4, 30), (10, 0, 20, 20), (0, 0, 3, 3)]
CUTS = [(1, 18, 2, 8), (3, 20, 0, 5), (0, 3, 0, 3)]
"""What is inside a frame of 20 x 10, as top, bottom, left, right; the third box is right of it."""


def _cut(frame: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [frame[top:bottom, left:right] for top, bottom, left, right in CUTS]


def test_boxes_of_a_frame_are_embedded_as_their_crops() -> None:
    frame = _frames(1)[0]
    embedder = Embedder(ColourEngine(), batch=2)
    expected = _expected(_cut(frame))
    np.testing.assert_array_equal(embedder.embed(frame, boxes=BOXES), expected)
    np.testing.assert_array_equal(embedder.embed(frame[:, :, ::-1], "bgr", boxes=np.array(BOXES)), expected)
    np.testing.assert_array_equal(embedder.embed(Image.fromarray(frame), "bgr", boxes=BOXES), expected)
    found = embedder.embed(frame, boxes=BOXES, details=True)
    np.testing.assert_array_equal(found.embeddings, expected)
    assert (found.kept.tolist(), found.frame.tolist()) == ([0, 1, 3], [0, 0, 0])
    assert (found.clipped.tolist(), found.too_small.tolist()) == ([False, True, False], [True, True, True])


@pytest.mark.parametrize("stacked", [True, False])
def test_boxes_of_several_frames_say_which_frame_each_row_is_from(stacked: bool) -> None:
    frames = _frames(3)
    embedder = Embedder(ColourEngine(), batch=2)
    boxes = [BOXES[:1], [], BOXES]
    given: Any = np.stack(frames) if stacked else iter(frames)
    found = embedder.embed(given, boxes=iter(boxes), details=True)
    np.testing.assert_array_equal(found.embeddings, _expected([_cut(frames[0])[0], *_cut(frames[2])]))
    assert (found.frame.tolist(), found.kept.tolist()) == ([0, 2, 2, 2], [0, 0, 1, 3])


@pytest.mark.parametrize(("frames", "boxes"), [(np.zeros((4, 4, 3), np.uint8), []), ([], []), (iter(()), iter(()))])
def test_no_boxes_give_no_rows(frames: Any, boxes: Any) -> None:
    embedder = Embedder(ColourEngine())
    assert embedder.embed(frames, boxes=boxes).shape == (0, 3)
    found = Embedder(ColourEngine()).embed([], boxes=[], details=True)
    assert found.embeddings.shape == (0, 3) and found.embeddings.dtype == np.float32
    for each in (found.frame, found.kept, found.clipped, found.too_small):
        assert each.shape == (0,)


def test_boxes_that_are_wrong_end_the_call_with_their_frame() -> None:
    before = threading.active_count()
    frames, embedder = _frames(2), Embedder(ColourEngine())
    for boxes, message in [
        ([BOXES, [(0, 0, 1, float("nan"))]], "box 0 of frame 1, .* is not finite"),
        ([BOXES], "there are more frames than the first 1: give every frame its boxes"),
        ([BOXES] * 3, "there are more boxes than the first 2: give every frame its boxes"),
        (BOXES, r"the boxes of frame 0 are int64 \[4\]: give numbers"),
    ]:
        with pytest.raises(InputError, match=message):
            embedder.embed(frames, boxes=boxes)
    with pytest.raises(InputError, match="box 0 of frame 0"):
        embedder.embed(frames[0], boxes=[(5, 5, 1, 9)])
    with pytest.raises(ImageError, match="frame 1 is float64"):
        embedder.embed([frames[0], np.zeros((4, 4))], boxes=[BOXES, BOXES])
    with pytest.raises(InputError, match="details are about boxes: give boxes="):
        embedder.embed(frames, details=True)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="color 'GBR' is unknown"):
        embedder.embed(frames, "GBR", boxes=[[], []])
    assert threading.active_count() == before, threading.enumerate()


def test_a_crop_gives_the_same_embedding_by_every_way_in(model: Path, tmp_path: Path) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (120, 90, 3), np.uint8)
    boxes = [(5, 10, 45, 110), (40, 0, 90, 120), (8, 9, 24, 41)]
    crops = [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, crop in zip(files, crops, strict=True):
        Image.fromarray(crop).save(file)
    bgra = np.concatenate([frame[:, :, ::-1], frame[:, :, :1]], axis=2)
    with Embedder(model, threads=1) as embedder:
        expected = embedder.embed(files)
        assert len(np.unique(expected, axis=0)) == 3
        ways: list[Any] = [
            embedder.embed(crops),
            embedder.embed([np.ascontiguousarray(crop) for crop in crops]),
            embedder.embed([Image.open(file) for file in files]),
            embedder.embed([crop[:, :, ::-1] for crop in crops], "bgr"),
            embedder.embed(frame, boxes=boxes),
            embedder.embed(frame[:, :, ::-1], "bgr", boxes=boxes),
            embedder.embed(np.ascontiguousarray(frame[:, :, ::-1]), "bgr", boxes=boxes),
            embedder.embed(bgra, "bgra", boxes=boxes),
            embedder.embed(np.asfortranarray(frame), boxes=boxes),
            embedder.embed([frame] * 3, boxes=[[box] for box in boxes]),
        ]
        for found in ways:
            np.testing.assert_array_equal(found, expected)  # bit for bit: the same pixels in a batch of the same size
        alone = [embedder.embed(frame, boxes=[box]) for box in boxes]
        np.testing.assert_allclose(np.concatenate(alone), expected, atol=1e-6)
