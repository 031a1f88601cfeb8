"""Remake first.png, README's picture: the first sections of a demonstration's page, as Chromium shows them.

::

    make demo
    .venv/bin/python docs/images/first.py demo --chromium chromium
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from reid_edge.benchmarks.html.crops import people_section
from reid_edge.benchmarks.html.page import write_page
from reid_edge.benchmarks.html.rankings import rankings_section
from reid_edge.benchmarks.ranked_lists import rank_by_protocol
from reid_edge.data.datasets import open_dataset

WIDTH, HEIGHT, SCALE = 900, 1600, 1.5
IDENTITIES, LISTS = 2, 2
COLOURS, MOST_BYTES = 192, 300_000
QUIET = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"


def main() -> None:
    """Write ``first.png`` beside this file."""
    parser = argparse.ArgumentParser(description="Remake README's picture from the folder of a demonstration.")
    parser.add_argument("demo", type=Path)
    parser.add_argument("--chromium", default="chromium", help="the browser's command")
    options = parser.parse_args()
    dataset = open_dataset(options.demo / "people")
    (model,) = (options.demo / "models").glob("*_fp32.onnx")
    query = dataset.split.query
    lists = rank_by_protocol(model, dataset, query[:: -(-len(query) // LISTS)])
    sections = [
        people_section(query, title="Drawn people, as six cameras see them", text="", identities=IDENTITIES),
        rankings_section(lists, title="The closest crops of the gallery", text=""),
    ]
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(Path(folder, "page.html"), sections, title="Have we seen this person before?", lead="")
        picture = screenshot(page, options.chromium)
    first = Path(__file__).with_name("first.png")
    trimmed(picture).quantize(COLOURS, dither=Image.Dither.NONE).save(first, optimize=True)
    print(f"{first}: {first.stat().st_size} bytes of at most {MOST_BYTES}")


def screenshot(page: Path, chromium: str) -> Image.Image:
    """What a browser shows of a page, in its light colours; RGB."""
    shot = page.with_suffix(".png")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *QUIET.split()]
    command += [f"--user-data-dir={page.parent}", "--blink-settings=preferredColorScheme=1"]
    command += [f"--force-device-scale-factor={SCALE}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
    return Image.open(shot).convert("RGB")


def trimmed(picture: Image.Image) -> Image.Image:
    """Without the empty rows below the last section, but for a margin."""
    inked = np.flatnonzero((np.asarray(picture) < 250).any(axis=(1, 2)))
    return picture.crop((0, 0, picture.width, int(inked[-1]) + 24))


if __name__ == "__main__":
    main()
