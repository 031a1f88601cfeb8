"""Published figures to compare with: rank-1 and mAP in per cent, each with its source.

All are single-query, without re-ranking or query expansion unless the row says so. A figure that is not here was not
available when this file was written; its authors may have published it elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PAPER", "PUBLISHED", "Published", "by_others", "of_the_paper"]

PAPER = "Person Re-identification using Siamese Networks"
"""The paper whose experiments `reproduce` repeats."""

_BOT = "Luo et al., Bag of Tricks, CVPRW 2019"
_ZOO = "torchreid model zoo"
_FAST = "fast-reid"
_OPENVINO = "OpenVINO model zoo"


@dataclass(frozen=True)
class Published:
    """One published result.

    ``model`` is this package's name of the architecture where it has one. ``data`` is the data set scored on, and
    trained on unless ``trained_on`` says otherwise. ``rank1`` and ``mAP`` are in per cent.
    """

    source: str
    model: str
    data: str
    rank1: float
    mAP: float  # noqa: N815 - the name the field knows it by
    trained_on: str = ""
    input_hw: tuple[int, int] = (256, 128)
    reranked: bool = False

    def __str__(self) -> str:
        return f"{self.rank1:.1f}/{self.mAP:.1f}"


_MARKET, _DUKE, _MSMT = "Market-1501", "DukeMTMC-reID", "MSMT17"

PUBLISHED = (
    Published(PAPER, "resnet50_bot", _MARKET, 89.4, 75.5),
    Published(PAPER, "osnet_x0_25", _MARKET, 77.3, 56.3),
    Published(PAPER, "mobilenetv3_large", _MARKET, 77.0, 56.3),
    Published(PAPER, "resnet50_bot", _DUKE, 80.4, 66.1),
    Published(PAPER, "osnet_x0_25", _DUKE, 69.9, 50.8),
    Published(PAPER, "mobilenetv3_large", _DUKE, 51.4, 31.8),
    Published(_BOT, "resnet50_bot", _MARKET, 94.5, 85.9),
    Published(_BOT, "resnet50_bot", _MARKET, 95.4, 94.2, reranked=True),
    Published(_BOT, "resnet50_bot", _DUKE, 86.4, 76.4),
    Published(_FAST, "resnet50_bot", _MARKET, 94.4, 86.1),
    Published(_FAST, "resnet50_bot", _DUKE, 87.2, 77.0),
    Published(_FAST, "resnet50_bot", _MSMT, 74.1, 50.2),
    Published(_FAST, "resnet50_agw", _MARKET, 95.3, 88.2),
    Published(_FAST, "resnet50_agw", _DUKE, 89.0, 79.9),
    Published(_FAST, "resnet50_agw", _MSMT, 78.3, 55.6),
    Published(_FAST, "resnet50_sbs", _MARKET, 95.4, 88.2, input_hw=(384, 128)),
    Published(_FAST, "resnet50_sbs", _DUKE, 90.3, 80.3, input_hw=(384, 128)),
    Published(_FAST, "resnet50_sbs", _MSMT, 81.8, 58.4, input_hw=(384, 128)),
    Published(_ZOO, "osnet_x1_0", _MARKET, 94.2, 82.6),
    Published(_ZOO, "osnet_x1_0", _DUKE, 87.0, 70.2),
    Published(_ZOO, "osnet_x1_0", _MSMT, 74.9, 43.8),
    Published(_ZOO, "osnet_x0_25", _MARKET, 91.2, 75.0),
    Published(_ZOO, "osnet_x0_25", _DUKE, 82.0, 61.4),
    Published(_ZOO, "osnet_x0_25", _MSMT, 61.4, 29.5),
    Published(_ZOO, "osnet_x0_25", _MARKET, 59.9, 31.0, trained_on="MSMT17 (all)"),
    Published(_ZOO, "mobilenetv2_x1_0", _MARKET, 85.6, 67.3),
    Published(_ZOO, "mobilenetv2_x1_0", _DUKE, 74.2, 54.7),
    Published(_ZOO, "mobilenetv2_x1_0", _MSMT, 57.4, 29.3),
    Published(_OPENVINO, "person-reidentification-retail-0288", _MARKET, 86.1, 59.7),
    Published(_OPENVINO, "person-reidentification-retail-0286", _MARKET, 94.8, 83.7),
)
"""Every row known here."""


def of_the_paper(model: str, data: str) -> Published | None:
    """What the paper reports for ``model`` trained and scored on ``data``, or None where no figure is known here."""
    return next((row for row in _plain(model, data) if row.source == PAPER), None)


def by_others(model: str, data: str) -> tuple[Published, ...]:
    """What others report for the same architecture, trained and scored on ``data``."""
    return tuple(row for row in _plain(model, data) if row.source != PAPER)


def _plain(model: str, data: str) -> list[Published]:
    return [
        row for row in PUBLISHED if (row.model, row.data) == (model, data) and not row.trained_on and not row.reranked
    ]
