"""What `reid_edge.cross_domain` found: a cell for each model, data set and setting, and the domain shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reid_edge.errors import InputError
from reid_edge.scoring.bootstrap import PairedLoss, paired_loss
from reid_edge.scoring.metrics import Metrics

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["SETTING_TITLES", "CrossDomainCell", "CrossDomainReport", "DomainShift", "cross_domain_table"]

SETTING_TITLES = {
    "plain": "plain",
    "flip": "flip averaging",
    "cameras": "camera normalisation (no labels)",
}
"""What can be scored, by its name in a report."""

_SETS_IN_A_TABLE = 4


@dataclass(frozen=True)
class CrossDomainCell:
    """One model on one data set. ``home``: its card says that it was trained on that set.

    ``setting`` is "plain", "flip" or "cameras"; ``statistics`` says where camera statistics are from: "train"
    (other persons), "gallery" (the test itself), or "" without them.
    """

    model: str
    dataset: str
    part: str
    setting: str
    home: bool
    metrics: Metrics
    statistics: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the figures are fractions."""
        names = ("model", "dataset", "part", "setting", "home", "statistics")
        return {**{name: getattr(self, name) for name in names}, **self.metrics.to_dict()}


@dataclass(frozen=True)
class DomainShift:
    """The mAP that ``foreign`` loses on a set against ``native``, a model that was trained there; paired by person."""

    dataset: str
    native: str
    foreign: str
    lost: PairedLoss

    def __str__(self) -> str:
        points = [100 * value for value in (self.lost.mean, self.lost.low, self.lost.high)]
        side = "behind"
        if points[0] < 0:
            side, points = "ahead of", [-points[0], -points[2], -points[1]]
        lost = "{:.1f} mAP, 95 % [{:.1f}, {:.1f}]".format(*points)
        return f"on {self.dataset}, {self.foreign} is {side} {self.native} by {lost}"


@dataclass(frozen=True)
class CrossDomainReport:
    """All cells, in the order of models, data sets and settings that were asked for."""

    cells: tuple[CrossDomainCell, ...]
    distance: str
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<CrossDomainReport: {len(self.models)} models on {len(self.datasets)} data sets, {self.settings}>"

    @property
    def models(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(dict.fromkeys(cell.model for cell in self.cells))

    @property
    def datasets(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(dict.fromkeys(cell.dataset for cell in self.cells))

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings, "plain" first."""
        return tuple(dict.fromkeys(cell.setting for cell in self.cells))

    def cell(self, model: str, dataset: str, setting: str = "plain") -> CrossDomainCell:
        """One cell. Raises InputError where it was not measured, as "cameras" on a set without cameras."""
        for each in self.cells:
            if (each.model, each.dataset, each.setting) == (model, dataset, setting):
                return each
        raise InputError(f"{model} on {dataset} ({setting}) was not measured: see models, datasets and settings")

    @property
    def shifts(self) -> tuple[DomainShift, ...]:
        """For each data set that a model was trained on, what every model of elsewhere loses there, plain."""
        return tuple(self._shifts())

    def _shifts(self) -> Iterator[DomainShift]:
        plain = [cell for cell in self.cells if cell.setting == "plain"]
        for native in (cell for cell in plain if cell.home):
            for foreign in (cell for cell in plain if cell.dataset == native.dataset and not cell.home):
                base, found = native.metrics, foreign.metrics
                if base.persons.shape == found.persons.shape:  # not so where the native has fewer trials
                    lost = paired_loss(base.average_precision, found.average_precision, base.persons)
                    yield DomainShift(native.dataset, native.model, foreign.model, lost)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ``cells``, ``shifts`` and the distance."""
        shifts = [
            {"dataset": each.dataset, "native": each.native, "foreign": each.foreign, "mAP_lost": each.lost.to_dict()}
            for each in self.shifts
        ]
        return {"cells": [cell.to_dict() for cell in self.cells], "shifts": shifts, "distance": self.distance}


def cross_domain_table(report: CrossDomainReport) -> RenderableType:
    """Rank-1 and mAP in per cent, a table for each setting and four data sets, within 80 columns; then the shifts."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for setting in report.settings:
        for start in range(0, len(report.datasets), _SETS_IN_A_TABLE):
            table = Table(box=SIMPLE_HEAD, title=SETTING_TITLES[setting], title_justify="left", padding=0, width=80)
            table.add_column("R1 / mAP, %", max_width=24, overflow="ellipsis", no_wrap=True)
            shown = report.datasets[start : start + _SETS_IN_A_TABLE]
            for name in shown:
                table.add_column(Text(name), justify="right", max_width=13, overflow="fold")
            for model in report.models:
                table.add_row(Text(model), *(_figures(report, model, name, setting) for name in shown))
            parts.append(table)
    parts.append(Text(f"* trained on this set; {report.distance} distance"))
    return Group(*parts, *(Text(str(shift)) for shift in report.shifts))


def _figures(report: CrossDomainReport, model: str, dataset: str, setting: str) -> str:
    try:
        cell = report.cell(model, dataset, setting)
    except InputError:
        return "-"
    star = "*" if cell.home else " "
    return f"{100 * cell.metrics.rank(1):.1f} / {100 * cell.metrics.mAP:.1f}{star}"
