"""Rank the crops of a gallery by how close they are to a query.

    python examples/2_rank.py QUERY.jpg gallery.npz demo/models/mobilenetv3_large_fp32.onnx

QUERY.jpg is any crop, such as one of demo/people/query; example 1 writes gallery.npz.
"""

import sys

import reid_edge

if len(sys.argv) != 4:
    sys.exit(__doc__)
query, gallery_file, model = sys.argv[1:]

gallery = reid_edge.Gallery.load(gallery_file)
with reid_edge.Embedder(model) as embedder:
    embedding = embedder.embed(query)  # float32 [1, D]
    ranking = gallery.search(embedding, k=5, model=embedder.card.weights_sha256)

for place, (label, distance) in enumerate(ranking.named(0), start=1):
    print(f"{place}. {label}  {distance:.3f}")  # cosine distance: 0 is the same, 1 unrelated
