"""A tracker whose tracks are compared, not its frames: who leaves on one side and comes back on the other is known.

    python examples/7_tracker.py demo/models/mobilenetv3_large_fp32.onnx

The video is drawn and its boxes are known. The tracker here pairs boxes by overlap and by looks, the closest pair
first; docs/guides/trackers.md puts ByteTrack or BoT-SORT in its place.
"""

import sys

import numpy as np

import reid_edge
from reid_edge.data.synthetic.video import draw_frames
from reid_edge.embedder.quality import box_iou
from reid_edge.embedder.tracks import Tracks
from reid_edge.integrations.rows import embedding_rows

if len(sys.argv) != 2:
    sys.exit(__doc__)
FARTHEST = 1.0  # of 1 - overlap plus half the cosine distance: a box that is farther from every track begins one


class Tracker:
    """Gives each box the id of the track that it overlaps, where it is expected next, and looks like."""

    def __init__(self):
        self.started, self.box, self.step = 0, {}, {}

    def update(self, boxes, embeddings, tracks):
        """The ids int [N] of boxes [N, 4] and their embeddings [N, D], the closest pair of box and track first."""
        known = tracks.ids
        ids = np.full(len(boxes), -1)
        if known and len(boxes):
            overlap = box_iou(boxes, [self.box[number] + self.step[number] for number in known])  # [N, T]
            cost = 1 - overlap + 0.5 * (1 - embeddings @ tracks.embeddings.T)
            cost[overlap == 0] = np.inf
            while cost.min() < FARTHEST:
                box, track = np.unravel_index(cost.argmin(), cost.shape)
                ids[box] = known[track]
                cost[box], cost[:, track] = np.inf, np.inf
        for row in np.flatnonzero(ids < 0):
            self.started += 1
            ids[row] = self.started
        for number, box in zip(ids.tolist(), boxes, strict=True):
            self.step[number] = box - self.box.get(number, box)
            self.box[number] = box
        return ids


persons = {}  # the drawn person of each track, to say whether the program is right
with reid_edge.Embedder(sys.argv[1]) as embedder:
    tracker, tracks, ended = Tracker(), Tracks(embedder, expire_after=5), []
    for frame, boxes in draw_frames(120, persons=3, size_hw=(240, 320), fps=10, seed=1):
        embeddings = embedding_rows(embedder, frame, boxes)  # NaN: out of the frame
        inside = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
        ids = tracker.update(boxes[inside], embeddings[inside], tracks)
        ended += tracks.update(frame, boxes[inside], ids, embeddings[inside], color="bgr")
        persons.update(zip(ids.tolist(), inside.tolist(), strict=True))
ended += tracks.tracks.values()

before = reid_edge.Gallery()
right = again = 0
for track in ended:
    if persons[track.id] in {persons[int(label)] for label in before.labels}:
        ((label, distance),) = before.search(track.embedding[None], k=1).named(0)
        again, right = again + 1, right + (persons[int(label)] == persons[track.id])
        print(f"track {track.id}, {track.seen} frames: closest is track {label}, distance {distance:.3f}")
    else:
        print(f"track {track.id}, {track.seen} frames: a new person")
    before.enrol(track.embedding[None], labels=[str(track.id)])
print(f"{len(ended)} tracks; of {again} that came back, {right} are closest to a track of their own")
