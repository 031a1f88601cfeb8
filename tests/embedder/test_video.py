"""Video: files give every frame and wait; live sources keep the newest frame, count the others, and come back.

Nothing here waits for a clock: a camera of these tests gives a frame when the test says so.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.embedder.captures import VideoFrame, read_address
from reid_edge.embedder.embedder import Embedder
from reid_edge.embedder.live import LiveReader, backoff_delays
from reid_edge.embedder.video import VideoSource, open_video
from reid_edge.errors import ImageError, InputError

cv2 = pytest.importorskip("cv2")
FRAMES = 12
FPS = 50


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not set(threading.enumerate()) - before


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame number k is grey at 20 * k, also after compression."""
    path = tmp_path_factory.mktemp("video") / "movie.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def _number(frame: VideoFrame) -> int:
    return round(float(frame.image.mean()) / 20)


class Camera:
    """Gives what the test puts in: grey frames by their number; None is a frame that is lost."""

    def __init__(self) -> None:
        self.to_give: queue.Queue[int | None] = queue.Queue()
        self.reads = 0
        self.released = False

    def give(self, *numbers: int | None) -> None:
        for number in numbers:
            self.to_give.put(number)

    def read(self) -> tuple[bool, Any]:
        number = self.to_give.get()
        self.reads += 1
        return (False, None) if number is None else (True, np.full((4, 4, 3), 20 * number, np.uint8))

    def release(self) -> None:
        self.released = True


def _until(holds: Callable[[], bool]) -> None:
    """Wait for another thread, which takes a moment; a minute means never."""
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends, "this does not come"
        time.sleep(0.001)


# Files


