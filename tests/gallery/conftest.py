"""Fixtures that the tests of galleries share."""

from __future__ import annotations

import pytest
from helpers.list_gallery import ANGLES, at

from reid_edge.gallery.memory import Gallery


@pytest.fixture
def four() -> Gallery:
    gallery = Gallery()
    gallery.enrol(at(*ANGLES.values()), list(ANGLES))
    return gallery
