"""Embed the JPEG files of a folder, and noise that shrinks: ``embed_files.py MODEL FOLDER OUT.npy [--like OTHER.npy]``.

``--like`` compares with the embeddings that another machine wrote: the largest difference may be 1e-4.
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import numpy as np

import reid_edge


def main(model: str, folder: str, out: str, other: str = "") -> None:
    files = sorted(Path(folder).rglob("*.jpg"))
    noise = np.random.default_rng(0).integers(0, 256, (4, 400, 180, 3), np.uint8)
    with reid_edge.Embedder(model, threads=1) as embedder:
        start = time.perf_counter()
        embeddings = np.concatenate([embedder.embed(files), embedder.embed(noise)])
        seconds = time.perf_counter() - start
    np.save(out, embeddings)
    print(f"{model}: {len(embeddings)} crops in {seconds:.2f} s on {platform.machine()}")
    if other:
        difference = float(np.abs(embeddings - np.load(other)).max())
        print(f"{model}: largest difference of an element of an embedding {difference:.1e}")
        if difference > 1e-4:
            sys.exit(f"{model}: embeddings differ from {other} by more than 1e-4")


if __name__ == "__main__":
    main(*(argument for argument in sys.argv[1:] if argument != "--like"))
