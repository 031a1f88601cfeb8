"""Embed a folder of crops into a gallery file.

    python examples/1_embed_a_folder.py demo/people/query demo/models/mobilenetv3_large_fp32.onnx gallery.npz

Needs a model file; `make demo` writes this one. The labels here are file names: use whatever names a person for you.
"""

import sys
from pathlib import Path

import reid_edge

if len(sys.argv) != 4:
    sys.exit(__doc__)
folder, model, out = map(Path, sys.argv[1:])

crops = sorted(folder.glob("*.jpg"))
with reid_edge.Embedder(model) as embedder:
    embeddings = embedder.embed(crops, progress=True)  # float32 [N, D], rows of norm 1
    gallery = reid_edge.Gallery(model=embedder.card.weights_sha256)  # it refuses embeddings of another model

gallery.enrol(embeddings, labels=[crop.name for crop in crops])
gallery.save(out)
print(f"{out}: {len(gallery)} crops, {gallery.dim} numbers each")