def test_a_file_gives_every_frame_in_order_however_slow_the_consumer(movie: Path) -> None:
    with open_video(movie) as video:
        frames = list(video)
        assert not video.live and video.fps == FPS and video.dropped == 0
    assert [_number(frame) for frame in frames] == [frame.index for frame in frames] == list(range(FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx([index / FPS for index in range(FRAMES)])
    assert all(a.read_at <= b.read_at for a, b in pairwise(frames))


def test_frames_are_the_callers_own(movie: Path) -> None:
    with open_video(str(movie)) as video:
        first = next(video)
        first.image[:] = 255
        assert _number(next(video)) == 1 and (first.image == 255).all()


def test_after_the_end_and_after_close_there_are_no_frames(movie: Path) -> None:
    video = open_video(movie)
    assert len(list(video)) == FRAMES and list(video) == [] and repr(video) == f"<VideoSource {movie}: closed>"
    video = open_video(movie)
    next(video)
    video.close()
    video.close()
    assert list(video) == []


def test_a_file_that_was_cut_off_says_so(movie: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut, whole = tmp_path / "cut.avi", movie.read_bytes()
    eighth = [found.start() for found in re.finditer(b"00dc", whole)][7]
    cut.write_bytes(whole[:eighth])
    with caplog.at_level(logging.WARNING), open_video(cut) as video:
        count = len(list(video))
    assert 0 < count < FRAMES
    assert [record.getMessage() for record in caplog.records] == [
        f"{cut} ended after {count} of about {FRAMES} frames: it may be cut off"
    ]


def test_a_file_played_as_a_camera_comes_at_its_own_speed(movie: Path) -> None:
    """Never earlier than it was taken, and every frame is either given or counted."""
    with open_video(movie, live=True) as video:
        frames = list(video)
    assert video.live and len(frames) + video.dropped == FRAMES
    assert [_number(frame) for frame in frames] == [frame.index for frame in frames]
    assert all(frame.time_s >= (frame.index + 1) / FPS - 1e-3 for frame in frames)
    assert frames[-1].index == FRAMES - 1


# Live sources


def test_a_late_consumer_gets_the_newest_frame_and_the_others_are_counted() -> None:
    camera = Camera()
    with open_video(camera) as video:
        camera.give(0)
        assert _number(next(video)) == 0
        camera.give(1, 2, 3, 4)
        _until(lambda: video.dropped == 3)
        frame = next(video)
        assert (_number(frame), frame.index, video.dropped) == (4, 4, 3)
        assert repr(video) == "<VideoSource a Camera: open, 3 frames dropped>"
        camera.give(5, None)
        assert [_number(frame) for frame in video] == [5]
    assert camera.released and video.dropped == 3


def test_a_consumer_in_time_loses_nothing() -> None:
    camera = Camera()
    with open_video(camera) as video:
        for number in range(20):
            camera.give(number % 12)
            assert next(video).index == number
        camera.give(None)
        assert list(video) == []
    assert video.dropped == 0


def test_an_object_that_is_not_live_waits() -> None:
    camera = Camera()
    camera.give(3, 1, None)
    with open_video(camera, live=False) as video:
        assert [(frame.index, _number(frame)) for frame in video] == [(0, 3), (1, 1)]
    assert camera.reads == 3 and camera.released


def test_closing_ends_a_consumer_that_waits() -> None:
    camera = Camera()
    video = open_video(camera)
    taken: list[VideoFrame] = []
    waiting = threading.Thread(target=lambda: taken.extend(video))
    waiting.start()
    closing = threading.Thread(target=video.close)
    closing.start()
    camera.give(1)  # the read that was under way ends, as a camera's does
    closing.join()
    waiting.join()
    assert len(taken) <= 1 and camera.released


def test_what_a_reader_raises_reaches_the_consumer_after_the_frames_before() -> None:
    class Broken:
        left = 2

        def read(self) -> tuple[bool, Any]:
            self.left -= 1
            if self.left:
                return True, np.zeros((4, 4, 3), np.uint8)
            raise OSError("cable")

    with open_video(Broken()) as video:
        assert next(video).index == 0
        with pytest.raises(OSError, match="cable"):
            next(video)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("given", [np.zeros((4, 4, 3), np.float32), np.zeros(3, np.uint8), b"jpeg"])
def test_a_reader_that_gives_no_image_is_refused(live: bool, given: Any) -> None:
    class Wrong:
        def read(self) -> tuple[bool, Any]:
            return True, given

    with open_video(Wrong(), live=live) as video, pytest.raises(ImageError, match="a Wrong: read.. gave .*: give uint"):
        next(video)


# Coming back


class OneByOne:
    """Gives each frame when the one before was taken (the consumer sets ``taken``), so that none is dropped."""

    def __init__(self, *numbers: int, taken: threading.Event | None = None) -> None:
        self.left = list(numbers)
        self.taken = taken
        self.released = False

    def read(self) -> tuple[bool, Any]:
        if not self.left:
            return False, None
        image = np.full((4, 4, 3), 20 * self.left.pop(0), np.uint8)
        if self.taken:
            self.taken.wait()
            self.taken.clear()
        return True, image

    def release(self) -> None:
        self.released = True


def test_a_source_that_was_lost_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    """Frames go on with their numbers; each failed attempt has a wait of its own; what was lost is released."""
    taken = threading.Event()
    taken.set()
    first, second = OneByOne(1, 2, taken=taken), OneByOne(3, 4, taken=taken)
    outcomes = iter([InputError("not yet"), second, InputError("still away"), InputError("gone for good")])
    waits: list[Iterator[float]] = []

    def reopen() -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, InputError):
            raise outcome
        return outcome

    def delays() -> Iterator[float]:
        waits.append(iter([0.0, 1e-9]))
        return waits[-1]

    live = LiveReader(first, "rtsp://cam", reopen=reopen, delays=delays)
    found = []
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="gone for good"):
        while (frame := live.take()) is not None:
            found.append((frame.index, _number(frame)))
            taken.set()
    live.close()
    assert found == [(0, 1), (1, 2), (2, 3), (3, 4)] and (live.reconnects, live.dropped) == (1, 0)
    assert first.released and second.released
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["rtsp://cam gives no frames: opening it again in 0.0 s"] * 4


def test_a_source_that_opens_and_gives_nothing_does_not_come_back_for_ever() -> None:
    """The waits begin anew with a frame, not with a connection."""
    opened = []

    def reopen() -> Any:
        opened.append(OneByOne())
        return opened[-1]

    live = LiveReader(OneByOne(), "cam", reopen=reopen, delays=lambda: [0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="cam gives no more frames: check the camera"):
        live.take()
    live.close()
    assert len(opened) == 3 == live.reconnects and all(reader.released for reader in opened)


def test_closing_does_not_wait_for_the_next_attempt() -> None:
    live = LiveReader(OneByOne(), "cam", reopen=lambda: OneByOne(), delays=lambda: [3600.0])
    live.close()
    assert live.take() is None


def test_waits_double_up_to_a_bound_and_end() -> None:
    assert list(backoff_delays(1.0, 8.0, 30.0)) == [1, 2, 4, 8, 8, 7]
    assert sum(backoff_delays()) == 300 and max(backoff_delays()) == 30


# Addresses


@pytest.mark.parametrize(
    ("address", "kind", "shown"),
    [
        (0, "camera", "camera 0"),
        ("1", "camera", "camera 1"),
        ("/dev/video0", "camera", "/dev/video0"),
        (Path("/dev/video0"), "camera", "/dev/video0"),
        ("rtsp://user:pa@ss@10.0.0.7:554/a", "network", "rtsp://***@10.0.0.7:554/a"),
        ("http://10.0.0.7/a@b", "network", "http://10.0.0.7/a@b"),
        ("rtspsrc location=rtsp://u:p@h/1 ! decodebin ! appsink", "pipeline", "rtspsrc location=rtsp://***@h/1 ! "),
        ("http://10.0.0.7/cgi?user=u&password=p&n=1", "network", "http://10.0.0.7/cgi?user=***&password=***&n=1"),
        ("rtspsrc user-id=u user-pw=p ! appsink", "pipeline", "rtspsrc user-id=*** user-pw=*** ! appsink"),
        ("dir/clip 1.mp4", "file", "dir/clip 1.mp4"),
        (Path("7"), "file", "7"),
    ],
)
def test_an_address_is_known_by_its_form_and_shown_without_its_password(address: Any, kind: str, shown: str) -> None:
    found = read_address(address)
    assert found.kind == kind and str(found).startswith(shown)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("missing.mp4", "missing.mp4 is not a file: give a video file, an address"),
        (99, "camera 99: there is no /dev/video99 .found: .*: plug it in, or name another"),
        ("/dev/video99", "there is no /dev/video99"),
        (-1, "there is no camera -1: they count from 0"),
        (1.5, "a float is no address of a video"),
        (True, "a bool is no address of a video"),
        ("", "is not a file"),
    ],
)
def test_what_is_not_there_is_refused_with_the_remedy(address: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_video(address)


def test_a_folder_and_a_file_that_is_no_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("nothing to see")
    with pytest.raises(InputError, match=r"notes.mp4 does not open \(OpenCV .*FFMPEG.*\): it is damaged or no video"):
        open_video(tmp_path / "notes.mp4")
    with pytest.raises(InputError, match="is not a file"):
        open_video(tmp_path)


def test_a_backend_that_opencv_lacks_is_named() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(InputError, match=re.escape(f"this OpenCV ({cv2.__version__}) has no GStreamer: PyPI's never")):
        open_video("videotestsrc ! videoconvert ! appsink")


def test_a_network_address_that_nobody_answers_is_refused_without_its_password() -> None:
    """Port 9 of this machine refuses at once."""
    with pytest.raises(InputError, match=r"rtsp://\*\*\*@127.0.0.1:9/x does not open .*: check address") as caught:
        open_video("rtsp://user:secret@127.0.0.1:9/x")
    assert "secret" not in str(caught.value)


def test_gstreamer_pipelines_run_where_opencv_has_gstreamer() -> None:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has no GStreamer")
    pipeline = "videotestsrc num-buffers=3 ! videoconvert ! video/x-raw,format=BGR ! appsink"
    with open_video(pipeline, live=False) as video:
        assert len(list(video)) == 3


def test_a_source_is_made_by_open_video() -> None:
    with open_video(Camera(), live=False) as video:
        assert isinstance(video, VideoSource)


# Into a stream


def test_frames_of_a_video_are_embedded_as_their_images_are(movie: Path, tmp_path: Path) -> None:
    """The frame travels with its result, and with it its time."""
    boxes = [[0, 0, 40, 48], [30, -5, 70, 40], [90, 0, 99, 9]]
    with Embedder(write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16)), threads=1) as embedder:
        with open_video(movie) as video:
            results = list(embedder.stream(((frame, boxes) for frame in video), "bgr", max_batch=4))
        assert [result.item[0].index for result in results] == list(range(FRAMES))
        for result in results:
            frame: VideoFrame = result.item[0]
            expected = embedder.embed(frame.image, "bgr", boxes=boxes)
            np.testing.assert_allclose(result.embeddings, expected, atol=1e-6)
            assert result.kept.tolist() == [0, 1] and result.clipped.tolist() == [False, True]


