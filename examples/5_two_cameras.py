"""A person seen by camera A is searched among everybody that camera B sees.

    python examples/5_two_cameras.py demo/people demo/models/mobilenetv3_large_fp32.onnx

There is no camera here: drawn people stand side by side in a frame, each with the box that a detector would give. Put
your own frames (BGR, as OpenCV reads them) and boxes in place of `frame_of`.
"""

import sys

import numpy as np

import reid_edge
from reid_edge.data.decoding import read

if len(sys.argv) != 3:
    sys.exit(__doc__)
people, model = sys.argv[1:]


def frame_of(crops):
    """A frame, uint8 [H, W, 3] BGR, and a box (left, top, right, bottom) in it for each crop."""
    images = [read(crop.path)[..., ::-1] for crop in crops]
    right = np.cumsum([image.shape[1] for image in images])
    height = max(image.shape[0] for image in images)
    frame = np.zeros((height, right[-1], 3), np.uint8)
    boxes = [(end - image.shape[1], 0, end, image.shape[0]) for image, end in zip(images, right, strict=True)]
    for image, (left, top, end, bottom) in zip(images, boxes, strict=True):
        frame[top:bottom, left:end] = image
    return frame, boxes


def crops_in(frame, boxes):
    """What a detector saw: the part of the frame in each box."""
    return [frame[top:bottom, left:right] for left, top, right, bottom in boxes]


queries = reid_edge.open_dataset(people).split.query
seen = {camera: {crop.pid: crop for crop in queries if crop.camid == camera} for camera in (1, 2)}
both = sorted(set(seen[1]) & set(seen[2]))[:8]  # some persons that pass both cameras
frame_a, boxes_a = frame_of([seen[1][pid] for pid in both])
frame_b, boxes_b = frame_of([seen[2][pid] for pid in both])

with reid_edge.Embedder(model) as embedder:
    in_b = reid_edge.Gallery()
    in_b.enrol(embedder.embed(crops_in(frame_b, boxes_b), color="bgr"), labels=[str(pid) for pid in both])
    ranking = in_b.search(embedder.embed(crops_in(frame_a, boxes_a), color="bgr"), k=1)

found = 0
for row, pid in enumerate(both):
    ((label, distance),) = ranking.named(row)
    found += label == str(pid)
    print(f"person {pid} of camera A: closest in camera B is person {label}, distance {distance:.3f}")
print(f"{found} of {len(both)} found")
