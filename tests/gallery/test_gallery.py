"""The gallery in memory: how it grows, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.list_gallery import at
from numpy.testing import assert_array_equal

from reid_edge.errors import InputError
from reid_edge.gallery.memory import Gallery

# In memory


def test_one_at_a_time_equals_all_at_once_and_seldom_copies() -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    gallery, homes = Gallery(dim=4), set()
    for i, row in enumerate(rows):
        gallery.enrol(row[None], [str(i)])
        homes.add(len(gallery._rows))
    assert_array_equal(gallery.embeddings, rows)
    assert gallery.labels == tuple(str(i) for i in range(1000))
    assert sorted(homes) == [64, 128, 256, 512, 1024]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gallery(dim=0), "0 dimensions"),
        (lambda: Gallery(dim=3).enrol(at(0), ["a"]), "2 dimensions and the gallery 3"),
    ],
)
def test_bad_dimensions(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_nothing_of_who_is_forgotten_stays_in_memory(four: Gallery) -> None:
    four.forget(["bob", "dan"])
    assert len(four._rows) == 2 and four.dim == 2
