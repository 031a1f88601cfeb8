"""What of a crop a model looks at, for any model: parts are covered, and the change of a similarity is the answer.

M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2: a grey
square is moved over the image. Nothing of the model is needed but its embeddings, so FP16 and INT8 files and engines
are examined as they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import InputError

__all__ = ["GRID", "Occlusion", "occluded", "occlusion_maps"]

GRID = (16, 8)
"""Rows and columns of a map: cells of 16 x 16 pixels on a crop of 256 x 128."""

_COVER = 3  # cells high and wide: a smaller patch hides too little of a person to matter

Embed = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Occlusion:
    """How much of the similarity to another crop is lost where a crop is covered.

    ``drop`` float32 [rows, columns] is the cosine similarity with nothing covered, ``similarity``, less that with a
    patch over the cell: positive where the crop speaks for the match, negative where it speaks against.
    """

    similarity: float
    drop: NDArray[np.float32]

    @property
    def place(self) -> str:
        """Where the largest drop is, in words.

        >>> drop = np.zeros((6, 3), np.float32)
        >>> drop[0, 1] = 0.2
        >>> Occlusion(0.9, drop).place
        'upper third, middle'
        """
        row, column = np.unravel_index(int(self.drop.argmax()), self.drop.shape)
        upright = ("upper", "middle", "lower")[3 * int(row) // self.drop.shape[0]]
        across = ("left", "middle", "right")[3 * int(column) // self.drop.shape[1]]
        return f"{upright} third, {across}"


def occluded(crop: NDArray[np.uint8], grid: tuple[int, int] = GRID) -> NDArray[np.uint8]:
    """Copies of a crop uint8 [H, W, 3]: each has a patch of the mean colour over another cell and its neighbours.

    They are uint8 [rows x columns, H, W, 3]. Raises InputError for a crop smaller than the grid.

    >>> occluded(np.zeros((32, 16, 3), np.uint8), (4, 2)).shape
    (8, 32, 16, 3)
    """
    (rows, columns), (height, width) = grid, crop.shape[:2]
    if height < rows or width < columns:
        raise InputError(f"a crop of {height}x{width} pixels has no {rows}x{columns} cells: give a larger one")
    covered = np.repeat(crop[None], rows * columns, axis=0)
    color = crop.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    reach = _COVER // 2
    for cell, image in enumerate(covered):
        row, column = divmod(cell, columns)
        top, bottom = _span(row, reach, rows, height)
        left, right = _span(column, reach, columns, width)
        image[top:bottom, left:right] = color
    return covered


def _span(cell: int, reach: int, cells: int, length: int) -> tuple[int, int]:
    """The pixels of a cell and its neighbours."""
    first, last = max(0, cell - reach), min(cells, cell + reach + 1)
    return first * length // cells, last * length // cells


def occlusion_maps(
    embed: Embed, crop: NDArray[np.uint8], others: NDArray[np.float32], grid: tuple[int, int] = GRID
) -> list[Occlusion]:
    """A map of ``crop`` uint8 [H, W, 3] for each embedding in ``others`` [N, D], L2-normalised.

    ``embed`` gives L2-normalised embeddings [M, D] of crops, such as `Embedder.embed`, which runs them in batches; the
    covered crops are embedded once for all of ``others``.
    """
    whole = embed([crop])[0] @ others.T  # [N]
    covered = embed(list(occluded(crop, grid))) @ others.T  # [rows x columns, N]
    drops = (whole[None] - covered).reshape(*grid, len(others))
    return [Occlusion(float(whole[index]), drops[:, :, index]) for index in range(len(others))]
