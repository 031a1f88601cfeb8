"""Who is in front of the camera, and was there before? Frames become embeddings as they come.

    python examples/6_one_camera.py demo/models/mobilenetv3_large_fp32.onnx [ADDRESS]

ADDRESS is what `reid_edge.open_video` takes: a file, rtsp://..., a GStreamer pipeline or the number of a camera.
Without one, a video is drawn. There is no detector here: put your own into `boxes_in`. Ctrl-C ends it.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import reid_edge
from reid_edge.data.synthetic.video import draw_video

if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
model, address = (*sys.argv[1:], None)[:2]
SAME_PERSON = 0.3  # cosine distance: `reid-edge pairs` shows which fits your model
EVERY = 5  # persons look the same for a while: four frames of five are left out

drawn = None
if address is None:
    folder = tempfile.TemporaryDirectory()
    address = Path(folder.name) / "drawn.avi"
    drawn = draw_video(address, seconds=4, persons=3, seed=2)


def boxes_in(frame):
    """Left, top, right, bottom of each person, from your detector. Those of a drawn video are known."""
    height, width = frame.image.shape[:2]  # uint8 [H, W, 3] BGR
    return drawn[frame.index] if drawn else [[width * 0.3, 0, width * 0.7, height]]


def seen(video):
    """Frames and their boxes, for as long as there are any."""
    for frame in video:
        if frame.index % EVERY == 0:
            yield frame, boxes_in(frame)


frames = 0
with reid_edge.Embedder(model) as embedder, reid_edge.open_video(address) as video:
    known = reid_edge.Gallery(model=embedder.card.weights_sha256)  # one embedding of each person
    with suppress(KeyboardInterrupt):
        for result in embedder.stream(seen(video), color="bgr", max_latency_ms=200):
            frames += 1
            frame, _ = result.item
            for embedding in result.embeddings[~result.clipped & ~result.too_small]:
                closest = known.search(embedding[None], k=1).named(0) if len(known) else []
                if not closest or closest[0][1] > SAME_PERSON:
                    known.enrol(embedding[None], labels=[f"person {len(known) + 1}"])
                    print(f"{frame.time_s:6.2f} s: person {len(known)} is new", flush=True)
print(f"{frames} frames, {len(known)} persons, {video.dropped} frames dropped")