def test_a_stream_that_is_late_lets_a_camera_drop_frames(tmp_path: Path) -> None:
    """The consumer takes nothing until the camera has dropped frames; all are given or counted, in order."""
    camera = Camera()
    with Embedder(write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16)), threads=1) as embedder:
        with open_video(camera) as video:
            results = embedder.stream(((frame, [[0, 0, 4, 4]]) for frame in video), "bgr", max_batch=1)
            camera.give(1)
            indices = [next(results).index]
            camera.give(*[number % 12 + 1 for number in range(30)])
            _until(lambda: camera.reads == 31 and video.dropped >= 20)
            camera.give(None)
            indices += [result.item[0].index for result in results]
    assert indices == sorted(indices) and indices[-1] == 30 and len(indices) + video.dropped == 31


def test_closing_a_stream_leaves_the_video_to_its_owner(movie: Path, tmp_path: Path) -> None:
    """The generator is closed, and the video goes on where it was: it belongs to the program."""
    with Embedder(write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16)), threads=1) as embedder:
        with open_video(movie) as video:
            source = ((frame, [[0, 0, 64, 48]]) for frame in video)
            with closing(embedder.stream(source, "bgr", max_batch=1)) as results:
                assert next(results).index == 0
            assert list(source) == [] and 1 <= len(list(video)) < FRAMES
