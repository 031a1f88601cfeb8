"""A run's curves and its TensorBoard log, read back."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch", reason="training tests need the train extra")
pytest.importorskip("matplotlib", reason="curves need the report extra")
pytest.importorskip("tensorboard", reason="curves need the report extra")

from helpers.log import logged  # noqa: E402

from reid_edge.training.curves import TensorBoardLog, draw_curves  # noqa: E402
from reid_edge.training.history import EpochReport  # noqa: E402


def _line(epoch: int, scored: bool) -> EpochReport:
    metrics = {"rank1": 0.1 * epoch, "mAP": 0.05 * epoch, "mINP": 0.01} if scored else None
    losses = {"id": 6.0 / epoch, "triplet": 1.0}
    return EpochReport(
        epoch=epoch, losses=losses, learning_rate=1e-3, seconds=1.0, images_per_second=50.0, metrics=metrics
    )


def test_curves_are_drawn_as_png_and_svg(tmp_path: Path) -> None:
    drawn = draw_curves([_line(1, False), _line(2, True)], tmp_path)
    assert [path.name for path in drawn] == ["curves.png", "curves.svg"]
    assert drawn[0].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(drawn[1]).getroot().tag.endswith("svg")


def test_curves_of_a_run_that_was_never_scored(tmp_path: Path) -> None:
    assert len(draw_curves([_line(1, False)], tmp_path)) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_board_has_every_epoch_once_after_a_resumed_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with logged() as said:
        with TensorBoardLog(tmp_path, 0) as board:
            for epoch in (1, 2):
                board.write(_line(epoch, scored=epoch == 2))
        with TensorBoardLog(tmp_path, 1) as board:  # only epoch 1 was in the checkpoint
            for epoch in (2, 3):
                board.write(_line(epoch, scored=False))
    log = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in log.Scalars("loss/id")] == [1, 2, 3]
    assert log.Scalars("loss/id")[0].value == pytest.approx(6.0)
    assert not said
